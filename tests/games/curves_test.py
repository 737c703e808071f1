import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.games import curves, payoffs

SIZES = np.array([0, 10, 15, 24, 37, 57, 88, 136, 210, 324, 500.0])
NAMES = ("bound", "concave", "power")


@jax.jit
def _values_and_slopes(payoff, totals):
    return jax.vmap(jax.value_and_grad(payoff.curve))(totals)


def values_and_slopes(payoff, totals):
    """[k] each at totals [k], as numpy: with one program for all curves of a family."""
    payoff = jax.tree.map(np.asarray, payoff)
    return tuple(np.asarray(x) for x in _values_and_slopes(payoff, np.asarray(totals, float)))


def values(payoff, totals):
    return values_and_slopes(payoff, totals)[0]


pays_from = jax.jit(lambda payoff: payoff.pays_from())


def dense(payoff, most=2000.0):
    totals = np.sort(np.concatenate([np.linspace(0, most, 3001), SIZES, SIZES + 1e-9]))
    return totals, *values_and_slopes(payoff, totals)


@pytest.mark.parametrize("name", NAMES)
@hypothesis.given(accuracy=hnp.arrays(float, len(SIZES), elements=st.floats(0, 1)))
def test_whatever_the_data_the_fit_is_concave_non_decreasing_and_smooth(name, accuracy):
    payoff = curves.fit(name, SIZES, accuracy).payoff
    totals, accuracies, slopes = dense(payoff)
    assert np.all(slopes >= -1e-18)  # a slope falls to 0 at a size up to rounding
    kept = totals[:-1] > float(pays_from(payoff)) * (1 + 1e-9)  # the bound (2) is 0 before
    assert name == "bound" or np.all(kept | (totals[:-1] == 0))
    assert np.all(np.where(kept, np.diff(slopes), 0) <= 1e-12)
    # C¹: the slope is that of the values, to second order, on both sides of every size.
    rise = np.diff(accuracies) - (slopes[1:] + slopes[:-1]) / 2 * np.diff(totals)
    allowed = np.abs(np.diff(slopes)) * np.diff(totals) + 1e-12
    assert np.all(np.where(kept, np.abs(rise) <= allowed, True))


def test_the_concave_fit_follows_data_that_are_concave():
    slope = np.geomspace(0.03, 0.0001, len(SIZES))
    accuracy = 0.1 + np.concatenate([[0], np.cumsum(np.diff(SIZES) * (slope[1:] + slope[:-1]) / 2)])
    fit = curves.fit("concave", SIZES, accuracy)
    assert fit.largest < 5e-5
    np.testing.assert_allclose(fit.payoff.slope, slope, rtol=0.1)


def test_a_fall_in_the_data_is_levelled():
    fit = curves.fit("concave", [0, 1, 2, 3], [[0.0, 0.9, 0.5, 0.7], [0.0, 0.9, 0.7, 0.5]])
    fitted = values(fit.payoff, np.arange(4.0))
    assert fitted[3] >= fitted[2] >= fitted[1]
    assert fitted[3] - fitted[1] < 1e-3  # the ridge's doing
    residual = fitted - [0.0, 0.9, 0.6, 0.6]
    assert fit.rmse == pytest.approx(np.sqrt(np.mean(residual**2)))
    assert fit.largest == pytest.approx(np.max(np.abs(residual)))


def test_the_power_law_is_recovered():
    truth = games.PowerLaw(0.95, 6.0, 0.8, 12.0)
    fit = curves.fit("power", SIZES, values(truth, SIZES))
    assert fit.largest < 1e-6
    found, wanted = (values_and_slopes(law, np.linspace(1, 500, 50))[1] for law in (fit.payoff, truth))
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_the_bound_is_recovered_and_a_bad_fit_says_so():
    truth = games.GeneralizationBound(0.95, 10.0)
    sizes = np.geomspace(300, 20_000, 8)
    fit = curves.fit("bound", sizes, values(truth, sizes))
    assert fit.largest < 1e-6
    assert float(fit.payoff.best) == pytest.approx(0.95, rel=1e-6)
    assert float(fit.payoff.difficulty) == pytest.approx(10.0, rel=1e-6)
    easy = games.PowerLaw(0.95, 6.0, 0.8, 12.0)  # 50 samples already teach a lot: (2) promises nothing
    assert curves.fit("bound", SIZES, values(easy, SIZES)).rmse > 0.1


@pytest.mark.parametrize("difficulty", [1.0, 1000.0])
def test_the_fitted_bound_is_0_below_its_zero_like_the_family(difficulty):
    # For large k the formula is positive, and falls, just above k e⁻²: the size 0.136 k lies there.
    truth = games.GeneralizationBound(0.95, difficulty)
    sizes = np.append(0.136 * difficulty, float(pays_from(truth)) * np.array([0.5, 1.2, 3.0, 10.0]))
    accuracy = values(truth, sizes)
    assert accuracy[:2].tolist() == [0, 0]
    assert (values(truth.replace(clip=False), sizes[:1]) > 0) == (difficulty > 1)
    fit = curves.fit("bound", sizes, accuracy)
    assert fit.largest < 1e-6
    assert float(fit.payoff.difficulty) == pytest.approx(difficulty, rel=1e-6)


@hypothesis.settings(max_examples=15)  # a fit that fits nothing takes scipy a fifth of a second
@hypothesis.given(accuracy=hnp.arrays(float, len(SIZES) - 3, elements=st.floats(0, 1)))
def test_the_power_law_needs_no_measurement_at_0(accuracy):
    fit = curves.fit("power", SIZES[3:], accuracy)
    _, accuracies, slopes = dense(fit.payoff)
    assert accuracies[0] >= -1e-12
    assert np.all(np.isfinite(accuracies))
    assert np.all(slopes >= 0)
    # No worse than the best constant, a law with gap 0: on that bound the solver stops some 1e-5 short.
    assert fit.rmse <= np.std(accuracy) + 1e-4


RISING = np.array([0.1, 0.4, 0.55, 0.7, 0.8, 0.85, 0.9])
AT = [0, 10, 20, 40, 80, 160, 320]


@pytest.mark.parametrize("fit", ["power", "concave"])
@pytest.mark.parametrize(
    ("accuracy", "rises"),
    [
        (RISING, True),
        (1e-4 * RISING, True),  # whatever the scale
        (RISING[::-1], False),
        (np.full(7, 0.7), False),
        ([0.1, 0.9, 0.89, 0.88, 0.87, 0.86, 0.85], True),  # ranks alone would say that it falls
        ([0.71, 0.68, 0.72, 0.69, 0.70, 0.71, 0.69], False),
        (np.array([RISING, RISING[::-1], RISING]), False),  # a run differs from the next by more
        (RISING + 0.01 * np.array([[1, -1, 1, -1, 1, -1, 1], [-1, 1, -1, 1, -1, 1, -1]]), True),
    ],
)
def test_a_curve_that_does_not_rise_beyond_the_scatter_is_flat(fit, accuracy, rises):
    assert curves.fit(fit, AT, accuracy).rises == rises


def test_missing_repetitions_are_left_out_of_the_mean():
    accuracy = np.array([[0.1, 0.3, 0.6, 0.8], [0.1, 0.5, np.nan, 0.8], [np.nan, 0.4, np.nan, 0.8]])
    sizes, mean = [0, 10, 20, 40], [0.1, 0.4, 0.6, 0.8]
    for name in NAMES:
        fits = (curves.fit(name, sizes, a).payoff for a in (accuracy, mean))
        left, right = (values(payoff, np.linspace(0, 50, 9)) for payoff in fits)
        np.testing.assert_allclose(left, right, rtol=1e-6, err_msg=name)
        with pytest.raises(ValueError, match="at least once at every size"):
            curves.fit(name, sizes, np.where(np.arange(4) == 2, np.nan, accuracy))


def test_a_fit_from_a_start_is_the_fit():
    rng = np.random.default_rng(0)
    accuracy = np.clip(values(games.PowerLaw(0.95, 6.0, 0.8, 12.0), SIZES) + rng.normal(0, 0.01, 11), 0, 1)
    for name in ("power", "bound"):
        found = curves.fit(name, SIZES, accuracy)
        again = curves.fit(name, SIZES, accuracy, start=found.payoff)
        assert again.rmse == pytest.approx(found.rmse, rel=1e-6)
    unshifted = games.PowerLaw(0.95, 1.0, 0.5)  # infinite loss at 0, yet a start
    found = curves.fit("power", SIZES, accuracy)
    again = curves.fit("power", SIZES, accuracy, start=unshifted)
    assert again.rmse == pytest.approx(found.rmse, rel=1e-3)


def test_resampled_bounds_fit_as_well_as_from_many_starts():
    rng = np.random.default_rng(0)
    sizes = np.geomspace(100, 20_000, 10)  # the first sizes are below the zero, where there is no gradient
    mean = values(games.GeneralizationBound(0.95, 10.0), sizes)
    start = curves.fit("bound", sizes, mean).payoff
    for noise in rng.normal(0, 0.1, (40, 10)):
        accuracy = np.clip(mean + noise, 0, 1)
        warm = curves.fit("bound", sizes, accuracy, start).rmse
        cold = curves.fit("bound", sizes, accuracy).rmse
        assert warm <= cold + 1e-6


@pytest.mark.parametrize("given", ["repetitions", "errors"])
def test_resampled_curves_spread_like_the_standard_error_of_the_mean(given):
    sizes = np.array([0.0, 100.0])  # two sizes: the concave fit goes through both means
    repeated = np.array([[0.1, 0.1, 0.1], [0.7, 0.74, 0.78]]).T
    error = np.array([0.0, np.std([0.7, 0.74, 0.78], ddof=1) / np.sqrt(3)])
    how = {"repetitions": (repeated, None), "errors": (repeated.mean(axis=0), error)}[given]
    resampled = curves.bootstrap("concave", sizes, *how, samples=400, seed=0)
    at_end = np.asarray(jax.jit(jax.vmap(lambda payoff: payoff.curve(100.0)))(resampled))
    assert at_end.shape == (400,)
    assert at_end.mean() == pytest.approx(0.74, abs=4 * error[1] / 20)
    assert at_end.std() == pytest.approx(error[1], rel=0.1)
    again = curves.bootstrap("concave", sizes, *how, samples=400, seed=0)
    chex.assert_trees_all_equal(resampled, again)
    other = curves.bootstrap("concave", sizes, *how, samples=400, seed=1)
    assert np.any(np.asarray(other.accuracy) != np.asarray(resampled.accuracy))


@pytest.mark.parametrize("name", NAMES)
def test_resampled_curves_are_one_family_with_a_leading_axis(name):
    rng = np.random.default_rng(3)
    accuracy = 1 - 0.9 / np.sqrt(1 + SIZES / 10) - 0.02 * rng.random((3, len(SIZES)))
    accuracy[2, 4:] = np.nan  # repeated less often
    fit = curves.fit(name, SIZES, accuracy).payoff
    resampled = curves.bootstrap(name, SIZES, accuracy, samples=6, seed=0)
    assert type(resampled) is type(fit)
    jax.tree.map(lambda many, one: np.testing.assert_equal(many.shape, (6, *one.shape)), resampled, fit)
    of_all = jax.jit(jax.vmap(lambda payoff: jax.vmap(payoff.curve)(SIZES)))(resampled)
    chex.assert_shape(of_all, (6, len(SIZES)))
    np.testing.assert_allclose(of_all, np.tile(values(fit, SIZES), (6, 1)), atol=0.02)


def test_standard_errors_serve_where_nothing_is_repeated():
    sizes, accuracy = np.array([0.0, 10, 20, 40]), np.array([0.1, 0.4, 0.6, 0.98])
    resampled = curves.bootstrap("concave", sizes, accuracy, [0.0, 0, 0, 0.1], samples=50, seed=0)
    assert np.max(resampled.accuracy) <= 1 + 1e-3  # noise is clipped to accuracies
    assert np.ptp(resampled.accuracy[:, -1]) > 0.05
    for wrong in (0.1, [0.1] * 3, [0.1, 0.1, 0.1, -0.1], [0.1, 0.1, 0.1, np.nan], [0.1, 0.1, 0.1, np.inf]):
        with pytest.raises(ValueError, match=r"`error` must be \[4\]"):
            curves.bootstrap("concave", sizes, accuracy, wrong, samples=2, seed=0)
    with pytest.raises(ValueError, match="`family` must be one of bound, concave, power, got 'spline'"):
        curves.bootstrap("spline", sizes, accuracy, [0.1] * 4, samples=2, seed=0)
    with pytest.raises(ValueError, match="`samples` must be at least 1, got 0"):
        curves.bootstrap("power", sizes, accuracy, [0.1] * 4, samples=0, seed=0)


def test_the_progress_of_resampling_is_told_and_nothing_is_made_up():
    seen = []
    sizes, accuracy = np.array([0.0, 10, 20, 40]), np.array([[0.1, 0.4, 0.6, 0.7], [0.1, 0.5, 0.5, 0.8]])
    resampled = curves.bootstrap(
        "power",
        sizes,
        accuracy,
        samples=7,
        seed=0,
        progress=lambda items: (seen.append(x) or x for x in items),
    )
    assert len(seen) == len(resampled.best) == 7
    with pytest.raises(ValueError, match="one measurement at 20, 40"):
        curves.bootstrap("power", sizes, np.where(sizes >= 20, [[1], [np.nan]], accuracy), samples=7, seed=0)


def test_the_tail_beyond_the_last_size_is_smooth_bounded_and_flagged():
    curve = games.check(
        games.Game(
            games.MeasuredCurve([0, 1.0, 2.0], [0, 0.75, 1.125], [1, 0.5, 0.25]), games.LinearCost(1.0), [1.0]
        )
    ).payoff
    accuracies, slopes = values_and_slopes(curve, [2.0, 4.0])
    assert (accuracies[0], slopes[0]) == (1.125, 0.25)
    assert (accuracies[1], slopes[1]) == (1.125 + 0.25 * 2 * (1 - 2 / 4), 0.25 * (2 / 4) ** 2)
    assert curve.extrapolates(jnp.asarray([1.0, 2.0, 2.1])).tolist() == [False, False, True]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("sizes", "accuracy", "message"),
    [
        ([0, 2, 1, 3, 4], [0, 1, 1, 1, 1], "`sizes` must be .* increasing"),
        ([0], [0], "`sizes` must be at least"),
        ([0, 1, 2, 3, np.inf], [0, 1, 1, 1, 1], "`sizes` must be at least"),
        ([0, 1, 2, np.nan, 4], [0, 1, 1, 1, 1], "`sizes` must be at least"),
        ([0, 1, 2, 3, 4], [0, 1, 1, 1], "`accuracy` must be"),
        ([0, 1, 2, 3, 4], [0, 1, 1, 1, 1.1], r"`accuracy` must lie in \[0, 1\]"),
        ([0, 1, 2, 3, 4], [0, 1, 1, 1, np.nan], r"`accuracy` must lie in \[0, 1\]"),
    ],
)
def test_bad_data(name, sizes, accuracy, message):
    with pytest.raises(ValueError, match=message):
        curves.fit(name, sizes, accuracy)


def test_the_concave_fit_needs_a_value_at_0():
    with pytest.raises(ValueError, match=r"first size must be 0, got 1.*add a row for 0 samples"):
        curves.fit("concave", [1, 2, 3], [0.1, 0.2, 0.3])


def test_sizes_so_small_that_areas_underflow_are_refused():
    with pytest.raises(ValueError, match=r"sizes are too small to tell apart, .* above 0 is 4\.94066e-324"):
        curves.fit("concave", [0, 5e-324, 10], [0.1, 0.2, 0.3])


@pytest.mark.parametrize(("name", "fewest"), [("power", 4), ("bound", 3), ("concave", 2)])
def test_every_fit_needs_enough_sizes(name, fewest):
    sizes, accuracy = 100.0 * np.arange(fewest), np.linspace(0.1, 0.8, fewest)
    curves.fit(name, sizes, accuracy)
    with pytest.raises(ValueError, match=f"`sizes` must be at least {fewest} "):
        curves.fit(name, sizes[1:], accuracy[1:])


def test_a_payoff_that_defines_fit_is_a_choice_and_recovers_itself(saturation):
    assert list(curves.fits()) == [*NAMES, "saturation"]
    assert curves.fits()["saturation"] is saturation
    truth = saturation(0.1, 0.9, 40.0)
    accuracy = np.array(values(truth, SIZES))
    repeated = np.stack([accuracy + 0.01, accuracy - 0.01, np.full(len(SIZES), np.nan)])
    for family in ("saturation", saturation):
        fit = curves.fit(family, SIZES.tolist(), repeated)
        assert fit.largest < 1e-8
        chex.assert_trees_all_close(fit.payoff, jax.tree.map(np.asarray, truth), rtol=1e-6)
        assert curves.fit(family, SIZES, accuracy, fit.payoff).largest < 1e-8


def test_a_strangers_fit_can_be_resampled(saturation):
    accuracy = np.asarray(values(saturation(0.1, 0.9, 40.0), SIZES))
    resampled = curves.bootstrap("saturation", SIZES, accuracy, np.full(len(SIZES), 0.01), samples=50, seed=0)
    assert type(resampled) is saturation
    assert resampled.half.shape == (50,)
    assert np.mean(resampled.best) == pytest.approx(0.9, abs=0.01)
    assert 0 < np.std(resampled.best) < 0.02


def test_a_strangers_fit_starts_a_resample_from_the_fit(saturation):
    starts, fit = [], saturation.fit
    saturation.fit = classmethod(lambda cls, *args: starts.append(args[2]) or fit(*args))
    accuracy = np.asarray(values(saturation(0.1, 0.9, 40.0), SIZES))
    curves.bootstrap("saturation", SIZES, accuracy, np.zeros(len(SIZES)), samples=2, seed=0)
    assert [start and round(float(start.half), 3) for start in starts] == [None, 40.0, 40.0]


def test_fits_to_compare_with_are_left_out_where_there_are_none(saturation):
    accuracy = np.asarray(values(saturation(0.1, 0.9, 40.0), SIZES))
    found = curves.fit_all(SIZES, accuracy, "concave")
    assert list(found) == [*NAMES, "saturation"]
    assert found["power"].rmse == curves.fit("power", SIZES, accuracy).rmse
    assert list(curves.fit_all(SIZES[1:], accuracy[1:], "saturation")) == ["bound", "power", "saturation"]
    with pytest.raises(ValueError, match="the first size must be 0"):
        curves.fit_all(SIZES[1:], accuracy[1:], "concave")


def test_a_fit_is_refused_where_there_is_none(saturation):
    with pytest.raises(NotImplementedError, match="TotalPayoff defines no `fit`"):
        curves.fit(games.TotalPayoff, SIZES, np.zeros(len(SIZES)))
    with pytest.raises(ValueError, match="one of bound, concave, power, saturation, got 'Logistic'"):
        curves.fit("Logistic", SIZES, np.zeros(len(SIZES)))
    saturation.fit = classmethod(lambda cls, *args: cls(np.nan, 1.0, 1.0))
    with pytest.raises(ValueError, match="the fitted curve is not finite"):
        curves.fit("saturation", SIZES, np.zeros(len(SIZES)))


def test_choices_are_the_registered_payoffs_with_a_fit_of_their_own(saturation):
    @registry.register("steeper")
    class Steeper(saturation):
        """Inherits `fit`, which would be the same choice twice."""

    @registry.family
    class Nameless(saturation):
        """Has a `fit`, and no name to choose it by."""

        @classmethod
        def fit(cls, sizes, accuracy, start=None):
            return cls(0.0, 1.0, 1.0)

    @registry.register("plain")
    class Plain(payoffs.OfTotal):
        """Has no `fit`."""

        def curve(self, total):
            return total

    assert list(curves.fits()) == [*NAMES, "saturation"]
    assert float(curves.fit(Nameless, SIZES, np.zeros(len(SIZES))).payoff.best) == 1.0  # by its class
    Steeper.fit = classmethod(lambda cls, *args: None)
    assert list(curves.fits()) == [*NAMES, "saturation", "steeper"]
    del saturation.fit
    assert list(curves.fits()) == [*NAMES, "steeper"]


def test_of_a_class_defined_again_the_latest_counts_and_a_taken_name_is_refused():
    def define(name, best):
        class Mine(payoffs.OfTotal):
            def curve(self, total):
                return best + 0.0 * total

            @classmethod
            def fit(cls, sizes, accuracy, start=None):
                return cls()

        return registry.register(name)(Mine)

    define("mine", 0.5)
    again = define("mine", 0.7)  # the cell of a notebook, changed and run again
    assert list(curves.fits()) == [*NAMES, "mine"]
    assert curves.fits()["mine"] is again
    assert curves.fit("mine", SIZES, np.full(len(SIZES), 0.7)).largest < 1e-12
    with pytest.raises(ValueError, match=r"there is a payoff 'power' already, in .*\.PowerLaw"):
        define("power", 0.5)
    assert curves.fits()["power"] is games.PowerLaw


def test_no_other_test_leaves_a_choice_of_fit_behind():
    assert list(curves.fits()) == list(NAMES)
