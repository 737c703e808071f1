"""What members agree on before they train on tables that nobody has all of: columns, classes, scaling."""

import dataclasses
import pathlib
import urllib.parse
from typing import Any

import numpy as np

from fedgame.experiments import trained
from fedgame.inputs import federated_statistics
from fedgame.learning import models
from fedgame.registry import option
from fedgame.report import page, text
from fedgame.runs import digests, experiment
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of `launch.agree`."""

    statistics: str | None = option(
        "folder with a file of each member, MEMBER.json, that launch.member --statistics wrote",
        None,
        kind=pathlib.Path,
    )
    model: str = option("the network", "linear", choices=("linear", "mlp"))


@dataclasses.dataclass(frozen=True)
class Prepared(experiment.Prepared):
    """What members tell, and what follows."""

    settings: Settings
    files: dict[str, pathlib.Path]  # by member's name
    told: dict[str, federated_statistics.Statistics]
    agreed: federated_statistics.Agreed

    @property
    def digests(self) -> dict[str, str]:
        """Of each member's file."""
        return {f"statistics of {name}": digests.of(file) for name, file in self.files.items()}


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `prepare`."""
    prepare(settings, resources)


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """Reads what members tell.

    Raises:
      ValueError: a file has no statistics, or they do not fit together.
      FileNotFoundError: there is no such folder.
    """
    all_settings.check(settings)
    if settings.statistics is None:
        raise ValueError("give --statistics=FOLDER, with a file of each member")
    with all_settings.of_flag("statistics"):
        folder = pathlib.Path(settings.statistics)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        files = {urllib.parse.unquote(file.stem): file for file in sorted(folder.glob("*.json"))}
        told = {name: federated_statistics.load(file) for name, file in files.items()}
        return Prepared(settings, files, told, federated_statistics.agreed(told))


def compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Writes a model that has not been trained, for --like, and a table of its columns."""
    agreed = prepared.agreed
    model = models.PRESETS[prepared.settings.model].clone(classes=len(agreed.classes))
    trained.save_agreed(work, model, agreed.classes, agreed.preparation, agreed.target)
    work.write_csv("columns.csv", _columns(agreed))
    summary = {
        "target": agreed.target,
        "classes": agreed.classes,
        "records": {name: own.records for name, own in prepared.told.items()},
    }
    work.write_json("agreed.json", summary)
    work.write_json("remarks.json", {"remarks": agreed.remarks})


def _columns(agreed: federated_statistics.Agreed) -> list[dict[str, Any]]:
    """A row per column: of numbers, how they are scaled; of texts, which there are."""
    preparation = agreed.preparation
    schema = preparation.schema
    rows = [
        {
            "column": name,
            "mean": float(preparation.mean[k]),
            "deviation": float(preparation.deviation[k]),
            "has_gaps": schema.gaps[k],
            "texts": None,
        }
        for k, name in enumerate(schema.numbers)
    ]
    return rows + [{"column": name, "texts": ", ".join(known)} for name, known in schema.categories.items()]


def show(work: Workdir) -> str:
    """Returns who told what, and what was agreed."""
    return page.write(work, text.agreement(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """How many records, members and columns there are."""
    records = work.read_json("agreed.json")["records"]
    rows = work.read_csv("columns.csv", text=("column",))
    return [{"members": len(records), "records": int(np.sum([*records.values()])), "columns": len(rows)}]


EXPERIMENT = Experiment(
    program="launch.agree",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: "results/agreed",
    headline=headline,
    collected=(),
)
