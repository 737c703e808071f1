"""Welfare over seeds, paired differences, and what the paper's rows contradict."""

import numpy as np
import pytest
import scipy.stats

from fedgame.experiments import paper, table1


def agents(utilities, protocol="X"):
    """Rows of one protocol from utilities [seeds][agents]; by held-out images they are 1 more."""
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
    text = table1.table_text(rows)
    assert "| X        | undefined | 0.16667 ± 0.83 |" in text
    assert "X by own images, seed 1: negative utility of agent 0, 2 (p = 0.5)" in text


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
    assert f"\nX by own images; Y by own images, {reason} (p = 0.001)" in table1.table_text(rows)


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
    assert "undefined" in table1.difference_text(found)


def test_five_of_the_papers_eight_rows_contradict_themselves():
    found = {(d, name): bool(x) for d in paper.TABLE_1 for name, x in paper.contradictions(d).items()}
    assert {key for key, wrong in found.items() if wrong} == {
        ("mnist", "MWFed"),
        *(("cifar10", name) for name in paper.TABLE_1["cifar10"]),
    }


def test_the_papers_rows_stand_below_ours_and_its_ordering_beside_ours():
    rows = [row for name, u in (("FedAvg", 0.4), ("FedBR", 0.6)) for row in agents([[u] * 10] * 2, name)]
    over_seeds = table1.table_rows(table1.welfare_rows(rows, [0.2, 1.0]))
    text = table1.table_text(over_seeds, "mnist")
    assert text.count("in the paper") == 2
    assert text.index("| FedAvg  ") < text.index("- in the paper: FedAvg")
    for number in ("48985.23", "4.909", "53395.21", "5.340"):
        assert text.count(number) == 1
    (remarks,) = paper.remarks("mnist", over_seeds)
    assert "row MWFed cannot come from any utilities" in remarks
    assert "row FedBR-BG does not contradict itself" in remarks
    assert "ordering here by own test images: FedAvg < FedBR, at p = 0.2, 1" in remarks
    assert "in the paper" not in table1.table_text(over_seeds, "digits")
    assert "paper" not in "".join(paper.remarks("digits", over_seeds))
