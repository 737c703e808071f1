"""From measured accuracies to a payoff: concave, non-decreasing fits of a learning curve ã.

A raw curve is noise at the scale of an agent's decision: near an equilibrium ten more samples change
ã by less than one training run differs from the next. So ã is fitted, and the fit error reported.

Every fit takes sizes [k], totals in samples, and accuracies, [k] or [repetitions, k] with NaN where a size
was measured less often. It is plain least squares on the mean at each size, all sizes alike.
"""

from collections.abc import Callable, Iterable
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


def fit_power_law(sizes: np.ndarray, accuracy: np.ndarray, start: payoffs.PowerLaw | None = None) -> Fit:
    """Least squares for best - scale (shift + S)^-exponent, the power law (3) with a free ceiling.

    The shift keeps the curve finite at S = 0, so it is concave and increasing on all of S ≥ 0 and
    smooth: equilibria then move continuously with costs.

    Args:
      sizes: [k], at least 4, increasing from any size.
      accuracy: [k], or [repetitions, k] whose mean is fitted.
      start: a power law to begin from, instead of from several; quicker for resampled data.

    Raises:
      ValueError: sizes or accuracies do not fit the description.
    """
    sizes, mean = _check(sizes, accuracy, fewest=4)
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
    x = _least_squares(lambda x: curve(x) - mean, starts, bounds, (1, 1, 1, 3))
    at_0, gap, exponent, log_shift = x
    shift = longest * np.exp(log_shift)
    law = payoffs.PowerLaw(at_0 + gap, gap * shift**exponent, exponent, shift, clip=False)  # ã(0) ≥ 0
    return _fit(law, sizes, mean)


def fit_bound(
    sizes: np.ndarray, accuracy: np.ndarray, start: payoffs.GeneralizationBound | None = None
) -> Fit:
    """Least squares for the generalisation bound (2), clipped at 0: its `best` and its `difficulty`.

    (2) is what can be guaranteed, not what is measured: its term 4/√S has no parameter, so measured
    curves are fitted badly, as the fit error shows.

    Args and errors: as `fit_power_law`, with at least 3 sizes.
    """
    sizes, mean = _check(sizes, accuracy, fewest=3)

    def curve(parameters: np.ndarray) -> np.ndarray:
        best, k = parameters[0], np.exp(parameters[1])
        r = 2.0 * k / (2.0 + np.sqrt(4.0 + 2.0 * k))  # below, the formula falls; see `GeneralizationBound`
        defined = sizes > k * np.exp(r * r / (2.0 * k) - 2.0)
        safe = np.where(defined, sizes, k)
        raw = best - (4.0 + np.sqrt(2.0 * k * (2.0 + np.log(safe / k)))) / np.sqrt(safe)
        return np.where(defined, np.maximum(raw, 0.0), 0.0)

    bounds = (0.0, -12.0), (1.0, 14.0)
    starts = [(b, k) for b in (min(1.0, mean.max() + 0.05), 1.0) for k in (-6.0, -2.0, 0.0, 2.0, 4.0, 6.0)]
    if start is not None:
        # Where the curve is 0 it has no gradient: an easier start reaches the sizes that are 0 in the first.
        starts = [(float(start.best), float(np.log(start.difficulty)) - easier) for easier in (0.0, 2.0)]
    best, log_k = _least_squares(lambda x: curve(x) - mean, starts, bounds, (1, 3))
    return _fit(payoffs.GeneralizationBound(best, np.exp(log_k)), sizes, mean)


def fit_concave(sizes: np.ndarray, accuracy: np.ndarray, start: Any = None) -> Fit:
    """Least squares over all C¹ concave non-decreasing curves with linear slopes between the sizes.

    No formula is assumed. With slopes d_0 ≥ … ≥ d_k ≥ 0 at the sizes, ã is linear in ã(0) and in
    the falls d_j - d_{j+1} ≥ 0, which makes this non-negative least squares. There is one unknown
    more than sizes: a small ridge picks, among curves that fit alike, one whose slope falls evenly.

    Args and errors: as `fit_power_law`, with at least 2 sizes, the first of them 0. There is one
    solution, so `start` makes no difference.
    """
    del start
    sizes, mean = _check(sizes, accuracy, fewest=2)
    if sizes[0] != 0:
        raise ValueError(
            f"the first size must be 0, got {sizes[0]:g}: ã needs a value "
            "there; add a row for 0 samples (the accuracy of the untrained model) or choose another fit"
        )
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


FITS = {"power": fit_power_law, "bound": fit_bound, "concave": fit_concave}


def bootstrap(
    fit: str,
    sizes: np.ndarray,
    accuracy: np.ndarray,
    error: np.ndarray | None = None,
    *,
    samples: int,
    seed: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Any:
    """Fits of resampled curves, to see what the noise of the measurements does to an equilibrium.

    With repeated measurements each resample draws, at every size, as many of that size's r measurements
    with replacement, and moves their mean away from the measured mean by √(r/(r-1)), so that its standard
    deviation is the standard error of the mean, also for r = 2 or 3. With standard errors given,
    normal noise is added. Accuracies stay in [0, 1].

    Args:
      fit: a key of `FITS`.
      sizes: [k].
      accuracy: [repetitions, k], with at least two at every size unless `error` is given.
      error: [k] standard errors of the mean accuracies.
      samples: how many curves.
      seed: of the draws.
      progress: wraps the loop over the curves, like `tqdm.tqdm`.

    Returns:
      The payoff family that `fit` makes, with a leading axis [samples] on every parameter.

    Raises:
      ValueError: as the fit does; or nothing says how far measurements may be off.
    """
    if fit not in FITS or samples < 1:
        raise ValueError(f"`fit` must be one of {', '.join(FITS)}, `samples` positive, got {fit}, {samples}")
    original = FITS[fit](sizes, accuracy).payoff
    drawn = _resampled(sizes, accuracy, error, samples, np.random.default_rng(seed))
    fits = [FITS[fit](sizes, mean, start=original).payoff for mean in progress(drawn)]
    return jax.tree.map(lambda *x: jnp.stack(x), *fits)


def _resampled(
    sizes: Any, accuracy: Any, error: Any, samples: int, rng: np.random.Generator
) -> list[np.ndarray]:
    sizes, mean = _check(sizes, accuracy, fewest=2)
    accuracy = np.atleast_2d(np.asarray(accuracy, float))
    counts = np.sum(~np.isnan(accuracy), axis=0)
    if error is not None:
        error = np.asarray(error, float)
        if error.shape != sizes.shape or not np.all(np.isfinite(error) & (error >= 0)):
            raise ValueError(f"`error` must be [{len(sizes)}] finite non-negative numbers, got {error}")
    elif np.any(counts < 2):
        once = ", ".join(f"{size:g}" for size in sizes[counts < 2])
        raise ValueError(f"give repeated measurements or standard errors: there is one measurement at {once}")

    def draw() -> np.ndarray:
        if error is not None:
            return mean + error * rng.normal(size=len(mean))
        means = [np.mean(rng.choice(x[~np.isnan(x)], n)) for x, n in zip(accuracy.T, counts, strict=True)]
        return mean + (np.asarray(means) - mean) * np.sqrt(counts / (counts - 1))

    return [np.clip(draw(), 0.0, 1.0) for _ in range(samples)]


def _least_squares(residual: Callable, starts: list, bounds: tuple, scale: tuple) -> np.ndarray:
    low, high = np.asarray(bounds[0]) + 1e-9, np.asarray(bounds[1]) - 1e-9
    fits = [
        scipy.optimize.least_squares(residual, np.clip(start, low, high), bounds=bounds, x_scale=scale)
        for start in starts
    ]
    return min(fits, key=lambda fit: fit.cost).x


def _check(sizes: Any, accuracy: Any, fewest: int) -> tuple[np.ndarray, np.ndarray]:
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


def _fit(payoff: Any, sizes: np.ndarray, mean: np.ndarray) -> Fit:
    payoff = jax.tree.map(lambda x: jnp.asarray(x, float), payoff)
    residual = np.asarray(_at(payoff, jnp.asarray(sizes))) - mean
    return Fit(payoff, float(np.sqrt(np.mean(residual**2))), float(np.max(np.abs(residual))))


@jax.jit
def _at(payoff: Any, sizes: jax.Array) -> jax.Array:
    return jax.vmap(payoff.curve)(sizes)
