"""From two agents to a thousand, all alike: total data and welfare with and without payments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedgame.experiments.studies import base, rows
from fedgame.registry import option, register
from fedgame.report import tables

if TYPE_CHECKING:
    from matplotlib import figure


@register("agents")
class Agents(base.Study):
    """From two agents to a thousand, all alike: total data and welfare with and without payments."""

    over: ClassVar[str] = "agents"
    size: ClassVar[tuple[float, float]] = (11, 4)
    uses: ClassVar[tuple[str, ...]] = ("capacity", "cost")

    counts: tuple[int, ...] = option(
        "numbers of agents to go through",
        (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
        low=2,
        high=1_000_000,
        kind=int,
    )

    def jobs(self, ground: base.Ground) -> dict[str, Callable]:
        """One for each number of agents."""
        ground = ground._replace(p=(1.0,))  # utilities are equal, so all p-means are the mean
        return {f"agents/{n}": functools.partial(self.at, ground, n) for n in self.counts}

    def at(self, ground: base.Ground, n: int) -> list[dict[str, Any]]:
        """The rows of n agents."""
        table = ground.rows(ground.game(np.full(n, ground.cost)), ("none", "beta_star"), alone=False)
        return [{"agents": n} | row for row in table]

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """Total data, accuracy and mean utility by number of agents, as Markdown."""
        header = {
            "agents": "n",
            "mechanism": "mechanism",
            "beta": "β",
            "total": "S, samples",
            "accuracy": "accuracy",
            **rows.first_power(table),
            "share_of_first_best": "share of first best",
            "nash_gap": "Nash gap",
            "extrapolated": "S not measured",
        }
        return tables.table(header, table)

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """The usual figure, with logarithmic axes."""
        super().figure(table, fig)
        for ax in fig.axes:
            ax.set(xscale="log", xlabel="number of agents n")
        fig.axes[0].set_yscale("log")
