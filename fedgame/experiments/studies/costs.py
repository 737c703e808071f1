"""Costs from small to large, equal and spread: who contributes, who would rather leave, welfare, data.

Unequal costs are lognormal around c: c exp(σ z - σ²/2) with mean c, the same draws of z at every c.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as figures

from fedgame.experiments import storage, tables
from fedgame.experiments.studies import rows
from fedgame.experiments.studies import settings as all_settings
from fedgame.games import game as games
from fedgame.mechanisms import outcomes

SIZE = (11, 7)
_NAMES = ("no payments", "β*", "1 - 1/n")


def jobs(settings: all_settings.Settings, measured: rows.Measured) -> dict[str, tuple[float, Callable]]:
    """One for each cost with equal costs, and one for each cost and draw of unequal ones."""
    factors = {"equal": np.ones(settings.agents)}
    for k in range(settings.draws):
        z = np.random.default_rng((settings.seed, k)).normal(size=settings.agents)
        factors[f"draw {k}"] = np.exp(settings.spread * z - settings.spread**2 / 2)
    return {
        f"{kind.replace(' ', '/')}/{cost:g}": (
            1,
            functools.partial(_at, settings, measured, kind, cost, factor),
        )
        for kind, factor in factors.items()
        for cost in settings.costs
    }


def _at(
    settings: all_settings.Settings, measured: rows.Measured, kind: str, cost: float, factor: np.ndarray
) -> dict[str, Any]:
    game = rows.game_of(settings, measured.fit.payoff, cost * factor)
    found = []
    for row in rows.rows_of(game, rows.outcomes_of(game, _NAMES), measured.longest, settings.p):
        after = {"stay": None, "total_of_those": None}
        if row["mechanism"] in rows.RULES:
            left = outcomes.participation(game, rows.RULES[row["mechanism"]])
            there = 0.0
            if left.outcome is not None:
                rest = games.subset(game, left.stay)
                there = float(tables.total(rest, left.outcome.equilibrium.profile))
            after = {"stay": len(left.stay), "total_of_those": there}
        found.append({"costs": kind, "cost": cost} | row | after)
    return {"rows": found}


def averages(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of equal costs as they are, those of unequal ones averaged over draws."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in table:
        kind = "equal" if row["costs"] == "equal" else "lognormal"
        groups.setdefault((kind, float(row["cost"]), row["mechanism"]), []).append(row)
    found = []
    for (kind, cost, name), mine in groups.items():
        averaged: dict[str, Any] = {"costs": kind, "cost": cost, "mechanism": name}
        for column in mine[0]:
            if column not in averaged and column not in ("nash_gap", "certified"):
                numbers = [_number(row[column]) for row in mine if row[column] not in (None, "")]
                averaged[column] = float(np.mean(numbers)) if len(numbers) == len(mine) else None
        gaps = [_number(row["nash_gap"]) for row in mine if row["nash_gap"] not in (None, "")]
        certified = all(row["certified"] in (True, "True", None, "") for row in mine)
        found.append(averaged | {"nash_gap": max(gaps) if gaps else None, "certified": certified})
    return found


def _number(value: Any) -> float:
    return {"True": 1.0, "False": 0.0}[value] if value in ("True", "False") else float(value)


def text(table: Sequence[dict[str, Any]]) -> str:
    """A row for each c, averages over draws of unequal costs, as Markdown."""
    first = next(iter(rows.powers_of(table)))
    pivot: dict[tuple, dict[str, Any]] = {}
    for row in averages(table):
        line, name = pivot.setdefault((row["costs"], row["cost"]), {}), row["mechanism"]
        line |= {"costs": row["costs"], "c": row["cost"]}
        if name in rows.RULES:
            gap = max(line.get("nash_gap", 0.0), row["nash_gap"])
            leave = max(line.get("would leave", 0.0), row["rather_alone"], row["rather_nothing"])
            line |= {f"Σ samples, {name}": row["total"], f"contribute, {name}": row["contributors"]}
            line |= {"nash_gap": gap, "would leave": leave}
        line |= {f"utility, {name}": row[first]}
    found = list(pivot.values())
    header = {name: name for name in found[0] if name != "nash_gap"} | {"nash_gap": "largest Nash gap"}
    return rows.table(header, found)


def figure(work: storage.Workdir, fig: figures.Figure) -> None:
    """Data, utility, who contributes and who would rather leave over c; equal costs above unequal ones."""
    table = averages(work.read_csv("study_costs.csv"))
    shown = {"total": "total data S, samples"} | dict(list(rows.powers_of(table).items())[:1])
    shown |= {"contributors": "agents who contribute"}
    axes = fig.subplots(2, len(shown), sharex=True, sharey="col")
    for across, kind in zip(axes, ("equal", "lognormal"), strict=True):
        mine = [row for row in table if row["costs"] == kind]
        for ax, (column, label) in zip(across, shown.items(), strict=True):
            for name in dict.fromkeys(row["mechanism"] for row in mine):
                rows.line(ax, "cost", column, name, [row for row in mine if row["mechanism"] == name])
            ax.set(xscale="log", title=label if kind == "equal" else "")
        across[0].set_ylabel(f"{kind} costs")
    for ax in axes[-1]:
        ax.set_xlabel("mean cost per sample c")
    axes[0][0].set_yscale("symlog", linthresh=10)
    axes[0][0].set_ylim(0, None)
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
