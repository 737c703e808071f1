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


def announced(
    rule: Rule, game: games.Game, best: optimum.FirstBest | None = None, outside: np.ndarray | None = None
) -> Announcement:
    """What a rule announces for a game; of a `base.Rule`, with the optimum or equilibrium that it found.

    Args:
      rule: a `base.Rule`, or any function from a game to a mechanism.
      game: as it is reported.
      best: its first best, if known.
      outside: [n] what agents have if they leave, currency; None: what they have by training alone.
    """
    if isinstance(rule, base.Rule):
        return rule.announced(game, best, outside)
    return Announcement(rule(game))


@register("none", "no payments", simplicity=0, knows=())
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


def samples_bring_something(game: games.Game) -> None:
    """Raises a `ValueError` if nobody gains from her own samples: refunds then make nobody share.

    Before the payoff is measured, it is None.
    """
    if game.payoff is not None and not game.payoff.own_gain:
        raise ValueError(
            "with own=always her own samples bring an agent nothing more if she shares them, and refunds "
            "only lower what they cost; name a mechanism that pays for samples, price or prices"
        )


def has_rates(game: games.Game) -> None:
    """`has_beta_star` and `samples_bring_something`."""
    samples_bring_something(game)
    has_beta_star(game)


@register("beta_star", "β*", requires=has_rates, simplicity=1, knows=("costs",))
def beta_star(game: games.Game) -> Mechanism:
    """Refunds of the share β* of Definition 2, for linear costs above 0."""
    return Refunds(refunds.beta_star(linear_rates(game))) if game.n > 1 else Refunds()


@register("falkinger", "β = 1 - 1/n", requires=samples_bring_something, simplicity=1, knows=("costs",))
def falkinger(game: games.Game) -> Mechanism:
    """Refunds of the share 1 - 1/n (Falkinger et al. 2000)."""
    return Refunds(refunds.falkinger_beta(game.n))


@register("beta", "β", requires=samples_bring_something, simplicity=1, knows=("costs",))
def beta(
    game: games.Game, beta: float = option("β, the share of costs that everybody gets back", low=0, high=1)
) -> Mechanism:
    """Refunds of a share β of your own (Section 4, M_β)."""
    return Refunds(beta if game.n > 1 else 0.0)


_DIVIDED = (
    "how the sum of utilities is divided: everybody has what she has outside and an equal part of the rest; "
    "or all have the same; or all who have more than outside have the same"
)


@register("personal", "personal rates", requires=samples_bring_something, simplicity=3)
def personal(
    game: games.Game,
    transfers: str = option(_DIVIDED, personal_rates.BARGAINING, choices=personal_rates.TRANSFERS),
    best: optimum.FirstBest | None = None,
    outside: np.ndarray | None = None,
) -> Announcement:
    """Refunds at personal rates, with transfers that divide what all gain."""
    if game.n < 2:
        return Announcement(Refunds())
    best = optimum.first_best(game) if best is None else best
    return Announcement(personal_rates.mechanism_at(game, best, outside, transfers), best)


@register("designed", "designed β", requires=samples_bring_something, simplicity=2)
def designed(
    game: games.Game,
    p: design.Welfare = option("of the p-mean that is maximised", 1.0, high=1, infinite=True),
) -> Announcement:
    """Refunds of the share β whose certified equilibrium has the largest W_p, see `design.design_beta`."""
    if game.n < 2:
        return Announcement(Refunds())
    found = _design(game, p)
    return Announcement(Refunds(found.rates), equilibrium=found.equilibrium)


@register("price", "one price", announces=one_price.Price, simplicity=2, finds=("price",))
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


@register("prices", "Pigou's prices", announces=pigou.Prices, simplicity=3)
def prices(
    game: games.Game,
    transfers: str = option(_DIVIDED, personal_rates.BARGAINING, choices=personal_rates.TRANSFERS),
    best: optimum.FirstBest | None = None,
    outside: np.ndarray | None = None,
) -> Announcement:
    """A price for each agent's samples, what they are worth to all others (Pigou)."""
    best = optimum.first_best(game) if best is None else best
    return Announcement(pigou.pigou(game, outside, best, transfers), best)


@register("shapley", "Shapley payments", announces=shapley_values.Shapley, simplicity=4, knows=("payoffs",))
def shapley(
    game: games.Game, seed: int = option("of the orders that are drawn with more than 8 agents", 0, low=0)
) -> Mechanism:
    """Everybody is paid what her data add to what all gain, averaged over orders of joining (Shapley)."""
    return shapley_values.shapley(game, seed)


@register(
    "data_maximizing",
    "accuracy as the reward",
    requires=rewards_data,
    announces=baselines.Schedule,
    simplicity=4,
)
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
