"""The server's accuracy curve ã, measured and fitted: `launch.curve`, first part of `launch.compare`."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from fedgame.experiments import task as tasks
from fedgame.experiments.task import Task
from fedgame.games import curves
from fedgame.learning import curve as learning_curve
from fedgame.registry import option
from fedgame.report import figures, text
from fedgame.runs import jobs, workdir
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir


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
    curve_points: int = option("sizes above 0 in the geometric grid", 10, low=4)
    curve_seeds: int = option("training runs per size", 3, low=1)
    fit: str = option(
        "shape of the fitted ã: any concave curve, a power law, bound (2), or a payoff of yours with a `fit`",
        "concave",
        choices=curves.fits,
    )
    server_images: int | None = option(
        "the server's own training images; twice the largest total, or what is left", None, low=1, kind=int
    )
    held_out: int | None = option(
        "images that ã is evaluated on; 1,000 or what is left", None, low=1, kind=int
    )


def settle(settings: Settings, available: tuple[int, int]) -> tuple[Settings, tasks.Needed]:
    """The settings with every default filled in, and the images they need; see `task.Settle`."""
    settings = dataclasses.replace(settings, capacity=tasks.capacity(settings))
    return settle_server(settings, available)


def settle_server(
    settings: Any, available: tuple[int, int], taken: tuple[int, int] = (0, 0)
) -> tuple[Any, tasks.Needed]:
    """The same of settings whose `capacity` is known; `taken`: training and test images of the agents."""
    n = settings.agents
    left, left_test = available[0] - taken[0], available[1] - taken[1]
    if settings.sizes and settings.interval:
        raise ValueError("--sizes and --interval exclude each other")
    largest = max(settings.sizes or (sum(settings.capacity),))
    few = settings.sizes and len(set(settings.sizes)) < 3
    if few or largest < 3 * (settings.interval or 0):
        raise ValueError("--sizes, --interval: a curve needs at least three sizes above 0")
    simulated = n * -(-largest // n)  # the server measures ã with as many, equally large, agents
    if (settings.server_images or simulated) > left or (settings.server_images or left) < simulated:
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


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `task.check`."""
    tasks.check(settings, settle, resources.data_dir)


def prepare(settings: Settings, resources: Resources = Resources()) -> Task:
    """Raises as `task.check`."""
    return tasks.prepare(settings, settle, resources.data_dir)


def sizes_of(settings: Settings) -> list[int]:
    """The totals S at which ã is measured, 0 among them."""
    if settings.sizes:
        return sorted({0, *settings.sizes})
    return learning_curve.grid(
        sum(settings.capacity), settings.curve_points, settings.agents, settings.interval
    ).tolist()


def measure(task: Task, work: Workdir, resources: Resources) -> tuple[np.ndarray, np.ndarray]:
    """Trains on the server's own images at every size and seed; writes `curve.csv`.

    Args:
      task: settled, with at least the settings of this module.
      work: where finished runs are kept.
      resources: its cache is asked for accuracies that any run measured, under all that determines them.

    Returns:
      Sizes [k] and accuracies [seeds, k].
    """
    settings, cache, sizes = task.settings, resources.cache, sizes_of(task.settings)
    shared = tasks.fingerprint(task, [], task.server) if cache else {}

    def accuracy(size: int, seed: int, name: str) -> dict[str, float]:
        key = task.key_of("curve", seed)
        train = functools.partial(
            learning_curve.measure,
            task.model,
            task.local_training,
            task.server.train,
            task.server.test,
            size,
            settings.agents,
            settings.rounds,
            key,
            task.mesh,
            work.snapshots(name),
        )
        what = shared | {"size": size, "key": jax.random.key_data(key).tolist()}
        return {"accuracy": workdir.cached(cache, what, train)}

    names = {(seed, size): f"curve/{seed}-{size}" for seed in range(settings.curve_seeds) for size in sizes}
    todo = {
        name: (size, functools.partial(accuracy, size, seed, name)) for (seed, size), name in names.items()
    }
    done = jobs.run("measuring the accuracy curve", todo, work, task.workers(resources.workers))
    rows = [
        {"samples": size, "seed": seed, "accuracy": done[name]["accuracy"]}
        for (seed, size), name in names.items()
    ]
    work.write_csv("curve.csv", rows)
    measured = [row["accuracy"] for row in rows]
    return np.asarray(sizes), np.reshape(measured, (settings.curve_seeds, len(sizes)))


def compute(task: Task, work: Workdir, resources: Resources = Resources()) -> None:
    """Measures ã and fits every family that it can; writes `curve.csv`, `band.csv` and the fits."""
    sizes, accuracy = measure(task, work, resources)
    totals = np.linspace(0, sizes[-1], 401)
    fits = curves.fit_all(sizes, accuracy, task.settings.fit)
    summary = [
        {
            "fit": name,
            "used": name == task.settings.fit,
            "rmse": fit.rmse,
            "largest_residual": fit.largest,
            "parameters": fit.parameters,
        }
        for name, fit in fits.items()
    ]
    work.write_json("fits.json", summary)
    drawn = {name: np.asarray(jax.vmap(fit.payoff.curve)(totals)) for name, fit in fits.items()}
    rows = [
        {"samples": x} | {k: float(v[i]) for k, v in drawn.items()} for i, x in enumerate(totals.tolist())
    ]
    work.write_csv("fitted_curves.csv", rows)
    several = len(accuracy) > 1
    deviation = np.std(accuracy, axis=0, ddof=1) if several else [None] * len(sizes)
    band = [
        {
            "samples": int(size),
            "accuracy": float(np.mean(column)),
            "deviation": None if sd is None else float(sd),
            "low": float(np.min(column)),
            "high": float(np.max(column)),
            "seeds": len(column),
        }
        for size, column, sd in zip(sizes, accuracy.T, deviation, strict=True)
    ]
    work.write_csv("band.csv", band)
    work.write_csv("timings.csv", work.timings())


def show(work: Workdir) -> str:
    """Draws the measured curve with its fits; returns the text."""
    figures.draw(work, "curve", figures.measured_curve, (7, 4))
    return text.curve(work)


def headline(work: Workdir) -> list[dict[str, Any]]:
    """The accuracy with all data, and how well the chosen fit fits."""
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
    results=lambda settings: f"results/curve_{pathlib.Path(settings.dataset).stem}",
    headline=headline,
    collected=("band.csv",),
    resources=("data_dir", "workers", "cache"),
)
