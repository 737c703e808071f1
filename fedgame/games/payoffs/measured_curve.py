"""Section 5.1: accuracy as it was measured."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame import registry
from fedgame.games import regression
from fedgame.games.payoffs import base
from fedgame.registry import option

_RIDGE = 1e-2  # changes a fit by about 1e-5, far less than one training run differs from the next


@registry.register("concave")
class MeasuredCurve(base.OfTotal):
    """A measured accuracy curve ã(S) (Section 5.1): C¹, concave, non-decreasing.

    Between `sizes` the slope is linear, so ã is piecewise quadratic and its gradient exact. ã(0) is
    `accuracy[0]`. Beyond the last size the slope falls as slope[-1] (sizes[-1]/S)², which keeps ã C¹,
    concave and bounded; `extrapolates` says where that is. `fit` makes one from measurements.

    Attributes:
      sizes: [k] totals in samples, increasing from 0.
      accuracy: [k] accuracy at each size.
      slope: [k] its derivative there, per sample; non-increasing, non-negative.
    """

    sizes: Any = option("totals, samples, increasing from 0", low=0, rank=1)
    accuracy: Any = option("the payoff at each of them", rank=1)
    slope: Any = option("its derivative there, per sample, not increasing", low=0, rank=1)

    def complaint(self) -> str | None:
        sizes, accuracy, slope = (np.asarray(x) for x in (self.sizes, self.accuracy, self.slope))
        if sizes.shape[-1] < 2 or np.any(sizes[..., 0] != 0) or np.any(np.diff(sizes) <= 0):
            return f"`sizes` must be at least two numbers that increase from 0, got {sizes}"
        if np.any(np.diff(slope) > 0):
            return f"`slope` must not increase, got {slope}"
        rise = np.diff(sizes) * (slope[..., 1:] + slope[..., :-1]) / 2
        if np.allclose(np.diff(accuracy), rise, rtol=1e-6, atol=1e-9 * np.max(np.abs(accuracy))):
            return None
        return "`accuracy` must rise by the mean slope times the step between sizes, as `fit` makes it"

    def curve(self, total: jax.Array) -> jax.Array:
        last = self.sizes[-1]
        within = jnp.where(total > last, last, total)  # `jnp.clip` would halve the gradient at the ends
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

    def bend(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """|a''| is constant between sizes, and 2 slope[-1] sizes[-1]² / S³ beyond, where it falls with S."""
        sizes, slope = np.asarray(self.sizes), np.asarray(self.slope)
        last_size, last_slope = sizes[..., -1:], slope[..., -1:]

        def beyond(total: float) -> np.ndarray:
            bend = 2 * last_slope * last_size**2 / np.maximum(total, last_size) ** 3
            return np.where(high >= last_size, bend, np.nan)  # NaN: not in [low, high]

        overlap = (sizes[..., :-1] <= high) & (sizes[..., 1:] >= low)
        between = np.where(overlap, -np.diff(slope) / np.diff(sizes), np.nan)
        parts = [between, beyond(low), beyond(high)]
        shape = np.broadcast_shapes(*(x.shape[:-1] for x in parts))
        every = np.concatenate([np.broadcast_to(x, (*shape, x.shape[-1])) for x in parts], axis=-1)
        least, most = np.nanmin(every, axis=-1), np.nanmax(every, axis=-1)
        if most.ndim == 0:  # one curve for all agents: |a''| is a common factor, see `OfTotal.bend`
            return most, most
        return least, most

    @classmethod
    def fit(cls, sizes: np.ndarray, accuracy: np.ndarray, start: Any = None) -> "MeasuredCurve":
        """Least squares over all C¹ concave non-decreasing curves with linear slopes between the sizes.

        No formula is assumed. With slopes d_0 ≥ … ≥ d_k ≥ 0 at the sizes and d_{k+1} = 0, ã is linear in ã(0)
        and in the falls d_j - d_{j+1} ≥ 0, which makes this non-negative least squares. There is one unknown
        more than sizes: of curves that fit equally well, a small ridge picks one whose slope falls evenly.

        Args and errors as `PowerLaw.fit`, with at least 2 sizes, the first of them 0. `start` is ignored, as
        the solution is unique.
        """
        del start
        sizes, mean = regression.check(sizes, accuracy, fewest=2)
        if sizes[0] != 0:
            raise ValueError(
                f"the first size must be 0, got {sizes[0]:g}: ã needs a value "
                "there; add a row for 0 samples (the accuracy of the untrained model) or choose another fit"
            )
        # Column j of `slopes` is a slope that is 1 up to sizes[j] and falls to 0 by sizes[j + 1]; column j of
        # `columns` is the curve with that slope.
        slopes = np.tri(len(sizes)).T
        rises = np.cumsum(np.diff(sizes)[:, None] * (slopes[1:] + slopes[:-1]) / 2, axis=0)
        columns = np.concatenate([np.zeros((1, len(sizes))), rises])
        scale = columns[-1]
        if not np.all(scale > 0):  # areas underflow
            raise ValueError(f"sizes are too small to tell apart, the smallest above 0 is {sizes[1]:g}")
        design = np.column_stack([np.ones(len(sizes)), columns / scale])
        ridge = _RIDGE * np.eye(len(sizes) + 1)[1:]  # on the falls, not on ã(0)
        solution, _ = scipy.optimize.nnls(np.vstack([design, ridge]), np.append(mean, np.zeros(len(sizes))))
        at_0, falls = solution[0], solution[1:] / scale
        return cls(sizes=sizes, accuracy=at_0 + columns @ falls, slope=slopes @ falls)
