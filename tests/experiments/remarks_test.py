"""Remarks on models that learn nothing, and the sentence where nobody shares, as commands print them."""

import types

import numpy as np
import pytest

from fedgame import games, mechanisms
from fedgame.experiments import break_even, compare, curve
from fedgame.experiments import task as tasks
from fedgame.mechanisms import refunds
from fedgame.report import text
from fedgame.runs import workdir

TEN = np.arange(100)[None] % 10  # labels of ten equally frequent classes
OF_TWO = np.array([[0, 0, 1, -1], [1, 1, 1, 1]])  # of two members: class 1 is what 1/3 and all of them have


def remark(tmp_path, accuracy, labels, metric="accuracy"):
    """What is printed if models of all records have this accuracy."""
    work = workdir.Workdir(tmp_path)
    classes = tuple(str(k) for k in range(1 + np.max(labels)))
    task = types.SimpleNamespace(settings=types.SimpleNamespace(metric=metric), classes=classes)
    tasks.write_if_nothing_is_learnt(task, work, "on 70 samples", accuracy, labels)
    return text.remarks(work)


def test_models_that_always_guess_the_commonest_class_are_told(tmp_path):
    assert remark(tmp_path, 0.1, TEN) == (
        "on 70 samples: the models learn nothing, as far as 100 held-out ones tell (accuracy 0.100, always "
        "guessing the commonest class gives 0.100): try a smaller --learning_rate or more --rounds"
    )
    assert remark(tmp_path, 0.159, TEN) == (
        "on 70 samples: accuracy 0.159 cannot be told from always guessing the commonest class (0.100): 100 "
        "held-out ones are too few to tell, or the models learn nothing (then try a smaller --learning_rate "
        "or more --rounds)"
    )


@pytest.mark.parametrize(
    ("accuracy", "labels", "metric", "told"),
    [
        (0.159, TEN, "accuracy", True),  # two standard errors are 0.06
        (0.161, TEN, "accuracy", False),
        (0.05, TEN, "accuracy", True),
        (0.1, TEN, "auc", False),
        (0.66, OF_TWO, "accuracy", True),
        (0.99, np.repeat(OF_TWO, 100, axis=1), "accuracy", False),
    ],
)
def test_two_standard_errors_above_the_commonest_class_something_is_learnt(
    accuracy, labels, metric, told, tmp_path
):
    assert bool(remark(tmp_path, accuracy, labels, metric)) == told


def test_the_curve_is_judged_at_its_largest_size(tmp_path):
    work = workdir.Workdir(tmp_path)
    task = types.SimpleNamespace(
        settings=types.SimpleNamespace(metric="accuracy"), classes=tuple("0123456789")
    )
    curve._remark(task, work, 500, np.array([[0.1, 0.9], [0.1, 0.9]]), TEN)
    assert text.remarks(work) == ""
    curve._remark(task, work, 500, np.array([[0.9, 0.1], [0.9, 0.12]]), TEN)
    assert text.remarks(work).startswith(
        "on 500 samples: accuracy 0.110 cannot be told from always guessing the commonest class (0.100): 100 "
    )


def test_a_comparison_tells_why_nobody_shares():
    payoff = games.PowerLaw(0.97, 6.0, 0.8, 12.0)
    game = games.check(games.Game(payoff, games.LinearCost([0.4, 0.5]), [100.0, 100.0]))
    outcome = mechanisms.outcome(game, refunds.Refunds(0.25))
    found = compare._equilibria(game, {"FedBR (beta)": outcome, "FedAvg": None})
    summary = {"fit": "power", "rmse": 0.0, "largest_residual": 0.0, "deviation_between_seeds": None}
    assert text.game(summary | {"equilibria": found}).splitlines()[2] == (
        "FedBR (beta): nobody shares: with payments, a sample costs agent 0 0.3 and brings her at most "
        "0.05479 of accuracy, worth 0.05479 (`value`: 1); it would pay at a cost below 0.05479, or a "
        "`value` above 5.475"
    )
    assert break_even.nobody_shares(game, np.ones(2), range(2)) is None
