"""Rules: from the reported game to the mechanism that the server announces for it.

A rule is applied again if an agent has left (`outcomes`) or reports something else (`misreports`).
"""

from collections.abc import Callable

import jax
import numpy as np

from fedgame.games import game as games
from fedgame.mechanisms import base, baselines, design, optimum, refunds
from fedgame.mechanisms import personal as personal_rates
from fedgame.mechanisms import price as one_price
from fedgame.mechanisms import prices as pigou
from fedgame.mechanisms import shapley as shapley_values
from fedgame.mechanisms.base import Announcement, Mechanism
from fedgame.mechanisms.refunds import Refunds
from fedgame.registry import option, register

Rule = Callable[[games.Game], Mechanism]  # a `base.Rule`, or any function


def announced(rule: Rule, game: games.Game, best: optimum.FirstBest | None = None) -> Announcement:
    """What a rule announces for a game; of a `base.Rule`, with the optimum or equilibrium that it found.

    Args:
      rule: a `base.Rule`, or any function from a game to a mechanism.
      game: as it is reported.
      best: its first best, if known.
    """
    if isinstance(rule, base.Rule):
        return rule.announced(game, best)
    return Announcement(rule(game))


@register("none", "no payments")
def none(game: games.Game) -> Mechanism:
    """No payments."""
    return Refunds()


def has_beta_star(game: games.Game) -> None:
    """Raises a `ValueError` if β* is not defined: costs are not linear, or an agent's rate is 0."""
    if linear_rates(game) is None:
        raise ValueError("β* (Definition 2) is defined for linear costs above 0 only; here some are not")


def rewards_data(game: games.Game) -> None:
    """Raises a `ValueError` if accuracy cannot be the reward: too many agents, or costs not linear or 0."""
    base.check_size(baselines.Schedule, game.n)
    baselines.check_costs(game)


@register("beta_star", "β*", requires=has_beta_star)
def beta_star(game: games.Game) -> Mechanism:
    """Refunds of the share β* of Definition 2, for linear costs above 0."""
    return Refunds(refunds.beta_star(linear_rates(game))) if game.n > 1 else Refunds()


@register("falkinger", "β = 1 - 1/n")
def falkinger(game: games.Game) -> Mechanism:
    """Refunds of the share 1 - 1/n (Falkinger et al. 2000)."""
    return Refunds(refunds.falkinger_beta(game.n))


@register("beta", "β")
def beta(
    game: games.Game, beta: float = option("β, the share of costs that everybody gets back", low=0, high=1)
) -> Mechanism:
    """Refunds of a share β of your own (Section 4, M_β)."""
    return Refunds(beta if game.n > 1 else 0.0)


@register("personal", "personal rates")
def personal(
    game: games.Game,
    outside: str | None = option(
        "what everybody shall have at least, by training alone, or 0; not given: utilities are equal",
        None,
        choices=("alone", "nothing"),
        kind=str,
    ),
    best: optimum.FirstBest | None = None,
    alone: np.ndarray | None = None,
) -> Announcement:
    """Refunds at personal rates; transfers make utilities equal, or as equal as `outside` allows."""
    if game.n < 2:
        return Announcement(Refunds())
    best = optimum.first_best(game) if best is None else best
    if outside is None:
        least = None
    elif outside == "alone" and alone is not None:
        least = alone
    else:
        least = personal_rates.outside(game, outside)
    return Announcement(personal_rates.mechanism_at(game, best, least), best)


@register("designed", "designed β")
def designed(
    game: games.Game,
    p: design.Welfare = option("of the p-mean that is maximised", 1.0, high=1, infinite=True),
) -> Announcement:
    """Refunds of the share β whose certified equilibrium has the largest W_p, see `design.design_beta`."""
    if game.n < 2:
        return Announcement(Refunds())
    found = _design(game, p)
    return Announcement(Refunds(found.rates), equilibrium=found.equilibrium)


@register("price", "one price", announces=one_price.Price)
def price(
    game: games.Game,
    price: float | None = option(
        "what a sample brings, currency; not given: what has the largest sum of utilities",
        None,
        low=0,
        kind=float,
    ),
) -> Announcement:
    """One price per sample for all, which all others pay in equal parts.

    Raises:
      ValueError: no price is given, and an equilibrium is certified at none of those tried.
    """
    if game.n < 2:
        return Announcement(Refunds())
    if price is not None:
        return Announcement(one_price.Price(price))
    found = one_price.best_price(game)
    return Announcement(one_price.Price(found.price), equilibrium=found.equilibrium)


@register("prices", "Pigou's prices", announces=pigou.Prices)
def prices(game: games.Game, best: optimum.FirstBest | None = None) -> Announcement:
    """A price for each agent's samples, what they are worth to all others (Pigou); utilities are equal."""
    best = optimum.first_best(game) if best is None else best
    return Announcement(pigou.pigou(game, best=best), best)


@register("shapley", "Shapley payments", announces=shapley_values.Shapley)
def shapley(
    game: games.Game, seed: int = option("of the orders that are drawn with more than 8 agents", 0, low=0)
) -> Mechanism:
    """Everybody is paid what her data add to what all gain, averaged over orders of joining (Shapley)."""
    return shapley_values.shapley(game, seed)


@register("data_maximizing", "accuracy as the reward", requires=rewards_data, announces=baselines.Schedule)
def data_maximizing(
    game: games.Game, epsilon: float = option("ε, how much more than her cost a sample brings", 0.0, low=0)
) -> Mechanism:
    """Nobody pays; who contributes less is given a worse model (Karimireddy et al. 2022).

    Raises:
      ValueError: payoffs differ or do not see the total.
    """
    return baselines.schedule_of(game, epsilon)


def linear_rates(game: games.Game) -> np.ndarray | None:
    """c_i of c_i(s_i) = c_i s_i + d_i, [n], per standard sample; None unless all are linear and above 0."""
    line = game.cost.line()
    if line is None:
        return None
    rates = np.broadcast_to(np.asarray(line[0], float) / np.asarray(game.quality, float), (game.n,))
    return rates if np.all(rates > 0) else None


_design = jax.jit(design.design_beta, static_argnums=1)
