"""Welfare optima against dense grids, closed forms, and another solver of another formulation."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import games, mechanisms
from fedgame.mechanisms import budgets, optimum

INF = float("inf")
POWERS = (1, 0.5, 1e-6, 0, -1, -50, -INF)


def cobb_douglas(agent, b, total):
    own, shared = agent
    return shared * b**own * total ** (1 - own)


def logarithmic(agent, b, total):
    own, shared = agent
    return own * jnp.log1p(b) + shared * jnp.log1p(total)


def power_law(rate, capacity, value=1.0, scale=1.0, fixed=0.0):
    per_agent = np.broadcast_arrays(rate, capacity, value, scale, fixed)  # alike, so compiled once
    rate, capacity, value, scale, fixed = map(np.array, per_agent)
    return games.check(
        games.Game(games.PowerLaw(8.0, scale, 1.0), games.LinearCost(rate, fixed), capacity, value)
    )


def p_means(u, p):
    """W_p of every row of utilities, with -∞ instead of NaN."""
    with np.errstate(all="ignore"):
        if p == 1:
            return np.mean(u, -1)
        if p == -INF:
            w = np.min(u, -1)
        else:
            w = np.exp(np.mean(np.log(u), -1))
            if p != 0:
                x = np.expm1(p * (np.log(u) - np.log(w)[..., None]))
                w = w * np.exp(np.log1p(np.mean(x, -1)) / p)
            w = np.where(np.any(u == 0, -1) & (p <= 0), 0.0, w)
        return np.where(np.all(u >= 0, -1), w, -INF)


def left_over(rate, fixed, budget, beta, s):
    """b of (5) at every row of s."""
    spent, n = rate * s + fixed, s.shape[-1]
    return budget - (1 - beta) * spent - beta / (n - 1) * (spent.sum(-1, keepdims=True) - spent)


def best_on_a_grid(utility_of, capacity, p, points=81):
    """The largest W_p of two agents on ever finer grids; `utility_of` gives NaN where b < 0."""
    low, high, best = np.zeros(2), np.asarray(capacity, float), -INF
    for _ in range(8):
        axes = np.linspace(low, high, points)
        s = np.stack(np.meshgrid(*axes.T, indexing="ij"), -1)
        w = p_means(utility_of(s), p)
        w = np.where(np.isnan(w), -INF, w)
        at = s[np.unravel_index(np.argmax(w), w.shape)]
        best, step = max(best, w.max()), 4 * (axes[1] - axes[0])
        low, high = np.maximum(at - step, 0), np.minimum(at + step, capacity)
    return best


def check(found, p, best, utility_of):
    """The claimed welfare is attained, no point of the grid is better, and the bound proves it."""
    assert found.welfare == pytest.approx(p_means(utility_of(found.profile), p), rel=1e-12)
    assert found.welfare >= best * (1 - 1e-9)
    assert 0 <= found.bound - found.welfare <= 1e-6 * abs(best)
    assert found.bound >= best * (1 - 1e-14)
    assert found.concave


@hypothesis.settings(max_examples=4)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("p", POWERS)
def test_two_agents_on_a_grid(p, seed):
    """Quasi-linear; capacities that bind, 1 of 2 equal costs, and p from the mean to the minimum."""
    rng = np.random.default_rng(seed)
    rate, beta = rng.uniform(0.5, 6, 2) if seed % 2 else np.full(2, 3.0), rng.uniform(0, 1)
    value, scale, capacity = rng.uniform(1, 3, 2), rng.uniform(0.5, 1.5, 2), rng.uniform(0.5, 2, 2)

    def utility(s):
        with np.errstate(divide="ignore"):
            payoff = np.maximum(8 - scale / s.sum(-1, keepdims=True), 0)
        return left_over(rate, 0.0, 0.0, beta, s) + value * payoff

    found = mechanisms.maximize_welfare(power_law(rate, capacity, value, scale), beta, p)
    check(found, p, best_on_a_grid(utility, capacity, p), utility)


@hypothesis.settings(max_examples=4)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize(
    ("family", "p"), [*((logarithmic, p) for p in POWERS), *((cobb_douglas, p) for p in (1, 0, -INF))]
)
def test_two_agents_with_budgets_on_a_grid(family, p, seed):
    rng = np.random.default_rng(seed)
    rate, budget, beta = rng.uniform(0.5, 3, 2), rng.uniform(0.5, 4, 2), rng.uniform(0, 1)
    own, shared = rng.uniform(0.2, 0.8, 2), rng.uniform(0.3, 3, 2)
    game = budgets.budget_game(family, (own, shared), rate, budget, 0.1)

    def utility(s):
        b, total = left_over(rate, 0.1, budget, beta, s), s.sum(-1, keepdims=True)
        b = np.where(np.abs(b) < 1e-12, 0.0, b)
        with np.errstate(invalid="ignore"):
            if family is cobb_douglas:
                u = shared * b**own * total ** (1 - own)
            else:
                u = own * np.log1p(b) + shared * np.log1p(total)
        return np.where(np.all(b >= 0, -1, keepdims=True), u, -INF)

    found = mechanisms.maximize_welfare(game, beta, p)
    check(found, p, best_on_a_grid(utility, game.capacity, p), utility)


@pytest.mark.filterwarnings("ignore:delta_grad")
@pytest.mark.parametrize("p", [1, -1])
def test_five_agents_by_another_solver_of_program_19(p):
    """trust-constr in (b, s) with the equations as constraints and differences for derivatives."""
    rng, n, beta = np.random.default_rng(3), 5, 0.6
    rate, budget = rng.uniform(0.5, 3, n), rng.uniform(2, 4, n)
    own, shared = rng.uniform(0.5, 1.5, n), rng.uniform(0.3, 2, n)
    mix = (1 - beta) * np.diag(rate) + beta / (n - 1) * (1 - np.eye(n)) * rate

    def utilities(x):
        return own * np.log1p(np.maximum(x[:n], 0)) + shared * np.log1p(np.maximum(x[n:], 0).sum())

    found = scipy.optimize.minimize(
        lambda x: -p_means(utilities(x), p),
        np.append(np.full(n, 1.0), np.full(n, 0.2)),
        method="trust-constr",
        constraints=scipy.optimize.LinearConstraint(np.hstack([np.eye(n), mix]), budget, budget),
        bounds=[(0, None)] * (2 * n),
        options={"gtol": 1e-9, "xtol": 1e-12, "maxiter": 600},
    )
    game = budgets.budget_game(logarithmic, (own, shared), rate, budget)
    mine = mechanisms.maximize_welfare(game, beta, p)
    assert mine.welfare == pytest.approx(-found.fun, rel=1e-6)
    assert mine.bound >= -found.fun * (1 - 1e-9)
    assert mine.bound - mine.welfare <= 1e-7 * mine.welfare


@pytest.mark.parametrize("p", [1, 0, -INF])
def test_falkingers_beta_with_identical_payoffs(p):
    """All have a(S) - Σ c_j s_j / n: the largest is 8 - 2 √(min c / n), for every p."""
    rate, n = np.linspace(1.0, 3.0, 5), 5
    game = power_law(rate, 8 / rate)
    found = mechanisms.maximize_welfare(game, mechanisms.falkinger_beta(n), p)
    assert found.welfare == pytest.approx(8 - 2 * (1 / n) ** 0.5, rel=1e-9)
    assert 0 <= found.bound - found.welfare <= 1e-7


@pytest.mark.parametrize("n", [2, 100])
def test_the_mean_by_hand(n):
    """Payments balance, so Σ u_i = Σ v_i (8 - k_i / S) - min c · S, with S = √(Σ v_i k_i / min c)."""
    rng = np.random.default_rng(n)
    rate, value, scale = rng.uniform(1, 3, n), rng.uniform(1, 2, n), rng.uniform(0.5, 2, n)
    best = (8 * value.sum() - 2 * (rate.min() * (value * scale).sum()) ** 0.5) / n
    for beta in (0.0, 0.3) if n == 2 else (0.9,):
        found = mechanisms.maximize_welfare(power_law(rate, np.full(n, 1e3), value, scale), beta, 1)
        assert found.welfare == pytest.approx(best, rel=1e-12)
        assert 0 <= found.bound - best <= 1e-9
        assert found.attained is False  # only the cheapest contributes
        np.testing.assert_allclose(found.mu, 1 / n)


def test_a_hundred_agents_and_every_p():
    """Each optimum is proved by its bound, and they fall with p."""
    rng, n = np.random.default_rng(0), 100
    game = power_law(rng.uniform(1, 3, n), np.full(n, 10.0), 1.0, rng.uniform(0.5, 2, n))
    found = [mechanisms.maximize_welfare(game, 0.9, p) for p in (1, 0, -50)]
    assert all(0 <= x.bound - x.welfare <= 1e-6 for x in found)
    assert np.all(np.diff([x.welfare for x in found]) < 0)


@hypothesis.settings(max_examples=8)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), p=st.sampled_from(POWERS), wide=st.booleans())
def test_no_profile_is_better_than_the_bound(seed, p, wide):
    """None of 20,000 feasible profiles, near and far, is better; capacities are far larger than needed."""
    rng, n = np.random.default_rng(seed), 3
    rate, budget, beta = rng.uniform(0.5, 3, n), rng.uniform(1, 4, n), rng.uniform(0, 1)
    own, shared = rng.uniform(0.2, 0.8, n), rng.uniform(0.3, 3, n)
    capacity = np.full(n, 1e6) if wide else budget.sum() / rate
    game = budgets.budget_game(logarithmic, (own, shared), rate, budget, 0.0, capacity)
    found = mechanisms.maximize_welfare(game, beta, p)
    s = rng.exponential(size=(20_000, n)) * 10 ** rng.uniform(-6, 0, (20_000, 1)) * budget.sum() / rate
    s[:10_000] = found.profile * rng.lognormal(0, 10 ** rng.uniform(-4, 0, (10_000, 1)), (10_000, n))
    b = left_over(rate, 0.0, budget, beta, s)
    s, b = s[np.all(b >= 0, -1)], b[np.all(b >= 0, -1)]
    assert len(s) > 1_000
    u = own * np.log1p(b) + shared * np.log1p(s.sum(-1, keepdims=True))
    assert found.concave
    assert p_means(u, p).max() <= found.bound * (1 + 1e-14)


def kkt_of_19(rate, beta, weight, by_money, by_data, mu):
    """Residuals of (20) and (21) without γ."""
    n = len(rate)
    common = rate * (mu * (1 - beta) + beta / (n - 1) * (mu.sum() - mu))
    return weight @ by_data - common, weight * by_money - mu


@pytest.mark.parametrize("p", [1, 0, -1])
@pytest.mark.parametrize("budget", [(4.0, 5.0, 6.0), (0.3, 1.0, 4.0)])
def test_duals_are_those_of_20_to_23(budget, p):
    """Equal costs, so s > 0 at the optimum where budgets are ample; where they bind some γ_i > 0."""
    rate, beta, own, shared = np.ones(3), 0.45, np.array([1.0, 1.2, 0.9]), np.array([1.0, 1.5, 1.2])
    game = budgets.budget_game(logarithmic, (own, shared), rate, budget)
    found = mechanisms.maximize_welfare(game, beta, p)
    b = left_over(rate, 0.0, np.asarray(budget), beta, found.profile)
    u = own * np.log1p(b) + shared * np.log1p(found.profile.sum())
    np.testing.assert_allclose(found.utilities, u, rtol=1e-12)
    mean = p_means(u, p)
    weight = (mean / u) ** (1 - p) / 3
    by_money, by_data = own / (1 + b), shared / (1 + found.profile.sum())
    first, second = kkt_of_19(rate, beta, weight, by_money, by_data, found.mu)
    inside = found.profile > 1e-9
    np.testing.assert_allclose(first[inside], 0, atol=1e-6)
    assert np.all(first[~inside] <= 1e-6)  # they would rather give less than nothing
    np.testing.assert_allclose(second, -found.gamma, atol=1e-12)
    assert np.all(found.gamma >= 0)
    np.testing.assert_allclose(found.gamma * b, 0, atol=1e-7)
    assert (np.max(found.gamma) > 0.01) == (budget[0] < 1)
    np.testing.assert_allclose(found.at_zero[inside], 0, atol=1e-9)


@pytest.mark.parametrize("p", [1, 0, -INF])
@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_units_of_money_and_samples_do_not_matter(unit, p):
    base = mechanisms.maximize_welfare(power_law([5.0, 4.0], [2.0, 2.0]), 4 / 9, p)
    money = power_law(np.array([5.0, 4.0]) * unit, [2.0, 2.0], unit)
    samples = power_law(np.array([5.0, 4.0]) / unit, np.full(2, 2.0) * unit, 1.0, unit)
    for game, scale, size in ((money, unit, 1.0), (samples, 1.0, unit)):
        found = mechanisms.maximize_welfare(game, 4 / 9, p)
        assert found.welfare == pytest.approx(base.welfare * scale, rel=1e-9)
        assert 0 <= found.bound - found.welfare <= 1e-8 * found.welfare
        assert found.profile.sum() == pytest.approx(base.profile.sum() * size, rel=1e-4)
        assert found.attained is base.attained
        assert found.concave


@pytest.mark.parametrize("p", POWERS)
def test_capacities_a_million_times_what_is_wanted(p):
    """Close to the optimum the tangent is not quite level; far out that must not spoil the bound."""
    near = mechanisms.maximize_welfare(power_law([5.0, 4.0], [2.0, 2.0]), 4 / 9, p)
    far = mechanisms.maximize_welfare(power_law([5.0, 4.0], [1e6, 1e6]), 4 / 9, p)
    assert far.welfare == pytest.approx(near.welfare, rel=1e-9)
    assert 0 <= far.bound - far.welfare <= 1e-8


def test_whether_the_supremum_is_attained():
    """Unequal costs, p = 1: at (0, S) only. Equal costs: at any split. p = -∞: agent 1 must give too."""
    unequal, equal = power_law([5.0, 4.0], [2.0, 2.0]), power_law([4.0, 4.0], [2.0, 2.0])
    assert mechanisms.maximize_welfare(unequal, 4 / 9, 1).attained is False
    assert mechanisms.maximize_welfare(equal, 0.5, 1).attained in (True, None)
    assert mechanisms.maximize_welfare(unequal, 4 / 9, -INF).attained is True
    nobody = power_law([1e9, 1e9], [1.0, 1.0]).replace(payoff=games.PowerLaw(8.0, 1.0, 1.0, 1.0))
    found = mechanisms.maximize_welfare(games.check(nobody), 0.5, 1)
    assert found.welfare == 7
    assert found.attained is False
    one = optimum.Optimum(np.array([0.0, 1.0]), np.ones(2), 1.0, 1.0, True, *[np.zeros(2)] * 3)
    assert one.attained is None
    assert one._replace(at_zero=np.array([1.0, 0.0])).attained is False
    assert one._replace(at_zero=np.array([1.0, 0.0]), concave=False).attained is None
    assert one._replace(at_zero=np.array([1.0, 0.0]), bound=2.0).attained is None  # too loose to tell


def test_payoffs_that_are_not_concave_are_found_out():
    """Also clipped payoffs, whose utility may exceed its tangent only in a millionth of the capacity."""
    convex = games.Game(games.TotalPayoff(jnp.square), games.LinearCost([1.0, 1.0]), [3.0, 3.0])
    assert not mechanisms.maximize_welfare(games.check(convex), 0.5, 1).concave
    clipped = power_law([5.0, 4.0], [1e6, 1e6], 1.0, [1.0, 5.0])
    found = mechanisms.maximize_welfare(clipped, 0.5, 1)
    total = found.profile.sum()
    assert 8 - 2 * 5 / total < 0  # the tangent of agent 1's payoff is negative at S = 0, where it is 0
    assert not found.concave
    raw = clipped.replace(payoff=clipped.payoff.replace(clip=False))
    assert mechanisms.maximize_welfare(raw, 0.5, 1).concave


def test_payoffs_of_more_than_the_total_and_convex_costs():
    """Σ_i (W s)_i - Σ c_j s_j²: s_j = (column sum of W)_j / (2 c_j)."""
    weights, rate = np.array([[1.0, 0.2, 0.0], [0.5, 1.0, 0.3], [0.1, 0.4, 1.0]]), np.array([1.0, 2.0, 0.5])
    game = games.check(games.Game(games.LinearPayoff(weights), games.PowerCost(rate, 2.0), [9.0, 0.2, 9.0]))
    found = mechanisms.largest_p_mean(game, 1)
    s = np.minimum(weights.sum(0) / (2 * rate), [9.0, 0.2, 9.0])
    np.testing.assert_allclose(found.profile, s, rtol=1e-6)
    assert found.welfare == pytest.approx((weights.sum(0) @ s - rate @ s**2) / 3, rel=1e-12)
    assert 0 <= found.bound - found.welfare <= 1e-9
    assert mechanisms.largest_p_mean(game, 0).bound <= found.welfare


def test_one_agent():
    found = mechanisms.largest_p_mean(power_law([4.0], [2.0]), 0)
    assert found.profile[0] == pytest.approx(0.5, rel=1e-6)
    assert found.welfare == pytest.approx(4.0)


@pytest.mark.parametrize("capacity", [[0.0, 1.0], [0.0, 0.0]])
@pytest.mark.parametrize("p", [1, 0, -INF])
def test_capacities_of_zero(capacity, p):
    game = power_law([4.0, 4.0], capacity)
    found = mechanisms.maximize_welfare(game, 0.5, p)
    assert found.profile[0] == 0
    assert found.attained is not True
    assert found.welfare == pytest.approx(8 - 2 * 2**0.5 if capacity[1] else 0.0, rel=1e-9)


def test_free_samples_and_samples_that_cost_too_much():
    free = mechanisms.maximize_welfare(power_law([0.0, 0.0], [1.0, 1.0]), 0.3, 0)
    assert free.welfare == pytest.approx(7.5)
    np.testing.assert_allclose(free.profile, 1.0)
    for p in (1, 0, -INF):
        assert mechanisms.maximize_welfare(power_law([1e9, 1e9], [1.0, 1.0]), 0.3, p).welfare == 0


@pytest.mark.parametrize("p", [0.5, 0, -INF])
def test_undefined_everywhere_names_the_agent(p):
    """Agent 1 pays 20 while enrolled, of which she gets back less than half: u_1 < 8 - 11."""
    game = power_law([5.0, 4.0], [2.0, 2.0], 1.0, 1.0, [0.0, 20.0])
    with pytest.raises(ValueError, match=r"undefined at every feasible profile: .* agent 1 has utility -"):
        mechanisms.maximize_welfare(game, 4 / 9, p)
    assert mechanisms.maximize_welfare(game, 4 / 9, 1).welfare < 0


@pytest.mark.parametrize("p", [0.5, 0, -1, -INF])
def test_defined_only_where_one_agent_gives_little(p):
    """At no equal share of capacities are both utilities positive, but at (1, 0) they are (6, 7)."""
    game = power_law([1.0, 100.0], [1.0, 1.0])
    shares = np.linspace(0, 1, 501)[:, None] * np.ones(2)
    assert all(np.min(games.utilities(game, s)) <= 0 for s in shares[::25])
    found = mechanisms.largest_p_mean(game, p)

    def utility(s):
        with np.errstate(divide="ignore"):
            return np.maximum(8 - 1 / s.sum(-1, keepdims=True), 0) - s * np.array([1.0, 100.0])

    check(found, p, best_on_a_grid(utility, [1.0, 1.0], p), utility)


@pytest.mark.parametrize(
    ("p", "beta"), [(1.5, 0.5), (np.nan, 0.5), (INF, 0.5), (0, -0.1), (0, np.nan), (0, INF)]
)
def test_out_of_range(p, beta):
    with pytest.raises(ValueError, match=r"must lie in"):
        mechanisms.maximize_welfare(power_law([5.0, 4.0], [2.0, 2.0]), beta, p)


@jax.jit
def outcomes(game, beta, profiles):
    one = jax.vmap(lambda s: (budgets.unspent(game, beta, s), budgets.utilities(game, beta, s)))
    return one(profiles)


@hypothesis.settings(max_examples=10)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), p=st.sampled_from(POWERS), beta=st.floats(0, 1))
def test_lemma_2_by_sampling(seed, p, beta):
    """W_p(u(s)) at the middle of two feasible profiles is at least the mean of those at the ends."""
    rng, n = np.random.default_rng(seed), 3
    rate, budget = rng.uniform(0.5, 3, n), rng.uniform(1, 4, n)
    own, shared = rng.uniform(0.2, 0.8, n), rng.uniform(0.3, 3, n)
    quasi = power_law(rate, [1.0] * n, shared, own).replace(payoff=games.PowerLaw(8.0, own, 1.0, 1.0))
    for game in (
        budgets.budget_game(cobb_douglas, (own, shared), rate, budget),
        budgets.with_budgets(games.check(quasi), budget),
    ):
        ends = rng.uniform(0, 1, (2, 200, n)) * budget.sum() / rate / n
        middle = ends.mean(0)
        b, u = outcomes(game, beta, jnp.concatenate([*ends, middle]))
        w = np.where(np.all(b >= 0, -1), p_means(np.asarray(u), p), np.nan).reshape(3, 200)
        chord = w[:2].mean(0)
        assert np.sum(np.isfinite(chord)) > 5
        assert not np.any(w[2] < chord * (1 - 1e-12))


def test_a_function_that_is_not_known_to_be_concave_proves_nothing():
    """A peak could be between any two points that were tried, so nothing is proved."""
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost([0.5, 0.9]), [9.0, 9.0]))
    best = optimum.first_best(game)
    assert np.asarray(best.profile).sum() == pytest.approx(3.0, rel=1e-6)  # 2 / (1 + S) = ½
    assert best.welfare == pytest.approx(2 * np.log(4) - 1.5, rel=1e-10)
    assert not best.proved


def test_everybody_at_capacity_is_found_however_sums_round():
    """A sum may round differently when it is compiled: once no candidate was recognised because of that."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        game = games.Game(
            games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(1e-9), rng.uniform(1, 3, 6),
            quality=rng.uniform(0.5, 2, 6), held=1.0,
        )  # fmt: skip
        np.testing.assert_array_equal(optimum.first_best(games.check(game)).profile, game.capacity)
