"""One price per sample, which everybody receives, and all others pay in equal parts."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, registry
from fedgame.equilibria import pivoting
from fedgame.games import game as games
from fedgame.mechanisms import base, refunds
from fedgame.registry import option

_POINTS, _ZOOMS = 33, 3  # prices on each scale of the first grid, and closer grids around the best one


@registry.family
class Price(base.Mechanism):
    """p_i = q s_i - q/(n-1) Σ_{j≠i} s_j, for samples as they are contributed.

    Payments do not depend on costs, so there is nothing to misreport.
    """

    concave: ClassVar[bool] = True
    columns: ClassVar[dict[str, str]] = {"price": "price"}
    per_sample: ClassVar[frozenset[str]] = frozenset({"price"})

    price: Any = option("q, currency per sample", 0.0, low=0)

    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        return refunds.payments(1.0, self.price * s)


class BestPrice(NamedTuple):
    """The best of the prices that were tried, and its equilibrium."""

    price: float  # currency per sample
    welfare: float  # Σ u_i at the equilibrium
    equilibrium: equilibria.Equilibrium  # certified, of the game under that price


def best_price(game: games.Game) -> BestPrice:
    """The price whose certified equilibrium has the largest Σ u_i.

    Tries prices from 0 to the largest marginal cost, at which everybody gives all she has: evenly and on a
    logarithmic scale, then more closely around the best one. Not for use inside jit.

    Raises:
      ValueError: no equilibrium is certified at any of these prices.
    """
    dearest = games.marginal_costs(game, game.capacity * (1.0 - 1e-9))
    most = float(jnp.max(dearest))
    seen = {0.0: _look(game, 0.0)}
    grid = [*np.linspace(0.0, most, _POINTS), *(most * np.geomspace(1e-4, 1.0, _POINTS))]
    if not game.payoff.own_gain:
        # A sample brings her the price alone: she gives all she has as soon as it exceeds her cost.
        above = np.sort(np.asarray(dearest))[np.linspace(0, game.n - 1, min(game.n, _POINTS)).astype(int)]
        grid += [*(above * (1.0 + 1e-6))]
    grid = np.unique(grid)
    for _ in range(1 + _ZOOMS):
        seen |= {float(q): _look(game, q) for q in grid if float(q) not in seen}
        prices = np.asarray(sorted(seen))
        welfare = np.asarray([seen[q].welfare for q in prices])
        k = int(np.argmax(np.where(np.isnan(welfare), -np.inf, welfare)))
        grid = np.linspace(prices[max(k - 1, 0)], prices[min(k + 1, len(prices) - 1)], 9)
    if np.isnan(welfare[k]):
        tried = f"{len(prices)} prices from 0 to {most:.6g} were tried"
        raise ValueError(f"no price per sample leads to a certified equilibrium: {tried}")
    return seen[float(prices[k])]


def _look(game: games.Game, price: float) -> BestPrice:
    """Σ u_i, which payments do not change, at the equilibrium; NaN where none is certified."""
    played = Price(jnp.asarray(float(price))).under(game)
    if price == 0 and pivoting.applies(game):  # which does not apply to the general form
        played = game
    found = equilibria.solve(played)
    welfare = float(jnp.sum(_utilities(game, found.profile))) if found.converged else np.nan
    return BestPrice(float(price), welfare, found)


_utilities = jax.jit(games.utilities)
