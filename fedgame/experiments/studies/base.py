"""The contract of a study, and what studies begin with."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib import figure as figures

from fedgame import registry
from fedgame.experiments import plots
from fedgame.experiments.studies import rows
from fedgame.games import costs
from fedgame.games import game as games

STUDIES = registry.kind("study", registry.a_choice)


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
    # The settings that determine its results, beside its own options, the curve and its fit.
    uses: ClassVar[tuple[str, ...]] = ("agents", "capacity", "cost", "p", "seed")
    trains: ClassVar[bool] = False  # by `train`, instead of reading a measured curve: see `label_skew`

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str | bool | None) and not field.metadata.get("of"):
                registry.check_number(f"`{field.name}`", value, field)

    def jobs(self, ground: Ground) -> dict[str, Callable[[], list[dict[str, Any]]]]:
        """By name, functions that return rows of the table: JSON values, the same columns in all."""
        raise NotImplementedError

    def train(
        self, task: Any, work: Any, workers: int | None = None, cache: pathlib.Path | None = None
    ) -> str:
        """Instead of `jobs`, of a study that `trains`: writes its files and returns its text.

        Args:
          task: a `training.Task`.
          work: a `storage.Workdir`.
          workers: training runs at a time; one per processor if None.
          cache: directory of measured accuracies.
        """
        raise NotImplementedError

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """The table as Markdown; by default its own columns, and most of those of `rows.outcome_row`."""
        shown = (name for name in table[0] if name not in rows.UNTOLD)
        header = {name: rows.HEADER.get(name, name.replace("_", " ")) for name in shown}
        return rows.table(header | rows.powers_of(table), table)

    def figure(self, table: list[dict[str, str]], fig: figures.Figure) -> None:
        """Draws the table, as it is read from its file.

        By default total data, the first p-mean and the share of the first best, those that are there, else
        all other columns of numbers, over the column `over`; a line for each mechanism.
        """
        x = self.over or next(iter(table[0]))
        shown = {"total": "total data S, samples"} | dict(list(rows.powers_of(table).items())[:1])
        shown |= {"share_of_first_best": "share of the first best"}
        shown = {name: label for name, label in shown.items() if name in table[0]}
        others = (name for name in table[0] if name != x and plots.numeric(table, name))
        shown = shown or {name: name.replace("_", " ") for name in others}
        groups = plots.by(table, "mechanism") if "mechanism" in table[0] else {"": table}
        axes = fig.subplots(1, max(len(shown), 1), squeeze=False)[0]
        for ax, (column, label) in zip(axes, shown.items(), strict=False):
            for name, mine in groups.items():
                rows.line(ax, x, column, name, mine)
            ax.set(xlabel=x.replace("_", " "), title=label)
        if "mechanism" in table[0]:
            entries = axes[0].get_legend_handles_labels()
            fig.legend(*entries, loc="outside lower center", ncols=5, frameon=False)
