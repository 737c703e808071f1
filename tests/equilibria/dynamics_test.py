import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.equilibria import dynamics
from fedgame.games import curves

run, trace = jax.jit(dynamics.run), jax.jit(dynamics.trace, static_argnums=2)


def quadratic(n=3):
    """u = 1ᵀs - ½ sᵀMs for each agent's own part: dynamics linear, closed form M s* = 1."""
    m = np.diag(np.arange(2.0, 2.0 + n)) + 0.3
    payoff = games.CustomPayoff(
        lambda s: s - s * (jnp.asarray(m) @ s) + 0.5 * jnp.diagonal(jnp.asarray(m)) * s**2
    )
    return games.check(games.Game(payoff, games.LinearCost(0.0), [2.0] * n)), m


def test_closed_form_of_linear_dynamics():
    game, m = quadratic()
    fixed = np.linalg.solve(m, np.ones(3))
    s0, delta = np.array([0.5, 0.1, 0.3]), 0.1
    _, path = trace(game, s0, 20, delta)
    contraction = np.eye(3) - delta * m
    expected = [fixed + np.linalg.matrix_power(contraction, t) @ (s0 - fixed) for t in range(21)]
    np.testing.assert_allclose(path, expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(dynamics.step)(game, path[3], delta), path[4], rtol=1e-14)


def test_eq_4_step_by_step_in_numpy_with_bounds_that_bind():
    rates, capacity = np.array([0.4, 0.1, 0.02]), np.array([3.0, 2.0, 2.5])
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(rates), capacity))
    s = np.array([3.0, 0.0, 1.0])
    _, path = trace(game, s, 40, 2.0)
    for profile in path:
        np.testing.assert_allclose(profile, s, rtol=1e-12, atol=1e-15)
        s = np.minimum(np.maximum(s + 2.0 * (1 / (1 + s.sum()) - rates), 0), capacity)
    assert s[0] == 0
    assert s[2] == 2.5


def test_equal_costs_keep_differences_until_a_bound_binds():
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(0.1), [30.0] * 3))
    s0 = np.array([5.0, 6.0, 9.0])
    path = np.asarray(trace(game, s0, 100)[1])
    np.testing.assert_allclose(path[-1] - path[-1][0], s0 - s0[0], rtol=1e-12, atol=1e-12)
    assert path[-1].sum() == pytest.approx(9.0, abs=1e-9)  # 1/(1+S) = 0.1


MEASURED = curves.fit("concave", [0, 10, 30, 100, 300, 1000], [0.1, 0.4, 0.65, 0.85, 0.93, 0.96]).payoff
CURVES = {  # payoff, and its slope in numpy
    "power law": (games.PowerLaw(1.0, 10.0, 0.9, 16.0), lambda S: 9.0 * (16.0 + S) ** -1.9),
    "logarithm": (games.TotalPayoff(lambda S: 0.1 * jnp.log1p(S)), lambda S: 0.1 / (1 + S)),
    "measured": (
        MEASURED,
        lambda S: np.interp(S, MEASURED.sizes, MEASURED.slope) * (1000 / np.fmax(S, 1000)) ** 2,
    ),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_adaptive_steps_need_no_tuning(name, n):
    """The total is where the next sample costs the cheapest agent with samples left what it brings."""
    (payoff, slope), rng, capacity = CURVES[name], np.random.default_rng(n), 2000.0 / n
    totals = np.linspace(0, 2000, 200_001)[:-1]
    for rates in (np.full(n, 0.003), rng.uniform(0.001, 0.02, n)):
        game = games.check(games.Game(payoff, games.LinearCost(rates), np.full(n, capacity)))
        state, path = trace(game, rng.uniform(0, capacity, n), 100)
        s, gradient, path = (np.asarray(x) for x in (state.profile, state.gradient, path))
        assert np.all((path >= 0) & (path <= capacity))
        np.testing.assert_allclose(gradient, slope(s.sum()) - rates, rtol=1e-9, atol=1e-12)
        # Utilities are concave: nobody gains more than her own slope promises as far as she can go.
        assert np.max(gradient * np.where(gradient > 0, capacity - s, -s)) < 1e-5
        brings = slope(totals) >= np.sort(rates)[(totals / capacity).astype(int)]
        assert s.sum() == pytest.approx(totals[brings].max(), rel=0.02)


def test_run_stops_at_the_tolerance_and_at_the_steps():
    game, m = quadratic()
    state, steps = run(game, np.zeros(3), 1000, 1e-10)
    assert 3 < steps < 200
    assert state.residual <= 1e-10
    np.testing.assert_allclose(state.profile, np.linalg.solve(m, np.ones(3)), rtol=1e-9)
    assert run(game, np.zeros(3), 2, 1e-10)[1] == 2


def test_agents_who_have_nothing_stay_where_they_are():
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(0.1), [0.0, 0.0]))
    state, taken = run(game, np.zeros(2), 10, 1e-12)
    assert (state.profile.tolist(), float(state.residual), int(taken)) == ([0, 0], 0, 1)
