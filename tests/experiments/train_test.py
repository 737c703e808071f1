import csv
import json

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from fedgame.experiments import compare, curve
from fedgame.experiments import task as tasks
from fedgame.experiments import train as training
from fedgame.learning import evaluation, federated, models
from fedgame.runs import snapshots, workdir

TINY = {"agents": 3, "capacity": (12,), "rounds": 4, "epochs": 3, "held_out": 50, "learning_rate": 0.1}


class Linear(nn.Module):
    """Compiles in no time."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


def a_task(**changes):
    return training.prepare(training.Settings(**TINY | changes))._replace(model=Linear())


def train(path, task=None, save_every=1e9, resume=False, show=False):
    """What launch.train leaves; with `show` also its figures and its text, which is returned."""
    with workdir.open_workdir(str(path), "this", {}, resume=resume, overwrite=False) as work:
        work.save_every = save_every
        training.compute(task or a_task(), work)
        return training.show(work) if show else None


def interrupted(path, resume):
    """What launch.train leaves if it is told to stop before its first round."""
    with workdir.open_workdir(str(path), "this", {}, resume=resume, overwrite=False) as work:
        work.stop.set()
        with pytest.raises(snapshots.Interrupted):
            training.compute(a_task(), work)
    return work


def rows_of(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def model_bytes(path):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(snapshots.load_model(path / "model"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "run"
    return path, train(path, show=True)


def test_the_model_left_behind_has_the_accuracy_reported(trained):
    path, text = trained
    rows = rows_of(path / "rounds.csv")
    assert [int(row["round"]) for row in rows] == [0, 1, 2, 3, 4]
    task = a_task()
    params = snapshots.load_model(path / "model")
    found = float(evaluation.accuracy(task.model, params, task.server.test))
    assert found == float(rows[-1]["accuracy"])
    assert f"{found:.4f} after 4 rounds" in text
    for name in ("holdings", "rounds"):
        assert (path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_headline_has_the_last_accuracy_and_the_best(tmp_path):
    work = workdir.Workdir(tmp_path)
    work.write_csv("rounds.csv", [{"round": k, "accuracy": a} for k, a in enumerate((0.1, 0.75, 0.5))])
    assert training.EXPERIMENT.headline(work) == [{"last_accuracy": 0.5, "best_accuracy": 0.75}]


@pytest.mark.parametrize("changes", [{}, {"partition": "dirichlet", "alpha": 0.1}, {"partition": "shards"}])
def test_the_table_of_holdings_says_what_every_agent_holds(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda *args: training._State({}, np.ones(1), np.zeros(1)))
    monkeypatch.setattr(snapshots, "save_model", lambda path, params: path.mkdir())
    seen, deal = [], training.partitions.partition
    monkeypatch.setattr(training.partitions, "partition", lambda *args: seen.append(deal(*args)) or seen[0])
    text = train(tmp_path / "run", a_task(capacity=(12, 20, 7), **changes), show=True)
    rows = rows_of(tmp_path / "run" / "holdings.csv")
    for i, (row, size) in enumerate(zip(rows, (12, 20, 7), strict=True)):
        assert (int(row["agent"]), int(row["holds"]), int(row["contributes"])) == (i, size, size)
        counts = np.bincount(seen[0].labels[i, :size], minlength=10)
        assert [int(row[str(k)]) for k in range(10)] == counts.tolist()
        if changes.get("partition") == "shards":
            assert np.sum(counts > 0) <= 6  # two shards of hardly more than a class
        cells = [str(i), str(size), str(size), *map(str, counts)]
        assert cells in [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]


def test_what_is_odd_about_own_images_is_told_first(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda *args: training._State({}, np.ones(1), np.zeros(1)))
    monkeypatch.setattr(snapshots, "save_model", lambda path, params: path.mkdir())
    for k in range(18):
        file = tmp_path / "pets" / ("cat", "dog")[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 200 + k).save(file)
    changes = {"dataset": f"{tmp_path}/pets/", "capacity": (4,), "held_out": 6}
    train(tmp_path / "run", a_task(**changes))
    assert not (tmp_path / "run" / "remarks.json").exists()
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("no image")
    told = train(tmp_path / "again", a_task(**changes), show=True).splitlines()[0]
    assert told == f"ignored in class dog of {tmp_path}/pets, as no images: .txt (1)"
    stored = json.loads((tmp_path / "again" / "remarks.json").read_text())
    assert stored == {"remarks": [told]}


@pytest.mark.parametrize(
    ("dataset", "name"), [("digits", "digits"), ("~/pets/", "pets"), ("x/./", "x"), ("a.npz", "a")]
)
def test_results_are_called_as_the_data(dataset, name):
    assert tasks.data_name(training.Settings(dataset=dataset)) == name


def test_results_of_the_folder_where_one_is_are_called_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "pets" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "pets" / "here")
    assert tasks.data_name(training.Settings(dataset="./")) == "here"
    assert tasks.data_name(training.Settings(dataset="../")) == "pets"


def test_agents_who_contribute_nothing_change_nothing(trained, tmp_path):
    task = a_task(contributions=(12, 0, 5))
    train(tmp_path / "run", task)
    rows = rows_of(tmp_path / "run" / "holdings.csv")
    assert [int(row["contributes"]) for row in rows] == [12, 0, 5]
    assert [int(row["holds"]) for row in rows] == [12, 12, 12]
    assert model_bytes(tmp_path / "run") != model_bytes(trained[0])
    other = task.agents.train._replace(labels=task.agents.train.labels.copy())
    deal = training.partitions.partition(other, np.full(3, 12), jax.random.split(task.key, 3)[0])
    unseen = {tuple(image.ravel()) for image in [*deal.images[1], *deal.images[2, 5:]]}
    for k, image in enumerate(other.images):
        if tuple(np.ravel(image)) in unseen:
            other.labels[k] = (other.labels[k] + 1) % 10  # of images that nobody contributes
    changed = task._replace(agents=task.agents._replace(train=other))
    train(tmp_path / "changed", changed)
    assert model_bytes(tmp_path / "changed") == model_bytes(tmp_path / "run")


def test_if_nobody_contributes_the_initial_model_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(federated, "federated_round", None)
    task = a_task(contributions=(0,))
    text = train(tmp_path / "run", task, save_every=0, show=True)
    assert [row["round"] for row in rows_of(tmp_path / "run" / "rounds.csv")] == ["0"]
    start = models.initial_parameters(task.model, jax.random.split(task.key, 3)[1], (8, 8, 1))
    assert model_bytes(tmp_path / "run") == [np.asarray(x).tobytes() for x in jax.tree.leaves(start)]
    assert "after 0 rounds" in text


@pytest.mark.parametrize(
    ("contributions", "message"),
    [
        ((13, 1, 1), r"--contributions: agent 0 has 12 images \(--capacity\), not 13"),
        ((1, 2), "--contributions needs one number or one for each of 3 agents, got 2"),
        ((-1,), "--contributions must be a number, at least 0, got -1"),
        ((), "--contributions needs at least one number"),
    ],
)
def test_contributions_that_cannot_be(contributions, message):
    with pytest.raises(ValueError, match=message):
        a_task(contributions=contributions)


def test_evaluations_are_in_the_rounds_asked_for(trained, tmp_path):
    train(tmp_path / "run", a_task(evaluate_every=3))
    rows = rows_of(tmp_path / "run" / "rounds.csv")
    assert [int(row["round"]) for row in rows] == [0, 3, 4]
    assert rows == [row for row in rows_of(trained[0] / "rounds.csv") if row["round"] in ("0", "3", "4")]
    assert model_bytes(tmp_path / "run") == model_bytes(trained[0])


def test_full_batch_rounds_are_gradient_descent_on_the_union(tmp_path):
    task = a_task(full_batch=True, rounds=2, contributions=(12, 0, 5))
    train(tmp_path / "run", task)
    keys = jax.random.split(task.key, 3)
    dealt = training.partitions.partition(task.agents.train, np.full(3, 12), keys[0])
    mine = np.arange(12) < np.array([[12], [0], [5]])
    images, labels = dealt.images[mine], dealt.labels[mine]

    def loss(params):
        logits = jax.nn.log_softmax(task.model.apply(params, images))
        return -logits[np.arange(17), labels].mean()

    params, gradient = models.initial_parameters(task.model, keys[1], (8, 8, 1)), jax.jit(jax.grad(loss))
    for _ in range(2):
        params = jax.tree.map(lambda p, g: np.asarray(p) - 0.1 * np.asarray(g), params, gradient(params))
    found = snapshots.load_model(tmp_path / "run" / "model")
    chex.assert_trees_all_close(found, params, rtol=1e-4, atol=1e-6)


def test_your_own_images_with_names_of_classes_that_are_names_of_columns(tmp_path):
    rng = np.random.default_rng(0)
    names = ["agent", "cat", "holds", "cat"]
    np.savez(
        tmp_path / "mine.npz",
        images=rng.integers(0, 256, (90, 6, 5), np.uint8),
        labels=np.arange(90) % 4,
        classes=names,
    )
    task = a_task(dataset=str(tmp_path / "mine.npz"), held_out=None, rounds=1)
    text = train(tmp_path / "run", task, show=True)
    rows = rows_of(tmp_path / "run" / "holdings.csv")
    columns = ["agent (class 0)", "cat (class 1)", "holds (class 2)", "cat (class 3)"]
    assert list(rows[0]) == ["agent", "holds", "contributes", *columns]
    assert [int(row["agent"]) for row in rows] == [0, 1, 2]
    for row in rows:
        assert sum(int(row[name]) for name in columns) == int(row["holds"]) == 12
    assert "cat (class 3)" in text
    assert (tmp_path / "run" / "holdings.png").exists()


@pytest.mark.parametrize(
    "classes",
    [("cat", "dog"), ("holds", "holds (class 0)"), ("a", "a", "a (class 0)"), ("a (class 1)", "a", "a")],
)
def test_no_two_columns_have_one_name(classes):
    columns = training._columns(classes)
    assert len({*columns, "agent", "holds", "contributes"}) == len(classes) + 3
    assert (tuple(columns) == classes) == (classes == ("cat", "dog"))


def test_interrupted_after_every_round_it_ends_where_it_would_have(trained, tmp_path, monkeypatch):
    rounds, do = [], federated.federated_round
    monkeypatch.setattr(federated, "federated_round", lambda *args: rounds.append(args[6]) or do(*args))
    for number in range(1, 5):
        assert not interrupted(tmp_path / "run", resume=number > 1).has("rounds.csv")
    assert train(tmp_path / "run", resume=True, show=True) == trained[1]
    assert rounds == [1, 2, 3, 4]
    assert (tmp_path / "run" / "rounds.csv").read_bytes() == (trained[0] / "rounds.csv").read_bytes()
    assert model_bytes(tmp_path / "run") == model_bytes(trained[0])


def test_a_finished_run_says_the_same_again_and_computes_nothing(trained, monkeypatch):
    path, text = trained
    monkeypatch.setattr(federated, "federated_round", None)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    touched = {file: file.stat().st_mtime_ns for file in (path / "model").rglob("*")}
    assert train(path, resume=True, show=True) == text
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert {file: file.stat().st_mtime_ns for file in touched} == touched


def test_divergence_names_round_and_agents_also_when_resumed(tmp_path):
    interrupted(tmp_path / "run", resume=False)
    task = a_task(learning_rate=1e37, contributions=(12, 0, 12))
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"diverged in round 2: the loss of agents \[0, 2\] is"):
            train(tmp_path / "run", task, save_every=0, resume=True)
    assert [path.name for path in (tmp_path / "run" / "checkpoints" / "training").iterdir()] == ["1"]


def test_images_that_have_changed_are_known():
    task = a_task()
    train_part = task.agents.train
    digest = tasks.digest(task.agents, task.server)
    assert tasks.digest(a_task().agents, a_task().server) == digest
    others = [
        train_part._replace(labels=train_part.labels[::-1]),
        train_part._replace(images=np.nextafter(train_part.images, 2)),
        train_part._replace(images=train_part.images.reshape(-1, 4, 16, 1)),
    ]
    for other in others:
        assert tasks.digest(task.agents._replace(train=other), task.server) != digest
    assert tasks.digest(task.server, task.agents) != digest


OWN = {"rounds": 3, "epochs": 2}


@pytest.fixture(scope="module")
def federation(tmp_path_factory, write_members):
    """Two members, of whose records 30 and 20 can be trained on, 15 and 10 are held out."""
    return write_members(tmp_path_factory.mktemp("members") / "two", {"ann": 60, "bea/2": 40})


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_members_own_data_are_trained_on_and_tested_one_by_one(metric, federation, tmp_path):
    task = training.prepare(training.Settings(federation=federation, metric=metric, **OWN))
    assert (task.settings.agents, task.settings.capacity) == (2, (30, 20))
    text = train(tmp_path / "run", task, show=True)
    rows = rows_of(tmp_path / "run" / "rounds_by_member.csv")
    assert [(int(row["round"]), row["member"]) for row in rows] == [
        (number, name) for number in range(4) for name in ("ann", "bea/2")
    ]
    split = task.split(0)
    params = snapshots.load_model(tmp_path / "run" / "model")
    found = evaluation.measured(task.model, params, split.test, metric)
    last = [float(row["accuracy"]) for row in rows[-2:]]
    np.testing.assert_allclose(last, found, rtol=1e-6)
    assert float(rows_of(tmp_path / "run" / "rounds.csv")[-1]["accuracy"]) == pytest.approx(np.mean(last))
    holdings = rows_of(tmp_path / "run" / "holdings.csv")
    assert [(row["agent"], row["holds"], row["contributes"]) for row in holdings] == [
        ("ann", "30", "30"),
        ("bea/2", "20", "20"),
    ]
    for i, row in enumerate(holdings):
        counts = np.bincount(split.train.labels[i, : split.sizes[i]], minlength=2)
        assert [int(row["0"]), int(row["1"])] == counts.tolist()
    what = {"accuracy": "accuracy", "log_loss": "1 - log loss"}[metric]
    assert f"{what} on held-out records: {np.mean(last):.4f} after 3 rounds" in text
    assert "the mean over members; each of them:" in text
    assert "the target is `ill`" in text


def test_of_members_who_share_less_the_first_records_are_trained_on(federation, tmp_path):
    given = {"federation": federation, **OWN, "capacity": (20,), "contributions": (20, 0)}
    task = training.prepare(training.Settings(**given))
    train(tmp_path / "run", task)
    split = task.split(0)
    split.train.images[0, 20:] = np.nan
    split.train.images[1] = np.nan
    changed = task._replace(own=task.own)
    rows = rows_of(tmp_path / "run" / "holdings.csv")
    assert [(row["holds"], row["contributes"]) for row in rows] == [("20", "20"), ("20", "0")]
    init_key, train_key = jax.random.split(task.key, 3)[1:]
    params = models.initial_parameters(task.model, init_key, (2,))
    for number in range(1, 4):
        params = federated.federated_round(
            changed.model,
            task.local_training,
            params,
            split.train,
            np.array([20, 0], np.int32),
            train_key,
            number,
        )
    chex.assert_trees_all_close(snapshots.load_model(tmp_path / "run" / "model"), params, rtol=1e-5)


@pytest.mark.parametrize("experiment", [training, curve, compare])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "mnist"}, "--dataset has no use with --federation: members have their own data"),
        ({"agents": 3}, r"--agents=3: .* has 2 members"),
        (
            {"capacity": (31, 5)},
            "--capacity: ann can train on 30 records, not 31: .*; --capacity=30,5 is possible",
        ),
        ({"capacity": (1, 2, 3)}, "--capacity needs one number or one for each of 2 agents, got 3"),
        ({"held_out": 5}, "--held_out has no use with --federation"),
        ({"model": "cnn"}, "--model=cnn is for images; tables need linear or mlp"),
        ({"federation": None, "metric": "auc"}, "--metric needs --federation"),
        ({"federation": None, "reserve": 0.5}, "--reserve needs --federation"),
        ({"federation": None, "target": "ill"}, "--target needs --federation"),
    ],
)
def test_settings_without_use_are_refused_by_all_that_train(experiment, changes, message, federation):
    settings = experiment.Settings(**{"federation": federation} | changes)
    for refuse in (experiment.check, experiment.prepare):
        with pytest.raises(ValueError, match=message):
            refuse(settings)


@pytest.mark.parametrize(
    ("experiment", "changes", "message"),
    [
        (training, {"partition": "shards"}, "--partition has no use with --federation"),
        (training, {"alpha": 0.1}, "--alpha has no use with --federation"),
        (training, {"contributions": (31, 0)}, "--contributions: agent 0 has 30 images"),
        (curve, {"server_images": 9}, "--server_images has no use with --federation"),
        (curve, {"sizes": (10, 20, 51)}, "--sizes: 51 records are more than the 50 there are"),
        (compare, {"test_images": 9}, "--test_images has no use with --federation"),
        (compare, {"sizes": (10, 20, 30)}, "--sizes has no use with --federation"),
        (compare, {"interval": 10}, "--interval has no use with --federation"),
        (compare, {"curve_seeds": 2}, "--curve_seeds has no use with --federation"),
        (compare, {"fit": "power"}, "--fit has no use with --federation"),
        (compare, {"mode": "literal"}, "--mode has no use with --federation"),
        (compare, {"runs": 9}, "--runs=9: 2 members need at least 10 mixtures"),
        (compare, {"runs": 10, "minutes": 1.0}, "--runs and --minutes exclude each other"),
        (compare, {"federation": None, "runs": 10}, "--runs needs --federation"),
        (compare, {"federation": None, "validate": True}, "--validate needs --federation"),
    ],
)
def test_settings_that_one_command_has_no_use_for_are_refused(experiment, changes, message, federation):
    settings = experiment.Settings(**{"federation": federation} | changes)
    for refuse in (experiment.check, experiment.prepare):
        with pytest.raises(ValueError, match=message):
            refuse(settings)


def test_a_run_that_learns_nothing_says_so(tmp_path, monkeypatch):
    state = training._State({}, np.full((1, 1), 0.1), np.array([4]))
    monkeypatch.setattr(training, "_train", lambda *args: state)
    monkeypatch.setattr(snapshots, "save_model", lambda path, params: path.mkdir())
    text = train(tmp_path / "run", a_task(), show=True)
    assert text.splitlines()[0].startswith("on 36 samples: the models learn nothing, as far as ")
