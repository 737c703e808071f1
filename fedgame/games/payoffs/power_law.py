"""Eq. (3): payoffs whose loss falls as a power of the samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import regression
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.register("power")
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

    @classmethod
    def fit(cls, sizes: np.ndarray, accuracy: np.ndarray, start: "PowerLaw | None" = None) -> "PowerLaw":
        """Least squares for best - scale (shift + S)^-exponent, the power law (3) with a free ceiling.

        The shift keeps the curve finite at S = 0, so it is concave and increasing on all of S ≥ 0 and
        smooth: equilibria then move continuously with costs.

        Args:
          sizes: [k], at least 4, increasing from any size.
          accuracy: [k].
          start: a power law to begin from, instead of from several; quicker for resampled data.

        Raises:
          ValueError: sizes or accuracies do not fit the description.
        """
        sizes, mean = regression.check(sizes, accuracy, fewest=4)
        longest = sizes.max()

        def curve(parameters: np.ndarray) -> np.ndarray:
            at_0, gap, exponent, log_shift = parameters
            return at_0 + gap - gap * (1.0 + sizes / (longest * np.exp(log_shift))) ** -exponent

        bounds = (0.0, 0.0, 1e-2, -12.0), (1.0, 1.0, 10.0, 3.0)
        spread = np.clip(np.ptp(mean), 1e-3, 1.0)
        starts = [(mean.min(), spread, e, d) for e in (0.3, 1.0, 3.0) for d in (-6.0, -3.0, 0.0)]
        if start is not None:
            best, scale, exponent, shift = (
                float(x) for x in (start.best, start.scale, start.exponent, start.shift)
            )
            shift = max(shift, longest * np.exp(bounds[0][3]))  # Eq. (3) has none
            gap = scale * shift**-exponent
            starts = [(best - gap, gap, exponent, np.log(shift / longest))]
        x = regression.least_squares(lambda x: curve(x) - mean, starts, bounds, (1, 1, 1, 3))
        at_0, gap, exponent, log_shift = x
        shift = longest * np.exp(log_shift)
        return cls(at_0 + gap, gap * shift**exponent, exponent, shift, clip=False)  # ã(0) ≥ 0
