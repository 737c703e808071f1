"""Shapley payments: everybody is paid what her data add to what all gain, averaged over orders of joining."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import base
from fedgame.registry import option

EXACT = 8  # agents up to whom all orders are taken
ORDERS = 64  # announced orders with more agents, half of them the others backwards
_NUMBERS = 2**22  # held at a time while payoffs of several coalitions are computed together, 32 MB


@registry.family
class Shapley(base.Mechanism):
    """p_i = φ_i - v_i (a_i(s) - a_i(0)), so that agent i has her Shapley value φ_i, less her cost.

    φ is the Shapley value of v(C) = Σ_j v_j a_j(s_C), what all agents gain from the data of those in C; s_C
    is s with zeros outside C. The payments sum to 0, for Σ φ_i = v(N) - v(∅). Up to 8 agents it is exact.
    With more φ is the mean over the announced `orders` of what i adds when she joins: the payments of every
    order sum to 0, so the sampled mechanism is one itself, and its Nash gap is its own; `error` estimates
    how far its payments are from those of all orders. Splitting one agent into two pays (Qi and Zhu 2024).
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
            place = _places(order)
            without, with_her = (
                gains(reported, jnp.where(there, s, 0.0)) for there in (place < place[i], place <= place[i])
            )
            return with_her - without

        value = games.agent_of(reported, i).value
        payoff = games.payoff_values(reported, s)[i] - games.payoff_values(reported, jnp.zeros_like(s))[i]
        return jnp.mean(jax.lax.map(joins, self.orders, batch_size=_at_once(reported.n))) - value * payoff

    def concave_in(self, game: games.Game) -> bool:
        """Where payoffs are of the total and concave from no data on: φ_i is then a mean of concave terms.

        Others' payoffs count in it, so that they see the total matters; and a coalition's payoff that is 0 up
        to some total begins at another contribution of hers than that of all.
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
        """[n] standard errors of sampled φ_i, by pairs of orders; 0 if all orders are taken."""
        if not len(self.orders):
            return jnp.zeros_like(s)
        half = len(self.orders) // 2
        each = added(reported, s, self.orders[: 2 * half])
        pairs = (each[:half] + each[half:]) / 2
        return jnp.std(pairs, axis=0, ddof=1) / np.sqrt(half)


def shapley(game: games.Game, seed: int = 0) -> Shapley:
    """The mechanism for the agents of a game; with more than 8, over 64 orders drawn from `seed`.

    Raises:
      ValueError: somebody's payoff without any data is not a finite number, so that nothing can add to it.
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
    """Profiles of n agents whose payoffs are computed in one go, not one after the other.

    As many as take 32 MB where memory is needed most: a Newton step asks for every agent's utility, and how
    each of all others changes it.
    """
    return max(1, _NUMBERS // n**3)


def gains(game: games.Game, s: jax.Array) -> jax.Array:
    """v = Σ_j v_j a_j(s), what all agents gain."""
    return jnp.sum(game.value * games.payoff_values(game, s))


def added(game: games.Game, s: jax.Array, orders: jax.Array) -> jax.Array:
    """[k, n] what each agent's data add when she joins, in each order."""

    def one(order: jax.Array) -> jax.Array:
        place = _places(order)
        there = jax.lax.map(lambda k: gains(game, jnp.where(place < k, s, 0.0)), jnp.arange(len(order) + 1))
        return (there[1:] - there[:-1])[place]

    return jax.lax.map(one, orders)


def _places(order: jax.Array) -> jax.Array:
    """[n] how many join before each agent."""
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))


def _coalitions(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Who is in each of the 2^n coalitions, [2^n, n], and what v of it counts in φ, [n, 2^n]."""
    members = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1
    size = members.sum(axis=1)
    # In φ_i a coalition with i counts (|C|-1)! (n-|C|)! / n!, one without her -|C|! (n-|C|-1)! / n!.
    factorial = np.cumprod([1.0, *range(1, n + 1)])
    joined = factorial[np.maximum(size - 1, 0)] * factorial[n - size] / factorial[n]
    missed = factorial[size] * factorial[np.maximum(n - size - 1, 0)] / factorial[n]
    return members, np.where(members, joined[:, None], -missed[:, None]).T
