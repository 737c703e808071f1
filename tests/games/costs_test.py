import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games

RATE = np.array([0.0, 0.3, 2.0])
COSTS = {
    "linear": (games.LinearCost(0.3), lambda x: 0.3 * x, lambda x: 0.3 + 0 * x),
    "linear with a fixed part": (games.LinearCost(0.3, 0.7), lambda x: 0.3 * x + 0.7, lambda x: 0.3 + 0 * x),
    "power 1.5": (games.PowerCost(0.2, 1.5), lambda x: 0.2 * x**1.5, lambda x: 0.3 * x**0.5),
    "power 3": (games.PowerCost(0.2, 3.0), lambda x: 0.2 * x**3, lambda x: 0.6 * x**2),
}


@pytest.mark.parametrize("name", COSTS)
def test_values_and_marginal_costs_against_the_formula_from_0_on(name):
    cost, formula, marginal = COSTS[name]
    x = np.array([0.0, 1e-6, 0.5, 4.0, 1e4])
    values, slopes = jax.vmap(jax.value_and_grad(cost.value))(x)
    np.testing.assert_allclose(values, formula(x), rtol=1e-14)
    np.testing.assert_allclose(slopes, marginal(x), rtol=1e-14)


@pytest.mark.parametrize("name", COSTS)
@hypothesis.given(price=st.floats(-1, 10))
def test_supply_is_the_best_amount_at_a_price(name, price):
    """x ↦ price x - c(x) is maximal there, on [0, 3] against a grid."""
    cost, formula, _ = COSTS[name]
    grid = np.linspace(0, 3, 3001)
    chosen = float(np.clip(cost.supply(jnp.asarray(price)), 0, 3))
    profit = price * chosen - formula(chosen)
    assert profit >= np.max(price * grid - formula(grid)) - 1e-12
    assert price > 0 or chosen == 0


def test_a_linear_supply_jumps_at_the_rate_itself():
    supply = games.LinearCost(0.3).supply(jnp.array([-1.0, 0.0, np.nextafter(0.3, 0), 0.3, 1.0]))
    assert supply.tolist() == [0, 0, 0, np.inf, np.inf]


@pytest.mark.parametrize("name", COSTS)
@hypothesis.given(factor=st.floats(1e-3, 1), price=st.floats(0, 5))
def test_scaling_scales_the_cost_and_the_price_it_answers_to(name, factor, price):
    cost, formula, _ = COSTS[name]
    scaled = cost.scaled(factor)
    x = np.array([0.0, 0.7, 9.0])
    np.testing.assert_allclose(scaled.value(x), factor * formula(x), rtol=1e-14)
    hypothesis.assume(abs(price - factor * 0.3) > 1e-9)  # where a linear supply jumps
    np.testing.assert_allclose(
        scaled.supply(jnp.asarray(price)), cost.supply(jnp.asarray(price / factor)), rtol=1e-12
    )


@pytest.mark.parametrize("cost", [games.LinearCost(0.3, 0.1), games.PowerCost(0.2, 2.0)])
def test_under_full_compensation_supply_is_free_and_never_nan(cost):
    """β = 1 leaves no cost: any gain is worth everything, and no gain still has an answer."""
    free = cost.scaled(0.0)
    assert free.value(5.0) == 0
    assert free.supply(jnp.asarray(1e-9)) == jnp.inf
    assert not jnp.isnan(free.supply(jnp.asarray(0.0)))


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (games.LinearCost(2.0), [0.0, 3.0, 8.0]),
        (games.LinearCost(RATE, [1.0, 0.0, 5.0]), [1.0, 0.45, 13.0]),  # the fixed part is paid at 0 too
        (games.LinearCost(RATE, 1.0), [1.0, 1.45, 9.0]),
        (games.PowerCost(2.0, [1.5, 2.0, 3.0]), [0.0, 4.5, 128.0]),
        (games.PowerCost(RATE, 2.0), [0.0, 0.675, 32.0]),
    ],
)
def test_shared_and_per_agent_parameters_meet_their_agents(cost, expected):
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0), cost, [9.0] * 3))
    spent = games.incurred_costs(game, jnp.array([0.0, 1.5, 4.0]))
    np.testing.assert_allclose(spent, expected, rtol=1e-14)
    s = jnp.array([0.0, 1.5, 4.0])
    np.testing.assert_allclose(
        games.utilities(game, s), games.payoff_values(game, s) - np.asarray(expected), rtol=1e-14
    )
