"""FedAvg (McMahan et al. 2017): every agent shares all her data, s_i = τ_i."""

import numpy as np

from fedgame.protocols import base


def protocol(capacity: np.ndarray) -> base.Protocol:
    """FedAvg for capacities τ_i, [n] in samples."""
    everything = np.asarray(capacity, float)
    return base.Protocol("FedAvg", lambda key: base.Plan(everything, everything[None]))
