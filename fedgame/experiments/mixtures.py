"""Models of mixtures of the members' own records: trained as stored jobs, tested on everybody's records."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fedgame.experiments import task as tasks
from fedgame.experiments.task import Task
from fedgame.learning import evaluation, federated, members, models
from fedgame.learning import mixtures as learning
from fedgame.learning import trainer as trainers
from fedgame.runs import jobs, workdir
from fedgame.runs.experiment import Resources
from fedgame.runs.workdir import Workdir

_TOGETHER = 64  # mixtures that are trained in one call

# By what a split is for: the progress bar, and the split of a number.
_PURPOSES: dict[str, tuple[str, Callable[[members.Federation, members.Shares, int], members.Split]]] = {
    "measure": ("training on mixtures", members.measuring_split),
    "check": ("training at the advice", members.checking_split),
}


def measure(
    task: Task,
    samples: np.ndarray,
    splits: Sequence[int],
    work: Workdir,
    resources: Resources = Resources(),
    purpose: str = "measure",
) -> np.ndarray:
    """Trains on every mixture in every split; what is stored in `work` or in the cache is not trained again.

    Small models of many mixtures are trained in one call; others one after the other, with snapshots.

    Args:
      task: with data of the members' own.
      samples: [B, n] records that each member gives.
      splits: numbers of splits.
      work: where finished runs are kept.
      resources: number of runs at a time, and a cache.
      purpose: "measure": what is held out in a split is tested on, and the reserve is never seen; "check":
        all that is not reserved can be trained on, and the reserve is tested on.

    Returns:
      [B, len(splits), n] the metric on each member's own records; of "check" [B, len(splits), n, r] what each
      of them adds to it (`evaluation.values_of`). NaN where it is not defined.
    """
    together = _together(task, samples)
    stage, _ = _PURPOSES[purpose]
    key = tasks.fingerprint(task, [__name__]) | {"purpose": purpose} if resources.cache else {}
    todo: dict[str, tuple[float, Callable[[], dict[str, Any]]]] = {}
    places = _places(samples, splits, purpose, together)
    for job, (rows, column) in places.items():
        some, number = samples[rows], splits[column]
        compute = functools.partial(_compute, task, some, number, purpose, together, work, job)
        identity = key | {"split": number, "samples": some.tolist()}
        known = functools.partial(workdir.cached, resources.cache, identity, compute)
        todo[job] = (float(np.sum(some)), known)
    done = jobs.run(stage, todo, work, task.workers(resources.workers))
    found: list[list[Any]] = [[None] * len(splits) for _ in samples]
    for job, (rows, column) in places.items():
        for row, numbers in zip(range(len(samples))[rows], done[job]["metric"], strict=True):
            found[row][column] = numbers
    return np.array(found, float)  # None becomes NaN


def seconds(task: Task, samples: np.ndarray, splits: Sequence[int], work: Workdir, workers: int = 1) -> float:
    """How long `measure` of these mixtures took, from the times of its jobs, which are stored in `work`.

    So many `workers` share the jobs; those beyond the number of jobs have nothing to do.
    """
    names = _places(samples, splits, "measure", _together(task, samples))
    spent = sum(row["seconds"] for row in work.timings() if row["job"] in names)
    return spent / min(workers, len(names))


def _together(task: Task, samples: np.ndarray) -> int:
    """How many mixtures are trained in one call."""
    return min(_TOGETHER, 1 << (len(samples) - 1).bit_length()) if learning.batched(task.model) else 1


def _places(
    samples: np.ndarray, splits: Sequence[int], purpose: str, together: int
) -> dict[str, tuple[slice, int]]:
    """By the name of each job, the rows of the mixtures that it trains on, and the column of the split."""
    places = {}
    for column, number in enumerate(splits):
        for start in range(0, len(samples), together):
            rows = slice(start, start + together)
            digest = hashlib.sha256(repr(samples[rows].tolist()).encode()).hexdigest()[:10]
            places[f"{purpose}/{number}-{digest}"] = rows, column
    return places


def _compute(
    task: Task, samples: np.ndarray, number: int, purpose: str, together: int, work: Workdir, job: str
) -> dict[str, Any]:
    """One job: what `measure` returns of some mixtures in one split, as JSON values."""
    _, split_of = _PURPOSES[purpose]
    split = split_of(task.own.federation, task.own.shares, number)
    key = task.key_of("curve", number)
    if together > 1:
        filled = np.zeros((together, samples.shape[1]), int)  # one shape, so that all jobs compile once
        filled[: len(samples)] = samples
        logits = learning.measure(task.model, task.local_training, split, filled, task.settings.rounds, key)
    else:
        logits = _one(task, split, samples, key, work, job)
    metric = task.settings.metric
    found = evaluation.values_of(metric, logits[: len(samples)], split.test.labels)
    if purpose == "measure":
        found = evaluation.mean_of(metric, found)
    return {"metric": np.where(np.isfinite(found), found, None).tolist()}


def _one(
    task: Task, split: members.Split, samples: np.ndarray, key: jax.Array, work: Workdir, job: str
) -> np.ndarray:
    """The logits [1, n, m, classes] of one mixture [1, n], with snapshots between rounds."""
    init_key, train_key = jax.random.split(key)
    shape = split.train.images.shape[2:]
    params = jax.device_get(models.initial_parameters(task.model, init_key, shape))
    placed = federated.place(split.train, task.mesh)
    trainer = trainers.Trainer(task.model, task.local_training, placed, train_key, task.mesh)
    rounds = task.settings.rounds if np.any(samples) else 0
    params = trainers.run(
        lambda params, number: trainer.average(params, samples[0], number),
        params,
        rounds,
        work.snapshots(job),
    )
    found = evaluation.logits(task.model, federated.local_copy(params), split.test)
    return learning.filled(np.asarray(found)[None], split, samples)
