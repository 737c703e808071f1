"""Costs that differ more and more: β* against 1 - 1/n, personal rates, and the first best."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fedgame.experiments.studies import base, rows
from fedgame.registry import option, register
from fedgame.report import figures, tables

if TYPE_CHECKING:
    from matplotlib import figure


@register("unequal_costs")
class UnequalCosts(base.Study):
    """Costs that differ more and more: β* against 1 - 1/n, personal rates, and the first best."""

    over: ClassVar[str] = "ratio"
    uses: ClassVar[tuple[str, ...]] = ("agents", "capacity", "cost", "p")

    ratios: tuple[float, ...] = option(
        "largest cost divided by the smallest, costs being spaced geometrically",
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        low=1,
        kind=float,
    )

    def jobs(self, ground: base.Ground) -> dict[str, Callable]:
        """One for each ratio of the largest cost to the smallest."""
        return {f"ratio/{ratio:g}": functools.partial(self.at, ground, ratio) for ratio in self.ratios}

    def at(self, ground: base.Ground, ratio: float) -> list[dict[str, Any]]:
        """The rows of one ratio."""
        game = ground.game(rows.spaced(ground.cost, ratio, ground.agents))
        return [{"ratio": ratio} | row for row in ground.rows(game)]

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """Data and welfare by ratio and mechanism, as Markdown."""
        header = {
            "ratio": "max/min cost",
            "mechanism": "mechanism",
            "beta": "β (mean β_i)",
            "total": "S, samples",
            "contributors": "contributors",
            **rows.powers_of(table),
            "rather_alone": "better alone",
            "nash_gap": "Nash gap",
            "extrapolated": "S not measured",
        }
        return tables.table(header, table)

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Draws welfare by the first and the last p, and total data, over the ratio of costs."""
        powers = rows.powers_of(table)
        names = list(powers)
        shown = {name: powers[name] for name in (names[0], names[-1])}
        shown["total"] = "total data S, samples"
        axes, color = fig.subplots(1, len(shown)), figures.colors([row["mechanism"] for row in table])
        for ax, (column, label) in zip(axes, shown.items(), strict=True):
            for name, mine in tables.by(table, "mechanism").items():
                figures.line(ax, "ratio", column, name, mine, color[name])
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set(xlabel="largest cost / smallest cost", title=label)
        fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
