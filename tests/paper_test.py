"""Example 1, and where the paper's theorems do not hold, with numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import dynamics

solve, nash_gap = jax.jit(equilibria.solve), jax.jit(equilibria.nash_gap)
utilities, own_utilities = jax.jit(mechanisms.utilities), jax.jit(games.utilities)
EXAMPLE_1 = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [8 / 5, 2.0]))


def test_example_1():
    """Its costs are 5 s_1 and 4 s_2 (misprinted there); NE (0, ½), Nash welfare 24, and 25.25 elsewhere."""
    found = solve(EXAMPLE_1)
    np.testing.assert_allclose(found.profile, [0.0, 0.5], atol=1e-12)
    assert found.converged
    assert np.prod(own_utilities(EXAMPLE_1, found.profile)) == pytest.approx(24.0, rel=1e-12)
    elsewhere = np.prod(own_utilities(EXAMPLE_1, np.array([0.2, 0.4])))
    assert elsewhere == pytest.approx(25.2444444, rel=1e-8)


@pytest.mark.parametrize(
    ("beta", "s_2", "mean"), [(4 / 9, 0.6708204, 5.1676472), (1 / 2, 0.7071068, 5.1715729)]
)
def test_example_1_under_payments(beta, s_2, mean):
    """Agent 1 still contributes nothing under β* = 4/9, and β = 1 - 1/n does better."""
    found = solve(mechanisms.under_mechanism(EXAMPLE_1, beta))
    np.testing.assert_allclose(found.profile, [0.0, s_2], atol=1e-7)
    assert found.converged
    assert np.mean(utilities(EXAMPLE_1, beta, found.profile)) == pytest.approx(mean, rel=1e-7)


@jax.jit
def p_means(u):
    return jnp.stack([mechanisms.p_mean(u, p) for p in (1, 0.5, 0, -1)])


def test_theorem_4_1_fails_for_unequal_costs():
    """(½, ½) is an equilibrium under β* with s > 0; feasible profiles near (0, 1.5) beat every p-mean."""
    rates, budget = np.array([5.0, 4.0]), 5.0
    beta = float(mechanisms.beta_star(rates))
    assert beta == pytest.approx(4 / 9, rel=1e-15)
    value = 2 * (1 - beta) * rates
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(rates), [2.0, 2.0], value))
    equilibrium = np.array([0.5, 0.5])
    assert np.max(nash_gap(mechanisms.under_mechanism(game, beta), equilibrium)) < 1e-12
    at = budget + np.asarray(utilities(game, beta, equilibrium))
    np.testing.assert_allclose(at, [6.57304, 5.85843], atol=5e-6)
    better = np.array([1e-9, 1.5])
    spent = rates * better
    assert np.all(
        spent - np.asarray(mechanisms.payments(beta, spent)) <= budget
    )  # b_i ≥ 0: program (7) allows it
    there = budget + np.asarray(utilities(game, beta, better))
    np.testing.assert_allclose(there, [7.42384, 5.73907], atol=5e-6)
    means, others = np.asarray(p_means(at)), np.asarray(p_means(there))
    np.testing.assert_allclose(means, [6.21574, 6.2106, 6.2055, 6.1952], atol=5e-5)
    np.testing.assert_allclose(others[0], 6.58145, atol=5e-6)
    assert np.all(means < others)


def test_theorem_4_1_fails_on_a_second_instance():
    rates, beta = np.array([5.0, 4.0]), 4 / 9
    payoff = games.PowerLaw(8.0, np.array([1.0, 0.8]), 1.0)
    game = games.check(games.Game(payoff, games.LinearCost(rates), [1.0, 1.0]))
    equilibrium, better = np.array([0.3, 0.3]), np.array([0.01, 0.66])
    assert np.max(nash_gap(mechanisms.under_mechanism(game, beta), equilibrium)) < 1e-12
    means = [np.mean(utilities(game, beta, s)) for s in (equilibrium, better)]
    np.testing.assert_allclose(means, [5.15, 5.3117], atol=5e-5)


def test_falkingers_beta_beats_beta_star_where_costs_differ():
    rates = np.linspace(1.0, 3.0, 10)
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost(rates), 8.0 / rates))
    star = float(mechanisms.beta_star(rates))
    assert star == pytest.approx(0.745848, abs=5e-7)
    for beta, mean in ((0.0, 6.9), (star, 7.29751), (mechanisms.falkinger_beta(10), 7.36754)):
        found = solve(mechanisms.under_mechanism(game, beta))
        assert found.converged
        at = np.asarray(utilities(game, beta, found.profile))
        assert np.mean(at) == pytest.approx(mean, abs=5e-6)
    assert np.ptp(at) < 1e-12  # equal for all: every p-mean is maximal at once


def test_theorem_3_2_does_not_cover_payoffs_of_the_total_with_linear_costs():
    """G has rank one there, so G + λI is not negative semi-definite for any λ > 0, whatever (3) is."""
    payoff = games.PowerLaw(1.0, [1.0, 2.0, 3.0], 0.5)
    game = games.check(games.Game(payoff, games.LinearCost(0.01), [9.0, 9.0, 9.0]))
    jacobian = np.asarray(jax.jit(games.jacobian)(game, np.array([1.0, 2.0, 3.0])))
    assert np.linalg.matrix_rank(jacobian) == 1
    assert np.max(np.linalg.eigvalsh(jacobian + jacobian.T)) > 0


def test_a_printed_step_of_algorithm_1_would_leave_the_box():
    """Frozen only exactly at a bound, an agent near it steps outside; the projection keeps her in."""
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(5.0), [1.0, 1.0]))
    s = np.array([0.01, 0.5])
    assert (s + 0.1 * np.asarray(jax.jit(games.own_gradient)(game, s)))[0] < 0
    assert dynamics.step(game, s, 0.1)[0] == 0
