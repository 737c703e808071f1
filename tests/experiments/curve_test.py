import csv
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest

from fedgame.experiments import curve
from fedgame.experiments import task as tasks
from fedgame.inputs import measurements
from fedgame.learning import curve as learning_curve
from fedgame.learning import evaluation, federated, local, mixtures
from fedgame.protocols import base, mwfed
from fedgame.report import text
from fedgame.runs import snapshots, workdir
from fedgame.runs.experiment import Resources


class Linear(nn.Module):
    """Compiles in no time."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


SIZES = [0, 4, 9, 20, 36]


def a_task(**changes):
    given = {"agents": 3, "capacity": (12,), "rounds": 3, "epochs": 5, "held_out": 80, "curve_seeds": 3}
    given |= {"server_images": 60, "learning_rate": 0.1, "sizes": tuple(SIZES[1:])}
    return curve.prepare(curve.Settings(**given | changes))._replace(model=Linear())


def measure(task, path, cache=None, workers=2, show=False):
    """What launch.curve leaves; with `show` also its figure and its text, which is returned."""
    with workdir.open_workdir(str(path), "this", {}, resume=path.exists(), overwrite=False) as work:
        curve.compute(task, work, Resources(workers=workers, cache=cache))
        return curve.show(work) if show else None


def rows_of(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def refuse(**options):
    raise AssertionError("measured again")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    text = measure(a_task(), folder / "run", folder / "cache", show=True)
    return folder, text


def test_the_band_is_that_of_the_runs(measured):
    folder, text = measured
    runs = rows_of(folder / "run" / "curve.csv")
    table = np.reshape([float(row["accuracy"]) for row in runs], (3, len(SIZES)))
    assert [int(row["samples"]) for row in runs] == SIZES * 3
    assert [int(row["seed"]) for row in runs] == [k for k in range(3) for _ in SIZES]
    band = rows_of(folder / "run" / "band.csv")
    expected = {
        "samples": SIZES,
        "accuracy": np.mean(table, axis=0),
        "deviation": np.std(table, axis=0, ddof=1),
        "low": np.min(table, axis=0),
        "high": np.max(table, axis=0),
        "seeds": [3] * len(SIZES),
    }
    for name, column in expected.items():
        np.testing.assert_array_equal([float(row[name]) for row in band], column)
    assert np.all(np.std(table, axis=0, ddof=1)[1:] > 0)  # the seed matters
    assert np.all(table[:, -1] > table[:, 0] + 0.1)  # and so do samples
    for size in SIZES:
        assert f"| {size} " in text


def test_fits_come_with_residuals_and_a_figure(measured):
    folder, text = measured
    fits = json.loads((folder / "run" / "fits.json").read_text())
    drawn = rows_of(folder / "run" / "fitted_curves.csv")
    runs = rows_of(folder / "run" / "curve.csv")
    assert [fit["fit"] for fit in fits if fit["used"]] == ["concave"]
    x = [float(row["samples"]) for row in drawn]
    for fit in fits:
        y = [float(row[fit["fit"]]) for row in drawn]
        at_runs = np.interp([float(row["samples"]) for row in runs], x, y)
        residuals = at_runs - [float(row["accuracy"]) for row in runs]
        means = np.mean(np.reshape(residuals, (3, -1)), axis=0)  # a fit is judged by the mean of the seeds
        assert fit["rmse"] <= fit["largest_residual"]
        assert fit["largest_residual"] == pytest.approx(np.max(np.abs(means)), abs=3e-3)
        assert f"{fit['rmse']:.4f}" in text
    assert (folder / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_curve_is_what_the_other_programs_read(measured):
    (read,) = measurements.read(str(measured[0] / "run" / "curve.csv")).values()
    assert sorted(set(np.ravel(read.sizes).tolist())) == SIZES


def test_another_directory_with_the_same_cache_measures_nothing(measured, tmp_path, monkeypatch):
    folder, text = measured
    monkeypatch.setattr(learning_curve, "measure", refuse)
    assert measure(a_task(), tmp_path / "run", folder / "cache", show=True) == text
    for name in ("curve.csv", "band.csv", "fits.json"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / "run" / name).read_bytes()


def test_half_a_curve_is_half_cached(measured, tmp_path, monkeypatch):
    measuring, do = [], learning_curve.measure

    def noting(*, total, **others):
        measuring.append(total)
        return do(total=total, **others)

    monkeypatch.setattr(learning_curve, "measure", noting)
    shutil.copytree(measured[0] / "cache", tmp_path / "cache")
    measure(a_task(sizes=(4, 9, 15, 36)), tmp_path / "run", tmp_path / "cache")
    assert measuring == [15] * 3


def key_of(task):
    return tasks.fingerprint(task, [], task.server)


def test_the_key_holds_whatever_changes_the_measurement(monkeypatch):
    task = a_task()
    usual = json.dumps(key_of(task))
    server = task.server
    changed = [
        a_task(rounds=4),
        a_task(agents=2),
        a_task(seed=1),  # other images
        a_task(held_out=81),
        a_task(server_images=61),
        a_task(momentum=0.5),
        a_task(full_batch=True),
        task._replace(local_training=task.local_training._replace(lowering="native")),
        task._replace(model=curve.prepare(curve.Settings(units=7)).model),
        task._replace(server=server._replace(test=server.test._replace(labels=server.test.labels[::-1]))),
        task._replace(
            server=server._replace(
                train=federated.Images(server.train.images.reshape(60, 4, 16, 1), server.train.labels)
            )
        ),
    ]
    keys = [json.dumps(key_of(each)) for each in changed]
    assert len({usual, *keys}) == 1 + len(keys)
    assert set(local.LocalTraining._fields) == set(key_of(task)["training"])
    assert json.dumps(key_of(a_task())) == usual
    monkeypatch.setattr(tasks.importlib.metadata, "version", lambda name: "0")
    assert json.dumps(key_of(task)) != usual
    monkeypatch.undo()
    monkeypatch.setattr(tasks.os, "cpu_count", lambda: 77)
    assert json.dumps(key_of(task)) != usual
    monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert json.dumps(key_of(task)) != usual


def test_a_change_of_the_code_is_a_change_of_the_key(monkeypatch, tmp_path):
    usual = key_of(a_task())
    (tmp_path / "local.py").write_text("other")
    monkeypatch.setattr(tasks.data, "__file__", str(tmp_path / "data.py"))
    assert key_of(a_task())["code"] != usual["code"]
    monkeypatch.undo()
    rules = [tasks.fingerprint(a_task(), [mwfed.__name__], a_task().server)["code"]]
    rules += [tasks.fingerprint(a_task(), [base.__name__], a_task().server)["code"]]
    assert len({usual["code"], *rules}) == 3


def test_the_seed_of_a_run_is_in_its_key(measured):
    stored = [json.loads(file.read_text())["key"] for file in (measured[0] / "cache").iterdir()]
    assert len({(key["size"], *np.ravel(key["key"])) for key in stored}) == 3 * len(SIZES)


def test_interrupted_in_the_middle_of_a_run_it_goes_on_from_there(measured, tmp_path, monkeypatch):
    trained, do = [], federated.federated_round
    work = workdir.open_workdir(str(tmp_path / "run"), "this", {}, resume=False, overwrite=False)

    def train(*args):
        samples, number = args[4], args[6]
        trained.append((int(np.sum(samples)), number))
        if len(trained) == 2:
            work.stop.set()
        return do(*args)

    monkeypatch.setattr(federated, "federated_round", train)
    with pytest.raises(snapshots.Interrupted):
        curve.compute(a_task(), work, Resources(workers=1))
    work.close()
    assert trained == [(36, 1), (36, 2)]
    measure(a_task(), tmp_path / "run", workers=1)
    assert trained[2:5] == [(36, 3), (36, 1), (36, 2)]  # the next is another seed's
    assert len(trained) == 3 * 3 * 4  # seeds, rounds, sizes above 0: none twice
    for name in ("curve.csv", "band.csv", "fits.json"):
        assert (tmp_path / "run" / name).read_bytes() == (measured[0] / "run" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({"sizes": (30, 7, 7, 12)}, [0, 7, 12, 30]),
        ({"sizes": None, "interval": 10}, [0, 10, 20, 30, 36]),
        ({"sizes": None, "curve_points": 4}, [0, 3, 7, 16, 36]),
    ],
)
def test_the_grid_is_the_one_asked_for(changes, sizes, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curve, "measure", lambda *, total, **others: 1 - 1 / (total + 2))
    work = workdir.Workdir(tmp_path)
    found, table = curve.measure(a_task(curve_seeds=1, **changes), work, Resources())
    assert found.tolist() == sizes
    np.testing.assert_allclose(table, [1 - 1 / (np.asarray(sizes) + 2)])


def test_one_seed_has_no_band(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curve, "measure", lambda *, total, **others: 1 - 1 / (total + 2))
    measure(a_task(curve_seeds=1), tmp_path / "run", show=True)
    assert {row["deviation"] for row in rows_of(tmp_path / "run" / "band.csv")} == {""}
    assert (tmp_path / "run" / "curve.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (4, 4, 9)}, "--sizes, --interval: a curve needs at least three sizes above 0"),
        ({"sizes": (0, 4, 9)}, "--sizes must be a number, at least 1, got 0"),
        ({"sizes": ()}, "--sizes needs at least one number"),
        ({"interval": 4}, "--sizes and --interval exclude each other"),
        ({"sizes": None, "interval": 13}, "a curve needs at least three sizes"),
        ({"sizes": (1, 2, 100)}, "the server at least 102 of its own"),
        ({"sizes": (1, 2, 10**6)}, "the server at least 1000002"),
    ],
)
def test_a_grid_that_makes_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        a_task(**changes)


def test_keys_of_curves_and_of_protocols_differ():
    task = a_task()
    keys = [jax.random.key_data(task.key_of(p, k)).tolist() for p in ("curve", "run") for k in range(4)]
    assert len({tuple(key) for key in keys}) == 8


def test_of_members_own_data_the_curve_is_the_mean_of_what_each_holds_out(tmp_path, write_members):
    folder = write_members(tmp_path / "members", {"ann": 60, "bea": 40})
    given = {"federation": folder, "rounds": 3, "epochs": 2, "sizes": (5, 23, 50), "curve_seeds": 2}
    task = curve.prepare(curve.Settings(**given))
    work = workdir.open_workdir(str(tmp_path / "run"), "this", {}, resume=False, overwrite=False)
    curve.compute(task, work, Resources(workers=1))
    samples = np.array([[0, 0], [3, 2], [14, 9], [30, 20]])  # in proportion to 30 and 20
    rows = [(int(row["samples"]), int(row["seed"])) for row in rows_of(tmp_path / "run" / "curve.csv")]
    assert rows == [(size, seed) for seed in (0, 1) for size in (0, 5, 23, 50)]
    for seed in (0, 1):
        split = task.split(seed)
        logits = mixtures.measure(
            task.model, task.local_training, split, samples, 3, task.key_of("curve", seed)
        )
        wanted = evaluation.metric_of("accuracy", logits, split.test.labels).mean(axis=1)
        found = [float(row["accuracy"]) for row in rows_of(tmp_path / "run" / "curve.csv")]
        np.testing.assert_allclose(found[4 * seed : 4 * seed + 4], wanted, atol=1e-9)
    text = curve.show(work)
    assert "the target is `ill`, the last column of ann" in text
    assert "<- used" in text


@pytest.mark.parametrize("capacity", [(30, 20, 1), (7, 7, 7), (1, 100, 9)])
def test_shares_of_a_total_are_whole_and_nobody_gives_more_than_she_has(capacity):
    for total in range(sum(capacity) + 1):
        found = curve._proportional(total, np.asarray(capacity) / sum(capacity))
        assert found.sum() == total
        assert np.all((found >= 0) & (found <= capacity))
        assert np.max(np.abs(found - total * np.asarray(capacity) / sum(capacity))) < 1


def test_a_flat_curve_is_told_only_if_its_fit_is_used():
    flat = {"fit": "power", "used": True, "rmse": 0.1, "largest_residual": 0.2, "rises": False}
    rising = flat | {"fit": "concave", "rises": True}
    assert "FLAT: the measured accuracies do not rise" in text.fits([flat, rising | {"used": False}])
    assert "FLAT" not in text.fits([flat | {"used": False}, rising])
    del flat["rises"]  # as of earlier versions
    assert "FLAT" not in text.fits([flat])
    game = {**flat, "deviation_between_seeds": None, "equilibria": {}}
    assert "FLAT" not in text.game(game)
    assert "FLAT" in text.game(game | {"rises": False})
