"""Section 2.1: payoffs that are linear in what everybody contributes."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from fedgame import registry
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.register("linear")
class LinearPayoff(base.Payoff):
    """a_i(s) = (W s)_i for a dense matrix `w`, [n, n] (Section 2.1, linear)."""

    concave: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    w: Any = option("what a sample of agent j brings agent i, [n, n]", rank=1)

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
