"""FedAvg (McMahan et al. 2017): every agent shares all her data, s_i = τ_i."""

import jax

from fedgame.games import game as games
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import base
from fedgame.registry import register


@register("fedavg", "FedAvg")
class FedAvg(base.Protocol):
    """Everybody shares all her data, always (McMahan et al. 2017)."""

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        del announced, key
        return base.always(game.capacity)
