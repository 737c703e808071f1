"""The server's accuracy curve ã, measured and fitted: `launch.curve`, first part of `launch.compare`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame.experiments import mixtures, rows
from fedgame.experiments import task as tasks
from fedgame.experiments.task import Task
from fedgame.games import curves
from fedgame.learning import curve as learning_curve
from fedgame.learning import evaluation
from fedgame.learning import trainer as trainers
from fedgame.registry import option
from fedgame.report import figures, page, text
from fedgame.runs import jobs, workdir
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir


def fit_option() -> Any:
    """The option of those that fit the server's curve ã: the name of a payoff family."""
    return option(
        "shape of the fitted ã: any concave curve, a power law, bound (2), or a payoff of yours with a `fit`",
        "concave",
        choices=curves.fits,
    )


@dataclasses.dataclass(frozen=True)
class Settings(tasks.TrainingSettings):
    """How the server measures the public accuracy curve ã."""

    sizes: tuple[int, ...] | None = option(
        "totals S at which the server measures ã, beside 0, instead of a grid", None, low=1, kind=int
    )
    interval: int | None = option(
        "Δs: measure ã at all its multiples (the paper's is 10), not on a geometric grid",
        None,
        low=1,
        kind=int,
    )
    curve_points: int = option("sizes above 0 in the geometric grid", 10, low=4, high=10_000)
    curve_seeds: int = option("training runs per size", 3, low=1, high=10_000)
    fit: str = fit_option()
    server_images: int | None = option(
        "the server's own training images; twice the largest total, or what is left", None, low=1, kind=int
    )
    held_out: int | None = option(
        "images that ã is evaluated on; 1,000 or what is left", None, low=1, kind=int
    )


def settle(settings: Settings, available: tuple[int, int] | None) -> tuple[Settings, tasks.Needed]:
    """The settings with every default filled in, and the images they need; see `task.Settle`."""
    settings = dataclasses.replace(settings, capacity=tasks.capacity(settings))
    return settle_server(settings, available)


def settle_server(
    settings: Any, available: tuple[int, int] | None, taken: tuple[int, int] = (0, 0)
) -> tuple[Any, tasks.Needed]:
    """Fills in the server's defaults.

    Args:
      settings: their `capacity` is filled in already.
      available: the numbers of training and test images of the data set; None if members have their own.
      taken: how many of these the agents need.

    Raises:
      ValueError: the sizes at which ã is measured are too few, or there are too few images.
    """
    n = settings.agents
    if settings.sizes and settings.interval:
        raise ValueError("--sizes and --interval exclude each other")
    largest = largest_of(settings)
    too_few_sizes = settings.sizes is not None and len(set(settings.sizes)) < 3
    too_wide = settings.interval is not None and largest < 3 * settings.interval
    if too_few_sizes or too_wide:
        raise ValueError("--sizes, --interval: a curve needs at least three sizes above 0")
    if available is None:
        if largest > sum(settings.capacity):
            raise ValueError(
                f"--sizes: {largest} records are more than the {sum(settings.capacity)} there are"
            )
        return settings, tasks.NOTHING
    left, left_test = available[0] - taken[0], available[1] - taken[1]
    simulated = n * math.ceil(largest / n)  # the server measures ã with n agents, all equally large
    asked = settings.server_images or simulated
    if not simulated <= asked <= left:
        raise ValueError(
            f"--capacity={max(settings.capacity)}, --server_images={settings.server_images}: {n} agents need "
            f"{taken[0]} training images and the server at least {simulated} of its own; "
            f"{settings.dataset} has {available[0]}"
        )
    if (settings.held_out or 1) > left_test:
        test_images = getattr(settings, "test_images", 0)
        raise ValueError(
            f"--test_images={test_images}, --held_out={settings.held_out}: {n} agents need {taken[1]} test "
            f"images and the server at least one; {settings.dataset} has {available[1]}"
        )
    settled = dataclasses.replace(
        settings,
        server_images=settings.server_images or min(2 * simulated, left),
        held_out=settings.held_out or min(1000, left_test),
    )
    return settled, tasks.Needed(taken, (settled.server_images, settled.held_out))


check = functools.partial(tasks.check, settle)
prepare = functools.partial(tasks.prepare, settle)


def largest_of(settings: Settings) -> int:
    """The largest total S at which ã is measured, in samples."""
    return max(settings.sizes) if settings.sizes else sum(settings.capacity)


def sizes_of(settings: Settings) -> list[int]:
    """The totals S at which ã is measured, in samples, ascending from 0."""
    if settings.sizes:
        return sorted({0, *settings.sizes})
    largest = largest_of(settings)
    return learning_curve.grid(largest, settings.curve_points, settings.agents, settings.interval).tolist()


class Measurement(NamedTuple):
    """One training run whose accuracy is measured."""

    job: str  # the name under which the accuracy is stored
    seed: int
    size: int  # samples of all agents together
    about: Mapping[str, Any] = MappingProxyType({})  # JSON values that tell it from others of seed and size


def accuracies(
    stage: str,
    measurements: Sequence[Measurement],
    train: Callable[[Measurement, jax.Array, trainers.Snapshots], Any],
    fingerprint: dict[str, Any],
    task: Task,
    work: Workdir,
    resources: Resources,
) -> list[Any]:
    """Makes training runs; those that are stored in `work` or in the cache are not made again.

    Args:
      stage: what the progress bar says.
      measurements: the runs.
      train: makes one from its random key, and returns its accuracy: a number, or a list of them.
      fingerprint: what determines all of them, see `task.fingerprint`; not used without a cache.
      task: images, network and settings.
      work: where finished runs are kept.
      resources: number of runs at a time, and a cache that all experiments share.

    Returns:
      Their accuracies, in the order of `measurements`.
    """

    def compute(one: Measurement) -> dict[str, Any]:
        key = task.key_of("curve", one.seed)
        run = functools.partial(train, one, key, work.snapshots(one.job))
        samples_and_key = {"size": one.size, "key": jax.random.key_data(key).tolist()}
        identity = {**fingerprint, **one.about, **samples_and_key}
        return {"accuracy": workdir.cached(resources.cache, identity, run)}

    todo = {one.job: (one.size, functools.partial(compute, one)) for one in measurements}
    done = jobs.run(stage, todo, work, task.workers(resources.workers))
    return [done[one.job]["accuracy"] for one in measurements]


def measure(task: Task, work: Workdir, resources: Resources) -> tuple[np.ndarray, np.ndarray]:
    """Trains on the server's own images at every size and seed; writes `curve.csv`.

    Args:
      task: images, network and settings, at least those of this module, with every default filled in.
      work: where finished runs are kept.
      resources: number of runs at a time, and a cache.

    Returns:
      Sizes [k] in samples, and accuracies [seeds, k].
    """
    settings, sizes = task.settings, sizes_of(task.settings)
    if task.own is not None:
        return _measure_own(task, work, resources, np.asarray(sizes))

    def train(one: Measurement, key: jax.Array, snapshots: trainers.Snapshots) -> float:
        return learning_curve.measure(
            model=task.model,
            options=task.local_training,
            train=task.server.train,
            held_out=task.server.test,
            total=one.size,
            agents=settings.agents,
            rounds=settings.rounds,
            key=key,
            mesh=task.mesh,
            snapshots=snapshots,
        )

    runs = [
        Measurement(f"curve/{seed}-{size}", seed, size)
        for seed in range(settings.curve_seeds)
        for size in sizes
    ]
    fingerprint = tasks.fingerprint(task, [], task.server) if resources.cache else {}
    found = accuracies("measuring the accuracy curve", runs, train, fingerprint, task, work, resources)
    table = [
        {"samples": one.size, "seed": one.seed, "accuracy": accuracy}
        for one, accuracy in zip(runs, found, strict=True)
    ]
    work.write_csv("curve.csv", table)
    accuracy = np.reshape(found, (settings.curve_seeds, len(sizes)))
    _remark(task, work, sizes[-1], accuracy, np.asarray(task.server.test.labels)[None])
    return np.asarray(sizes), accuracy


def _measure_own(
    task: Task, work: Workdir, resources: Resources, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `measure`, where members have their own data: the mean over members of the metric.

    Of every total each member gives in proportion to her capacity; seeds are splits of the members' records.
    """
    share = np.asarray(task.settings.capacity) / sum(task.settings.capacity)
    samples = np.stack([_proportional(int(size), share) for size in sizes])
    found = mixtures.measure(task, samples, range(task.settings.curve_seeds), work, resources)
    accuracy = evaluation.mean_of(task.settings.metric, found).T
    table = [
        {"samples": int(size), "seed": seed, "accuracy": float(accuracy[seed, k])}
        for seed in range(len(accuracy))
        for k, size in enumerate(sizes)
    ]
    work.write_csv("curve.csv", table)
    _remark(task, work, sizes[-1], accuracy, np.asarray(task.split(0).test.labels))
    return sizes, accuracy


def _remark(task: Task, work: Workdir, largest: int, accuracy: np.ndarray, labels: np.ndarray) -> None:
    """Tells if models of the largest total learn nothing; accuracies [seeds, k], labels as they are there."""
    what = f"on {largest} samples"
    tasks.write_if_nothing_is_learnt(task, work, what, float(np.mean(accuracy[:, -1])), labels)


def _proportional(total: int, share: np.ndarray) -> np.ndarray:
    """[n] whole numbers that sum to `total`, nearest to total · share, by largest remainders."""
    exact = total * share
    whole = np.floor(exact).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: total - np.sum(whole)]] += 1
    return whole


def compute(task: Task, work: Workdir, resources: Resources = Resources()) -> None:
    """Measures ã and fits all families that can be fitted; writes `curve.csv`, `band.csv` and the fits."""
    sizes, accuracy = measure(task, work, resources)
    tasks.write_remarks(task, work)
    totals = np.linspace(0, sizes[-1], 401)
    fits = curves.fit_all(sizes, accuracy, task.settings.fit)
    summary = [
        {
            "fit": name,
            "used": name == task.settings.fit,
            "rmse": fit.rmse,
            "largest_residual": fit.largest,
            "rises": fit.rises,
            "parameters": fit.parameters,
        }
        for name, fit in fits.items()
    ]
    work.write_json("fits.json", summary)
    drawn = {"samples": totals} | {name: curves.values(fit.payoff, totals) for name, fit in fits.items()}
    work.write_csv("fitted_curves.csv", rows.of_columns(drawn, len(totals)))
    work.write_csv("band.csv", _band(sizes, accuracy))
    work.write_csv("timings.csv", work.timings())


def _band(sizes: np.ndarray, accuracy: np.ndarray) -> list[dict[str, Any]]:
    """For each of the sizes [k], mean, standard deviation and range of the accuracies [seeds, k]."""
    seeds = len(accuracy)
    deviations = np.std(accuracy, axis=0, ddof=1).tolist() if seeds > 1 else [None] * len(sizes)
    return [
        {
            "samples": int(size),
            "accuracy": float(np.mean(column)),
            "deviation": deviation,
            "low": float(np.min(column)),
            "high": float(np.max(column)),
            "seeds": seeds,
        }
        for size, column, deviation in zip(sizes, accuracy.T, deviations, strict=True)
    ]


def show(work: Workdir) -> str:
    """Draws the measured curve with its fits; returns the text."""
    figures.draw(work, "curve", figures.measured_curve, (7, 4))
    return page.write(work, text.curve(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """The accuracy at the largest size, and the error of the chosen fit."""
    (fit,) = (fit for fit in work.read_json("fits.json") if fit["used"])
    last = work.read_csv("band.csv")[-1]
    return [{"samples": last["samples"], "accuracy": last["accuracy"], "rmse": fit["rmse"]}]


EXPERIMENT = Experiment(
    program="launch.curve",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/curve_{tasks.data_name(settings)}",
    headline=headline,
    collected=("band.csv",),
    resources=("data_dir", "workers", "cache"),
)
