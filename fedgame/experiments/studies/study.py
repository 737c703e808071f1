"""Runs a study on a measured curve: its jobs, its table as CSV, JSON and text, its figure."""

import hashlib
import pathlib
from typing import Any

from fedgame.experiments import jobs, plots, storage
from fedgame.experiments.studies import agents, costs, misreports, rounding, rows, unequal_costs
from fedgame.experiments.studies import settings as all_settings

STUDIES = {
    "unequal_costs": unequal_costs,
    "costs": costs,
    "agents": agents,
    "rounding": rounding,
    "misreports": misreports,
}


def read(settings: all_settings.Settings) -> rows.Measured:
    """The curve of the study.

    Raises:
      ValueError: a setting that is not allowed, or a curve that cannot be used.
      FileNotFoundError: there is no such file.
    """
    all_settings.check(settings)
    return rows.read_curve(settings)


def digest(settings: all_settings.Settings) -> str:
    """Equal for equal measurements only."""
    return hashlib.sha256(pathlib.Path(settings.curve).read_bytes()).hexdigest()


def run(settings: all_settings.Settings, measured: rows.Measured, work: storage.Workdir) -> str:
    """Solves, writes `study_NAME.csv`, `.json` and `.png`, and returns the table as text."""
    study = STUDIES[settings.study]
    found = jobs.run(settings.study.replace("_", " "), study.jobs(settings, measured), work, workers=1)
    table: list[dict[str, Any]] = [row for done in found.values() for row in done["rows"]]
    work.write_csv(f"study_{settings.study}.csv", table)
    work.write_json(f"study_{settings.study}.json", table)
    plots.draw(work, f"study_{settings.study}", study.figure, study.SIZE)
    return study.text(table)
