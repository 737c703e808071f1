"""A comparison in this process, with a network that compiles in no time."""

import collections
import csv
import dataclasses
import json

import chex
import flax.linen as nn
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.experiments import compare, contenders, curve, mixtures
from fedgame.experiments import task as tasks
from fedgame.mechanisms import RULES, rules
from fedgame.protocols import base, fedavg
from fedgame.registry import option
from fedgame.report import figures
from fedgame.runs import experiment, workdir

NO_REFUNDS = ("fedbr_price", "fedbr_prices", "fedbr_shapley", "fedbr_data_maximizing")
NINE = (
    *("fedavg", "mwfed", "fedbr", "fedbr_bg", "fedbr_falkinger", "fedbr_personal"),
    *("first_best", "afl", "qffl"),
)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


def a_task(**changes):
    given = {"agents": 3, "capacity": (12, 10, 8), "rounds": 3, "held_out": 80, "learning_rate": 0.1}
    given |= {"sizes": (6, 15, 30), "curve_seeds": 2, "seeds": 2, "steps": 20, "evaluate_every": 5}
    given |= {"protocol": NINE, "cost": (0.002, 0.004, 0.008), "fit": "power"}  # compiles in less time
    return compare.prepare(compare.Settings(**given | changes))._replace(model=Linear())


def run(folder, cache=None, **changes):
    task = a_task(**changes)
    about = experiment.described(task)
    with workdir.open_workdir(str(folder), "this", about, folder.exists(), False) as work:
        compare.compute(task, work, experiment.Resources(workers=1, cache=cache))
    return work


def rows_of(work, name):
    return list(csv.DictReader((work.path / name).read_text().splitlines()))


@pytest.fixture
def trained(monkeypatch):
    """A list that gets (rule, samples) of every training run."""
    seen, do = [], compare.base.run

    def train(protocol, plan, *args):
        own = type(protocol).__name__ if compare.base.identity(protocol) else "average"
        seen.append((own, tuple(compare.base.draw(plan.profile))))
        return do(protocol, plan, *args)

    monkeypatch.setattr(compare.base, "run", train)
    return seen


def test_no_training_happens_twice_and_a_comparison_at_other_costs_shares_them(trained, tmp_path):
    work = run(tmp_path / "run", tmp_path / "cache")
    text = compare.show(work)
    stored_runs = sorted((work.path / "jobs" / "runs").iterdir())
    assert len(trained) == len(stored_runs)
    assert max(collections.Counter(trained).values()) == 2  # once for each seed
    for seed in (0, 1):
        stored = [
            json.loads(f.read_text())["value"]["charged"] for f in stored_runs if f.name[0] == str(seed)
        ]
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
        "AFL - FedBR-BG",
        "utilities by the server's held-out images",
        "seconds of training",
    ):
        assert words in text

    del trained[:]
    again = ("fedavg", "mwfed", "fedbr_bg", "afl", "qffl")
    run(tmp_path / "other", tmp_path / "cache", cost=(0.02, 0.03, 0.05), protocol=again)
    assert not [one for one in trained if one[1] == (12, 10, 8)]
    assert trained  # other equilibria


def test_utilities_by_held_out_images_are_those_of_the_servers(tmp_path):
    work = run(tmp_path / "run", protocol=("fedavg", "fedbr_bg"), seeds=1)
    (row, _) = rows_of(work, "runs.csv")
    agents = [r for r in rows_of(work, "utilities.csv") if r["protocol"] == "FedAvg"]
    expected = [float(row["held_out_accuracy"]) - float(r["cost"]) for r in agents]
    np.testing.assert_allclose([float(r["held_out_utility"]) for r in agents], expected, rtol=1e-12)
    tidy = [
        float(r["held_out_welfare"])
        for r in rows_of(work, "welfare.csv")
        if (r["protocol"], r["p"]) == ("FedAvg", "1.0")
    ]
    assert tidy == pytest.approx([np.mean(expected)])


def test_every_step_can_be_evaluated_and_the_last_one_always_is():
    assert compare.evaluated(np.zeros((101, 2)), 1) == list(range(1, 101))
    assert compare.evaluated(np.zeros((101, 2)), 25) == [25, 50, 75, 100]
    assert compare.evaluated(np.zeros((101, 2)), 40) == [40, 80, 100]
    assert compare.evaluated(np.zeros((4, 2)), 25) == [3]
    assert compare.evaluated(np.zeros((1, 2)), 25) == [0]


def test_the_literal_mode_says_how_contributions_end(tmp_path):
    work = run(tmp_path / "run", protocol=("fedbr", "fedbr_bg"), mode="literal", interval=None)
    text = compare.show(work)
    assert "rounded contributions, step by step:" in text
    for row in rows_of(work, "runs.csv"):
        assert row["ends"].startswith(("stops at step", "goes round in", "neither"))
        assert row["ends"] in text


def test_fedbr_under_payments_that_are_no_refunds(tmp_path):
    names = ("fedavg", *NO_REFUNDS)
    work = run(tmp_path / "run", protocol=names, seeds=1, price=0.001)
    text = compare.show(work)
    protocols = dict.fromkeys(row["protocol"] for row in rows_of(work, "runs.csv"))
    assert list(protocols) == ["FedAvg", *(f"FedBR, {RULES[name[6:]].label}" for name in NO_REFUNDS)]
    found = json.loads((work.path / "game.json").read_text())["equilibria"]
    assert found.pop("FedAvg") is None
    assert "FedAvg: aims at no equilibrium\n" in text
    assert found["FedBR, one price"]["announced"] == {"price": [0.001] * 3}
    assert "FedBR, one price: price = 0.001, equilibrium with Σ s = " in text
    for name, one in found.items():
        assert one["converged"]
        (row,) = [row for row in rows_of(work, "runs.csv") if row["protocol"] == name]
        assert float(row["nash_gap"]) < 1e-6
        assert float(row["contributed"]) == pytest.approx(one["contributed"], rel=1e-2)
        assert abs(float(row["sum_of_payments"])) < 1e-12
    agents = rows_of(work, "utilities.csv")
    paid = {row["protocol"] for row in agents if float(row["payment"]) != 0}
    assert paid == {"FedBR, one price", "FedBR, Pigou's prices", "FedBR, Shapley payments"}
    assert {row["protocol"] for row in agents if float(row["withheld"])} <= {"FedBR, accuracy as the reward"}
    assert "accuracy that is withheld is accounted" in text
    differences = rows_of(work, "differences.csv")
    pairs = {(row["protocol"], row["minus"]) for row in differences}
    assert len(pairs) == 5 * 4 / 2


def test_contributions_that_change_from_round_to_round_are_no_steps_of_a_game(tmp_path):
    work = run(tmp_path / "run", protocol=("fedavg", "mwfed", "fedbr"), seeds=1, mwfed_target=0.5)
    steps, drawn = rows_of(work, "contributions.csv"), rows_of(work, "drawn.csv")
    assert {row["protocol"] for row in drawn} == {"MWFed"}
    assert [int(row["round"]) for row in drawn] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {row["step"] for row in steps if row["protocol"] == "MWFed"} == {"0"}
    (charged,) = [float(row["charged"]) for row in rows_of(work, "runs.csv") if row["protocol"] == "MWFed"]
    assert charged == pytest.approx(sum(int(row["drawn"]) for row in drawn) / 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Still(fedavg.FedAvg):
    """An author's own training round, who declares nothing: the model stays as it was."""

    much: float = option("it does not matter", 1.0)

    def train(self, trainer, params, plan, number):
        return params


@dataclasses.dataclass(frozen=True, eq=False)
class Remembering(Still):
    """Carries a memory from round to round, which `start` makes."""

    weights: object = option("carried", 0.0)

    def start(self, game, announced, key):
        return super().start(game, announced, key)._replace(memory=(np.asarray(self.weights), "words"))


@pytest.fixture
def accuracy(tmp_path):
    """A function from protocols to the held-out accuracies of their trials; all calls share one cache."""
    task = a_task(seeds=1)
    game, _ = compare.fit_game(task, np.array([0.0, 6, 15, 30]), np.array([[0.1, 0.4, 0.6, 0.7]]))

    def of(folder, *protocols, task=task):
        work = workdir.open_workdir(str(tmp_path / folder), "this", {}, resume=False, overwrite=False)
        told = [contenders.Contender(x.label, x, x.rule.announced(game)) for x in protocols]
        trials = compare.play_and_train(task, work, 1, game, told, tmp_path / "cache")
        return [one.training["held_out_accuracy"] for one in trials]

    return of


def test_an_authors_own_training_is_not_taken_from_what_fedavg_has_stored(trained, accuracy):
    average = fedavg.FedAvg()
    alone, still = accuracy("first", average, Still())
    assert alone != still
    assert len(trained) == 2
    assert accuracy("again", average, Still()) == [alone, still]
    assert len(trained) == 2  # both are stored, each as its own
    accuracy("other", Still(2.0))
    assert len(trained) == 3

    class Unwritten(Still):
        __module__ = "a_notebook"

    for folder in ("unwritten", "unwritten again"):
        assert accuracy(folder, Unwritten()) == [still]
    assert len(trained) == 5  # never stored


def test_what_a_plan_carries_tells_training_runs_apart(trained, accuracy, monkeypatch):
    """Even if nothing else does: as when `start` is changed, and makes another memory of the same fields."""
    monkeypatch.setattr(compare.base, "identity", lambda protocol: {"rule": "the same"})
    accuracy("first", Remembering(weights=1.0))
    accuracy("again", Remembering(weights=1.0))
    assert len(trained) == 1
    accuracy("other", Remembering(weights=1.5), Remembering(weights=1.0))
    assert len(trained) == 2
    accuracy("another shape", Remembering(weights=[1.0]))
    assert len(trained) == 3


def test_another_file_of_ones_own_is_other_code(trained, accuracy, tmp_path):
    """Trained models are not taken from a cache that was filled with other files of --use."""
    accuracy("first", fedavg.FedAvg())
    mine = 'import fedgame as fg\n\n@fg.register("mine")\ndef mine(game):\n    return fg.Refunds({})\n'
    (tmp_path / "mine.py").write_text(mine.format(0))
    registry.use(str(tmp_path / "mine.py"))
    task = a_task()
    assert tasks.fingerprint(task, [], task.agents)["use"] == [*registry.used().values()] != []
    accuracy("with a file", fedavg.FedAvg())
    assert len(trained) == 2
    accuracy("with the same", fedavg.FedAvg())
    assert len(trained) == 2
    (tmp_path / "mine.py").write_text(mine.format(0.5))
    registry.use(str(tmp_path / "mine.py"))
    accuracy("with another text", fedavg.FedAvg())
    assert len(trained) == 3


def test_protocols_rules_and_costs_by_their_texts(tmp_path):
    """To the last digit, the results of short flags and aliases; options are in the titles."""
    short = {"protocol": ("mwfed", "fedbr", "fedbr_bg", "fedbr_price", "first_best"), "price": 0.001}
    short |= {"mwfed_target": 0.5, "beta": 0.5, "seeds": 1}
    dynamics, shown = "steps=20", "steps = 20"
    texts = {
        "mwfed(target=0.5)": "MWFed (target = 0.5)",
        f"fedbr(none, {dynamics})": f"FedBR ({shown})",
        f"fedbr(beta(0.5), {dynamics})": f"FedBR, β (beta = 0.5) ({shown})",
        f"fedbr(price(price=0.001), {dynamics})": f"FedBR, one price (price = 0.001) ({shown})",
        "first_best": "First best",
    }
    cost = "linear([0.002, 0.004, 0.008])"
    work = run(tmp_path / "short", tmp_path / "cache", **short)
    titles = list(dict.fromkeys(row["protocol"] for row in rows_of(work, "runs.csv")))
    assert titles == ["MWFed", "FedBR", "FedBR-BG", "FedBR, one price", "First best"]
    given = {"protocol": tuple(texts), "cost": cost, "seeds": 1, "steps": 15}  # those of the texts count
    named = run(tmp_path / "text", tmp_path / "cache", **given)
    for name in ("runs.csv", "utilities.csv", "contributions.csv"):
        one, other = rows_of(work, name), rows_of(named, name)
        assert list(dict.fromkeys(row["protocol"] for row in other)) == list(texts.values())
        for row in (*one, *other):
            del row["protocol"]
        assert one == other


def test_costs_that_an_exponent_of_one_makes_linear_are_linear():
    """So that β* is defined, and is the same to the last digit."""
    found = []
    for cost in ("power([0.002, 0.004, 0.008], exponent=1)", (0.002, 0.004, 0.008)):
        task = a_task(cost=cost, protocol=("fedbr_bg",))  # refused if β* is not defined
        game = games.Game(None, compare.cost_of(task.settings), np.asarray(task.settings.capacity, float))
        found.append(rules.beta_star(game))
    chex.assert_trees_all_equal(*found)


def test_what_costs_do_not_allow_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    def equal(game):
        if len(set(game.cost.rate.tolist())) > 1:
            raise ValueError("only for equal costs")

    @registry.register("share", requires=equal)
    def share(game):
        return rules.falkinger(game)

    @registry.register("mine")
    class Mine(fedavg.FedAvg):
        rule = share

    monkeypatch.setattr(curve, "measure", lambda *args: pytest.fail("measured"))
    for k, (changes, message) in enumerate((
        ({"protocol": ("fedbr_bg",), "cost": "power(0.001, 2)"}, "--protocol, FedBR-BG: β"),
        ({"protocol": ("fedbr_data_maximizing",), "cost": "power(0.001, 2)"}, "accuracy as the reward: "),
        ({"protocol": ("fedbr_shapley",), "mode": "literal"}, "--mode=literal is printed for refunds"),
        ({"protocol": ("fedavg", "mine")}, "--protocol, mine: only for equal costs"),
        ({"protocol": ("fedbr(share)",)}, "--protocol, FedBR, share: only for equal costs"),
    )):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            run(tmp_path / str(k), **changes)


def test_a_protocol_of_ones_own_plays_and_settles_under_its_rule(tmp_path):
    @registry.register("half", "Half")
    class Half(base.Protocol):
        """Everybody gives a part of her data."""

        rule = rules.beta_star
        part: float = option("of her data", 0.5, low=0, high=1)

        def start(self, game, announced, key):
            return base.always(self.part * np.asarray(game.capacity))

    protocols = ("half", "half(part=0.25)", "fedbr_bg")
    work = run(tmp_path / "run", protocol=protocols, seeds=1, beta=0.5)
    by = {row["protocol"]: row for row in rows_of(work, "runs.csv")}
    assert list(by) == ["Half", "Half (part = 0.25)", "FedBR-BG"]
    assert [float(by[x]["contributed"]) for x in ("Half", "Half (part = 0.25)")] == [15.0, 7.5]
    assert by["Half"]["announced"].startswith("β = 0.5") is False  # --beta is FedBR-BG's alone
    assert by["FedBR-BG"]["announced"] == "β = 0.5"


def test_every_protocol_has_a_colour_of_its_own(tmp_path):
    work = workdir.Workdir(tmp_path)
    for number in (4, 12):
        rows = [{"protocol": f"protocol {k}", "seed": 0} for k in range(number)]
        work.write_csv("runs.csv", rows)
        found = figures._protocols(work)
        assert list(found) == [row["protocol"] for row in rows]
        assert len(set(found.values())) == number


@pytest.mark.usefixtures("quick_fits")
def test_members_own_data_from_rates_to_what_was_promised_to_each(tmp_path, write_members, monkeypatch):
    folder = write_members(tmp_path / "members", {"ann": 60, "bea": 48})
    given = {"federation": folder, "runs": 20, "splits": 2, "rounds": 3, "epochs": 2, "seeds": 2}
    given |= {"protocol": ("fedavg", "fedbr"), "cost": (0.001, 0.002), "steps": 20, "p": (1.0,)}
    task = compare.prepare(compare.Settings(**given, validate=True, validations=2))
    assert task.settings.capacity == (30, 24)
    resources = experiment.Resources(workers=1, cache=tmp_path / "cache")

    def ran(name):
        about = experiment.described(task)
        with workdir.open_workdir(str(tmp_path / name), "launch.compare", about, False, False) as work:
            compare.compute(task, work, resources)
        return work

    work = ran("run")
    utilities = rows_of(work, "utilities.csv")
    members = rows_of(work, "members.csv")
    assert [(row["protocol"], row["member"]) for row in members] == [
        (protocol, name) for protocol in ("FedAvg", "FedBR") for name in ("ann", "bea")
    ]
    for k, row in enumerate(members):
        mine = [r for r in utilities if r["protocol"] == row["protocol"] and int(r["agent"]) == k % 2]
        assert len(mine) == 2  # seeds

        def mean(column, mine=mine):
            return np.mean([float(r[column]) for r in mine])

        assert float(row["held_out"]) == pytest.approx(mean("accuracy"))
        received = mean("utility") - mean("accuracy")
        assert float(row["reserve"]) == pytest.approx(mean("held_out_utility") - received)
    by = {(row["protocol"], row["member"]): row for row in members}
    assert float(by["FedAvg", "ann"]["contribution"]) == 30
    assert float(by["FedAvg", "bea"]["contribution"]) == 24
    found = json.loads((work.path / "game.json").read_text())
    assert found["equilibria"]["FedAvg"] is None
    (checked,) = work.read_json("validation.json")
    assert checked["of"] == "FedBR"
    text = compare.show(work)
    assert text.startswith("the target is `ill`, the last column of ann\n")
    for words in ("each member's reserve", "what each member holds out", "FedBR: accuracy on the reserve"):
        assert words in text
    assert (work.path / "exchange_rates.png").exists()
    monkeypatch.setattr(
        mixtures.learning, "measure", None
    )  # all is in the cache, also what checks the advice
    again = ran("again")
    for name in ("measurements.csv", "members.csv", "validation.csv"):
        assert (again.path / name).read_bytes() == (work.path / name).read_bytes()
