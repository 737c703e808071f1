"""MWFed (Blum et al. 2021, MW-FED): multiplicative weights for agents who lag behind."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame.learning import trainer as trainers
from fedgame.protocols import base
from fedgame.registry import option


class Memory(NamedTuple):
    """What MWFed carries from round to round."""

    weights: np.ndarray  # [n], sum 1
    frozen: bool  # whether every agent has once passed the target


@dataclasses.dataclass(frozen=True, eq=False)
class MWFed(base.Protocol):
    """MWFed inside the same round as the other protocols.

    Weights start at 1/n. After each round the weights of agents whose accuracy on their own test
    images is below `target` are multiplied by `factor`, then all are normalised; from the first
    round in which every agent passes they stay as they are. Agent i contributes
    min(τ_i, round(w_i Σ_j τ_j)) samples to a round, and s_i in u_i is the mean of that over the
    rounds, so it need not be a whole number.
    """

    name = "MWFed"

    capacity: np.ndarray = option("τ_i, [n] samples")
    target: float = option(
        "the accuracy that every agent should reach; the authors' is 0.7", 0.7, low=0, high=1
    )
    factor: float = option("what weights below it grow by; the authors' is 4", 4.0, above=1)

    def start(self, key: jax.Array) -> base.Plan:
        del key
        weights = np.full(len(self.capacity), 1.0 / len(self.capacity))
        profile = self._profile(weights)
        return base.Plan(profile, profile[None], Memory(weights, False))

    def adapt(self, plan: base.Plan, trainer: trainers.Trainer, params: Any) -> base.Plan:
        weights, frozen = plan.memory
        if not frozen:
            behind = trainer.accuracy(params) < self.target
            weights = weights * np.where(behind, self.factor, 1.0)
            weights, frozen = weights / np.sum(weights), not np.any(behind)
        return plan._replace(profile=self._profile(weights), memory=Memory(weights, frozen))

    def _profile(self, weights: np.ndarray) -> np.ndarray:
        capacity = np.asarray(self.capacity, float)
        return np.minimum(capacity, np.rint(weights * np.sum(capacity)))
