"""Personal rates: s* against other optimisers, an equilibrium, and every p-mean at its bound."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import solvers
from fedgame.mechanisms import optimum, outcomes, personal, refunds

solve, under = jax.jit(equilibria.solve), mechanisms.under_mechanism
P_MEANS = jax.jit(lambda u: [mechanisms.p_mean(u, p) for p in (1, 0.5, 0, -1, -np.inf)])
few = hypothesis.settings(max_examples=8)
SEEDS = st.integers(0, 2**32 - 1)
N = 5
LOG = games.TotalPayoff(jnp.log1p)


def law(rate, capacity, value=1.0, best=8.0, shift=0.0, exponent=1.0, fixed=0.0):
    """best - 1 / (shift + S) for all; every number once per agent, so that all is compiled once."""
    payoff, cost = (best, 1.0, 1.0, shift), (rate, exponent, fixed)
    every = [np.broadcast_to(np.asarray(x, float), N) for x in (*payoff, *cost, capacity, value, 1.0)]
    return games.check(games.Game(games.PowerLaw(*every[:4]), games.PowerCost(*every[4:7]), *every[7:], 0.0))


class Direct:
    """The same random game in numpy: a_i = b_i - k_i (h_i + S)^-x_i, S = S₀ + Σ w_i s_i."""

    def __init__(self, seed, kind):
        rng, n = np.random.default_rng(seed), N
        self.best, self.scale = rng.uniform(1, 2, n), rng.uniform(0.5, 2, n)
        self.power, self.value = rng.uniform(0.3, 1, n), rng.uniform(0.5, 3, n)
        self.shift = self.scale ** (1 / self.power) * rng.uniform(1, 2)  # never clipped
        self.quality = rng.uniform(0.5, 2, n) if kind in ("power", "ties", "records") else np.ones(n)
        self.held, self.fixed = rng.uniform(0, 3), rng.uniform(0, 0.1, n)
        self.capacity = rng.uniform(0.5, 8, n)
        self.rate, self.exponent = 10 ** rng.uniform(-3, 0, n), np.ones(n)
        if kind == "power":
            self.exponent = np.where(rng.random(n) < 0.4, 1.0, rng.uniform(1.2, 3, n))
        if kind == "ties":
            self.rate = rng.choice([0.0, 0.02, 0.1, 1e6], n) * self.quality
        if "records" in kind:
            tied = 0.02 * np.sort(rng.integers(0, 6, (n, 8)), axis=1)
            self.records = (
                tied if kind == "tied records" else np.sort(10 ** rng.uniform(-3, 0, (n, 8)), axis=1)
            )
            self.capacity = rng.integers(1, 9, n).astype(float)
        payoff = games.PowerLaw(self.best, self.scale, self.power, self.shift)
        cost = games.PowerCost(self.rate, self.exponent, self.fixed)
        cost = games.OrderedCost(self.records) if "records" in kind else cost
        self.game = games.check(games.Game(payoff, cost, self.capacity, self.value, self.quality, self.held))

    def costs(self, s):
        if hasattr(self, "records"):
            return np.sum(self.records * np.clip(s[:, None] - np.arange(8), 0, 1), axis=1)
        return self.rate * s**self.exponent + self.fixed

    def payoffs(self, s):
        total = self.held + self.quality @ s
        return self.value * (self.best - self.scale * (self.shift + total) ** -self.power)

    def largest(self):
        """max Σ u_i as a convex problem in S: the cheapest way to S by bisection of its price."""

        def way(price):  # what is given if the last standard sample costs `price`
            if hasattr(self, "records"):
                given = np.sum(self.records <= price * self.quality[:, None], axis=1)
            else:
                bend = np.where(self.exponent == 1, 1.0, self.exponent - 1)
                ratio = price * self.quality / (np.where(self.rate > 0, self.rate, 1) * self.exponent)
                free = np.where(price * self.quality >= self.rate, np.inf, 0.0)
                given = np.where((self.exponent == 1) | (self.rate == 0), free, ratio ** (1 / bend))
            return np.minimum(given, self.capacity)

        def worth(total):
            slope = self.value * self.scale * self.power * (self.shift + total) ** (-self.power - 1)
            return slope.sum()

        low, high = 0.0, worth(0.0) + 1
        for _ in range(200):
            price = (low + high) / 2
            wanting = worth(self.held + self.quality @ way(price)) > price
            low, high = (price, high) if wanting else (low, price)
        less, more = way(low * (1 - 1e-12)), way(high * (1 + 1e-12))
        sums = []
        for part in np.linspace(0, 1, 2001):  # those who are indifferent at this price
            s = less + part * (more - less)
            sums.append(self.payoffs(s).sum() - self.costs(s).sum())
        return max(sums), np.sum(less) != np.sum(more)


@pytest.mark.parametrize("kind", ["linear", "power", "ties", "records", "tied records"])
@few
@hypothesis.given(seed=SEEDS)
def test_the_optimum_is_an_equilibrium_where_every_p_mean_is_at_its_bound(kind, seed):
    direct = Direct(seed, kind)
    game, (largest, _) = direct.game, direct.largest()
    found = mechanisms.personal_rates(game, transfers="equal")
    s, rates = np.asarray(found.profile), np.asarray(found.mechanism.rates)
    assert np.all((s >= 0) & (s <= direct.capacity))
    assert found.proved
    u = np.asarray(found.utilities)
    # The independent optimum steps through S where somebody is indifferent, and is a little less then.
    assert largest - 1e-12 <= u.sum() <= largest + 1e-6
    assert u.sum() == pytest.approx(direct.payoffs(s).sum() - direct.costs(s).sum(), rel=1e-13)
    assert np.ptp(u) <= 1e-13
    np.testing.assert_allclose(P_MEANS(u), largest / N, rtol=0, atol=1e-6)
    settled = outcomes.settle(game, found.mechanism, s)
    np.testing.assert_allclose(settled.utilities, u, atol=1e-13)
    assert abs(np.asarray(found.mechanism.transfers).sum()) <= 1e-13
    assert abs(np.asarray(settled.payments).sum()) <= 1e-13
    assert np.all((rates >= 0) & (rates <= 1))
    # Nobody gains, on a grid of the whole utilities; the equilibrium is the only one, also of several splits.
    assert np.asarray(found.nash_gap).max() <= 1e-13
    assert found.certified
    for i in range(N):
        tried = np.tile(s, (401, 1))
        tried[:, i] = np.linspace(0, direct.capacity[i], 401)
        bears = (1 - rates[i]) * np.array([direct.costs(x)[i] for x in tried])
        gains = np.array([direct.payoffs(x)[i] for x in tried]) - bears
        assert gains.max() <= direct.payoffs(s)[i] - (1 - rates[i]) * direct.costs(s)[i] + 1e-12
    again = solve(under(game, rates))
    assert int(again.status) == solvers.UNIQUE
    np.testing.assert_allclose(again.profile, s, atol=1e-9)


def test_what_the_docstring_says_of_rates():
    """Identical payoffs: 1 - 1/n for contributors, 0 for who gives nothing; ties are broken strictly."""
    game = law([1.0, 1.0, 1.0, 1.0, 9.0], [1.5, 0.5, 4.0, 4.0, 1.0])
    found = mechanisms.personal_rates(game, transfers="equal")
    np.testing.assert_allclose(found.profile, [1.5, 0.5, np.sqrt(5) - 2, 0, 0], atol=1e-12)  # 5 / S² = 1
    np.testing.assert_allclose(found.mechanism.rates, [0.9, 0.9, 0.8, 0, 0], atol=1e-12)
    assert int(solve(under(game, found.mechanism.rates)).status) == solvers.UNIQUE
    assert int(solve(under(game, np.full(N, 0.8))).status) == solvers.TOTAL_ONLY  # one rate for all


@pytest.mark.parametrize("seed", range(2))
def test_payoffs_that_are_not_of_the_total(seed):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(3), N) * 0.5
    cost, value = games.PowerCost(10 ** rng.uniform(-3, -1, N), 2.0), np.array([1.0, 2.0, 0.5, 1.0, 1.5])
    game = games.check(games.Game(games.RandomCoverage(q), cost, [2.0, 1.0, 9.0, 9.0, 3.0], value))

    def cost_of_all(s):
        missed = np.prod((1 - q) ** s[:, None], axis=0)
        return -np.sum(value * (1 - 0.5 * q @ missed) - cost.rate * s**2)

    best = scipy.optimize.minimize(
        cost_of_all, np.ones(N), bounds=[(0, c) for c in np.asarray(game.capacity)], method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    found = mechanisms.personal_rates(game, transfers="equal")
    u = np.asarray(found.utilities)
    assert u.sum() == pytest.approx(-best.fun, rel=1e-10)
    assert u.sum() >= -best.fun - 1e-12
    assert found.proved
    assert np.asarray(found.nash_gap).max() <= 1e-12
    assert np.ptp(u) <= 1e-13
    np.testing.assert_allclose(solve(under(game, found.mechanism.rates)).profile, found.profile, atol=1e-6)


def raw_bound(total, best, k):
    return best - (4 + np.sqrt(2 * k * np.maximum(2 + np.log(total / k), 0))) / np.sqrt(total)


def bound(total, best, k):
    """Eq. (2), 0 where it is not positive, or falls."""
    total = np.maximum(total, 1e-12)
    return np.where(total > k, np.maximum(raw_bound(total, best, k), 0), 0.0)


@few
@hypothesis.given(seed=SEEDS)
@hypothesis.example(seed=147)  # the largest S that nobody would change has less than half of the welfare
def test_several_candidates_of_the_clipped_bound_by_brute_force_over_totals(seed):
    """Agents with easy and with difficult tasks: one peak in S for each group that has a model at all."""
    rng, n = np.random.default_rng(seed), 4
    k, value = 10 ** rng.uniform(-1, 1.7, n), 10 ** rng.uniform(-1, 1, n)
    rate, capacity = np.sort(10 ** rng.uniform(-4, -1.5, n)), rng.uniform(50, 3000, n)
    game = games.check(
        games.Game(games.GeneralizationBound(0.95, k), games.LinearCost(rate), capacity, value)
    )
    total = np.r_[0.0, np.cumsum(capacity), np.geomspace(1e-2, capacity.sum(), 200_001)]
    steps = np.clip(total[:, None] - np.r_[0, np.cumsum(capacity)[:-1]], 0, capacity)  # the cheapest first
    sums = (value * bound(total[:, None], 0.95, k)).sum(axis=1) - steps @ rate
    found = optimum.first_best(game)
    assert found.welfare == pytest.approx(sums.max(), abs=1e-6 * max(1.0, sums.max()))
    assert found.welfare >= sums.max() - 1e-12
    s = np.asarray(found.profile)
    direct = (value * bound(s.sum(), 0.95, k)).sum() - rate @ s
    assert found.welfare == pytest.approx(direct, rel=1e-12, abs=1e-12)
    assert found.proved


def test_where_utilities_are_not_concave_the_gap_says_so():
    """At S* agent 4 bears a share of costs for her slope, but her payoff is small: she prefers nothing."""
    value, rate, capacity = np.array([1.0, 1.0, 1.0, 0.4]), 4.25e-3, np.array([1.0, 1.0, 1.0, 8e3])
    k = np.array([1.0, 1.0, 1.0, 4.5])
    game = games.check(
        games.Game(games.GeneralizationBound(0.95, k), games.LinearCost([rate] * 4), capacity, value)
    )
    found = mechanisms.personal_rates(game, transfers="equal")
    s, rates = np.asarray(found.profile), np.asarray(found.mechanism.rates)
    for i in range(4):
        x = np.linspace(0, capacity[i], 100_001)
        u = value[i] * bound(s.sum() - s[i] + x, 0.95, k[i]) - (1 - rates[i]) * rate * x
        now = value[i] * bound(s.sum(), 0.95, k[i]) - (1 - rates[i]) * rate * s[i]
        assert float(found.nash_gap[i]) == pytest.approx(max(u.max() - now, 0), abs=1e-6)
    assert np.asarray(found.nash_gap).max() > 0.01
    assert not found.certified


def test_who_gains_nothing_bears_nothing_and_is_indifferent():
    """No rate makes s*_i her only best response, as the docstring says."""
    game = law(0.1, 9.0, value=[2.0, 0.0, 1.0, 1.0, 1.0], shift=1.0, exponent=2.0)
    found = mechanisms.personal_rates(game, transfers="equal")
    assert float(found.profile[1]) > 0.1
    np.testing.assert_allclose(found.mechanism.rates, [0.6, 1.0, 0.8, 0.8, 0.8], atol=1e-12)
    assert np.asarray(found.nash_gap).max() <= 1e-14
    assert int(solve(under(game, found.mechanism.rates)).status) != solvers.UNIQUE


def test_nobody_contributes_or_can():
    for game in (
        law(1e9, 3.0, best=1.0, shift=1.0, fixed=0.1),
        law(0.0, 0.0, best=1.0, shift=1.0, fixed=0.1),
    ):
        found = mechanisms.personal_rates(game, transfers="equal")
        assert found.profile.tolist() == found.mechanism.rates.tolist() == [0] * N
        np.testing.assert_allclose(found.utilities, -0.1, rtol=1e-12)


def test_one_agent():
    alone = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost(4.0, 0.5), [3.0]))
    found = mechanisms.personal_rates(alone, transfers="equal")
    np.testing.assert_allclose(found.profile, [0.5], rtol=1e-12)
    assert float(found.mechanism.rates[0]) == float(found.mechanism.transfers[0]) == 0
    assert float(found.utilities[0]) == pytest.approx(8 - 2 - 2 - 0.5, rel=1e-12)


# What agents have outside


@pytest.mark.parametrize(
    "outside", [[2.5, 0.0, 0.1], [0.9, 0.8, 0.7], [0.5, 0.2, 0.9], [2.9, 0.02, 0.02], [-1.0, 0.6, 1.2]]
)
def test_the_largest_nash_welfare_that_leaves_nobody_worse_off(outside):
    target = personal.at_least(np.array(outside), 3.0)
    best = scipy.optimize.minimize(
        lambda u: -np.sum(np.log(u)), np.maximum(outside, 0.01) + 1e-3, method="SLSQP",
        jac=lambda u: -1 / u, bounds=[(max(r, 1e-6), None) for r in outside],
        constraints={"type": "eq", "fun": lambda u: u.sum() - 3.0, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    np.testing.assert_allclose(target, best.x, atol=1e-5)
    assert np.sum(np.log(target)) >= -best.fun - 1e-12


@hypothesis.given(
    outside=hnp.arrays(float, st.sampled_from([1, 2, 8]), elements=st.floats(-2, 2) | st.just(-np.inf)),
    spare=st.floats(0, 5),
    seed=SEEDS,
)
def test_no_other_way_to_share_has_a_larger_p_mean(outside, spare, seed):
    total = np.sum(np.maximum(outside, 0.0)) + spare
    target = personal.at_least(outside, total)
    assert target.sum() == pytest.approx(total, rel=1e-12, abs=1e-12)
    assert np.all(target >= outside)
    level = target.min()
    np.testing.assert_allclose(target, np.maximum(outside, level), rtol=1e-12)
    rng = np.random.default_rng(seed)
    other = np.maximum(outside, 0.0)
    other = other + rng.dirichlet(np.ones(len(other))) * (total - other.sum())
    theirs, ours = (np.asarray(P_MEANS(u)) for u in (other, np.maximum(target, 0.0)))
    assert np.all(theirs <= ours * (1 + 1e-12) + 1e-12)


def test_training_alone_as_the_least_everybody_shall_have():
    """A strong agent would lose by equal utilities; with `outside` she does not, and nothing is wasted."""
    game = law([0.05, 4.0, 6.0, 5.0, 7.0], 2.0, value=[3.0, 1.0, 1.0, 1.0, 1.0])
    equal = mechanisms.personal_rates(game, transfers="equal")
    assert float(equal.utilities[0]) < float(equal.alone[0])
    found = mechanisms.personal_rates(game, outside=equal.alone, transfers="p_mean")
    u = np.asarray(found.utilities)
    assert np.all(u >= np.asarray(equal.alone) - 1e-12)
    assert u[0] == pytest.approx(float(equal.alone[0]), rel=1e-12)
    assert np.ptp(u[1:]) <= 1e-12
    assert u.sum() == pytest.approx(np.asarray(equal.utilities).sum(), rel=1e-13)
    assert abs(np.asarray(found.mechanism.transfers).sum()) <= 1e-13
    np.testing.assert_array_equal(found.mechanism.rates, equal.mechanism.rates)
    same = mechanisms.personal_rates(game, outside=-np.inf, transfers="p_mean")
    np.testing.assert_allclose(same.utilities, equal.utilities, rtol=1e-13)
    with pytest.raises(
        ValueError, match=r"no transfers leave everybody at least what she has outside: .* 165"
    ):
        mechanisms.personal_rates(game, outside=33.0, transfers="p_mean")
    with pytest.raises(ValueError, match="no transfers"):
        mechanisms.personal_rates(game, outside=[0.0, np.nan, 0.0, 0.0, 0.0], transfers="p_mean")


def test_who_wins_nothing_together_can_have_exactly_what_she_has_alone():
    """Σ r_i equals max Σ u_i up to rounding, and is not refused."""
    r = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(personal.at_least(r, 0.6 - 2e-16), r, rtol=1e-14)
    with pytest.raises(ValueError, match="no transfers"):
        personal.at_least(r, 0.6 - 1e-9)


@pytest.mark.parametrize(
    ("payoff", "curve"),
    [
        (games.PowerLaw(1.0, [1.0, 2.0, 0.5], 0.5, 0.0), lambda i, x: 1 - [1, 2, 0.5][i] / np.sqrt(x)),
        (
            games.PowerLaw(1.0, [1.0, 2.0, 0.5], 0.5, 0.0, clip=False),
            lambda i, x: 1 - [1, 2, 0.5][i] / np.sqrt(x),
        ),
        (games.GeneralizationBound(0.95, [0.01, 0.1, 5.0]), lambda i, x: bound(x, 0.95, [0.01, 0.1, 5.0][i])),
        (
            games.GeneralizationBound(0.95, [0.01, 0.1, 0.3], clip=False),
            lambda i, x: np.where(x > 1, raw_bound(x, 0.95, [0.01, 0.1, 0.3][i]), -99),
        ),
        (LOG, lambda i, x: np.log1p(x)),
        (games.LinearPayoff([[0.1, 9, 9], [9, 0.05, 9], [9, 9, 0.0]]), lambda i, x: [0.1, 0.05, 0.0][i] * x),
        (
            games.RandomCoverage([[0.3, 0.1], [0.1, 0.1], [0.0, 0.4]]),
            lambda i, x: 1 - 0.5 * sum(q * (1 - q) ** x for q in [(0.3, 0.1), (0.1, 0.1), (0.0, 0.4)][i]),
        ),
    ],
    ids=["(3)", "raw (3)", "(2)", "raw (2)", "any", "linear", "coverage"],
)
def test_alone_by_brute_force(payoff, curve):
    """Training alone: without S₀, the fixed cost of being enrolled, and the samples of the others."""
    rate, capacity, value, w = (
        np.array([1e-2, 2e-3, 0.03]),
        [90.0, 300.0, 4.0],
        np.array([2.0, 1.5, 1.0]),
        0.5,
    )
    cost = games.PowerCost(rate, [1.0, 1.2, 2.0], 7.0)
    game = games.check(games.Game(payoff, cost, capacity, value, w, 20.0 * payoff.of_total))
    expected = []
    for i in range(3):
        x = np.r_[1e-9, np.linspace(0, capacity[i], 400_001)[1:]]
        expected.append((value[i] * curve(i, w * x) - rate[i] * x ** [1, 1.2, 2][i]).max())
    if getattr(payoff, "clip", True):  # the raw formulas have no value at 0
        expected = np.maximum(expected, 0.0)
    np.testing.assert_allclose(personal.alone(game), expected, atol=2e-6)


def test_a_hundred_thousand_agents():
    """Quadratic costs: s_i = λ / (2 c_i), λ = n a'(S), where the capacity does not bind."""
    n = 100_000
    rng = np.random.default_rng(0)
    rate, capacity = 10 ** rng.uniform(-3, -1, n), 10 ** rng.uniform(-3, 0, n)
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0, 1.0), games.PowerCost(rate, 2.0), capacity))
    found = mechanisms.personal_rates(game, transfers="equal")
    total = np.asarray(found.profile).sum()
    price = n / (1 + total) ** 2
    np.testing.assert_allclose(found.profile, np.minimum(price / (2 * rate), capacity), rtol=1e-9)
    assert 0.01 < np.mean(np.asarray(found.profile) == capacity) < 0.99
    assert np.asarray(found.nash_gap).max() <= 1e-12
    assert np.ptp(np.asarray(found.utilities)) <= 1e-10
    assert refunds.whole_units(found.mechanism.transfers, 1e-6).sum() == 0
