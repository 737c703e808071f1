"""Answers are the same in other currencies and units, with constants, beside idle agents, in any order."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import responses, solvers
from fedgame.mechanisms import rules

SEEDS, POWERS = st.integers(0, 2**32 - 1), st.floats(-1, 1)
N = 3


def numbers(seed):
    rng = np.random.default_rng(seed)
    exponent = rng.choice([1.0, 1.5, 2.0], N)
    capacity = rng.uniform(1, 30, N)
    return {
        "best": rng.uniform(0.5, 1, N),
        "scale": rng.uniform(0.3, 3, N),
        "power": rng.uniform(0.3, 1, N),
        "rate": 10 ** rng.uniform(-4, -0.5, N) * capacity ** (1 - exponent),
        "exponent": exponent,
        "fixed": np.zeros(N),
        "capacity": capacity,
        "value": rng.uniform(0.5, 2, N),
        "quality": rng.uniform(0.5, 2, N),
    }


def build(family, d):
    cost = games.PowerCost(d["rate"], d["exponent"], d["fixed"])
    payoff = games.PowerLaw(d["best"], d["scale"], d["power"])
    if family == "jumps":
        payoff = games.TotalPayoff(lambda S: jnp.sum(jnp.where(jnp.array([3.0, 9.0, 20.0]) <= S, 0.3, 0.0)))
    if family == "sigmoid":
        payoff = games.TotalPayoff(lambda S: jax.nn.sigmoid((S - 12) / 2))
    return games.Game(payoff, cost, d["capacity"], d["value"], d["quality"])


solve = {
    (family, method): jax.jit(lambda d, f=family, m=method: equilibria.solve(build(f, d), method=m))
    for family in ("clipped", "jumps", "sigmoid")
    for method in (None, "Gauss-Seidel", "dynamics")
}


def same(one, two, place, unit, digits=1e-6):
    assert solvers.MEANING[int(two.status)] == solvers.MEANING[int(one.status)]
    assert bool(one.converged) == bool(two.converged)
    s, t = np.asarray(one.profile), np.asarray(two.profile)[place] / unit
    np.testing.assert_allclose(t, s, rtol=digits, atol=digits * s.max() + 1e-9)


@pytest.mark.parametrize("family", ["clipped", "jumps", "sigmoid"])
@hypothesis.settings(max_examples=30)
@hypothesis.given(seed=SEEDS, money=POWERS, unit=POWERS, fixed=POWERS, idle=st.floats(0, 15))
def test_verdict_status_and_profile(family, seed, money, unit, fixed, idle):
    d, rng = numbers(seed), np.random.default_rng(seed)
    money, unit = 10.0 ** (9 * money), 10.0 ** (6 * unit)
    e = {name: np.append(x, x[-1]) for name, x in d.items()}
    e["rate"][-1], e["exponent"][-1], e["capacity"][-1] = 1e3, 1.0, 10.0**idle
    e["rate"] = e["rate"] * money * unit ** -e["exponent"]
    e["fixed"] = money * 0.1 * 10.0 ** (6 * fixed) * np.array([1, 0, 1, 0])
    e["value"], e["capacity"], e["quality"] = e["value"] * money, e["capacity"] * unit, e["quality"] / unit
    order = rng.permutation(N + 1)
    one, two = solve[family, None](d), solve[family, None]({name: x[order] for name, x in e.items()})
    same(one, two, np.argsort(order)[:N], unit)


@pytest.mark.parametrize("method", ["Gauss-Seidel", "dynamics"])
@hypothesis.settings(max_examples=15)
@hypothesis.given(seed=SEEDS, money=POWERS)
def test_other_methods_in_another_currency(method, seed, money):
    d, money = numbers(seed) | {"scale": np.full(N, 0.3)}, 10.0 ** (9 * money)
    e = d | {name: d[name] * money for name in ("rate", "value")}
    one, two = solve["clipped", method](d), solve["clipped", method](e)
    assert bool(one.converged) == bool(two.converged)
    if one.converged:  # where 10,000 steps do not end, where they are depends on rounding
        same(one, two, np.arange(N), 1.0, 1e-5)


@hypothesis.settings(max_examples=10)
@hypothesis.given(seed=SEEDS, money=POWERS)
def test_who_leaves(seed, money):
    d, rng, money = numbers(seed), np.random.default_rng(seed), 10.0 ** (10 * money)
    d["fixed"] = d["value"] * rng.uniform(0, 0.6, N)
    order = rng.permutation(N)
    e = {name: x[order] for name, x in d.items()}
    e |= {name: e[name] * money for name in ("rate", "value", "fixed")}
    one, two = (mechanisms.participation(build("clipped", x), rules.falkinger) for x in (d, e))
    assert order[two.left].tolist() == one.left
    assert two.certified == one.certified


CLIPPED = games.check(
    games.Game(
        games.PowerLaw([1, 0.8, 0.7], [8, 2, 1], [1, 0.7, 0.5]),
        games.LinearCost([0.002, 0.05, 0.01]),
        [2.0, 5.0, 2.0],
    )
)


@pytest.mark.parametrize("money", [1e-9, 1e-6, 1.0, 1e9])
@pytest.mark.parametrize("fixed", [0.0, 1e6])
def test_somebody_who_would_jump_is_seen_in_small_currencies_and_beside_fixed_costs(money, fixed):
    """At (0, 5, 2) agent 0 gains .107 by giving all she has: 1 - 8/9 less what that costs."""
    cost = games.LinearCost(CLIPPED.cost.rate * money, fixed * money)
    game, s = CLIPPED.replace(value=money, cost=cost), jnp.array([0.0, 5.0, 2.0])
    assert float(equilibria.nash_gap(game, s)[0]) == pytest.approx((1 / 9 - 0.004) * money, rel=1e-6)
    assert not equilibria.is_equilibrium(game, s)
    # The search asks her too, and goes on to the equilibrium that there is.
    found = jax.jit(equilibria.solve)(game)
    assert found.profile.tolist() == [0, 0, 0]
    assert found.converged
    assert [one.profile.tolist() for one in equilibria.solve_all(game)] == [[0, 0, 0]]


def test_a_gap_that_a_fixed_cost_hid():
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(1e-3, 1e6), [100.0]))
    assert 0.5 < float(equilibria.nash_gap(game, jnp.zeros(1))[0]) < 1
    assert not equilibria.is_equilibrium(game, jnp.zeros(1))


@pytest.mark.parametrize("most", [2.0, 1e30])
def test_what_rounding_hides_cannot_be_told(most):
    """However much an agent could give and pay for, if she does not want to."""
    game = CLIPPED.replace(
        cost=games.LinearCost(CLIPPED.cost.rate, 1e20), capacity=jnp.array([most, 5.0, 2.0])
    )
    found = equilibria.solve(game)
    assert int(found.status) == solvers.NOT_TOLD
    assert not found.converged
    assert "cannot be told" in equilibria.describe(found)


@pytest.mark.parametrize("most", [10.0, 1e4])
@pytest.mark.parametrize(
    ("payoff", "cost", "s"),
    [  # 1 sample would bring .5 in all, 5 cost 5
        (games.LinearPayoff(np.eye(2)), games.PowerCost(0.5, 2.0, 1e15), 0.0),
        (games.PowerLaw(1.0, 1e3, 0.5), games.LinearCost(1.0, 1e20), 5.0),
    ],
)
def test_no_amount_that_nobody_uses_makes_up_for_what_is_hidden(payoff, cost, s, most):
    game = games.check(games.Game(payoff, cost, [most, most]))
    assert not equilibria.is_equilibrium(game, jnp.full(2, s))


@pytest.mark.parametrize(
    ("payoff", "cost", "s"),
    [
        (games.TotalPayoff(jnp.expm1), games.PowerCost(1.0, 12.0), 1.0),  # she gains .1 of 4.7
        (games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(1.0, 200.0), 100.0),  # a cost of 10⁴⁰⁰
    ],
)
def test_what_grows_beyond_measure_allows_no_larger_gap(payoff, cost, s):
    game = games.check(games.Game(payoff, cost, [100.0, 100.0] if s == 100 else [3.0, 3.0]))
    assert not equilibria.is_equilibrium(game, jnp.full(2, s))


@pytest.mark.parametrize("capacity", [1e12, 1e15])
@pytest.mark.parametrize("method", ["root in S", "Gauss-Seidel", "dynamics"])
def test_what_an_idle_agent_could_give_moves_nobody(capacity, method):
    cost = games.PowerCost([0.004, 0.005, 9.0], [1.5, 1.5, 1.0])
    game = games.check(games.Game(games.PowerLaw(0.97, 6.0, 0.8, 12.0), cost, [100.0, 100.0, capacity]))
    found, alone = (
        jax.jit(lambda game: equilibria.solve(game, method=method))(x)
        for x in (game, games.subset(game, [0, 1]))
    )
    np.testing.assert_allclose(found.profile, np.append(alone.profile, 0), rtol=1e-7)
    assert found.converged


@pytest.mark.parametrize("apart", [1e-3, 1e-6])
def test_two_who_yield_to_each_other_little_by_little_get_there(apart):
    """Agents 0 and 1 want almost the same total; the one with the higher cost contributes nothing."""
    curve = games.TotalPayoff(lambda S: 0.8 * jax.nn.sigmoid((S - 20) / 3))
    cost = games.LinearCost(jnp.array([0.01 * (1 + apart), 0.01, 0.02]))
    game = games.check(games.Game(curve, cost, [40.0, 40.0, 40.0]))
    found = jax.jit(lambda s: responses.run(game, s, 200))(jnp.array([15.0, 12.0, 0.0]))
    assert int(found.steps) < 60
    np.testing.assert_allclose(found.profile[0], 0, atol=1e-9)
    assert float(jnp.max(equilibria.nash_gap(game, found.profile))) < 1e-14
