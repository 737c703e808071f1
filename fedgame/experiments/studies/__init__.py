"""Studies: what happens to equilibria and welfare as one thing changes, each a command of `launch.study`.

unequal_costs   costs that differ more and more: β* against 1 - 1/n, personal rates and the first best
costs           costs from small to large, equal and spread: who contributes, who would rather leave
agents          few agents and many
label_skew      every agent tests on her own distribution: accuracy curves that differ between agents
rounding        contributions rounded in every step of the dynamics, and where they get stuck
misreports      what an agent gains by claiming other costs, and what the others lose
base            the contract of a study, what studies begin with, the experiment that each is
rows            what they share: games on a measured curve, a row of a table for an outcome
"""

from fedgame.experiments.studies import agents, costs, label_skew, misreports, rounding, unequal_costs
from fedgame.experiments.studies.base import STUDIES, Ground, Study, experiment_of, flags_of

__all__ = [
    "STUDIES",
    "Ground",
    "Study",
    "agents",
    "costs",
    "experiment_of",
    "flags_of",
    "label_skew",
    "misreports",
    "rounding",
    "unequal_costs",
]
