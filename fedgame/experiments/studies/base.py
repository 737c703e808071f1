"""The contract of a study, what studies begin with, and the experiment that each of them is."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.experiments import curve as measuring
from fedgame.experiments import task as tasks
from fedgame.experiments.studies import rows
from fedgame.games import costs
from fedgame.games import game as games
from fedgame.registry import option
from fedgame.report import answers, figures, page, tables
from fedgame.runs import jobs
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

if TYPE_CHECKING:
    from matplotlib import figure

STUDIES = registry.kind("study", registry.a_choice)


def _powers() -> Any:
    """The option of the p that tables of studies have."""
    return option(
        "of the p-means of utilities", (1.0, 0.2, 0.0, float("-inf")), high=1, kind=float, infinite=True
    )


@dataclasses.dataclass(frozen=True)
class OnCurve:
    """Settings of studies on a measured curve. Each study has `curve`, `fit` and those that it `uses`."""

    curve: str = option(
        "CSV file of a measured curve: samples, accuracy", "examples/mnist_curve.csv", kind=pathlib.Path
    )
    fit: str = measuring.fit_option()
    agents: int = option("n, number of agents", 10, low=2, high=1_000_000)
    capacity: int = option("τ, samples of an agent", 100, low=1)
    cost: float = option("c, cost per sample, or the geometric mean of unequal ones", 0.005, above=0)
    p: tuple[float, ...] = _powers()
    seed: int = option("of every random choice", 0, low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Training(measuring.Settings):
    """Settings of studies that train: those of `launch.curve`, costs and the p of p-means."""

    cost: tuple[float, ...] = option(
        "c, cost per sample, one number or one per agent", (0.005,), above=0, kind=float
    )
    p: tuple[float, ...] = _powers()


class Ground(NamedTuple):
    """What a study begins with: a measured curve, and agents who are alike unless it makes them differ."""

    measured: rows.Measured
    agents: int  # n
    capacity: float  # samples of each
    cost: float  # per sample
    p: tuple[float, ...]  # of the p-means in tables
    seed: int

    def game(self, cost: Any = None) -> games.Game:
        """The game on the fitted curve, without payments.

        Args:
          cost: per sample, one number, or [n] which also says the number of agents; None: that of the ground.
        """
        cost = np.asarray(self.cost if cost is None else cost, float)
        if cost.ndim == 0:
            cost = np.full(self.agents, cost)
        capacity = np.full(len(cost), float(self.capacity))
        linear = costs.LinearCost(jnp.asarray(cost))
        return games.check(games.Game(self.measured.fit.payoff, linear, capacity))

    def rows(self, game: games.Game, names: Sequence[str] = rows.RULES, alone: bool = True) -> list[dict]:
        """A row for the outcome under each rule, and one for the first best.

        Args:
          game: without payments.
          names: the rules, by their texts.
          alone: whether to count the agents who would have more by training alone.
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
        # What a study compares may look like numbers.
        table = work.read_csv(f"{name}.csv", text=("mechanism",))
        figures.draw(work, name, lambda _, fig: self.figure(table, fig), self.size)
        return self.tell(work, table)

    def tell(self, work: Workdir, table: Sequence[dict[str, Any]], remarks: str = "") -> str:
        """Writes the page with what the study answers and its table; returns both as text."""
        sentences = self.answer(table)
        work.write_json(answers.FILE, {"sentences": sentences})
        blocks = remarks, "\n".join(sentences), self.text(table)
        return page.write(work, "\n\n".join(block for block in blocks if block))

    def answer(self, table: Sequence[dict[str, Any]]) -> list[str]:
        """What the table says, in sentences; by default which share of the first best mechanisms reach.

        That is told of the first and of the last value of the column `over`, if the table has rows for
        mechanisms; else nothing is told.
        """
        if not {"mechanism", "share_of_first_best"} <= table[0].keys():
            return []
        over = self.over or next(iter(table[0]))
        by_value = list(tables.by(table, over).items())
        ends = by_value if len(by_value) < 2 else (by_value[0], by_value[-1])
        name = over.replace("_", " ")
        return [rows.shares(f"{name} = {tables.cell(over, mine[0])}", mine) for _, mine in ends]

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """The table as Markdown; by default all columns but `rows.UNTOLD`."""
        shown = (name for name in table[0] if name not in rows.UNTOLD)
        header = {name: rows.HEADER.get(name, name.replace("_", " ")) for name in shown}
        return tables.table(header | rows.powers_of(table), table)

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Draws the table, as it is read from its file.

        By default it draws total data, the first p-mean and the share of the first best, those of them that
        are columns; if none is, all other columns of numbers. The x axis is the column `over`, and each
        mechanism has a line.
        """
        x = self.over or next(iter(table[0]))
        usual = {
            "total": "total data S, samples",
            **rows.first_power(table),
            "share_of_first_best": "share of the first best",
        }
        shown = {name: label for name, label in usual.items() if name in table[0]}
        if not shown:
            numeric = [name for name in table[0] if name != x and tables.numeric(table, name)]
            shown = {name: name.replace("_", " ") for name in numeric}
        by_mechanism = "mechanism" in table[0]
        groups = tables.by(table, "mechanism") if by_mechanism else {"": table}
        axes = fig.subplots(1, max(len(shown), 1), squeeze=False)[0]
        color = figures.colors(groups)
        for ax, (column, label) in zip(axes, shown.items(), strict=False):  # no column: one empty picture
            for name, mine in groups.items():
                figures.line(ax, x, column, name, mine, color[name])
            ax.set(xlabel=x.replace("_", " "), title=label)
        if by_mechanism:
            entries = axes[0].get_legend_handles_labels()
            fig.legend(*entries, loc="outside lower center", ncols=5, frameon=False)


def file_of(study: type[Study]) -> str:
    """The name of the files of a study's table and figure, without extension."""
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
    """A study as an experiment, with settings of its own."""
    settings = _settings_of(study)
    return Experiment(
        program="launch.study",
        settings=settings,
        check=functools.partial(_check, study),
        prepare=functools.partial(_prepare, study),
        compute=_compute,
        show=lambda work: _stored(settings, work).show(work),
        results=lambda _: f"results/{registry.name_of(study)}",
        headline=lambda work: work.read_csv(f"{file_of(study)}.csv", text=("mechanism",)),
        collected=(f"{file_of(study)}.csv",),
        resources=("data_dir", "workers", "cache") if study.trains else (),
    )


def flags_of(study: type[Study]) -> tuple[str, ...]:
    """The flags that a study has: its settings, and if it trains, the resources of training."""
    experiment = experiment_of(study)
    flags = [field.name for field in dataclasses.fields(experiment.settings)]
    if experiment.resources:
        flags += [*experiment.resources, "save_every"]
    return tuple(flags)


def _settings_of(study: type[Study]) -> type:
    """A dataclass of the settings of a study: its text, what it begins with, its options."""
    text = option("what to look at", registry.name_of(study), of="study", kind=str)
    fields = [("study", str, text)]
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
    """The study that the setting `study` names; other settings are used for options that it leaves open.

    Raises:
      ValueError: it names no study, or one with other settings; or an option is given twice.
    """
    with all_settings.of_flag("study"):
        name, left = registry.left_open("study", settings.study)
    own = _own(STUDIES[name])
    if not all(hasattr(settings, option_name) for option_name in own):
        raise ValueError(f"--study={settings.study}: another study has other settings; it is another run")
    given, defaults = {}, {field.name: field.default for field in dataclasses.fields(settings)}
    for option_name in own:
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
    values = {}
    for field in dataclasses.fields(settings):
        value = stored[field.name]
        values[field.name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    return study_of(settings(**values))


def _check(study: type[Study], settings: Any, resources: Resources = Resources()) -> None:
    all_settings.check(settings)
    if type(study_of(settings)) is not study:
        raise ValueError(f"--study={settings.study}: another study has other settings; it is another run")
    if study.trains:
        tasks.check(_settle, settings, resources)


def _prepare(study: type[Study], settings: Any, resources: Resources = Resources()) -> Prepared:
    if study.trains:
        all_settings.check(settings)
        task = tasks.prepare(_settle, settings, resources)
        return Prepared(task.settings, study_of(settings), task)
    _check(study, settings, resources)
    numbers = {}
    for name in ("agents", "capacity", "cost", "p", "seed"):
        default = getattr(OnCurve, name)  # of what the study does not use, so that it is no setting
        numbers[name] = getattr(settings, name, default)
    ground = Ground(rows.read_curve(settings.curve, settings.fit), **numbers)
    return Prepared(settings, study_of(settings), ground)


def _settle(settings: Any, available: tuple[int, int]) -> tuple[Any, tasks.Needed]:
    """As `curve.settle`; also checks the number of costs."""
    if settings.federation:
        raise ValueError("--federation: this study deals images itself")
    all_settings.one_for_each("cost", settings.cost, settings.agents)
    return measuring.settle(settings, available)


def _compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Writes `study_NAME.csv` and `study_NAME.json`."""
    study, name = prepared.study, file_of(type(prepared.study))
    if study.trains:
        tasks.write_remarks(prepared.ground, work)
        table = study.train(prepared.ground, work, resources)
    else:
        todo = {key: (1, functools.partial(_rows, job)) for key, job in study.jobs(prepared.ground).items()}
        found = jobs.run(study.label, todo, work, workers=1)
        table = [row for done in found.values() for row in done["rows"]]
    work.write_csv(f"{name}.csv", table)
    work.write_json(f"{name}.json", table)


def _rows(compute: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """The rows of a job as `jobs.run` wants them: in a dict."""
    return {"rows": compute()}
