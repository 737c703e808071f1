"""Runs a study on a measured curve: its jobs, its table as CSV, JSON and text, its figure."""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

from matplotlib import figure as figures

from fedgame import registry
from fedgame.experiments import jobs, plots, storage
from fedgame.experiments.studies import base, rows
from fedgame.experiments.studies import settings as all_settings


def read(settings: all_settings.Settings) -> base.Ground:
    """What the study begins with.

    Raises:
      ValueError: a setting that is not allowed, or a curve that cannot be used.
      FileNotFoundError: there is no such file.
    """
    all_settings.check(settings)
    capacity, (cost,) = (settings.capacity or (100,))[0], settings.cost
    measured = rows.read_curve(settings.curve, settings.fit)
    return base.Ground(measured, settings.agents, capacity, cost, settings.p, settings.seed)


def digest(settings: all_settings.Settings) -> str:
    """Equal for equal measurements only."""
    return hashlib.sha256(pathlib.Path(settings.curve).read_bytes()).hexdigest()


def run(settings: all_settings.Settings, ground: base.Ground, work: storage.Workdir) -> str:
    """Solves, writes `study_NAME.csv`, `.json` and `.png`, and returns the table as text."""
    study = all_settings.study_of(settings)
    name = f"study_{registry.name_of(type(study))}"
    computed = {key: (1, functools.partial(_rows, one)) for key, one in study.jobs(ground).items()}
    found = jobs.run(study.label, computed, work, workers=1)
    table: list[dict[str, Any]] = [row for done in found.values() for row in done["rows"]]
    work.write_csv(f"{name}.csv", table)
    work.write_json(f"{name}.json", table)

    def figure(work: storage.Workdir, fig: figures.Figure) -> None:
        study.figure(work.read_csv(f"{name}.csv"), fig)

    plots.draw(work, name, figure, study.size)
    return study.text(table)


def _rows(compute: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    return {"rows": compute()}
