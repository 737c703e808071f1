"""Eq. (3): payoffs whose loss falls as a power of the samples."""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from fedgame.games.payoffs import base


@flax.struct.dataclass
class PowerLaw(base.OfTotal):
    """a_i(s) = best - scale (shift + S)^-exponent. Eq. (3) is best=1, shift=0, exponent in (0, 1].

    With shift > 0 the payoff is finite, and concave wherever it is not clipped.
    """

    best: Any
    scale: Any
    exponent: Any
    shift: Any = 0.0
    clip: bool = flax.struct.field(pytree_node=False, default=True)

    limits: ClassVar[dict] = {"best": (jnp.isfinite, "finite")}

    def curve(self, total: jax.Array) -> jax.Array:
        data = total + self.shift
        some = ~(data <= 0)  # a NaN counts as some, and stays NaN
        safe = jnp.where(some, data, 1.0)  # keeps value and gradient finite at S = 0
        loss = self.scale * jnp.exp(-self.exponent * jnp.log(safe))  # one log for all agents' exponents
        raw = jnp.where(some, self.best - loss, jnp.where(self.scale > 0, -jnp.inf, self.best))
        return jnp.maximum(raw, 0.0) if self.clip else raw

    def pays_from(self) -> jax.Array:
        if not self.clip:
            return jnp.zeros(())
        ratio = self.scale / jnp.where(self.best > 0, self.best, 1.0)
        zero = jnp.maximum(ratio ** (1.0 / self.exponent) - self.shift, 0.0)
        return jnp.where(self.best > 0, zero, jnp.inf)
