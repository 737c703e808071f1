"""The first best: what a server would decide if it could. Other protocols are compared with it.

Agents contribute the profile with the largest Σ u_i, and receive the payments of personal rates
(`mechanisms.personal`), whose transfers make all utilities equal. So every p-mean with p ≤ 1 is at its
bound, (max Σ u_j)/n, as long as accuracies are those of ã.
"""

from typing import ClassVar

import jax

from fedgame.games import game as games
from fedgame.mechanisms import optimum, rules
from fedgame.mechanisms.base import Announcement, Rule
from fedgame.protocols import base
from fedgame.registry import register


@register("first_best", "First best")
class FirstBest(base.Protocol):
    """The profile with the largest sum of utilities; nobody decides anything."""

    aims: ClassVar[bool] = True  # it is an equilibrium under personal rates
    rule: ClassVar[Rule] = rules.personal.having(transfers="equal")

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        del key
        best = optimum.first_best(game) if announced.best is None else announced.best
        return base.always(best.profile)
