"""Models of mixtures as stored jobs: against their definition, resumed, cached, and one by one."""

import json

import numpy as np
import pytest

from fedgame.experiments import measure, mixtures
from fedgame.learning import evaluation, federated, members
from fedgame.learning import mixtures as learning
from fedgame.runs import snapshots, workdir
from fedgame.runs.experiment import Resources

SAMPLES = np.array([[0, 0], [12, 10], [12, 0], [3, 7], [1, 0], [5, 5]])
SPLITS = range(2)
ONE = Resources(workers=1)


@pytest.fixture(scope="module")
def federation(tmp_path_factory, write_members):
    return write_members(tmp_path_factory.mktemp("members") / "tables", {"anna": 50, "ben": 40})


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two members of 24 images of 8 x 8, of which one half is brighter in each class."""
    folder, rng = tmp_path_factory.mktemp("members") / "images", np.random.default_rng(0)
    folder.mkdir()
    for name in ("anna", "ben"):
        labels = np.arange(24) % 2
        pixels = rng.integers(0, 120, (24, 8, 8), np.uint8)
        pixels[labels == 1, :4] += 100
        pixels[labels == 0, 4:] += 100
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels)
    return str(folder)


@pytest.fixture
def a_task(federation):
    return lambda **changes: measure.prepare(
        measure.Settings(**{"federation": federation, "rounds": 4, "epochs": 2} | changes)
    )


def logits(task, split, samples, number):
    """What models of these mixtures say, straight from the definition."""
    key = task.key_of("curve", number)
    return learning.measure(task.model, task.local_training, split, samples, task.settings.rounds, key)


@pytest.mark.parametrize("metric", evaluation.METRICS)
def test_what_is_measured_is_the_metric_of_models_on_what_is_held_out(metric, a_task, tmp_path):
    task = a_task(metric=metric)
    found = mixtures.measure(task, SAMPLES, SPLITS, workdir.Workdir(tmp_path), ONE)
    assert found.shape == (6, 2, 2)
    for number in SPLITS:
        split = members.measuring_split(task.own.federation, task.own.shares, number)
        wanted = evaluation.metric_of(metric, logits(task, split, SAMPLES, number), split.test.labels)
        np.testing.assert_allclose(found[:, number], wanted, atol=1e-6)
    assert np.ptp(found, axis=1).any()  # splits differ


def test_advice_is_checked_on_the_reserve_record_by_record(a_task, tmp_path):
    task = a_task(metric="log_loss")
    samples = np.array([[38, 30], [20, 0]])  # more than can be trained on in a measurement
    found = mixtures.measure(task, samples, SPLITS, workdir.Workdir(tmp_path), ONE, "check")
    for number in SPLITS:
        split = members.checking_split(task.own.federation, task.own.shares, number)
        wanted = evaluation.values_of("log_loss", logits(task, split, samples, number), split.test.labels)
        np.testing.assert_allclose(found[:, number], wanted, atol=1e-5)
    np.testing.assert_array_equal(np.isfinite(found[0, 0]).sum(axis=1), [12, 10])


@pytest.mark.parametrize("full_batch", [True, False])
@pytest.mark.parametrize("purpose", ["measure", "check"])
def test_models_one_by_one_are_those_of_many_in_one_call(purpose, full_batch, a_task, tmp_path, monkeypatch):
    task = a_task(full_batch=full_batch, metric="log_loss")
    together = mixtures.measure(task, SAMPLES, [1], workdir.Workdir(tmp_path / "a"), ONE, purpose)
    monkeypatch.setattr(learning, "batched", lambda model: False)
    one, do = [], mixtures._one
    monkeypatch.setattr(mixtures, "_one", lambda *args: one.append(args) or do(*args))
    singly = mixtures.measure(task, SAMPLES, [1], workdir.Workdir(tmp_path / "b"), ONE, purpose)
    assert len(one) == len(SAMPLES)
    np.testing.assert_allclose(singly, together, rtol=1e-4, atol=1e-5)


def test_what_one_call_trains_changes_nothing(a_task, tmp_path, monkeypatch, calls):
    task = a_task()
    whole = mixtures.measure(task, SAMPLES, SPLITS, workdir.Workdir(tmp_path / "whole"), ONE)
    assert [some.shape for some in calls] == [(8, 2)] * 2  # filled up, so that few programs are compiled
    monkeypatch.setattr(mixtures, "_TOGETHER", 4)
    parts = mixtures.measure(task, SAMPLES, SPLITS, workdir.Workdir(tmp_path / "parts"), Resources(workers=2))
    assert [some.shape for some in calls[2:]] == [(4, 2)] * 4
    np.testing.assert_array_equal(parts, whole)


def test_only_jobs_that_are_missing_are_trained(a_task, tmp_path, monkeypatch, calls):
    monkeypatch.setattr(mixtures, "_TOGETHER", 4)
    task, work = a_task(), workdir.Workdir(tmp_path)
    first = mixtures.measure(task, SAMPLES, SPLITS, work, ONE)
    stored = sorted((tmp_path / "jobs" / "measure").iterdir())
    assert len(stored) == 4
    stored[1].unlink()
    again = mixtures.measure(task, SAMPLES, SPLITS, work, ONE)
    assert len(calls) == 5
    np.testing.assert_array_equal(again, first)
    seconds = [json.loads(file.read_text())["value"]["seconds"] for file in stored]
    assert mixtures.seconds(task, SAMPLES, SPLITS, work) == pytest.approx(sum(seconds))
    longer = np.concatenate([SAMPLES[:4], [[9, 9]]])
    mixtures.measure(task, longer, SPLITS, work, ONE)
    assert [len(some) for some in calls[5:]] == [4, 4]  # the first four are known
    of_0 = [s for file, s in zip(stored, seconds, strict=True) if file.name.startswith("0-")]
    assert mixtures.seconds(task, SAMPLES, [0], work) == pytest.approx(sum(of_0))
    # Workers beyond the number of jobs make nothing quicker.
    assert mixtures.seconds(task, SAMPLES, [0], work, 64) == pytest.approx(sum(of_0) / len(of_0))


def test_with_a_cache_nothing_is_trained_twice_and_what_changes_models_is_in_the_key(
    a_task, tmp_path, calls, write_members
):
    cache = Resources(workers=1, cache=tmp_path / "cache")
    first = mixtures.measure(a_task(), SAMPLES, SPLITS, workdir.Workdir(tmp_path / "first"), cache)
    again = mixtures.measure(a_task(), SAMPLES, SPLITS, workdir.Workdir(tmp_path / "again"), cache)
    assert len(calls) == 2
    np.testing.assert_array_equal(again, first)
    mixtures.measure(a_task(splits=5), SAMPLES, [1], workdir.Workdir(tmp_path / "more"), cache)
    assert len(calls) == 2
    others = [{"metric": "auc"}, {"seed": 1}, {"rounds": 3}, {"reserve": 0.3}, {"tested": 0.5}]
    others += [{"learning_rate": 0.2}, {"full_batch": False}]
    others.append({"federation": write_members(tmp_path / "others", {"anna": 50, "ben": 40}, seed=1)})
    for k, changes in enumerate(others):
        mixtures.measure(a_task(**changes), SAMPLES, [0], workdir.Workdir(tmp_path / str(k)), cache)
        assert len(calls) == 3 + k, changes
    mixtures.measure(a_task(), SAMPLES, [0], workdir.Workdir(tmp_path / "check"), cache, "check")
    assert len(calls) == 3 + len(others)


def test_interrupted_in_the_middle_of_a_cnn_it_goes_on_from_there(images, tmp_path, monkeypatch):
    settings = {"federation": images, "rounds": 3, "epochs": 1, "channels": (2, 3), "units": 4}
    task = measure.prepare(measure.Settings(**settings))
    assert task.settings.model == "cnn"
    samples = np.array([[0, 0], [8, 6], [0, 9]])
    whole = mixtures.measure(task, samples, [0], workdir.Workdir(tmp_path / "whole"), ONE)
    trained, do = [], federated.federated_round
    work = workdir.Workdir(tmp_path / "run")

    def train(*args):
        drawn, number = args[4], args[6]
        trained.append((tuple(np.asarray(drawn).tolist()), int(number)))
        if len(trained) == 2:
            work.stop.set()
        return do(*args)

    monkeypatch.setattr(federated, "federated_round", train)
    with pytest.raises(snapshots.Interrupted):
        mixtures.measure(task, samples, [0], work, ONE)
    work = workdir.Workdir(tmp_path / "run")
    found = mixtures.measure(task, samples, [0], work, ONE)
    assert trained == [((8, 6), 1), ((8, 6), 2), ((8, 6), 3), *[((0, 9), number) for number in (1, 2, 3)]]
    np.testing.assert_array_equal(found, whole)
    split = task.split(0)
    nobody = evaluation.metric_of("accuracy", learning.without_data(split, 2), split.test.labels)
    np.testing.assert_array_equal(found[0, 0], nobody)  # not a round of training
