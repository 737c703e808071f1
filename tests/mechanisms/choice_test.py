import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, mechanisms, registry
from fedgame.mechanisms import choice, misreports, optimum, outcomes, personal, rules

RATE = np.array([0.004, 0.005, 0.012])
GAME = games.check(
    games.Game(games.PowerLaw(0.97, 6.0, 0.8, 12.0), games.LinearCost(RATE), np.full(3, 100.0))
)
EVERY = choice.rules_without_options({})


def alone(game):
    return np.asarray(personal.outside(game, "alone"))


@functools.cache
def compared():
    return choice.compare(GAME, EVERY, alone, optimum.first_best(GAME))


def by_name():
    return {one.rule.name: one for one in compared()}


def test_all_rules_that_need_no_number_are_compared():
    assert set(by_name()) == set(mechanisms.RULES) - {"beta"}
    assert all(one.certified for one in compared())


def test_what_a_candidate_has_is_its_outcome():
    for one in compared():
        there = outcomes.outcome(GAME, one.announced.mechanism)
        np.testing.assert_allclose(one.outcome.utilities, there.utilities, rtol=1e-12)
        gained = np.sum(np.asarray(there.utilities) - alone(GAME)) - np.sum(np.asarray(there.payments))
        assert one.surplus == pytest.approx(float(gained), rel=1e-9)
        assert one.leaves.tolist() == (np.asarray(there.utilities) < alone(GAME) - 1e-9).tolist()


def test_a_misreport_gains_what_the_closer_search_finds_at_least():
    one = by_name()["falkinger"]
    closer = max(mechanisms.manipulation(GAME, rules.falkinger, i).gain for i in range(3))
    assert 0 < one.misreport.gain <= closer * (1 + 1e-9)
    assert by_name()["none"].misreport.gain == 0  # it ignores costs, as `testing.check_mechanism` looks at


def candidate(name, surplus, leaves=(False, False), simplicity=None, certified=True):
    """A candidate of which only what `choose` looks at is real."""
    rule = registry.read("rule", name)
    if simplicity is not None:
        rule = dataclasses.replace(rule, simplicity=simplicity)
    found = by_name()[name].outcome
    found = found._replace(equilibrium=found.equilibrium.replace(converged=jnp.asarray(certified)))
    return choice.Candidate(rule, None, found, np.asarray(leaves), surplus)


def test_the_simplest_of_the_nearly_best_is_chosen():
    none, one, best = candidate("none", 98.0), candidate("falkinger", 99.5), candidate("personal", 100.0)
    assert choice.choose([none, one, best]) is one
    assert choice.choose([candidate("none", 99.0), one, best]).rule.name == "none"  # within 1%, the limit
    assert choice.choose([candidate("none", 101.0), best]).rule.name == "none"


def test_currency_and_constants_that_nothing_can_move_do_not_matter():
    for scale in (1e-6, 1.0, 1e9):
        options = [candidate("none", 98.0 * scale), candidate("personal", 100.0 * scale)]
        assert choice.choose(options).rule.name == "personal"


def test_whom_nobody_accepts_is_chosen_only_if_all_are_refused():
    refused = candidate("personal", 100.0, (True, False))
    worse = candidate("none", 1.0)
    assert choice.choose([worse, refused]) is worse
    more = candidate("falkinger", 200.0, (True, True))
    assert choice.choose([refused, more]) is refused  # fewer leave


def test_what_has_no_certified_equilibrium_is_not_chosen():
    assert choice.choose([candidate("none", 1.0), candidate("personal", 9.0, certified=False)]).surplus == 1.0
    assert choice.choose([candidate("none", 1.0, certified=False)]) is None


def test_of_equals_the_first_is_chosen_whatever_rounding_says():
    first, second = candidate("personal", 100.0), candidate("prices", 100.0 + 1e-9)
    assert choice.choose([first, second]) is first


def test_where_nobody_gains_by_taking_part_nothing_is_paid():
    dear = games.check(GAME.replace(cost=games.LinearCost(np.full(3, 9.0))))
    several = [rules.none, rules.falkinger, rules.personal]
    found = choice.compare(dear, several, alone, optimum.first_best(dear))
    assert choice.choose(found).rule.name == "none"


def test_a_rule_that_does_not_apply_says_why():
    convex = games.check(GAME.replace(cost=games.PowerCost(RATE, 2.0)))
    (one,) = choice.compare(convex, [rules.beta_star], alone, optimum.first_best(convex))
    assert one.outcome is None
    assert "β* (Definition 2) is defined for linear costs" in one.refused


def test_with_too_many_agents_what_is_solved_in_the_general_form_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(choice, "_GENERAL", 2)
    several = [rules.shapley, rules.none]
    shapley, none = choice.compare(GAME, several, alone, optimum.first_best(GAME))
    assert "not looked at with more than 2 agents" in shapley.refused
    assert none.certified


def test_reports_that_cannot_be_told_hide_no_gain_of_others():
    """Here the rule refuses reports below the truth; before, a gain by one above it was dropped with them."""
    honest = by_name()["falkinger"].outcome

    def announce(reported):
        if np.sum(reported.cost.rate) < np.sum(GAME.cost.rate):
            raise FloatingPointError("no such price")
        return rules.falkinger(reported)

    found = misreports.largest_gain(GAME, announce, honest)
    assert found.untold == 3 * 2
    assert (found.agent, found.factor) == (by_name()["falkinger"].misreport.agent, 2.0)
    assert found.gain == by_name()["falkinger"].misreport.gain > 0


def test_gains_do_not_depend_on_what_members_have_in_any_case():
    """A model that is worth 1e9 without any data hides no gain, and makes none."""
    far = games.check(GAME.replace(payoff=games.PowerLaw(1e9, 6.0, 0.8, 12.0)))
    one, other = (
        choice.compare(game, [rules.falkinger], lambda _: np.zeros(3), optimum.first_best(game))[0].misreport
        for game in (GAME, far)
    )
    assert (other.agent, other.factor) == (one.agent, one.factor)
    assert other.gain == pytest.approx(one.gain, rel=1e-5)
