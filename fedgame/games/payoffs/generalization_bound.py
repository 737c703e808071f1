"""Eq. (2): the accuracy that a generalisation bound guarantees."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import regression
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.register("bound")
class GeneralizationBound(base.OfTotal):
    """Eq. (2): a_i(s) = best - (4 + √(2k(2 + log(S/k)))) / √S with k = `difficulty`, and a_i(0) = 0.

    Clipped at 0 it is not concave on [0, τ]: an agent can have two local maxima, 0 and an interior
    contribution. The formula is undefined below S = k·e⁻² and *falls* with more data just above,
    where it is even positive for large k. The clipped payoff is 0 until the formula rises and is
    positive; from there on it is concave if best ≤ 2, as it is for accuracies.
    """

    best: Any = option("the payoff of endless data, accuracy")
    difficulty: Any = option("k, samples: the dimension of what is to be learned", above=0)
    clip: bool = option("payoffs are 0 where the formula is below 0 or falls", True, static=True)

    @property
    def concave(self) -> bool:
        return self.clip

    def complaint(self) -> str | None:
        if self.clip and jnp.any(self.best > 2):
            return f"`best` must be at most 2, where (2) clipped at 0 is concave, got {self.best}"
        return None

    def curve(self, total: jax.Array) -> jax.Array:
        k = self.difficulty
        first = self._lowest() if self.clip else k * jnp.exp(-2.0)
        defined = ~(total <= first)  # not `total > first`, so that NaN stays NaN
        safe = jnp.where(defined, total, k)  # keeps value and gradient finite where the formula is undefined
        raw = self.best - (4.0 + jnp.sqrt(2.0 * k * (2.0 + jnp.log(safe / k)))) / jnp.sqrt(safe)
        raw = jnp.where(defined, raw, jnp.nan)
        return jnp.where(defined & ~(raw <= 0), raw, 0.0) if self.clip else raw

    def _lowest(self) -> jax.Array:
        """The total S at which the formula stops falling: there √(2k(2 + log(S/k))) = r with r² + 4r = 2k."""
        k = self.difficulty
        r = 2.0 * k / (2.0 + jnp.sqrt(4.0 + 2.0 * k))
        return k * jnp.exp(r * r / (2.0 * k) - 2.0)

    def pays_from(self) -> jax.Array:
        """By bisection of log S, up to e⁶⁰ times the total at which the formula stops falling; else ∞."""
        lowest = jnp.log(self._lowest())
        farthest = lowest + 60.0

        def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bracket
            middle = (low + high) / 2
            pays = self.curve(jnp.exp(middle)) > 0
            return jnp.where(pays, low, middle), jnp.where(pays, middle, high)

        _, zero = jax.lax.fori_loop(0, 60, halve, (lowest, farthest))
        return jnp.where(self.curve(jnp.exp(farthest)) > 0, jnp.exp(zero), jnp.inf)

    @classmethod
    def fit(
        cls, sizes: np.ndarray, accuracy: np.ndarray, start: "GeneralizationBound | None" = None
    ) -> "GeneralizationBound":
        """Least squares for the bound (2), clipped at 0: its `best` and its `difficulty`.

        (2) is a guarantee, not a model of measurements: its term 4/√S has no parameter, so the fit error for
        measured curves is large.

        Args and errors as `PowerLaw.fit`, with at least 3 sizes.
        """
        sizes, mean = regression.check(sizes, accuracy, fewest=3)

        def curve(parameters: np.ndarray) -> np.ndarray:
            best, k = parameters[0], np.exp(parameters[1])
            r = 2.0 * k / (2.0 + np.sqrt(4.0 + 2.0 * k))  # see `_lowest`
            defined = sizes > k * np.exp(r * r / (2.0 * k) - 2.0)
            safe = np.where(defined, sizes, k)
            raw = best - (4.0 + np.sqrt(2.0 * k * (2.0 + np.log(safe / k)))) / np.sqrt(safe)
            return np.where(defined, np.maximum(raw, 0.0), 0.0)

        bounds = (0.0, -12.0), (1.0, 14.0)
        log_difficulties = (-6.0, -2.0, 0.0, 2.0, 4.0, 6.0)
        starts = [(best, log_k) for best in (min(1.0, mean.max() + 0.05), 1.0) for log_k in log_difficulties]
        if start is not None:
            # At sizes where the curve is 0 it has no gradient. With a smaller k it is positive at more sizes.
            best, log_k = float(start.best), float(np.log(start.difficulty))
            starts = [(best, log_k), (best, log_k - 2.0)]
        best, log_k = regression.least_squares(lambda x: curve(x) - mean, starts, bounds, (1, 3))
        return cls(best, np.exp(log_k))
