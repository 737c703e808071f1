"""Rounding in every step, as Algorithms 1 and 2 print it, against dynamics that stay continuous.

Both start from the same random contributions. Here the printed update reads the fitted curve, at every whole
number of samples, so that the two differ only in rounding, the step δ = Δs/c and the forward difference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.experiments import rows as all_rows
from fedgame.experiments.studies import base
from fedgame.games import curves
from fedgame.games import game as games
from fedgame.mechanisms import outcomes, refunds
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import Plan, fedbr, literal
from fedgame.registry import option, register
from fedgame.report import figures, money, tables

if TYPE_CHECKING:
    from matplotlib import axes, figure


_NAMES = ("none", "beta_star")  # of the rules that are compared
_PRINTED = 10  # Δs of Section 5.2, in samples


@register("rounding")
class Rounding(base.Study):
    """Contributions rounded in every step of the dynamics, as printed, and where they get stuck."""

    over: ClassVar[str] = "from"
    size: ClassVar[tuple[float, float]] = (11, 4.2)
    uses: ClassVar[tuple[str, ...]] = ("capacity", "cost", "seed")

    counts: tuple[int, ...] = option(
        "numbers of agents to go through; every Δs is printed for the first alone",
        (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
        low=2,
        high=1_000_000,
        kind=int,
    )
    intervals: tuple[int, ...] = option("Δs, samples", (2, 5, 10, 20), low=1, kind=int)
    starts: int = option("random starts", 20, low=1, high=10_000)
    steps: int = option("H, steps of the dynamics", 100, low=1, high=1_000_000)

    def jobs(self, ground: base.Ground) -> dict[str, Callable]:
        """One for each number of agents."""
        return {f"agents/{n}": functools.partial(self.at, ground, n) for n in self.counts}

    def at(self, ground: base.Ground, n: int) -> list[dict[str, Any]]:
        """The rows of n agents: one for each rule, Δs and start."""
        game, found = ground.game(np.full(n, ground.cost)), []
        for name in _NAMES:
            announced = registry.read("rule", name).announced(game)
            equilibrium = outcomes.of_announcement(game, announced).equilibrium
            shared = {
                "agents": n,
                "mechanism": name,
                "beta": float(announced.mechanism.rates),
                "equilibrium": float(jnp.sum(equilibrium.profile)),
                "nash_gap": float(jnp.max(equilibrium.nash_gap)),
            }
            found += [shared | row for row in self.from_starts(ground, game, announced)]
        return found

    def from_starts(
        self, ground: base.Ground, game: games.Game, announced: Announcement
    ) -> list[dict[str, Any]]:
        """A row for every Δs and start: where the printed dynamics end, and where the continuous ones do."""
        # The printed update looks Δs ahead of the total, which is at most the sum of capacities.
        sizes = np.arange(float(jnp.sum(game.capacity)) + max(self.intervals) + 1)
        accuracy = np.asarray(curves.values(ground.measured.fit.payoff, sizes))
        continuous, mechanism = fedbr.FedBR(steps=self.steps), announced.mechanism
        keys = [jax.random.fold_in(jax.random.key(ground.seed), k) for k in range(self.starts)]
        continuous_ends = [continuous.start(game, announced, key).profile for key in keys]
        found = []
        for interval in self.intervals:
            printed = literal.Literal(sizes, accuracy, interval, steps=self.steps)
            for k, key in enumerate(keys):
                plan = printed.start(game, announced, key)
                found.append({
                    "interval": interval,
                    "start": k,
                    "from": float(np.sum(plan.path[0])),
                    **_ending(plan, game, mechanism, ground.measured.longest),
                    "continuous": float(np.sum(continuous_ends[k])),
                    "continuous_gap": _gap(game, mechanism, continuous_ends[k]),
                })  # fmt: skip
        return found

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """Every Δs for the first number of agents, and one Δs for the others, as Markdown."""
        first, shown = table[0]["agents"], _shown(table)
        header = {
            "agents": "n",
            "mechanism": "mechanism",
            "interval": "Δs",
            "equilibrium": "S, equilibrium",
            "lowest": "rounded ends: lowest S",
            "highest": "highest S",
            "stops": "starts that stop",
            "stuck": "in the dead zone",
            "cycles": "starts that cycle",
            "gap": "Nash gap, median",
            "continuous": "continuous: S off by",
            "continuous_gap": "largest Nash gap",
        }
        kept = []
        for row in summaries(table):
            if row["agents"] == first or row["interval"] == shown:
                small = {name: f"{row[name]:.1e}" for name in ("gap", "continuous", "continuous_gap")}
                kept.append(row | small)
        return tables.table(header, kept)

    def answer(self, table: Sequence[dict[str, Any]]) -> list[str]:
        """How often rounded dynamics stop or cycle, and how far from equilibria they and others end."""
        found = summaries(table)
        starts, stops, cycles = (sum(row[name] for row in found) for name in ("starts", "stops", "cycles"))
        gap, continuous = (max(row[name] for row in found) for name in ("gap", "continuous_gap"))
        return [
            f"With contributions rounded in every step, {stops} of {starts} paths stop and {cycles} go round "
            f"in cycles; for a typical start an agent could still gain up to {money.number(gap, 2)} there.",
            f"Without rounding nobody could gain more than {money.number(continuous, 2)} where paths end.",
        ]

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Draws ends over starts, without payments and with, and swings over the number of agents."""
        *ends, right = fig.subplots(1, 3)
        for ax, name in zip(ends, _NAMES, strict=True):
            _ends(ax, table, name)
        _swings(right, table)
        entries = ends[0].get_legend_handles_labels()
        fig.legend(*entries, loc="outside lower center", ncols=6, frameon=False)


def _ending(plan: Plan, game: games.Game, mechanism: refunds.Refunds, longest: float) -> dict[str, Any]:
    """Where a path of the printed update ends.

    Args:
      plan: of `literal.Literal`, with the path and how it ends.
      game: n agents without payments.
      mechanism: under which they play.
      longest: the largest total at which the curve was measured, in samples.

    Returns:
      `period` is 1 if it ends in a profile, the length of the cycle if it ends in one, and 0 if it has done
      neither yet. `total`, `lowest` and `highest` are mean, minimum and maximum of S over the cycle, or S of
      the last profile. `dead` is that of `literal.Ending`; `gap` is the Nash gap of the last profile.
    """
    ending = plan.memory
    round_trip = np.sum(plan.path[-max(ending.period, 1) :], axis=1)
    lowest, highest = float(np.min(round_trip)), float(np.max(round_trip))
    return {
        "total": float(np.mean(round_trip)),
        "lowest": lowest,
        "highest": highest,
        "period": ending.period,
        "dead": ending.dead,
        "gap": float(_gap(game, mechanism, plan.profile)),
        "extrapolated": highest > longest,
    }


def _gap(game: games.Game, mechanism: refunds.Refunds, s: np.ndarray) -> float:
    """The largest Nash gap of the profile s [n], as a number."""
    return float(all_rows.largest_gap(game, mechanism, jnp.asarray(s)))


def summaries(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each number of agents, mechanism and Δs, over all starts."""
    found = []
    for mine in tables.by(table, "agents", "mechanism", "interval").values():
        lowest, highest, period, dead = tables.columns(mine, "lowest", "highest", "period", "dead")
        equilibrium, continuous = tables.columns(mine, "equilibrium", "continuous")
        gap, continuous_gap = tables.columns(mine, "gap", "continuous_gap")
        found.append({
            **{name: mine[0][name] for name in ("agents", "mechanism", "interval", "equilibrium")},
            "lowest": float(np.min(lowest)),
            "highest": float(np.max(highest)),
            "starts": len(mine),
            "stops": int(np.sum(period == 1)),
            "cycles": int(np.sum(period > 1)),
            "stuck": int(np.sum((period == 1) & (dead > 0))),
            "gap": float(np.median(gap)),
            "continuous": float(np.max(np.abs(continuous - equilibrium))),
            "continuous_gap": float(np.max(continuous_gap)),
        })  # fmt: skip
    return found


def _shown(table: Sequence[dict[str, Any]]) -> Any:
    """The Δs that is shown for all numbers of agents: the paper's if it is in the table, else the last."""
    intervals = [row["interval"] for row in table]
    return _PRINTED if _PRINTED in intervals else intervals[-1]


def _ends(ax: axes.Axes, table: list[dict[str, Any]], name: str) -> None:
    """Draws S at the end over S at the start, for the first number of agents."""
    mine = [row for row in table if row["mechanism"] == name and row["agents"] == table[0]["agents"]]
    by_interval = tables.by(mine, "interval")
    for k, (interval, one) in enumerate(by_interval.items()):
        start, mean, low, high = tables.columns(one, "from", "total", "lowest", "highest")
        ax.vlines(start, low, high, color=f"C{k}", linewidth=1)
        marker, label = "osD^v"[k % 5], f"rounded, Δs = {interval}"
        ax.plot(start, mean, marker, ms=5, color=f"C{k}", alpha=0.8, label=label)
    any_interval = list(by_interval.values())[-1]  # continuous dynamics have no Δs
    start, end = tables.columns(any_interval, "from", "continuous")
    ax.plot(start, end, "_", color="black", ms=9, mew=2, label="continuous")
    ax.axhline(
        float(mine[0]["equilibrium"]), color="black", linewidth=0.8, linestyle=":", label="equilibrium"
    )
    ax.set(xlabel="S at the start, samples", ylim=(0, None))
    ax.set_title(f"{tables.title(name)}, n = {table[0]['agents']}: S at the end")


def _swings(ax: axes.Axes, table: list[dict[str, Any]]) -> None:
    """Draws how far S swings around the equilibrium at the end, over the number of agents."""
    shown = _shown(table)
    for name in _NAMES:
        mine = [row for row in table if row["mechanism"] == name and row["interval"] == shown]
        n, low, high = [], [], []
        for count, one in sorted(tables.by(mine, "agents").items()):
            lowest, highest, equilibrium = tables.columns(one, "lowest", "highest", "equilibrium")
            n.append(count)
            low.append(np.median(lowest / equilibrium))
            high.append(np.median(highest / equilibrium))
        color, label = figures.colors([name])[name], tables.title(name)
        ax.fill_between(n, low, high, color=color, alpha=0.3, linewidth=0)
        ax.plot(n, low, color=color, marker="v", ms=4, label=f"{label}: lowest S")
        ax.plot(n, high, color=color, marker="^", ms=4, label=f"{label}: highest S")
    ax.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    ax.set(xscale="log", xlabel="number of agents n", title=f"rounded, Δs = {shown}: S / equilibrium's S")
    ax.set_xticks(n, [str(x) for x in n])
    ax.minorticks_off()
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set_ylim(0, None)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
