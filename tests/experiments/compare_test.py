"""The comparison in process, on a network that compiles in no time."""

import collections
import csv
import json

import flax.linen as nn
import numpy as np
import pytest

from fedgame.experiments import compare, config, storage, training


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


def a_setting(**changes):
    given = {"agents": 3, "capacity": (12, 10, 8), "rounds": 3, "held_out": 80, "learning_rate": 0.1}
    given |= {"sizes": (6, 15, 30), "curve_seeds": 2, "seeds": 2, "steps": 20, "evaluate_every": 5}
    given |= {"protocol": config.PROTOCOLS, "cost": (0.002, 0.004, 0.008)}
    return training.prepare(config.Config(**given | changes))._replace(model=Linear())


def run(folder, cache=None, **changes):
    work = storage.open_workdir(str(folder), "this", changes, resume=folder.exists(), overwrite=False)
    return work, compare.compare(a_setting(**changes), work, 1, cache)


def rows_of(work, name):
    return list(csv.DictReader((work.path / name).read_text().splitlines()))


@pytest.fixture
def trained(monkeypatch):
    """What is trained: (rule, samples) of every run."""
    seen, do = [], compare.base.run

    def train(protocol, plan, *args):
        seen.append((protocol.training, tuple(compare.base.draw(plan.profile))))
        return do(protocol, plan, *args)

    monkeypatch.setattr(compare.base, "run", train)
    return seen


def test_no_training_happens_twice_and_a_comparison_at_other_costs_shares_them(trained, tmp_path):
    work, text = run(tmp_path / "run", tmp_path / "cache")
    pieces = sorted((work.path / "pieces" / "runs").iterdir())
    assert len(trained) == len(pieces)
    assert max(collections.Counter(trained).values()) == 2  # once for each seed
    for seed in (0, 1):
        stored = [json.loads(f.read_text())["value"]["charged"] for f in pieces if f.name[0] == str(seed)]
        assert len(stored) >= 5  # everything under four rules, and what dynamics end at
    everything = [one for one in trained if one[1] == (12, 10, 8)]
    assert len(everything) == 2 * 3  # FedAvg, AFL and q-FFL at two seeds
    steps = rows_of(work, "steps.csv")
    for name in ("FedBR", "FedBR-BG", "FedBR, β = 1 - 1/n", "FedBR, personal rates"):
        assert [int(r["step"]) for r in steps if r["protocol"] == name] == [5, 10, 15, 20] * 2
        assert all(abs(float(r["sum_of_payments"])) < 1e-15 for r in steps if r["protocol"] == name)
    last = rows_of(work, "runs.csv")
    assert len(last) == 9 * 2
    for row in last:
        if row["protocol"].startswith("FedBR") or row["protocol"] == "First best":
            assert float(row["nash_gap"]) < 1e-6
    for words in (
        "First best",
        "q-FFL",
        "FedBR-BG - AFL",
        "utilities by held-out images",
        "seconds of training",
    ):
        assert words in text

    del trained[:]
    again = ("fedavg", "mwfed", "fedbr_bg", "afl", "qffl")
    run(tmp_path / "other", tmp_path / "cache", cost=(0.02, 0.03, 0.05), protocol=again)
    assert not [one for one in trained if one[1] == (12, 10, 8)]
    assert trained  # other equilibria


def test_utilities_by_held_out_images_are_those_of_the_servers(tmp_path):
    work, _ = run(tmp_path / "run", protocol=("fedavg", "fedbr_bg"), seeds=1)
    (row, _) = rows_of(work, "runs.csv")
    agents = [r for r in rows_of(work, "agents.csv") if r["protocol"] == "FedAvg"]
    expected = [float(row["held_out_accuracy"]) - float(r["cost"]) for r in agents]
    np.testing.assert_allclose([float(r["held_out_utility"]) for r in agents], expected, rtol=1e-12)
    tidy = [
        float(r["welfare"])
        for r in rows_of(work, "welfare.csv")
        if (r["protocol"], r["utilities"], r["scale"], r["p"]) == ("FedAvg", "held_out", "mean", "1.0")
    ]
    assert tidy == pytest.approx([np.mean(expected)])


def test_every_step_can_be_evaluated_and_the_last_one_always_is():
    assert compare.evaluated(np.zeros((101, 2)), 1) == list(range(1, 101))
    assert compare.evaluated(np.zeros((101, 2)), 25) == [25, 50, 75, 100]
    assert compare.evaluated(np.zeros((101, 2)), 40) == [40, 80, 100]
    assert compare.evaluated(np.zeros((4, 2)), 25) == [3]
    assert compare.evaluated(np.zeros((1, 2)), 25) == [0]


def test_the_literal_mode_says_how_contributions_end(tmp_path):
    work, text = run(tmp_path / "run", protocol=("fedbr", "fedbr_bg"), mode="literal", interval=None)
    assert "rounded contributions, step by step:" in text
    for row in rows_of(work, "runs.csv"):
        assert row["ends"].startswith(("stops at step", "goes round in", "neither"))
        assert row["ends"] in text
