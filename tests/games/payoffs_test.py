from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games

N, M = 4, 3
RNG = np.random.default_rng(0)
Q = RNG.dirichlet(np.ones(M), N) * 0.9
W = RNG.uniform(0, 1, (N, N))
S = np.array([3.0, 0.0, 7.5, 1.25])
K = np.array([0.5, 1.0, 2.0, 3.0])


def bound(total, best, k):
    value = best - (4 + np.sqrt(2 * k * (2 + np.log(total / k)))) / np.sqrt(total)
    return np.maximum(value, 0)


def coverage(s):
    return np.array(
        [1 - 0.5 * sum(Q[i, x] * np.prod((1 - Q[:, x]) ** s) for x in range(M)) for i in range(N)]
    )


def formula(fn):
    return lambda s: np.full(N, fn(np.sum(s)))


CASES = {
    "power law (3)": (games.PowerLaw(1.0, 0.7, 0.5), formula(lambda S: 1 - 0.7 * S**-0.5)),
    "power law per agent": (games.PowerLaw(8.0, K, 1.0, 2.0), lambda s: 8 - K / (2 + np.sum(s))),
    "bound (2)": (games.GeneralizationBound(0.95, 1.0), formula(lambda S: bound(40 * S, 0.95, 1.0))),
    "bound per agent": (games.GeneralizationBound(2.0, K), lambda s: bound(40 * np.sum(s), 2.0, K)),
    "any function of S": (games.TotalPayoff(jnp.log1p), formula(np.log1p)),
    "linear": (games.LinearPayoff(W), lambda s: W @ s),
    "random discovery": (games.RandomDiscovery(Q), lambda s: Q @ Q.T @ s),
    "random coverage (1)": (games.RandomCoverage(Q), coverage),
    "custom": (games.CustomPayoff(lambda s: jnp.cumsum(s) ** 0.5), lambda s: np.cumsum(s) ** 0.5),
}


class Look(NamedTuple):
    payoffs: jax.Array  # [n]
    utilities: jax.Array  # [n]
    own_gradient: jax.Array  # [n]
    jacobian: jax.Array  # [n, n]
    slopes: jax.Array  # [i, j] = ∂u_i / ∂s_j
    bends: jax.Array  # [i, j, k] = ∂²u_i / ∂s_j ∂s_k


@jax.jit
def look(game, s):
    """Everything with one compilation."""

    def of(x):
        return games.utilities(game, x)

    return Look(
        games.payoff_values(game, s), of(s), games.own_gradient(game, s), games.jacobian(game, s),
        jax.jacobian(of)(s), jax.hessian(of)(s),
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_jacobian_against_the_direct_formula(name):
    payoff, direct = CASES[name]
    s = S * 40 if "bound" in name else S
    found = look(games.check(games.Game(payoff, games.PowerCost(K / 100, 2.0), np.full(N, 1e3), value=K)), s)
    scaled = direct(s / 40) if "bound" in name else direct(s)
    np.testing.assert_allclose(found.payoffs, scaled, rtol=1e-12)
    np.testing.assert_allclose(found.utilities, K * scaled - K / 100 * s**2, rtol=1e-12)
    np.testing.assert_allclose(found.own_gradient, np.diag(found.slopes), rtol=1e-10, atol=1e-14)
    own = np.stack([np.asarray(found.bends)[i, i] for i in range(N)])
    np.testing.assert_allclose(found.jacobian, own, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name != "custom"])
def test_own_gradient_against_finite_differences(name):
    payoff, _ = CASES[name]
    s = (S + 1) * (40 if "bound" in name else 1)
    game = games.check(games.Game(payoff, games.PowerCost(K, 1.0), np.full(N, 1e3), value=np.ones(N)))
    up, down = (
        [np.asarray(look(game, s + sign * e).utilities)[i] for i, e in enumerate(1e-5 * np.eye(N))]
        for sign in (1, -1)
    )
    central = np.subtract(up, down) / 2e-5
    np.testing.assert_allclose(look(game, s).own_gradient, central, rtol=1e-6, atol=1e-9)


@jax.jit
def values_and_slopes(payoff, totals):
    return jax.vmap(jax.value_and_grad(payoff.curve))(totals)


@pytest.mark.parametrize("payoff", [games.PowerLaw(1.0, 2.0, 0.5), games.GeneralizationBound(0.95, 10.0)])
def test_clipped_payoffs_are_finite_and_non_negative_from_0_on(payoff):
    totals = np.concatenate([np.zeros(1), np.geomspace(1e-12, 1e6, 500)])
    values, slopes = (np.asarray(x) for x in values_and_slopes(payoff, totals))
    assert values[0] == 0
    assert slopes[0] == 0
    assert np.all(values >= 0)
    assert np.all(np.isfinite(slopes))
    assert np.all(slopes >= 0)
    assert np.all(np.diff(values) >= 0)


def test_the_raw_formulas_are_what_the_paper_prints():
    at = jax.jit(lambda payoff, totals: payoff.curve(totals))
    raw, bound_2 = (
        games.PowerLaw(1.0, 2.0, 0.5, clip=False),
        games.GeneralizationBound(0.95, 10.0, clip=False),
    )
    assert at(raw, np.array([1.0, 0.0])).tolist() == [-1.0, -np.inf]
    negative, undefined = at(bound_2, np.array([100.0, 1.0])).tolist()
    assert negative < 0
    assert np.isnan(undefined)  # below k·e⁻² = 1.35
    before, after = at(games.GeneralizationBound(0.95, 1.0), np.array([62.0, 63.0])).tolist()
    assert before == 0  # (2) turns positive at m ≈ 62.4
    assert after > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 5.0}, "`capacity` must be a vector"),
        ({"capacity": []}, "`capacity` must be a vector"),
        ({"capacity": [1.0, np.nan]}, "`capacity` must be finite"),
        ({"capacity": [1.0, -1.0]}, "`capacity` must be a number, at least 0"),
        (
            {"cost": games.LinearCost([1.0, 2.0, 3.0])},
            r"`rate` must be shared or have .* 2 agents, got shape \(3,\)",
        ),
        ({"cost": games.LinearCost([1.0, -2.0])}, "`rate` must be a number, at least 0"),
        ({"payoff": games.PowerLaw(1.0, np.inf, 1.0)}, "`scale` must be finite"),
        (
            {"payoff": games.RandomCoverage(np.ones((3, 5)))},
            "`q` must be shared or have one entry for each of 2",
        ),
        ({"value": [1.0, np.nan]}, "`value` must be finite"),
    ],
)
def test_check_names_what_is_wrong(changes, message):
    fields = {"payoff": games.PowerLaw(1.0, 1.0, 1.0), "cost": games.LinearCost(1.0), "capacity": [1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        games.check(games.Game(**fields | changes))


@jax.jit
def look_at_cost(cost, x, prices):
    marginal = jax.vmap(jax.grad(cost.value))(x)
    return cost.supply(marginal), cost.supply(prices), cost.value(x), cost.scaled(0.25).value(x)


@pytest.mark.parametrize(
    "cost", [games.LinearCost(0.3, 0.1), games.PowerCost(0.2, 1.5), games.PowerCost(0.2, 3.0)]
)
def test_supply_inverts_the_marginal_cost_and_scaling_multiplies(cost):
    x = np.linspace(0.5, 9, 18)
    supplied, at_prices, paid, scaled = look_at_cost(cost, x, np.array([0.2999, 0.3]))
    if isinstance(cost, games.PowerCost):
        np.testing.assert_allclose(supplied, x, rtol=1e-12)
    else:
        assert at_prices.tolist() == [0, np.inf]
    np.testing.assert_allclose(scaled, 0.25 * np.asarray(paid), rtol=1e-14)
