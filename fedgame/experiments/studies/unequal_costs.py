"""Costs that differ more and more: β* against 1 - 1/n, personal rates, and the first best."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import figure as figures

from fedgame.experiments import plots, storage
from fedgame.experiments.studies import rows
from fedgame.experiments.studies import settings as all_settings

SIZE = (10, 4.5)


def jobs(settings: all_settings.Settings, measured: rows.Measured) -> dict[str, tuple[float, Callable]]:
    """One for each ratio of the largest cost to the smallest."""
    return {
        f"ratio/{ratio:g}": (1, functools.partial(_at, settings, measured, ratio))
        for ratio in settings.ratios
    }


def _at(settings: all_settings.Settings, measured: rows.Measured, ratio: float) -> dict[str, Any]:
    game = rows.game_of(settings, measured.fit.payoff, rows.spaced(settings.cost[0], ratio, settings.agents))
    found = rows.rows_of(game, rows.outcomes_of(game), measured.longest, settings.p)
    return {"rows": [{"ratio": ratio} | row for row in found]}


def text(table: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    header = {"ratio": "max/min cost", "mechanism": "mechanism", "beta": "β (mean β_i)", "total": "Σ samples"}
    header |= {"contributors": "contributors"} | rows.powers_of(table) | {"rather_alone": "better alone"}
    return rows.table(header | {"nash_gap": "Nash gap", "extrapolated": "S not measured"}, table)


def figure(work: storage.Workdir, fig: figures.Figure) -> None:
    """Welfare by the first and the last p, and total data, over the ratio of costs."""
    table = work.read_csv("study_unequal_costs.csv")
    powers = list(rows.powers_of(table).items())
    shown = dict([powers[0], powers[-1]]) | {"total": "total data S, samples"}
    axes = fig.subplots(1, len(shown))
    for ax, (column, label) in zip(axes, shown.items(), strict=True):
        for name, mine in plots.by(table, "mechanism").items():
            rows.line(ax, "ratio", column, name, mine)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set(xlabel="largest cost / smallest cost", title=label)
    fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
