"""Least-squares regression: what the `fit` of payoff families share.

Plain least squares on the mean accuracy at each size, all sizes alike. Below the payoffs, which import it;
`curves` is above them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy


def check(sizes: Any, accuracy: Any, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The sizes and the mean accuracy at each, [k] both.

    Args:
      sizes: [k] totals in samples.
      accuracy: [k], or [repetitions, k] with NaN where a size was measured less often.
      fewest: how many sizes are needed.

    Raises:
      ValueError: sizes are fewer, or not finite, increasing and non-negative; accuracies have another shape,
        are outside [0, 1], or missing at a size.
    """
    sizes, accuracy = np.asarray(sizes, float), np.asarray(accuracy, float)
    finite = sizes.ndim == 1 and np.all(np.isfinite(sizes))
    if not finite or len(sizes) < fewest or np.any(np.diff(sizes) <= 0) or sizes[0] < 0:
        raise ValueError(f"`sizes` must be at least {fewest} non-negative increasing numbers, got {sizes}")
    if accuracy.shape[-1:] != sizes.shape or accuracy.ndim > 2:
        raise ValueError(
            f"`accuracy` must be [{len(sizes)}] or [repetitions, {len(sizes)}] like `sizes`, "
            f"got shape {accuracy.shape}"
        )
    missing = np.isnan(accuracy)
    if not np.all(missing | ((accuracy >= 0) & (accuracy <= 1))) or np.any(
        np.all(np.atleast_2d(missing), axis=0)
    ):
        raise ValueError(f"`accuracy` must lie in [0, 1], at least once at every size, got {accuracy}")
    return sizes, np.nanmean(np.atleast_2d(accuracy), axis=0)


def least_squares(
    residual: Callable[[np.ndarray], np.ndarray],
    starts: Sequence[Sequence[float]],
    bounds: tuple[Sequence[float], Sequence[float]],
    scale: Sequence[float],
) -> np.ndarray:
    """Multi-start nonlinear least squares: the parameters [p] of the best local minimum found.

    Args:
      residual: from parameters [p] to residuals [k].
      starts: points to begin from, [p] each; they are moved between the bounds, where scipy wants them.
      bounds: the smallest and the largest parameters, [p] each.
      scale: [p] sizes of typical steps.
    """
    low, high = np.asarray(bounds[0]) + 1e-9, np.asarray(bounds[1]) - 1e-9
    fits = [
        scipy.optimize.least_squares(residual, np.clip(start, low, high), bounds=bounds, x_scale=scale)
        for start in starts
    ]
    return min(fits, key=lambda fit: fit.cost).x
