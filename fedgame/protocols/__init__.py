"""Who contributes what (Section 5.1).

base        a protocol: a contribution rule and a training round
fedavg      everything, always
mwfed       multiplicative weights (Blum et al. 2021)
fedbr       FedBR and FedBR-BG, Algorithms 2 and 1, continuous; under any mechanism
literal     the same as printed, rounded in every step
first_best  the profile with the largest sum of utilities
afl, qffl   fair training on everything (Mohri et al. 2019; Li et al. 2020)
"""

from fedgame.protocols.afl import AFL
from fedgame.protocols.base import PROTOCOLS, Plan, Protocol, always
from fedgame.protocols.fedavg import FedAvg
from fedgame.protocols.fedbr import FedBR
from fedgame.protocols.first_best import FirstBest
from fedgame.protocols.literal import Literal
from fedgame.protocols.mwfed import MWFed
from fedgame.protocols.qffl import QFFL

__all__ = [
    "AFL",
    "PROTOCOLS",
    "QFFL",
    "FedAvg",
    "FedBR",
    "FirstBest",
    "Literal",
    "MWFed",
    "Plan",
    "Protocol",
    "always",
]
