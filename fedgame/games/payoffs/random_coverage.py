"""Section 2.1, Eq. (1): who gains once somebody has sampled a point."""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class RandomCoverage:
    """Eq. (1): a_i(s) = 1 - ½ Σ_x q_ix Π_j (1 - q_jx)^s_j.

    Attributes:
      q: [n, m] probabilities in [0, 1); q = 1 would make a_i jump at s = 0.
    """

    core_ndim: ClassVar[int] = 1
    of_total: ClassVar[bool] = False
    concave: ClassVar[bool] = True
    limits: ClassVar[dict] = {"q": (lambda q: (q >= 0) & (q < 1), "in [0, 1)")}

    q: Any

    def statistic(self, s: jax.Array) -> jax.Array:
        return s @ jnp.broadcast_to(jnp.log1p(-self.q), (len(s), self.q.shape[-1]))

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        return z - own * jnp.log1p(-self.q)

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return 1.0 - 0.5 * jnp.sum(self.q * jnp.exp(rest + own * jnp.log1p(-self.q)))

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z + change * jnp.log1p(-self.q)
