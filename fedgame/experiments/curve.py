"""The server's accuracy curve ã, measured and fitted: `launch.curve`, first part of `launch.compare`."""

import functools
import pathlib

import jax
import numpy as np

from fedgame.experiments import jobs, plots, storage, tables, training
from fedgame.games import curves
from fedgame.learning import curve as learning_curve


def measure(
    task: training.Task, work: storage.Workdir, workers: int, cache: pathlib.Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Trains on the server's own images at every size and seed; writes `curve.csv`.

    Args:
      task: from `training.prepare`.
      work: where finished runs are kept.
      workers: training runs at a time.
      cache: directory of accuracies measured by any run, under a key of all that determines them.

    Returns:
      Sizes [k] and accuracies [seeds, k].
    """
    settings = task.settings
    total = max(settings.sizes or (sum(settings.capacity),))
    sizes = learning_curve.grid(total, settings.curve_points, settings.agents, settings.interval).tolist()
    sizes = sorted({0, *settings.sizes}) if settings.sizes else sizes
    shared = training.fingerprint(task, [], task.server) if cache else {}

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
        return {"accuracy": storage.cached(cache, what, train)}

    names = {(seed, size): f"curve/{seed}-{size}" for seed in range(settings.curve_seeds) for size in sizes}
    todo = {
        name: (size, functools.partial(accuracy, size, seed, name)) for (seed, size), name in names.items()
    }
    done = jobs.run("measuring the accuracy curve", todo, work, workers)
    rows = [
        {"samples": size, "seed": seed, "accuracy": done[name]["accuracy"]}
        for (seed, size), name in names.items()
    ]
    work.write_csv("curve.csv", rows)
    measured = [row["accuracy"] for row in rows]
    return np.asarray(sizes), np.reshape(measured, (settings.curve_seeds, len(sizes)))


def run(
    task: training.Task, work: storage.Workdir, workers: int | None = None, cache: pathlib.Path | None = None
) -> str:
    """Measures ã, fits every family that it can, and leaves tables and a figure; returns their text."""
    sizes, accuracy = measure(task, work, task.workers(workers), cache)
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
    plots.draw(work, "curve", plots.measured_curve, (7, 4))
    return tables.band_text(band) + "\n\n" + tables.fits_text(summary)
