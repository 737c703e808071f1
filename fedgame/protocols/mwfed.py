"""MWFed (Blum et al. 2021, MW-FED): multiplicative weights for agents who lag behind."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame.games import game as games
from fedgame.learning import trainer as trainers
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import base
from fedgame.registry import option, register


class Memory(NamedTuple):
    """The state that MWFed carries from round to round."""

    capacity: np.ndarray  # [n] τ_i, samples
    weights: np.ndarray  # [n], sum 1
    frozen: bool  # whether every agent has once passed the target


@register("mwfed", "MWFed")
class MWFed(base.Protocol):
    """MWFed inside the same round as the other protocols.

    Weights start at 1/n. After each round the weights of agents whose accuracy on their own test
    images is below `target` are multiplied by `factor`, then all are normalised; from the first
    round in which every agent passes they stay as they are. Agent i contributes
    min(τ_i, round(w_i Σ_j τ_j)) samples to a round, and s_i in u_i is the mean of that over the
    rounds, so it need not be a whole number.
    """

    target: float = option(
        "the accuracy that every agent should reach; the authors' is 0.7", 0.7, low=0, high=1
    )
    factor: float = option("what weights below it grow by; the authors' is 4", 4.0, above=1)

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        del announced, key
        memory = Memory(np.asarray(game.capacity, float), np.full(game.n, 1.0 / game.n), False)
        return base.always(_profile(memory))._replace(memory=memory)

    def adapt(self, plan: base.Plan, trainer: trainers.Trainer, params: Any) -> base.Plan:
        capacity, weights, frozen = plan.memory
        if not frozen:
            behind = trainer.accuracy(params) < self.target
            weights = weights * np.where(behind, self.factor, 1.0)
            weights, frozen = weights / np.sum(weights), not np.any(behind)
        memory = Memory(capacity, weights, frozen)
        return plan._replace(profile=_profile(memory), memory=memory)


def _profile(memory: Memory) -> np.ndarray:
    """min(τ_i, round(w_i Σ_j τ_j)), [n] samples."""
    return np.minimum(memory.capacity, np.rint(memory.weights * np.sum(memory.capacity)))
