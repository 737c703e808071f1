"""Rules: from a game, as it is reported to the server, to what the server announces for it.

A rule is applied anew when somebody has left (`outcomes`) or reports something else (`misreports`).
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from fedgame.games import game as games
from fedgame.mechanisms import baselines, budget_balanced, design
from fedgame.mechanisms import personal as personal_rates
from fedgame.mechanisms import price as one_price
from fedgame.mechanisms import prices as pigou
from fedgame.mechanisms import shapley as shapley_values
from fedgame.mechanisms.base import Mechanism
from fedgame.mechanisms.budget_balanced import Refunds

Rule = Callable[[games.Game], Mechanism]


def none(game: games.Game) -> Mechanism:
    """No payments."""
    return Refunds()


def optimal(game: games.Game) -> Mechanism:
    """β* (Definition 2), for linear costs.

    Raises:
      ValueError: costs are not linear, or an agent's rate is 0: β* is not defined.
    """
    rates = linear_rates(game)
    if rates is None:
        raise ValueError("β* (Definition 2) is defined for linear costs above 0 only; here some are not")
    return Refunds(budget_balanced.optimal_beta(rates)) if game.n > 1 else Refunds()


def falkinger(game: games.Game) -> Mechanism:
    """β = 1 - 1/n."""
    return Refunds(budget_balanced.falkinger_beta(game.n))


def personal(game: games.Game) -> Mechanism:
    """Personal rates, with transfers that make all utilities equal."""
    return personal_rates.personal_rates(game).mechanism if game.n > 1 else Refunds()


def linear_rates(game: games.Game) -> np.ndarray | None:
    """[n] c_i of c_i(s_i) = c_i s_i + d_i, per standard sample; None if a cost is not linear, or free."""
    line = game.cost.line()
    if line is None:
        return None
    rates = np.broadcast_to(np.asarray(line[0], float) / np.asarray(game.quality, float), (game.n,))
    return rates if np.all(rates > 0) else None


def designed(p: design.Welfare) -> Rule:
    """The rule that announces the β with the largest W_p at its equilibrium; see `design.design_beta`."""
    best = jax.jit(functools.partial(design.design_beta, p=p))
    return lambda game: Refunds(best(game).rates) if game.n > 1 else Refunds()


def price(game: games.Game, value: float | None = None) -> Mechanism:
    """One price per sample; None: the one with the largest Σ u_i at a certified equilibrium."""
    if game.n < 2:
        return Refunds()
    return one_price.Price(one_price.best_price(game)[0] if value is None else value)


def prices(game: games.Game) -> Mechanism:
    """Pigou's prices, with transfers that make all utilities equal."""
    return pigou.pigou(game)


def shapley(game: games.Game) -> Mechanism:
    """Shapley payments."""
    return shapley_values.shapley(game)


def data_maximizing(game: games.Game) -> Mechanism:
    """Accuracy as the reward (Karimireddy et al. 2022).

    Raises:
      ValueError: payoffs differ or do not see the total, or costs are not linear.
    """
    return baselines.schedule_of(game)
