"""The model of Section 4, against brute force in numpy and games solved by hand."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.mechanisms import budgets

solve, nash_gap = jax.jit(budgets.solve), jax.jit(budgets.nash_gap)
unspent, utilities = jax.jit(budgets.unspent), jax.jit(budgets.utilities)


def cobb_douglas(agent, b, total):
    return b ** (1 - agent) * total**agent


def logarithmic(agent, b, total):
    own, shared = agent
    return own * jnp.log1p(b) + shared * jnp.log1p(total)


def power_law(scale, rate, capacity, value=1.0, fixed=0.0):
    per_agent = np.broadcast_arrays(rate, capacity, value, scale, fixed)  # alike, so compiled once
    rate, capacity, value, scale, fixed = map(np.array, per_agent)
    return games.check(
        games.Game(games.PowerLaw(8.0, scale, 1.0), games.LinearCost(rate, fixed), capacity, value)
    )


def left_over(rate, fixed, budget, beta, s):
    """b_i of (5), term by term."""
    spent, n = rate * s + fixed, len(s)
    others = np.array([sum(spent[j] for j in range(n) if j != i) for i in range(n)])
    return budget - (1 - beta) * spent - beta / (n - 1) * others


def brute_gap(utility, game, beta, s, points=4_001):
    """The gains of the best deviations on a grid that leave b_i ≥ 0; NaN for an agent without any."""
    numbers = [np.asarray(x) for x in (game.rate, game.fixed, game.budget)]
    gaps = np.full(game.n, np.nan)
    for i in range(game.n):
        x = np.append(np.linspace(0, game.capacity[i], points), s[i])
        profiles = np.tile(s, (len(x), 1))
        profiles[:, i] = x
        b = np.array([left_over(*numbers, beta, row)[i] for row in profiles])
        can = b >= -1e-12
        if can.any():
            u = np.asarray(utility(i, np.maximum(b, 0), profiles.sum(1)))
            gaps[i] = u[can].max() - u[-1]
    return gaps


@hypothesis.given(seed=st.integers(0, 2**32 - 1), beta=st.floats(0, 1), n=st.integers(2, 3))
def test_what_is_left_over_is_that_of_program_5(seed, beta, n):
    rng = np.random.default_rng(seed)
    rate, fixed, budget = rng.uniform(0.1, 5, n), rng.uniform(0, 1, n), rng.uniform(0, 9, n)
    game = budgets.budget_game(logarithmic, (np.ones(n), np.ones(n)), rate, budget, fixed)
    s = rng.uniform(0, 3, n)
    b = unspent(game, beta, s)
    np.testing.assert_allclose(b, left_over(rate, fixed, budget, beta, s), rtol=0, atol=1e-12 * 60)
    assert float(b.sum()) == pytest.approx(budget.sum() - (rate * s + fixed).sum(), abs=1e-11)


def test_rounding_of_what_is_left_over_is_0_but_its_slope_stays():
    game = budgets.budget_game(cobb_douglas, jnp.array([0.5, 0.5]), 0.1, 0.3)
    s = jnp.array([3.0, 3.0])  # 0.3 - 0.1 · 3 is 5.6e-17 below 0
    assert jnp.all(unspent(game, 0.0, s) == 0)
    assert jnp.all(utilities(game, 0.0, s) == 0)
    slope = jax.jit(jax.jacfwd(lambda s: budgets.unspent(game, 0.25, s)))(s)
    np.testing.assert_allclose(slope, [[-0.075, -0.025], [-0.025, -0.075]], rtol=1e-14)


@hypothesis.settings(max_examples=12)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_the_certificate_against_a_grid(seed):
    """At any profile, also with clipped payoffs that are not concave; and which agents are stranded."""
    rng, n = np.random.default_rng(seed), 2
    rate, value, beta = rng.uniform(0.5, 3, n), rng.uniform(0.2, 2, n), rng.uniform(0, 1)
    scale = rng.uniform(0.5, 3, n)
    game = budgets.with_budgets(power_law(scale, rate, np.full(n, 3.0), value), rng.uniform(0.1, 4, n))
    s = rng.uniform(0, 1, n)

    def utility(i, b, total):
        return b + value[i] * np.maximum(8 - scale[i] / np.maximum(total, 1e-9), 0)

    gap, stranded = nash_gap(game, beta, s)
    brute = brute_gap(utility, game, beta, s)
    np.testing.assert_array_equal(stranded, np.isnan(brute))
    overspent = left_over(*map(np.asarray, (game.rate, game.fixed, game.budget)), beta, s) < 0
    assert np.all(np.isinf(np.asarray(gap)[overspent & ~np.asarray(stranded)]))
    inside = ~overspent & ~np.asarray(stranded)
    assert np.all(gap[inside] >= brute[inside] - 1e-12)
    assert np.all(gap[inside] <= brute[inside] + 2e-2)  # the grid misses the peak by up to 1/4,000


@hypothesis.settings(max_examples=15)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), beta=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_what_is_found_is_an_equilibrium_or_says_who_is_stranded(seed, beta):
    rng, n = np.random.default_rng(seed), 3
    own, shared = rng.uniform(0.2, 1, n), rng.uniform(0.2, 4, n)
    game = budgets.budget_game(logarithmic, (own, shared), rng.uniform(0.5, 3, n), rng.uniform(0.2, 3, n))
    found = solve(game, beta)

    def utility(i, b, total):
        return own[i] * np.log1p(b) + shared[i] * np.log1p(total)

    brute = brute_gap(utility, game, beta, np.asarray(found.profile), 2_001)
    np.testing.assert_array_equal(found.stranded, np.isnan(brute))
    assert bool(found.converged) == (not np.any(found.stranded))
    assert np.nanmax(brute, initial=0) < 1e-9


def test_cobb_douglas_by_hand():
    """max b^(1-a) S^a with b + (1-β) c S = B' spends the share a of B': S = a B' / ((1-β) c)."""
    a, c, budget, beta, n = 0.3, 2.0, 5.0, 0.5, 2
    game = budgets.budget_game(cobb_douglas, jnp.full(n, a), c, budget)
    found = solve(game, beta)
    assert found.converged
    # Symmetric: b = B - cS/2; first-order condition a b = (1-a)(1-β) c S.
    total = a * budget / (c * ((1 - a) * (1 - beta) + a / 2))
    np.testing.assert_allclose(found.profile, total / 2, rtol=1e-9)
    np.testing.assert_allclose(found.unspent, budget - c * total / 2, rtol=1e-9)


def test_who_is_stranded_is_named():
    """B = 0.1 and β = 0.5, while each of the others spends 1: b ≤ 0.1 - 0.5 < 0 whatever she does."""
    game = budgets.budget_game(logarithmic, (np.full(3, 1e-3), np.full(3, 9.0)), 1.0, [0.1, 2.0, 2.0])
    gap, stranded = nash_gap(game, 0.5, jnp.array([0.0, 1.0, 1.0]))
    assert stranded.tolist() == [True, False, False]
    assert gap[0] == 0
    found = solve(game, 0.5)
    assert found.stranded.tolist() == [True, False, False]
    assert not found.converged
    assert found.unspent[0] < 0
    with pytest.raises(ValueError, match="no profile is feasible: agent 1"):
        mechanisms.maximize_welfare(
            budgets.budget_game(
                logarithmic, (np.full(3, 1e-3), np.full(3, 9.0)), 1.0, [1.0, 0.1, 2.0], [0.0, 0.5, 0.0]
            ),
            0.1,
            1,
        )


def test_nothing_left_is_not_stranded():
    """What she must pay is all she has, to rounding (0.1 · 3 > 0.3): s_i = 0 is still feasible."""
    game = budgets.budget_game(
        logarithmic, (np.ones(3), np.ones(3)), [1.0, 0.1, 1.0], [0.075, 9.0, 0.075], 0.0, 5.0
    )
    gap, stranded = nash_gap(game, 0.5, jnp.array([0.0, 3.0, 0.0]))
    assert not jnp.any(stranded)
    np.testing.assert_array_equal(gap[jnp.array([0, 2])], 0)
    penniless = budgets.budget_game(logarithmic, (np.ones(3), np.ones(3)), 1.0, [0.0, 1.0, 1.0])
    found = solve(penniless, 0.0)
    assert found.converged
    assert found.profile[0] == 0


def test_budgets_change_the_equilibrium():
    """What agents would do without b ≥ 0 costs more than their budgets, so budgets are spent."""
    game, beta = power_law(1.0, [4.0, 4.0], [9.0, 9.0]), 0.5
    free = jax.jit(equilibria.solve)(mechanisms.under_mechanism(game, beta)).profile
    assert float(free.sum()) == pytest.approx(0.5**0.5)  # 1/S² = (1-β) c
    poor = budgets.with_budgets(game, 1.0)
    assert jnp.all(budgets.unspent(poor, beta, free) < 0)
    assert jnp.all(jnp.isinf(nash_gap(poor, beta, free)[0]))
    found = solve(poor, beta)
    assert found.converged
    np.testing.assert_allclose(found.profile, [0.25, 0.25], rtol=1e-12)  # alike, and all 2 spent
    assert jnp.all(found.unspent == 0)
    rich = solve(budgets.with_budgets(game, 9.0), beta)
    assert float(rich.profile.sum()) == pytest.approx(float(free.sum()), rel=1e-8)


def test_quasi_linear_utility_is_that_of_section_2_plus_the_budget():
    game = power_law([1.0, 2.0, 0.5], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 0.5, 2.0], [0.1, 0.0, 0.2])
    game, s = game.replace(held=0.3), jnp.array([0.2, 0.3, 0.0])
    general = budgets.with_budgets(game, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        utilities(general, 0.4, s), mechanisms.utilities(game, 0.4, s) + jnp.arange(1.0, 4.0), rtol=1e-14
    )
    by_money, by_data = jax.jit(budgets.marginals)(general, 0.4, s)
    np.testing.assert_array_equal(by_money, 1.0)
    slope = jax.jit(jax.jacfwd(lambda s: games.payoff_values(game, s) * game.value))(s)[:, 0]
    np.testing.assert_allclose(by_data, slope, rtol=1e-14)


def test_rates_of_ones_own():
    game = budgets.budget_game(logarithmic, (np.full(3, 0.5), np.full(3, 2.0)), [1.0, 1.5, 2.0], 3.0)
    alike, own = solve(game, 0.4), solve(game, jnp.full(3, 0.4))
    np.testing.assert_allclose(alike.profile, own.profile, rtol=1e-12)
    assert solve(game, jnp.array([0.3, 0.2, 0.1])).converged


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_the_unit_of_money_does_not_matter(unit):
    """Payoffs, costs and budgets in another currency: the same profile, the same agents stranded."""
    game = power_law([1.0, 2.0], np.array([5.0, 4.0]) * unit, [9.0, 9.0], unit)
    poor = solve(budgets.with_budgets(game, [1.0 * unit, 1.2 * unit]), 0.4)
    np.testing.assert_allclose(poor.profile, [0.12, 0.4], rtol=1e-9)  # both spend all: two equations
    assert poor.converged


def test_default_capacities_are_what_all_budgets_pay_for():
    game = budgets.budget_game(logarithmic, (np.ones(2), np.ones(2)), [2.0, 4.0], [3.0, 5.0])
    np.testing.assert_array_equal(game.capacity, [4.0, 2.0])
    shared = budgets.budget_game(logarithmic, (np.ones(2), np.ones(2)), 2.0, 3.0)
    np.testing.assert_array_equal(shared.capacity, 3.0)
    assert shared.n == 2


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, [1.0, -1.0], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("name", ["rate", "budget", "fixed", "capacity"])
def test_numbers_out_of_range(name, bad):
    numbers = {"rate": 1.0, "budget": 1.0, "fixed": 0.0, "capacity": 1.0} | {name: bad}
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        budgets.budget_game(logarithmic, (np.ones(2), np.ones(2)), **numbers)


@pytest.mark.parametrize("beta", [-0.1, 1.5, np.nan, np.inf, [0.1, 0.2, 0.3]])
def test_beta_out_of_range(beta):
    game = budgets.budget_game(logarithmic, (np.ones(2), np.ones(2)), 1.0, 1.0)
    for function in (budgets.solve, budgets.nash_gap, budgets.best_response):
        with pytest.raises(ValueError, match="`beta` must lie in"):
            function(game, beta, jnp.zeros(2))


def test_games_that_section_4_does_not_know():
    shape = {"capacity": [1.0, 1.0]}
    for game in (
        games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.PowerCost(1.0, 2.0), **shape),
        games.Game(games.LinearPayoff([[1.0, 0.5], [0.5, 1.0]]), games.LinearCost(1.0), **shape),
        games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.LinearCost(1.0), quality=[1.0, 2.0], **shape),
    ):
        with pytest.raises(ValueError, match="payoffs of S, linear costs, and samples of one quality"):
            budgets.with_budgets(games.check(game), 1.0)
    free = games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.LinearCost([0.0, 1.0]), **shape))
    with pytest.raises(ValueError, match="`rate` must be finite and above 0"):
        budgets.with_budgets(free, 1.0)
