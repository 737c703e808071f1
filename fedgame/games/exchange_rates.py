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
    # [n, n] whether j's samples harm i: without the bound at 0 the rate would be negative by more than 1.645
    # standard errors (one-sided 5%).
    harmful: np.ndarray
    error: np.ndarray  # [n] root mean square residual of the mean accuracies


class _Means(NamedTuple):
    """Mean accuracies, to which everything is fitted."""

    samples: np.ndarray  # [m, n]
    mean: np.ndarray  # [m, n] over splits; 0 where nothing was measured
    splits: np.ndarray  # [m, n] number of splits behind it: the weight of its squared error


class _Data(NamedTuple):
    """What is fitted for one member under one model, which has q rates."""

    own: np.ndarray  # [m] samples that count fully, divided by the largest total
    others: np.ndarray  # [m, q] samples to which a rate applies, likewise
    mean: np.ndarray  # [m] mean accuracy
    splits: np.ndarray  # [m] number of splits behind it


def fit(mixtures: Mixtures, model: str = "exchange rates", start: Fit | None = None) -> Fit:
    """Fits f_i and w_i to the mean accuracies of each member, by bounded least squares.

    A mean of more splits has proportionally more weight. Members' fits are independent of each other. The
    search begins from several points, and the fit of each smaller model is one of them.

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
    return _fit(_means(mixtures), model, start)


def check(mixtures: Mixtures) -> None:
    """Raises a ValueError unless shapes match, samples are ≥ 0 and accuracies, where measured, in [0, 1]."""
    samples, accuracy = np.asarray(mixtures.samples, float), np.asarray(mixtures.accuracy, float)
    n = len(mixtures.members)
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
    return _Means(np.asarray(mixtures.samples, float), mean, splits)


def _fit(means: _Means, model: str, start: Fit | None = None) -> Fit:
    """`fit` of mixtures that have been checked; also of those that do not identify the model."""
    n, largest = means.samples.shape[1], _largest(means.samples)
    rates, harmful = np.ones((n, n)), np.zeros((n, n), bool)
    curves, error = [], np.zeros(n)
    for i in range(n):
        data = _data(means, model, i)
        if start is None:
            found = _search_from_smaller_models(means, model, i)
        else:
            found = _search(data, [_parameters(start, model, i, largest)])
        moved = np.max(np.abs(_jacobian(found, data)), axis=0) * found
        found = np.where((np.arange(len(found)) >= _CURVE) & (moved < _LEAST), 0.0, found)
        curves.append(power_law.PowerLaw.of_fit(found[:_CURVE], largest))
        others = np.arange(n) != i
        rates[i, others] = 1.0 if model == MODELS[0] else found[_CURVE:]
        harmful[i, others] = False if model == MODELS[0] else _harmful(data, found)
        error[i] = np.sqrt(np.average((_curve(found, data) - data.mean) ** 2, weights=data.splits))
    return Fit(model, rates, curves, harmful, error)


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
    return _Data(own, others, means.mean[there, i], means.splits[there, i])


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
    """The parameters [4 + q] of the best fit found from several starts."""
    q = data.others.shape[1]
    low, high = power_law.FIT_BOUNDS
    weight = np.sqrt(data.splits / np.mean(data.splits))
    return regression.least_squares(
        lambda x: weight * (_curve(x, data) - data.mean),
        starts,
        ((*low, *[0.0] * q), (*high, *[MOST] * q)),
        (*power_law.FIT_STEPS, *[1] * q),
        lambda x: weight[:, None] * _jacobian(x, data),
    )


def _search_from_smaller_models(means: _Means, model: str, i: int) -> np.ndarray:
    """The best fit of member i that begins from those of the smaller models, and from small rates.

    Where the total is a poor model, its fit can be a step or a constant, from which rates do not move: so the
    curves of `fit_starts` are tried too.
    """
    data = _data(means, MODELS[0], i)
    curves = power_law.fit_starts(data.mean)
    total = _search(data, curves)
    if model == MODELS[0]:
        return total
    small = 0.3
    one = _search(_data(means, MODELS[1], i), [(*total, 1.0), *[(*curve, small) for curve in curves]])
    if model == MODELS[1]:
        return one
    data = _data(means, model, i)
    q = data.others.shape[1]
    smaller = [(*total, *[1.0] * q), (*one[:_CURVE], *[one[_CURVE]] * q)]
    return _search(
        data, [*smaller, *[(*curve, *[rate] * q) for curve in curves for rate in (small, small / 10)]]
    )


def _parameters(fitted: Fit, model: str, i: int, largest: float) -> np.ndarray:
    """The parameters [4 + q] of a model that come closest to an earlier fit of member i."""
    rates = np.delete(fitted.rates[i], i)
    by_model = {MODELS[0]: rates[:0], MODELS[1]: [np.mean(rates)], MODELS[2]: rates}
    return np.array([*power_law.fit_parameters(fitted.curves[i], largest), *by_model[model]])


def _harmful(data: _Data, parameters: np.ndarray) -> np.ndarray:
    """Which rates [q] at 0 would be negative by more than 1.645 standard errors.

    For each of them, one step of Gauss and Newton with all parameters that are not at a bound.
    """
    low, high = (np.array(x) for x in power_law.FIT_BOUNDS)
    weight = np.sqrt(data.splits)
    residual = weight * (data.mean - _curve(parameters, data))
    jacobian = weight[:, None] * _jacobian(parameters, data)
    free = np.append(
        np.minimum(parameters[:_CURVE] - low, high - parameters[:_CURVE]) > 1e-6, parameters[_CURVE:] > 0
    )
    degrees = max(len(residual) - np.sum(free) - 1, 1)
    harmful = np.zeros(data.others.shape[1], bool)
    for j in np.flatnonzero(parameters[_CURVE:] == 0):
        with_j = jacobian[:, np.append(np.flatnonzero(free), _CURVE + j)]
        # What the other parameters cannot explain of the column of j, and of the residual.
        column = with_j[:, -1] - with_j[:, :-1] @ np.linalg.lstsq(with_j[:, :-1], with_j[:, -1])[0]
        square = np.sum(column**2)
        if square <= 1e-12 * np.sum(with_j[:, -1] ** 2):
            continue
        step = column @ residual / square
        spread = np.sqrt(max(np.sum((residual - column * step) ** 2) / degrees, 1e-24) / square)
        harmful[j] = step < -1.645 * spread
    return harmful


def missing(mixtures: Mixtures, model: str = "exchange rates") -> list[str]:
    """Which mixtures are missing to identify a model: sentences, none if it is identified.

    f_i is free, so z_i is identified up to its unit and a constant: the samples to which different rates apply
    must not be tied to each other by a linear equation that holds in all mixtures. And for each member there
    must be as many different mixtures as parameters, 4 of the curve and one per rate.

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
        distinct = np.unique(mixtures.samples[measured[:, i]], axis=0)
        where = "" if np.all(measured[:, i]) else f" for which {name} was measured"
        sentences += _too_few(distinct, model, i, where) + _tied(mixtures.members, distinct, model, i, where)
    return list(dict.fromkeys(sentences))  # most are the same for all members


def _too_few(distinct: np.ndarray, model: str, i: int, where: str) -> list[str]:
    """A sentence if there are fewer different mixtures [m, n] than parameters."""
    own, others = _columns(distinct, model, i)
    points = len(np.unique(np.column_stack([own, others]), axis=0))
    needed = _CURVE + others.shape[1]
    if points >= needed:
        return []
    kind = "totals" if model == MODELS[0] else "mixtures"
    return [
        f"there are {points} different {kind}{where}, but {needed} parameters: add at least {needed - points} "
        f"{kind}, better twice as many as parameters"
    ]


def _tied(members: Sequence[str], distinct: np.ndarray, model: str, i: int, where: str) -> list[str]:
    """A sentence if a linear equation holds in all mixtures [m, n] among what different rates apply to."""
    own, others = _columns(distinct, model, i)
    rest = [name for j, name in enumerate(members) if j != i]
    names = {MODELS[0]: ["all together"], MODELS[1]: [members[i], "the others together"]}
    names = names.get(model, [members[i], *rest])
    columns = np.column_stack([own, others])
    varying = np.ptp(columns, axis=0) > 1e-9 * np.max(columns)
    constant = [name for name, varies in zip(names, varying, strict=True) if not varies]
    if model == MODELS[0]:
        return [f"the total is the same in all mixtures{where}: add mixtures of other totals"] * len(constant)
    less = "gives 0 or much less than the others"
    if constant:
        in_order = sorted(constant)
        return [
            f"{name} gives the same in all mixtures{where}: add mixtures in which {name} {less}"
            for name in in_order
        ]
    if np.linalg.matrix_rank(distinct / np.max(distinct), 1e-9) == 1:
        return [
            f"all mixtures{where} are proportional, so that only the total is identified: add, for each "
            f"member, a mixture in which this member {less}"
        ]
    centred = (columns - np.mean(columns, axis=0)) / np.std(columns, axis=0)
    _, size, directions = np.linalg.svd(centred, full_matrices=True)
    size = np.append(size, np.zeros(len(names) - len(size)))
    free = directions[size < 1e-6 * size[0]]
    tied = sorted(
        name for name, parts in zip(names, free.T, strict=True) if np.max(np.abs(parts), initial=0) > 1e-6
    )
    if not tied:
        return []
    return [
        f"what {', '.join(tied[:-1])} and {tied[-1]} give is tied by the same equation in all mixtures{where} "
        "(the same proportion or sum, for example), so that their rates cannot be told apart: add mixtures in "
        f"which one of them {less}"
    ]


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
    all.

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
      ValueError: as `fit` with "exchange rates"; `deals` or `folds` are too few, or `folds` more than there are
        different mixtures.
    """
    check(mixtures)
    _refuse(mixtures, MODELS[2])
    _, group = np.unique(mixtures.samples, axis=0, return_inverse=True)
    group = group.reshape(-1)
    if deals < 1 or not 2 <= folds <= np.max(group) + 1:
        raise ValueError(
            f"`deals` must be at least 1 and `folds` from 2 to the {np.max(group) + 1} different mixtures, got "
            f"{deals} and {folds}"
        )
    rng = np.random.default_rng(seed)
    means = _means(mixtures)
    whole = [_fit(means, model) for model in MODELS]
    squared = np.zeros((len(MODELS), *means.mean.shape))
    for _ in progress(range(deals)):
        fold = rng.permutation(np.arange(np.max(group) + 1) % folds)[group]
        for held in range(folds):
            squared[:, fold == held] += _held_out(means, fold == held, whole) / deals
    chosen = 0
    for larger in (1, 2):
        gain, spread = _gain(squared[chosen], squared[larger], means.splits)
        if gain > spread:
            chosen = larger
    mean, spread = _mean(squared, means.splits)
    error = np.sqrt(mean)
    return Choice(MODELS[chosen], error, spread / (2 * error), _noise(mixtures.accuracy))


def _refuse(mixtures: Mixtures, model: str) -> None:
    """Raises a ValueError if mixtures do not identify a model."""
    lacking = missing(mixtures, model)
    if lacking:
        raise ValueError(f"these mixtures do not identify the model {model!r}:\n" + "\n".join(lacking))


def _held_out(means: _Means, held: np.ndarray, whole: Sequence[Fit]) -> np.ndarray:
    """Squared errors [3, h, n] on h held-out mixtures of fits to the others; 0 where nothing was measured."""
    kept, out = (_Means(*(array[rows] for array in means)) for rows in (~held, held))
    predicted = [predict(_fit(kept, fitted.model, fitted), out.samples) for fitted in whole]
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
    """The mean [..., n] over mixtures of squares [..., m, n], weighted by splits [m, n]; and its standard error."""
    weight = splits / np.sum(splits, axis=0)
    mean = np.sum(weight * squared, axis=-2)
    m = np.sum(splits > 0, axis=0)
    return mean, np.sqrt(np.sum((weight * (squared - mean[..., None, :])) ** 2, axis=-2) * m / (m - 1))


def _gain(smaller: np.ndarray, larger: np.ndarray, splits: np.ndarray) -> tuple[float, float]:
    """How much squared errors [m, n] fall with the larger model, relative to the smaller's; standard error.

    Each is averaged over members.
    """
    weight = splits / np.sum(splits, axis=0)
    # The tiny number makes the gain 0, not NaN, where both models are exact.
    per_mixture = np.mean(weight * (smaller - larger) / (np.sum(weight * smaller, axis=0) + 1e-18), axis=1)
    m = len(per_mixture)
    gain = np.sum(per_mixture)
    return gain, np.sqrt(np.sum((per_mixture - gain / m) ** 2) * m / (m - 1))


def _noise(accuracy: np.ndarray) -> np.ndarray:
    """Standard deviation [n] of the mean accuracy of a mixture, from the spread [m, k, n] over its splits."""
    measured = ~np.isnan(accuracy)
    counts = np.sum(measured, axis=1, keepdims=True)
    kept = measured & (counts > 1)
    left = np.where(kept, accuracy, 0.0)
    left = np.where(kept, left - np.sum(left, axis=1, keepdims=True) / np.maximum(counts, 1), 0.0)
    of_split = np.sum(left, axis=0) / np.maximum(np.sum(kept, axis=0), 1)
    left = np.where(kept, left - of_split, 0.0)
    mixtures, splits = np.sum(np.any(kept, axis=1), axis=0), np.sum(np.any(kept, axis=0), axis=0)
    degrees = np.sum(kept, axis=(0, 1)) - mixtures - splits + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        of_one = np.where(degrees > 0, np.sum(left**2, axis=(0, 1)) / degrees, np.nan)
        return np.sqrt(
            of_one
            * np.sum(np.where(counts > 0, 1 / counts, 0), axis=(0, 1))
            / np.sum(counts > 0, axis=(0, 1))
        )


class JointTest(NamedTuple):
    """A test of w ≡ 1."""

    p_value: float  # of all members together; below 0.05: rejected at 5%
    of_member: np.ndarray  # [n] p-value for w_ij = 1 for all j, of each member alone


def all_rates_one(mixtures: Mixtures) -> JointTest:
    """Tests jointly whether every sample counts the same for everybody, w ≡ 1.

    For each member an F test of "total alone" within "exchange rates": n - 1 rates are fixed at 1, which is no
    bound, so the usual distribution holds approximately. Members' accuracies on one mixture come from one
    model and need not be independent, so the smallest p-value is multiplied by n (Bonferroni), which never
    rejects too often because of that. Mean accuracies of different mixtures must be independent of each
    other, but for what a split does to all of them alike.

    Raises:
      ValueError: as `fit` with "exchange rates"; a member has no more mixtures than parameters.
    """
    check(mixtures)
    _refuse(mixtures, MODELS[2])
    n = len(mixtures.members)
    means = _means(mixtures)
    null, free = _fit(means, MODELS[0]), _fit(means, MODELS[2])
    measured = np.sum(means.splits > 0, axis=0)
    degrees = measured - (_CURVE + n - 1)
    if np.any(degrees < 1):
        few = ", ".join(name for name, d in zip(mixtures.members, degrees, strict=True) if d < 1)
        raise ValueError(f"the test needs at least {_CURVE + n} mixtures per member; too few for {few}")
    # Accuracies equal to 1e-8 are equal: what is left of noise-free data is rounding.
    squared_null, squared_free = null.error**2 + 1e-16, free.error**2 + 1e-16
    ratio = (squared_null - squared_free) / (n - 1) / (squared_free / degrees)
    of_member = scipy.stats.f.sf(np.maximum(ratio, 0.0), n - 1, degrees)
    return JointTest(min(1.0, n * float(np.min(of_member))), of_member)


class Intervals(NamedTuple):
    """Bootstrap intervals of rates; NaN where a rate is indistinguishable from 0; 1 on the diagonal."""

    low: np.ndarray  # [n, n]
    high: np.ndarray  # [n, n]


def intervals(
    mixtures: Mixtures,
    fitted: Fit,
    *,
    draws: int = 200,
    confidence: float = 0.9,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Intervals:
    """Intervals of rates by bootstrap over splits and mixtures.

    Each draw refits to accuracies that are the fitted ones, plus the noise of splits, plus what the model
    misses in each mixture:
      noise   splits are drawn with replacement, the same for all mixtures, since a split that holds out other
              records is easier or harder in all of them; the deviation of k splits' mean is multiplied by
              √(k/(k-1)), as in `curves.bootstrap`;
      misfit  the residual of each mixture with a random sign (Mammen 1993; Liu 1988), reduced by the share
              of its square that is noise, which is there already.
    Drawing mixtures with replacement as well would count the noise three times: such intervals are about √3
    too wide. The searches begin from `fitted`.

    Args:
      mixtures: what was measured.
      fitted: the fit to them.
      draws: at least 2.
      confidence: the share of draws within the interval, in (0, 1); the rest is split between both sides.
      seed: of the draws.
      progress: wraps the loop over the draws, like `tqdm.tqdm`.

    Returns:
      Lower and upper ends. NaN where the rate, or the lower end, is 0: "indistinguishable from 0".

    Raises:
      ValueError: `draws` or `confidence` are not as described, or `mixtures` not as `check` wants them.
    """
    check(mixtures)
    if draws < 2 or not 0 < confidence < 1:
        raise ValueError(
            f"`draws` must be at least 2 and `confidence` in (0, 1), got {draws} and {confidence}"
        )
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [_fit(_drawn(mixtures, fitted, rng), fitted.model, fitted).rates for _ in progress(range(draws))]
    )
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    at_0 = (fitted.rates == 0) | (low == 0)
    return Intervals(np.where(at_0, np.nan, low), np.where(at_0, np.nan, high))


def _drawn(mixtures: Mixtures, fitted: Fit, rng: np.random.Generator) -> _Means:
    """Mean accuracies of one draw of `intervals`."""
    means = _means(mixtures)
    m, k, n = mixtures.accuracy.shape
    model = predict(fitted, means.samples)
    drawn = _means(mixtures._replace(accuracy=mixtures.accuracy[:, rng.integers(k, size=k)]))
    noise = np.where(drawn.splits > 0, drawn.mean - means.mean, 0.0)
    noise *= np.sqrt(means.splits / np.maximum(means.splits - 1, 1))
    # Squares of residuals are too small by the parameters that were fitted.
    measured = np.sum(means.splits > 0, axis=0)
    rates = {MODELS[0]: 0, MODELS[1]: 1}.get(fitted.model, n - 1)
    square = fitted.error**2 * measured / np.maximum(measured - _CURVE - rates, 1)
    of_noise = np.nan_to_num(_noise(mixtures.accuracy)) ** 2
    share = np.sqrt(np.maximum(square - of_noise, 0.0) / np.maximum(fitted.error**2, 1e-24))
    misfit = rng.choice([-1.0, 1.0], size=(m, 1)) * share * (means.mean - model)
    return means._replace(mean=model + noise + misfit)
