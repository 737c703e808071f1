import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games

solve = jax.jit(equilibria.solve)


def gauss_seidel(game, sweeps=200):
    """An independent reference: scipy's bounded maximisation, one agent after the other."""
    s = np.zeros(game.n)
    utilities = jax.jit(games.utilities)
    for _ in range(sweeps):
        before = s.copy()
        for i in range(game.n):

            def loss(x, i=i):
                return -float(utilities(game, jnp.asarray(np.r_[s[:i], x, s[i + 1 :]]))[i])

            bounds = (0.0, float(game.capacity[i]))
            inner = scipy.optimize.minimize_scalar(
                loss, bounds=bounds, method="bounded", options={"xatol": 1e-10}
            )
            s[i] = min([*bounds, inner.x], key=loss)
        if np.max(np.abs(s - before)) < 1e-8:
            break
    return s


@hypothesis.settings(max_examples=8)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), family=st.sampled_from(["power", "log", "coverage"]))
def test_against_an_independent_solver(seed, family):
    rng, n = np.random.default_rng(seed), 3
    payoff = {
        "power": games.PowerLaw(1.0, rng.uniform(0.5, 2, n), rng.uniform(0.3, 1, n), 1.0),
        "log": games.TotalPayoff(jnp.log1p),
        "coverage": games.RandomCoverage(rng.dirichlet(np.ones(4), n) * 0.9),
    }[family]
    cost = games.PowerCost(10 ** rng.uniform(-3, -1, n), rng.uniform(1.5, 3, n))
    game = games.check(games.Game(payoff, cost, rng.uniform(0.1, 5, n)))
    found = solve(game)
    assert found.converged
    assert jnp.max(found.nash_gap) < 1e-9
    np.testing.assert_allclose(found.profile, gauss_seidel(game), atol=2e-4)


def test_example_1_and_heterogeneous_linear_costs_leave_the_cheapest_to_contribute():
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [5.0, 5.0]))
    found = solve(game)
    np.testing.assert_allclose(found.profile, [0.0, 0.5], atol=1e-12)
    assert found.converged
    assert found.unique
    held = solve(game.replace(capacity=jnp.array([5.0, 0.1])))  # the cheap agent at her capacity
    np.testing.assert_allclose(held.profile, [1 / np.sqrt(5) - 0.1, 0.1], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_costs_determine_only_the_total(n):
    capacity = np.arange(1.0, n + 1)
    found = solve(games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost(4.0), capacity)))
    assert float(jnp.sum(found.profile)) == pytest.approx(0.5, rel=1e-12)
    np.testing.assert_allclose(found.profile / capacity, 0.5 / capacity.sum(), rtol=1e-9)
    assert found.unique == (n == 1)
    assert found.converged


@pytest.mark.parametrize(
    ("rate", "capacity", "expected"),
    [
        (0.0, [3.0, 4.0], [3.0, 4.0]),  # free: everything
        (1e9, [3.0, 4.0], [0.0, 0.0]),  # nobody shares
        (0.1, [0.0, 0.0], [0.0, 0.0]),
        (0.01, [3.0, 4.0], [3.0, 4.0]),  # capacity binds: 1/(1+7) > 0.01
        (1e-300, [3.0, 0.0], [3.0, 0.0]),
    ],
)
def test_odd_costs_and_capacities(rate, capacity, expected):
    found = solve(games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(rate), capacity)))
    np.testing.assert_allclose(found.profile, expected, atol=1e-12)
    assert found.converged
    assert jnp.all(found.nash_gap <= 1e-12)


def test_vmap_over_costs_is_a_loop_and_permutations_permute():
    rng = np.random.default_rng(0)
    rates = jnp.asarray(rng.uniform(0.05, 0.3, (4, 5)))

    def equilibrium(rate):
        cost = games.PowerCost(rate, 2.0)
        return equilibria.solve(games.Game(games.TotalPayoff(jnp.log1p), cost, jnp.full(5, 2.0))).profile

    batch = jax.jit(jax.vmap(equilibrium))(rates)
    one = jax.jit(equilibrium)
    for k in range(4):
        np.testing.assert_allclose(batch[k], one(rates[k]), rtol=1e-12)
    order = np.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(one(rates[0][order]), batch[0][order], rtol=1e-10)


def test_with_identical_payoffs_a_hundred_thousand_agents_are_one_root():
    rate = np.random.default_rng(1).uniform(0.5, 2, 100_000)
    capacity = np.full(len(rate), 1e9)
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(rate, 2.0), capacity))
    found = solve(game)
    price = 0.5 * (1.0 + float(jnp.sum(found.profile))) ** -1.5  # a'(S) = c_i'(s_i) = 2 rate_i s_i
    np.testing.assert_allclose(2 * rate * found.profile, price, rtol=1e-9)
    assert found.converged


@pytest.mark.parametrize("rate", [0.004, 0.005, 0.0123, 0.03, 1 / 3])
def test_one_operation_at_a_time_rounds_differently_and_finds_the_same(rate):
    game = games.check(
        games.Game(games.PowerLaw(0.97, 6.0, 0.8, 12.0), games.LinearCost([rate, 1.0]), [1e3] * 2)
    )
    found = equilibria.solve(game)
    assert found.converged
    np.testing.assert_allclose(found.profile, solve(game).profile, rtol=1e-12)


def test_everything_a_solver_says_is_the_same_in_a_batch():
    def report(rate):
        cost = games.LinearCost(rate)
        return equilibria.solve(games.Game(games.PowerLaw(8.0, 1.0, 1.0), cost, jnp.array([0.2, 3.0, 3.0])))

    rates = jnp.array([[5.0, 4.0, 4.5], [4.0, 4.0, 4.0], [3.0, 5.0, 9.0]])
    batch, one = jax.jit(jax.vmap(report))(rates), jax.jit(report)
    for k, rate in enumerate(rates):
        jax.tree.map(
            lambda x, y, k=k: np.testing.assert_allclose(x[k], y, rtol=1e-12, atol=1e-13), batch, one(rate)
        )
    assert batch.unique.tolist() == [True, False, True]
    assert batch.converged.tolist() == [True, True, True]


def test_free_contributions_where_more_data_stop_helping_are_no_nan():
    """β = 1 leaves no cost, and beyond 10 samples of the others the payoff is flat: 0/0 for a supply."""
    payoff = games.MeasuredCurve([0.0, 10.0, 20.0], [0.0, 0.5, 0.5], [0.1, 0.0, 0.0])
    game = games.check(games.Game(payoff, games.PowerCost([1e-3, 2e-3], 2.0), [50.0, 60.0]))
    found = solve(game.replace(cost=game.cost.scaled(0.0)))
    assert found.converged
    assert jnp.all(found.nash_gap <= 1e-15)
    assert jnp.sum(found.profile) >= 10 - 1e-9
