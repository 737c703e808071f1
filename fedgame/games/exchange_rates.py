"""Exchange rates: how many of her own samples one of another member's is worth to a member.

z_i = Σ_j w_ij s_j are member i's effective samples, with w_ii = 1 and w_ij ≥ 0, and her accuracy is f_i(z_i):
"effective data" of Hernandez et al. (2021), Scaling Laws for Transfer, with one rate for every pair. f_i is a
power law with a free ceiling, as `PowerLaw.fit` finds it. w ≡ 1 is the paper's assumption that accuracy
depends on the total alone: every sample counts the same for everybody.

Rates are fitted to the accuracies of models that were trained on different mixtures of the members' samples:
`fit`; `choose` says whether the data call for rates at all, `all_rates_one` tests w ≡ 1, `intervals` tells
how sure the rates are, and `missing` which mixtures would have to be added.

Results do not depend on the order of members or on the unit of samples. Their arrays are [n] or [n, n] in the
order of `Mixtures.members`; row i has the rates to member i.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from fedgame.games import regression
from fedgame.games.payoffs import power_law

MODELS = ("total alone", "one rate", "exchange rates")  # from small to large, each a case of the next
MOST = 100.0  # the largest rate: when her own samples teach nothing there is no finite one
_LEAST = 1e-5  # a rate that moves no accuracy by more than this is 0: the search ends just inside its bounds
_EQUAL = 1e-6  # errors of accuracies below it are rounding: without noise every model that is true fits
_CURVE = len(power_law.FIT_STEPS)  # parameters of f_i


class Mixtures(NamedTuple):
    """Accuracies of models that were trained on mixtures of the members' samples."""

    members: tuple[str, ...]  # [n] names
    samples: np.ndarray  # [m, n] samples of each member in each mixture
    accuracy: np.ndarray  # [m, k, n] on each member's own held-out records, k splits; NaN: not measured


class Fit(NamedTuple):
    """Rates and curves fitted to mixtures."""

    model: str  # one of MODELS
    rates: np.ndarray  # [n, n] w_ij, how many of i's own samples one of j's is worth to i
    curves: list[power_law.PowerLaw]  # n payoffs f_i of effective samples, accuracy
    harmful: np.ndarray  # [n, n] whether j's samples harm i: rates that `fit` clipped at 0
    error: np.ndarray  # [n] root mean square residual of the mean accuracies


class _Means(NamedTuple):
    """Mean accuracies, to which everything is fitted."""

    samples: np.ndarray  # [m, n]
    mean: np.ndarray  # [m, n] over splits; 0 where nothing was measured
    splits: np.ndarray  # [m, n] number of splits behind it: the weight of its squared error
    parts: np.ndarray  # [m, k, n] what each split adds to the mean; NaN where it was not measured


class _Data(NamedTuple):
    """What is fitted for one member under one model, which has q rates."""

    own: np.ndarray  # [m] samples that count fully, divided by the largest total
    others: np.ndarray  # [m, q] samples to which a rate applies, likewise
    mean: np.ndarray  # [m] mean accuracy
    splits: np.ndarray  # [m] number of splits behind it
    parts: np.ndarray  # [m, k] what each split adds to the mean; NaN where it was not measured


def fit(mixtures: Mixtures, model: str = "exchange rates", start: Fit | None = None) -> Fit:
    """Fits f_i and w_i to the mean accuracies of each member, by bounded least squares.

    A mean of more splits has proportionally more weight. Members' fits are independent of each other. The
    search begins from several points, and the fit of each smaller model is one of them.

    Data are harmful if their rate is 0 and would without this bound be negative by more than 1.645 standard
    errors (one-sided 5%): as far as one step of Gauss and Newton tells, since z_i < 0 has no accuracy.

    Args:
      mixtures: what was measured.
      model: "total alone": w_ij = 1; "one rate": w_ij = ρ_i for all j ≠ i; "exchange rates": any w_ij ≥ 0.
      start: an earlier fit of the same members to begin from, instead; quicker for resampled data.

    Raises:
      ValueError: the model is none of MODELS, accuracies or samples are not as described, or the mixtures do
        not identify the model, see `missing`.
    """
    check(mixtures)
    _refuse(mixtures, model)
    means = _means(mixtures)
    fitted = _fits(means, model)[-1] if start is None else _fit(means, model, [start])
    others = ~np.eye(len(mixtures.members), dtype=bool)
    for i in range(len(mixtures.members) if model != MODELS[0] else 0):
        fitted.harmful[i, others[i]] = _harmful(_data(means, model, i), _own_parameters(fitted, means, i))
    return fitted


def check(mixtures: Mixtures) -> None:
    """Raises a ValueError if shapes do not match, or samples or accuracies are out of their range."""
    samples, accuracy = np.asarray(mixtures.samples, float), np.asarray(mixtures.accuracy, float)
    n = len(mixtures.members)
    if n < 2:
        raise ValueError(f"exchange rates are between at least two members, got {n}")
    if samples.ndim != 2 or samples.shape[1] != n:
        raise ValueError(f"`samples` must be [m, {n}], a column per member, got shape {samples.shape}")
    if accuracy.ndim != 3 or accuracy.shape[0] != len(samples) or accuracy.shape[2] != n:
        raise ValueError(f"`accuracy` must be [{len(samples)}, k, {n}], got shape {accuracy.shape}")
    if not np.all(np.isfinite(samples) & (samples >= 0)):
        raise ValueError("`samples` must be finite numbers, at least 0")
    if not np.all(np.isnan(accuracy) | ((accuracy >= 0) & (accuracy <= 1))):
        raise ValueError("`accuracy` must lie in [0, 1], or be NaN where it was not measured")


def _means(mixtures: Mixtures) -> _Means:
    splits = np.sum(~np.isnan(mixtures.accuracy), axis=1)
    mean = np.nansum(mixtures.accuracy, axis=1) / np.maximum(splits, 1)
    parts = (mixtures.accuracy - mean[:, None]) / np.maximum(splits, 1)[:, None]
    return _Means(np.asarray(mixtures.samples, float), mean, splits, parts)


def _fits(means: _Means, last: str = MODELS[-1]) -> list[Fit]:
    """Fits of the models from the smallest to `last`, of mixtures that have been checked."""
    found: list[Fit] = []
    for model in MODELS[: MODELS.index(last) + 1]:
        found.append(_fit(means, model, found, widely=True))
    return found


def _fit(means: _Means, model: str, starts: Sequence[Fit], widely: bool = False) -> Fit:
    """Fits one model, also where the mixtures do not identify it; does not look for harmful data.

    Args:
      means: mean accuracies.
      model: one of MODELS.
      starts: fits, of any model, to begin from.
      widely: also begin from `_wide_starts`.
    """
    n, largest = means.samples.shape[1], _largest(means.samples)
    rates, curves, error = np.ones((n, n)), [], np.zeros(n)
    for i in range(n):
        data = _data(means, model, i)
        first = [_parameters(start, model, i, largest) for start in starts]
        found = _search(data, [*first, *_wide_starts(data)] if widely else first)
        curves.append(power_law.PowerLaw.of_fit(found[:_CURVE], largest))
        others = np.arange(n) != i
        rates[i, others] = 1.0 if model == MODELS[0] else found[_CURVE:]
        squares = data.splits * (_curve(found, data) - data.mean) ** 2
        error[i] = np.sqrt(np.sum(squares) / max(np.sum(data.splits), 1))
    return Fit(model, rates, curves, np.zeros((n, n), bool), error)


def _largest(samples: np.ndarray) -> float:
    """The largest total of mixtures [m, n], samples: the unit of the search."""
    return float(np.max(np.sum(samples, axis=1)))


def _columns(samples: np.ndarray, model: str, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples [m] that count fully to member i, and those [m, q] to which the model's q rates apply."""
    own, others = samples[:, i], np.delete(samples, i, axis=1)
    if model == MODELS[0]:
        return own + np.sum(others, axis=1), others[:, :0]
    if model == MODELS[1]:
        return own, np.sum(others, axis=1, keepdims=True)
    return own, others


def _data(means: _Means, model: str, i: int) -> _Data:
    """What member i's fit is made from: the mixtures for which she was measured."""
    there = means.splits[:, i] > 0
    own, others = _columns(means.samples[there] / _largest(means.samples), model, i)
    return _Data(own, others, means.mean[there, i], means.splits[there, i], means.parts[there, :, i])


def _curve(parameters: np.ndarray, data: _Data) -> np.ndarray:
    """Accuracies [m] with parameters [4 + q]: those of f_i, then the rates."""
    return power_law.fit_curve(parameters[:_CURVE], data.own + data.others @ parameters[_CURVE:])


def _jacobian(parameters: np.ndarray, data: _Data) -> np.ndarray:
    """Derivatives [m, 4 + q] of `_curve`, ã(0) + gap (1 - x^-exponent) with x = 1 + z / shift."""
    _, gap, exponent, log_shift = parameters[:_CURVE]
    relative = (data.own + data.others @ parameters[_CURVE:]) / np.exp(log_shift)
    x = 1.0 + relative
    loss = x**-exponent
    slope = gap * exponent * loss / x
    of_curve = [np.ones_like(x), 1.0 - loss, gap * loss * np.log(x), -slope * relative]
    return np.column_stack([*of_curve, slope[:, None] * data.others / np.exp(log_shift)])


def _search(data: _Data, starts: Sequence[Sequence[float]]) -> np.ndarray:
    """The parameters [4 + q] of the best fit found from several starts; without data, the first of them."""
    if len(data.mean) == 0:  # all that a member was measured on may be held out
        return np.asarray(starts[0], float)
    q = data.others.shape[1]
    low, high = power_law.FIT_BOUNDS
    weight = np.sqrt(data.splits / np.mean(data.splits))
    found = regression.least_squares(
        lambda x: weight * (_curve(x, data) - data.mean),
        starts,
        ((*low, *[0.0] * q), (*high, *[MOST] * q)),
        (*power_law.FIT_STEPS, *[1] * q),
        lambda x: weight[:, None] * _jacobian(x, data),
    )
    moves = np.max(np.abs(_jacobian(found, data)), axis=0) * found
    is_rate = np.arange(len(found)) >= _CURVE
    return np.where(is_rate & (moves < _LEAST), 0.0, found)


def _wide_starts(data: _Data) -> list[tuple[float, ...]]:
    """Parameters [4 + q] to begin from beside the fits of smaller models.

    Where the total is a poor model, its fit can be a step or a constant, from which rates do not move.
    """
    q = data.others.shape[1]
    if q == 0:
        return power_law.fit_starts(data.mean)
    curves = power_law.fit_starts(data.mean, exponents=(1.0,))
    return [(*curve, *[rate] * q) for curve in curves for rate in (0.3, 0.03)]


def _parameters(fitted: Fit, model: str, i: int, largest: float) -> np.ndarray:
    """The parameters [4 + q] of a model that come closest to an earlier fit of member i."""
    rates = np.delete(fitted.rates[i], i)
    by_model = {MODELS[0]: rates[:0], MODELS[1]: [np.mean(rates)], MODELS[2]: rates}
    return np.array([*power_law.fit_parameters(fitted.curves[i], largest), *by_model[model]])


def _own_parameters(fitted: Fit, means: _Means, i: int) -> np.ndarray:
    """The parameters [4 + q] of member i's fit."""
    return _parameters(fitted, fitted.model, i, _largest(means.samples))


def _harmful(data: _Data, parameters: np.ndarray) -> np.ndarray:
    """Which rates [q] at 0 would be negative by more than 1.645 standard errors.

    For each of them, one step of Gauss and Newton with all parameters that are not at a bound. Its standard
    error is that which residuals tell, or the splits if that is larger.
    """
    low, high = (np.array(x) for x in power_law.FIT_BOUNDS)
    weight = np.sqrt(data.splits)
    residual = weight * (data.mean - _curve(parameters, data))
    jacobian = weight[:, None] * _jacobian(parameters, data)
    inside = np.minimum(parameters[:_CURVE] - low, high - parameters[:_CURVE]) > 1e-6
    free = jacobian[:, np.append(inside, parameters[_CURVE:] > 0)]
    degrees = max(len(residual) - free.shape[1] - 1, 1)
    harmful = np.zeros(data.others.shape[1], bool)
    for j in np.flatnonzero(parameters[_CURVE:] == 0):
        # What the free parameters cannot explain of the column of j.
        column = jacobian[:, _CURVE + j]
        column = column - free @ np.linalg.lstsq(free, column)[0]
        square = np.sum(column**2)
        if square <= 1e-12 * np.sum(jacobian[:, _CURVE + j] ** 2):
            continue
        step = column @ residual / square
        of_residuals = np.sum((residual - column * step) ** 2) / degrees / square
        of_splits = _variance_over_splits((column * weight / square)[:, None], data.parts)
        # The tiny number is rounding, without noise.
        harmful[j] = step < -1.645 * np.sqrt(max(of_residuals, of_splits, _EQUAL**2 / square))
    return harmful


def _variance_over_splits(directions: np.ndarray, parts: np.ndarray) -> float:
    """The variance over splits of directions [m, d] times mean accuracies, summed over d; 0 with one split.

    Args:
      directions: weights of mixtures.
      parts: [m, k] what each split adds to the means.
    """
    k = np.sum(np.any(~np.isnan(parts), axis=0))
    if k < 2:
        return 0.0
    return float(np.sum((directions.T @ np.nan_to_num(parts)) ** 2) * k / (k - 1))


def missing(mixtures: Mixtures, model: str = "exchange rates") -> list[str]:
    """Which mixtures are missing to identify a model: sentences, none if it is identified.

    f_i is free, so z_i is identified up to its unit and a constant: the samples to which different rates
    apply must not be tied to each other by a linear equation that holds in all mixtures. And for each member
    there must be as many different mixtures as parameters, 4 of the curve and one per rate.

    Args:
      mixtures: what was measured.
      model: one of MODELS.

    Raises:
      ValueError: the model is none of MODELS.
    """
    if model not in MODELS:
        raise ValueError(f"`model` must be one of {', '.join(MODELS)}, got {model!r}")
    sentences: list[str] = []
    measured = np.any(~np.isnan(mixtures.accuracy), axis=1)
    for i, name in enumerate(mixtures.members):
        if not np.any(measured[:, i]):
            sentences.append(f"{name} was never measured: test models on {name}'s own held-out records")
            continue
        where = "" if np.all(measured[:, i]) else f" for which {name} was measured"
        names = _names(mixtures.members, model, i)
        columns = np.column_stack(_columns(mixtures.samples[measured[:, i]], model, i))
        distinct = np.unique(columns, axis=0)
        sentences += [*_too_few(distinct, where), *_tied(distinct, names, where)]
    return list(dict.fromkeys(sentences))  # most are the same for all members


def _names(members: Sequence[str], model: str, i: int) -> list[str]:
    """What the columns of `_columns` are of."""
    if model == MODELS[0]:
        return ["all members together"]
    if model == MODELS[1]:
        return [members[i], f"all members but {members[i]} together"]
    return [members[i], *members[:i], *members[i + 1 :]]


def _too_few(distinct: np.ndarray, where: str) -> list[str]:
    """A sentence if there are fewer different rows of columns [m, 1 + q] than parameters."""
    points, parameters = len(distinct), _CURVE + distinct.shape[1] - 1
    if points >= parameters:
        return []
    kind = "mixtures" if distinct.shape[1] > 1 else "mixtures of different totals"
    return [
        f"there are {points} different {kind}{where}, but {parameters} parameters: add at least "
        f"{parameters - points}, better twice as many mixtures as parameters"
    ]


def _tied(columns: np.ndarray, names: Sequence[str], where: str) -> list[str]:
    """Sentences if a linear equation holds among columns [m, 1 + q] of samples of `names`."""
    varying = np.ptp(columns, axis=0) > 1e-9 * np.max(columns)
    constant = sorted(name for name, varies in zip(names, varying, strict=True) if not varies)
    if constant:
        return [
            f"the samples of {name} are the same in all mixtures{where}: add mixtures with 0 samples of "
            f"{name}, or with much fewer than of the others"
            for name in constant
        ]
    if columns.shape[1] == 1:
        return []
    if np.linalg.matrix_rank(columns / np.max(columns), 1e-9) == 1:
        return [
            f"all mixtures{where} are proportional, so that only the total is identified: add, for each "
            "member, a mixture with 0 of her samples, or with much fewer than of the others"
        ]
    # Directions in which rates can change while z changes by a constant only.
    scaled = (columns - np.mean(columns, axis=0)) / np.std(columns, axis=0)
    _, size, directions = np.linalg.svd(scaled, full_matrices=True)
    size = np.append(size, np.zeros(len(directions) - len(size)))
    part = np.max(np.abs(directions[size < 1e-6 * size[0]]), axis=0, initial=0.0)
    tied = sorted(name for name, there in zip(names, part > 1e-6, strict=True) if there)
    if not tied:
        return []
    return [
        f"the samples of {', '.join(tied[:-1])} and {tied[-1]} are tied by one equation in all mixtures"
        f"{where} (the same proportion or sum, for example), so that their rates cannot be told apart: add "
        "mixtures with 0 samples of one of them, or with much fewer than of the others"
    ]


def _refuse(mixtures: Mixtures, model: str) -> None:
    """Raises a ValueError if mixtures do not identify a model."""
    lacking = missing(mixtures, model)
    if lacking:
        raise ValueError(f"these mixtures do not identify the model {model!r}:\n" + "\n".join(lacking))


class Choice(NamedTuple):
    """Which model the data call for, and why."""

    model: str  # one of MODELS
    error: np.ndarray  # [3, n] root mean square error on held-out mixtures, of MODELS and members; accuracy
    standard_error: np.ndarray  # [3, n] of `error`
    noise: np.ndarray  # [n] standard deviation of a mean accuracy because of its splits; NaN if unknown


def choose(
    mixtures: Mixtures,
    *,
    deals: int = 10,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Choice:
    """Compares the three models by their errors on mixtures that were held out of the fit.

    In each deal the mixtures are dealt into folds at random, all splits of a mixture together, and mixtures
    of the same samples together. Each fold is predicted by fits to the others, which begin from the fit to
    all. A mixture without any samples is never held out: what members have without data is measured, not
    predicted.

    One model is chosen for the whole federation: members' rates are read beside each other, and what one
    member's data leave open the others' may decide. Beginning from the smallest, a larger model replaces the
    current one if the squared error falls by more than one standard error of this fall: relative to the
    current model's, so that every member counts alike, and averaged over members. The standard error is that
    of a mean over mixtures, in which the errors of members and deals are averaged first, as they depend on
    each other.

    `noise` is what remains when the mean of each mixture and what a split does to all mixtures alike are
    taken out: the latter moves curves, but makes no mixture hard to predict. No model can be expected to have
    errors below it.

    Args:
      mixtures: what was measured.
      deals: how often mixtures are dealt.
      folds: per deal, at least 2.
      seed: of the deals.
      progress: wraps the loop over the deals, like `tqdm.tqdm`.

    Raises:
      ValueError: as `fit` with "exchange rates"; `deals` or `folds` are too few, or there are fewer
        different mixtures than folds.
    """
    check(mixtures)
    _refuse(mixtures, MODELS[2])
    some = np.any(np.asarray(mixtures.samples) > 0, axis=1)
    group = np.full(len(some), -1)
    group[some] = _groups(np.asarray(mixtures.samples)[some])
    different = np.max(group) + 1
    if deals < 1 or not 2 <= folds <= different:
        raise ValueError(
            f"`deals` must be at least 1 and `folds` from 2 to {different} (the different mixtures), got "
            f"{deals} and {folds}"
        )
    rng = np.random.default_rng(seed)
    means = _means(mixtures)
    whole = _fits(means)
    squared = np.zeros((len(MODELS), *means.mean.shape))
    for _ in progress(range(deals)):
        fold = np.append(rng.permutation(np.arange(different) % folds), -1)[group]
        for held in range(folds):
            squared[:, fold == held] += _held_out(means, fold == held, whole) / deals
    squared, splits = squared[:, some], means.splits[some]
    # Errors that are rounding alone are equal.
    compared, chosen = np.maximum(squared, _EQUAL**2), 0
    for larger in (1, 2):
        gain, spread = _gain(compared[chosen], compared[larger], splits)
        if gain > spread:
            chosen = larger
    mean, spread = _mean(squared, splits)
    error = np.sqrt(mean)
    # The delta method; the tiny number is for errors of exactly 0.
    return Choice(MODELS[chosen], error, spread / (2 * error + 1e-150), noise(mixtures.accuracy))


def _groups(samples: np.ndarray) -> np.ndarray:
    """The number [m] of each mixture of samples [m, n], from 0 by first appearance; equal ones share it."""
    seen: dict[tuple[float, ...], int] = {}
    return np.array([seen.setdefault(tuple(row), len(seen)) for row in samples.tolist()])


def _held_out(means: _Means, held: np.ndarray, whole: Sequence[Fit]) -> np.ndarray:
    """Squared errors [3, h, n] on h held-out mixtures of fits to the others; 0 where nothing was measured."""
    kept, out = (_Means(*(array[rows] for array in means)) for rows in (~held, held))
    predicted = [predict(_fit(kept, fitted.model, [fitted]), out.samples) for fitted in whole]
    return np.where(out.splits > 0, (np.stack(predicted) - out.mean) ** 2, 0.0)


def predict(fitted: Fit, samples: np.ndarray) -> np.ndarray:
    """The accuracies [m, n] of a fit at mixtures of samples [m, n]."""
    effective = samples @ fitted.rates.T
    by_member = [
        law.best - law.scale * (law.shift + z) ** -law.exponent
        for law, z in zip(fitted.curves, effective.T, strict=True)
    ]
    return np.stack(by_member, axis=1)


def _mean(squared: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [3, n] over mixtures of squares [3, m, n], weighted by splits [m, n]; its standard error."""
    weight = splits / np.sum(splits, axis=0)
    mean = np.sum(weight * squared, axis=-2)
    m = np.sum(splits > 0, axis=0)
    return mean, np.sqrt(np.sum((weight * (squared - mean[..., None, :])) ** 2, axis=-2) * m / (m - 1))


def _gain(smaller: np.ndarray, larger: np.ndarray, splits: np.ndarray) -> tuple[float, float]:
    """How much squared errors [m, n] fall with the larger model, relative to the smaller's; standard error.

    Each is averaged over members.
    """
    weight = splits / np.sum(splits, axis=0)
    per_mixture = np.mean(weight * (smaller - larger) / np.sum(weight * smaller, axis=0), axis=1)
    m = len(per_mixture)
    gain = np.sum(per_mixture)
    return gain, np.sqrt(np.sum((per_mixture - gain / m) ** 2) * m / (m - 1))


def noise(accuracy: np.ndarray) -> np.ndarray:
    """Standard deviation [n] of the mean accuracy of a mixture, from the spread [m, k, n] over its splits.

    What a split does to all mixtures alike is taken out; see `choose`.
    """
    splits = np.sum(~np.isnan(accuracy), axis=1, keepdims=True)
    used = ~np.isnan(accuracy) & (splits > 1)
    left = np.where(used, accuracy, 0.0)
    for axis in (1, 0):  # the mean of each mixture, then that of each split
        left = np.where(used, left - _mean_of(left, used, axis), 0.0)
    mixtures, splits_used = (np.sum(np.any(used, axis=axis), axis=0) for axis in (1, 0))
    degrees = np.sum(used, axis=(0, 1)) - mixtures - np.maximum(splits_used - 1, 0)
    variance = np.where(degrees > 0, np.sum(left**2, axis=(0, 1)) / np.maximum(degrees, 1), np.nan)
    return np.sqrt(variance * np.squeeze(_mean_of(1 / np.maximum(splits, 1), splits > 0, 0), axis=(0, 1)))


def _mean_of(values: np.ndarray, there: np.ndarray, axis: int) -> np.ndarray:
    """The mean along an axis, which is kept, of values that are there; 0 if none are."""
    total = np.sum(np.where(there, values, 0.0), axis=axis, keepdims=True)
    return total / np.maximum(np.sum(there, axis=axis, keepdims=True), 1)


class JointTest(NamedTuple):
    """A test of w ≡ 1."""

    p_value: float  # of all members together; below 0.05: rejected at 5%
    of_member: np.ndarray  # [n] p-value for w_ij = 1 for all j, of each member alone
    design_effect: np.ndarray  # [n] by which F was divided, at least 1


def all_rates_one(mixtures: Mixtures) -> JointTest:
    """Tests jointly whether every sample counts the same for everybody, w ≡ 1.

    For each member an F test of "total alone" within "exchange rates": n - 1 rates are fixed at 1, which is
    no bound, so the usual distribution holds approximately. Members' accuracies on one mixture come from one
    model and need not be independent, so the smallest p-value is multiplied by n (Bonferroni), which never
    rejects too often because of that.

    Mean accuracies of different mixtures are not independent either: all of them have the same splits, and
    the samples that are held out in a split, and those that are left to train on, differ in worth. So F is
    divided by the design effect of Rao and Scott (1984), and has at most the degrees of freedom of the
    splits. With one split this is not possible, and the test may reject too often.

    Raises:
      ValueError: as `fit` with "exchange rates"; a member has no more mixtures than parameters.
    """
    check(mixtures)
    _refuse(mixtures, MODELS[2])
    n = len(mixtures.members)
    means = _means(mixtures)
    degrees = np.sum(means.splits > 0, axis=0) - (_CURVE + n - 1)
    if np.any(degrees < 1):
        few = ", ".join(name for name, d in zip(mixtures.members, degrees, strict=True) if d < 1)
        raise ValueError(f"the test needs at least {_CURVE + n} mixtures per member; too few for {few}")
    null, _, free = _fits(means)
    of_member, effect = np.ones(n), np.ones(n)
    for i in range(n):
        there = means.splits[:, i] > 0
        m = np.sum(there)
        variance = (free.error[i] ** 2 + _EQUAL**2) * m / degrees[i]
        gained = (null.error[i] ** 2 - free.error[i] ** 2) * m / (n - 1)
        parameters = _own_parameters(free, means, i)
        effect[i] = _design_effect(_data(means, MODELS[2], i), parameters, variance)
        splits = np.sum(np.any(~np.isnan(mixtures.accuracy[:, :, i]), axis=0))
        of_splits = (n - 1) * (splits - 1) if splits > 1 else degrees[i]
        ratio = max(gained / (variance * effect[i]), 0.0)
        of_member[i] = scipy.stats.f.sf(ratio, n - 1, min(degrees[i], of_splits))
    return JointTest(min(1.0, n * float(np.min(of_member))), of_member, effect)


def _design_effect(data: _Data, parameters: np.ndarray, variance: float) -> float:
    """How many times the variance that independent residuals tell rates have over splits; at least 1.

    Args:
      data: of one member, for "exchange rates".
      parameters: [4 + q] of her fit.
      variance: of a residual.
    """
    weight = np.sqrt(data.splits / np.mean(data.splits))[:, None]
    jacobian = weight * _jacobian(parameters, data)
    curve, rates = jacobian[:, :_CURVE], jacobian[:, _CURVE:]
    # Orthogonal directions in which rates move accuracies and curves do not.
    directions, size, _ = np.linalg.svd(rates - curve @ np.linalg.lstsq(curve, rates)[0], full_matrices=False)
    directions = directions[:, size > 1e-8 * size[0]]
    of_splits = _variance_over_splits(weight * directions, data.parts)
    return max(1.0, of_splits / (max(1, directions.shape[1]) * variance))


class Intervals(NamedTuple):
    """Bootstrap intervals of rates; NaN where a rate is indistinguishable from 0; 1 on the diagonal."""

    low: np.ndarray  # [n, n]
    high: np.ndarray  # [n, n]


def resample(
    mixtures: Mixtures,
    fitted: Fit,
    *,
    draws: int = 200,
    confidence: float = 0.9,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Fit]:
    """Fits to resampled mixtures: a bootstrap over splits and mixtures.

    Each draw refits to accuracies that are the fitted ones, plus the noise of splits, plus what the model
    misses in each mixture:
      noise   splits are drawn with replacement, the same for all mixtures, since a split that holds out other
              records is easier or harder in all of them; the deviation of k splits' mean is multiplied by
              √(k/(k-1)), as in `curves.bootstrap`, and by the ratio of the quantiles of Student's t with
              k - 1 degrees of freedom and of the normal distribution: few splits tell little of their spread;
      misfit  the residual of each mixture with a random sign (Mammen 1993; Liu 1988), reduced by the share
              of its square that is noise, which is there already.
    Drawing mixtures with replacement as well would count the noise three times: such intervals are about √3
    too wide. The searches begin from `fitted`.

    Args:
      mixtures: what was measured.
      fitted: the fit to them.
      draws: at least 2.
      confidence: of the intervals that are wanted, in (0, 1), for the quantiles of Student's t.
      seed: of the draws.
      progress: wraps the loop over the draws, like `tqdm.tqdm`.

    Raises:
      ValueError: `draws` or `confidence` are not as described, or `mixtures` not as `check` wants them.
    """
    check(mixtures)
    if draws < 2 or not 0 < confidence < 1:
        raise ValueError(
            f"`draws` must be at least 2 and `confidence` in (0, 1), got {draws} and {confidence}"
        )
    rng, upper = np.random.default_rng(seed), (1 + confidence) / 2
    splits = np.maximum(_means(mixtures).splits, 2)
    student = scipy.stats.t.ppf(upper, splits - 1) / scipy.stats.norm.ppf(upper)
    spread = np.sqrt(splits / (splits - 1)) * student
    return [
        _fit(_drawn(mixtures, fitted, rng, spread), fitted.model, [fitted]) for _ in progress(range(draws))
    ]


def intervals(
    mixtures: Mixtures,
    fitted: Fit,
    *,
    draws: int = 200,
    confidence: float = 0.9,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Intervals:
    """Intervals of rates: `intervals_of` the fits of `resample`; arguments and errors as there."""
    resampled = resample(mixtures, fitted, draws=draws, confidence=confidence, seed=seed, progress=progress)
    return intervals_of(fitted, resampled, confidence)


def intervals_of(fitted: Fit, resampled: Sequence[Fit], confidence: float = 0.9) -> Intervals:
    """Intervals of rates from the fits of `resample`.

    Args:
      fitted: the fit to what was measured.
      resampled: fits to resampled mixtures.
      confidence: the share of them within the interval, in (0, 1); the rest is split between both sides.

    Returns:
      Lower and upper ends. NaN where the rate, or the lower end, is 0: "indistinguishable from 0".
    """
    upper = (1 + confidence) / 2
    drawn = np.stack([one.rates for one in resampled])
    low, high = np.quantile(drawn, [1 - upper, upper], axis=0)
    at_0 = (fitted.rates == 0) | (low == 0)
    return Intervals(np.where(at_0, np.nan, low), np.where(at_0, np.nan, high))


def _drawn(mixtures: Mixtures, fitted: Fit, rng: np.random.Generator, spread: np.ndarray) -> _Means:
    """Mean accuracies of one draw of `resample`, with the noise of splits multiplied by `spread`, [m, n]."""
    means = _means(mixtures)
    m, k, n = mixtures.accuracy.shape
    model = predict(fitted, means.samples)
    drawn = _means(mixtures._replace(accuracy=mixtures.accuracy[:, rng.integers(k, size=k)]))
    of_splits = np.where(drawn.splits > 0, spread * (drawn.mean - means.mean), 0.0)
    # Squares of residuals are too small by the parameters that were fitted.
    measured = np.sum(means.splits > 0, axis=0)
    rates = {MODELS[0]: 0, MODELS[1]: 1}.get(fitted.model, n - 1)
    square = fitted.error**2 * measured / np.maximum(measured - _CURVE - rates, 1)
    of_noise = np.nan_to_num(noise(mixtures.accuracy)) ** 2
    share = np.sqrt(np.maximum(square - of_noise, 0.0) / np.maximum(fitted.error**2, 1e-24))
    misfit = rng.choice([-1.0, 1.0], size=(m, 1)) * share * (means.mean - model)
    return means._replace(mean=model + of_splits + misfit)
