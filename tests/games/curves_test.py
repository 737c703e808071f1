import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.games import curves

SIZES = np.array([0, 10, 15, 24, 37, 57, 88, 136, 210, 324, 500.0])


def dense(payoff, most=2000.0):
    totals = jnp.sort(jnp.concatenate([jnp.linspace(0, most, 3001), SIZES, SIZES + 1e-9]))
    values, slopes = jax.vmap(jax.value_and_grad(payoff.curve))(totals)
    return totals, values, slopes


@pytest.mark.parametrize("name", curves.FITS)
@hypothesis.given(accuracy=hnp.arrays(float, len(SIZES), elements=st.floats(0, 1)))
def test_whatever_the_data_the_fit_is_concave_non_decreasing_and_smooth(name, accuracy):
    payoff = curves.FITS[name](SIZES, accuracy).payoff
    totals, values, slopes = dense(payoff)
    assert jnp.all(slopes >= -1e-18)  # a slope falls to 0 at a size up to rounding
    assert jnp.all(jnp.diff(slopes) <= 1e-12)
    # C¹: the slope is that of the values, to second order, on both sides of every size.
    rise = jnp.diff(values) - (slopes[1:] + slopes[:-1]) / 2 * jnp.diff(totals)
    assert jnp.all(jnp.abs(rise) <= jnp.abs(jnp.diff(slopes)) * jnp.diff(totals) + 1e-12)


def test_the_concave_fit_follows_data_that_are_concave():
    slope = np.geomspace(0.03, 0.0001, len(SIZES))
    accuracy = 0.1 + np.concatenate([[0], np.cumsum(np.diff(SIZES) * (slope[1:] + slope[:-1]) / 2)])
    fit = curves.fit_concave(SIZES, accuracy)
    assert fit.largest < 5e-5
    np.testing.assert_allclose(fit.payoff.slope, slope, rtol=0.1)


def test_a_fall_in_the_data_is_levelled():
    fit = curves.fit_concave([0, 1, 2, 3], [[0.0, 0.9, 0.5, 0.7], [0.0, 0.9, 0.7, 0.5]])
    values = jax.vmap(fit.payoff.curve)(jnp.arange(4.0))
    assert values[3] >= values[2] >= values[1]
    assert values[3] - values[1] < 1e-3  # the ridge's doing
    residual = np.asarray(values) - [0.0, 0.9, 0.6, 0.6]
    assert fit.rmse == pytest.approx(np.sqrt(np.mean(residual**2)))
    assert fit.largest == pytest.approx(np.max(np.abs(residual)))


def test_the_power_law_is_recovered():
    truth = games.PowerLaw(0.95, 6.0, 0.8, 12.0)
    fit = curves.fit_power_law(SIZES, jax.vmap(truth.curve)(SIZES))
    assert fit.largest < 1e-6
    totals = jnp.linspace(1, 500, 50)
    found, wanted = (jax.vmap(jax.grad(law.curve))(totals) for law in (fit.payoff, truth))
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_the_tail_beyond_the_last_size_is_smooth_bounded_and_flagged():
    curve = games.check(
        games.Game(
            games.MeasuredCurve([0, 1.0, 2.0], [0, 0.75, 1.125], [1, 0.5, 0.25]), games.LinearCost(1.0), [1.0]
        )
    ).payoff
    value, slope = jax.value_and_grad(curve.curve)(2.0)
    assert (value, slope) == (1.125, 0.25)
    value, slope = jax.value_and_grad(curve.curve)(4.0)
    assert (value, slope) == (1.125 + 0.25 * 2 * (1 - 2 / 4), 0.25 * (2 / 4) ** 2)
    assert curve.extrapolates(jnp.asarray([1.0, 2.0, 2.1])).tolist() == [False, False, True]


@pytest.mark.parametrize("fit", curves.FITS.values())
@pytest.mark.parametrize(
    ("sizes", "accuracy", "message"),
    [
        ([0, 2, 1, 3, 4], [0, 1, 1, 1, 1], "`sizes` must be .* increasing"),
        ([0], [0], "`sizes` must be at least"),
        ([0, 1, 2, 3, 4], [0, 1, 1, 1], "`accuracy` must be"),
        ([0, 1, 2, 3, 4], [0, 1, 1, 1, 1.1], r"`accuracy` must lie in \[0, 1\]"),
        ([0, 1, 2, 3, 4], [0, 1, 1, 1, np.nan], r"`accuracy` must lie in \[0, 1\]"),
    ],
)
def test_bad_data(fit, sizes, accuracy, message):
    with pytest.raises(ValueError, match=message):
        fit(sizes, accuracy)


def test_the_concave_fit_needs_a_value_at_0():
    with pytest.raises(ValueError, match="first size must be 0, got 1"):
        curves.fit_concave([1, 2, 3], [0.1, 0.2, 0.3])
