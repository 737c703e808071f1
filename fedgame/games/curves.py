"""Learning curves: fits the payoff families that define `fit` to measured accuracies.

At the scale of an agent's decision measurements are mostly noise: near an equilibrium ten more samples change
ã by less than one training run differs from the next. So ã is fitted, and the fit error reported.

Sizes [k] are totals in samples; accuracies are [k], or [repetitions, k] with NaN where a size was measured
less often. How a family is fitted is documented in its `fit`.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import payoffs, regression


class Fit(NamedTuple):
    """A fitted curve and how well it fits the mean accuracy at each size."""

    payoff: Any  # of one agent, ready for a `Game`
    rmse: float  # root mean square residual, in units of accuracy
    largest: float  # largest absolute residual
    rises: bool = True  # whether it rises by more than the scatter of what was measured, see `_rises`

    @property
    def parameters(self) -> dict[str, Any]:
        """The payoff's parameters by name, as JSON values."""
        arrays = {name: np.asarray(x) for name, x in vars(self.payoff).items()}
        # Booleans, integers, floats and text; not functions.
        return {name: x.tolist() for name, x in arrays.items() if x.dtype.kind in "biufU"}


def fits() -> dict[str, type[payoffs.OfTotal]]:
    """The families that can be fitted, by name: the choices of `--fit`.

    Those are the registered payoffs of the total whose own class defines `fit`: a class that inherits it
    would be the same choice twice.
    """
    return {name: family for name, family in payoffs.PAYOFFS.items() if "fit" in vars(family)}


def fit(family: str | type[payoffs.OfTotal], sizes: Any, accuracy: Any, start: Any = None) -> Fit:
    """Fits a family to the mean accuracy at each size.

    Args:
      family: a key of `fits()`, or a class that defines `fit`.
      sizes: [k] totals, samples.
      accuracy: [k], or [repetitions, k] whose mean is fitted.
      start: a payoff of the family to begin from; quicker for resampled data.

    Raises:
      ValueError: no family has that name; `regression.check` refuses sizes or accuracies; the family cannot
        be fitted to them, or the fit is not finite.
    """
    if isinstance(family, str):
        known = fits()
        if family not in known:
            raise ValueError(f"`family` must be one of {', '.join(known)}, got {family!r}")
        family = known[family]
    sizes, mean = regression.check(sizes, accuracy)
    payoff = jax.tree.map(lambda x: jnp.asarray(x, float), family.fit(sizes, mean, start))
    residual = np.asarray(values(payoff, jnp.asarray(sizes))) - mean
    if not np.all(np.isfinite(residual)):
        raise ValueError(f"the fitted curve is not finite: {payoff}")
    rises = _rises(mean + residual, residual, np.atleast_2d(np.asarray(accuracy, float)))
    return Fit(payoff, float(np.sqrt(np.mean(residual**2))), float(np.max(np.abs(residual))), rises)


def _rises(fitted: np.ndarray, residual: np.ndarray, accuracy: np.ndarray) -> bool:
    """Whether a curve rises by more than twice its standard error, whatever the scales of both axes are.

    If a + b f were fitted to mean accuracies of standard error σ, that of b, which is 1, were
    σ / √(Σ (f - mean f)²). Residuals tell σ, or repetitions if they differ by more: a curve that may have
    many shapes follows noise closely.

    Args:
      fitted: f, [k], at the sizes in ascending order.
      residual: [k], of the mean accuracies.
      accuracy: [repetitions, k], NaN where there are fewer.
    """
    variance = np.sum(residual**2) / max(len(residual) - 2, 1)
    counts = np.sum(~np.isnan(accuracy), axis=0)
    if np.any(several := counts > 1):
        of_runs = np.nanvar(accuracy[:, several], axis=0, ddof=1)
        variance = max(variance, np.mean(of_runs / counts[several]))
    # A fit to a constant may rise, by some 1e-5, but the constant does not.
    spread = min(np.var(fitted), np.var(fitted - residual)) * len(fitted)
    return bool(fitted[-1] > fitted[0] and spread > 4.0 * variance)


def fit_all(sizes: Any, accuracy: Any, chosen: str) -> dict[str, Fit]:
    """Fits of all families, by name, to compare the chosen one with; without those that cannot be fitted.

    Args:
      sizes: [k] totals, samples.
      accuracy: [k] or [repetitions, k].
      chosen: a key of `fits()`, which must be fitted.

    Raises:
      ValueError: the chosen family cannot be fitted, see `fit`.
    """
    fit_of_chosen = fit(chosen, sizes, accuracy)
    found = {}
    for name in fits():
        if name == chosen:
            found[name] = fit_of_chosen
            continue
        with contextlib.suppress(ValueError, RuntimeError, ArithmeticError):
            found[name] = fit(name, sizes, accuracy)
    return found


def bootstrap(
    family: str | type[payoffs.OfTotal],
    sizes: np.ndarray,
    accuracy: np.ndarray,
    error: np.ndarray | None = None,
    *,
    samples: int,
    seed: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Any:
    """Fits of resampled curves, which show how the noise of measurements moves an equilibrium.

    With repeated measurements, each resample draws r of the r measurements at a size with replacement, and
    multiplies the deviation of their mean from the measured mean by √(r/(r-1)): so its standard deviation is
    the standard error of the mean, also for r = 2 or 3. With standard errors given, adds normal noise to the
    mean. Clips accuracies to [0, 1].

    Args:
      family: as in `fit`.
      sizes: [k] totals, samples.
      accuracy: [repetitions, k], with at least two at every size unless `error` is given.
      error: [k] standard errors of the mean accuracies.
      samples: number of curves.
      seed: of the draws.
      progress: wraps the loop over the curves, like `tqdm.tqdm`.

    Returns:
      The payoff that `fit` makes, with a leading axis [samples] on every parameter.

    Raises:
      ValueError: as `fit`; or a size was measured only once and `error` is not given.
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1, got {samples}")
    original = fit(family, sizes, accuracy).payoff
    resampled = _resampled(sizes, accuracy, error, samples, np.random.default_rng(seed))
    fitted = [fit(family, sizes, mean, start=original).payoff for mean in progress(resampled)]
    return jax.tree.map(lambda *x: jnp.stack(x), *fitted)


def _resampled(
    sizes: Any, accuracy: Any, error: Any, samples: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Mean accuracies [k] of each resample; arguments and errors as `bootstrap`."""
    sizes, mean = regression.check(sizes, accuracy)
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
        by_size = zip(accuracy.T, counts, strict=True)
        means = [np.mean(rng.choice(measured[~np.isnan(measured)], count)) for measured, count in by_size]
        return mean + (np.asarray(means) - mean) * np.sqrt(counts / (counts - 1))

    return [np.clip(draw(), 0.0, 1.0) for _ in range(samples)]


@jax.jit
def values(payoff: Any, totals: jax.Array) -> jax.Array:
    """The curve of a payoff, shared by all agents, at totals [k]."""
    return jax.vmap(payoff.curve)(totals)
