"""q-FFL by q-FedAvg (Li et al. 2020, Algorithm 2), when all data is shared.

It minimises Σ_i L_i(θ)^(q+1) / (q+1), with the model's parameters θ and the agents' losses L_i: the larger q
is, the more weight agents with large losses have.
"""

from typing import Any

import jax
import numpy as np

from fedgame.games import game as games
from fedgame.learning import federated
from fedgame.learning import trainer as trainers
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import base
from fedgame.registry import option, register

_LEAST = 1e-10  # minimum of losses, as 0^(q-1) is infinite for q < 1; the authors' code adds it instead


@register("qffl", "q-FFL")
class QFFL(base.Protocol):
    """q-FedAvg around the same local training as the other protocols.

    With L = 1/learning rate of the agents, as the authors take it, F_i agent i's loss before the round and
    Δw_i = L (params - params_i), a round makes params - Σ_i F_i^q Δw_i / Σ_i h_i, where
    h_i = q F_i^(q-1) ‖Δw_i‖² + L F_i^q. At q = 0 that is the mean of the agents' models: FedAvg that counts
    agents, not samples.
    """

    q: float = option("how much large losses count; the authors try 0.001 to 15", 0.1, low=0)

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        del announced, key
        return base.always(game.capacity)

    def train(self, trainer: trainers.Trainer, params: Any, plan: base.Plan, number: int) -> Any:
        samples, steepness = base.draw(plan.profile), 1.0 / trainer.options.learning_rate  # L
        losses = np.maximum(np.asarray(trainer.loss(params, samples), float), _LEAST)
        # F^q up to a common factor, which cancels below; without it F^q could overflow.
        powers = (losses / np.max(losses)) ** self.q
        powers = np.where(samples > 0, powers, 0.0)  # without data there is no loss to count
        change, squares = trainer.changes(params, samples, powers, number)
        norms = powers * (self.q * steepness**2 * squares / losses + steepness)  # h
        share = steepness / max(np.sum(norms), steepness)  # Σ h ≥ L, unless nobody has data
        return federated.add(params, change, share)
