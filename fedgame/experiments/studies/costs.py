"""Costs from small to large, equal and spread: who contributes, who would rather leave, welfare, data.

Unequal costs are lognormal around c: c exp(σ z - σ²/2) with mean c, the same draws of z at every c.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedgame import registry
from fedgame.experiments.studies import base, rows
from fedgame.games import game as games
from fedgame.mechanisms import outcomes
from fedgame.registry import option, register
from fedgame.report import figures, tables

if TYPE_CHECKING:
    from matplotlib import figure


_NAMES = ("none", "beta_star", "falkinger")  # of the rules that are compared


@register("costs")
class Costs(base.Study):
    """Costs from small to large, equal and spread: who contributes, who would rather leave, welfare, data."""

    over: ClassVar[str] = "cost"
    size: ClassVar[tuple[float, float]] = (11, 7)
    uses: ClassVar[tuple[str, ...]] = ("agents", "capacity", "seed", "p")

    costs: tuple[float, ...] = option(
        "costs per sample to go through",
        (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05),
        above=0,
        kind=float,
    )
    spread: float = option("standard deviation of the logarithm of unequal costs", 1.0, above=0)
    draws: int = option("draws of unequal costs", 20, low=1, high=10_000)

    def jobs(self, ground: base.Ground) -> dict[str, Callable]:
        """One for each cost with equal costs, and one for each cost and draw of unequal ones."""
        factors = {"equal": np.ones(ground.agents)}
        for k in range(self.draws):
            z = np.random.default_rng((ground.seed, k)).normal(size=ground.agents)
            factors[f"draw {k}"] = np.exp(self.spread * z - self.spread**2 / 2)
        return {
            f"{kind.replace(' ', '/')}/{cost:g}": functools.partial(self.at, ground, kind, cost, factor)
            for kind, factor in factors.items()
            for cost in self.costs
        }

    def at(self, ground: base.Ground, kind: str, cost: float, factor: np.ndarray) -> list[dict[str, Any]]:
        """The rows of agents whose costs per sample are `cost` times `factor` [n]."""
        game, found = ground.game(cost * factor), []
        for row in ground.rows(game, _NAMES):
            after = {"stay": None, "total_of_those": None}
            if row["mechanism"] != tables.FIRST_BEST:
                after = _if_agents_may_leave(game, row["mechanism"])
            found.append({"costs": kind, "cost": cost, **row, **after})
        return found

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """A row for each c, averages over draws of unequal costs, as Markdown."""
        found = [_line(mine) for mine in tables.by(averages(table), "costs", "cost").values()]
        header = {name: name for name in found[0] if name != "nash_gap"}
        header["nash_gap"] = "largest Nash gap"
        return tables.table(header, found)

    def answer(self, table: Sequence[dict[str, Any]]) -> list[str]:
        """The shares of the first best at the smallest and the largest cost, averages over draws."""
        by_cost = tables.by(averages(table), "costs", "cost")
        ends = sorted({min(self.costs), max(self.costs)})
        return [
            rows.shares(f"{kind} costs of {cost:g}", mine)
            for (kind, cost), mine in by_cost.items()
            if cost in ends
        ]

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Draws data, utility and the number of contributors over c; equal costs above unequal ones."""
        averaged = averages(table)
        shown = {
            "total": "total data S, samples",
            **rows.first_power(averaged),
            "contributors": "agents who contribute",
        }
        color = figures.colors([row["mechanism"] for row in averaged])
        axes = fig.subplots(2, len(shown), sharex=True, sharey="col")
        for across, kind in zip(axes, ("equal", "lognormal"), strict=True):
            mine = [row for row in averaged if row["costs"] == kind]
            for ax, (column, label) in zip(across, shown.items(), strict=True):
                for name, one in tables.by(mine, "mechanism").items():
                    figures.line(ax, "cost", column, name, one, color[name])
                ax.set(xscale="log", title=label if kind == "equal" else "")
            across[0].set_ylabel(f"{kind} costs")
        for ax in axes[-1]:
            ax.set_xlabel("mean cost per sample c")
        axes[0][0].set_yscale("symlog", linthresh=10)
        axes[0][0].set_ylim(0, None)
        entries = axes[0][0].get_legend_handles_labels()
        fig.legend(*entries, loc="outside lower center", ncols=4, frameon=False)


def _if_agents_may_leave(game: games.Game, name: str) -> dict[str, Any]:
    """How many agents stay under a rule, named by its text, and their total once the others have left."""
    found = outcomes.participation(game, registry.read("rule", name))
    total = 0.0
    if found.outcome is not None:
        rest = games.subset(game, found.stay)
        total = float(games.total(rest, found.outcome.equilibrium.profile))
    return {"stay": len(found.stay), "total_of_those": total}


def _line(mine: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the printed table, from the averages of all mechanisms at one cost."""
    first = next(iter(rows.powers_of(mine)))
    line: dict[str, Any] = {"costs": mine[0]["costs"], "c": mine[0]["cost"]}
    for row in mine:
        title = tables.title(row["mechanism"])
        if row["mechanism"] != tables.FIRST_BEST:
            line[f"S, {title}"] = row["total"]
            line[f"contribute, {title}"] = row["contributors"]
            line["nash_gap"] = max(line.get("nash_gap", 0.0), row["nash_gap"])
            would_leave = max(row["rather_alone"], row["rather_nothing"])
            line["would leave"] = max(line.get("would leave", 0.0), would_leave)
        line[f"utility, {title}"] = row[first]
    return line


def averages(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of equal costs, and the averages over draws of those of unequal costs.

    An average is None if the number is missing in some draw. Of Nash gaps the largest is taken.
    """
    kinds = [row | {"costs": "equal" if row["costs"] == "equal" else "lognormal"} for row in table]
    found = []
    for (kind, cost, name), mine in tables.by(kinds, "costs", "cost", "mechanism").items():
        averaged: dict[str, Any] = {"costs": kind, "cost": cost, "mechanism": name}
        for column in mine[0]:
            if column not in averaged and column not in ("nash_gap", "certified", "proved"):
                numbers = [row[column] for row in mine if row[column] is not None]
                averaged[column] = float(np.mean(numbers)) if len(numbers) == len(mine) else None
        gaps = [row["nash_gap"] for row in mine if row["nash_gap"] is not None]
        certified = all(row["certified"] is not False for row in mine)
        found.append(averaged | {"nash_gap": max(gaps) if gaps else None, "certified": certified})
    return found
