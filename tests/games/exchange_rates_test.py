import numpy as np
import pytest

from fedgame.games import exchange_rates
from fedgame.games.payoffs import power_law

MEMBERS = ("Cleveland", "Budapest", "Long Beach")
RATES = np.array([[1.0, 0.5, 0.2], [0.05, 1.0, 0.8], [1.5, 0.3, 1.0]])
CURVES = [(0.5, 0.3, 1.0, 60.0), (0.6, 0.3, 0.6, 40.0), (0.4, 0.5, 1.2, 90.0)]  # ã(0), gap, exponent, shift
SIZES = np.array([200.0, 150.0, 120.0])


def laws():
    return [
        power_law.PowerLaw(at_0 + gap, gap * shift**exponent, exponent, shift, clip=False)
        for at_0, gap, exponent, shift in CURVES
    ]


def accuracies(rates, samples):
    """[m, n], in plain numbers: ã(0) + gap (1 - (1 + z/shift)^-exponent)."""
    at_0, gap, exponent, shift = np.array(CURVES).T
    return at_0 + gap * (1 - (1 + samples @ np.asarray(rates).T / shift) ** -exponent)


def mixtures(rates=RATES, m=30, splits=1, noise=0.0, seed=0):
    """Mixtures of three members whose samples are random fractions of what they have."""
    rng = np.random.default_rng(seed)
    samples = np.round(SIZES * rng.choice([0, 0.06, 0.12, 0.25, 0.5, 1], (m, 3)))
    exact = accuracies(rates, samples)
    noisy = exact[:, None] + noise * rng.normal(size=(m, splits, 3))
    return exchange_rates.Mixtures(MEMBERS, samples, np.clip(noisy, 0, 1))


@pytest.mark.parametrize("model", exchange_rates.MODELS)
def test_without_noise_the_rates_and_curves_of_every_model_are_recovered(model):
    rates = {"total alone": np.ones((3, 3)), "one rate": np.where(np.eye(3), 1, [[0.3], [0.7], [1.4]])}
    rates = rates.get(model, RATES)
    data = mixtures(rates)
    fitted = exchange_rates.fit(data, model)
    np.testing.assert_allclose(fitted.rates, rates, atol=1e-3)
    assert fitted.model == model
    assert not fitted.harmful.any()
    assert np.max(fitted.error) < 1e-6
    samples = np.array([[10.0, 20, 30], [200, 0, 0], [0, 0, 90]])
    np.testing.assert_allclose(exchange_rates.predict(fitted, samples), accuracies(rates, samples), atol=1e-5)
    for law, z, wanted in zip(
        fitted.curves, samples @ rates.T[:, 0], accuracies(rates, samples)[:, 0], strict=True
    ):
        del z, wanted
        assert not law.clip


def test_a_member_whose_own_samples_are_worth_little_gets_large_rates():
    rates = np.array([[1.0, 20, 0.2], [0.05, 1.0, 0.8], [1.5, 0.3, 1.0]])
    np.testing.assert_allclose(exchange_rates.fit(mixtures(rates)).rates, rates, rtol=1e-3, atol=1e-3)


def test_the_order_of_members_does_not_matter():
    data, order = mixtures(m=20, splits=3, noise=0.01), np.array([2, 0, 1])
    moved = exchange_rates.Mixtures(
        tuple(MEMBERS[i] for i in order), data.samples[:, order], data.accuracy[:, :, order]
    )
    fitted, other = exchange_rates.fit(data), exchange_rates.fit(moved)
    np.testing.assert_allclose(other.rates, fitted.rates[np.ix_(order, order)], atol=1e-4)
    low, low_moved = (exchange_rates.intervals(*x, draws=5).low for x in ((data, fitted), (moved, other)))
    np.testing.assert_allclose(low_moved, low[np.ix_(order, order)], atol=1e-3)
    chosen, chosen_moved = (exchange_rates.choose(x, deals=1, folds=2) for x in (data, moved))
    np.testing.assert_allclose(chosen_moved.error, chosen.error[:, order], atol=1e-5)
    np.testing.assert_allclose(
        exchange_rates.all_rates_one(moved).of_member,
        exchange_rates.all_rates_one(data).of_member[order],
        rtol=1e-3,
    )


def test_the_unit_of_samples_does_not_matter():
    data = mixtures(m=20, splits=3, noise=0.01)
    scaled = data._replace(samples=data.samples * 1e4 / 7)
    fitted, other = exchange_rates.fit(data), exchange_rates.fit(scaled)
    np.testing.assert_allclose(other.rates, fitted.rates, atol=1e-4)
    np.testing.assert_allclose(
        [law.shift for law in other.curves], [law.shift * 1e4 / 7 for law in fitted.curves], rtol=1e-3
    )


def test_harmful_data_are_clipped_and_told():
    rates = RATES.copy()
    rates[0, 2] = -0.3
    fitted = exchange_rates.fit(mixtures(np.maximum(rates, 0)))
    assert not fitted.harmful.any()  # a rate of 0 harms nobody
    data = mixtures(np.maximum(rates, 0), splits=2, noise=0.002)
    loss = 0.1 * data.samples[:, 2] / SIZES[2]
    data.accuracy[:, :, 0] -= loss[:, None]
    fitted = exchange_rates.fit(data)
    assert fitted.rates[0, 2] == 0
    np.testing.assert_array_equal(fitted.harmful, [[False, False, True], [False] * 3, [False] * 3])
    found = exchange_rates.intervals(data, fitted, draws=5)
    assert np.isnan(found.low[0, 2])
    assert np.isnan(found.high[0, 2])


def test_a_mean_of_more_splits_has_more_weight():
    data = mixtures(splits=4)
    data.accuracy[0] -= 0.2  # wrong in one mixture
    once = data._replace(accuracy=data.accuracy.copy())
    once.accuracy[0, 1:] = np.nan
    often, seldom = (np.abs(exchange_rates.fit(x).rates - RATES).max() for x in (data, once))
    assert 0.01 < seldom < 0.5 * often


@pytest.mark.parametrize("true", exchange_rates.MODELS)
def test_the_true_model_is_chosen_in_clear_cases(true):
    rates = {"total alone": np.ones((3, 3)), "one rate": np.where(np.eye(3), 1, 0.3)}.get(true, RATES)
    data = mixtures(rates, m=60, splits=4, noise=0.02)
    # What a split does to all mixtures alike is no noise.
    data = data._replace(accuracy=data.accuracy - np.linspace(0, 0.1, 4)[:, None])
    choice = exchange_rates.choose(data, deals=3)
    assert choice.model == true
    assert choice.error.shape == choice.standard_error.shape == (3, 3)
    np.testing.assert_allclose(choice.noise, 0.02 / np.sqrt(4), rtol=0.2)
    # The true model's errors are those of the noise.
    np.testing.assert_allclose(choice.error[exchange_rates.MODELS.index(true)], choice.noise, rtol=0.35)
    test = exchange_rates.all_rates_one(data)
    assert (test.p_value < 0.05) == (true != "total alone")
    assert test.p_value == min(1, 3 * np.min(test.of_member))


def test_splits_whose_samples_differ_in_worth_do_not_reject_equal_rates():
    rng = np.random.default_rng(3)
    data = mixtures(np.ones((3, 3)), m=60, splits=8, noise=0.02)
    independent = exchange_rates.all_rates_one(data)
    np.testing.assert_array_less(independent.design_effect, 2)
    worth = np.exp(0.7 * rng.normal(size=(8, 3)))  # of each member's samples, in each split
    by_split = np.stack([accuracies(np.ones((3, 3)), data.samples * x) for x in worth], axis=1)
    noise = data.accuracy - accuracies(np.ones((3, 3)), data.samples)[:, None]
    dependent = exchange_rates.all_rates_one(data._replace(accuracy=by_split + noise))
    np.testing.assert_array_less(2, dependent.design_effect)
    assert dependent.p_value > 0.05
    # One measurement of the mean accuracies alone would reject.
    mean = np.mean(by_split + noise, axis=1, keepdims=True)
    assert exchange_rates.all_rates_one(data._replace(accuracy=mean)).p_value < 0.05


def test_without_noise_the_smallest_true_model_is_chosen():
    data = mixtures(np.ones((3, 3)))
    assert exchange_rates.choose(data, deals=1, folds=2).model == "total alone"
    assert exchange_rates.all_rates_one(data).p_value > 0.5


def test_noise_is_unknown_with_one_split():
    assert np.all(np.isnan(exchange_rates.choose(mixtures(m=8), deals=1, folds=2).noise))


def test_intervals_are_reproducible_by_seed_and_hold_the_rates():
    data = mixtures(m=40, splits=6, noise=0.02)
    fitted = exchange_rates.fit(data)
    first, again, other = (exchange_rates.intervals(data, fitted, draws=20, seed=x) for x in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first.low, other.low)
    np.testing.assert_array_equal(np.diag(first.low), 1)
    np.testing.assert_array_equal(np.diag(first.high), 1)
    off = ~np.eye(3, dtype=bool) & ~np.isnan(first.low)
    assert np.all((first.low[off] <= fitted.rates[off]) & (fitted.rates[off] <= first.high[off]))
    assert np.mean((first.low <= RATES)[off] & (first.high >= RATES)[off]) >= 0.6
    narrow = exchange_rates.intervals(data, fitted, draws=20, seed=1, confidence=0.5)
    off &= ~np.isnan(narrow.low)
    assert np.all((narrow.high - narrow.low)[off] < (first.high - first.low)[off])


def test_without_noise_intervals_are_points():
    data = mixtures(splits=2)
    fitted = exchange_rates.fit(data)
    found = exchange_rates.intervals(data, fitted, draws=4)
    np.testing.assert_allclose(found.low, RATES, atol=2e-3)
    np.testing.assert_allclose(found.high, RATES, atol=2e-3)


def test_what_was_not_measured_is_left_out():
    data = mixtures(splits=2)
    rng = np.random.default_rng(0)
    gaps = np.where(rng.random(data.accuracy.shape) < 0.2, np.nan, data.accuracy)
    gaps[5, :, 1] = np.nan
    data = data._replace(accuracy=gaps)
    fitted = exchange_rates.fit(data)
    np.testing.assert_allclose(fitted.rates, RATES, atol=1e-3)
    assert exchange_rates.choose(data, deals=1, folds=2).model == "exchange rates"
    assert np.isfinite(exchange_rates.intervals(data, fitted, draws=2).low).all()


def changed(samples):
    data = mixtures()
    samples = samples(data.samples.copy())
    return data._replace(samples=samples, accuracy=accuracies(RATES, samples)[:, None])


def constant(samples):
    samples[:, 2] = 100
    return samples


def proportional(samples):
    return samples[:, :1] * [1.0, 2.0, 0.5]


def together(samples):
    samples[:, 2] = 2 * samples[:, 1]
    return samples


def same_total(samples):
    fractions = np.random.default_rng(1).dirichlet(np.ones(3), len(samples))
    return 300 * fractions


@pytest.mark.parametrize(
    ("change", "model", "told"),
    [
        (constant, "exchange rates", "Long Beach are the same in all mixtures: add mixtures with 0"),
        (proportional, "exchange rates", "proportional, so that only the total is identified: add, for each"),
        (proportional, "one rate", "only the total is identified"),
        (together, "exchange rates", "the samples of Budapest and Long Beach are tied by one equation"),
        (same_total, "exchange rates", "the samples of Budapest, Cleveland and Long Beach are tied"),
        (same_total, "one rate", "all members but Budapest together"),
        (same_total, "total alone", "the samples of all members together are the same in all mixtures"),
        (lambda x: x[[0, 1, 2, 3, 4] * 3], "exchange rates", "5 different mixtures, but 6 parameters"),
        (lambda x: x[:3], "total alone", "3 different mixtures of different totals, but 4 parameters"),
    ],
)  # fmt: skip
def test_what_is_not_identified_is_said(change, model, told):
    data = changed(change)
    sentences = "\n".join(exchange_rates.missing(data, model))
    assert told in sentences
    with pytest.raises(ValueError, match="do not identify the model") as error:
        exchange_rates.fit(data, model)
    assert sentences in str(error.value)


def test_smaller_models_need_fewer_mixtures():
    assert exchange_rates.missing(changed(proportional), "total alone") == []
    assert exchange_rates.missing(changed(together), "one rate") == []
    assert exchange_rates.missing(mixtures()) == []
    assert exchange_rates.missing(mixtures(m=6)) == []


def test_members_who_are_hardly_measured_are_named():
    data = mixtures()
    data.accuracy[:, :, 0] = np.nan
    data.accuracy[4:, :, 1] = np.nan
    first, second = exchange_rates.missing(data)
    assert first.startswith("Cleveland was never measured")
    assert "for which Budapest was measured, but 6 parameters: add at least 2" in second


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"members": ("a",), "samples": np.ones((4, 1))}, "at least two members"),
        ({"members": ("a", "b")}, "`samples` must be"),
        ({"accuracy": np.ones((30, 3))}, "`accuracy` must be"),
        ({"samples": np.full((30, 3), -1.0)}, "at least 0"),
        ({"accuracy": np.full((30, 1, 3), 80.0)}, "must lie in"),
    ],
)  # fmt: skip
def test_bad_mixtures_are_refused(change, told):
    with pytest.raises(ValueError, match=told):
        exchange_rates.fit(mixtures()._replace(**change))


def test_bad_choices_are_refused():
    data = mixtures()
    with pytest.raises(ValueError, match="`model` must be one of total alone, one rate, exchange rates"):
        exchange_rates.fit(data, "two rates")
    with pytest.raises(ValueError, match="`folds` from 2 to"):
        exchange_rates.choose(data, folds=1)
    with pytest.raises(ValueError, match="`confidence` in"):
        exchange_rates.intervals(data, exchange_rates.fit(data, "total alone"), confidence=90)
    few = data._replace(samples=data.samples[:6], accuracy=data.accuracy[:6])
    with pytest.raises(ValueError, match="at least 7 mixtures per member"):
        exchange_rates.all_rates_one(few)


def test_intervals_are_those_of_the_fits_to_resampled_mixtures():
    data = mixtures(m=40, splits=6, noise=0.02)
    fitted = exchange_rates.fit(data)
    drawn = exchange_rates.resample(data, fitted, draws=12, seed=1)
    assert len(drawn) == 12
    assert {one.model for one in drawn} == {fitted.model}
    rates = np.stack([one.rates for one in drawn])
    assert np.all(np.ptp(rates, axis=0)[~np.eye(3, dtype=bool)] > 0)
    np.testing.assert_allclose(np.median(rates, axis=0), RATES, atol=0.3)
    found = exchange_rates.intervals_of(fitted, drawn)
    np.testing.assert_array_equal(found, exchange_rates.intervals(data, fitted, draws=12, seed=1))
    there = ~np.isnan(found.low)
    assert there.sum() > 3  # besides the diagonal
    np.testing.assert_allclose(found.low[there], np.quantile(rates, 0.05, axis=0)[there], rtol=1e-12)
    np.testing.assert_allclose(found.high[there], np.quantile(rates, 0.95, axis=0)[there], rtol=1e-12)
    curves = [exchange_rates.predict(one, data.samples[:1]) for one in drawn]
    assert np.std(curves, axis=0).max() < 0.1


def test_an_interval_that_reaches_0_is_none():
    fitted = exchange_rates.fit(mixtures())
    drawn = [fitted._replace(rates=np.where(np.eye(3), 1.0, x)) for x in (0.0, 0.0, 0.5, 0.6)]
    found = exchange_rates.intervals_of(fitted, drawn, confidence=0.5)
    assert np.isnan(found.low[0, 1])
    assert np.isnan(found.high[0, 1])
    narrow = exchange_rates.intervals_of(fitted, drawn[2:], confidence=0.5)
    assert narrow.low[0, 1] == pytest.approx(0.525)
    assert narrow.high[0, 1] == pytest.approx(0.575)


@pytest.mark.parametrize("changes", [{"draws": 1}, {"confidence": 1.0}])
def test_resampling_that_makes_no_sense_is_refused(changes):
    data = mixtures()
    with pytest.raises(ValueError, match=r"`draws` must be at least 2 and `confidence` in \(0, 1\)"):
        exchange_rates.resample(data, exchange_rates.fit(data, "total alone"), **changes)
