import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games
from fedgame.mechanisms import baselines

BOUND = games.GeneralizationBound(best=0.95, difficulty=1.0)
POWER = games.PowerLaw(1.0, 1.0, 0.5)  # 1 - 1/√S: a target μ needs S = (1 - μ)⁻²
few = hypothesis.settings(max_examples=15)


def make(payoff, capacity, rate=1e-3, **others):
    return games.Game(payoff, games.LinearCost(rate), jnp.asarray(capacity, float), **others)


# The data-maximising mechanism


def eq2(total, best=0.95, k=1.0):
    """Eq. (2) clipped at 0, in numpy."""
    total = np.asarray(total, float)
    safe = np.maximum(total, k)
    raw = best - (4 + np.sqrt(2 * k * (2 + np.log(safe / k)))) / np.sqrt(safe)
    return np.where(total >= k, np.maximum(raw, 0), 0.0)


def promised(i, own, found, a, price):
    """What the paper promises agent i: three pieces, the second up to m_i^max."""
    m, top = found.alone[i], found.contributions[i]
    others = found.contributions.sum() - top
    line = a(m) + price * (own - m)
    return np.where(own <= m, a(own), np.where(own <= top, line, a(own + others)))


@pytest.mark.parametrize(
    ("rate", "alone", "most", "utility"),
    [(1e-4, 1148.389, 3072.375, 0.591608), (1e-3, 238.113, 639.856, 0.202135)],
)
def test_reference_values(rate, alone, most, utility):
    found = baselines.data_maximizing(make(BOUND, np.full(10, 1e5), rate))
    np.testing.assert_allclose(found.alone, alone, atol=5e-4)
    np.testing.assert_allclose(found.contributions, most, atol=5e-4)
    np.testing.assert_allclose(found.utilities, utility, atol=5e-7)
    np.testing.assert_allclose(found.received, eq2(found.contributions.sum()), rtol=1e-13)
    assert found.gap.max() <= 1e-14


def test_one_agent_collects_what_she_would_alone():
    found = baselines.data_maximizing(make(BOUND, [1e5], 2.442e-5))
    assert found.alone == pytest.approx([3000.320], abs=5e-4)
    np.testing.assert_allclose(found.contributions, found.alone, rtol=1e-7)


@pytest.mark.parametrize(("k", "rate"), [(1.0, 1e-3), (3.0, 1e-4), (0.25, 1e-2)])
def test_simple_form(k, rate):
    """a₀ - 2√(k/m): m* = (√k/c)^(2/3), and m^max from the scalar equation for equal agents."""
    n, best = 4, 0.95
    game = make(games.PowerLaw(best, 2 * np.sqrt(k), 0.5), np.full(n, 1e6), rate)
    found = baselines.data_maximizing(game)
    alone = (np.sqrt(k) / rate) ** (2 / 3)

    def a(m):
        return best - 2 * np.sqrt(k / m)

    top = scipy.optimize.brentq(lambda m: a(n * m) - a(alone) - rate * (m - alone), alone, 1e6, xtol=1e-9)
    np.testing.assert_allclose(found.alone, alone, rtol=1e-12)
    np.testing.assert_allclose(found.contributions, top, rtol=1e-10)
    np.testing.assert_allclose(found.utilities, a(alone) - rate * alone, rtol=1e-11)


@few
@hypothesis.given(
    st.lists(st.floats(-4.5, -1.5), min_size=4, max_size=4),
    st.floats(0.5, 3.0),
    st.sampled_from([60.0, 700.0, 1e5]),
    st.sampled_from([0.0, 1e-6, 1e-4]),
)
def test_nobody_gains_by_deviating(exponents, value, capacity, epsilon):
    rates = 10.0 ** np.asarray(exponents)
    values = value * np.linspace(1.0, 1.5, len(rates))
    limits = capacity * np.linspace(1.0, 2.0, len(rates))
    found = baselines.data_maximizing(make(BOUND, limits, rates, value=values), epsilon)
    total = found.contributions.sum()
    assert found.gap.max() <= 1e-12
    assert np.all(found.received <= eq2(total) + 1e-12)
    for i, (c, v) in enumerate(zip(rates, values, strict=True)):
        m, top = found.alone[i], found.contributions[i]
        grid = np.linspace(0, limits[i], 4001)
        stand_alone = max(0.0, np.max(v * eq2(grid) - c * grid))
        assert v * eq2(m) - c * m >= stand_alone - 1e-12
        assert found.utilities[i] == pytest.approx(v * eq2(m) - c * m + epsilon * (top - m), abs=1e-10)
        assert m <= top <= limits[i]
        if top < limits[i]:
            assert v * (eq2(total) - eq2(m)) == pytest.approx((c + epsilon) * (top - m), abs=1e-9)
        grid = np.concatenate([grid, np.linspace(0, min(2 * top, limits[i]), 4001)])
        tried = v * promised(i, grid, found, eq2, (c + epsilon) / v) - c * grid
        assert tried.max() <= found.utilities[i] + 1e-12


def test_the_gap_tells_a_wrong_stand_alone_contribution(monkeypatch):
    game = make(BOUND, np.full(10, 1e5), 1e-4)
    monkeypatch.setattr(baselines.certificates, "best_response", lambda *_: np.full(10, 2 * 1148.389))
    lost = (eq2(1148.389) - 0.1148389) - (eq2(2 * 1148.389) - 0.2296778)
    np.testing.assert_allclose(baselines.data_maximizing(game).gap, lost, rtol=1e-3)


def test_the_schedule_is_the_promise():
    game = make(
        BOUND, [2000.0, 3000.0, 900.0], np.array([1e-4, 1e-3, 4e-4]), value=jnp.array([1.0, 2.0, 1.0])
    )
    found = baselines.data_maximizing(game, 1e-5)
    own = np.linspace(0, 900.0, 400)[:, None] * np.ones(3)
    given = baselines.schedule(game, found.alone, found.contributions, own, 1e-5)
    for i, price in enumerate((1.1e-4, 1.01e-3 / 2, 4.1e-4)):
        np.testing.assert_allclose(given[:, i], promised(i, own[:, i], found, eq2, price), rtol=1e-10)


def test_more_data_than_at_the_equilibrium():
    game = make(BOUND, np.full(10, 1e5), np.geomspace(1e-4, 1e-3, 10))
    plain, found = jax.jit(equilibria.solve)(games.check(game)), baselines.data_maximizing(game)
    assert plain.converged
    assert found.contributions.sum() > 5 * float(plain.profile.sum())


def test_nobody_collects_alone_and_all_do_together():
    """Two roots besides S = 0; only beyond the largest does Σ m_i(S) stay below S."""
    rate, n = 3e-3, 10
    found = baselines.data_maximizing(make(BOUND, np.full(n, 1e5), rate))
    total = found.contributions.sum()
    assert np.all(found.alone == 0)
    assert total == pytest.approx(n * eq2(total) / rate, rel=1e-12)
    beyond = total * np.geomspace(1 + 1e-6, 400, 10_000)
    assert np.all(n * eq2(beyond) / rate < beyond)
    np.testing.assert_allclose(found.utilities, 0.0, atol=1e-14)


def test_too_dear_even_together():
    found = baselines.data_maximizing(make(BOUND, np.full(3, 1e4), 1.0))
    assert np.all(found.contributions == 0)
    assert np.all(found.utilities == 0)


def test_at_capacity_she_gets_her_schedule():
    game = make(BOUND, [1500.0, 1e5, 1e5], 1e-4)
    found = baselines.data_maximizing(game)
    assert found.contributions[0] == 1500
    assert found.received[0] == pytest.approx(eq2(found.alone[0]) + 1e-4 * (1500 - found.alone[0]), rel=1e-12)
    assert found.received[0] < found.received[1] == pytest.approx(eq2(found.contributions.sum()), rel=1e-12)
    small = baselines.data_maximizing(make(BOUND, np.full(3, 200.0), 1e-4))  # below m*: everything
    assert np.all(small.contributions == 200)
    np.testing.assert_allclose(small.received, eq2(200.0), rtol=1e-13)


def test_a_measured_curve():
    sizes = np.array([0.0, 100.0, 400.0, 1000.0])
    slope = np.array([4e-3, 1e-3, 3e-4, 1e-4])
    rise = np.diff(sizes) * (slope[1:] + slope[:-1]) / 2
    curve = games.MeasuredCurve(sizes, np.append(0.1, 0.1 + np.cumsum(rise)), slope)
    found = baselines.data_maximizing(make(curve, np.full(4, 5e3), 5e-4))
    assert found.gap.max() <= 1e-12
    assert found.contributions.sum() > found.alone.sum() > 0


ONE_CURVE = "^all members must have one and the same accuracy curve, of what they share together$"

BELOW_0 = "^accuracy without samples must be at least 0, and is (-inf|nan)"
COSTS = "^`cost` must be linear with rates above 0$"


@pytest.mark.parametrize(
    ("message", "game"),
    [
        (ONE_CURVE, make(games.LinearPayoff(np.eye(2)), np.ones(2))),
        (ONE_CURVE, make(games.PowerLaw(1.0, np.array([1.0, 2.0]), 0.5), np.ones(2))),
        (BELOW_0, make(games.PowerLaw(1.0, 1.0, 0.5, clip=False), np.ones(2))),
        (BELOW_0, make(games.GeneralizationBound(0.9, 1.0, clip=False), np.ones(2))),
        (COSTS, games.Game(BOUND, games.PowerCost(1.0, 2.0), np.ones(2))),
        (COSTS, make(BOUND, np.ones(2), 0.0)),
        ("`value` must be", make(BOUND, np.ones(2), value=0.0)),
        ("`quality` must be", make(BOUND, np.ones(2), quality=2.0)),
        ("`held` must be", make(BOUND, np.ones(2), held=1.0)),
    ],
)
def test_other_games_have_no_such_mechanism(message, game):
    with pytest.raises(ValueError, match=message):
        baselines.data_maximizing(game)


@pytest.mark.parametrize("epsilon", [-1e-3, float("nan"), float("inf")])
def test_bad_epsilon(epsilon):
    with pytest.raises(ValueError, match="`epsilon` must be at least 0"):
        baselines.data_maximizing(make(BOUND, np.ones(2)), epsilon)
