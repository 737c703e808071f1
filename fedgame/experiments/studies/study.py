"""Runs a study on a measured curve: its pieces of work, its table as CSV, JSON and text, its figure."""

import hashlib
import pathlib
from typing import Any

from fedgame.experiments import pieces, plots, storage
from fedgame.experiments.studies import agents, costs, misreports, rounding, rows, unequal_costs
from fedgame.experiments.studies import config as configs

STUDIES = {
    "unequal_costs": unequal_costs,
    "costs": costs,
    "agents": agents,
    "rounding": rounding,
    "misreports": misreports,
}


def read(config: configs.Config) -> rows.Curve:
    """The curve of the study.

    Raises:
      ValueError: a setting that is not allowed, or a curve that cannot be used.
      FileNotFoundError: there is no such file.
    """
    configs.check(config)
    return rows.read_curve(config)


def digest(config: configs.Config) -> str:
    """Equal for equal measurements only."""
    return hashlib.sha256(pathlib.Path(config.curve).read_bytes()).hexdigest()


def run(config: configs.Config, curve: rows.Curve, work: storage.Workdir) -> str:
    """Solves, writes `STUDY.csv`, `STUDY.json` and `STUDY.png`, and returns the table as text."""
    study = STUDIES[config.study]
    found = pieces.run(config.study.replace("_", " "), study.pieces(config, curve), work, workers=1)
    table: list[dict[str, Any]] = [row for piece in found.values() for row in piece["rows"]]
    work.write_csv(f"{config.study}.csv", table)
    work.write_json(f"{config.study}.json", table)
    plots.draw(work, config.study, study.figure, study.SIZE)
    return study.text(table)
