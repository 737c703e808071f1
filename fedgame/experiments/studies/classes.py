"""Models trained on skewed and on i.i.d. images, and their accuracy on every class."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np

from fedgame.experiments import jobs, storage, training
from fedgame.learning import curve, evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers

KINDS = ("dirichlet", "iid")


def sizes_of(settings: Any) -> list[int]:
    """The totals at which to measure, 0 among them."""
    if settings.sizes:
        return sorted({0, *settings.sizes})
    return curve.grid(
        sum(settings.capacity), settings.curve_points, settings.agents, settings.interval
    ).tolist()


def deal(task: training.Task, kind: str) -> federated.Images:
    """What agents hold, the same for all seeds: [n, most, ...], with most enough for the largest total."""
    settings = task.settings
    most = np.full(settings.agents, -(-max(sizes_of(settings)) // settings.agents))
    key = jax.random.fold_in(task.key, KINDS.index(kind))
    return partitions.partition(task.server.train, most, key, kind, settings.alpha)


def by_class(images: federated.Images, classes: int) -> federated.Images:
    """The same number of images of every class, [classes, m, ...], as many as there are of the rarest.

    Raises:
      ValueError: there is no image of some class.
    """
    labels = np.asarray(images.labels)
    m = int(np.min(np.bincount(labels, minlength=classes)))
    if m == 0:
        raise ValueError(f"--held_out={len(labels)}: held-out images lack a class; ask for more of them")
    chosen = np.stack([np.flatnonzero(labels == k)[:m] for k in range(classes)])
    return federated.Images(images.images[chosen], images.labels[chosen])


def measure(
    task: training.Task,
    work: storage.Workdir,
    held: dict[str, federated.Images],
    workers: int,
    cache: pathlib.Path | None = None,
) -> dict[str, np.ndarray]:
    """Accuracy of every class at every total, by kind of partition, [seeds, sizes, classes]; `classes.csv`.

    Args:
      task: from `training.prepare`.
      work: where finished runs are kept.
      held: what agents hold, by kind, from `deal`.
      workers: training runs at a time.
      cache: directory of accuracies measured by any run.
    """
    settings = task.settings
    sizes = sizes_of(settings)
    test = by_class(task.server.test, len(task.classes))
    shared = training.fingerprint(task, [__name__], task.server) if cache else {}
    shared |= {"alpha": settings.alpha, "sizes": sizes}

    def trained(kind: str, seed: int, size: int, name: str) -> dict[str, list[float]]:
        key = task.key_of("curve", seed)
        what = shared | {"kind": kind, "size": size, "key": jax.random.key_data(key).tolist()}
        train = functools.partial(_train, task, held[kind], test, size, key, work.snapshots(name))
        return {"accuracy": storage.cached(cache, what, train)}

    names = {
        (kind, seed, size): f"{kind}/{seed}-{size}"
        for kind in KINDS
        for seed in range(settings.curve_seeds)
        for size in sizes
    }
    todo = {name: (of[2], functools.partial(trained, *of, name)) for of, name in names.items()}
    done = jobs.run("measuring accuracy by class", todo, work, workers)
    table = [
        {"partition": kind, "seed": seed, "samples": size, "class": k, "accuracy": x}
        for (kind, seed, size), name in names.items()
        for k, x in enumerate(done[name]["accuracy"])
    ]
    work.write_csv("classes.csv", table)
    shape = settings.curve_seeds, len(sizes), len(task.classes)
    return {
        kind: np.reshape([row["accuracy"] for row in table if row["partition"] == kind], shape)
        for kind in KINDS
    }


def _train(
    task: training.Task,
    held: federated.Images,
    test: federated.Images,
    total: int,
    key: jax.Array,
    snapshots: trainers.Snapshots,
) -> list[float]:
    """Accuracy of every class after training on `total` of the held images, the same share of each agent's.

    Which images these are depends on the key, and those of a smaller total are a subset of a larger one's.
    """
    settings = task.settings
    order_key, init_key, train_key = jax.random.split(key, 3)
    n, most = held.labels.shape
    order = np.asarray(jax.vmap(lambda k: jax.random.permutation(k, most))(jax.random.split(order_key, n)))
    agent = np.arange(n)[:, None]
    agents = federated.place(
        federated.Images(held.images[agent, order], held.labels[agent, order]), task.mesh
    )
    drawn = np.asarray(total // n + (np.arange(n) < total % n), np.int32)
    params = jax.device_get(models.initial_parameters(task.model, init_key, held.images.shape[2:]))
    trainer = trainers.Trainer(task.model, task.local_training, agents, train_key, task.mesh)

    def step(params: Any, number: int) -> Any:
        return trainer.average(params, drawn, number)

    params = trainers.run(step, params, settings.rounds if total else 0, snapshots)
    return np.asarray(evaluation.accuracy(task.model, federated.local_copy(params), test), float).tolist()
