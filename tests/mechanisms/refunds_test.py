import decimal

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games, mechanisms
from fedgame.mechanisms import refunds

SOLVE, COSTS = jax.jit(equilibria.solve), jax.jit(games.incurred_costs)
UTILITIES = jax.jit(mechanisms.utilities)
LAW = games.PowerLaw(8.0, 2.0, 1.0, 1.0)


@jax.jit
def most_gained(game, rates, transfers, s):
    """[n] maximum of u_i + p_i over own contributions on a grid, less what it is at s, by payments."""

    def utility(x, i):
        return mechanisms.utilities(game, rates, s.at[i].set(x), transfers)[i]

    def one(i):
        tried = jax.vmap(utility, (0, None))(jnp.linspace(0, game.capacity[i], 2001), i)
        return jnp.max(tried) - utility(s[i], i)

    return jax.vmap(one)(jnp.arange(game.n))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("beta_star", "kind", "agents"),
    [
        (mechanisms.beta_star, np.asarray, range(2, 301)),
        (jax.jit(mechanisms.beta_star), jnp.asarray, [2, 3, 4, 12, 17, 20, 101, 300]),
    ],
    ids=["numpy", "jax"],
)
def test_equal_costs_give_1_minus_1_over_n_to_a_few_ulp(beta_star, kind, agents, dtype):
    for n in agents:
        for cost in (0.005, 0.1, 1e-12, 7e9):
            beta = beta_star(kind(np.full(n, cost, dtype)))
            assert beta.dtype == dtype
            assert abs(float(beta) - (1 - 1 / n)) <= 3 * np.finfo(dtype).eps


@pytest.mark.parametrize(
    ("rates", "beta"),
    [((5, 4), 4 / 9), ((1, 2), 1 / 3), ((1, 2, 3), 0.43308472931820092), ((1e-9, 1), 1e-9 / (1 + 1e-9))],
)
def test_known_values(rates, beta):
    assert float(mechanisms.beta_star(jnp.asarray(rates, float))) == pytest.approx(beta, rel=1e-14)


def exact_beta(rates):
    """Eq. (14) with 80 digits."""
    with decimal.localcontext() as context:
        context.prec = 80
        c = [decimal.Decimal(float(rate)) for rate in rates]
        n, a, total = len(c), 1 / sum(1 / x for x in c), sum(c)
        b = a * n * (n - 2) + total
        root = max(b * b - 4 * a * total * (n - 1) ** 2, decimal.Decimal(0)).sqrt()
        return float((b - root) / (2 * total))


@hypothesis.given(
    hnp.arrays(float, st.sampled_from([2, 3, 30]), elements=st.floats(-9, 9)),
    st.sampled_from([1.0, 1e-3, 1e-8]),
)
def test_any_costs_against_80_digits(exponents, spread):
    """spread → 0: nearly equal costs, where (14) loses every digit. Lemma 1: 0 ≤ β* ≤ 1 - 1/n."""
    rates = 10.0 ** (exponents * spread)
    beta = float(mechanisms.beta_star(jnp.asarray(rates)))
    # A relative error in a cost of one rounding moves β* by its square root near equal costs.
    assert beta == pytest.approx(exact_beta(rates), rel=1e-7 if spread < 1 else 1e-12)
    assert 0 <= beta <= (1 - 1 / len(rates)) * (1 + 1e-15)


@pytest.mark.parametrize("rates", [[1.0], [1.0, 0.0], [1.0, -2.0], [1.0, np.nan], [1.0, np.inf], 3.0])
def test_costs_without_a_beta(rates):
    with pytest.raises(ValueError, match="`rates` must be"):
        mechanisms.beta_star(jnp.asarray(rates))


@hypothesis.given(hnp.arrays(float, st.sampled_from([2, 3, 50]), elements=st.floats(0, 1e6)), st.floats(0, 1))
def test_payments_sum_to_zero(spent, beta):
    paid = np.asarray(mechanisms.payments(beta, jnp.asarray(spent)))
    assert abs(paid.sum()) <= 1e-15 * len(spent) * (1 + spent.sum())
    n = len(spent)
    direct = [beta * (spent[i] - (np.sum(spent[:i]) + np.sum(spent[i + 1 :])) / (n - 1)) for i in range(n)]
    np.testing.assert_allclose(paid, direct, rtol=1e-9, atol=1e-12 * (1 + spent.max()))


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_beta_out_of_range(beta):
    game = games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.LinearCost(1.0), jnp.ones(2))
    with pytest.raises(ValueError, match=r"`beta` must lie in \[0, 1\]"):
        mechanisms.under_mechanism(game, beta)


def test_one_agent_has_nobody_to_pay():
    game = games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.LinearCost(0.1), jnp.ones(1))
    with pytest.raises(ValueError, match="at least two"):
        mechanisms.under_mechanism(game, 0.5)
    np.testing.assert_array_equal(
        mechanisms.utilities(game, 0.0, jnp.ones(1)), games.utilities(game, jnp.ones(1))
    )


def test_equilibria_of_scaled_costs_are_those_of_the_mechanism():
    """No deviation raises u_i + p_i, by brute force."""
    cost, beta = games.LinearCost([0.1, 0.12, 0.3, 0.4], 0.05), 0.6
    game = games.check(games.Game(LAW, cost, [6.0, 2.0, 4.0, 0.1]))
    found = SOLVE(mechanisms.under_mechanism(game, beta))
    assert found.converged
    assert np.all(np.asarray(most_gained(game, beta, 0.0, found.profile)) <= 1e-12)


# Rates of one's own, and transfers


@hypothesis.given(
    hnp.arrays(float, st.sampled_from([2, 3, 50]), elements=st.floats(0, 1e6)), st.integers(0, 2**32 - 1)
)
def test_payments_with_personal_rates_sum_to_zero(spent, seed):
    rng, n = np.random.default_rng(seed), len(spent)
    rates, transfers = rng.random(n), rng.normal(size=n)
    transfers -= transfers.mean()
    paid = np.asarray(mechanisms.payments(jnp.asarray(rates), jnp.asarray(spent), jnp.asarray(transfers)))
    assert abs(paid.sum()) <= 1e-15 * n * (n + spent.sum())
    for i in range(n):
        others = sum(rates[j] * spent[j] for j in range(n) if j != i) / (n - 1)
        assert paid[i] == pytest.approx(
            rates[i] * spent[i] - others + transfers[i], rel=1e-9, abs=1e-9 * (1 + spent.max())
        )
    one = np.asarray(mechanisms.payments(0.3, jnp.asarray(spent)))
    np.testing.assert_allclose(mechanisms.payments(np.full(n, 0.3), jnp.asarray(spent)), one, rtol=1e-12)


@pytest.mark.parametrize(
    "cost",
    [
        games.PowerCost([0.1, 0.2, 0.3, 0.4], [2.0] * 4, [0.0] * 4),
        games.OrderedCost([0.1, 0.2, 0.3, 0.5, 0.6, 0.7]),
    ],
)  # fmt: skip
def test_personal_rates_scale_everybodys_own_cost(cost):
    """No deviation raises u_i + p_i, by brute force; a cost shared by all becomes one for each."""
    game = games.check(games.Game(LAW, cost, [6.0, 2.0, 4.0, 3.0]))
    rates, transfers = np.array([0.2, 0.9, 0.5, 0.3]), np.array([1.0, -3.0, 1.5, 0.5])
    under = mechanisms.under_mechanism(game, rates)
    s = np.array([1.5, 0.25, 3.75, 2.0])
    np.testing.assert_allclose(COSTS(under, s), (1 - rates) * np.asarray(COSTS(game, s)), rtol=1e-14)
    found = SOLVE(under)
    assert found.converged
    assert np.all(np.asarray(most_gained(game, rates, transfers, found.profile)) <= 1e-12)


@pytest.mark.parametrize("beta", [[0.5, 1.1], [0.5, -0.1], [0.5, np.nan], [0.5] * 3, [[0.5, 0.5]], [0.5]])
def test_rates_that_are_none(beta):
    game = games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.LinearCost(1.0), jnp.ones(2))
    for rates in (beta, np.asarray(beta), jnp.asarray(beta)):
        with pytest.raises(ValueError, match=r"`beta` must lie in \[0, 1\], one or one for each of 2 agents"):
            mechanisms.under_mechanism(game, rates)


def test_one_agent_may_have_the_rate_0():
    game = games.Game(games.PowerLaw(1.0, 1.0, 1.0), games.LinearCost(0.1), jnp.ones(1))
    for nothing in (0.0, [0.0], jnp.zeros(1)):
        assert np.ravel(mechanisms.under_mechanism(game, nothing).cost.rate) == [0.1]
    with pytest.raises(ValueError, match="at least two"):
        mechanisms.under_mechanism(game, [0.5])


# Falkinger's β


@hypothesis.settings(max_examples=8)
@hypothesis.given(st.integers(0, 2**32 - 1))
def test_falkingers_beta_attains_the_bound_of_every_p_mean(seed):
    """Identical payoffs, different convex costs, capacities that bind; against one convex program."""
    rng, n = np.random.default_rng(seed), 4
    rate, exponent, fixed = (
        10 ** rng.uniform(-2, 0, n),
        rng.choice([1.0, 1.3, 2.0, 3.0], n),
        rng.uniform(0, 0.2, n),
    )
    capacity = rng.choice([0.0, 0.1, 0.5, 5.0], n)
    game = games.check(games.Game(LAW, games.PowerCost(rate, exponent, fixed), capacity))

    def lost(s):
        return -n * (8 - 2 / (1 + s.sum())) + np.sum(rate * s**exponent + fixed)

    def slope(s):
        return -2 * n / (1 + s.sum()) ** 2 + rate * exponent * s ** (exponent - 1)

    best = scipy.optimize.minimize(
        lost, capacity / 2, jac=slope, bounds=[(0, c) for c in capacity], method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000},
    )  # fmt: skip
    beta = mechanisms.falkinger_beta(n)
    found = SOLVE(mechanisms.under_mechanism(game, beta))
    assert found.converged
    u = np.asarray(UTILITIES(game, beta, found.profile))
    assert np.ptp(u) <= 1e-13
    for p in (1, 0.5, 0, -1, -20, -np.inf):
        assert float(mechanisms.p_mean(u, p)) == pytest.approx(-best.fun / n, rel=1e-8)
        assert float(mechanisms.p_mean(u, p)) >= -best.fun / n - 1e-12


# Whole currency units


@hypothesis.given(
    hnp.arrays(float, st.integers(1, 60), elements=st.floats(-1e6, 1e6)),
    st.sampled_from([0.01, 1.0, 1e-3, 7.0, 1e7]),
)
def test_whole_units_sum_to_exactly_zero_and_nobody_is_a_whole_unit_off(paid, unit):
    paid = paid - paid.mean()
    units = refunds.whole_units(paid, unit)
    assert units.dtype == np.int64
    assert sum(units.tolist()) == 0
    assert np.all(np.abs(units - paid / unit) < 1)
    # Largest remainders: nobody who was rounded down lost more of a unit than somebody rounded up.
    lost = paid / unit - np.floor(paid / unit)
    up = units > np.floor(paid / unit)
    assert not (np.any(up) and np.any(~up)) or lost[up].min() >= lost[~up].max()


def test_a_million_payments():
    paid = np.random.default_rng(0).normal(scale=1e4, size=10**6)
    paid -= paid.mean()
    units = refunds.whole_units(paid, 0.01)
    assert units.sum() == 0
    assert np.abs(units - paid / 0.01).max() < 1
    halves = np.tile([0.5, -0.5], 500_000)  # all lose alike: the first ones get the units
    units = refunds.whole_units(halves, 1)
    assert units.sum() == 0
    assert units[:500_000:2].tolist() == [1] * 250_000


@pytest.mark.parametrize(
    ("paid", "units"),
    [
        ([1.0, -1.0], [1, -1]),
        ([0.5, -0.5], [1, -1]),
        ([-0.5, 0.5], [0, 0]),  # both lose ½, and the first gets the unit
        ([1e-17, -1e-17], [0, 0]),
        ([0.1 + 0.2, -0.3], [0, 0]),
        ([0.4, 0.3, -0.7], [1, 0, -1]),
        ([2.0**51, -(2.0**51)], [2**51, -(2**51)]),
        ([0.0], [0]),
        ([1e-9], [0]),
        ([2.9999999999, -3.0], [3, -3]),
    ],
)
def test_known_whole_units(paid, units):
    assert refunds.whole_units(paid, 1).tolist() == units


@pytest.mark.parametrize(
    ("paid", "unit", "message"),
    [
        ([1.0, -1.0], 0.0, "`unit` must be a number above 0"),
        ([1.0, -1.0], -0.01, "`unit` must be"),
        ([1.0, -1.0], np.nan, "`unit` must be"),
        ([1.0, -1.0], np.inf, "`unit` must be"),
        ([1.0, np.nan], 0.01, "`paid` must be finite"),
        ([np.inf, -np.inf], 0.01, "`paid` must be finite"),
        ([1e300, -1e300], 1e-300, "`paid` must be finite and below"),
        ([2.0**53, -(2.0**53)], 1.0, "`paid` must be finite and below"),
        ([1.0, 1.0], 0.01, "`paid` must sum to 0, got 2.0"),
        ([1.0, -3.0], 0.01, "`paid` must sum to 0, got -2.0"),
    ],
)
def test_what_cannot_be_paid(paid, unit, message):
    with pytest.raises(ValueError, match=message):
        refunds.whole_units(paid, unit)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_beta_star_of_costs_whose_sum_is_too_large_for_a_number(kind):
    assert float(mechanisms.beta_star(kind([1e308] * 3))) == pytest.approx(2 / 3, rel=1e-12)


def test_the_derivative_of_beta_star_at_the_tip_of_its_cone_is_0():
    assert jax.grad(mechanisms.beta_star)(jnp.full(3, 5.0)).tolist() == [0, 0, 0]
    rates, step = np.array([1.0, 2.0, 3.0]), 1e-6
    slope = jax.grad(mechanisms.beta_star)(jnp.asarray(rates))
    moves = [mechanisms.beta_star(rates + s * step * e) for e in np.eye(3) for s in (1, -1)]
    np.testing.assert_allclose(slope, np.subtract(moves[::2], moves[1::2]) / (2 * step), rtol=1e-6)
