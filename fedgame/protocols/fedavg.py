"""FedAvg (McMahan et al. 2017): every agent shares all her data, s_i = τ_i."""

import dataclasses

import jax
import numpy as np

from fedgame.protocols import base
from fedgame.registry import option


@dataclasses.dataclass(frozen=True, eq=False)
class FedAvg(base.Protocol):
    """Everything, always."""

    name = "FedAvg"

    capacity: np.ndarray = option("τ_i, [n] samples")

    def start(self, key: jax.Array) -> base.Plan:
        del key
        everything = np.asarray(self.capacity, float)
        return base.Plan(everything, everything[None])
