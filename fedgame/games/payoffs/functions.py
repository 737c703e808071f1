"""Payoffs given as Python functions: of the total, separable (Theorem A.1), or any."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from fedgame import registry
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.family
class TotalPayoff(base.OfTotal):
    """Any scalar function of S, the same for all agents; `Game.value` scales it for each of them."""

    concave: ClassVar[bool] = False

    fn: Callable[[jax.Array], jax.Array] = option("from S to the payoff", static=True)

    def curve(self, total: jax.Array) -> jax.Array:
        return self.fn(total)


@registry.family
class Separable(base.Payoff):
    """a_i(s) = g_i(s_i) + h_i(s_-i) (Theorem A.1): best responses do not depend on the others.

    Attributes:
      own: g, called as own(i, s_i) with the number of the agent, returns a scalar.
      others: h of all agents, [n] -> [n]; entry i must not depend on s_i.
    """

    separable: ClassVar[bool] = True

    own: Callable[[jax.Array, jax.Array], jax.Array] = option("from i and s_i to g_i", static=True)
    others: Callable[[jax.Array], jax.Array] = option("from s to all h_i, [n]", static=True)

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        return i, self.others(z)[i]

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, others = rest
        return self.own(i, own) + others

    def kept(self, keep: jax.Array, n: int) -> "Separable":
        others = CustomPayoff(self.others).kept(keep, n).fn
        return Separable(lambda i, own: self.own(keep[i], own), others)


@registry.family
class CustomPayoff(base.Payoff):
    """Any function from profiles [n] to payoffs [n]. Evaluating all agents takes n calls of `fn`."""

    fn: Callable[[jax.Array], jax.Array] = option("from s to all payoffs, [n]", static=True)

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, s = rest
        return self.fn(s.at[i].set(own))[i]

    def kept(self, keep: jax.Array, n: int) -> "CustomPayoff":
        return CustomPayoff(lambda s: self.fn(jnp.zeros(n, s.dtype).at[keep].set(s))[keep])
