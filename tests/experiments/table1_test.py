"""Welfare over seeds, paired differences, and what the paper's rows contradict."""

import jax
import numpy as np
import pytest
import scipy.stats

from fedgame import games
from fedgame.experiments import compare, paper, table1
from fedgame.mechanisms import refunds, rules
from fedgame.report import text

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


def agents(utilities, protocol="X"):
    """Rows of one protocol from utilities [seeds][agents]; those by held-out images are larger by 1."""
    return [
        {"protocol": protocol, "seed": seed, "agent": i, "utility": u, "held_out_utility": u + 1.0}
        for seed, us in enumerate(utilities)
        for i, u in enumerate(us)
    ]


def welfare(powers, utilities):
    rows = table1.table_rows(table1.welfare_rows(agents(utilities), powers))
    return [row for row in rows if row["utilities"] == "own"]


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
    rows = table1.table_rows(table1.welfare_rows(agents([[1.0, 1.0, 1.0], [-1.0, 1.0, -2.0]]), [0.5, 1.0]))
    by_p = {(row["p"], row["scale"]): row for row in rows if row["utilities"] == "own"}
    undefined = by_p[0.5, "mean"]
    assert undefined["welfare"] is None
    assert undefined["undefined"] == "seed 1: negative utility of agent 0, 2"
    assert undefined["seeds"] == 2
    assert by_p[1.0, "mean"]["welfare"] == pytest.approx((1 - 2 / 3) / 2)
    found = text.table1(rows)
    assert "| X        | undefined | 0.16667 ± 0.83 |" in found
    assert "X by own images, seed 1: negative utility of agent 0, 2 (p = 0.5)" in found


def test_the_nash_welfare_has_only_one_scale():
    mean, total = welfare([0.0], [[1.0, 4.0]])
    assert mean["welfare"] == pytest.approx(2.0)
    assert total["welfare"] is None
    assert "no limit" in total["undefined"]


def test_a_sum_that_is_too_large_is_told_by_its_logarithm_and_one_reason_of_many_once():
    rows = [row for name in ("X", "Y") for row in agents([[0.5] * 10, [0.5] * 10], name)]
    rows = table1.table_rows(table1.welfare_rows(rows, [0.001]))
    own = {row["scale"]: row for row in rows if (row["protocol"], row["utilities"]) == ("X", "own")}
    assert own["mean"]["welfare"] == pytest.approx(0.5)
    assert own["sum"]["welfare"] is None is own["sum"]["standard_error"]
    expected = np.log(0.5) + np.log(10) / 0.001
    reason = f"all seeds: too large for a number, its logarithm is {expected:.6g}"
    assert own["sum"]["undefined"] == reason
    assert f"\nX by own images; Y by own images, {reason} (p = 0.001)" in text.table1(rows)


def test_every_protocol_is_compared_with_those_before_it():
    rows = agents([[0.0], [1.5]], "FedAvg") + agents([[1.0], [2.0]], "FedBR")
    found = table1.difference_rows(table1.welfare_rows(rows, [1.0]))
    assert {(row["protocol"], row["minus"], row["difference"]) for row in found} == {
        ("FedBR", "FedAvg", 0.75)
    }


def test_differences_are_paired_over_seeds():
    """Both vary by 10 between seeds, their difference by 1: a paired interval is narrow."""
    ours, theirs = [[1.0], [11.0], [21.0], [31.0]], [[0.0], [9.5], [19.5], [29.0]]
    rows = agents(theirs, "FedAvg") + agents(theirs, "FedBR") + agents(ours, "FedBR-BG")
    found = table1.difference_rows(table1.welfare_rows(rows, [1.0]))
    assert {(row["protocol"], row["minus"]) for row in found} == {
        ("FedBR-BG", "FedAvg"),
        ("FedBR-BG", "FedBR"),
        ("FedBR", "FedAvg"),
    }
    (row,) = (
        r
        for r in found
        if (r["protocol"], r["minus"], r["utilities"], r["scale"]) == ("FedBR-BG", "FedAvg", "own", "mean")
    )
    interval = scipy.stats.ttest_rel(np.ravel(ours), np.ravel(theirs)).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(1.5)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))
    assert all(r["difference"] == 0 == r["low"] for r in found if r["protocol"] == "FedBR")
    assert table1.difference_rows(table1.welfare_rows(agents(ours, "FedAvg"), [1.0])) == []


def test_one_seed_has_no_interval_and_an_undefined_mean_no_difference():
    rows = agents([[-0.5, 1.0]], "FedAvg") + agents([[1.0, 2.0]], "FedBR-BG")
    found = table1.difference_rows(table1.welfare_rows(rows, [0.5, 1.0]))
    by_p = {r["p"]: r for r in found if (r["utilities"], r["scale"]) == ("own", "mean")}
    assert by_p[0.5]["difference"] is None
    assert by_p[1.0]["difference"] == pytest.approx(1.25)
    assert by_p[1.0]["low"] is None
    assert "undefined" in text.differences(found)


def test_five_of_the_papers_eight_rows_contradict_themselves():
    found = {(d, name): bool(x) for d in paper.TABLE_1 for name, x in paper.contradictions(d).items()}
    assert {key for key, wrong in found.items() if wrong} == {
        ("mnist", "MWFed"),
        *(("cifar10", name) for name in paper.TABLE_1["cifar10"]),
    }


def test_the_papers_rows_stand_below_ours_and_its_ordering_beside_ours():
    rows = [row for name, u in (("FedAvg", 0.4), ("FedBR", 0.6)) for row in agents([[u] * 10] * 2, name)]
    over_seeds = table1.table_rows(table1.welfare_rows(rows, [0.2, 1.0]))
    found = text.table1(over_seeds, paper.printed("mnist", over_seeds))
    assert found.count("in the paper") == 2
    assert found.index("| FedAvg  ") < found.index("- in the paper: FedAvg")
    for number in ("48985.23", "4.909", "53395.21", "5.340"):
        assert found.count(number) == 1
    (remarks,) = paper.remarks("mnist", over_seeds)
    assert "row MWFed cannot come from any utilities" in remarks
    assert "row FedBR-BG does not contradict itself" in remarks
    assert "ordering here by own test images: FedAvg < FedBR, at p = 0.2, 1" in remarks
    assert "in the paper" not in text.table1(over_seeds, paper.printed("digits", over_seeds))
    assert "paper" not in "".join(paper.remarks("digits", over_seeds))


def test_utility_is_accuracy_minus_the_cost_of_whole_samples_plus_payment():
    rows = table1.agent_rows(GAME, trial(beta=0.5))
    np.testing.assert_allclose([row["cost"] for row in rows], [0.1, 0.4])
    np.testing.assert_allclose([row["payment"] for row in rows], [-0.15, 0.15])  # ½ (c_i - c_j)
    np.testing.assert_allclose([row["utility"] for row in rows], [0.9 - 0.1 - 0.15, 0.7 - 0.4 + 0.15])
    np.testing.assert_allclose([row["held_out_utility"] for row in rows], [0.75 - 0.25, 0.75 - 0.25])


def test_gaps_are_those_of_the_game_under_the_protocols_payments():
    """ã' = 1/(1+S)²: at (0, 5) with β=0.9 marginal costs are .01 and .02, so agent 0 gains by a move."""
    row = table1.trial_row(GAME, trial(beta=0.9, profile=(0.0, 5.0), charged=(5, 5)))
    x = np.linspace(0, 5, 100001)
    gain = np.max(1 - 1 / (6 + x) - 0.01 * x) - (1 - 1 / 6)
    assert row["nash_gap"] == pytest.approx(float(gain), abs=1e-9)
    loss = np.max(1 - 1 / (6 + x) - 0.02 * x) - (1 - 1 / 11 - 0.1)  # of agent 1, at the other profile
    assert row["nash_gap_charged"] == pytest.approx(float(loss), abs=1e-9)


def test_accuracy_that_the_mechanism_would_not_give_is_accounted():
    game = GAME.replace(cost=games.LinearCost(np.asarray([0.01, 0.02])), capacity=np.full(2, 50.0))
    mechanism = rules.data_maximizing(game)
    rows = table1.agent_rows(game, trial(charged=(9, 4), mechanism=mechanism))
    pooled, given = 1 - 1 / 14, np.asarray(jax.jit(mechanism.received)(game, np.asarray([9.0, 4.0])))
    assert np.all(given < pooled)
    np.testing.assert_allclose([row["withheld"] for row in rows], pooled - given)
    expected = [0.9 - (pooled - given[0]) - 0.09, 0.7 - (pooled - given[1]) - 0.08]
    np.testing.assert_allclose([row["utility"] for row in rows], expected)
    assert [row["payment"] for row in rows] == [0, 0]


def test_accuracy_is_worth_what_the_game_says():
    """Accuracies .9 and .7 are worth 9 and 1.4 to agents who spend .1 and .4."""
    game = GAME.replace(value=np.asarray([10.0, 2.0]))
    rows = table1.agent_rows(game, trial())
    np.testing.assert_allclose([row["utility"] for row in rows], [9.0 - 0.1, 1.4 - 0.4])
    np.testing.assert_allclose([row["held_out_utility"] for row in rows], [7.5 - 0.1, 1.5 - 0.4])
