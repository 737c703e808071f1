"""Rules: from a game, as it is reported to the server, to what the server announces for it.

A rule is applied anew when somebody has left (`outcomes`) or reports something else (`misreports`). Some
have to find an optimum or an equilibrium first: those made by `Searching` hand it over, so that who applies
them by `announced` need not find it again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame.equilibria import solvers
from fedgame.games import game as games
from fedgame.mechanisms import baselines, budget_balanced, design
from fedgame.mechanisms import personal as personal_rates
from fedgame.mechanisms import price as one_price
from fedgame.mechanisms import prices as pigou
from fedgame.mechanisms import shapley as shapley_values
from fedgame.mechanisms.base import Mechanism
from fedgame.mechanisms.budget_balanced import Refunds

Rule = Callable[[games.Game], Mechanism]


class Announcement(NamedTuple):
    """What a rule announces for a game, and what it found of the game on the way."""

    mechanism: Mechanism
    best: personal_rates.FirstBest | None = None
    equilibrium: solvers.Equilibrium | None = None  # of `mechanism.under(game)`


class Searching:
    """A rule made of a function that returns an `Announcement`; a decorator.

    Called with a game, and more arguments if the function takes any, it returns the mechanism alone.
    """

    def __init__(self, search: Callable[..., Announcement]):
        functools.update_wrapper(self, search)
        self.search = search

    def __call__(self, game: games.Game, *more: Any) -> Mechanism:
        return self.search(game, *more).mechanism


def announced(rule: Rule, game: games.Game) -> Announcement:
    """What any rule announces, with what it found on the way if it is a `Searching` one."""
    return rule.search(game) if isinstance(rule, Searching) else Announcement(rule(game))


def none(game: games.Game) -> Mechanism:
    """No payments."""
    return Refunds()


def beta_star(game: games.Game) -> Mechanism:
    """β* (Definition 2), for linear costs.

    Raises:
      ValueError: costs are not linear, or an agent's rate is 0: β* is not defined.
    """
    rates = linear_rates(game)
    if rates is None:
        raise ValueError("β* (Definition 2) is defined for linear costs above 0 only; here some are not")
    return Refunds(budget_balanced.beta_star(rates)) if game.n > 1 else Refunds()


def falkinger(game: games.Game) -> Mechanism:
    """β = 1 - 1/n."""
    return Refunds(budget_balanced.falkinger_beta(game.n))


@Searching
def personal(game: games.Game) -> Announcement:
    """Personal rates, with transfers that make all utilities equal."""
    if game.n < 2:
        return Announcement(Refunds())
    best = personal_rates.first_best(game)
    return Announcement(personal_rates.refunds(game, best), best)


def linear_rates(game: games.Game) -> np.ndarray | None:
    """[n] c_i of c_i(s_i) = c_i s_i + d_i, per standard sample; None if a cost is not linear, or free."""
    line = game.cost.line()
    if line is None:
        return None
    rates = np.broadcast_to(np.asarray(line[0], float) / np.asarray(game.quality, float), (game.n,))
    return rates if np.all(rates > 0) else None


def designed(p: design.Welfare) -> Rule:
    """The rule that announces the β with the largest W_p at its equilibrium; see `design.design_beta`."""
    look = jax.jit(functools.partial(design.design_beta, p=p))

    @Searching
    def best(game: games.Game) -> Announcement:
        if game.n < 2:
            return Announcement(Refunds())
        found = look(game)
        return Announcement(Refunds(found.rates), equilibrium=found.equilibrium)

    return best


@Searching
def price(game: games.Game, value: float | None = None) -> Announcement:
    """One price per sample; None: the one with the largest Σ u_i at a certified equilibrium.

    Raises:
      ValueError: no price is given, and at none of those tried an equilibrium is certified: to announce one
        of them would be to announce nothing that is known.
    """
    if game.n < 2:
        return Announcement(Refunds())
    if value is not None:
        return Announcement(one_price.Price(value))
    found = one_price.best_price(game)
    return Announcement(one_price.Price(found.price), equilibrium=found.equilibrium)


@Searching
def prices(game: games.Game) -> Announcement:
    """Pigou's prices, with transfers that make all utilities equal."""
    best = personal_rates.first_best(game)
    return Announcement(pigou.pigou(game, best=best), best)


def shapley(game: games.Game) -> Mechanism:
    """Shapley payments."""
    return shapley_values.shapley(game)


def data_maximizing(game: games.Game) -> Mechanism:
    """Accuracy as the reward (Karimireddy et al. 2022).

    Raises:
      ValueError: payoffs differ or do not see the total, or costs are not linear.
    """
    return baselines.schedule_of(game)
