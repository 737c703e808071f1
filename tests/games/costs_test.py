import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from fedgame import games

RATE = np.array([0.0, 0.3, 2.0])


# One program for all numbers of a family of costs.
value = jax.jit(lambda cost, own: cost.value(own))
supply = jax.jit(lambda cost, price: cost.supply(price))
inverse = jax.jit(lambda cost, amount: cost.inverse(amount))
scaled = jax.jit(lambda cost, factor: cost.scaled(factor))
bend = jax.jit(lambda cost, own: jax.grad(jax.grad(cost.value))(own))


@jax.jit
def values_and_slopes(cost, own):
    return jax.vmap(jax.value_and_grad(cost.value))(own)


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
    values, slopes = values_and_slopes(cost, x)
    np.testing.assert_allclose(values, formula(x), rtol=1e-14)
    np.testing.assert_allclose(slopes, marginal(x), rtol=1e-14)


@pytest.mark.parametrize("name", COSTS)
@hypothesis.given(price=st.floats(-1, 10))
def test_supply_is_the_best_amount_at_a_price(name, price):
    """x ↦ price x - c(x) is maximal there, on [0, 3] against a grid."""
    cost, formula, _ = COSTS[name]
    grid = np.linspace(0, 3, 3001)
    chosen = float(np.clip(np.asarray(supply(cost, price)), 0, 3))
    profit = price * chosen - formula(chosen)
    assert profit >= np.max(price * grid - formula(grid)) - 1e-12
    assert price > 0 or chosen == 0


def test_a_linear_supply_jumps_at_the_rate_itself():
    supplied = supply(games.LinearCost(0.3), np.array([-1.0, 0.0, np.nextafter(0.3, 0), 0.3, 1.0]))
    assert supplied.tolist() == [0, 0, 0, np.inf, np.inf]


@pytest.mark.parametrize("name", COSTS)
@hypothesis.given(factor=st.floats(1e-3, 1), price=st.floats(0, 5))
def test_scaling_scales_the_cost_and_the_price_it_answers_to(name, factor, price):
    cost, formula, _ = COSTS[name]
    x, less = np.array([0.0, 0.7, 9.0]), scaled(cost, factor)
    np.testing.assert_allclose(value(less, x), factor * formula(x), rtol=1e-14)
    hypothesis.assume(abs(price - factor * 0.3) > 1e-9)  # where a linear supply jumps
    np.testing.assert_allclose(supply(less, price), supply(cost, price / factor), rtol=1e-12)


@pytest.mark.parametrize("cost", [games.LinearCost(0.3, 0.1), games.PowerCost(0.2, 2.0)])
def test_under_full_compensation_supply_is_free_and_never_nan(cost):
    """β = 1 leaves no cost: any gain is worth everything, and no gain still has an answer."""
    free = scaled(cost, 0.0)
    assert value(free, 5.0) == 0
    assert supply(free, 1e-9) == np.inf
    assert not np.isnan(supply(free, 0.0))


@jax.jit
def paid(game, s):
    return games.incurred_costs(game, s), games.utilities(game, s), games.payoff_values(game, s)


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
    spent, utilities, payoffs = paid(game, np.array([0.0, 1.5, 4.0]))
    np.testing.assert_allclose(spent, expected, rtol=1e-14)
    np.testing.assert_allclose(utilities, np.asarray(payoffs) - np.asarray(expected), rtol=1e-14)


RECORDS = np.array([[0.0, 0.1, 0.1, 0.5], [0.2, 0.3, 0.4, 0.4]])


@hypothesis.given(own=st.floats(0, 4), price=st.floats(0, 0.6), amount=st.floats(0, 2))
def test_ordered_selection_against_sums_of_sorted_costs(own, price, amount):
    for records in RECORDS:
        cost = games.OrderedCost(records)
        sums = np.concatenate([[0], np.cumsum(records)])
        assert float(value(cost, own)) == pytest.approx(np.interp(own, np.arange(5), sums), abs=1e-15)
        assert int(supply(cost, price)) == sum(record <= price for record in records)
        grid = np.linspace(0, 4, 40_001)
        affordable = grid[np.interp(grid, np.arange(5), sums) <= amount]
        most = inverse(cost, amount)
        assert -1e-12 <= float(most) - affordable.max() <= 1.01e-4
        assert float(value(cost, most)) <= amount + 1e-15
        half = 0.5 * float(value(cost, own))
        np.testing.assert_allclose(value(scaled(cost, 0.5), own), half, rtol=1e-15)


@pytest.mark.parametrize(
    ("records", "capacity", "message"),
    [
        ([0.2, 0.1], [1.0, 1.0], "`record_costs` must be"),
        ([-0.2, 0.1], [1.0, 1.0], "`record_costs` must be"),
        ([[0.1, 0.2], [0.3, 0.1]], [1.0, 1.0], "`record_costs` must be"),
        ([0.1, 0.2], [2.0, 2.5], "`capacity` must be at most the 2 records"),
        (0.1, [1.0, 1.0], "`record_costs` must be shared or"),
    ],
)
def test_records_that_are_not_sorted_or_not_enough(records, capacity, message):
    with pytest.raises(ValueError, match=message):
        games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.OrderedCost(records), capacity))


@hypothesis.given(x=st.floats(0, 100), price=st.floats(-1, 1), amount=st.floats(0, 50))
def test_a_power_of_1_is_a_linear_cost(x, price, amount):
    power, linear = games.PowerCost(0.3, 1.0, 0.7), games.LinearCost(0.3, 0.7)
    for look, at in ((value, x), (supply, price), (inverse, amount)):
        np.testing.assert_allclose(look(power, at), look(linear, at), rtol=1e-15)
    np.testing.assert_allclose(values_and_slopes(power, np.array([x]))[1], 0.3, rtol=1e-15)


@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize(("rate", "power"), [(0.3, 1.0), (0.0, 1.0), (0.0, 1.5), (0.0, 3.0)])
def test_a_power_of_1_and_free_samples_have_no_curvature(x, rate, power):
    assert float(bend(games.PowerCost(rate, power), x)) == 0.0


@pytest.mark.parametrize(
    ("cost", "bound", "expected"),
    [
        (games.LinearCost(0.5, 1.0), 3.0, 4.0),
        (games.LinearCost([0.5, 2.0]), 3.0, [6.0, 1.5]),
        (games.LinearCost(0.5, 4.0), 3.0, 0.0),
        (games.PowerCost(0.5, [1.0, 2.0], 1.0), [3.0, 9.0], [4.0, 4.0]),
        (games.PowerCost(0.5, 3.0), 4.0, 2.0),
        (games.OrderedCost([0.0, 0.5, 1.0]), [0.0, 0.25, 1.0, 9.0], [1.0, 1.5, 2.5, 3.0]),
        (games.OrderedCost([[0.5, 1.0], [2.0, 2.0]]), 1.0, [1.5, 0.5]),
    ],
)
def test_the_capacity_is_where_the_cost_reaches_the_bound(cost, bound, expected):
    capacity = games.capacity_from_bound(cost, bound)
    assert capacity.shape == np.shape(expected)
    np.testing.assert_allclose(capacity, expected, rtol=1e-14)


@pytest.mark.parametrize("cost", [games.LinearCost([1.0, 0.0]), games.PowerCost([1.0, 0.0], 2.0)])
def test_free_samples_need_a_capacity_of_their_own(cost):
    with pytest.raises(ValueError, match="costs of agent 1 never reach the bound"):
        games.capacity_from_bound(cost, 1.0)


def test_derivatives_of_power_costs_where_a_number_is_0_or_1():
    def power(rate, exponent, own):
        return games.PowerCost(rate, exponent).value(own)

    by_rate, by_exponent, by_own = (jax.jit(jax.grad(power, i)) for i in range(3))
    assert float(by_rate(0.0, 1.5, 50.0)) == pytest.approx(50**1.5, rel=1e-14)
    assert float(by_exponent(0.3, 1.0, 50.0)) == pytest.approx(0.3 * 50 * np.log(50), rel=1e-14)
    assert float(by_exponent(0.3, 1.0, 0.0)) == 0
    assert [float(bend(games.PowerCost(0.3, x), 0.0)) for x in (1.0, 1.5, 2.0, 3.0)] == [0, np.inf, 0.6, 0]
    assert float(bend(games.PowerCost(0.0, 1.5), 0.0)) == 0  # free samples are not curved
    assert float(by_own(0.3, 1.0, 0.0)) == 0.3


def test_the_jacobian_is_a_number_wherever_costs_are_not_infinitely_curved():
    cost = games.PowerCost([0.1, 0.1, 0.2], [1.5, 1.0, 2.0])
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), cost, [5.0] * 3))
    found = np.asarray(jax.jit(games.jacobian)(game, np.array([0.0, 1.0, 0.0])))
    expected = np.full((3, 3), -0.75 * 2**-2.5) - np.diag([np.inf, 0, 0.4])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_is_free_never_reaches_an_amount():
    assert float(inverse(games.LinearCost(0.0), 0.0)) == np.inf
    assert float(inverse(games.PowerCost(0.0, 2.0), 0.0)) == np.inf
    assert float(inverse(games.PowerCost(2.0, 2.0, 1.0), 3.0)) == 1
    assert float(inverse(games.PowerCost(2.0, 2.0, 1.0), 0.5)) == 0
