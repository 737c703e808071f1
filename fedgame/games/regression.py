"""Least-squares regression, which the `fit` of payoff families share.

Minimises the squared error of the mean accuracy at each size, with equal weights. Payoffs import this module;
`curves` imports the payoffs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy


def check(sizes: Any, accuracy: Any, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Checks measurements; returns the sizes and the mean accuracy at each, [k] both.

    Args:
      sizes: [k] totals in samples.
      accuracy: [k], or [repetitions, k] with NaN where a size was measured less often.
      fewest: the minimum number of sizes.

    Raises:
      ValueError: sizes are too few, or not finite, increasing and non-negative; accuracies have another
        shape, lie outside [0, 1], or are missing at a size.
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
    in_range = missing | ((accuracy >= 0) & (accuracy <= 1))
    never_measured = np.all(np.atleast_2d(missing), axis=0)
    if not np.all(in_range) or np.any(never_measured):
        raise ValueError(f"`accuracy` must lie in [0, 1], at least once at every size, got {accuracy}")
    return sizes, np.nanmean(np.atleast_2d(accuracy), axis=0)


def least_squares(
    residual: Callable[[np.ndarray], np.ndarray],
    starts: Sequence[Sequence[float]],
    bounds: tuple[Sequence[float], Sequence[float]],
    scale: Sequence[float],
    jacobian: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Nonlinear least squares from several starts: the parameters [p] of the best local minimum found.

    Args:
      residual: from parameters [p] to residuals [k].
      starts: parameters to begin from, [p] each; clipped to the bounds.
      bounds: the minimum and the maximum parameters, [p] each.
      scale: [p] typical sizes of steps.
      jacobian: from parameters [p] to the derivatives of residuals [k, p]; None: by differences.
    """
    # SciPy wants starts strictly between the bounds.
    low, high = np.asarray(bounds[0]) + 1e-9, np.asarray(bounds[1]) - 1e-9
    derivatives = "2-point" if jacobian is None else jacobian
    fits = [
        scipy.optimize.least_squares(
            residual, np.clip(start, low, high), derivatives, bounds=bounds, x_scale=scale
        )
        for start in starts
    ]
    return min(fits, key=lambda fit: fit.cost).x
