import itertools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import mechanisms
from fedgame.mechanisms import welfare

INF = float("inf")
UTILITIES = hnp.arrays(float, st.sampled_from([1, 2, 3, 20]), elements=st.floats(1e-6, 1e6))


def direct(u, p):
    """log of the normalised p-mean in extended precision."""
    logs = np.log(u.astype(np.longdouble))
    top = np.max(p * logs)
    return (top + np.log(np.mean(np.exp(p * logs - top)))) / np.longdouble(p)


@pytest.mark.parametrize("p", [1.0, 0.5, 0.1, -0.3, -2.0, -50.0, -1e3])
@hypothesis.given(u=UTILITIES)
def test_against_extended_precision(p, u):
    assert float(mechanisms.log_p_mean(u, p)) == pytest.approx(float(direct(u, p)), rel=1e-12, abs=1e-12)


@hypothesis.given(u=UTILITIES)
def test_limits(u):
    geometric = np.exp(np.mean(np.log(u)))
    spread = np.ptp(np.log(u)) ** 2
    for p in (0.0, 1e-9, -1e-9):
        assert float(mechanisms.p_mean(u, p)) == pytest.approx(geometric, rel=1e-12 + 1e-9 * spread)
    assert float(mechanisms.p_mean(u, -INF)) == pytest.approx(u.min(), rel=1e-14)
    assert float(mechanisms.p_mean(u, -1e3)) == pytest.approx(
        u.min(), rel=np.expm1(np.log(len(u)) / 1e3) + 1e-9
    )
    assert float(mechanisms.p_mean(u, 1)) == pytest.approx(u.mean(), rel=1e-14)


@hypothesis.given(u=UTILITIES, factor=st.floats(1e-3, 1e3))
def test_homogeneous_and_rising_in_p(u, factor):
    powers = [-INF, -20.0, -1.0, -0.01, 0.0, 0.01, 0.5, 1.0]
    values = [float(mechanisms.p_mean(u, p)) for p in powers]
    assert all(b >= a * (1 - 1e-12) for a, b in itertools.pairwise(values))
    scaled = [float(mechanisms.p_mean(factor * u, p)) for p in powers]
    np.testing.assert_allclose(scaled, factor * np.asarray(values), rtol=1e-11)


def test_the_two_scales():
    u = jnp.array([1.0, 4.0])
    assert float(mechanisms.p_mean(u, 0.5)) == pytest.approx(2.25)
    assert float(mechanisms.p_mean(u, 0.5, normalized=False)) == pytest.approx(9.0)
    assert float(mechanisms.p_mean(u, 1, normalized=False)) == 5.0
    assert float(mechanisms.p_mean(u, -INF, normalized=False)) == 1.0
    assert jnp.isnan(mechanisms.log_p_mean(u, 0, normalized=False))  # no limit for n ≥ 2
    assert float(mechanisms.p_mean(u[1:], 0, normalized=False)) == pytest.approx(4.0)


def test_a_million_agents():
    u = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1, 10**6))
    for p in (1e-6, -1e-6, 0.2, -1e3):
        assert float(mechanisms.log_p_mean(u, p)) == pytest.approx(float(direct(np.asarray(u), p)), rel=1e-9)
    assert jnp.isinf(mechanisms.p_mean(u, 1e-6, normalized=False))
    expected = float(direct(np.asarray(u), 1e-6)) + np.log(1e6) / 1e-6
    assert float(mechanisms.log_p_mean(u, 1e-6, normalized=False)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("p", [0.5, 0.0, -1.0, -INF])
def test_negative_utilities_are_undefined_and_named_zeros_are_not(p):
    assert jnp.isnan(mechanisms.p_mean(jnp.array([1.0, -0.1, 2.0, jnp.nan]), p))
    assert welfare.undefined(np.array([1.0, -0.1, 2.0, np.nan]), p) == [1, 3]
    zero = mechanisms.p_mean(jnp.array([0.0, 4.0]), p)
    assert float(zero) == (1.0 if p == 0.5 else 0.0)
    assert welfare.undefined(np.array([0.0, 4.0]), p) == []
    assert float(mechanisms.p_mean(jnp.zeros(3), p)) == 0


def test_the_mean_takes_any_sign():
    assert float(mechanisms.p_mean(jnp.array([1.0, -3.0]), 1)) == -1.0
    assert welfare.undefined(np.array([1.0, -3.0]), 1) == []


@pytest.mark.parametrize("p", [1.0001, INF, float("nan")])
def test_p_out_of_range(p):
    with pytest.raises(ValueError, match=r"`p` must lie in \[-inf, 1\]"):
        mechanisms.p_mean(jnp.ones(2), p)


@pytest.mark.parametrize("p", [1e-6, -1e-6, 0.0, 0.5, -3.0, -1e3])
def test_gradients_are_finite_also_at_equal_utilities(p):
    for u in (jnp.ones(4), jnp.array([0.1, 1.0, 1.0, 30.0])):
        gradient = jax.grad(lambda u: mechanisms.p_mean(u, p))(u)
        assert jnp.all(jnp.isfinite(gradient))
        # Euler: W_p is homogeneous of degree 1.
        assert float(gradient @ u) == pytest.approx(float(mechanisms.p_mean(u, p)), rel=1e-9)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize(("p", "outlier"), [(-1.0, 1e-9), (-0.5, 1e-9), (0.5, 1e9), (0.9, 1e9)])
def test_one_agent_unlike_many_others_costs_no_digits(dtype, error, p, outlier):
    """Then Σ e^x / n is tiny: Σ (e^x - 1) / n is -1 to rounding, and keeps none of its digits."""
    u = np.ones(10**5, dtype)
    u[0] = outlier
    assert abs(float(mechanisms.log_p_mean(jnp.asarray(u), p)) - float(direct(u, p))) < error


# Table 1 (Section 5): p = 0.2, 0.4, 0.6, 0.8, 1.0, unnormalised

TABLE_1 = {
    "MNIST FedAvg": ["48985.23", "154.99", "22.763", "8.726", "4.909"],
    "MNIST MWFed": ["51326.49", "158.92", "21.648", "8.803", "5.230"],
    "MNIST FedBR": ["53395.21", "168.85", "24.784", "9.495", "5.340"],
    "MNIST FedBR-BG": ["54589.31", "172.63", "25.340", "9.708", "5.459"],
    "CIFAR-10 FedAvg": ["42386.21", "135.92", "23.528", "8.381", "4.582"],
    "CIFAR-10 MWFed": ["48178.29", "142.91", "23.981", "8.879", "4.891"],
    "CIFAR-10 FedBR": ["58297.23", "178.32", "26.187", "9.675", "5.681"],
    "CIFAR-10 FedBR-BG": ["60385.32", "183.23", "27.958", "9.981", "5.891"],
}
COLUMNS = [0.2, 0.4, 0.6, 0.8, 1.0]


def printed(row):
    """The numbers, and half a unit of the last printed digit of each."""
    return [float(x) for x in row], [0.5 * 10.0 ** -len(x.split(".")[1]) for x in row]


@pytest.mark.parametrize("name", TABLE_1)
def test_five_of_eight_rows_of_table_1_contradict_themselves(name):
    values, rounding = printed(TABLE_1[name])
    found = welfare.inconsistencies(COLUMNS, values, rounding)
    assert bool(found) == (name not in ("MNIST FedAvg", "MNIST FedBR", "MNIST FedBR-BG"))
    for p, excess in found:
        k = COLUMNS.index(p)  # the middle of three equidistant powers: the chord is their mean
        y = [COLUMNS[j] * np.log(values[j]) for j in (k - 1, k, k + 1)]
        assert excess == pytest.approx(y[1] - (y[0] + y[2]) / 2, rel=1e-12)
        assert excess > 1e-3  # far beyond rounding


def test_equal_utilities_are_consistent_only_up_to_the_printed_digits():
    """FedBR and FedBR-BG on MNIST are n^(1/p) u, a straight line: second differences are rounding."""
    for name, second in (("MNIST FedBR", -2e-5), ("MNIST FedBR-BG", -4e-5)):
        values, _ = printed(TABLE_1[name])
        found = welfare.inconsistencies(COLUMNS, values)
        assert found
        assert -2 * max(excess for _, excess in found) == pytest.approx(second, rel=0.5)


@hypothesis.given(
    u=UTILITIES,
    powers=st.lists(st.floats(-20, 1), min_size=3, max_size=7, unique_by=lambda p: round(p, 2)),
    normalized=st.booleans(),
    digits=st.integers(-2, 4),
)
def test_rows_that_were_computed_are_never_reported(u, powers, normalized, digits):
    """On both scales, also with p = 0 if normalised, printed or not; nor do normalised rows fall."""
    p = np.sort(powers)
    p = p[(np.abs(p) > 1e-2) | (normalized & (p == 0))]
    logs = np.array([float(mechanisms.log_p_mean(u, x, normalized)) for x in p])
    values = np.exp(logs[np.abs(logs) < 300])
    p = p[np.abs(logs) < 300]
    assert welfare.inconsistencies(p, values) == []
    row, half = np.round(values, digits), 0.5 * 10.0**-digits
    row, powers = row[row > 0], p[row > 0]
    assert welfare.inconsistencies(powers, row, half * (1 + 1e-9)) == []
    if normalized:
        assert welfare.falls(p, values) == []
        assert welfare.falls(powers, row, 1e-9) == []  # rounding keeps an order


def test_coarse_rounding_explains_more_than_its_first_order():
    """ln W may be off by -ln(1 - r/W), which is more than r/W: here by 0.69, not 0.5."""
    p, true, printed = [1.0, 2.0, 3.0], [1.0, 0.5, 0.5], [1.0, 1.0, 0.5]
    assert welfare.inconsistencies(p, true) == []
    assert welfare.inconsistencies(p, printed) != []
    assert welfare.inconsistencies(p, printed, [0.0, 0.5, 0.0]) == []


def test_a_change_beyond_rounding_is_reported_where_it_is():
    u = np.array([1.0, 2.0, 5.0])
    p = np.array([-4.0, -1.0, -0.3, 0.2, 0.7, 1.0])
    values = np.array([float(mechanisms.p_mean(u, x, normalized=False)) for x in p])
    for k in range(1, 5):
        bad = values.copy()
        bad[k] *= np.exp(0.5 / p[k])  # p ln W_p by ½ too large
        assert p[k] in [where for where, _ in welfare.inconsistencies(p, bad, 1e-6)]
    assert welfare.inconsistencies(p, values, 1e-6) == []


def test_normalised_rows_that_fall():
    assert welfare.falls([0.2, 0.4, 0.6, 1.0], [1.0, 1.1, 1.05, 1.2]) == [0.6]
    assert welfare.falls([1.0, 0.6, 0.4, 0.2], [1.2, 1.05, 1.1, 1.0]) == [0.6]  # in any order
    assert welfare.falls([0.2, 0.4, 0.6, 1.0], [1.0, 0.5, 0.7, 1.0]) == [0.4, 0.6]  # below an earlier one
    assert welfare.falls([0.2, 0.4, 0.6], [1.0, 0.95, 0.9], slack=0.06) == [0.6]  # by small steps
    assert welfare.falls([0.6, 0.4, 0.2], [0.9, 0.9, 1.0], slack=[0.2, 0.0, 0.0]) == [0.4]
    assert welfare.falls([-INF, 0.0, 1.0], [1.0, 2.0, 3.0]) == []
    assert welfare.falls([0.5], [1.0]) == []


@pytest.mark.parametrize(
    ("powers", "values", "message"),
    [
        ([0.2, 0.6, 0.4], [1, 1, 1], "`powers` must be finite and increase"),
        ([0.2, 0.2, 0.4], [1, 1, 1], "`powers` must be finite and increase"),
        ([0.2, 0.4, np.inf], [1, 1, 1], "`powers` must be finite"),
        ([-np.inf, 0.4, 1.0], [1, 1, 1], "`powers` must be finite"),
        ([0.2, 0.4], [1, 1, 1], "one for each value"),
        ([0.2, 0.4, 1.0], [1, 0, 1], "`values` must be positive and finite"),
        ([0.2, 0.4, 1.0], [1, np.nan, 1], "`values` must be positive and finite"),
    ],
)
def test_rows_that_are_none(powers, values, message):
    with pytest.raises(ValueError, match=message):
        welfare.inconsistencies(powers, values)


INF = np.inf


@pytest.mark.parametrize(
    ("p", "u", "slope"),
    [
        (-1, [0.0, 1.0], [2, 0]),
        (-INF, [0.0, 1.0], [1, 0]),
        (-INF, [1.0, 1.0], [0.5, 0.5]),
        (0.5, [0.0, 1.0], [INF, 0.25]),
        (0, [0.0, 1.0], [INF, 0]),
        (-100, [0.0, 1e-4, 2.0], [3**0.01, 0, 0]),
        (-2, [0.0, 0.0, 1.0], [np.sqrt(1.5) / 2] * 2 + [0]),  # along equal rises of both
        (0.5, [0.0, 0.0], [0.5, 0.5]),
        (0, [0.0, 0.0], [0.5, 0.5]),
    ],
)
def test_derivatives_where_utilities_are_0_are_those_from_above(p, u, slope):
    u = np.asarray(u)
    np.testing.assert_allclose(jax.grad(mechanisms.p_mean)(jnp.asarray(u), p), slope, rtol=1e-12)
    unnormalized = jax.grad(mechanisms.p_mean)(jnp.asarray(u), p, False)
    if p not in (0, -INF):
        np.testing.assert_allclose(unnormalized, np.asarray(slope) * len(u) ** (1 / p), rtol=1e-12)
    for i in np.flatnonzero(np.isfinite(slope) & (np.sum(u == u.min()) == 1)):
        step = 1e-7 * np.eye(len(u))[i]
        rise = (mechanisms.p_mean(jnp.asarray(u + step), p) - mechanisms.p_mean(jnp.asarray(u), p)) / 1e-7
        assert float(rise) == pytest.approx(slope[i], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("p", [-100, -3, -1e-9, 0, 1e-9, 0.3, 1])
def test_derivatives_are_differences(p):
    u, step = np.array([0.5, 1.0, 3.0]), 1e-6
    slope = jax.grad(mechanisms.p_mean)(jnp.asarray(u), p)
    moves = [u + sign * step * e for e in np.eye(3) for sign in (1, -1)]
    up = np.asarray([float(mechanisms.p_mean(jnp.asarray(x), p)) for x in moves])
    np.testing.assert_allclose(slope, (up[::2] - up[1::2]) / (2 * step), rtol=1e-6, atol=1e-9)
