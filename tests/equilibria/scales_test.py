"""The same answer in another currency, with constants, in another unit, beside idle agents, in any order."""

from typing import Any, ClassVar

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms, registry
from fedgame.equilibria import certificates, responses, solvers
from fedgame.games import payoffs
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
        "shift": np.zeros(N),
        "rate": 10 ** rng.uniform(-4, -0.5, N) * capacity ** (1 - exponent),
        "exponent": exponent,
        "fixed": np.zeros(N),
        "capacity": capacity,
        "value": rng.uniform(0.5, 2, N),
        "quality": rng.uniform(0.5, 2, N),
    }


@registry.family
class JumpsOrSigmoid(payoffs.OfTotal):
    """Jumps, or a sigmoid: one program for both."""

    concave: ClassVar[bool] = False

    jumps: Any = registry.option("1 if it is the one, 0 if it is the other")

    def curve(self, total):
        jumps = jnp.sum(jnp.where(jnp.array([3.0, 9.0, 20.0]) <= total, 0.3, 0.0))
        return jnp.where(self.jumps > 0, jumps, jax.nn.sigmoid((total - 12) / 2))


def build(d):
    cost = games.PowerCost(d["rate"], d["exponent"], d["fixed"])
    if "jumps" in d:
        payoff = JumpsOrSigmoid(d["jumps"])
    else:
        payoff = games.PowerLaw(d["best"], d["scale"], d["power"], d["shift"])
    return games.Game(payoff, cost, d["capacity"], d["value"], d["quality"])


solve_by = {
    method: jax.jit(lambda d, m=method: equilibria.solve(build(d), method=m))
    for method in ("root in S", "Gauss-Seidel", "dynamics")
}
solve, certify = jax.jit(equilibria.solve), jax.jit(certificates.certify)


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
    money, unit = 10.0 ** (50 * money), 10.0 ** (6 * unit)
    e = {name: np.append(x, x[-1]) for name, x in d.items()}
    e["rate"][-1], e["exponent"][-1], e["capacity"][-1] = 1e3, 1.0, 10.0**idle
    e["rate"] = e["rate"] * money * unit ** -e["exponent"]
    e["fixed"] = money * 0.1 * 10.0 ** (6 * fixed) * np.array([1, 0, 1, 0])
    e["value"], e["capacity"], e["quality"] = e["value"] * money, e["capacity"] * unit, e["quality"] / unit
    order = rng.permutation(N + 1)
    e = {name: x[order] for name, x in e.items()}
    if family != "clipped":  # one program for all: instead of one agent less, one who has nothing
        d = {name: np.append(x, x[-1]) for name, x in d.items()}
        d["capacity"][-1] = 0.0
        d, e = (x | {"jumps": np.asarray(family == "jumps", float)} for x in (d, e))
    one, two = solve_by["root in S"](d), solve_by["root in S"](e)
    one = one.replace(profile=np.asarray(one.profile)[:N])
    same(one, two, np.argsort(order)[:N], unit)


@pytest.mark.parametrize("method", ["Gauss-Seidel", "dynamics"])
@hypothesis.settings(max_examples=15)
@hypothesis.given(seed=SEEDS, money=POWERS)
def test_other_methods_in_another_currency(method, seed, money):
    d, money = numbers(seed) | {"scale": np.full(N, 0.3)}, 10.0 ** (50 * money)
    e = d | {name: d[name] * money for name in ("rate", "value")}
    one, two = solve_by[method](d), solve_by[method](e)
    assert bool(one.converged) == bool(two.converged)
    if one.converged:  # where 10,000 steps do not end, where they are depends on rounding
        same(one, two, np.arange(N), 1.0, 1e-5)


@hypothesis.settings(max_examples=10)
@hypothesis.given(seed=SEEDS, money=POWERS)
def test_who_leaves(seed, money):
    d, rng, money = numbers(seed), np.random.default_rng(seed), 10.0 ** (50 * money)
    d["fixed"] = d["value"] * rng.uniform(0, 0.6, N)
    order = rng.permutation(N)
    e = {name: x[order] for name, x in d.items()}
    e |= {name: e[name] * money for name in ("rate", "value", "fixed")}
    one, two = (mechanisms.participation(build(x), rules.falkinger) for x in (d, e))
    assert order[two.left].tolist() == one.left
    assert two.certified == one.certified


def of_three(scale, power, shift):
    """1 - scale (S + shift)^-power, with numbers of each agent's own like `CLIPPED`."""
    return games.PowerLaw(np.ones(3), np.full(3, scale), np.full(3, power), shift)


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
    cost = games.LinearCost(np.asarray(CLIPPED.cost.rate) * money, np.asarray(fixed * money))
    game = CLIPPED.replace(value=np.asarray(money), cost=cost)
    evidence, verdict = certify(game, np.array([0.0, 5.0, 2.0]))
    assert float(evidence.gap[0]) == pytest.approx((1 / 9 - 0.004) * money, rel=1e-6)
    assert not verdict
    # The search asks her too, and goes on to the equilibrium that there is.
    found = solve(game)
    assert found.profile.tolist() == [0, 0, 0]
    assert found.converged
    assert [one.profile.tolist() for one in equilibria.solve_all(game)] == [[0, 0, 0]]


def test_a_gap_that_a_fixed_cost_hid():
    cost = games.LinearCost(np.full(3, 1e-3), 1e6)
    evidence, verdict = certify(
        games.check(games.Game(of_three(1.0, 0.5, 1.0), cost, [100.0] * 3)), np.zeros(3)
    )
    assert 0.5 < float(evidence.gap[0]) < 1
    assert not verdict


@pytest.mark.parametrize("most", [2.0, 1e30])
def test_what_rounding_hides_cannot_be_told(most):
    """However much somebody could give and pay for, if she would not."""
    cost = games.LinearCost(CLIPPED.cost.rate, np.asarray(1e20))
    found = solve(CLIPPED.replace(cost=cost, capacity=np.array([most, 5.0, 2.0])))
    assert int(found.status) == solvers.NOT_TOLD
    assert not found.converged
    assert "cannot be told" in equilibria.describe(found)


@pytest.mark.parametrize("most", [10.0, 1e4])
@pytest.mark.parametrize(
    ("payoff", "cost", "s"),
    [  # 1 sample would bring .5 in all, 5 cost 5
        (games.LinearPayoff(np.eye(3)), games.PowerCost(0.5, 2.0, 1e15), 0.0),
        (of_three(1e3, 0.5, 0.0), games.LinearCost(np.ones(3), 1e20), 5.0),
    ],
)
def test_no_amount_that_nobody_uses_makes_up_for_what_is_hidden(payoff, cost, s, most):
    game = games.check(games.Game(payoff, cost, [most] * 3))
    assert not certify(game, np.full(3, s))[1]


@pytest.mark.parametrize(
    ("payoff", "cost", "s"),
    [
        (games.TotalPayoff(jnp.expm1), games.PowerCost(1.0, 12.0), 1.0),  # she gains .1 of 4.7
        (games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(1.0, 200.0), 100.0),  # a cost of 10⁴⁰⁰
    ],
)
def test_what_grows_beyond_measure_allows_no_larger_gap(payoff, cost, s):
    game = games.check(games.Game(payoff, cost, [100.0, 100.0] if s == 100 else [3.0, 3.0]))
    assert not certify(game, np.full(2, s))[1]


@pytest.mark.parametrize("capacity", [1e12, 1e15])
@pytest.mark.parametrize("method", ["root in S", "Gauss-Seidel", "dynamics"])
def test_what_an_idle_agent_could_give_moves_nobody(capacity, method):
    d = numbers(0) | {
        "best": np.full(3, 0.97), "scale": np.full(3, 6.0), "power": np.full(3, 0.8),
        "shift": np.full(3, 12.0), "rate": np.array([0.004, 0.005, 9.0]),
        "exponent": np.array([1.5, 1.5, 1.0]),
        "capacity": np.array([100.0, 100.0, capacity]), "value": np.ones(3), "quality": np.ones(3),
    }  # fmt: skip
    found, alone = solve_by[method](d), solve_by["root in S"]({name: x[:2] for name, x in d.items()})
    np.testing.assert_allclose(found.profile, np.append(alone.profile, 0), rtol=1e-7)
    assert found.converged


SIGMOID = games.TotalPayoff(lambda S: 0.8 * jax.nn.sigmoid((S - 20) / 3))


@jax.jit
def yielding(game):
    found = responses.run(game, np.array([15.0, 12.0, 0.0]), 200)
    return found.profile, found.steps, equilibria.nash_gap(game, found.profile)


@pytest.mark.parametrize("apart", [1e-3, 1e-6])
def test_two_who_yield_to_each_other_little_by_little_get_there(apart):
    """Agents 0 and 1 want totals that differ by next to nothing; the dearer one ends with nothing."""
    cost = games.LinearCost(np.array([0.01 * (1 + apart), 0.01, 0.02]))
    profile, steps, gap = yielding(games.check(games.Game(SIGMOID, cost, [40.0, 40.0, 40.0])))
    assert int(steps) < 60
    np.testing.assert_allclose(profile[0], 0, atol=1e-9)
    assert np.max(gap) < 1e-14
