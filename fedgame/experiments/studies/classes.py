"""Models trained on skewed and on i.i.d. images, and their accuracy on every class."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np

from fedgame.experiments import pieces, storage, training
from fedgame.learning import curve, evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers

KINDS = ("dirichlet", "iid")


def sizes_of(config: Any) -> list[int]:
    """The totals at which to measure, 0 among them."""
    if config.sizes:
        return sorted({0, *config.sizes})
    return curve.grid(sum(config.capacity), config.curve_points, config.agents, config.interval).tolist()


def deal(setting: training.Setting, kind: str) -> federated.Images:
    """What agents hold, the same for all seeds: [n, most, ...], with most enough for the largest total."""
    config = setting.config
    most = np.full(config.agents, -(-max(sizes_of(config)) // config.agents))
    key = jax.random.fold_in(setting.key, KINDS.index(kind))
    return partitions.partition(setting.server.train, most, key, kind, config.alpha)


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
    setting: training.Setting,
    work: storage.Workdir,
    held: dict[str, federated.Images],
    workers: int,
    cache: pathlib.Path | None = None,
) -> dict[str, np.ndarray]:
    """Accuracy of every class at every total, by kind of partition, [seeds, sizes, classes]; `classes.csv`.

    Args:
      setting: from `training.prepare`.
      work: where finished runs are kept.
      held: what agents hold, by kind, from `deal`.
      workers: training runs at a time.
      cache: directory of accuracies measured by any run.
    """
    config = setting.config
    sizes = sizes_of(config)
    test = by_class(setting.server.test, len(setting.classes))
    shared = training.fingerprint(setting, [__name__], setting.server) if cache else {}
    shared |= {"alpha": config.alpha, "sizes": sizes}

    def trained(kind: str, seed: int, size: int, name: str) -> dict[str, list[float]]:
        key = setting.key_of("curve", seed)
        what = shared | {"kind": kind, "size": size, "key": jax.random.key_data(key).tolist()}
        train = functools.partial(_train, setting, held[kind], test, size, key, work.snapshots(name))
        return {"accuracy": storage.cached(cache, what, train)}

    names = {
        (kind, seed, size): f"{kind}/{seed}-{size}"
        for kind in KINDS
        for seed in range(config.curve_seeds)
        for size in sizes
    }
    jobs = {name: (of[2], functools.partial(trained, *of, name)) for of, name in names.items()}
    done = pieces.run("measuring accuracy by class", jobs, work, workers)
    table = [
        {"partition": kind, "seed": seed, "samples": size, "class": k, "accuracy": x}
        for (kind, seed, size), name in names.items()
        for k, x in enumerate(done[name]["accuracy"])
    ]
    work.write_csv("classes.csv", table)
    shape = config.curve_seeds, len(sizes), len(setting.classes)
    return {
        kind: np.reshape([row["accuracy"] for row in table if row["partition"] == kind], shape)
        for kind in KINDS
    }


def _train(
    setting: training.Setting,
    held: federated.Images,
    test: federated.Images,
    total: int,
    key: jax.Array,
    snapshots: trainers.Snapshots,
) -> list[float]:
    """Accuracy of every class after training on `total` of the held images, the same share of each agent's.

    Which images these are depends on the key, and those of a smaller total are a subset of a larger one's.
    """
    config = setting.config
    order_key, init_key, train_key = jax.random.split(key, 3)
    n, most = held.labels.shape
    order = np.asarray(jax.vmap(lambda k: jax.random.permutation(k, most))(jax.random.split(order_key, n)))
    agent = np.arange(n)[:, None]
    agents = federated.place(
        federated.Images(held.images[agent, order], held.labels[agent, order]), setting.mesh
    )
    samples = np.asarray(total // n + (np.arange(n) < total % n), np.int32)
    params = jax.device_get(models.initial_parameters(setting.model, init_key, held.images.shape[2:]))
    trainer = trainers.Trainer(setting.model, setting.options, agents, train_key, setting.mesh)

    def step(params: Any, number: int) -> Any:
        return trainer.average(params, samples, number)

    params = trainers.run(step, params, config.rounds if total else 0, snapshots)
    return np.asarray(evaluation.accuracy(setting.model, federated.local_copy(params), test), float).tolist()
