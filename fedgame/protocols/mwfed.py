"""MWFed (Blum et al. 2021, MW-FED): multiplicative weights for agents who lag behind."""

from typing import Any, NamedTuple

import numpy as np

from fedgame.protocols import base


class Memory(NamedTuple):
    """What MWFed carries from round to round."""

    weights: np.ndarray  # [n], sum 1
    frozen: bool  # whether every agent has once passed the target


def protocol(capacity: np.ndarray, target: float = 0.7, factor: float = 4.0) -> base.Protocol:
    """MWFed inside the same round as the other protocols.

    Weights start at 1/n. After each round the weights of agents whose accuracy on their own test
    images is below `target` are multiplied by `factor`, then all are normalised; from the first
    round in which every agent passes they stay as they are. Agent i contributes
    min(τ_i, round(w_i Σ_j τ_j)) samples to a round, and s_i in u_i is the mean of that over the
    rounds, so it need not be a whole number.

    Args:
      capacity: τ_i, [n] in samples.
      target: the accuracy that every agent should reach; the authors' is 0.7.
      factor: the authors' is 4.
    """
    capacity = np.asarray(capacity, float)

    def profile(weights: np.ndarray) -> np.ndarray:
        return np.minimum(capacity, np.rint(weights * np.sum(capacity)))

    def start(key: object) -> base.Plan:
        del key
        weights = np.full(len(capacity), 1.0 / len(capacity))
        return base.Plan(profile(weights), profile(weights)[None], Memory(weights, False))

    def adapt(plan: base.Plan, learning: base.Learning, params: Any) -> base.Plan:
        weights, frozen = plan.memory
        if not frozen:
            behind = learning.accuracy(params) < target
            weights = weights * np.where(behind, factor, 1.0)
            weights, frozen = weights / np.sum(weights), not np.any(behind)
        new = profile(weights)
        return base.Plan(new, np.concatenate([plan.path, new[None]]), Memory(weights, frozen))

    return base.Protocol(
        "MWFed", start, adapt, training=("MWFed", f"target {target!r}", f"factor {factor!r}")
    )
