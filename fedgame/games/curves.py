"""Learning curves: from measured accuracies to a payoff, with the families that define `fit`.

A raw curve is noise at the scale of an agent's decision: near an equilibrium ten more samples change
ã by less than one training run differs from the next. So ã is fitted, and the fit error reported.

Sizes [k] are totals in samples; accuracies are [k], or [repetitions, k] with NaN where a size was measured
less often. How a family is fitted stands in its `fit`.
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

    @property
    def parameters(self) -> dict[str, Any]:
        """The payoff's numbers by name, as JSON values."""
        found = {name: np.asarray(x) for name, x in vars(self.payoff).items()}
        return {name: x.tolist() for name, x in found.items() if x.dtype.kind in "biufU"}


def fits() -> dict[str, type[payoffs.OfTotal]]:
    """The families that can be fitted, by name: the choices of `--fit`.

    Those are the registered payoffs of the total in whose own class `fit` stands: a class that only inherits
    it would be the same choice twice.
    """
    return {name: family for name, family in payoffs.PAYOFFS.items() if "fit" in vars(family)}


def fit(family: str | type[payoffs.OfTotal], sizes: Any, accuracy: Any, start: Any = None) -> Fit:
    """Fits a family to the mean accuracy at each size.

    Args:
      family: a key of `fits()`, or a class that defines `fit`.
      sizes: [k].
      accuracy: [k], or [repetitions, k] whose mean is fitted.
      start: a payoff of the family to begin from; quicker for resampled data.

    Raises:
      ValueError: no family has that name; sizes or accuracies are not as `regression.check` wants them; the
        family cannot be fitted to them, or the fit is not finite.
    """
    if isinstance(family, str):
        known = fits()
        if family not in known:
            raise ValueError(f"`family` must be one of {', '.join(known)}, got {family!r}")
        family = known[family]
    sizes, mean = regression.check(sizes, accuracy)
    payoff = jax.tree.map(lambda x: jnp.asarray(x, float), family.fit(sizes, mean, start))
    residual = np.asarray(_at(payoff, jnp.asarray(sizes))) - mean
    if not np.all(np.isfinite(residual)):
        raise ValueError(f"the fitted curve is not finite: {payoff}")
    return Fit(payoff, float(np.sqrt(np.mean(residual**2))), float(np.max(np.abs(residual))))


def fit_all(sizes: Any, accuracy: Any, chosen: str) -> dict[str, Fit]:
    """Every family's fit, by name, to compare the chosen one with; without those that cannot be fitted.

    Raises:
      ValueError: as `fit`, of the chosen one.
    """
    found = {chosen: fit(chosen, sizes, accuracy)}
    for name in (name for name in fits() if name != chosen):
        with contextlib.suppress(ValueError, RuntimeError, ArithmeticError):
            found[name] = fit(name, sizes, accuracy)
    return {name: found[name] for name in fits() if name in found}


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
    """Fits of resampled curves, to see what the noise of the measurements does to an equilibrium.

    With repeated measurements each resample draws, at every size, as many of that size's r measurements
    with replacement, and moves their mean away from the measured mean by √(r/(r-1)), so that its standard
    deviation is the standard error of the mean, also for r = 2 or 3. With standard errors given,
    normal noise is added. Accuracies stay in [0, 1].

    Args:
      family: as of `fit`.
      sizes: [k].
      accuracy: [repetitions, k], with at least two at every size unless `error` is given.
      error: [k] standard errors of the mean accuracies.
      samples: how many curves.
      seed: of the draws.
      progress: wraps the loop over the curves, like `tqdm.tqdm`.

    Returns:
      The payoff that `fit` makes, with a leading axis [samples] on every parameter.

    Raises:
      ValueError: as the fit does; or nothing says how far measurements may be off.
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1, got {samples}")
    original = fit(family, sizes, accuracy).payoff
    drawn = _resampled(sizes, accuracy, error, samples, np.random.default_rng(seed))
    fitted = [fit(family, sizes, mean, start=original).payoff for mean in progress(drawn)]
    return jax.tree.map(lambda *x: jnp.stack(x), *fitted)


def _resampled(
    sizes: Any, accuracy: Any, error: Any, samples: int, rng: np.random.Generator
) -> list[np.ndarray]:
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
        means = [np.mean(rng.choice(x[~np.isnan(x)], n)) for x, n in zip(accuracy.T, counts, strict=True)]
        return mean + (np.asarray(means) - mean) * np.sqrt(counts / (counts - 1))

    return [np.clip(draw(), 0.0, 1.0) for _ in range(samples)]


@jax.jit
def _at(payoff: Any, sizes: jax.Array) -> jax.Array:
    return jax.vmap(payoff.curve)(sizes)
