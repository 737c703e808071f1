"""Mechanisms as payments: the general form, and each kind against its formula written out."""

import itertools
import math
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms, registry
from fedgame.equilibria import certificates
from fedgame.games import payoffs
from fedgame.mechanisms import base, baselines, misreports, outcomes, price, prices, refunds, rules, shapley

N = 3
COST = games.PowerCost([0.01, 0.02, 0.002], [1.0, 1.0, 2.0], 0.05)
POINTS = np.random.default_rng(0).dirichlet(np.ones(4), N) * 0.9
GAMES = {
    "power law": games.Game(
        games.PowerLaw(1.0, 1.0, 0.5, 1.0, clip=False), COST, [30.0] * N, [1.0, 0.5, 2.0]
    ),
    "clipped": games.Game(
        games.PowerLaw(1.0, [2.0, 1.5, 2.0], 0.5), COST, [40.0] * N, 1.0, [1.0, 2.0, 1.0], 1.0
    ),
    "coverage": games.Game(games.RandomCoverage(POINTS), COST, [30.0] * N, [1.0, 0.5, 2.0]),
}
GAMES = {name: games.check(game) for name, game in GAMES.items()}
RULES = {
    "none": lambda game: registry.per_agent(rules.none(game), N),  # as personal rates
    "personal": rules.personal,
    **{"price": rules.price.having(price=0.004), "prices": rules.prices, "shapley": rules.shapley},
}
CASES = [
    *[(rule, game) for rule in ("personal", "price") for game in GAMES],
    *[(rule, "clipped") for rule in ("none", "prices", "shapley")],
]


def general(mechanism, game, reported=None):
    return base.Mechanism.under(mechanism, game, reported)


payoff_values = jax.jit(games.payoff_values)
utilities = jax.jit(games.utilities)


@jax.jit
def payments(mechanism, game, s):
    return mechanism.payments(game, s)


@jax.jit
def shapley_values(mechanism, game, s):
    return mechanism.values(game, s)


@jax.jit
def slopes_and_gaps(game, s):
    return games.own_gradient(game, s), equilibria.nash_gap(game, s)


class Paid(NamedTuple):
    """What payments say of a profile of n agents, without the game that is played under them."""

    payments: jax.Array  # [n]
    single: jax.Array  # [n] `payment` of each
    slopes: jax.Array  # [n] own derivatives of v_i a_i - c_i + p_i
    most_gained: jax.Array  # [n] by any own contribution on a grid


@jax.jit
def of_payments(game, mechanism, s):
    agents = jnp.arange(game.n)

    def utility(own, i):
        x = s.at[i].set(own)
        return (games.utilities(game, x) + mechanism.payments(game, x))[i]

    utilities = jax.vmap(utility)
    grid = jnp.linspace(0, game.capacity, 2001)
    best = jnp.max(jax.lax.map(lambda own: utilities(own, agents), grid), axis=0)
    return Paid(
        mechanism.payments(game, s),
        jax.vmap(lambda i: mechanism.payment(game, s, i))(agents),
        jax.vmap(jax.grad(utility))(s, agents),
        best - utilities(s, agents),
    )


@pytest.mark.parametrize(("rule", "game"), CASES)
def test_the_game_under_a_mechanism_is_its_payments(rule, game):
    """Compares utilities, up to constants, own gradients and Nash gaps with those that payments imply."""
    game, s = GAMES[game], jnp.array([3.0, 7.0, 11.0])
    mechanism = RULES[rule](game)
    paid = jax.device_get(of_payments(game, mechanism, s))
    slopes, gaps = jax.device_get(slopes_and_gaps(mechanism.under(game), s))
    _, of_general = jax.device_get(slopes_and_gaps(general(mechanism, game), s))
    np.testing.assert_allclose(slopes, paid.slopes, rtol=1e-6, atol=1e-13)
    np.testing.assert_allclose(paid.single, paid.payments, rtol=1e-6, atol=1e-14)
    assert np.all((paid.most_gained - 1e-12 <= of_general) & (of_general <= paid.most_gained + 1e-4))
    np.testing.assert_allclose(of_general, gaps, rtol=1e-6, atol=1e-12)
    assert abs(paid.payments.sum()) < 1e-13


@hypothesis.settings(max_examples=10)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_refunds_scale_costs_also_of_those_who_misreport(seed):
    rng, n = np.random.default_rng(seed), N
    cost = games.PowerCost(10 ** rng.uniform(-3, -1, n), rng.choice([1.0, 2.0], n), rng.uniform(0, 1, n))
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), cost, rng.uniform(1, 50, n)))
    t = rng.normal(size=n)
    mechanism = refunds.Refunds(jnp.asarray(rng.uniform(0, 1, n)), jnp.asarray(t - t.mean()))
    s = jnp.asarray(rng.uniform(0, game.capacity))
    factor = jnp.asarray(rng.uniform(0.1, 0.9 / np.asarray(mechanism.rates).max(), n))
    for quick, whole in (
        (mechanism.under(game), general(mechanism, game)),
        (mechanism.under_scaled(game, factor), general(mechanism, game, games.scale_costs(game, factor))),
    ):
        for a, b in zip(slopes_and_gaps(quick, s), slopes_and_gaps(whole, s), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_the_general_form_works_under_jit_vmap_and_grad():
    game, s = GAMES["power law"], jnp.array([3.0, 7.0, 11.0])

    @jax.jit
    def gap(q):
        return certificates.nash_gap(price.Price(q).under(game), s).sum()

    q = np.array([0.001, 0.004, 0.02])
    together = jax.vmap(gap)(q)
    np.testing.assert_allclose(together, [gap(x) for x in q], rtol=1e-12)
    slope = (gap(q[1] + 1e-6) - gap(q[1] - 1e-6)) / 2e-6
    assert float(jax.grad(gap)(q[1])) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize(("rule", "game"), CASES)
def test_outcomes_are_certified_from_payments(rule, game):
    game = GAMES[game]
    found = outcomes.outcome(game, RULES[rule](game))
    assert found.general
    assert found.equilibrium.converged
    assert float(found.equilibrium.nash_gap.max()) < 1e-9
    assert abs(np.asarray(found.payments).sum()) < 1e-13
    expected = np.asarray(utilities(game, found.equilibrium.profile)) + np.asarray(found.payments)
    np.testing.assert_allclose(found.utilities, expected, atol=1e-14)


def test_beyond_500_agents_the_form_that_was_solved_certifies_and_the_result_says_so():
    n = 501
    game = games.check(
        games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(1e-3, 2.0), np.full(n, 10.0))
    )
    found = outcomes.outcome(game, rules.falkinger(game))
    assert not found.general
    assert found.equilibrium.converged
    with pytest.raises(ValueError, match="for up to 2000 agents, got 2001"):
        price.Price(0.1).under(games.check(game.replace(capacity=jnp.ones(2001))))


def test_one_price_is_paid_per_sample_by_all_others():
    s = np.array([3.0, 7.0, 11.0])
    expected = 0.004 * s - 0.004 / 2 * (s.sum() - s)  # of agent 1 zero, up to the rounding of both terms
    found = payments(price.Price(0.004), GAMES["clipped"], s)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14 * np.abs(expected).max())


@pytest.mark.parametrize("game", ["power law", "coverage"])
def test_no_price_of_a_grid_has_more_welfare_than_the_best(game):
    game = GAMES[game]
    found, welfare, _ = price.best_price(game)

    def at(q):
        there = equilibria.solve(price.Price(jnp.asarray(float(q))).under(game))
        return there.converged, np.asarray(utilities(game, there.profile)).sum()

    for q in np.linspace(0, 0.06, 13):
        converged, there = at(q)
        if converged:
            assert there <= welfare + 1e-6
    assert at(found)[1] == pytest.approx(welfare, abs=1e-12)


@pytest.mark.parametrize("value", [[1.0, 0.5, 2.0], [1.0, 0.0, 2.0]])
@pytest.mark.parametrize("name", ["power law", "coverage"])
def test_pigous_prices_make_the_first_best_an_equilibrium_also_of_who_gains_nothing(name, value):
    game = games.check(GAMES[name].replace(value=jnp.array(value)))
    best = mechanisms.first_best(game)
    mechanism = prices.pigou(game, transfers="equal")
    found = outcomes.outcome(game, mechanism)
    np.testing.assert_array_equal(found.equilibrium.profile, best.profile)
    assert found.equilibrium.converged
    np.testing.assert_allclose(found.utilities, best.welfare / N, rtol=1e-9)

    def worth_to_others(i):
        step = 1e-5 * np.eye(N)[i]
        a = [np.asarray(payoff_values(game, np.asarray(best.profile) + x)) for x in (-step, step)]
        return sum(value[j] * (a[1][j] - a[0][j]) for j in range(N) if j != i) / 2e-5

    for i in np.flatnonzero(np.asarray(best.profile) > 1e-3):
        assert float(mechanism.prices[i]) == pytest.approx(worth_to_others(i), rel=1e-6)
    alone = 0.9 * np.asarray(mechanisms.alone(game))
    enough = outcomes.outcome(game, prices.pigou(game, alone, transfers="p_mean")).utilities
    assert np.all(np.asarray(enough) >= alone - 1e-9)


def test_equal_linear_costs_leave_several_splits():
    game = games.check(
        games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost([0.02, 0.02, 0.05]), [9.0] * 3)
    )
    assert prices.splits(game, prices.pigou(game)).tolist() == [0, 1]
    assert prices.splits(GAMES["power law"], prices.pigou(GAMES["power law"])).tolist() == []


def test_shapley_payments_are_concave_where_the_promise_says_so():
    """Payoffs of the total without kinks: slopes fall along own contributions, exact or by orders."""
    rng = np.random.default_rng(0)
    for n in (3, 9):
        law = games.PowerLaw(1.0, rng.uniform(0.5, 2.0, n), 0.5, rng.uniform(0.5, 2.0, n), clip=False)
        game = games.check(games.Game(law, games.LinearCost(0.01), [30.0] * n, rng.uniform(0, 2, n)))
        mechanism = shapley.shapley(game)
        played = mechanism.under(game)
        assert played.payoff.concave
        own = np.where(np.eye(n, dtype=bool)[:, None], np.array([0.0, 3.0, 10.0, 30.0])[:, None], np.nan)
        profiles = np.where(np.isnan(own), rng.uniform(0, 30, n), own)  # [agent, own, n]
        slopes = jax.jit(lambda s, played=played: jax.lax.map(lambda x: games.own_gradient(played, x), s))
        found = np.asarray(slopes(profiles.reshape(-1, n))).reshape(profiles.shape)
        assert np.all(np.diff(found[np.arange(n), :, np.arange(n)], axis=1) < 0)
    for name in ("clipped", "coverage"):
        assert not shapley.shapley(GAMES[name]).under(GAMES[name]).payoff.concave
        assert general(shapley.shapley(GAMES[name]), GAMES[name]).payoff.kinks(None) is None


@pytest.mark.parametrize("n", [3, 9])
def test_shapley_payments_do_not_depend_on_how_many_coalitions_are_looked_at_together(n, monkeypatch):
    law = games.PowerLaw(1.0, np.linspace(0.5, 2.0, n), 0.5, 1.0, clip=False)
    game = games.check(games.Game(law, games.LinearCost(0.01), [30.0] * n))
    mechanism, s = shapley.shapley(game), np.linspace(1.0, 20.0, n)

    def singly():
        single = jax.jit(lambda s, i: mechanism.payment(game, s, i))
        return [float(single(s, i)) for i in range(n)]

    together = singly()
    assert shapley._at_once(n) > 64
    assert shapley._at_once(2000) == 1
    monkeypatch.setattr(shapley, "_NUMBERS", 1)
    np.testing.assert_allclose(together, singly(), rtol=1e-12)
    np.testing.assert_allclose(together, payments(mechanism, game, s), rtol=1e-12)


def values_by_all_orders(game, s):
    n = len(s)
    worth = lambda there: np.sum(game.value * np.asarray(payoff_values(game, np.where(there, s, 0.0))))  # noqa: E731
    phi = np.zeros(n)
    for order in itertools.permutations(range(n)):
        there = np.zeros(n, bool)
        for i in order:
            before = worth(there)
            there[i] = True
            phi[i] += (worth(there) - before) / math.factorial(n)
    return phi


@pytest.mark.parametrize("name", GAMES)
def test_shapley_payments_leave_everybody_her_value(name):
    game, s = GAMES[name], np.array([3.0, 7.0, 11.0])
    phi = values_by_all_orders(game, s)
    paid = payments(shapley.shapley(game), game, s)
    gained = game.value * (np.asarray(payoff_values(game, s)) - np.asarray(payoff_values(game, 0 * s)))
    np.testing.assert_allclose(paid, phi - gained, atol=1e-13)
    every = np.array(list(itertools.permutations(range(N))))
    np.testing.assert_allclose(payments(shapley.Shapley(jnp.asarray(every)), game, s), paid, atol=1e-13)


def test_with_more_agents_orders_are_sampled_and_the_error_says_how_well():
    n = 9
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(6), n) * 0.9
    game = games.check(games.Game(games.RandomCoverage(q), games.LinearCost(0.01), np.full(n, 20.0)))
    s, mechanism = rng.uniform(0, 5, n), shapley.shapley(game)
    assert mechanism.orders.shape == (64, n)
    paid = np.asarray(payments(mechanism, game, s))
    assert abs(paid.sum()) < 1e-13
    phi, error = jax.jit(lambda s: (mechanism.values(game, s), mechanism.error(game, s)))(s)
    exact = shapley_values(shapley.Shapley(), game, s)
    z = (np.asarray(phi) - np.asarray(exact)) / np.asarray(error)
    assert 0.3 < np.sqrt(np.mean(z**2)) < 2.5
    single = jax.jit(lambda s, i: mechanism.payment(game, s, i))
    for i in (0, 5):
        assert float(single(s, i)) == pytest.approx(paid[i], abs=1e-14)


def test_splitting_one_agent_into_two_pays():
    """Qi and Zhu (2024): what two halves of the same data are paid together is more."""
    payoff, cost = games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(0.01)
    whole = games.check(games.Game(payoff, cost, [10.0] * 2, jnp.array([1.0, 1.0])))
    split = games.check(games.Game(payoff, cost, [10.0] * 3, jnp.array([1.0, 0.5, 0.5])))
    phi = np.asarray(shapley_values(shapley.Shapley(), whole, np.array([5.0, 8.0])))
    phis = np.asarray(shapley_values(shapley.Shapley(), split, np.array([5.0, 4.0, 4.0])))
    assert phis[1] + phis[2] > phi[1] + 1e-3


def test_accuracy_as_the_reward_is_certified_where_no_solver_would_end():
    game = games.check(
        games.Game(games.GeneralizationBound(0.95, 1.0), games.LinearCost([1e-4, 2e-4]), [3e3, 3e3])
    )
    mechanism = baselines.schedule_of(game)
    found = outcomes.outcome(game, mechanism)
    expected = mechanisms.data_maximizing(game)
    np.testing.assert_array_equal(found.equilibrium.profile, expected.contributions)
    np.testing.assert_allclose(found.received, expected.received, rtol=1e-12)
    np.testing.assert_allclose(found.utilities, expected.utilities, rtol=1e-12)
    assert found.equilibrium.converged
    np.testing.assert_array_equal(found.payments, 0)
    solved = equilibria.solve(mechanism.under(game))
    assert np.asarray(solved.profile).sum() < np.asarray(expected.contributions).sum()


@pytest.mark.parametrize("rule", ["price", "shapley", "prices"])
def test_a_price_and_shapley_payments_do_not_depend_on_reported_costs(rule):
    """So there is nothing to gain by a misreport; Pigou's prices are made for the costs that are reported."""
    game, s = GAMES["power law"], np.array([3.0, 7.0, 11.0])
    honest = np.asarray(payments(RULES[rule](game), game, s))
    for factor in (0.5, 2.0):
        reported = games.scale_costs(game, np.array([factor, 1.0, 1.0]))
        paid = np.asarray(payments(RULES[rule](reported), reported, s))
        assert np.array_equal(paid, honest) == (rule != "prices")


def test_who_misreports_her_cost_gains_if_payments_ask_for_it():
    found = misreports.manipulation(GAMES["power law"], rules.prices, 0, 0.5, 2.0, points=5)
    assert found.certified
    assert found.gain > 1e-4


def test_who_is_paid_for_data_that_bring_her_nothing_gives_all_of_them():
    """With β f = 1.5 a sample earns agent 0 half its cost; it is not enough that it costs her nothing."""
    q = np.array([[0.3, 0.0], [0.0, 0.3]])
    game = games.check(
        games.Game(games.RandomCoverage(q), games.LinearCost([0.05, 0.05]), [10.0] * 2, [0.0, 1.0])
    )
    half = refunds.Refunds(jnp.full(2, 0.5))
    found = misreports.manipulation(game, lambda game: half, 0, 0.5, 3.0, points=3)
    assert found.certified
    assert found.contributions[-1] == 10
    assert found.gain == pytest.approx(10 * 0.05 * (3 * 0.5 - 1))


def test_who_is_honest_is_where_the_mechanism_says():
    """Between m* and m^max agents are indifferent: a solver of best responses would end elsewhere."""
    cost = games.LinearCost([1e-4, 2e-4])
    game = games.check(games.Game(games.GeneralizationBound(0.95, 1.0), cost, [3e3, 3e3]))
    found = misreports.manipulation(game, rules.data_maximizing, 0, 0.5, 2.0, points=3)
    honest = float(mechanisms.data_maximizing(game).contributions[0])
    assert found.contributions[found.factors == 1.0].tolist() == [honest]


def test_a_strangers_mechanism_needs_only_its_payments():
    """A contest: who gives the larger part of all samples receives it."""

    @registry.family
    class Contest(base.Mechanism):
        prize: float = 0.0

        def payments(self, reported, s):
            share = s / jnp.maximum(s.sum(), 1e-300)
            return self.prize * (share - jnp.mean(share))

    game = GAMES["power law"]
    found = outcomes.outcome(game, Contest(0.5))
    assert found.equilibrium.converged
    assert abs(np.asarray(found.payments).sum()) < 1e-15
    none = outcomes.outcome(game, RULES["none"](game))
    assert np.asarray(found.equilibrium.profile).sum() > 1.5 * np.asarray(none.equilibrium.profile).sum()
    assert float(found.mechanism.announced(N)["prize"][0]) == 0.5


def test_sharing_that_is_worth_nobodys_cost_is_certified_though_rounding_hides_the_last_digit():
    """Own records teach always, so payoffs do not depend on what is shared, but their rounding may."""

    @registry.register("rounded")
    class Rounded(payoffs.Payoff):
        level: object = registry.option("whatever is shared, with the last digit of a sum in another order")
        gain: object = registry.option("by a record", 0.0)
        of_total = False

        @property
        def concave(self):
            return True

        def statistic(self, s):
            return s

        def rest(self, z, own, i):
            return jnp.zeros(())

        def kinks(self, rest):
            return ()

        def value(self, own, rest):
            level = jnp.asarray(self.level)
            last = jnp.nextafter(level, jnp.inf) - level
            return level + jnp.where(own > 0, last, 0.0) + self.gain * own

    nothing, cost = jnp.zeros(N), [20.0, 25.0, 30.0]
    for unit in (1.0, 1e-6, 1e6):
        payoff = Rounded(unit * jnp.array([82119.0, 85076.0, 54912.0]))
        game = games.Game(payoff, games.LinearCost(unit * jnp.array(cost)), jnp.array([147.0, 151.0, 61.0]))
        found, verdict = certificates.certify(games.check(game), nothing)
        assert np.all(found.gap > 0)  # the last digit
        assert np.all(found.told)
        assert verdict
        # Of costs that are below the last digits there is still no verdict.
        tiny = game.replace(cost=games.LinearCost(unit * 1e-9 * jnp.array(cost)))
        assert not certificates.certify(games.check(tiny), nothing)[1]
        # And who gains by sharing is seen.
        gainful = game.replace(payoff=payoff.replace(gain=unit * jnp.array([0.0, 26.0, 0.0])))
        found, verdict = certificates.certify(games.check(gainful), nothing)
        assert found.gap[1] == pytest.approx(unit * 151.0, rel=1e-6)
        assert not verdict
