"""Theorem 4.1 audited: where it holds, where it does not, and what its KKT conditions say there."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, mechanisms
from fedgame.mechanisms import budgets

INF = float("inf")
nash_gap = jax.jit(budgets.nash_gap)
POWERS = (1, 0.5, 1e-6, 0, -1, -50)
CONDITIONS = ("(20)", "(21)", "(22)", "(23)")


def logarithmic(agent, b, total):
    own, shared = agent
    return own * jnp.log1p(b) + shared * jnp.log1p(total)


def linear_game(payoff, rate, capacity, value=1.0, fixed=0.0):
    per_agent = np.broadcast_arrays(rate, capacity, value, fixed)  # alike, so compiled once
    rate, capacity, value, fixed = map(np.array, per_agent)
    return games.check(games.Game(payoff, games.LinearCost(rate, fixed), capacity, value))


FIRST = linear_game(games.TotalPayoff(jnp.log1p), [5.0, 4.0], [2.0, 2.0], np.array([50.0, 40.0]) / 9)
SECOND = linear_game(games.PowerLaw(8.0, [1.0, 0.8], 1.0), [5.0, 4.0], [1.0, 1.0])
EQUAL_COSTS = {
    "power law": games.PowerLaw(8.0, [0.7, 0.7], 1.0),
    "logarithm": games.TotalPayoff(jnp.log1p),
    "bound": games.GeneralizationBound([0.9, 1.0], 1.0),
}


def audit_equal(name, p, budget=None):
    rate, capacity = (1e-4, 1e4) if name == "bound" else (1.0, 2.0)
    return mechanisms.audit(linear_game(EQUAL_COSTS[name], [rate] * 2, [capacity] * 2, 1.0), 0.5, p, budget)


@pytest.mark.parametrize("p", [*POWERS, -INF])
@pytest.mark.parametrize("name", EQUAL_COSTS)
def test_equal_costs(name, p):
    """Proved by the bound, and by multipliers: (24) is 0/0, its limit fulfils (20)-(23) to rounding."""
    found = audit_equal(name, p)
    assert found.verdict.startswith(
        "Theorem 4.1 holds here: the equilibrium has s > 0 and maximises W_p: proved"
    )
    assert found.nash_gap < 1e-9
    assert abs(found.gap) <= 1e-9 * found.welfare
    if p > -INF:
        assert found.kkt.holds
        assert all(residual < 1e-7 for residual in found.kkt.residuals.values())
        assert np.all(found.kkt.gamma == 0)
    else:
        assert found.kkt is None


@pytest.mark.parametrize("p", [1, 0, -1])
def test_equal_costs_and_budgets_that_bind(p):
    """All is spent, λ_i > 0 and γ_i = ∂W_p/∂u_i λ_i > 0 by (25): the theorem holds there too."""
    shared = np.array([3.0, 3.5, 4.0])
    game = budgets.budget_game(logarithmic, (np.full(3, 0.5), shared), 1.0, 3.0)
    found = mechanisms.audit(game, 2 / 3, p)
    np.testing.assert_allclose(found.profile, 3.0, rtol=1e-9)
    # (16): shared / (1 + S) = 1/3 (own / (1 + b) + λ) with b = 0 and S = 9.
    np.testing.assert_allclose(found.kkt.lagrange, 3 * shared / 10 - 0.5, rtol=1e-9)
    mean, u = found.welfare, found.utilities
    np.testing.assert_allclose(found.kkt.gamma, (mean / u) ** (1 - p) / 3 * found.kkt.lagrange, rtol=1e-7)
    assert found.kkt.holds
    assert found.verdict.startswith("Theorem 4.1 holds here")
    assert "proved" in found.verdict


@pytest.mark.parametrize(("p", "mean", "more"), [
    (1, 6.21574, 6.58145), (0.5, 6.2106, 6.5549), (0, 6.2055, 6.5293), (-1, 6.1952, 6.4810),
])  # fmt: skip
@pytest.mark.parametrize("budget", [5.0, np.array([5.0, 5.0])])
def test_first_counterexample(p, mean, more, budget):
    """An equilibrium with s > 0 under β*, far from the supremum over s > 0, which nothing attains."""
    found = mechanisms.audit(FIRST, 4 / 9, p, budget, [0.5, 0.5])
    assert found.nash_gap < 1e-12
    assert found.positive
    np.testing.assert_allclose(found.utilities, [6.57304, 5.85843], atol=5e-6)
    assert found.welfare == pytest.approx(mean, abs=5e-5)
    assert found.optimum.welfare == pytest.approx(more, abs=5e-5)
    assert found.gap == pytest.approx(more - mean, abs=1e-4)
    assert found.optimum.bound - found.optimum.welfare < 1e-7
    assert found.optimum.attained is False
    assert found.optimum.profile[0] < 1e-9
    assert not found.kkt.holds
    assert found.kkt.residuals["(21)"] > 0.4
    assert all(found.kkt.residuals[name] < 1e-12 for name in ("(16)", "(20)", "(22)", "(23)", "(26)"))
    assert found.verdict.startswith("Theorem 4.1 FAILS here: the equilibrium has s > 0 and does not maximise")
    if p == 1:
        np.testing.assert_allclose(found.optimum.profile, [0.0, 1.5], atol=1e-6)
        np.testing.assert_allclose(found.optimum.utilities, [7.42384, 5.73907], atol=5e-6)
        # (24) by hand: 1/c = (4, 5)/20 and β* = 4/9, so μ = T (0, 1).
        assert abs(found.kkt.mu[0]) < 1e-12


@pytest.mark.parametrize(("p", "least"), [(1, 0.1617), (0, 0.16), (-1, 0.16)])
def test_second_counterexample(p, least):
    """At (.3, .3), W_1 = 5.15; (.01, .66) has 5.3117, and the supremum a little more."""
    found = mechanisms.audit(SECOND, 4 / 9, p, profile=[0.3, 0.3])
    assert found.nash_gap < 1e-12
    assert least <= found.gap <= 0.18
    assert found.kkt.residuals["(21)"] > 0.5
    assert found.kkt.residuals["(26)"] < 1e-12
    assert "FAILS" in found.verdict
    if p == 1:
        assert found.welfare == pytest.approx(5.15, abs=1e-12)
        there = mechanisms.utilities(SECOND, 4 / 9, jnp.array([0.01, 0.66]))
        assert float(there.mean()) == pytest.approx(5.3117, abs=5e-5)
        assert found.optimum.welfare > float(there.mean())


def test_the_solver_finds_the_counterexample_too():
    found = mechanisms.audit(FIRST, 4 / 9, 1, 5.0)
    assert found.profile.sum() == pytest.approx(1.0, rel=1e-9)
    assert "FAILS" in found.verdict


@pytest.mark.parametrize(("beta", "s", "mean"), [(4 / 9, 0.6708204, 5.1676472), (0.5, 0.7071068, 5.1715729)])
def test_example_1(beta, s, mean):
    """Under β* agent 1 contributes nothing, and β = 1/2 does better: it maximises every p-mean."""
    game = linear_game(games.PowerLaw(8.0, [1.0, 1.0], 1.0), [5.0, 4.0], [8 / 5, 2.0])
    for p in (1, 0, -1):
        found = mechanisms.audit(game, beta, p)
        np.testing.assert_allclose(found.profile, [0.0, s], atol=1e-7)
        assert found.kkt is None
        if p == 1:
            assert found.welfare == pytest.approx(mean, rel=1e-7)
        if beta == 0.5:
            assert found.verdict.startswith("the equilibrium maximises W_p: proved")
            assert "says nothing of this β" in found.verdict
        else:
            assert found.verdict.startswith("Theorem 4.1 says nothing, as agents [0] contribute nothing")
            assert "does not maximise" in found.verdict
            assert found.gap > 1e-3


def interior(seed, n, beta=None):
    """Random costs, and payoffs such that a random s > 0 is an equilibrium of M_β: (16) with λ = 0."""
    rng = np.random.default_rng(seed)
    rate, s, own = rng.uniform(1, 3, n), rng.uniform(0.1, 1, n), rng.uniform(0.5, 2, n)
    beta = float(mechanisms.beta_star(rate)) if beta is None else beta
    budget = 3 + rate.sum() * s.max() + rng.uniform(0, 2, n)
    spent = rate * s
    b = budget - (1 - beta) * spent - beta / (n - 1) * (spent.sum() - spent)
    shared = (1 - beta) * rate * own / (1 + b) * (1 + s.sum())
    return budgets.budget_game(logarithmic, (own, shared), rate, budget), beta, s


@hypothesis.settings(max_examples=10)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), p=st.sampled_from([1, 0, -1]))
def test_26_holds_at_every_interior_equilibrium_and_21_at_none(seed, p):
    """So Lemma 3 proves less than the theorem needs; with another β, (26) fails too."""
    game, beta, s = interior(seed, 3)
    assert np.max(nash_gap(game, beta, s)[0]) < 1e-12
    kkt = mechanisms.kkt_residuals(game, beta, p, s)
    assert kkt.residuals["(16)"] < 1e-12
    assert kkt.residuals["(20)"] < 1e-9
    assert kkt.residuals["(26)"] < 1e-9
    assert kkt.residuals["(21)"] > 1e-3
    assert not kkt.holds
    game, other, s = interior(seed, 3, beta * 0.9)
    assert mechanisms.kkt_residuals(game, other, p, s).residuals["(26)"] > 1e-3


@pytest.mark.parametrize("p", [1, 0, -1])
def test_multipliers_by_the_formulas(p):
    """(24) and (25) in plain numpy, where agent 3's budget binds: her μ and so her γ are negative."""
    rate, s, own, n = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.3]), np.ones(3), 3
    beta = float(mechanisms.beta_star(rate))
    spent = rate * s
    paid = (1 - beta) * spent + beta / 2 * (spent.sum() - spent)
    budget, lagrange = paid + np.array([2.0, 2.0, 0.0]), np.array([0.0, 0.0, 0.7])
    by_money = own / (1 + budget - paid)
    by_data = (1 - beta) * rate * (by_money + lagrange)
    game = budgets.budget_game(logarithmic, (own, by_data * (1 + s.sum())), rate, budget)
    assert np.max(nash_gap(game, beta, s)[0]) < 1e-12
    kkt = mechanisms.kkt_residuals(game, beta, p, s)
    u = np.log1p(budget - paid) + by_data * (1 + s.sum()) * np.log1p(s.sum())
    mean = {1: u.mean(), 0: np.exp(np.log(u).mean()), -1: 1 / (1 / u).mean()}[p]
    weight = (mean / u) ** (1 - p) / n
    total = weight @ by_data * np.sum(1 / rate)
    mu = (total / rate / np.sum(1 / rate) - beta * total / (n - 1)) / (1 - beta * n / (n - 1))
    np.testing.assert_allclose(kkt.mu, mu, rtol=1e-10)
    np.testing.assert_allclose(kkt.lagrange, lagrange, atol=1e-12)
    np.testing.assert_allclose(kkt.gamma, mu * lagrange / (lagrange + by_money), atol=1e-12)
    assert kkt.mu[2] < 0  # Lemma 3 takes μ ≥ 0 for granted
    assert kkt.gamma[2] < 0
    assert kkt.residuals["(22)"] > 1e-3
    assert kkt.residuals["(23)"] < 1e-12
    assert kkt.residuals["(26)"] < 1e-12
    assert not kkt.holds


def test_nearly_equal_costs_have_nearly_the_limit_of_20_but_not_of_21():
    """There (24) depends on c_i - c_j alone: (21) fails however close the costs are."""
    for apart in (1e-2, 1e-4, 1e-6):
        rate = np.array([1.0, 1.0 + apart])
        beta, s, own = float(mechanisms.beta_star(rate)), np.array([0.5, 0.5]), np.ones(2)
        b = 3.0 - (1 - beta) * rate * s - beta * (rate * s)[::-1]
        shared = (1 - beta) * rate / (1 + b) * 2
        game = budgets.budget_game(logarithmic, (own, shared), rate, 3.0)
        kkt = mechanisms.kkt_residuals(game, beta, 1, s)
        assert kkt.residuals["(20)"] < 1e-7
        assert kkt.residuals["(21)"] > 0.5
        assert mechanisms.audit(game, beta, 1, profile=s).gap < apart  # yet hardly anything is lost
    equal = budgets.budget_game(logarithmic, (own, np.full(2, (1 / 3.5))), 1.0, 3.0)
    assert mechanisms.kkt_residuals(equal, 0.5, 1, s).holds
    rounded = budgets.budget_game(logarithmic, (own, np.full(2, (1 / 3.5))), [1.0, 1.0 + 2e-16], 3.0)
    assert mechanisms.kkt_residuals(rounded, 0.5, 1, s).holds


def test_falkingers_beta_with_unequal_costs_has_no_multipliers():
    game, beta, s = interior(0, 3, 2 / 3)
    kkt = mechanisms.kkt_residuals(game, beta, 0, s)
    assert np.all(np.isnan(kkt.mu))
    assert not kkt.holds


def test_capacities_that_bind():
    """Equal costs, but agents at their capacities want more: (16) fails, and the theorem is silent."""
    game = linear_game(games.PowerLaw(8.0, [1.0, 1.0], 1.0), [1.0, 1.0], [0.2, 0.3])
    found = mechanisms.audit(game, 0.5, 0)
    np.testing.assert_allclose(found.profile, game.capacity)
    assert found.positive
    assert found.kkt.residuals["(16)"] > 0.1
    assert found.verdict.startswith("Theorem 4.1 says nothing, as it knows no capacities and here some bind")
    assert found.verdict.endswith("maximises W_p: proved")


@pytest.mark.parametrize("p", [0.5, 0, -1, -INF])
def test_undefined_at_the_equilibrium(p):
    """Agent 1 hardly values the model, but pays for the samples of agent 2."""
    payoff = games.PowerLaw(8.0, [1.0, 1.0], 1.0)
    found = mechanisms.audit(linear_game(payoff, [4.0, 4.0], [4.0, 4.0], [0.02, 2.0]), 0.5, p)
    assert found.utilities[0] < 0
    assert found.verdict == "W_p is undefined at the equilibrium: negative utility of agents [0]"
    assert found.kkt is None
    assert np.isnan(found.welfare)
    assert np.isnan(found.gap)
    assert found.optimum.welfare >= 0
    assert found.verdict in str(found)


def test_undefined_everywhere():
    game = linear_game(games.PowerLaw(8.0, [1.0, 1.0], 1.0), [4.0, 4.0], [2.0, 2.0], 1.0, [0.0, 40.0])
    with pytest.raises(ValueError, match=r"undefined at every feasible profile: .*agent 1 has utility -"):
        mechanisms.audit(game, 0.5, 0)
    found = mechanisms.audit(game, 0.5, 1)  # the mean needs no sign
    assert found.welfare < 0
    assert found.kkt.holds
    assert found.verdict.startswith("Theorem 4.1 holds here")


def test_stranded_agents_are_named():
    game = budgets.budget_game(logarithmic, (np.full(3, 0.1), np.full(3, 9.0)), 1.0, [0.1, 3.0, 3.0])
    found = mechanisms.audit(game, 0.5, 1)
    who = "agents [0] cannot pay what the costs of others oblige them to"
    assert found.verdict == f"no equilibrium was found: {who}"
    assert found.nash_gap == INF
    broke = budgets.budget_game(logarithmic, (np.full(3, 0.1), np.full(3, 9.0)), 1.0, [0.1, 3.0, 3.0], 1.0)
    with pytest.raises(ValueError, match=r"no profile is feasible: agent 0 has b = -0\.9"):
        mechanisms.audit(broke, 0.5, 1)


def test_a_profile_that_is_no_equilibrium():
    found = mechanisms.audit(FIRST, 4 / 9, 1, 5.0, [0.1, 0.1])
    assert found.verdict == "no equilibrium was found, so there is nothing to compare"
    overspent = mechanisms.audit(FIRST, 4 / 9, 1, 1.0, [0.5, 0.5])
    assert overspent.nash_gap == INF
    assert overspent.verdict.startswith("no equilibrium was found")


def test_budgets_that_do_not_bind_change_nothing_but_the_level():
    free, rich = audit_equal("power law", 1), audit_equal("power law", 1, 9.0)
    np.testing.assert_allclose(free.profile, rich.profile, rtol=1e-12)
    np.testing.assert_allclose(free.utilities + 9, rich.utilities, rtol=1e-12)
    assert free.verdict == rich.verdict
    general = budgets.with_budgets(linear_game(EQUAL_COSTS["power law"], [1.0] * 2, [2.0] * 2), 9.0)
    same = mechanisms.audit(general, 0.5, 1)
    assert same.welfare == pytest.approx(rich.welfare, rel=1e-9)
    assert same.verdict == rich.verdict


@pytest.mark.parametrize("unit", [1e-9, 1e9])
@pytest.mark.parametrize("budget", [None, 5.0])
def test_the_currency_does_not_matter(unit, budget):
    rate, value = np.array([5.0, 4.0]), np.asarray(FIRST.value)
    game = linear_game(FIRST.payoff, rate * unit, [2.0, 2.0], value * unit)
    mine = mechanisms.audit(game, 4 / 9, 1, budget and budget * unit, [0.5, 0.5])
    base = mechanisms.audit(FIRST, 4 / 9, 1, budget, [0.5, 0.5])
    assert mine.gap == pytest.approx(base.gap * unit, rel=1e-7)
    assert mine.verdict.split("profile has")[0] == base.verdict.split("profile has")[0]
    for name, residual in base.kkt.residuals.items():
        assert mine.kkt.residuals[name] == pytest.approx(residual, abs=1e-9)
    equal = linear_game(FIRST.payoff, [unit, unit], [2.0, 2.0], 2 * unit)
    assert mechanisms.audit(equal, 0.5, 1).verdict.startswith("Theorem 4.1 holds here")


def test_the_optimum_is_never_below_the_equilibrium():
    """A member to whom accuracy is worth nothing has utility 0, where W_p has an infinite slope for p < 1."""
    cost = games.LinearCost(np.array([15.0, 8.0, 12.0, 5e4, 2.0]))
    value = np.array([8e4, 5e4, 6e4, 4e4, 0.0])
    capacity = np.array([120.0, 200.0, 90.0, 150.0, 300.0])
    game = games.check(games.Game(games.PowerLaw(0.97, 6.0, 0.8, 12.0), cost, capacity, value=value))
    found = mechanisms.audit(game, 0.0, 0.5)
    assert found.welfare > 0
    assert found.optimum.welfare >= found.welfare * (1 - 1e-9)
    from_there = mechanisms.maximize_welfare(game, 0.0, 0.5, start=found.profile)
    assert from_there.welfare >= found.welfare


def test_an_audit_reads_well():
    lines = str(mechanisms.audit(FIRST, 4 / 9, 1, 5.0, [0.5, 0.5])).split("\n")
    assert lines[0].startswith("M_β with β = 0.444444, p = 1: Theorem 4.1 FAILS here")
    assert lines[0].endswith("a feasible profile has 0.365718 more")
    assert lines[1].startswith("equilibrium: W_p = 6.21574, largest Nash gap ")
    assert lines[2] == "optimum of (7): W_p = 6.58145, at most 6.58145; approached by s > 0, not attained"
    assert lines[3].startswith("KKT residuals: (16) ")
    assert "(21) 5.6e-01" in lines[3]
    assert len(lines) == 4
    nobody = linear_game(SECOND.payoff, [1e9, 1e9], [1.0, 1.0])  # clipped at 0, where nothing is level
    found = mechanisms.audit(nobody, 0.5, 1)
    assert "if utilities were concave, which they are not" in str(found)
    assert "which is no proof" in found.verdict


@pytest.mark.parametrize("beta", [1.0, np.float64(0.0), jnp.asarray(0.3)])
def test_any_beta(beta):
    """At β = 1 nobody has costs of her own, so (16) has no multipliers."""
    found = mechanisms.audit(linear_game(FIRST.payoff, [1.0, 1.0], [0.4, 0.3], 2.0), beta, 0)
    assert found.beta == float(beta)
    assert (found.kkt is None) == (beta == 1)
    assert "says nothing of this β" in found.verdict
    assert found.verdict.startswith("the equilibrium maximises W_p: proved")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -0.1}, "`beta` must lie in"),
        ({"beta": np.nan}, "`beta` must lie in"),
        ({"beta": INF}, "`beta` must lie in"),
        ({"beta": [0.5, 0.5]}, "one β for all"),
        ({"p": 2}, "`p` must lie in"),
        ({"p": np.nan}, "`p` must lie in"),
        ({"p": INF}, "`p` must lie in"),
        ({"budget": -1.0}, "`budget` must be finite"),
        ({"budget": np.nan}, "`budget` must be finite"),
        ({"budget": INF}, "`budget` must be finite"),
        ({"budget": [1.0, 2.0, 3.0]}, "`budget` must be one number or one for each of 2"),
        ({"profile": [0.5]}, "`profile` must be 2 numbers"),
        ({"profile": [-0.5, 0.5]}, "`profile` must be 2 numbers"),
        ({"profile": [np.nan, 0.5]}, "`profile` must be 2 numbers"),
        ({"profile": [0.5, 2.5]}, "`profile` must be 2 numbers"),
        ({"game": budgets.with_budgets(FIRST, 5.0), "budget": 1.0}, "a `BudgetGame` has its own"),
        ({"game": linear_game(FIRST.payoff, [1.0], [1.0])}, "at least two agents"),
    ],
)
def test_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        mechanisms.audit(**{"game": FIRST, "beta": 4 / 9, "p": 1} | change)


@pytest.mark.parametrize(
    ("beta", "p"), [(1.0, 1), (-0.1, 1), (np.nan, 1), (0.5, -INF), (0.5, 2), (0.5, np.nan)]
)
def test_multipliers_out_of_range(beta, p):
    with pytest.raises(ValueError, match="need 0 ≤ β < 1 and finite p ≤ 1"):
        mechanisms.kkt_residuals(budgets.with_budgets(FIRST, 5.0), beta, p, [0.5, 0.5])


def test_games_of_another_model():
    for game in (
        games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.PowerCost(1.0, 2.0), [1.0, 1.0]),
        games.Game(games.LinearPayoff([[1.0, 0.5], [0.5, 1.0]]), games.LinearCost(1.0), [1.0, 1.0]),
    ):
        with pytest.raises(ValueError, match="needs payoffs of S, linear costs"):
            mechanisms.audit(games.check(game), 0.5, 1)
