"""From two agents to a thousand, all alike: total data and welfare with and without payments."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as figures

from fedgame.experiments import plots, storage
from fedgame.experiments.studies import rows
from fedgame.experiments.studies import settings as all_settings

SIZE = (11, 4)


def jobs(settings: all_settings.Settings, measured: rows.Measured) -> dict[str, tuple[float, Callable]]:
    """One for each number of agents."""
    return {f"agents/{n}": (1, functools.partial(_at, settings, measured, n)) for n in settings.counts}


def _at(settings: all_settings.Settings, measured: rows.Measured, n: int) -> dict[str, Any]:
    game = rows.game_of(settings, measured.fit.payoff, np.full(n, settings.cost[0]))
    found = rows.outcomes_of(game, ("no payments", "β*"))
    table = rows.rows_of(
        game, found, measured.longest, (1.0,), leaving=False
    )  # all are equal: any p is the mean
    return {"rows": [{"agents": n} | row for row in table]}


def text(table: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    header = {"agents": "n", "mechanism": "mechanism", "beta": "β", "total": "Σ samples"}
    header |= {"accuracy": "accuracy"} | dict(list(rows.powers_of(table).items())[:1])
    header |= {"share_of_first_best": "share of first best", "nash_gap": "Nash gap"}
    return rows.table(header | {"extrapolated": "S not measured"}, table)


def figure(work: storage.Workdir, fig: figures.Figure) -> None:
    """Total data, utility and the share of the first best over the number of agents."""
    table = work.read_csv("study_agents.csv")
    shown = {"total": "total data S, samples"} | dict(list(rows.powers_of(table).items())[:1])
    shown |= {"share_of_first_best": "share of the first best"}
    axes = fig.subplots(1, len(shown))
    for ax, (column, label) in zip(axes, shown.items(), strict=True):
        for name, mine in plots.by(table, "mechanism").items():
            rows.line(ax, "agents", column, name, mine)
        ax.set(xscale="log", xlabel="number of agents n", title=label)
    axes[0].set_yscale("log")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
