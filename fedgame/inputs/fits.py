"""Rates and curves fitted to mixtures, made once: a process remembers them, launch.measure writes them down.

They take longer than all else that is computed from them, and are determined by the mixtures: so they stand
in `exchange_fits.json` beside the mixtures, with a digest of what they were fitted to.
"""

import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import __version__
from fedgame.games import exchange_rates as fitted_rates
from fedgame.games import payoffs
from fedgame.runs import jobs
from fedgame.runs.workdir import Workdir

FILE = "exchange_fits.json"
CHOSEN = "chosen"
_DEALS = 10  # of mixtures into those that are fitted and those that are predicted
_DRAWS = 200  # of mixtures and splits, for intervals of rates


class Exchange(NamedTuple):
    """What was found in mixtures of n members."""

    choice: fitted_rates.Choice  # errors on held-out mixtures, and which model they speak for
    fit: fitted_rates.Fit  # of that model
    intervals: fitted_rates.Intervals | None  # of its rates; None if it has none
    test: fitted_rates.JointTest  # of w ≡ 1
    samples: np.ndarray  # [m, n] of the mixtures
    without_data: bool  # whether it was measured what members have if nobody gives any samples
    resampled: list[fitted_rates.Fit]  # fits of the same model to resampled mixtures
    metric: str = "accuracy"  # what the accuracies are


def fitted(mixtures: fitted_rates.Mixtures, model: str = CHOSEN, metric: str = "accuracy") -> Exchange:
    """Rates and curves that fit mixtures.

    Args:
      mixtures: what was measured.
      model: one of `exchange_rates.MODELS`, or CHOSEN: that which predicts held-out mixtures best.
      metric: what the accuracies are.

    Raises:
      ValueError: as `exchange_rates.choose`.
    """
    members, samples, accuracy = mixtures
    samples, accuracy = np.asarray(samples, float), np.asarray(accuracy, float)
    return _fitted_once(members, samples.tobytes(), accuracy.tobytes(), accuracy.shape, model, metric)


@functools.lru_cache(maxsize=8)  # a sweep asks again for each of its variants
def _fitted_once(
    members: tuple[str, ...], samples: bytes, accuracy: bytes, shape: tuple[int, ...], model: str, metric: str
) -> Exchange:
    """`fitted`, once for the same numbers: samples [m, n] and accuracies of `shape` [m, k, n], float64."""
    mixtures = fitted_rates.Mixtures(
        members, np.frombuffer(samples).reshape(shape[0], shape[2]), np.frombuffer(accuracy).reshape(shape)
    )
    bar = functools.partial(jobs.progress, "predicting held-out mixtures", _DEALS, 0)
    choice = fitted_rates.choose(mixtures, deals=_DEALS, progress=bar)
    fit = fitted_rates.fit(mixtures, choice.model if model == CHOSEN else model)
    test = fitted_rates.all_rates_one(mixtures)
    bar = functools.partial(jobs.progress, "resampling the mixtures", _DRAWS, 0)
    resampled = fitted_rates.resample(mixtures, fit, draws=_DRAWS, progress=bar)
    return _exchange(mixtures, choice, fit, test, resampled, metric)


def _exchange(
    mixtures: fitted_rates.Mixtures,
    choice: fitted_rates.Choice,
    fit: fitted_rates.Fit,
    test: fitted_rates.JointTest,
    resampled: list[fitted_rates.Fit],
    metric: str,
) -> Exchange:
    """What was found, with what follows from it."""
    intervals = None
    if fit.model != fitted_rates.MODELS[0]:
        intervals = fitted_rates.intervals_of(fit, resampled)
    without_data = bool(np.any(np.all(mixtures.samples == 0, axis=1)))
    return Exchange(choice, fit, intervals, test, mixtures.samples, without_data, resampled, metric)


def payoff_of(exchange: Exchange, own: str, capacity: np.ndarray) -> Any:
    """The payoff that was fitted to mixtures: of effective samples, or of the total if that is all there is.

    Args:
      exchange: what was fitted.
      own: as of --own.
      capacity: [n] records that members own.
    """
    curve = jax.tree.map(lambda *x: jnp.stack(x), *exchange.fit.curves)
    if own != payoffs.ALWAYS and exchange.fit.model == fitted_rates.MODELS[0]:
        return curve
    return effective(curve, exchange.fit.rates, own, capacity)


def effective(curve: Any, rates: np.ndarray, own: str, capacity: np.ndarray) -> payoffs.EffectiveSamples:
    """The payoff of effective samples with these rates and the curve that is given."""
    return payoffs.EffectiveSamples(curve, rates, capacity if own == payoffs.ALWAYS else 0.0, own)


def in_order(exchange: Exchange, places: Sequence[int]) -> Exchange:
    """The same with members in another order: the first is the one at places[0] now, and so on."""
    at = np.asarray(places)

    def of_fit(fit: fitted_rates.Fit) -> fitted_rates.Fit:
        return fitted_rates.Fit(
            fit.model,
            fit.rates[np.ix_(at, at)],
            [fit.curves[i] for i in places],
            fit.harmful[np.ix_(at, at)],
            fit.error[at],
        )

    choice, test, ends = exchange.choice, exchange.test, exchange.intervals
    return exchange._replace(
        choice=fitted_rates.Choice(
            choice.model, choice.error[:, at], choice.standard_error[:, at], choice.noise[at]
        ),
        fit=of_fit(exchange.fit),
        intervals=None if ends is None else fitted_rates.Intervals(*(end[np.ix_(at, at)] for end in ends)),
        test=fitted_rates.JointTest(test.p_value, test.of_member[at], test.design_effect[at]),
        samples=exchange.samples[:, at],
        resampled=[of_fit(fit) for fit in exchange.resampled],
    )


def write(work: Workdir, mixtures: fitted_rates.Mixtures, exchange: Exchange) -> None:
    """Writes `exchange_fits.json` beside the mixtures that the fits are of."""
    found = {
        "of": _digest(mixtures),
        "choice": _plain(exchange.choice),
        "fit": _plain_fit(exchange.fit),
        "test": _plain(exchange.test),
        "resampled": [_plain_fit(fit) for fit in exchange.resampled],
    }
    work.write_json(FILE, found)


def read(folder: str, mixtures: fitted_rates.Mixtures, model: str, metric: str) -> Exchange | None:
    """What was written beside mixtures; None if nothing was, or of other mixtures or another model.

    Raises:
      ValueError: the file has changed since it was written.
    """
    work = Workdir(pathlib.Path(folder))
    if not work.has(FILE):
        return None
    try:
        found = work.read_json(FILE)
        if found["of"] != _digest(mixtures):
            return None
        n = len(mixtures.members)
        choice = fitted_rates.Choice(*(_array(x) for x in found["choice"]))
        _check(choice, (None, (len(fitted_rates.MODELS), n), (len(fitted_rates.MODELS), n), (n,)))
        fit = _fit(found["fit"], n)
        if fit.model != (choice.model if model == CHOSEN else model):
            return None
        test = fitted_rates.JointTest(*(_array(x) for x in found["test"]))
        _check(test, ((), (n,), (n,)))
        return _exchange(mixtures, choice, fit, test, [_fit(one, n) for one in found["resampled"]], metric)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{work.path / FILE} holds no fits, delete it: {error!r}") from None


def _digest(mixtures: fitted_rates.Mixtures) -> str:
    """The digest of all that decides what the fits to mixtures are."""
    of = hashlib.sha256(repr((__version__, mixtures.members, _DEALS, _DRAWS)).encode())
    for numbers in (mixtures.samples, mixtures.accuracy):
        array = np.ascontiguousarray(numbers, float)
        of.update(repr(array.shape).encode() + array.tobytes())
    return of.hexdigest()


def _plain(found: NamedTuple) -> list[Any]:
    """Texts, numbers and arrays as JSON values."""
    return [x if isinstance(x, str) else np.asarray(x).tolist() for x in found]


def _plain_fit(fit: fitted_rates.Fit) -> list[Any]:
    """A fit as JSON values."""
    laws = [[float(x) for x in (law.best, law.scale, law.exponent, law.shift)] for law in fit.curves]
    return _plain(fit._replace(curves=laws))


def _fit(plain: list[Any], n: int) -> fitted_rates.Fit:
    """The fit of n members that `_plain_fit` wrote."""
    model, rates, laws, harmful, error = plain
    curves = [payoffs.PowerLaw(*map(float, law)) for law in laws]
    found = fitted_rates.Fit(model, np.array(rates, float), curves, np.array(harmful, bool), np.array(error))
    _check(found, (None, (n, n), None, (n, n), (n,)))
    if len(curves) != n:
        raise ValueError(f"{len(curves)} curves of {n} members")
    return found


def _check(found: NamedTuple, shapes: Sequence[tuple[int, ...] | None]) -> None:
    """Raises a `ValueError` for a model that there is not, and for arrays of other shapes; None: anything."""
    if getattr(found, "model", fitted_rates.MODELS[0]) not in fitted_rates.MODELS:
        raise ValueError(f"no model {found.model!r}")
    for name, array, shape in zip(found._fields, found, shapes, strict=True):
        if shape is not None and np.shape(array) != shape:
            raise ValueError(f"`{name}` has shape {np.shape(array)}, not {shape}")


def _array(plain: Any) -> Any:
    """The array of a list; texts and numbers stay what they are."""
    return np.array(plain) if isinstance(plain, list) else plain
