"""Misreported costs (Remark 2): what an agent gains by claiming f c_i, and what that costs the others.

Every agent misreports alone, the others being honest; the server applies its rule to what is reported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedgame.experiments import rows as all_rows
from fedgame.experiments.studies import base, rows
from fedgame.mechanisms import misreports
from fedgame.registry import option, register
from fedgame.report import figures, money, tables

if TYPE_CHECKING:
    from matplotlib import figure


_ROUNDING = 1e-12  # gains smaller than this share of the honest utility are printed as 0
_NAMES = ("beta_star", "falkinger", "personal")  # of the rules that are compared


@register("misreports")
class Misreports(base.Study):
    """What an agent gains by claiming other costs (Remark 2), and what the others lose."""

    over: ClassVar[str] = "factor"
    size: ClassVar[tuple[float, float]] = (11, 4)
    uses: ClassVar[tuple[str, ...]] = ("agents", "capacity", "cost")

    ratios: tuple[float, ...] = option(
        "largest cost divided by the smallest, costs being spaced geometrically",
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        low=1,
        kind=float,
    )
    largest_factor: float = option(
        "an agent may claim up to so many times her cost, or as small a part of it", 10.0, above=1
    )

    def jobs(self, ground: base.Ground) -> dict[str, Callable]:
        """One for each ratio of costs, rule, and one of the cheapest, the middle and the dearest agent.

        If costs are equal, one agent stands for all, except under personal rates.
        """
        n = ground.agents
        found = {}
        for ratio in self.ratios:
            for k, name in enumerate(_NAMES):
                alike = ratio == 1 and name != "personal"
                for agent in [0] if alike else sorted({0, n // 2, n - 1}):
                    found[f"{ratio:g}/{k}/{agent}"] = functools.partial(self.at, ground, ratio, name, agent)
        return found

    def at(self, ground: base.Ground, ratio: float, name: str, agent: int) -> list[dict[str, Any]]:
        """A row for each cost that the agent may claim under the rule `name`."""
        cost = rows.spaced(ground.cost, ratio, ground.agents)
        game, rule = ground.game(cost), rows.rule_of(name)
        most = self.largest_factor
        found = misreports.manipulation(game, rule, agent, 1.0 / most, most, points=33)
        columns = {"factor": found.factors, "gain": found.gains, "contribution": found.contributions}
        return [
            {
                "ratio": ratio,
                "mechanism": name,
                "agent": agent,
                "cost": float(cost[agent]),
                **row,
                "honest": found.honest,
                "best": found.best,
                "best_gain": found.gain,
                "others": found.others,
                "nash_gap": found.nash_gap,
                "certified": found.certified,
            }
            for row in all_rows.of_columns(columns, len(found.factors))
        ]

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """The best claim of every agent, as Markdown."""
        header = {
            "ratio": "max/min cost",
            "mechanism": "mechanism",
            "agent": "agent",
            "cost": "her cost c_i",
            "honest": "utility, honest",
            "best": "best claim / c_i",
            "best_gain": "she gains",
            "others": "all others together",
            "nash_gap": "Nash gap",
        }
        shown = []
        for mine in tables.by(table, "ratio", "mechanism", "agent").values():
            row = dict(mine[0])  # all rows of an agent have the same best claim
            for name in ("best_gain", "others"):
                if abs(row[name]) < _ROUNDING * abs(row["honest"]):
                    row[name] = 0.0
            shown.append(row)
        return tables.table(header, shown)

    def answer(self, table: Sequence[dict[str, Any]]) -> list[str]:
        """Who gains the most by misreporting her cost, under each mechanism."""
        sentences = []
        for name, mine in tables.by(table, "mechanism").items():
            known = [row for row in mine if np.isfinite(row["best_gain"])]
            if not known:
                sentences.append(f"Under {tables.title(name)} no equilibrium is certified.")
                continue
            most = max(known, key=lambda row: row["best_gain"])
            gain, honest = most["best_gain"], most["honest"]
            told = f"Under {tables.title(name)}"
            if gain < _ROUNDING * abs(honest):
                sentences.append(f"{told} nobody gains by misreporting her cost.")
                continue
            sentences.append(
                f"{told} an agent gains up to {money.number(gain)}, where she has {money.number(honest)} "
                f"otherwise, by claiming {most['best']:.3g} times her cost; the largest cost is then "
                f"{most['ratio']:g} times the smallest."
            )
        return sentences

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Draws the gain over the claimed cost, a picture for each ratio of costs."""
        by_ratio = tables.by(table, "ratio")
        color = figures.colors([row["mechanism"] for row in table])
        axes = fig.subplots(1, len(by_ratio), squeeze=False, sharey=True)[0]
        for ax, (ratio, one) in zip(axes, by_ratio.items(), strict=True):
            agents = list(dict.fromkeys(row["agent"] for row in one))
            for name, mine in tables.by(one, "mechanism").items():
                for agent, hers in tables.by(mine, "agent").items():
                    style = ("-", "--", ":")[agents.index(agent)]
                    whose = f", agent of cost {float(hers[0]['cost']):.3g}" if len(agents) > 1 else ""
                    x, gain = tables.columns(hers, "factor", "gain")
                    ax.plot(x, gain, style, color=color[name], label=tables.title(name) + whose)
            ax.axhline(0, color="0.8", linewidth=1, zorder=0)
            ax.set(xscale="log", xlabel="claimed cost / true cost", title=f"max/min cost = {float(ratio):g}")
            ax.xaxis.set_major_formatter("{x:g}")
        axes[0].set_yscale("symlog", linthresh=0.1)
        axes[0].set_ylabel("what she gains, in accuracy")
        entries = axes[-1].get_legend_handles_labels()
        fig.legend(*entries, loc="outside right center", frameon=False, fontsize="small")
