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
        some = ~(data <= 0)  # not `data > 0`, so that NaN stays NaN
        safe = jnp.where(some, data, 1.0)  # keeps value and gradient finite at S = 0
        loss = self.scale * jnp.exp(-self.exponent * jnp.log(safe))  # one log for all agents' exponents
        without_data = jnp.where(self.scale > 0, -jnp.inf, self.best)
        raw = jnp.where(some, self.best - loss, without_data)
        return jnp.maximum(raw, 0.0) if self.clip else raw

    def pays_from(self) -> jax.Array:
        if not self.clip:
            return jnp.zeros(())
        ratio = self.scale / jnp.where(self.best > 0, self.best, 1.0)
        zero = jnp.maximum(ratio ** (1.0 / self.exponent) - self.shift, 0.0)
        return jnp.where(self.best > 0, zero, jnp.inf)

    def bend(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """|a''| = scale x (x + 1) (S + shift)^(-x - 2) with the exponent x; it falls with S.

        The common factor is the slowest of all agents' falls: that with the largest shift and least exponent.
        """
        x, shift, scale = (np.asarray(part) for part in (self.exponent, self.shift, self.scale))

        def at(total: float) -> np.ndarray:
            return scale * x * (x + 1) * (total + shift) ** (-x - 2)

        with np.errstate(divide="ignore", invalid="ignore"):
            common = ((low + np.max(shift)) / (high + np.max(shift))) ** (np.min(x) + 2)
            least, most = at(high) / common, at(low)
        # Without a loss there is no curvature, but at S = 0 the formula is 0 · ∞ = NaN.
        return np.where(scale == 0, 0.0, least), np.where(scale == 0, 0.0, most)

    @classmethod
    def fit(cls, sizes: np.ndarray, accuracy: np.ndarray, start: "PowerLaw | None" = None) -> "PowerLaw":
        """Least squares for best - scale (shift + S)^-exponent, the power law (3) with a free ceiling.

        The shift keeps the curve finite at S = 0, so it is concave and increasing on all of S ≥ 0 and
        smooth: equilibria then move continuously with costs.

        Args:
          sizes: [k ≥ 4] totals in samples, non-negative and increasing.
          accuracy: [k] in [0, 1].
          start: a power law to begin from, instead of from several starts; quicker for resampled data.

        Raises:
          ValueError: sizes or accuracies are not as described.
        """
        sizes, mean = regression.check(sizes, accuracy, fewest=4)
        longest = sizes.max()

        def curve(parameters: np.ndarray) -> np.ndarray:
            at_0, gap, exponent, log_shift = parameters  # gap = best - ã(0); log_shift = log(shift / longest)
            return at_0 + gap - gap * (1.0 + sizes / (longest * np.exp(log_shift))) ** -exponent

        bounds = (0.0, 0.0, 1e-2, -12.0), (1.0, 1.0, 10.0, 3.0)
        spread = np.clip(np.ptp(mean), 1e-3, 1.0)
        starts = [
            (mean.min(), spread, exponent, log_shift)
            for exponent in (0.3, 1.0, 3.0)
            for log_shift in (-6.0, -3.0, 0.0)
        ]
        if start is not None:
            exponent, shift = float(start.exponent), float(start.shift)
            shift = max(shift, longest * np.exp(bounds[0][3]))  # Eq. (3) has shift 0, whose log is -∞
            gap = float(start.scale) * shift**-exponent
            starts = [(float(start.best) - gap, gap, exponent, np.log(shift / longest))]
        found = regression.least_squares(lambda x: curve(x) - mean, starts, bounds, (1, 1, 1, 3))
        at_0, gap, exponent, log_shift = found
        shift = longest * np.exp(log_shift)
        # Not clipped, as ã(0) ≥ 0.
        return cls(at_0 + gap, gap * shift**exponent, exponent=exponent, shift=shift, clip=False)
