import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.experiments import break_even
from fedgame.mechanisms import price, refunds
from fedgame.report import answers

POWER = games.PowerLaw(0.97, 6.0, 0.8, 12.0)
SLOPE = 6 * 0.8 * 12**-1.8  # of POWER at 0
NOBODY = np.zeros(2)


def game(payoff, rate, capacity=100.0, value=1.0):
    return games.check(games.Game(payoff, games.LinearCost(rate), np.full(2, capacity), value=value))


def test_of_a_concave_curve_the_first_sample_is_what_does_not_pay():
    found = break_even.nobody_shares(game(POWER, [0.5, 0.4], value=2.0), NOBODY, ["a", "b"])
    assert (found["agent"], found["cost"], found["samples"], found["value"]) == ("b", 0.4, 0.0, 2.0)
    assert found["brings"] == found["break_even_cost"] == pytest.approx(2 * SLOPE)
    assert found["break_even_value"] == pytest.approx(0.4 / SLOPE)


@pytest.mark.parametrize("less", [0.99, 1.01])
def test_at_the_break_even_numbers_sharing_begins(less):
    found = break_even.nobody_shares(game(POWER, 0.4), NOBODY, "ab")
    for one in (
        game(POWER, found["break_even_cost"] * less),
        game(POWER, 0.4, value=found["break_even_value"] / less),
    ):
        assert (np.sum(equilibria.solve(one).profile) > 0) == (less < 1)


def test_of_a_curve_that_starts_flat_it_is_the_best_average():
    payoff = games.GeneralizationBound(0.97, 1.0)
    found = break_even.nobody_shares(game(payoff, 0.04, 1e4), NOBODY, "ab")
    totals = np.geomspace(1, 1e4, 20_001)
    averages = np.asarray(jnp.vectorize(payoff.curve)(totals)) / totals
    assert found["brings"] == pytest.approx(np.max(averages), rel=1e-3)
    assert found["samples"] == pytest.approx(totals[np.argmax(averages)], rel=0.1)
    assert f"on average over {found['samples']:.3g} (`value`: 1)" in answers.nobody_shares(found)


def test_a_bound_that_stays_at_0_brings_nobody_anything():
    found = break_even.nobody_shares(game(games.GeneralizationBound(0.97, 1.0), 0.04, 10.0), NOBODY, "ab")
    assert answers.nobody_shares(found) == "nobody shares: sharing samples brings nobody anything herself"


def test_somebody_who_shares_leaves_nothing_to_explain():
    assert break_even.nobody_shares(game(POWER, 0.004), np.array([0.0, 1.0]), "ab") is None


@pytest.mark.parametrize("capacity", [100.0, 1e99])
def test_one_sample_is_not_nothing_however_many_more_there_could_be(capacity):
    assert break_even.nothing(np.array([0.0, 1e-8, 39.0]), capacity).tolist() == [True, True, False]


def test_under_refunds_it_is_what_is_left_of_the_cost():
    one = game(POWER, 0.4)
    found = break_even.nobody_shares(one, NOBODY, "ab", refunds.Refunds(0.25))
    assert found["cost"] == pytest.approx(0.3)
    assert found["break_even_value"] == pytest.approx(0.3 / SLOPE)
    assert answers.nobody_shares(found).startswith(
        "nobody shares: with payments, a sample costs a 0.3 and brings"
    )
    plain = break_even.nobody_shares(one, NOBODY, "ab", refunds.Refunds(0.0))
    assert plain == break_even.nobody_shares(one, NOBODY, "ab")


def test_a_price_is_part_of_what_a_sample_brings():
    one = game(POWER, 0.4)
    found = break_even.nobody_shares(one, NOBODY, "ab", price.Price(0.1))
    assert found["brings"] == pytest.approx(SLOPE + 0.1)
    assert found["break_even_value"] is None
    assert float(mechanisms.outcome(one, price.Price(0.1)).equilibrium.profile.sum()) == 0
    assert answers.nobody_shares(found).endswith("it would pay at a cost below 0.1548")


def test_the_sentence_is_plain():
    found = break_even.nobody_shares(game(POWER, 0.4), NOBODY, [1, 2])
    assert answers.nobody_shares(found) == (
        "nobody shares: a sample costs agent 1 0.4 and brings her at most 0.05479 of accuracy, worth "
        "0.05479 (`value`: 1); it would pay at a cost below 0.05479, or a `value` above 7.3"
    )
