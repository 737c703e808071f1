import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, registry
from fedgame.equilibria import dynamics
from fedgame.games import curves, payoffs
from fedgame.games import game as the_game
from fedgame.mechanisms import optimum, outcomes, refunds, rules
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import fedbr, first_best

nash_gap, solve = jax.jit(equilibria.nash_gap), jax.jit(equilibria.solve)
own_gradient, utilities_of = jax.jit(games.own_gradient), jax.jit(games.utilities)
trace, expected_trace = (jax.jit(x.trace, static_argnames=("steps", "step_size")) for x in (fedbr, dynamics))
CURVE = games.PowerLaw(1.0, 10.0, 0.9, 16.0)
MEASURED = curves.fit(
    "concave", [0, 10, 20, 50, 100, 200, 500, 1000], [0.10, 0.37, 0.565, 0.69, 0.796, 0.861, 0.929, 0.947]
).payoff
RULES = [rules.none, rules.beta_star, rules.falkinger, rules.personal]


def a_game(rates, payoff=CURVE, capacity=50.0):
    return games.check(games.Game(payoff, games.LinearCost(rates), np.full(len(rates), capacity)))


def started(protocol, game, key):
    """The plan of the first round, and the mechanism that is announced."""
    announced = protocol.rule.announced(game)
    return protocol.start(game, announced, jax.random.key(key)), announced.mechanism


def costs(kind, n):
    spread = np.exp(0.5 * np.random.default_rng(n).normal(size=n))
    return {"equal": np.full(n, 0.005), "linspace": np.linspace(0.0025, 0.0075, n)}.get(kind, 0.005 * spread)


@pytest.mark.parametrize("kind", ["equal", "linspace", "lognormal"])
def test_it_ends_at_a_certified_equilibrium_of_its_game(kind):
    """`converged` in 100 steps: no agent gains more than 1e-6 max(1, |u|) by deviating."""
    game = a_game(costs(kind, 10), MEASURED, 100.0)
    for rule in RULES:
        mechanism = rule(game)
        mechanism = registry.per_agent(mechanism, 10)
        plan = fedbr.FedBR(rule).start(game, Announcement(mechanism), jax.random.key(0))
        played = refunds.under_mechanism(game, mechanism.rates)
        utilities = np.asarray(outcomes.settle(game, mechanism, plan.profile).utilities)
        gaps = np.asarray(nash_gap(played, plan.profile))
        assert np.all(gaps <= 1e-6 * np.maximum(1.0, np.abs(utilities)))
        assert np.sum(plan.profile) == pytest.approx(np.asarray(solve(played).profile).sum(), rel=1e-3)
        assert plan.path.shape == (101, 10)
        assert np.all((plan.path >= 0) & (plan.path <= 100))
        np.testing.assert_array_equal(plan.path[-1], plan.profile)


@pytest.mark.parametrize(("kind", "rule"), [("equal", rules.personal), ("lognormal", rules.none)])
def test_a_thousand_agents_need_no_more_steps(kind, rule):
    game = a_game(costs(kind, 1000), CURVE, 100.0)
    played = registry.per_agent(rule(game), 1000).under(game)
    for k in range(2):
        path = trace(played, fedbr.random_start(jax.random.key(k), game.capacity), steps=100)
        assert np.max(nash_gap(played, np.asarray(path)[-1])) <= 1e-6


def test_one_agent_plays_alone():
    game = a_game([0.005])
    plan, _ = started(fedbr.FedBR(), game, 0)
    assert np.max(nash_gap(game, plan.profile)) < 1e-12
    with pytest.raises(ValueError, match="at least two"):
        fedbr.FedBR().start(game, Announcement(refunds.Refunds(0.5)), jax.random.key(0))


def test_what_an_announced_total_cannot_tell_is_refused():
    game = games.check(games.Game(games.LinearPayoff(np.eye(2)), games.LinearCost(0.1), [1.0, 1.0]))
    with pytest.raises(ValueError, match="announces ‖s‖₁ or effective samples; LinearPayoff"):
        started(fedbr.FedBR(), game, 0)


@pytest.mark.parametrize("step_size", [None, 300.0])
def test_agents_and_server_together_make_eq_4(step_size):
    """A game of S with values, qualities, samples held by the server and convex costs."""
    rng = np.random.default_rng(0)
    cost = games.PowerCost(rng.uniform(1e-4, 1e-3, 6), 1.5)
    extras = {"value": rng.uniform(0.5, 2, 6), "quality": rng.uniform(0.5, 2, 6), "held": 3.0}
    game = games.check(games.Game(CURVE, cost, rng.uniform(10, 90, 6), **extras))
    s = rng.uniform(0, 10, 6)
    path = np.asarray(trace(game, s, steps=40, step_size=step_size))
    _, expected = expected_trace(game, s, steps=40, step_size=step_size)
    np.testing.assert_allclose(path, expected, rtol=1e-10, atol=1e-12)
    if step_size:
        after = jax.jit(lambda path: jax.vmap(lambda s: dynamics.step(game, s, step_size))(path))(path[:-1])
        np.testing.assert_allclose(after, path[1:], rtol=1e-12, atol=1e-12)


def test_an_agent_answers_to_her_own_game_and_the_two_numbers_alone():
    """Others may have other costs, capacities and shares: with the same S and δ her reply is the same."""
    mine, s = 2, np.array([10.0, 0.0, 7.0, 33.0])
    game = a_game([0.01, 0.02, 0.004, 0.05])
    agent = the_game.agent_of(game, mine)
    slope = fedbr.slope(agent, s[mine], np.sum(s))
    assert fedbr.move(agent, s[mine], slope, 200.0) == np.clip(s[mine] + 200.0 * slope, 0, 50)
    assert slope == pytest.approx(9.0 * (16 + 50.0) ** -1.9 - 0.004, rel=1e-12)
    others = a_game([0.5, 0.6, 0.004, 0.001]).replace(capacity=jnp.asarray([90.0, 60.0, 50.0, 2.0]))
    for crowd, shares in ((game, s), (others, np.array([0.0, 41.0, 7.0, 2.0]))):
        path = np.asarray(expected_trace(crowd, shares, steps=1, step_size=200.0)[1])
        assert path[1, mine] == pytest.approx(float(fedbr.move(agent, s[mine], slope, 200.0)), rel=1e-12)


def test_payments_balance_at_every_step():
    game = a_game(np.linspace(0.005, 0.02, 7))
    for rule in (rules.falkinger, rules.personal):
        plan, mechanism = started(fedbr.FedBR(rule, steps=30), game, 1)
        mechanism = registry.per_agent(mechanism, game.n)
        for profile in plan.path:
            there = jax.device_get(outcomes.settle(game, mechanism, profile))
            assert abs(np.sum(there.payments)) <= 1e-14 * game.n
            assert np.any(there.payments != 0) or not np.any(there.spent)


def test_a_constant_step_is_used_as_given():
    game = a_game([0.01, 0.02])
    path = started(fedbr.FedBR(steps=1, step_size=100.0), game, 5)[0].path
    moved = np.clip(path[0] + 100.0 * np.asarray(own_gradient(game, path[0])), 0, 50)
    np.testing.assert_allclose(path[1], moved, rtol=1e-12)


def test_random_starts_are_multiples_of_ten_up_to_the_capacity():
    capacity = jnp.asarray([50, 100, 9, 15])
    starts = np.stack([fedbr.random_start(jax.random.key(k), capacity) for k in range(300)])
    assert [sorted(set(column)) for column in starts.T] == [
        [10.0 * k for k in range(6)],
        [10.0 * k for k in range(11)],
        [0.0],
        [0.0, 10.0],
    ]


def test_the_first_best_is_what_no_protocol_beats_and_equal_for_all():
    game = a_game(np.linspace(0.003, 0.007, 7), MEASURED)
    plan, mechanism = started(first_best.FirstBest(), game, 0)
    utilities = np.asarray(outcomes.settle(game, mechanism, plan.profile).utilities)
    np.testing.assert_allclose(utilities, optimum.first_best(game).welfare / 7, rtol=1e-9)
    played = refunds.under_mechanism(game, mechanism.rates)
    assert np.max(nash_gap(played, plan.profile)) < 1e-9
    for rule in (rules.none, rules.falkinger):
        ended = started(fedbr.FedBR(rule), game, 2)[0].profile
        assert np.sum(utilities_of(game, ended)) <= np.sum(utilities) * (1 + 1e-9)
    assert plan.path.shape == (1, 7)
    alone, mechanism = started(first_best.FirstBest(), a_game([0.005]), 0)
    assert (mechanism.rates, mechanism.transfers) == (0.0, 0.0)
    np.testing.assert_allclose(alone.profile, solve(a_game([0.005])).profile, rtol=1e-9)


def test_the_first_best_is_found_once():
    """It is taken from the announcement if it is there, else computed."""
    game = a_game(np.linspace(0.003, 0.007, 3), MEASURED)
    best = optimum.first_best(game)
    told = rules.personal.announced(game, best)
    assert told.best is best
    half = best._replace(profile=best.profile / 2)
    plans = [
        first_best.FirstBest().start(game, announced, None)
        for announced in (told, told._replace(best=None), told._replace(best=half))
    ]
    for plan, factor in zip(plans, (1.0, 1.0, 0.5), strict=True):
        np.testing.assert_allclose(plan.profile, factor * np.asarray(best.profile), rtol=1e-12)


def test_who_has_next_to_nothing_does_not_hold_up_the_others():
    """The first step is 1% of 10⁻¹⁵ samples; rounded away, it is doubled until somebody moves."""
    cost = games.PowerCost([1e-3, 1e-3], 2.0)
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0, 1.0), cost, [100.0, 1e-15]))
    s = np.array([50.0, 1e-15])
    path = np.asarray(trace(game, s, steps=200))
    np.testing.assert_allclose(path, expected_trace(game, s, steps=200)[1], rtol=1e-12)
    assert np.max(nash_gap(game, path[-1])) < 1e-9


@pytest.mark.parametrize("rule", [rules.price, rules.prices, rules.shapley], ids=lambda x: x.name)
def test_under_any_payments_it_ends_at_an_equilibrium_of_their_game(rule):
    game = a_game(np.linspace(0.004, 0.008, 3))
    plan, mechanism = started(fedbr.FedBR(rule), game, 0)
    assert plan.path.shape == (101, 3)
    gaps = np.asarray(nash_gap(mechanism.under(game), plan.profile))
    assert np.all(gaps <= 1e-6)
    assert np.any(gaps - np.asarray(nash_gap(game, plan.profile)) < -1e-4)  # it is none without payments


def test_agents_are_told_what_a_sample_more_is_paid():
    """Shapley payments by differences; accuracy that is not given counts as well."""
    game = a_game(np.linspace(0.004, 0.008, 3))
    s, steps = np.array([12.0, 30.0, 7.0]), 1e-4 * np.eye(3)
    for mechanism in (rules.shapley(game), rules.data_maximizing(game)):
        told = np.asarray(jax.jit(fedbr.offers)(mechanism, game, s))
        paid = jax.jit(jax.vmap(lambda x, y=mechanism: jnp.diag(jax.vmap(lambda s: y.utilities(game, s))(x))))
        up, down = np.asarray(paid(np.stack([s + steps, s - steps])))
        own = [np.diag([utilities_of(game, x) for x in s + sign * steps]) for sign in (1, -1)]
        slopes = (up - own[0] - (down - own[1])) / 2e-4
        np.testing.assert_allclose(told, slopes, rtol=1e-6, atol=1e-10)
        whole = np.asarray(own_gradient(game, s)) + told
        np.testing.assert_allclose(whole, own_gradient(mechanism.under(game), s), rtol=1e-9, atol=1e-15)


def test_where_agents_are_indifferent_they_are_told_what_to_contribute():
    game = a_game(np.linspace(0.004, 0.008, 3))
    plan, mechanism = started(fedbr.FedBR(rules.data_maximizing), game, 0)
    np.testing.assert_array_equal(plan.profile, mechanism.profile(game))
    assert plan.path.shape == (1, 3)


@pytest.mark.parametrize(
    ("protocol", "title"),
    [
        (fedbr.FedBR(), "FedBR"),
        (fedbr.FedBR(rules.beta_star), "FedBR-BG"),
        (fedbr.FedBR(rules.beta_star, steps=50), "FedBR-BG (steps = 50)"),
        (fedbr.FedBR(rules.shapley), "FedBR, Shapley payments"),
        (fedbr.FedBR(rules.price.having(price=0.004)), "FedBR, one price (price = 0.004)"),
        (fedbr.FedBR(rules.prices, 50, 2.0), "FedBR, Pigou's prices (steps = 50, step_size = 2.0)"),
        (first_best.FirstBest(), "First best"),
    ],
)
def test_titles_tell_the_rule_and_what_differs_from_the_defaults(protocol, title):
    assert protocol.title == title
    assert protocol.aims


@pytest.mark.parametrize("own", ["contributed", "always"])
def test_members_who_hear_their_effective_samples_end_where_the_game_does(own):
    """The server holds the exchange rates; a member needs only z_i for her slope."""
    curve = games.PowerLaw(0.95, 2.0, 0.5, 10.0, clip=False)
    rates, records = np.array([[1.0, 0.5], [0.2, 1.0]]), np.array([40.0, 30.0]) * (own == "always")
    payoff = payoffs.EffectiveSamples(curve, rates, records, own)
    game = games.check(games.Game(payoff, games.LinearCost([0.001, 0.002]), np.array([200.0, 200.0])))
    s = np.array([30.0, 10.0])
    np.testing.assert_allclose(fedbr.announcements(game, s), records + rates @ s)
    agent = the_game.agent_of(game, 0)
    told = fedbr.slope(agent, s[0], fedbr.announcements(game, s)[0])
    assert told == pytest.approx(float(games.own_gradient(game, s)[0]), rel=1e-12)
    plan, _ = started(fedbr.FedBR(steps=2000), game, 0)
    np.testing.assert_allclose(plan.profile, solve(game).profile, atol=1e-3)
