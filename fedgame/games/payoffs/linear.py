"""Section 2.1: payoffs that are linear in what everybody contributes."""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from fedgame.games.payoffs import base


@flax.struct.dataclass
class LinearPayoff(base.OfProfile):
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
