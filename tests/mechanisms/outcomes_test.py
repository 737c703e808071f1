"""Outcomes under a mechanism and who leaves, against a naive version in numpy."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import games, mechanisms
from fedgame.mechanisms import misreports, outcomes, personal, price, rules

few = hypothesis.settings(max_examples=8)
SEEDS = st.integers(0, 2**32 - 1)
N = 4


class Direct:
    """v_i (1 - 1 / (2 + S₀ + Σ w_j s_j)) - c_i s_i² - d_i, one rate β, in numpy."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.value, self.quality = rng.uniform(0.2, 3, N), rng.uniform(0.5, 2, N)
        self.rate, self.fixed = 10 ** rng.uniform(-3, -0.5, N), rng.uniform(0, 0.6, N)
        self.capacity, self.held = rng.uniform(0.5, 6, N), rng.uniform(0, 1)
        self.game = games.check(
            games.Game(
                games.PowerLaw(1.0, 1.0, 1.0, 2.0), games.PowerCost(self.rate, np.full(N, 2.0), self.fixed),
                self.capacity, self.value, self.quality, self.held,
            )
        )  # fmt: skip

    def equilibrium(self, who, beta):
        v, w, c, top = (x[who] for x in (self.value, self.quality, self.rate, self.capacity))

        def wanted(total):
            bears = 2 * (1 - beta) * c
            price = v * w / (2 + total) ** 2
            return np.minimum(price / bears, top) if beta < 1 else top

        total = scipy.optimize.brentq(
            lambda x: self.held + w @ wanted(x) - x, self.held, self.held + w @ top + 1, xtol=1e-14
        )
        return wanted(total)

    def utilities(self, who, beta):
        s = self.equilibrium(who, beta)
        spent = self.rate[who] * s**2 + self.fixed[who]
        paid = np.array([beta * (x - (spent.sum() - x) / max(len(who) - 1, 1)) for x in spent])
        payoff = 1 - 1 / (2 + self.held + self.quality[who] @ s)
        return self.value[who] * payoff - spent + paid, paid, spent, s

    def alone(self, i):
        x = np.linspace(0, self.capacity[i], 200_001)
        return (self.value[i] * (1 - 1 / (2 + self.quality[i] * x)) - self.rate[i] * x**2).max()

    def participation(self, beta, outside):
        who, left = list(range(N)), []
        while len(who) > 1:
            utility = self.utilities(who, beta(len(who)))[0]
            short = {i: outside[i] - u for i, u in zip(who, utility, strict=True)}
            worst = max(who, key=lambda i: short[i])
            if short[worst] <= 1e-9:
                break
            who.remove(worst)
            left.append((worst, short[worst]))
        return who, left


RULES = {
    "none": (rules.none, lambda n: 0.0),
    "Falkinger": (rules.falkinger, lambda n: 1 - 1 / n),
    "0.9": (lambda game: mechanisms.Refunds(0.9), lambda n: 0.9),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("outside", ["alone", "no model", "some"])
@few
@hypothesis.given(seed=SEEDS)
def test_agents_leave_one_at_a_time_the_worst_off_first(rule, outside, seed):
    direct = Direct(seed)
    alone = np.array([direct.alone(i) for i in range(N)])
    given = {"alone": None, "no model": 0.0, "some": 0.3 + 0.1 * np.arange(N)}[outside]
    alternative = alone if given is None else np.broadcast_to(given, N)
    ours, theirs = RULES[rule]
    calls = []
    found = mechanisms.participation(direct.game, ours, given, progress=lambda: calls.append(1))
    np.testing.assert_allclose(found.outside, alternative, atol=1e-9)
    stay, left = direct.participation(theirs, alternative)
    assert found.stay.tolist() == stay
    assert found.left == [i for i, _ in left]
    assert len(calls) == len(left)
    np.testing.assert_allclose(found.shortfall, [short for _, short in left], atol=1e-8)
    assert sorted([*found.left, *found.stay]) == list(range(N))
    utility, paid, spent, s = direct.utilities(np.arange(N), theirs(N))
    np.testing.assert_allclose(found.everybody.utilities, utility, rtol=1e-9, atol=1e-12)
    if len(stay) < 2:
        assert found.outcome is None
        return
    utility, paid, spent, s = direct.utilities(stay, theirs(len(stay)))
    np.testing.assert_allclose(found.outcome.equilibrium.profile, s, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.outcome.spent, spent, rtol=1e-9)
    np.testing.assert_allclose(found.outcome.payments, paid, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.outcome.utilities, utility, rtol=1e-9, atol=1e-12)
    assert abs(np.asarray(found.outcome.payments).sum()) <= 1e-13
    assert np.asarray(found.outcome.equilibrium.nash_gap).max() <= 1e-12


@few
@hypothesis.given(seed=SEEDS)
def test_nobody_leaves_personal_rates_that_ask_what_she_has_alone(seed):
    direct = Direct(seed)
    game = direct.game.replace(cost=games.PowerCost(direct.rate, np.full(N, 2.0), 0.0 * direct.fixed))

    def rule(game):
        return mechanisms.personal_rates(game, outside=personal.alone(game), transfers="p_mean").mechanism

    found = mechanisms.participation(game, rule)
    assert (found.left, found.shortfall, found.stay.tolist()) == ([], [], [0, 1, 2, 3])
    assert np.all(np.asarray(found.outcome.utilities) >= np.asarray(personal.alone(game)) - 1e-9)
    best = mechanisms.first_best(game)
    assert np.asarray(found.outcome.utilities).sum() == pytest.approx(best.welfare, rel=1e-10)
    equal = outcomes.outcome(game, rules.personal.having(transfers="equal")(game))
    np.testing.assert_allclose(equal.utilities, best.welfare / N, rtol=1e-9)


def test_one_agent_after_the_other_until_one_is_left():
    """Nobody can bear her fixed cost: the largest leaves first, and one agent alone is no federation."""
    fixed = [5.0, 9.0, 7.0, 6.0]
    game = games.check(
        games.Game(
            games.PowerLaw(1.0, 1.0, 1.0, 2.0),
            games.PowerCost([0.1] * 4, [2.0] * 4, fixed),
            [1.0] * 4,
            [1.0] * 4,
            [1.0] * 4,
        )
    )
    found = mechanisms.participation(game, rules.none)
    assert found.left == [1, 2, 3]
    assert found.stay.tolist() == [0]
    assert found.outcome is None
    # Falkinger's β shares fixed costs too, so at first all lose the same: the largest goes all the same.
    assert mechanisms.participation(game, rules.falkinger).left[0] == 1


def test_a_difference_of_rounding_keeps_nobody_from_staying():
    game = Direct(0).game
    utility = np.asarray(outcomes.outcome(game, mechanisms.Refunds()).utilities)
    assert mechanisms.participation(game, rules.none, utility + 1e-12).left == []
    slightly = mechanisms.participation(game, rules.none, utility + 1e-6 * np.eye(N)[2])
    assert slightly.left[0] == 2
    assert slightly.shortfall[0] == pytest.approx(1e-6, rel=1e-6)


def test_one_agent_stays_or_leaves():
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost(4.0, 0.5), [3.0]))
    for rule in (rules.none, rules.beta_star, rules.falkinger, rules.personal, rules.designed.having(p=1.0)):
        found = mechanisms.participation(game, rule, outside=3.0)  # she has 8 - 2 - 2 - ½
        assert found.stay.tolist() == [0]
        np.testing.assert_allclose(found.outcome.utilities, [3.5], rtol=1e-12)
        assert found.outcome.payments.tolist() == [0.0]
    left = mechanisms.participation(game, rules.none, outside=4.0)
    assert (left.left, left.shortfall, left.stay.tolist(), left.outcome) == ([0], [0.5], [], None)


@pytest.mark.parametrize("outside", [np.nan, np.inf, [0.0, 0.0, -np.inf, 0.0]])
def test_what_is_outside_is_a_number(outside):
    with pytest.raises(ValueError, match="`outside` must be finite"):
        mechanisms.participation(Direct(0).game, rules.none, outside)


def test_rules():
    """β* knows linear costs above 0 only; a sample of quality w_i costs c_i / w_i per standard sample."""
    payoff = games.PowerLaw(8.0, 1.0, 1.0)
    linear = games.check(games.Game(payoff, games.LinearCost([5.0, 4.0]), [1.0, 1.0]))
    assert float(rules.beta_star(linear).rates) == pytest.approx(4 / 9)
    weighted = linear.replace(cost=games.LinearCost(np.array([10.0, 2.0])), quality=np.array([2.0, 0.5]))
    assert float(rules.beta_star(weighted).rates) == pytest.approx(4 / 9)
    power = linear.replace(cost=games.PowerCost(np.array([5.0, 4.0]), 1.0))
    assert float(rules.beta_star(power).rates) == pytest.approx(4 / 9)
    assert rules.falkinger(linear).rates == 0.5
    np.testing.assert_array_equal(
        rules.personal(linear).rates, mechanisms.personal_rates(linear, transfers="equal").mechanism.rates
    )
    for cost in (games.PowerCost(1.0, 2.0), games.LinearCost([1.0, 0.0]), games.OrderedCost([1.0, 1.0])):
        with pytest.raises(ValueError, match="defined for linear costs above 0 only"):
            rules.beta_star(linear.replace(cost=cost))


NO_EQUILIBRIUM = games.check(  # Theorem A.2: best responses cycle
    games.Game(
        games.CustomPayoff(lambda s: (e := jnp.clip(0.5 + (s - 0.5) * 16, 0, 1)) + jnp.roll(e, 1) * (1 - e)),
        games.LinearCost(0.25),
        [1.0] * 3,
    )
)


def test_nobody_leaves_or_stays_on_a_profile_that_is_no_equilibrium(monkeypatch):
    found = mechanisms.participation(NO_EQUILIBRIUM, rules.none, outside=0.9)
    assert not found.certified
    assert not found.outcome.equilibrium.converged
    assert (found.left, found.stay.tolist()) == ([], [0, 1, 2])
    monkeypatch.setattr(misreports, "_ZOOMS", 0)
    lie = mechanisms.manipulation(NO_EQUILIBRIUM, rules.none, 0, points=2)
    assert not lie.certified
    assert np.isnan(lie.gain)
    assert np.all(np.isnan(lie.gains))


@pytest.mark.parametrize("money", [1e-10, 1.0, 1e10])
def test_who_has_twice_her_utility_outside_leaves_in_every_currency(money):
    game = games.check(
        games.Game(
            games.PowerLaw(1.0, 1.0, 1.0, 2.0), games.PowerCost([0.1 * money] * N, [2.0] * N, [0.0] * N),
            [1.0] * N, [money] * N, [1.0] * N,
        )
    )  # fmt: skip
    inside = np.asarray(outcomes.outcome(game, rules.none(game)).utilities)
    assert mechanisms.participation(game, rules.none, 2 * inside).left
    assert not mechanisms.participation(game, rules.none, inside * (1 + 1e-12)).left


TWO = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [1.0, 1.0]))


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        (mechanisms.Refunds(1.3), "`rates` must be a number, at least 0 and at most 1, got 1.3"),
        (mechanisms.Refunds(np.array([0.5, -0.1])), "`rates` must be a number, at least 0 and at most 1"),
        (mechanisms.Refunds(0.5, [np.nan, 0.0]), "`transfers` must be finite"),
        (mechanisms.Refunds([0.5] * 3), r"one entry for each of 2 agents, got shape \(3,\)"),
        (mechanisms.Refunds(np.zeros((2, 2))), r"`rates` must be shared or .* got shape \(2, 2\)"),
        (price.Price(-1.0), "`price` must be a number, at least 0, got -1.0"),
    ],
)
def test_numbers_of_a_mechanism_out_of_range_are_refused_in_words(mechanism, message):
    with pytest.raises(ValueError, match=message):
        outcomes.outcome(TWO, mechanism)


def test_numbers_that_are_traced_are_not_looked_at():
    def gained(rate):
        return outcomes.outcome(TWO, mechanisms.Refunds(rate), general=False).utilities

    together = jax.jit(jax.vmap(gained))(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(together, [gained(0.0), gained(0.5)], rtol=1e-12)


# Rounding hides what anybody's decision moves.
HIDDEN = games.check(TWO.replace(cost=games.LinearCost([5.0, 4.0], 1e20)))


def test_no_price_is_announced_where_no_equilibrium_is_certified():
    for call in (
        price.best_price,
        rules.price,
        lambda game: mechanisms.participation(game, rules.price, 0.0),
    ):
        with pytest.raises(
            ValueError, match=r"no price per sample leads to a certified .*: \d+ prices from 0"
        ):
            call(HIDDEN)
    given = rules.price.having(price=0.1)
    assert not outcomes.outcome(HIDDEN, given(HIDDEN)).equilibrium.converged


@pytest.mark.parametrize(
    "rule", [rules.none, rules.personal, rules.prices, rules.price, rules.designed.having(p=0.5)]
)
def test_what_a_rule_hands_over_is_what_would_be_found(rule):
    told = rules.announced(rule, TWO)
    given, found = outcomes.of_announcement(TWO, told), outcomes.outcome(TWO, rule(TWO))
    np.testing.assert_allclose(given.equilibrium.profile, found.equilibrium.profile, rtol=1e-9)
    np.testing.assert_allclose(given.utilities, found.utilities, rtol=1e-9)
    assert given.equilibrium.converged
    best = mechanisms.first_best(TWO)
    if rule in (rules.personal, rules.prices):
        assert given.best.welfare == best.welfare
    else:
        assert given.best is None
    assert (told.equilibrium is None) == (rule in (rules.none, rules.personal, rules.prices))
    assert outcomes.known_or_new(TWO, rule(TWO), [given]) is given
    assert outcomes.known_or_new(TWO, mechanisms.Refunds(0.123), [given]) is not given


def test_an_equilibrium_that_is_known_is_audited_as_it_is():
    found = outcomes.outcome(TWO, rules.beta_star(TWO))
    beta = float(found.mechanism.rates)
    known = mechanisms.audit(TWO, beta, 1.0, profile=found.equilibrium)
    assert known.verdict == mechanisms.audit(TWO, beta, 1.0).verdict
    assert known.certified
    wrong = found.equilibrium.replace(converged=jnp.asarray(False))
    assert not mechanisms.audit(TWO, beta, 1.0, profile=wrong).certified
    assert mechanisms.audit(TWO, beta, 1.0, budget=50.0, profile=wrong).certified  # looked at anew
