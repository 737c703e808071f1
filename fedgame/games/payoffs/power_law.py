"""Eq. (3): payoffs whose loss falls as a power of the samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.family
class PowerLaw(base.OfTotal):
    """a_i(s) = best - scale (shift + S)^-exponent. Eq. (3) is best=1, shift=0, exponent in (0, 1].

    With shift > 0 the payoff is finite, and concave wherever it is not clipped.
    """

    best: Any = option("the payoff of endless data, accuracy")
    scale: Any = option("the loss of one sample, accuracy", low=0)
    exponent: Any = option("how fast the loss falls", low=0)
    shift: Any = option("samples that count as there already", 0.0, low=0)
    clip: bool = option("payoffs below 0 are 0", True, static=True)

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

    def bend(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """|a''| falls with S."""
        x, shift, scale = (np.asarray(part) for part in (self.exponent, self.shift, self.scale))
        with np.errstate(divide="ignore", invalid="ignore"):
            least, most = (scale * x * (x + 1) * (s + shift) ** (-x - 2) for s in (high, low))
            common = ((low + np.max(shift)) / (high + np.max(shift))) ** (np.min(x) + 2)
            least = least / common
        # No loss has no bend, at S = 0 too, where 0 · ∞ is NaN.
        least, most = (np.where(scale == 0, 0.0, y) for y in (least, most))
        return least, most
