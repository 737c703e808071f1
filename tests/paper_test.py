"""Example 1, and where the paper's theorems do not hold, with numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import dynamics

solve, nash_gap = jax.jit(equilibria.solve), jax.jit(equilibria.nash_gap)
EXAMPLE_1 = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [8 / 5, 2.0]))


def test_example_1():
    """Its costs are 5 s_1 and 4 s_2 (misprinted there); NE (0, ½), Nash welfare 24, and 25.25 elsewhere."""
    found = solve(EXAMPLE_1)
    np.testing.assert_allclose(found.profile, [0.0, 0.5], atol=1e-12)
    assert found.converged
    assert float(jnp.prod(games.utilities(EXAMPLE_1, found.profile))) == pytest.approx(24.0, rel=1e-12)
    elsewhere = jnp.prod(games.utilities(EXAMPLE_1, jnp.array([0.2, 0.4])))
    assert float(elsewhere) == pytest.approx(25.2444444, rel=1e-8)


@pytest.mark.parametrize(
    ("beta", "s_2", "mean"), [(4 / 9, 0.6708204, 5.1676472), (1 / 2, 0.7071068, 5.1715729)]
)
def test_example_1_under_payments(beta, s_2, mean):
    """Agent 1 still contributes nothing under β* = 4/9, and β = 1 - 1/n does better."""
    found = solve(mechanisms.under_mechanism(EXAMPLE_1, beta))
    np.testing.assert_allclose(found.profile, [0.0, s_2], atol=1e-7)
    assert found.converged
    utilities = mechanisms.utilities(EXAMPLE_1, beta, found.profile)
    assert float(jnp.mean(utilities)) == pytest.approx(mean, rel=1e-7)


def p_means(utilities, powers):
    return [float(mechanisms.p_mean(utilities, p)) for p in powers]


def test_theorem_4_1_fails_for_unequal_costs():
    """(½, ½) is an equilibrium under β* with s > 0; feasible profiles near (0, 1.5) beat every p-mean."""
    rates, budget = jnp.array([5.0, 4.0]), 5.0
    beta = float(mechanisms.beta_star(rates))
    assert beta == pytest.approx(4 / 9, rel=1e-15)
    value = 2 * (1 - beta) * rates
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(rates), [2.0, 2.0], value))
    equilibrium = jnp.array([0.5, 0.5])
    assert jnp.max(nash_gap(mechanisms.under_mechanism(game, beta), equilibrium)) < 1e-12
    at = budget + mechanisms.utilities(game, beta, equilibrium)
    np.testing.assert_allclose(at, [6.57304, 5.85843], atol=5e-6)
    better = jnp.array([1e-9, 1.5])
    spent = games.incurred_costs(game, better)
    assert jnp.all(spent - mechanisms.payments(beta, spent) <= budget)  # b_i ≥ 0: program (7) allows it
    there = budget + mechanisms.utilities(game, beta, better)
    np.testing.assert_allclose(there, [7.42384, 5.73907], atol=5e-6)
    powers = [1, 0.5, 0, -1]
    np.testing.assert_allclose(p_means(at, powers), [6.21574, 6.2106, 6.2055, 6.1952], atol=5e-5)
    np.testing.assert_allclose(p_means(there, powers)[0], 6.58145, atol=5e-6)
    assert all(a < b for a, b in zip(p_means(at, powers), p_means(there, powers), strict=True))


def test_theorem_4_1_fails_on_a_second_instance():
    rates, beta = jnp.array([5.0, 4.0]), 4 / 9
    payoff = games.PowerLaw(8.0, jnp.array([1.0, 0.8]), 1.0)
    game = games.check(games.Game(payoff, games.LinearCost(rates), [1.0, 1.0]))
    equilibrium, better = jnp.array([0.3, 0.3]), jnp.array([0.01, 0.66])
    assert jnp.max(nash_gap(mechanisms.under_mechanism(game, beta), equilibrium)) < 1e-12
    means = [float(jnp.mean(mechanisms.utilities(game, beta, s))) for s in (equilibrium, better)]
    np.testing.assert_allclose(means, [5.15, 5.3117], atol=5e-5)


def test_falkingers_beta_beats_beta_star_where_costs_differ():
    rates = jnp.linspace(1.0, 3.0, 10)
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost(rates), 8.0 / rates))
    star = float(mechanisms.beta_star(rates))
    assert star == pytest.approx(0.745848, abs=5e-7)
    for beta, mean in ((0.0, 6.9), (star, 7.29751), (mechanisms.falkinger_beta(10), 7.36754)):
        found = solve(mechanisms.under_mechanism(game, beta))
        assert found.converged
        utilities = mechanisms.utilities(game, beta, found.profile)
        assert float(jnp.mean(utilities)) == pytest.approx(mean, abs=5e-6)
    assert float(jnp.ptp(utilities)) < 1e-12  # equal for all: every p-mean is maximal at once


def test_theorem_3_2_does_not_cover_payoffs_of_the_total_with_linear_costs():
    """G has rank one there, so G + λI is not negative semi-definite for any λ > 0, whatever (3) is."""
    payoff = games.PowerLaw(1.0, jnp.array([1.0, 2.0, 3.0]), 0.5)
    game = games.check(games.Game(payoff, games.LinearCost(0.01), [9.0, 9.0, 9.0]))
    jacobian = games.jacobian(game, jnp.array([1.0, 2.0, 3.0]))
    assert jnp.linalg.matrix_rank(jacobian) == 1
    assert jnp.max(jnp.linalg.eigvalsh(jacobian + jacobian.T)) > 0


def test_a_printed_step_of_algorithm_1_would_leave_the_box():
    """Frozen only exactly at a bound, an agent near it steps outside; the projection keeps her in."""
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(5.0), [1.0, 1.0]))
    s = jnp.array([0.01, 0.5])
    assert (s + 0.1 * games.own_gradient(game, s))[0] < 0
    assert dynamics.step(game, s, 0.1)[0] == 0
