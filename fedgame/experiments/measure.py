"""What members' records are worth to each other: models of many mixtures of them, on everybody's own.

Nobody's records of the reserve are trained on or tested on.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import numpy as np

from fedgame.experiments import mixtures, validation
from fedgame.experiments import rows as all_rows
from fedgame.experiments import task as tasks
from fedgame.experiments.task import Task
from fedgame.games import exchange_rates as fitted_rates
from fedgame.inputs import exchange_rates, fits
from fedgame.inputs import mixtures as files
from fedgame.learning import evaluation, members
from fedgame.learning import mixtures as learning
from fedgame.registry import option
from fedgame.report import figures, page, text
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

_PER_MEMBER = 40  # mixtures, by default
_WAVE = 16  # mixtures per member that --minutes measures before it looks at the time again


@dataclasses.dataclass(frozen=True)
class Design:
    """How many models are trained to see what records are worth."""

    runs: int | None = option(
        "--federation: mixtures of the members' records to train on; 40 per member if not given",
        None,
        low=1,
        high=1_000_000,
        kind=int,
    )
    minutes: float | None = option(
        "--federation: instead of --runs, as many mixtures as are measured in this time",
        None,
        above=0,
        kind=float,
    )
    splits: int = option(
        "--federation: splits into training and held-out records, per mixture", 12, low=2, high=10_000
    )


@dataclasses.dataclass(frozen=True)
class Settings(validation.Settings, Design, tasks.OwnSettings):
    """Settings of `launch.measure`."""


def settle(settings: Any, available: None) -> tuple[Any, tasks.Needed]:
    """The settings as they are: nothing depends on how many images there are; see `task.Settle`."""
    return settings, tasks.NOTHING


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `task.check`; also a ValueError if there is no --federation, or --runs is too small."""
    prepare(settings, resources)


def prepare(settings: Settings, resources: Resources = Resources()) -> Task:
    """The members' records, the model and its training; raises as `check`."""
    if not settings.federation:
        raise ValueError("give --federation=FOLDER, with the data of each member")
    task = tasks.prepare(settle, settings, resources)
    check_design(settings, len(task.own.federation.names))
    if settings.validate:
        validation.check_reserve(task)
    return task


def check_design(settings: Design, n: int) -> None:
    """Raises a ValueError if fewer mixtures are asked for than tell what n members' records are worth."""
    if settings.runs is not None and settings.minutes is not None:
        raise ValueError("--runs and --minutes exclude each other")
    if settings.runs is not None and settings.runs < _least(n):
        raise ValueError(f"--runs={settings.runs}: {n} members need at least {_least(n)} mixtures")


def _least(n: int) -> int:
    """The number of mixtures that n members need: the first ones of `design`, and twice the parameters."""
    return max(learning.structural(n) + 2, 2 * (n + 3))


def measure(task: Task, work: Workdir, resources: Resources) -> fitted_rates.Mixtures:
    """Trains on mixtures; writes `mixtures.csv`, `measurements.csv`, `curve.csv` and, if need be, a remark.

    Args:
      task: with data of the members' own.
      work: where finished runs are kept.
      resources: number of runs at a time, and a cache.
    """
    settings, own = task.settings, task.own
    most = members.trainable(own.federation, own.shares)
    n, splits = len(most), range(settings.splits)
    train = functools.partial(mixtures.measure, task, splits=splits, work=work, resources=resources)
    if settings.minutes is None:
        samples = learning.design(most, settings.runs or _PER_MEMBER * n, settings.seed)
        found = train(samples)
    else:
        samples, found = _in_time(task, most, train, work, task.workers(resources.workers))
    # Rounded as they are written, so that who reads them fits the same numbers.
    measured = fitted_rates.Mixtures(own.federation.names, samples.astype(float), np.round(found, 6))
    _write(work, measured, settings.metric)
    largest = np.argmax(np.sum(samples, axis=1))
    accuracy, labels = float(np.nanmean(found[largest])), np.asarray(task.split(0).test.labels)
    what = f"on {np.sum(samples[largest])} records"
    tasks.write_if_nothing_is_learnt(task, work, what, accuracy, labels)
    return measured


def _in_time(
    task: Task, most: np.ndarray, train: Any, work: Workdir, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples and what was measured, of as many mixtures as the minutes allow, but of enough.

    The time of each wave is that which its jobs took when they were computed. So a resumed run measures no
    more than one that was not killed. How many it were is kept, in `design.json`: one that was finished
    measures the same again, with however many workers.
    """
    settings, n = task.settings, len(most)
    samples, found, spent = np.zeros((0, n), int), [], 0.0
    number, decided = _least(n), None
    if work.has("design.json"):
        decided = work.read_json("design.json")["mixtures"]
    while len(samples) != decided:
        more = learning.design(most, number, settings.seed)[len(samples) :]  # it begins with the earlier ones
        if not len(more):  # of few records there are few mixtures
            break
        samples = np.concatenate([samples, more])
        found.append(train(more))
        spent += mixtures.seconds(task, more, range(settings.splits), work, workers)
        number = len(samples) + _WAVE * n
        if decided is None and spent * number / len(samples) > 60 * settings.minutes:
            break
    work.write_json("design.json", {"mixtures": len(samples)})
    return samples, np.concatenate(found)


def _write(work: Workdir, measured: fitted_rates.Mixtures, metric: str) -> None:
    """Writes the files that --measurements and --curve read."""
    names = [f"m{number:0{len(str(len(measured.samples) - 1))}}" for number in range(len(measured.samples))]
    work.write_csv(
        files.MIXTURES,
        [
            {"mixture": mixture, "member": member, "samples": int(s)}
            for mixture, row in zip(names, measured.samples, strict=True)
            for member, s in zip(measured.members, row, strict=True)
        ],
    )
    work.write_csv(
        files.MEASUREMENTS,
        [
            {"mixture": mixture, "split": split, "member": member, "accuracy": float(a), "metric": metric}
            for mixture, by_split in zip(names, measured.accuracy, strict=True)
            for split, row in enumerate(by_split)
            for member, a in zip(measured.members, row, strict=True)
            if np.isfinite(a)
        ],
    )
    mean = evaluation.mean_of(metric, measured.accuracy)  # [m, k]
    totals = np.sum(measured.samples, axis=1).astype(int)
    work.write_csv(
        "curve.csv",
        [
            {"samples": int(totals[m]), "accuracy": round(float(a), 6)}
            for m in np.argsort(totals, kind="stable")
            for a in mean[m]
            if np.isfinite(a)
        ],
    )


def compute(task: Task, work: Workdir, resources: Resources = Resources()) -> None:
    """Measures mixtures and fits exchange rates to them.

    Writes `mixtures.csv` and `measurements.csv` (for --measurements), what was fitted to them
    (`exchange_fits.json`), `curve.csv` (the mean over members of what was measured at each total, for
    --curve), `exchange_rates.csv`, `worth.csv` (what each member has of whose records),
    `agents_template.csv`, `measure.json`, `timings.csv` and, with --validate, `validation.csv` and
    `validation.json`.
    """
    settings = task.settings
    tasks.write_remarks(task, work)
    measured = measure(task, work, resources)
    found = fits.fitted(measured, metric=settings.metric)
    fits.write(work, measured, found)
    fit = found.fit
    low, high = found.intervals or (None, None)
    work.write_csv(exchange_rates.FILE, exchange_rates.rows(measured.members, fit.rates, low, high))
    worth = _worth(task, measured)
    work.write_csv("worth.csv", worth)
    work.write_json(
        "measure.json",
        {
            "federation": str(pathlib.Path(os.path.expanduser(settings.federation)).resolve()),
            "metric": settings.metric,
            "model": settings.model,
            "mixtures": len(measured.samples),
            "splits": settings.splits,
            "exchange": all_rows.exchange_of(found, measured.members),
            "curves": [
                {"member": name, **{key: float(x) for key, x in dataclasses.asdict(law).items()}}
                for name, law in zip(measured.members, fit.curves, strict=True)
            ],
        },
    )
    work.write_csv(
        "agents_template.csv",
        [{"name": row["member"], "cost": None, "capacity": row["trainable"], "value": None} for row in worth],
    )
    if settings.validate:
        validation.of_mixtures(task, measured, found, settings.validations, work, resources)
    work.write_csv("timings.csv", work.timings())


def _worth(task: Task, measured: fitted_rates.Mixtures) -> list[dict[str, Any]]:
    """One row per member: her records, and the metric with nobody's, hers alone, the others', everybody's."""
    most = members.trainable(task.own.federation, task.own.shares)
    mean = {
        tuple(row): evaluation.mean_of(task.settings.metric, found.T)
        for row, found in zip(measured.samples.astype(int).tolist(), measured.accuracy, strict=True)
    }
    table = []
    for i, name in enumerate(measured.members):
        alone = np.where(np.arange(len(most)) == i, most, 0)
        whose = {"nobody": 0 * most, "alone": alone, "others": most - alone, "all": most}
        of_whom = {key: float(mean[tuple(samples.tolist())][i]) for key, samples in whose.items()}
        table.append({
            "member": name,
            "records": int(task.own.federation.sizes[i]),
            "trainable": int(most[i]),
            **of_whom,
        })  # fmt: skip
    return table


def show(work: Workdir) -> str:
    """Draws the exchange rates as a heat map; returns the text."""
    figures.draw(work, "exchange_rates", figures.exchange_rates, (7, 5.5))
    return page.write(work, text.measurement(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """What all records and her own alone are worth to each member."""
    held = validation.headline(work)
    return [
        {"member": row["member"], "alone": row["alone"], "all": row["all"], **held}
        for row in work.read_csv("worth.csv", text=("member",))
    ]


EXPERIMENT = Experiment(
    program="launch.measure",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/measure_{pathlib.Path(settings.federation or '').stem}",
    headline=headline,
    collected=("worth.csv",),
    resources=("workers", "cache"),
)
