"""Refunds of costs: M_β of Section 4, its β* (Definition 2), Falkinger's β, and personal rates.

Agent i receives

    p_i(s) = β_i c_i(s_i) - 1/(n-1) Σ_{j≠i} β_j c_j(s_j) + t_i    with Σ t_i = 0,

a refund of the share β_i of her reported cost, which all others pay in equal parts. Payments sum to 0
whatever the rates. M_β has one rate β for all and no t. An agent controls only the first term, so equilibria
are those of the game in which c_i is scaled by 1 - β_i.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import base
from fedgame.registry import option


@registry.family
class Refunds(base.Mechanism):
    """p_i = β_i c_i(s_i) - 1/(n-1) Σ_{j≠i} β_j c_j(s_j) + t_i, with costs as reported."""

    concave: ClassVar[bool] = True
    columns: ClassVar[dict[str, str]] = {"rate": "β_i"}

    rates: Any = option("β_i, the share of her costs that agent i gets back", 0.0, low=0, high=1)
    transfers: Any = option("t_i, paid to her whatever she does; they sum to 0", 0.0)

    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        return payments(self.rates, games.incurred_costs(reported, s), self.transfers)

    def under(self, game: games.Game, reported: games.Game | None = None) -> games.Game:
        """If true costs are reported, the game with costs times 1 - β_i; else the general form."""
        if reported is not None and reported is not game:
            return base.Mechanism.under(self, game, reported)
        return under_mechanism(game, self.rates)

    def announced(self, n: int) -> dict[str, jax.Array]:
        numbers = {"rate": self.rates, "transfer": self.transfers}
        return {name: jnp.broadcast_to(jnp.asarray(x, float), (n,)) for name, x in numbers.items()}

    def under_scaled(self, game: games.Game, factor: jax.Array) -> games.Game:
        """The game with costs times 1 - β_i f_i, or with cost 0 if that is negative.

        If payoffs rise, an agent whose samples are free contributes her capacity, as one does who is paid for
        them. If payoffs are not known to rise, this is the general form.
        """
        if not (game.payoff.of_total and game.payoff.concave):
            return base.Mechanism.under_scaled(self, game, factor)
        return games.scale_costs(game, jnp.maximum(1.0 - self.rates * factor, 0.0))


def payments(beta: Any, spent: jax.Array, transfers: Any = 0.0) -> jax.Array:
    """p_i, [n], what each agent receives (negative: pays); they sum to 0.

    Args:
      beta: β in [0, 1], or β_i, [n].
      spent: [n] incurred costs c_i(s_i), n ≥ 2.
      transfers: t_i, [n], which sum to 0.
    """
    refunds = beta * spent
    others = (jnp.sum(refunds) - refunds) / max(len(spent) - 1, 1)  # one agent alone gets β = 0 only
    return refunds - others + transfers


def whole_units(paid: Any, unit: float) -> np.ndarray:
    """Payments in whole currency units that sum to exactly 0, by the method of largest remainders.

    All payments are rounded down. The units that are then missing go, one each, to those who lost the largest
    fractions of a unit, so every payment changes by less than a unit.

    Args:
      paid: [n] payments that sum to 0, up to rounding.
      unit: the smallest amount that can be paid, > 0, in the currency of `paid`.

    Returns:
      [n] int64, in units.

    Raises:
      ValueError: a payment or the unit is not a finite number, payments do not sum to 0, or are so large
        that units cannot be told apart in floating point.
    """
    paid = np.asarray(paid, float)
    if not (np.isfinite(unit) and unit > 0):
        raise ValueError(f"`unit` must be a number above 0, got {unit}")
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = paid / unit
    if not np.all(np.abs(scaled) < 2.0**52):
        raise ValueError(f"`paid` must be finite and below 2^52 units of {unit}, got {paid}")
    down = np.floor(scaled)
    missing = -int(down.astype(np.int64).sum())
    if not 0 <= missing <= len(paid) or abs(scaled.sum()) > 0.5:
        raise ValueError(f"`paid` must sum to 0, got {paid.sum()}")
    units = down.astype(np.int64)
    units[np.argsort(down - scaled, kind="stable")[:missing]] += 1
    return units


def beta_star(rates: Any) -> Any:
    """β* of Definition 2, the root of (6), for linear costs c_i s_i.

    With equal costs the discriminant in (14) is exactly 0, and rounding can make it negative: the textbook
    formula loses half of its digits or is NaN. Here it is written in terms of q = C/A - n², which is computed
    without cancellation from the deviations e_i = c_i / mean(c) - 1.

    With equal costs β* = 1 - 1/n, which maximises welfare as Theorem 4.1 says. For other costs
    `theorem.audit` says whether β* does. As a function of costs, β* has the tip of a cone at equal ones: in
    every direction it falls in proportion to the distance. The derivative returned there is 0, the mean of
    both sides.

    Args:
      rates: [n] c_i, cost per sample, all > 0, n ≥ 2.

    Returns:
      β*, a scalar; numpy if `rates` is, else JAX.

    Raises:
      ValueError: fewer than two agents, or a rate that is not positive and finite.
    """
    xp = jnp if isinstance(rates, jax.Array) else np  # numpy in, numpy out: nothing to compile
    rates = xp.asarray(rates)
    if rates.ndim != 1 or len(rates) < 2:
        raise ValueError(f"`rates` must be a vector of at least two costs, got shape {rates.shape}")
    if not isinstance(rates, jax.core.Tracer):
        bad = np.asarray(rates)[~(np.isfinite(rates) & (np.asarray(rates) > 0))]
        if len(bad):
            raise ValueError(f"`rates` must be positive and finite, got {bad[0]}")
    n = len(rates)
    most = xp.finfo(rates.dtype).max ** 0.5 if rates.dtype.kind == "f" else np.inf
    rates = rates * xp.where(xp.max(rates) > most, 1.0 / most, 1.0)  # or their sum might overflow
    relative = rates / xp.mean(rates)
    q = n * xp.sum((relative - 1.0) ** 2 / relative)
    equal = q == 0
    root = xp.where(equal, 0.0, xp.sqrt(xp.where(equal, 1.0, q) * (q + 4.0 * (n - 1))))
    return 2.0 * (n - 1) ** 2 / (n * (n - 2) + n**2 + q + root)


def falkinger_beta(n: int) -> float:
    """1 - 1/n (Falkinger et al. 2000): with it every agent bears the average cost of all.

    If payoffs are identical, every agent then has the utility v a(S) - 1/n Σ c_j(s_j): a game of common
    interest. At its equilibria Σ u_j is maximal and shared equally, so every p-mean with p ≤ 1 is at its
    bound (max Σ u_j) / n, for any convex costs and capacities.
    """
    return 1.0 - 1.0 / n


def under_mechanism(game: games.Game, beta: Any) -> games.Game:
    """The game with costs times 1 - β_i, whose equilibria are those of M_β or of rates β_i.

    Its utilities differ from those under the mechanism, which are `utilities`, by what an agent cannot
    influence.

    Args:
      game: n agents, without payments.
      beta: β in [0, 1], or β_i, [n].

    Raises:
      ValueError: a β is outside [0, 1], there are neither one nor n of them, or one is above 0 with a single
        agent.
    """
    check_beta(beta, game.n)
    return games.scale_costs(game, 1.0 - jnp.asarray(beta))


def check_beta(beta: Any, n: int) -> None:
    """Raises the `ValueError` of `under_mechanism`; numbers that are being traced are ignored."""
    if isinstance(beta, jax.core.Tracer):
        return
    rates = np.asarray(beta, float)
    if rates.shape not in ((), (n,)) or not np.all((rates >= 0) & (rates <= 1)):
        raise ValueError(f"`beta` must lie in [0, 1], one or one for each of {n} agents, got {beta}")
    if np.any(rates) and n < 2:
        raise ValueError("payments between agents need at least two of them")


def utilities(game: games.Game, beta: Any, s: jax.Array, transfers: Any = 0.0) -> jax.Array:
    """u_i(s) + p_i(s), [n]: utilities under M_β, or under rates β_i and transfers t_i."""
    return games.utilities(game, s) + payments(beta, games.incurred_costs(game, s), transfers)
