"""q-FFL by q-FedAvg (Li et al. 2020, Algorithm 2), when all data is shared.

It minimises Σ_i L_i(θ)^(q+1) / (q+1): the larger q, the more the agents count whose losses are large.
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

_LEAST = 1e-10  # a loss of exactly 0 has no power q - 1; the authors' code adds as much to every loss


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
        samples, steepness = base.draw(plan.profile), 1.0 / trainer.options.learning_rate
        losses = np.maximum(np.asarray(trainer.loss(params, samples), float), _LEAST)
        # What all F^q have in common cancels, and cannot overflow.
        powers = (losses / np.max(losses)) ** self.q
        powers = np.where(samples > 0, powers, 0.0)  # without data there is no loss to count
        change, squares = trainer.changes(params, samples, powers, number)
        norms = powers * (self.q * steepness**2 * squares / losses + steepness)  # h
        share = steepness / max(np.sum(norms), steepness)  # of 0 if nobody has data
        return federated.add(params, change, share)
