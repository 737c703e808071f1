import decimal

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("array", "agents"), [(np.full, range(2, 301)), (jnp.full, [2, 3, 4, 12, 17, 20, 101, 300])]
)
def test_equal_costs_give_1_minus_1_over_n_to_a_few_ulp(array, agents, dtype):
    for n in agents:
        for cost in (0.005, 0.1, 1e-12, 7e9):
            beta = mechanisms.optimal_beta(array(n, cost, dtype))
            assert beta.dtype == dtype
            assert abs(float(beta) - (1 - 1 / n)) <= 3 * np.finfo(dtype).eps


@pytest.mark.parametrize(
    ("rates", "beta"),
    [((5, 4), 4 / 9), ((1, 2), 1 / 3), ((1, 2, 3), 0.43308472931820092), ((1e-9, 1), 1e-9 / (1 + 1e-9))],
)
def test_known_values(rates, beta):
    assert float(mechanisms.optimal_beta(jnp.asarray(rates, float))) == pytest.approx(beta, rel=1e-14)


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
    hnp.arrays(float, st.integers(2, 30), elements=st.floats(-9, 9)), st.sampled_from([1.0, 1e-3, 1e-8])
)
def test_any_costs_against_80_digits(exponents, spread):
    """spread → 0: nearly equal costs, where (14) loses every digit. Lemma 1: 0 ≤ β* ≤ 1 - 1/n."""
    rates = 10.0 ** (exponents * spread)
    beta = float(mechanisms.optimal_beta(jnp.asarray(rates)))
    # A relative error in a cost of one rounding moves β* by its square root near equal costs.
    assert beta == pytest.approx(exact_beta(rates), rel=1e-7 if spread < 1 else 1e-12)
    assert 0 <= beta <= (1 - 1 / len(rates)) * (1 + 1e-15)


@pytest.mark.parametrize("rates", [[1.0], [1.0, 0.0], [1.0, -2.0], [1.0, np.nan], [1.0, np.inf], 3.0])
def test_costs_without_a_beta(rates):
    with pytest.raises(ValueError, match="`rates` must be"):
        mechanisms.optimal_beta(jnp.asarray(rates))


@hypothesis.given(hnp.arrays(float, st.integers(2, 50), elements=st.floats(0, 1e6)), st.floats(0, 1))
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


@pytest.mark.parametrize(
    "cost", [games.LinearCost([0.1, 0.12, 0.3], 0.05), games.PowerCost([0.1, 0.2, 0.3], 2.0)]
)
def test_equilibria_of_scaled_costs_are_those_of_the_mechanism(cost):
    """No deviation pays under the whole of u_i + p_i, by brute force."""
    game, beta = games.check(games.Game(games.TotalPayoff(jnp.log1p), cost, [6.0, 2.0, 4.0])), 0.6
    found = jax.jit(equilibria.solve)(mechanisms.under_mechanism(game, beta))
    assert found.converged
    at = mechanisms.utilities(game, beta, found.profile)
    for i in range(3):
        deviations = jnp.linspace(0, game.capacity[i], 2001)
        utility = jax.vmap(lambda x, i=i: mechanisms.utilities(game, beta, found.profile.at[i].set(x))[i])
        assert jnp.max(utility(deviations)) <= at[i] + 1e-12
