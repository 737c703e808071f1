"""AFL, agnostic federated learning (Mohri et al. 2019), when all data is shared.

It trains for the worst mixture of agents: min over θ of max over λ of Σ_i λ_i L_i(θ), with the model's
parameters θ, weights λ of the agents that sum to 1, and their losses L_i. In every round θ descends on the
mixture, then λ ascends along the losses.
"""

from typing import Any

import jax
import numpy as np
import optax

from fedgame.games import game as games
from fedgame.learning import federated
from fedgame.learning import trainer as trainers
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import base
from fedgame.registry import option, register


@register("afl", "AFL")
class AFL(base.Protocol):
    """AFL around the same local training as the other protocols.

    A round makes params + Σ_i λ_i (params_i - params); λ starts at 1/n. After it,
    λ ← the nearest point of the simplex to λ + rate · L, with each agent's mean loss L_i on her samples.
    The authors take single stochastic steps on both sides; here agents train as in FedAvg.
    """

    rate: float = option("γ_λ, how fast λ follows the losses; the authors tune it", 0.1, above=0)

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        del announced, key
        return base.always(game.capacity)._replace(memory=np.full(game.n, 1.0 / game.n))

    def adapt(self, plan: base.Plan, trainer: trainers.Trainer, params: Any) -> base.Plan:
        losses = np.asarray(trainer.loss(params, base.draw(plan.profile)), float)
        return plan._replace(memory=_nearest(plan.memory + self.rate * losses))

    def train(self, trainer: trainers.Trainer, params: Any, plan: base.Plan, number: int) -> Any:
        change, _ = trainer.changes(params, base.draw(plan.profile), plan.memory, number)
        return federated.add(params, change)


def _nearest(mixture: np.ndarray) -> np.ndarray:
    """The point of the simplex that is nearest to `mixture`, [n]."""
    return np.asarray(optax.projections.projection_simplex(mixture), float)
