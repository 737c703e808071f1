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
UTILITIES = hnp.arrays(float, st.integers(1, 20), elements=st.floats(1e-6, 1e6))


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
