"""Payoffs of who samples what (Section 2.1): linear, random discovery, random coverage (1).

See `payoffs` for what a family is.
"""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp


class OfProfile:
    """What families have in common that need the whole profile: z = s."""

    core_ndim: ClassVar[int] = 0
    of_total: ClassVar[bool] = False
    concave: ClassVar[bool] = False

    def statistic(self, s: jax.Array) -> jax.Array:
        return s

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z.at[i].add(change)


@flax.struct.dataclass
class LinearPayoff(OfProfile):
    """a_i(s) = (W s)_i for a dense matrix `w`, [n, n] (Section 2.1, linear)."""

    core_ndim: ClassVar[int] = 1
    concave: ClassVar[bool] = True
    limits: ClassVar[dict] = {"w": (jnp.isfinite, "finite")}

    w: Any

    def complaint(self) -> str | None:
        square = self.w.ndim == 2 and self.w.shape[0] == self.w.shape[1]
        return None if square else f"`w` must be a square matrix, got shape {self.w.shape}"

    def kept(self, keep: Any, n: int) -> "LinearPayoff":
        return LinearPayoff(jnp.asarray(self.w)[jnp.ix_(keep, keep)])

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.w @ z - self.w[i] * own, self.w[i]

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        others, own_weight = rest
        return own_weight * own + others


@flax.struct.dataclass
class RandomDiscovery:
    """a_i(s) = (Q Qᵀ s)_i: agent i gains q_ix whenever anybody samples x (Section 2.1).

    Attributes:
      q: [n, m] sampling probabilities of agent i over the m points of X. No n×n array is formed.
    """

    core_ndim: ClassVar[int] = 1
    of_total: ClassVar[bool] = False
    concave: ClassVar[bool] = True
    limits: ClassVar[dict] = {"q": (lambda q: (q >= 0) & (q <= 1), "in [0, 1]")}

    q: Any

    def statistic(self, s: jax.Array) -> jax.Array:
        return s @ jnp.broadcast_to(self.q, (len(s), self.q.shape[-1]))

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        return z - self.q * own

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.q @ (rest + own * self.q)

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z + self.q * change


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
