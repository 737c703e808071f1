"""Misreported costs (Remark 2): what an agent gains by claiming f c_i, and what that costs the others.

Every agent misreports alone, the others being honest; the server applies its rule to what is reported.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import figure as figures

from fedgame.experiments import plots, storage
from fedgame.experiments.studies import rows
from fedgame.experiments.studies import settings as all_settings
from fedgame.mechanisms import misreports

SIZE = (11, 4)
_ROUNDING = 1e-12  # gains below this share of the honest utility are none
_NAMES = ("β*", "1 - 1/n", "personal")


def jobs(settings: all_settings.Settings, measured: rows.Measured) -> dict[str, tuple[float, Callable]]:
    """One for each ratio of costs, mechanism, and one of the cheapest, the middle and the dearest agent."""
    n = settings.agents
    return {
        f"{ratio:g}/{k}/{agent}": (1, functools.partial(_at, settings, measured, ratio, name, agent))
        for ratio in settings.ratios
        for k, name in enumerate(_NAMES)
        for agent in (sorted({0, n // 2, n - 1}) if ratio > 1 or name == "personal" else (0,))
    }


def _at(
    settings: all_settings.Settings, measured: rows.Measured, ratio: float, name: str, agent: int
) -> dict[str, Any]:
    cost = rows.spaced(settings.cost[0], ratio, settings.agents)
    game, most = rows.game_of(settings, measured.fit.payoff, cost), settings.largest_factor
    found = misreports.manipulation(game, rows.RULES[name], agent, 1.0 / most, most, points=33)
    shared = {"ratio": ratio, "mechanism": name, "agent": agent, "cost": float(cost[agent])}
    columns = {"factor": found.factors, "gain": found.gains, "contribution": found.contributions}
    best = {"honest": found.honest, "best": found.best, "best_gain": found.gain}
    best |= {"others": found.others, "nash_gap": found.nash_gap, "certified": found.certified}
    table = [
        shared | {key: float(x[k]) for key, x in columns.items()} | best for k in range(len(found.factors))
    ]
    return {"rows": table}


def text(table: Sequence[dict[str, Any]]) -> str:
    """The best report of everybody, as Markdown."""
    first = {(row["ratio"], row["mechanism"], row["agent"]): row for row in reversed(table)}
    header = {"ratio": "max/min cost", "mechanism": "mechanism", "agent": "agent", "cost": "her cost c_i"}
    header |= {"honest": "utility, honest", "best": "best claim / c_i", "best_gain": "she gains"}
    header |= {"others": "all others together", "nash_gap": "Nash gap"}
    shown = [
        {
            key: 0.0 if key in ("best_gain", "others") and abs(x) < _ROUNDING * abs(row["honest"]) else x
            for key, x in row.items()
        }
        for row in reversed(first.values())
    ]
    return rows.table(header, shown)


def figure(work: storage.Workdir, fig: figures.Figure) -> None:
    """The gain over the claimed cost, a picture for each ratio of costs."""
    by_ratio = plots.by(work.read_csv("study_misreports.csv"), "ratio")
    axes = fig.subplots(1, len(by_ratio), squeeze=False, sharey=True)[0]
    for ax, (ratio, table) in zip(axes, by_ratio.items(), strict=True):
        agents = list(dict.fromkeys(row["agent"] for row in table))
        for name, mine in plots.by(table, "mechanism").items():
            for agent, hers in plots.by(mine, "agent").items():
                style = ("-", "--", ":")[agents.index(agent)]
                whose = f", agent of cost {float(hers[0]['cost']):.3g}" if len(agents) > 1 else ""
                x, gain = plots.columns(hers, "factor", "gain")
                ax.plot(x, gain, style, color=rows.COLORS[name], label=name + whose)
        ax.axhline(0, color="0.8", linewidth=1, zorder=0)
        ax.set(xscale="log", xlabel="claimed cost / true cost", title=f"max/min cost = {float(ratio):g}")
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0].set_yscale("symlog", linthresh=0.1)
    axes[0].set_ylabel("what she gains, in accuracy")
    fig.legend(
        *axes[-1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small"
    )
