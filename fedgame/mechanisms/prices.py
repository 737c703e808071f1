"""Pigou's prices: every agent is paid for a sample what it is worth to all others at the first best."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import base, optimum, personal, refunds
from fedgame.registry import option


@registry.family
class Prices(base.Mechanism):
    """p_i = q_i s_i - 1/(n-1) Σ_{j≠i} q_j s_j + t_i with q_i = Σ_{j≠i} v_j ∂a_j/∂s_i at the first best s*.

    With q_i, agent i's first-order condition at s* is that of Σ u_j. So s* is an equilibrium if utilities are
    concave, also if an agent gains nothing herself (the rates of `personal` leave such an agent indifferent).
    Two exceptions:

    - It need not be the only equilibrium: agents with linear costs who are strictly between 0 and their
      capacities at s* are indifferent between splits of the same S, see `splits`.
    - Payoffs (2) and (3), clipped at 0, are not concave: an agent whose payoff at s* is still small may
      prefer to give nothing. The certificate tells.
    """

    concave: ClassVar[bool] = True
    columns: ClassVar[dict[str, str]] = {"price": "price"}
    per_sample: ClassVar[frozenset[str]] = frozenset({"price"})

    prices: Any = option("q_i, what a sample of agent i is worth to all others; negative: a tax")
    transfers: Any = option("t_i, paid to her whatever she does; they sum to 0")
    optimum: Any = option("s*_i, the contribution for which the prices are made")

    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        return refunds.payments(1.0, self.prices * s, self.transfers)

    def announced(self, n: int) -> dict[str, jax.Array]:
        numbers = {"price": self.prices, "transfer": self.transfers}
        return {name: jnp.broadcast_to(jnp.asarray(x, float), (n,)) for name, x in numbers.items()}

    def profile(self, game: games.Game) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(self.optimum, float), (game.n,))


def pigou(
    game: games.Game,
    outside: Any = None,
    best: optimum.FirstBest | None = None,
    transfers: str = personal.BARGAINING,
) -> Prices:
    """The prices of a game, with transfers that divide what is gained at s*.

    Args:
      game: n agents.
      outside, transfers: as in `personal.personal_rates`.
      best: the first best of `game`; None: it is found.

    Raises:
      ValueError: as `personal.personal_rates`.
    """
    best = optimum.first_best(game) if best is None else best
    s = best.profile
    found = Prices(_worth_to_others(game, s), jnp.zeros(game.n), s)
    there = found.utilities(game, s)
    return found.replace(transfers=personal.divided(game, there, best.welfare, outside, transfers))


def splits(game: games.Game, mechanism: Prices) -> np.ndarray:
    """Numbers, [k], of the agents among whom s* may be split differently and still be an equilibrium.

    For payoffs of the total and linear costs, these are the agents with a marginal utility of 0, if one of
    them can give less and another more. A first-best profile has at most one of them strictly between 0 and
    her capacity, so those at a bound count as well. Empty if there are fewer than two.
    """
    if not game.payoff.of_total or game.cost.line() is None:
        return np.zeros(0, int)
    s = mechanism.profile(game)
    slope = np.asarray(games.own_gradient(game, s)) + np.broadcast_to(np.asarray(mechanism.prices), (game.n,))
    size = np.asarray(games.marginal_costs(game, s)) + np.abs(slope)
    tied = np.flatnonzero((np.abs(slope) <= 1e-7 * size) & (np.asarray(game.capacity) > 0))
    s, capacity = np.asarray(s), np.asarray(game.capacity)
    can_exchange = np.any(s[tied] > 0) and np.any(s[tied] < capacity[tied])
    return tied if len(tied) > 1 and can_exchange else np.zeros(0, int)


@jax.jit
def _worth_to_others(game: games.Game, s: jax.Array) -> jax.Array:
    """q_i = Σ_{j≠i} v_j ∂a_j/∂s_i, [n]."""
    worth = jax.grad(lambda s: jnp.sum(game.value * games.payoff_values(game, s)))(s)
    own = games.own_gradient(game, s) + games.marginal_costs(game, s)
    return worth - own
