"""Eq. (3): payoffs whose loss falls as a power of the samples."""

from collections.abc import Sequence
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
        relative, starts = sizes / longest, fit_starts(mean)
        if start is not None:
            starts = [fit_parameters(start, longest)]
        found = regression.least_squares(
            lambda x: fit_curve(x, relative) - mean, starts, FIT_BOUNDS, FIT_STEPS
        )
        return cls.of_fit(found, longest)

    @classmethod
    def of_fit(cls, parameters: np.ndarray, longest: float) -> "PowerLaw":
        """The power law of one agent with the parameters of a fit, [4], see `FIT_BOUNDS`."""
        at_0, gap, exponent, log_shift = parameters
        shift = longest * np.exp(log_shift)
        # Not clipped, as ã(0) ≥ 0.
        return cls(at_0 + gap, gap * shift**exponent, exponent=exponent, shift=shift, clip=False)


# The parameters of `fit`: ã(0), gap = best - ã(0), exponent, log(shift / longest). `longest` is the largest
# number of samples in the data, so that the fit does not depend on the unit of samples.
FIT_BOUNDS = (0.0, 0.0, 1e-2, -12.0), (1.0, 1.0, 10.0, 3.0)
FIT_STEPS = (1, 1, 1, 3)


def fit_curve(parameters: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """The power law with the parameters of a fit, [4], at samples / longest, [k]."""
    at_0, gap, exponent, log_shift = parameters
    return at_0 + gap - gap * (1.0 + relative / np.exp(log_shift)) ** -exponent


def fit_starts(mean: np.ndarray, exponents: Sequence[float] = (0.3, 1.0, 3.0)) -> list[tuple[float, ...]]:
    """Parameters of a fit to mean accuracies [k], from which a search begins: three for each exponent."""
    spread = np.clip(np.ptp(mean), 1e-3, 1.0)
    return [
        (mean.min(), spread, exponent, log_shift) for exponent in exponents for log_shift in (-6.0, -3.0, 0.0)
    ]


def fit_parameters(payoff: PowerLaw, longest: float) -> tuple[float, ...]:
    """The parameters of a fit that a power law of one agent has."""
    exponent, shift = float(payoff.exponent), float(payoff.shift)
    shift = max(shift, longest * np.exp(FIT_BOUNDS[0][3]))  # Eq. (3) has shift 0, whose log is -∞
    gap = float(payoff.scale) * shift**-exponent
    return float(payoff.best) - gap, gap, exponent, np.log(shift / longest)
