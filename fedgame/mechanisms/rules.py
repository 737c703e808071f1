"""Rules: from a game, as it is reported to the server, to what the server announces for it.

A rule is applied anew when somebody has left (`outcomes`) or reports something else (`misreports`).
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from fedgame.games import costs
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, design
from fedgame.mechanisms import personal as personal_rates
from fedgame.mechanisms.budget_balanced import Mechanism

Rule = Callable[[games.Game], Mechanism]


def none(game: games.Game) -> Mechanism:
    """No payments."""
    return Mechanism()


def optimal(game: games.Game) -> Mechanism:
    """β* (Definition 2), for linear costs.

    Raises:
      ValueError: costs are not linear, or an agent's rate is 0: β* is not defined.
    """
    rates = linear_rates(game)
    if rates is None:
        raise ValueError("β* (Definition 2) is defined for linear costs above 0 only; here some are not")
    return Mechanism(budget_balanced.optimal_beta(rates)) if game.n > 1 else Mechanism()


def falkinger(game: games.Game) -> Mechanism:
    """β = 1 - 1/n."""
    return Mechanism(budget_balanced.falkinger_beta(game.n))


def personal(game: games.Game) -> Mechanism:
    """Personal rates, with transfers that make all utilities equal."""
    return personal_rates.personal_rates(game).mechanism if game.n > 1 else Mechanism()


def linear_rates(game: games.Game) -> np.ndarray | None:
    """[n] c_i of c_i(s_i) = c_i s_i + d_i, per standard sample; None if a cost is not linear, or free."""
    cost = game.cost
    linear = isinstance(cost, costs.LinearCost)
    linear |= isinstance(cost, costs.PowerCost) and bool(np.all(np.asarray(cost.exponent) == 1.0))
    if not linear:
        return None
    rates = np.broadcast_to(np.asarray(cost.rate, float) / np.asarray(game.quality, float), (game.n,))
    return rates if np.all(rates > 0) else None


def designed(p: design.Welfare) -> Rule:
    """The rule that announces the β with the largest W_p at its equilibrium; see `design.design_beta`."""
    best = jax.jit(functools.partial(design.design_beta, p=p))
    return lambda game: Mechanism(best(game).rates) if game.n > 1 else Mechanism()
