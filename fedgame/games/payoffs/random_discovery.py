"""Section 2.1, random discovery: who gains whenever anybody samples a point."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from fedgame import registry
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.register("random_discovery")
class RandomDiscovery(base.Payoff):
    """a_i(s) = (Q Qᵀ s)_i: agent i gains q_ix whenever anybody samples x (Section 2.1).

    Attributes:
      q: [n, m] sampling probabilities of agent i over the m points of X. No n×n array is formed.
    """

    concave: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    q: Any = option("how likely a sample of agent i is each of m points, [m]", low=0, high=1, rank=1)

    def statistic(self, s: jax.Array) -> jax.Array:
        return s @ jnp.broadcast_to(self.q, (len(s), self.q.shape[-1]))

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        return z - self.q * own

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.q @ (rest + own * self.q)

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z + self.q * change
