"""q-FFL by q-FedAvg (Li et al. 2020, Algorithm 2), when all data is shared.

It minimises Σ_i L_i(θ)^(q+1) / (q+1): the larger q, the more the agents count whose losses are large.
"""

from typing import Any

import numpy as np

from fedgame.learning import federated
from fedgame.protocols import base

_LEAST = 1e-10  # a loss of exactly 0 has no power q - 1; the authors' code adds as much to every loss


def protocol(capacity: np.ndarray, q: float = 1.0, learning_rate: float = 0.01) -> base.Protocol:
    """q-FedAvg around the same local training as the other protocols.

    With L = 1/learning_rate, F_i agent i's loss before the round and Δw_i = L (params - params_i), a round
    makes params - Σ_i F_i^q Δw_i / Σ_i h_i, where h_i = q F_i^(q-1) ‖Δw_i‖² + L F_i^q. At q = 0 that is the
    mean of the agents' models: FedAvg that counts agents, not samples.

    Args:
      capacity: τ_i, [n] in samples; s_i = τ_i.
      q: ≥ 0; the authors try 0.001 to 15.
      learning_rate: the agents' own; the authors take 1/L.

    Raises:
      ValueError: q is negative or the learning rate is not above 0, or one is not a finite number.
    """
    if not (0 <= q < np.inf and 0 < learning_rate < np.inf):
        raise ValueError(f"needs q ≥ 0 and a learning rate above 0, got {q} and {learning_rate}")
    everything, steepness = np.asarray(capacity, float), 1.0 / learning_rate

    def train(learning: base.Learning, params: Any, plan: base.Plan, number: int) -> Any:
        samples = base.draw(plan.profile)
        losses = np.maximum(np.asarray(learning.loss(params, samples), float), _LEAST)
        powers = (losses / np.max(losses)) ** q  # what all F^q have in common cancels, and cannot overflow
        powers = np.where(samples > 0, powers, 0.0)  # without data there is no loss to count
        change, squares = learning.changes(params, samples, powers, number)
        norms = powers * (q * steepness**2 * squares / losses + steepness)  # h
        return federated.add(
            params, change, steepness / max(np.sum(norms), steepness)
        )  # 0 if nobody has data

    def start(key: object) -> base.Plan:
        del key
        return base.Plan(everything, everything[None])

    rule = "q-FFL", f"q {q!r}", f"learning rate {learning_rate!r}"
    return base.Protocol("q-FFL", start, round=train, training=rule)
