import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.experiments import tables

GAME = games.check(games.Game(games.PowerLaw(1.0, 1.0, 1.0, 1.0), games.LinearCost([0.1, 0.2]), [5, 5]))


def run(protocol="FedBR", seed=0, beta=0.0, profile=(1.2, 2.0), charged=(1, 2), accuracy=(0.9, 0.7)):
    return {
        "protocol": protocol,
        "seed": seed,
        "beta": beta,
        "profile": list(profile),
        "charged": list(charged),
        "accuracy": list(accuracy),
        "held_out_accuracy": 0.75,
        "path": [list(profile)],
    }


def test_utility_is_accuracy_minus_the_cost_of_whole_samples_plus_payment():
    rows = tables.agent_rows(GAME, [run(beta=0.5)])
    np.testing.assert_allclose([row["cost"] for row in rows], [0.1, 0.4])
    np.testing.assert_allclose([row["payment"] for row in rows], [-0.15, 0.15])  # ½ (c_i - c_j)
    np.testing.assert_allclose([row["utility"] for row in rows], [0.9 - 0.1 - 0.15, 0.7 - 0.4 + 0.15])


def test_gaps_are_those_of_the_game_under_the_protocols_payments():
    """ã' = 1/(1+S)²: at (0, 5) with β=0.9 marginal costs are .01 and .02, so agent 0 gains by a move."""
    runs = [run(beta=0.9, profile=(0.0, 5.0), charged=(5, 5))]
    (row,) = tables.run_rows(GAME, runs, tables.agent_rows(GAME, runs))
    x = jnp.linspace(0, 5, 100001)
    gain = jnp.max(1 - 1 / (6 + x) - 0.01 * x) - (1 - 1 / 6)
    assert row["nash_gap"] == pytest.approx(float(gain), abs=1e-9)
    loss = jnp.max(1 - 1 / (6 + x) - 0.02 * x) - (1 - 1 / 11 - 0.1)  # of agent 1, at the other profile
    assert row["nash_gap_charged"] == pytest.approx(float(loss), abs=1e-9)


def welfare(powers, utilities):
    rows = [
        {"protocol": "X", "seed": seed, "agent": i, "utility": u}
        for seed, us in enumerate(utilities)
        for i, u in enumerate(us)
    ]
    return tables.welfare_rows(rows, powers)


def test_mean_and_standard_error_over_seeds_on_both_scales():
    mean, total = welfare([1.0], [[1.0, 3.0], [2.0, 4.0], [4.0, 4.0]])
    assert mean["welfare"] == pytest.approx(3.0)
    assert mean["standard_error"] == pytest.approx(1 / np.sqrt(3))
    assert (mean["seeds"], mean["scale"], total["scale"]) == (3, "mean", "sum")
    assert total["welfare"] == pytest.approx(6.0)
    half = welfare([0.5], [[1.0, 4.0]])
    assert [row["welfare"] for row in half] == pytest.approx([2.25, 9.0])
    assert half[0]["standard_error"] is None


def test_a_negative_utility_makes_the_mean_undefined_and_names_the_agents():
    rows = welfare([0.5, 1.0], [[1.0, 1.0, 1.0], [-1.0, 1.0, -2.0]])
    by_p = {(row["p"], row["scale"]): row for row in rows}
    undefined = by_p[0.5, "mean"]
    assert undefined["welfare"] is None
    assert undefined["undefined"] == "seed 1: negative utility of agent 0, 2"
    assert undefined["seeds"] == 2
    assert by_p[1.0, "mean"]["welfare"] == pytest.approx((1 - 2 / 3) / 2)
    text = tables.welfare_text(rows)
    assert "| X        | undefined | 0.16667 ± 0.83 |" in text
    assert "X, p = 0.5: seed 1: negative utility of agent 0, 2" in text


def test_the_nash_welfare_has_only_one_scale():
    mean, total = welfare([0.0], [[1.0, 4.0]])
    assert mean["welfare"] == pytest.approx(2.0)
    assert total["welfare"] is None
    assert "no limit" in total["undefined"]
