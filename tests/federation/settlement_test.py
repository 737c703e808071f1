import json

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.federation import settlement
from fedgame.games import payoffs
from fedgame.mechanisms import base, outcomes, refunds

CURVE = payoffs.PowerLaw(0.97, 6.0, 0.8, 12.0)
RULES = ("none", "beta_star", "falkinger", "beta(0.3)", "price(price=0.004)")


def an_agreement(rates, rule="beta_star", unit=1e-4, rounds=3, payoff=CURVE, currency=1.0):
    """Of members with costs of these rates; `currency` units of money are worth one of the usual."""
    n, price = len(rates), f"price(price={0.004 * currency!r})"
    rule = price if rule.startswith("price") else rule
    game = games.Game(payoff, games.LinearCost(currency * rates), np.full(n, 50.0), currency * np.ones(n))
    names = tuple(f"member {i}" for i in range(n))
    return settlement.Agreement(
        names, games.check(game), registry.read("rule", rule), rounds, currency * unit
    )


@st.composite
def cases(draw):
    n = draw(st.integers(1, 4))
    member = st.tuples(st.sampled_from([0.001, 0.002, 0.005, 0.0031]), st.integers(0, 50), st.booleans())
    rates, samples, there = zip(*draw(st.lists(member, min_size=n, max_size=n)), strict=True)
    numbers = tuple(i for i in range(n) if there[i])
    rule, unit = draw(st.sampled_from(RULES)), 10.0 ** draw(st.integers(-8, 0))
    return np.array(rates), np.array(samples), numbers, rule, unit * draw(st.sampled_from([1, 5]))


@hypothesis.given(case=cases())
def test_units_are_whole_and_sum_to_0_and_those_who_are_not_there_have_none(case):
    rates, samples, there, rule, unit = case
    agreement = an_agreement(rates, rule, unit)
    for units in (
        settlement.of_round(agreement, samples, there),
        settlement.of_run(agreement, [(samples, there)] * 2),
    ):
        assert units.dtype == np.int64
        assert len(units) == len(rates) + 1
        assert units.sum() == 0
        away = [i for i in range(len(rates)) if i not in there]
        assert not np.any(units[away])
        assert units[-1] == 0  # these mechanisms are balanced
        if len(there) < 2:
            assert not np.any(units)


@hypothesis.given(case=cases(), currency=st.sampled_from([1e6, 1e-6, 117.3, 0.0067]))
def test_units_are_the_same_in_every_currency(case, currency):
    rates, samples, there, rule, unit = case
    usual = an_agreement(rates, rule, unit)
    other = an_agreement(rates, rule, unit, currency=currency)
    np.testing.assert_array_equal(
        settlement.of_round(other, samples, there), settlement.of_round(usual, samples, there)
    )
    rounds = [(samples, there), (samples[::-1], tuple(range(len(rates))))]
    np.testing.assert_array_equal(settlement.of_run(other, rounds), settlement.of_run(usual, rounds))


@hypothesis.given(
    n=st.integers(1, 60), seed=st.integers(0, 2**32 - 1), unit=st.sampled_from([1e-6, 0.01, 0.05, 3.0, 1e4])
)
def test_who_is_given_the_odd_unit_does_not_depend_on_rounding(n, seed, unit):
    """Halves of a unit are equal remainders, whatever their last digits are."""
    rng = np.random.default_rng(seed)
    halves = rng.integers(-50, 50, n) / 2
    agreement = an_agreement(np.full(n, 0.001), unit=unit)
    units = settlement.units(agreement, halves * unit)
    np.testing.assert_array_equal(units, refunds.whole_units(np.append(halves, -halves.sum()), 1.0))
    noisy = halves * unit * (1 + rng.uniform(-1e-12, 1e-12, n))
    np.testing.assert_array_equal(settlement.units(agreement, noisy), units)


@hypothesis.given(case=cases(), other=st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_of_everybody_these_are_the_payments_of_the_paper(case, other):
    rates, samples, _, rule, unit = case
    hypothesis.assume(len(rates) > 1)
    agreement, there = an_agreement(rates, rule, unit), tuple(range(len(rates)))
    mechanism = registry.per_agent(agreement.rule(agreement.game), agreement.game.n)
    mean = (samples + np.array(other[: len(rates)])) / 2
    for units, s, part in (
        (settlement.of_round(agreement, samples, there), samples, 1 / 3),
        (settlement.of_run(agreement, [(samples, there), (other[: len(rates)], there)]), mean, 2 / 3),
    ):
        right = part * np.asarray(outcomes.settle(agreement.game, mechanism, jnp.asarray(s, float)).payments)
        assert np.all(np.abs(units[:-1] * unit - right) < unit * (1 + 1e-6) + 1e-12)
        assert units.tolist() == settlement.units(agreement, right).tolist()


def test_refunds_are_those_of_the_formula():
    agreement = an_agreement(np.array([0.001, 0.002, 0.003]), "beta(0.5)", unit=1e-6, rounds=1)
    # Refunds of half of 0.01, 0.04 and 0.09, which the other two pay in equal parts.
    assert settlement.of_round(agreement, [10, 20, 30], (0, 1, 2)).tolist() == [-27500, -5000, 32500, 0]
    assert settlement.of_round(agreement, [10, 20, 30], (0, 2)).tolist() == [-40000, 0, 40000, 0]


def test_of_a_run_is_the_sum_over_the_groups_that_were_there():
    agreement = an_agreement(np.array([0.001, 0.002, 0.003]), "beta(0.5)", unit=1e-6, rounds=4)
    all_there, two = (0, 1, 2), (0, 2)
    rounds = [([10, 20, 30], all_there), ([20, 99, 0], two), ([30, 40, 50], all_there), ([0, 0, 60], two)]
    whole = 0.5 * settlement.amounts(agreement, [20, 30, 40], all_there)
    whole += 0.5 * settlement.amounts(agreement, [10, 0, 30], two)
    assert settlement.of_run(agreement, rounds).tolist() == settlement.units(agreement, whole).tolist()
    assert settlement.of_run(agreement, [*rounds[:1], ([9, 9, 9], ())]).sum() == 0
    assert not np.any(settlement.of_run(agreement, []))


def test_the_rule_is_applied_to_those_who_are_there_alone():
    """β* of two members is not that of three, and rates between two are those of these two."""
    rates = np.array([0.001, 0.002, 0.005])
    game = games.check(games.Game(CURVE, games.LinearCost(rates[[0, 2]]), np.full(2, 50.0)))
    right = settlement.Agreement(("a", "c"), game, registry.read("rule", "beta_star"), 3, 1e-6)
    found = settlement.of_round(an_agreement(rates, unit=1e-6), [10, 20, 30], (0, 2))
    assert found[[0, 2, 3]].tolist() == settlement.of_round(right, [10, 30], (0, 1)).tolist()


def test_a_rule_that_cannot_be_applied_to_those_who_are_there_pays_nothing():
    @registry.register("three_only", simplicity=1)
    def three_only(game):
        if game.n < 3:
            raise ValueError("no equilibrium is certified")
        return refunds.Refunds(0.5)

    agreement = an_agreement(np.array([0.001, 0.002, 0.005]), "three_only")
    assert np.any(settlement.of_round(agreement, [10, 20, 30], (0, 1, 2)))
    assert not np.any(settlement.of_round(agreement, [10, 20, 30], (0, 2)))
    alone = an_agreement(np.array([0.001, 0.002]), "three_only")
    with pytest.raises(ValueError, match="no equilibrium is certified"):  # so that no run begins with it
        settlement.of_round(alone, [10, 20], (0, 1))


def test_the_server_pays_what_is_left_over():
    @registry.register("gift", simplicity=1)
    class Gift(base.Mechanism):
        balanced = False

        each: object = registry.option("what everybody is given", 0.1)

        def payments(self, reported, s):
            return self.each * jnp.ones(len(s))

    agreement = an_agreement(np.full(3, 0.001), "gift(each=0.1)", unit=0.01, rounds=3)
    for there, paid in (((0, 1, 2), [3, 3, 3, -9]), ((1, 2), [0, 3, 3, -6]), ((1,), [0, 0, 0, 0])):
        units = settlement.of_round(agreement, np.full(3, 5), there)
        assert units.sum() == 0
        # A third of 0.1 is 3⅓ units; what the server pays is rounded like all other amounts.
        assert np.all(np.abs(units - np.array(paid) * 10 / 9) <= 1)
        assert not np.any(units[[i for i in range(3) if i not in there]])
    assert settlement.of_run(agreement, [(np.full(3, 5), (0, 1, 2))] * 3).tolist() == [10, 10, 10, -30]


@pytest.mark.parametrize("rule", [*RULES, "personal(transfers='equal')"])
def test_an_agreement_comes_back_from_json_with_every_digit(rule):
    rates = np.array([0.001, 1 / 700, 0.002])
    agreement = an_agreement(rates, rule, unit=1 / 300, rounds=7)
    values = agreement.to_dict()
    back = settlement.Agreement.from_dict(json.loads(json.dumps(values)))
    assert back.to_dict() == values
    assert (back.names, back.rounds, back.unit) == (agreement.names, 7, 1 / 300)
    assert registry.text_of(back.rule) == registry.text_of(agreement.rule)
    for there in ((0, 1, 2), (0, 2)):
        of_both = [settlement.amounts(x, [10, 20, 30], there).tolist() for x in (agreement, back)]
        assert of_both[0] == of_both[1]


@pytest.mark.parametrize("field", ["scenario", "rule", "rounds", "unit"])
def test_what_is_no_agreement_is_refused(field):
    values = an_agreement(np.full(2, 0.001)).to_dict()
    for wrong in ("nonsense", None, [], {}):
        with pytest.raises(ValueError, match=r"\w"):
            settlement.Agreement.from_dict(values | {field: wrong})
    del values[field]
    with pytest.raises(ValueError, match=f"`{field}` is missing"):
        settlement.Agreement.from_dict(values)
