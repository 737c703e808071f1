"""From measured accuracies to a payoff: concave, non-decreasing fits of a learning curve ã.

A raw curve is noise at the scale of an agent's decision: near an equilibrium ten more samples change
ã by less than one training run differs from the next. So ã is fitted, and the fit error reported.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from fedgame.games import payoffs

_RIDGE = 1e-2  # moves a fit by some 1e-5, far less than one training run deviates


class Fit(NamedTuple):
    """A fitted curve and how well it fits the mean accuracy at each size."""

    payoff: Any  # a payoff family with scalar parameters, ready for a `Game`
    rmse: float  # root mean square residual, in units of accuracy
    largest: float  # largest absolute residual


def fit_power_law(sizes: np.ndarray, accuracy: np.ndarray) -> Fit:
    """Least squares for best - scale (shift + S)^-exponent, the power law (3) with a free ceiling.

    The shift keeps the curve finite at S = 0, so it is concave and increasing on all of S ≥ 0 and
    smooth: equilibria then move continuously with costs.

    Args:
      sizes: [k] totals in samples, at least 4 different ones.
      accuracy: [k], or [seeds, k] whose mean is fitted.

    Raises:
      ValueError: sizes or accuracies do not fit the description.
    """
    sizes, mean = _check(sizes, accuracy, fewest=4)
    longest = sizes.max()

    def curve(parameters: np.ndarray) -> np.ndarray:
        start, gap, exponent, log_shift = parameters
        return start + gap - gap * (1.0 + sizes / (longest * np.exp(log_shift))) ** -exponent

    bounds = (0.0, 0.0, 1e-2, -12.0), (1.0, 1.0, 10.0, 3.0)
    spread = np.clip(np.ptp(mean), 1e-3, 1.0)
    starts = [(mean.min(), spread, e, d) for e in (0.3, 1.0, 3.0) for d in (-6.0, -3.0, 0.0)]
    fits = [
        scipy.optimize.least_squares(
            lambda x: curve(x) - mean, np.clip(start, *bounds), bounds=bounds, x_scale=(1, 1, 1, 3)
        )
        for start in starts
    ]
    start, gap, exponent, log_shift = min(fits, key=lambda fit: fit.cost).x
    shift = longest * np.exp(log_shift)
    law = payoffs.PowerLaw(start + gap, gap * shift**exponent, exponent, shift, clip=False)  # ã(0) ≥ 0
    return _fit(law, sizes, mean)


def fit_concave(sizes: np.ndarray, accuracy: np.ndarray) -> Fit:
    """Least squares over all C¹ concave non-decreasing curves with linear slopes between the sizes.

    No formula is assumed. With slopes d_0 ≥ … ≥ d_k ≥ 0 at the sizes, ã is linear in ã(0) and in
    the falls d_j - d_{j+1} ≥ 0, which makes this non-negative least squares. There is one unknown
    more than sizes: a small ridge picks, among curves that fit alike, one whose slope falls evenly.

    Args and errors: as `fit_power_law`, with at least 2 sizes, the first of them 0.
    """
    sizes, mean = _check(sizes, accuracy, fewest=2)
    if sizes[0] != 0:
        raise ValueError(f"the first size must be 0, got {sizes[0]}: ã needs a value there")
    # Column j: the curve whose slope is 1 up to sizes[j] and falls to 0 by sizes[j + 1].
    slopes = np.tri(len(sizes)).T
    rises = np.cumsum(np.diff(sizes)[:, None] * (slopes[1:] + slopes[:-1]) / 2, axis=0)
    columns = np.concatenate([np.zeros((1, len(sizes))), rises])
    scale = columns[-1]
    design = np.column_stack([np.ones(len(sizes)), columns / scale])
    ridge = _RIDGE * np.eye(len(sizes) + 1)[1:]
    start, *falls = scipy.optimize.nnls(np.vstack([design, ridge]), np.append(mean, 0 * sizes))[0]
    falls = falls / scale
    curve = payoffs.MeasuredCurve(sizes, start + columns @ falls, slopes @ falls)
    return _fit(curve, sizes, mean)


FITS = {"power": fit_power_law, "concave": fit_concave}


def _check(sizes: Any, accuracy: Any, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    sizes, accuracy = np.asarray(sizes, float), np.asarray(accuracy, float)
    if sizes.ndim != 1 or len(sizes) < fewest or np.any(np.diff(sizes) <= 0) or sizes[0] < 0:
        raise ValueError(f"`sizes` must be at least {fewest} non-negative increasing numbers, got {sizes}")
    if accuracy.shape[-1:] != sizes.shape or accuracy.ndim > 2:
        raise ValueError(
            f"`accuracy` must be [{len(sizes)}] or [seeds, {len(sizes)}] like `sizes`, "
            f"got shape {accuracy.shape}"
        )
    if not np.all((accuracy >= 0) & (accuracy <= 1)):
        raise ValueError(f"`accuracy` must lie in [0, 1], got {accuracy}")
    return sizes, np.mean(np.atleast_2d(accuracy), axis=0)


def _fit(payoff: Any, sizes: np.ndarray, mean: np.ndarray) -> Fit:
    payoff = jax.tree.map(lambda x: jnp.asarray(x, float), payoff)
    residual = np.asarray(jax.vmap(payoff.curve)(jnp.asarray(sizes))) - mean
    return Fit(payoff, float(np.sqrt(np.mean(residual**2))), float(np.max(np.abs(residual))))
