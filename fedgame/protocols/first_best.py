"""The first best: what a server would decide if it could, as the measure of everything else.

Agents contribute the profile with the largest Σ u_i, and costs are settled with the payments of personal
rates (`mechanisms.personal`), whose transfers make all utilities equal. So every p-mean with p ≤ 1 is at
its bound, (max Σ u_j)/n, as long as accuracies are those of ã.
"""

import dataclasses

import jax
import numpy as np

from fedgame.games import game as games
from fedgame.mechanisms import personal
from fedgame.mechanisms.base import Mechanism
from fedgame.protocols import base
from fedgame.registry import option


@dataclasses.dataclass(frozen=True, eq=False)
class FirstBest(base.Protocol):
    """The first best of a game; nobody decides anything, so nothing depends on the key."""

    name = "First best"

    game: games.Game = option("on ã, without payments")
    profile: np.ndarray = option("[n] with the largest Σ u_i, as `personal.first_best` finds it")
    mechanism: Mechanism = option("under which it is an equilibrium: personal rates", base.NO_PAYMENTS)

    def start(self, key: jax.Array) -> base.Plan:
        del key
        profile = np.asarray(self.profile, float)
        return base.Plan(profile, profile[None])

    @property
    def played(self) -> tuple[games.Game, Mechanism]:
        return self.game, self.mechanism


def protocol(game: games.Game) -> FirstBest:
    """The first best of a game on ã; one agent alone needs no payments.

    Errors as `mechanisms.personal.personal_rates`.
    """
    if game.n == 1:
        return FirstBest(game, np.asarray(personal.first_best(game).profile))
    found = personal.personal_rates(game)
    return FirstBest(game, np.asarray(found.profile), found.mechanism)
