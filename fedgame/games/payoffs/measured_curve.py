"""Section 5.1: accuracy as it was measured."""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from fedgame.games.payoffs import base


@flax.struct.dataclass
class MeasuredCurve(base.OfTotal):
    """A measured accuracy curve ã(S) (Section 5.1): C¹, concave, non-decreasing.

    Between `sizes` the slope is linear, so ã is piecewise quadratic and its gradient exact. ã(0) is
    `accuracy[0]`. Beyond the last size ã continues with the named tail "inverse": the slope falls as
    slope[-1] (sizes[-1]/S)², which keeps ã C¹, concave and bounded; `extrapolates` tells its use.
    `curves.fit_concave` makes one from measurements.

    Attributes:
      sizes: [k] totals in samples, increasing from 0.
      accuracy: [k] accuracy at each size.
      slope: [k] its derivative there, per sample; non-increasing, non-negative.
    """

    core_ndim: ClassVar[int] = 1

    sizes: Any
    accuracy: Any
    slope: Any

    limits: ClassVar[dict] = {
        "sizes": (
            lambda x: (x[..., 0] == 0) & jnp.all(jnp.diff(x) > 0, axis=-1) & (x.shape[-1] > 1),
            "at least two numbers that increase from 0",
        ),
        "slope": (
            lambda x: (x >= 0) & jnp.all(jnp.diff(x) <= 0, axis=-1, keepdims=True),
            "non-negative and non-increasing",
        ),
        "accuracy": (jnp.isfinite, "finite"),
    }

    def complaint(self) -> str | None:
        rise = jnp.diff(self.sizes) * (self.slope[..., 1:] + self.slope[..., :-1]) / 2
        least = 1e-9 * float(jnp.max(jnp.abs(self.accuracy)))
        if jnp.allclose(jnp.diff(self.accuracy), rise, rtol=1e-6, atol=least):
            return None
        return (
            "`accuracy` must rise by the mean slope times the step between sizes, as `fit_concave` makes it"
        )

    def curve(self, total: jax.Array) -> jax.Array:
        last = self.sizes[-1]
        within = jnp.where(total > last, last, total)  # `clip` would halve the gradient at the ends
        k = jnp.clip(jnp.searchsorted(self.sizes, within, side="right") - 1, 0, len(self.sizes) - 2)
        step = within - self.sizes[k]
        bend = (self.slope[k + 1] - self.slope[k]) / (self.sizes[k + 1] - self.sizes[k])
        inside = self.accuracy[k] + self.slope[k] * step + 0.5 * bend * step**2
        far = jnp.where(total > last, total, last)
        tail = self.accuracy[-1] + self.slope[-1] * last * (1.0 - last / far)
        return jnp.where(total > last, tail, inside)

    def extrapolates(self, total: jax.Array) -> jax.Array:
        """Whether ã at `total` samples comes from the tail, not from measurements."""
        return total > self.sizes[..., -1]
