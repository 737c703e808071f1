"""Shapley payments: every agent is paid what her data add for all, averaged over orders of joining."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import base
from fedgame.registry import option

EXACT = 8  # maximum of agents for whom φ is exact: the payoffs of 2^8 coalitions
ORDERS = 64  # drawn with more agents; half of them are the other half backwards
_NUMBERS = 2**22  # float64 numbers held while payoffs of several coalitions are computed at once: 32 MB


@registry.family
class Shapley(base.Mechanism):
    """p_i = φ_i - v_i (a_i(s) - a_i(0)), so that agent i gains her Shapley value φ_i, less her cost.

    φ is the Shapley value of v(C) = Σ_j v_j a_j(s_C): what all agents gain from the data of the coalition C,
    where s_C is s with zeros outside C. Payments sum to 0, since Σ φ_i = v(N) - v(∅).

    With up to 8 agents φ is exact. With more, φ_i is the mean, over the announced `orders`, of what agent i
    adds when she joins. The payments of every single order sum to 0, so this is a mechanism too, with Nash
    gaps of its own; `error` estimates how far its payments are from the exact ones.

    An agent gains by splitting into two (Qi and Zhu 2024).
    """

    orders: Any = option("orders in which agents join, [k, n]; (): all, for up to 8 agents", (), rank=None)

    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        gained = reported.value * (
            games.payoff_values(reported, s) - games.payoff_values(reported, jnp.zeros_like(s))
        )
        return self.values(reported, s) - gained

    def payment(self, reported: games.Game, s: jax.Array, i: jax.Array) -> jax.Array:
        if not len(self.orders):
            return self.payments(reported, s)[i]

        def joins(order: jax.Array) -> jax.Array:
            """What agent i adds when she joins in this order."""
            place = _places(order)
            without = gains(reported, jnp.where(place < place[i], s, 0.0))
            with_her = gains(reported, jnp.where(place <= place[i], s, 0.0))
            return with_her - without

        value = games.agent_of(reported, i).value
        payoff = games.payoff_values(reported, s)[i] - games.payoff_values(reported, jnp.zeros_like(s))[i]
        return jnp.mean(jax.lax.map(joins, self.orders, batch_size=_at_once(reported.n))) - value * payoff

    def concave_in(self, game: games.Game) -> bool:
        """True if payoffs depend on the total and are concave from 0 on: φ_i is a mean of concave terms.

        Both are needed because φ_i contains the payoffs of others, and of coalitions: their payoffs must be
        concave in s_i too, and one that is 0 up to some total has a kink at another s_i in each coalition.
        """
        return game.payoff.of_total and base.has_no_kink(game)

    def values(self, reported: games.Game, s: jax.Array) -> jax.Array:
        """φ, [n], in the currency of costs."""
        if len(self.orders):
            return jnp.mean(added(reported, s, self.orders), axis=0)
        members, weights = _coalitions(reported.n)

        def worth(there: jax.Array) -> jax.Array:
            return gains(reported, jnp.where(there, s, 0.0))

        return weights @ jax.lax.map(worth, members, batch_size=_at_once(reported.n))

    def error(self, reported: games.Game, s: jax.Array) -> jax.Array:
        """[n] standard errors of sampled φ_i, from pairs of an order and its reverse; 0 if φ is exact."""
        if not len(self.orders):
            return jnp.zeros_like(s)
        half = len(self.orders) // 2
        each = added(reported, s, self.orders[: 2 * half])
        pairs = (each[:half] + each[half:]) / 2
        return jnp.std(pairs, axis=0, ddof=1) / np.sqrt(half)


def shapley(game: games.Game, seed: int = 0) -> Shapley:
    """Shapley payments for the agents of a game: exact up to 8, else over 64 orders drawn from `seed`.

    Raises:
      ValueError: a payoff without any data is not finite, so that nothing can be added to it.
    """
    nothing = games.payoff_values(game, jnp.zeros(game.n))
    if not isinstance(nothing, jax.core.Tracer) and not np.all(np.isfinite(nothing)):
        raise ValueError(f"Shapley payments need payoffs that are finite without data, got {nothing}")
    if game.n <= EXACT:
        return Shapley()
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(game.n) for _ in range(ORDERS // 2)])
    return Shapley(jnp.asarray(np.concatenate([orders, orders[:, ::-1]])))  # backwards: a smaller variance


def _at_once(n: int) -> int:
    """Number of coalitions of n agents whose payoffs are computed at once, not one after the other.

    They take up to 32 MB in a Newton step, which needs most memory: n³ numbers for each coalition.
    """
    return max(1, _NUMBERS // n**3)


def gains(game: games.Game, s: jax.Array) -> jax.Array:
    """v = Σ_j v_j a_j(s), what all agents together gain; s has zeros outside the coalition."""
    return jnp.sum(game.value * games.payoff_values(game, s))


def added(game: games.Game, s: jax.Array, orders: jax.Array) -> jax.Array:
    """What each agent's data add when she joins, in each of the orders [k, n]: [k, n], currency."""

    def one(order: jax.Array) -> jax.Array:
        place = _places(order)
        there = jax.lax.map(lambda k: gains(game, jnp.where(place < k, s, 0.0)), jnp.arange(len(order) + 1))
        return (there[1:] - there[:-1])[place]

    return jax.lax.map(one, orders)


def _places(order: jax.Array) -> jax.Array:
    """[n] the number of agents who join before each."""
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))


def _coalitions(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Who is in each of the 2^n coalitions C, [2^n, n], and the weight of v(C) in each φ_i, [n, 2^n]."""
    bit_of_agent = np.arange(2**n)[:, None] >> np.arange(n)
    members = bit_of_agent % 2 == 1
    size = members.sum(axis=1)
    # In φ_i a coalition with i counts (|C|-1)! (n-|C|)! / n!, one without her -|C|! (n-|C|-1)! / n!.
    factorial = np.cumprod([1.0, *range(1, n + 1)])
    joined = factorial[np.maximum(size - 1, 0)] * factorial[n - size] / factorial[n]
    missed = factorial[size] * factorial[np.maximum(n - size - 1, 0)] / factorial[n]
    return members, np.where(members, joined[:, None], -missed[:, None]).T
