"""AFL, agnostic federated learning (Mohri et al. 2019), when all data is shared.

It trains for the worst mixture of agents, min over θ of max over λ of Σ λ_i L_i(θ): the model goes down
along the agents' mixture λ, and λ goes up along their losses, in turn, once in a round.
"""

from typing import Any

import numpy as np
import optax

from fedgame.learning import federated
from fedgame.protocols import base


def protocol(capacity: np.ndarray, rate: float = 0.1) -> base.Protocol:
    """AFL around the same local training as the other protocols.

    A round makes params + Σ_i λ_i (params_i - params); λ starts at 1/n. After it,
    λ ← the nearest point of the simplex to λ + rate · L, with each agent's mean loss L_i on her samples.
    The authors take single stochastic steps on both sides; here agents train as in FedAvg.

    Args:
      capacity: τ_i, [n] in samples; s_i = τ_i.
      rate: γ_λ, how fast λ follows the losses, > 0; the authors tune it.

    Raises:
      ValueError: the rate is not a number above 0.
    """
    if not 0 < rate < np.inf:
        raise ValueError(f"`rate` must be a number above 0, got {rate}")
    everything = np.asarray(capacity, float)

    def start(key: object) -> base.Plan:
        del key
        mixture = np.full(len(everything), 1.0 / len(everything))
        return base.Plan(everything, everything[None], mixture)

    def adapt(plan: base.Plan, learning: base.Learning, params: Any) -> base.Plan:
        losses = np.asarray(learning.loss(params, base.draw(plan.profile)), float)
        return plan._replace(memory=_nearest(plan.memory + rate * losses))

    def train(learning: base.Learning, params: Any, plan: base.Plan, number: int) -> Any:
        change, _ = learning.changes(params, base.draw(plan.profile), plan.memory, number)
        return federated.add(params, change)

    return base.Protocol("AFL", start, adapt, train, training=("AFL", f"rate {rate!r}"))


def _nearest(mixture: np.ndarray) -> np.ndarray:
    """The nearest point of the simplex, [n]."""
    return np.asarray(optax.projections.projection_simplex(mixture), float)
