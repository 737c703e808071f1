import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.experiments import compare, tables
from fedgame.mechanisms import price, refunds, rules, shapley

GAME = games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0, 1.0), games.LinearCost([0.1, 0.2]), [5, 5]))


def trial(beta=0.0, profile=(1.2, 2.0), charged=(1, 2), accuracy=(0.9, 0.7), mechanism=None):
    training = {
        "charged": list(charged),
        "accuracy": list(accuracy),
        "held_out_accuracy": 0.75,
        "seconds": 1.0,
    }
    mechanism = mechanism or refunds.Refunds(beta)
    path = np.asarray([profile])
    return compare.Trial("FedBR", mechanism, 0, 0, True, np.asarray(profile), path, training)


def test_utility_is_accuracy_minus_the_cost_of_whole_samples_plus_payment():
    rows = tables.agent_rows(GAME, trial(beta=0.5))
    np.testing.assert_allclose([row["cost"] for row in rows], [0.1, 0.4])
    np.testing.assert_allclose([row["payment"] for row in rows], [-0.15, 0.15])  # ½ (c_i - c_j)
    np.testing.assert_allclose([row["utility"] for row in rows], [0.9 - 0.1 - 0.15, 0.7 - 0.4 + 0.15])
    np.testing.assert_allclose([row["held_out_utility"] for row in rows], [0.75 - 0.25, 0.75 - 0.25])


def test_gaps_are_those_of_the_game_under_the_protocols_payments():
    """ã' = 1/(1+S)²: at (0, 5) with β=0.9 marginal costs are .01 and .02, so agent 0 gains by a move."""
    row = tables.trial_row(GAME, trial(beta=0.9, profile=(0.0, 5.0), charged=(5, 5)))
    x = jnp.linspace(0, 5, 100001)
    gain = jnp.max(1 - 1 / (6 + x) - 0.01 * x) - (1 - 1 / 6)
    assert row["nash_gap"] == pytest.approx(float(gain), abs=1e-9)
    loss = jnp.max(1 - 1 / (6 + x) - 0.02 * x) - (1 - 1 / 11 - 0.1)  # of agent 1, at the other profile
    assert row["nash_gap_charged"] == pytest.approx(float(loss), abs=1e-9)


def test_accuracy_that_the_mechanism_would_not_give_is_accounted():
    game = GAME.replace(cost=games.LinearCost(jnp.asarray([0.01, 0.02])), capacity=jnp.full(2, 50.0))
    mechanism = rules.data_maximizing(game)
    rows = tables.agent_rows(game, trial(charged=(9, 4), mechanism=mechanism))
    pooled, given = 1 - 1 / 14, np.asarray(mechanism.received(game, jnp.asarray([9.0, 4.0])))
    assert np.all(given < pooled)
    np.testing.assert_allclose([row["withheld"] for row in rows], pooled - given)
    expected = [0.9 - (pooled - given[0]) - 0.09, 0.7 - (pooled - given[1]) - 0.08]
    np.testing.assert_allclose([row["utility"] for row in rows], expected)
    assert [row["payment"] for row in rows] == [0, 0]


def test_what_is_announced_is_told_in_a_few_characters():
    for mechanism, words in (
        (refunds.Refunds(0.5), "β = 0.5"),
        (refunds.Refunds(jnp.asarray([0.25, 0.5])), "β_i = 0.25 to 0.5"),
        (price.Price(0.125), "price = 0.125"),
        (shapley.Shapley(), ""),
    ):
        assert tables.told(mechanism, 2) == words


def test_the_column_mechanism_holds_names_and_people_read_labels():
    for name, title in {
        "none": "no payments",
        "beta_star": "β*",
        "falkinger": "β = 1 - 1/n",
        "price(price=0.004)": "one price (price = 0.004)",
        "designed(p=-inf)": "designed β (p = -inf)",
        "first_best": "first best",
        "chosen_who_stay": "chosen, those who stay",
        "what a study of one's own tells apart": "what a study of one's own tells apart",
    }.items():
        assert tables.title(name) == title
