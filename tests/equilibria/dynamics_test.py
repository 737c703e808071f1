import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.equilibria import dynamics
from fedgame.games import curves


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
    _, path = dynamics.trace(game, s0, 20, delta)
    contraction = np.eye(3) - delta * m
    expected = [fixed + np.linalg.matrix_power(contraction, t) @ (s0 - fixed) for t in range(21)]
    np.testing.assert_allclose(path, expected, rtol=1e-12)
    np.testing.assert_allclose(dynamics.step(game, path[3], delta), path[4], rtol=1e-14)


def test_eq_4_step_by_step_in_numpy_with_bounds_that_bind():
    rates, capacity = np.array([0.4, 0.1, 0.02]), np.array([3.0, 2.0, 2.5])
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(rates), capacity))
    s = np.array([3.0, 0.0, 1.0])
    _, path = dynamics.trace(game, s, 40, 2.0)
    for profile in path:
        np.testing.assert_allclose(profile, s, rtol=1e-12, atol=1e-15)
        s = np.minimum(np.maximum(s + 2.0 * (1 / (1 + s.sum()) - rates), 0), capacity)
    assert s[0] == 0
    assert s[2] == 2.5


def test_equal_costs_keep_differences_until_a_bound_binds():
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(0.1), [30.0] * 3))
    s0 = np.array([5.0, 6.0, 9.0])
    _, path = dynamics.trace(game, s0, 100)
    np.testing.assert_allclose(path[-1] - path[-1][0], s0 - s0[0], rtol=1e-12, atol=1e-12)
    assert jnp.sum(path[-1]) == pytest.approx(9.0, abs=1e-9)  # 1/(1+S) = 0.1


CURVES = {
    "power law": games.PowerLaw(1.0, 10.0, 0.9, 16.0),
    "logarithm": games.TotalPayoff(lambda S: 0.1 * jnp.log1p(S)),
    "measured": curves.fit("concave", [0, 10, 30, 100, 300, 1000], [0.1, 0.4, 0.65, 0.85, 0.93, 0.96]).payoff,
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_adaptive_steps_need_no_tuning(name, n):
    rng = np.random.default_rng(n)
    solve, nash_gap = jax.jit(equilibria.solve), jax.jit(equilibria.nash_gap)
    play = jax.jit(lambda game, s: dynamics.trace(game, s, 100))
    for rates in (np.full(n, 0.003), rng.uniform(0.001, 0.02, n)):
        game = games.check(games.Game(CURVES[name], games.LinearCost(rates), np.full(n, 2000.0 / n)))
        state, path = play(game, rng.uniform(0, 2000.0 / n, n))
        assert jnp.all((path >= 0) & (path <= 2000.0 / n))
        assert jnp.max(nash_gap(game, state.profile)) < 1e-5
        assert float(jnp.sum(state.profile)) == pytest.approx(float(jnp.sum(solve(game).profile)), rel=0.02)


def test_run_stops_at_the_tolerance_and_at_the_steps():
    game, m = quadratic()
    state, steps = dynamics.run(game, jnp.zeros(3), 1000, 1e-10)
    assert 3 < steps < 200
    assert state.residual <= 1e-10
    np.testing.assert_allclose(state.profile, np.linalg.solve(m, np.ones(3)), rtol=1e-9)
    assert dynamics.run(game, jnp.zeros(3), 2, 1e-10)[1] == 2


def test_agents_who_have_nothing_stay_where_they_are():
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(0.1), [0.0, 0.0]))
    state, taken = dynamics.run(game, jnp.zeros(2), 10, 1e-12)
    assert (state.profile.tolist(), float(state.residual), int(taken)) == ([0, 0], 0, 1)
