"""The contract of a study, what studies begin with, and the experiment that each of them is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.experiments import curve
from fedgame.experiments import task as tasks
from fedgame.experiments.studies import rows
from fedgame.games import costs, curves
from fedgame.games import game as games
from fedgame.registry import option
from fedgame.report import figures, tables
from fedgame.runs import jobs
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

if TYPE_CHECKING:
    from matplotlib import figure

STUDIES = registry.kind("study", registry.a_choice)


@dataclasses.dataclass(frozen=True)
class OnCurve:
    """Settings of studies of a measured curve: `curve`, `fit`, and what each says that it `uses`."""

    curve: str = option("CSV file of a measured curve: samples, accuracy", "examples/mnist_curve.csv")
    fit: str = option(
        "shape of the fitted ã: any concave curve, a power law, bound (2), or a payoff of yours with a `fit`",
        "concave",
        choices=curves.fits,
    )
    agents: int = option("n, number of agents", 10, low=2)
    capacity: int = option("τ, samples of an agent", 100, low=1)
    cost: float = option("c, cost per sample, or the geometric mean of unequal ones", 0.005, above=0)
    p: tuple[float, ...] = option(
        "of the p-means of utilities", (1.0, 0.2, 0.0, float("-inf")), high=1, kind=float, infinite=True
    )
    seed: int = option("of every random choice", 0, low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Training(curve.Settings):
    """Settings of studies that train: those of a measured curve, costs and the p of p-means."""

    cost: tuple[float, ...] = option(
        "c, cost per sample, one number or one per agent", (0.005,), above=0, kind=float
    )
    p: tuple[float, ...] = option(
        "of the p-means of utilities", (1.0, 0.2, 0.0, float("-inf")), high=1, kind=float, infinite=True
    )


class Ground(NamedTuple):
    """What a study begins with: a measured curve, and agents who are alike unless it makes them differ."""

    measured: rows.Measured
    agents: int  # n
    capacity: float  # samples of each
    cost: float  # per sample
    p: tuple[float, ...]  # of the p-means in tables
    seed: int

    def game(self, cost: Any = None) -> games.Game:
        """The game on the measured curve; `cost`: per sample, one number or [n], instead of its own."""
        cost = np.full(self.agents, self.cost) if cost is None else np.asarray(cost, float)
        cost = np.full(self.agents, cost) if cost.ndim == 0 else cost
        linear, capacity = costs.LinearCost(jnp.asarray(cost)), np.full(len(cost), float(self.capacity))
        return games.check(games.Game(self.measured.fit.payoff, linear, capacity))

    def rows(self, game: games.Game, names: Sequence[str] = rows.RULES, alone: bool = True) -> list[dict]:
        """A row for what comes of each rule, by its text, and one for the first best.

        Args:
          game: without payments.
          names: of rules.
          alone: also how many agents would have more by training alone.
        """
        return rows.rows_of(game, rows.outcomes_of(game, names), self.measured.longest, self.p, alone)


class Study:
    """What happens to equilibria and welfare as one thing changes; a command of `launch.study`.

    A study is a class with a name, see `registry.register`, whose fields, made by `registry.option`, are what
    people choose. Only `jobs` has to be defined.
    """

    kind: ClassVar[str] = "study"
    label: ClassVar[str]
    over: ClassVar[str] = ""  # the column over which the figure is drawn; "": the first one
    size: ClassVar[tuple[float, float]] = (10, 4.5)  # of the figure, inches
    # The settings of `OnCurve` that determine its results, beside the curve and its fit.
    uses: ClassVar[tuple[str, ...]] = ("agents", "capacity", "cost", "p", "seed")
    # Whether it trains, by `train`, instead of reading a measured curve; its settings are of `Training`.
    trains: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str | bool | None) and not field.metadata.get("of"):
                registry.check_number(f"`{field.name}`", value, field)

    def jobs(self, ground: Ground) -> dict[str, Callable[[], list[dict[str, Any]]]]:
        """By name, functions that return rows of the table: JSON values, the same columns in all."""
        raise NotImplementedError

    def train(self, task: tasks.Task, work: Workdir, resources: Resources) -> list[dict[str, Any]]:
        """Instead of `jobs`, of a study that `trains`: returns the rows of the table.

        Args:
          task: images, agents, network; its settings are those of `Training` and the study's options.
          work: where finished runs are kept, and any other file.
          resources: number of training runs at a time, and a cache.
        """
        raise NotImplementedError

    def show(self, work: Workdir) -> str:
        """Draws the figure and returns the text, from the files of the directory alone."""
        name = file_of(type(self))
        table = work.read_csv(f"{name}.csv")
        figures.draw(work, name, lambda _, fig: self.figure(table, fig), self.size)
        return self.text(table)

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """The table as Markdown; by default its own columns, and most of those of `rows.outcome_row`."""
        shown = (name for name in table[0] if name not in rows.UNTOLD)
        header = {name: rows.HEADER.get(name, name.replace("_", " ")) for name in shown}
        return tables.table(header | rows.powers_of(table), table)

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Draws the table, as it is read from its file.

        By default total data, the first p-mean and the share of the first best, those that are there, else
        all other columns of numbers, over the column `over`; a line for each mechanism.
        """
        x = self.over or next(iter(table[0]))
        shown = {"total": "total data S, samples"} | dict(list(rows.powers_of(table).items())[:1])
        shown |= {"share_of_first_best": "share of the first best"}
        shown = {name: label for name, label in shown.items() if name in table[0]}
        others = (name for name in table[0] if name != x and tables.numeric(table, name))
        shown = shown or {name: name.replace("_", " ") for name in others}
        groups = tables.by(table, "mechanism") if "mechanism" in table[0] else {"": table}
        axes = fig.subplots(1, max(len(shown), 1), squeeze=False)[0]
        color = figures.colors(groups)
        for ax, (column, label) in zip(axes, shown.items(), strict=False):
            for name, mine in groups.items():
                figures.line(ax, x, column, name, mine, color[name])
            ax.set(xlabel=x.replace("_", " "), title=label)
        if "mechanism" in table[0]:
            entries = axes[0].get_legend_handles_labels()
            fig.legend(*entries, loc="outside lower center", ncols=5, frameon=False)


def file_of(study: type[Study]) -> str:
    """How the files of a study's table and figure are called."""
    return f"study_{registry.name_of(study)}"


class Prepared(NamedTuple):
    """Settings, the study that they name, and what it begins with."""

    settings: Any
    study: Study
    ground: Ground | tasks.Task  # the second of a study that trains

    @property
    def digests(self) -> dict[str, str]:
        return self.ground.digests if self.study.trains else {}


def experiment_of(study: type[Study]) -> Experiment:
    """The experiment that a study is, with settings of its own."""
    settings = _settings_of(study)
    return Experiment(
        program="launch.study",
        settings=settings,
        check=functools.partial(_check, study),
        prepare=functools.partial(_prepare, study),
        compute=_compute,
        show=lambda work: _stored(settings, work).show(work),
        results=lambda _: f"results/{registry.name_of(study)}",
        headline=lambda work: work.read_csv(f"{file_of(study)}.csv"),
        collected=(f"{file_of(study)}.csv",),
        resources=("data_dir", "workers", "cache") if study.trains else (),
    )


def flags_of(study: type[Study]) -> tuple[str, ...]:
    """The names of all that can be chosen with a study: its settings, and resources if it trains."""
    experiment = experiment_of(study)
    more = (*experiment.resources, "save_every") if experiment.resources else ()
    return (*(field.name for field in dataclasses.fields(experiment.settings)), *more)


def _settings_of(study: type[Study]) -> type:
    """A dataclass of the settings that a study uses: its text, what it begins with, its options."""
    named = option("what to look at", registry.name_of(study), of="study", kind=str)
    fields = [("study", str, named)]
    for field in (*_shared(study), *_own(study).values()):
        default = None if field.default is dataclasses.MISSING else field.default
        copied = dataclasses.field(default=default, metadata=field.metadata)
        fields.append((field.name, field.type, copied))
    return dataclasses.make_dataclass("Settings", fields, frozen=True)


def _shared(study: type[Study]) -> list[dataclasses.Field]:
    """The settings that a study begins with."""
    if study.trains:
        return list(dataclasses.fields(Training))
    return [field for field in dataclasses.fields(OnCurve) if field.name in ("curve", "fit", *study.uses)]


def _own(study: type[Study]) -> dict[str, dataclasses.Field]:
    """The options of a study that are settings too: those whose names no shared setting has."""
    taken = {"study", *(field.name for field in _shared(study))}
    return {name: field for name, field in registry.options(study).items() if name not in taken}


def study_of(settings: Any) -> Study:
    """The study that the text `study` names; other settings are used where it leaves an option open.

    Raises:
      ValueError: it names none, or an option is given twice.
    """
    with all_settings.of_flag("study"):
        name, left = registry.left_open("study", settings.study)
    if any(option_name not in dir(settings) for option_name in _own(STUDIES[name])):
        raise ValueError(f"--study={settings.study}: another study has other settings; it is another run")
    given, defaults = {}, {field.name: field.default for field in dataclasses.fields(settings)}
    for option_name in _own(STUDIES[name]):
        value = getattr(settings, option_name)
        if value == defaults[option_name]:
            continue
        if option_name not in left:
            raise ValueError(f"--{option_name} has no use with --study={settings.study}, which says it")
        given[option_name] = value
    with all_settings.of_flag("study"):
        return registry.read("study", settings.study, {name: given})


def _stored(settings: type, work: Workdir) -> Study:
    """The study whose run is in a directory."""
    stored = work.read_json("config.json")["settings"]
    values = {field.name: stored[field.name] for field in dataclasses.fields(settings)}
    return study_of(settings(**{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}))


def _check(study: type[Study], settings: Any, resources: Resources = Resources()) -> None:
    all_settings.check(settings)
    if type(study_of(settings)) is not study:
        raise ValueError(f"--study={settings.study}: another study has other settings; it is another run")
    if study.trains:
        tasks.check(settings, _settle, resources.data_dir)


def _prepare(study: type[Study], settings: Any, resources: Resources = Resources()) -> Prepared:
    if study.trains:
        all_settings.check(settings)
        task = tasks.prepare(settings, _settle, resources.data_dir)
        return Prepared(task.settings, study_of(settings), task)
    _check(study, settings, resources)
    begins = {name: getattr(settings, name, getattr(OnCurve, name)) for name in Ground._fields[1:]}
    ground = Ground(rows.read_curve(settings.curve, settings.fit), **begins)
    return Prepared(settings, study_of(settings), ground)


def _settle(settings: Any, available: tuple[int, int]) -> tuple[Any, tasks.Needed]:
    all_settings.one_for_each("cost", settings.cost, settings.agents)
    return curve.settle(settings, available)


def _compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Writes `study_NAME.csv` and `study_NAME.json`."""
    study, name = prepared.study, file_of(type(prepared.study))
    if study.trains:
        table = study.train(prepared.ground, work, resources)
    else:
        todo = {key: (1, functools.partial(_rows, one)) for key, one in study.jobs(prepared.ground).items()}
        found = jobs.run(study.label, todo, work, workers=1)
        table = [row for done in found.values() for row in done["rows"]]
    work.write_csv(f"{name}.csv", table)
    work.write_json(f"{name}.json", table)


def _rows(compute: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    return {"rows": compute()}
