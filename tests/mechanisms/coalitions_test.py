"""Coalitions, outside options, and transfers by Nash bargaining."""

import itertools

import numpy as np
import pytest

from fedgame import games, mechanisms
from fedgame.games import payoffs
from fedgame.mechanisms import coalitions, outcomes, personal, prices, rules

CURVE = games.PowerLaw(0.95, 2.0, 0.5, 10.0, clip=False)
RATES = np.array([[1.0, 0.8, 0.0, 0.1], [0.8, 1.0, 0.0, 0.1], [0.0, 0.1, 1.0, 0.0], [0.5, 0.5, 0.5, 1.0]])
COST = games.LinearCost([0.001, 0.0015, 0.002, 0.001])
GAME = games.check(games.Game(payoffs.EffectiveSamples(CURVE, RATES), COST, np.full(4, 300.0)))
TOTAL = games.check(games.Game(CURVE, COST, np.full(4, 300.0)))
MASKS = np.array(list(itertools.product([False, True], repeat=4)))


@pytest.mark.parametrize("game", [GAME, TOTAL], ids=["effective", "total"])
def test_a_surplus_is_the_members_first_best_less_what_they_have_outside(game):
    outside = np.array([0.4, 0.5, 0.3, 0.6])
    expected = [0.0]
    for mask in MASKS[1:]:
        members = np.flatnonzero(mask)
        expected.append(mechanisms.first_best(games.subset(game, members)).welfare - outside[members].sum())
    np.testing.assert_allclose(coalitions.surpluses(game, outside, MASKS), expected, atol=1e-9)
    found = coalitions.best(game, outside)
    assert found.exhaustive
    assert found.surplus == pytest.approx(max(expected), abs=1e-9)
    np.testing.assert_array_equal(found.members, np.flatnonzero(MASKS[np.argmax(expected)]))


def test_clipped_curves_of_those_who_use_their_own_records():
    """Nobody has any payoff until the others share much: climbing from the middle one at a time ends at 0."""
    payoff = payoffs.EffectiveSamples(games.PowerLaw(0.95, 2.0, 0.5), np.ones((4, 4)), 2.0, "always")
    game = games.check(games.Game(payoff, games.LinearCost(0.001), np.full(4, 2.0)))
    all_four, outside = np.ones((1, 4), bool), np.array([0.0, 0.0, 0.0, 2.0])
    z = 2.0 + 3 * 2.0
    expected = 4 * (0.95 - 2 / np.sqrt(z) - 0.001 * 2.0) - 2.0
    assert coalitions.surpluses(game, outside, all_four)[0] == pytest.approx(expected, abs=1e-6)
    three = all_four & (np.arange(4) < 3)
    expected = 3 * (0.95 - 2 / np.sqrt(2.0 + 2 * 2.0) - 0.001 * 2.0)
    assert coalitions.surpluses(game, outside, three)[0] == pytest.approx(expected, abs=1e-6)


def test_bargaining_gives_everybody_what_she_has_outside_and_an_equal_part_of_the_rest():
    best = mechanisms.first_best(GAME)
    outside = np.asarray(mechanisms.alone(GAME))
    expected = outside + (best.welfare - outside.sum()) / 4
    for mechanism in (personal.personal_rates(GAME).mechanism, prices.pigou(GAME)):
        found = outcomes.outcome(GAME, mechanism)
        assert found.equilibrium.converged
        np.testing.assert_allclose(found.utilities, expected, atol=1e-9)
        assert abs(np.sum(np.asarray(found.payments))) < 1e-12
    stay = mechanisms.participation(GAME, rules.personal)
    assert stay.left == []


def test_where_all_are_worse_off_alike_the_one_leaves_who_lowers_the_surplus():
    outside = np.asarray(mechanisms.alone(GAME)) + np.array([0.0, 0.0, 0.5, 0.0])
    found = mechanisms.participation(GAME, rules.prices, outside)
    assert found.left == [2]
    short = (outside.sum() - mechanisms.first_best(GAME).welfare) / 4
    assert found.shortfall == pytest.approx([short])
    assert coalitions.best(GAME, outside).members.tolist() == [0, 1, 3]
    three = games.subset(GAME, found.stay)
    expected = (
        outside[found.stay] + coalitions.surpluses(three, outside[found.stay], np.ones((1, 3), bool)) / 3
    )
    np.testing.assert_allclose(found.outcome.utilities, expected, atol=1e-9)


def test_nobody_is_left_where_no_coalition_has_a_surplus():
    assert coalitions.best(GAME, np.full(4, 0.95)).members.tolist() == []
    assert coalitions.best(GAME, np.full(4, 0.95)).surplus == 0.0


def test_beyond_fifteen_agents_they_leave_one_at_a_time(monkeypatch):
    monkeypatch.setattr(coalitions, "EXHAUSTIVE", 3)
    outside = np.asarray(mechanisms.alone(GAME)) + np.array([0.0, 0.0, 0.5, 0.0])
    found = coalitions.best(GAME, outside)
    assert (found.members.tolist(), found.exhaustive) == ([0, 1, 3], False)
    with pytest.raises(ValueError, match="coalitions are examined of up to 100 agents, got 101"):
        coalitions.best(TOTAL.replace(capacity=np.ones(101)), np.zeros(101))


def test_what_agents_have_outside():
    np.testing.assert_array_equal(personal.outside(GAME, "nothing"), 0.0)
    np.testing.assert_allclose(personal.outside(GAME, "own_records"), 0.95 - 2 / np.sqrt(310), rtol=1e-14)
    alone = personal.outside(GAME, "alone")
    x = np.asarray(COST.rate) ** (-2 / 3) - 10
    np.testing.assert_allclose(alone, 0.95 - 2 / np.sqrt(10 + x) - np.asarray(COST.rate) * x, rtol=1e-12)
    assert np.all(personal.outside(GAME, "own_records") > alone)


@pytest.mark.parametrize(
    ("transfers", "outside", "message"),
    [
        ("fair", None, "`transfers` must be one of bargaining, equal, p_mean, got 'fair'"),
        ("bargaining", [0.0, np.nan, 0.0, 0.0], "what agents have outside must be finite"),
        ("p_mean", 5.0, "no transfers leave everybody at least what she has outside"),
    ],
)
def test_transfers_that_cannot_be(transfers, outside, message):
    with pytest.raises(ValueError, match=message):
        personal.personal_rates(GAME, outside, transfers)
