"""Rounding in every step, as Algorithms 1 and 2 print it, against dynamics that stay continuous.

Both start from the same random contributions. The printed update here reads the fitted curve, sample by
sample, so that rounding, the step δ = Δs/c and the forward difference are all that differs.
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
from fedgame.games import game as games
from fedgame.mechanisms import outcomes, refunds
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import Plan, fedbr, literal
from fedgame.registry import option, register
from fedgame.report import figures, tables

if TYPE_CHECKING:
    from matplotlib import axes, figure


_NAMES = ("none", "beta_star")
_PRINTED = 10  # Δs of Section 5.2
_SUMMED = ("equilibrium", "lowest", "highest", "period", "dead", "gap", "continuous", "continuous_gap")


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
        kind=int,
    )
    intervals: tuple[int, ...] = option("Δs, samples", (2, 5, 10, 20), low=1, kind=int)
    starts: int = option("random starts", 20, low=1)
    steps: int = option("H, steps of the dynamics", 100, low=1)

    def jobs(self, ground: base.Ground) -> dict[str, Callable]:
        """One for each number of agents."""
        return {f"agents/{n}": functools.partial(self.at, ground, n) for n in self.counts}

    def at(self, ground: base.Ground, n: int) -> list[dict[str, Any]]:
        game, found = ground.game(np.full(n, ground.cost)), []
        for name in _NAMES:
            announced = registry.read("rule", name).announced(game)
            shared = {"agents": n, "mechanism": name, "beta": float(announced.mechanism.rates)}
            equilibrium = outcomes.of_announcement(game, announced).equilibrium
            shared |= {"equilibrium": float(jnp.sum(equilibrium.profile))}
            shared |= {"nash_gap": float(jnp.max(equilibrium.nash_gap))}
            found += [shared | row for row in self.from_starts(ground, game, announced)]
        return found

    def from_starts(
        self, ground: base.Ground, game: games.Game, announced: Announcement
    ) -> list[dict[str, Any]]:
        """A row for every Δs and start."""
        sizes = np.arange(float(jnp.sum(game.capacity)) + max(self.intervals) + 1)
        accuracy = np.asarray(jax.vmap(ground.measured.fit.payoff.curve)(jnp.asarray(sizes)))
        continuous, mechanism = fedbr.FedBR(steps=self.steps), announced.mechanism
        keys = [jax.random.fold_in(jax.random.key(ground.seed), k) for k in range(self.starts)]
        smooth, found = [continuous.start(game, announced, key) for key in keys], []
        for interval in self.intervals:
            printed = literal.Literal(sizes, accuracy, interval, steps=self.steps)
            for k, key in enumerate(keys):
                plan = printed.start(game, announced, key)
                row = {"interval": interval, "start": k, "from": float(np.sum(plan.path[0]))}
                row |= _ending(plan, game, mechanism, ground.measured.longest)
                row |= {"continuous": float(np.sum(smooth[k].profile))}
                found.append(row | {"continuous_gap": _gap(game, mechanism, smooth[k].profile)})
        return found

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        """Every Δs for the first number of agents, and one Δs for the others, as Markdown."""
        first, shown = table[0]["agents"], _shown(table)
        header = {"agents": "n", "mechanism": "mechanism", "interval": "Δs", "equilibrium": "S, equilibrium"}
        header |= {"lowest": "rounded ends: lowest S", "highest": "highest S", "stops": "starts that stop"}
        header |= {"stuck": "in the dead zone", "cycles": "starts that cycle", "gap": "Nash gap, median"}
        header |= {"continuous": "continuous: S off by", "continuous_gap": "largest Nash gap"}
        kept = [row for row in summaries(table) if row["agents"] == first or row["interval"] == shown]
        formatted = [{**row, "continuous": f"{row['continuous']:.1e}"} for row in kept]
        for row in formatted:
            row |= {name: f"{row[name]:.1e}" for name in ("gap", "continuous_gap")}
        return tables.table(header, formatted)

    def figure(self, table: list[dict[str, Any]], fig: figure.Figure) -> None:
        """Ends over starts, without payments and with; swings over the number of agents."""
        *ends, right = fig.subplots(1, 3)
        for ax, name in zip(ends, _NAMES, strict=True):
            _ends(ax, table, name)
        _swings(right, table)
        entries = ends[0].get_legend_handles_labels()
        fig.legend(*entries, loc="outside lower center", ncols=6, frameon=False)


def _ending(plan: Plan, game: games.Game, mechanism: refunds.Refunds, longest: float) -> dict[str, Any]:
    """Where a path of the printed update ends: in a profile, or in a cycle (`period` 0: in neither yet)."""
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
    return float(all_rows.largest_gap(game, mechanism, jnp.asarray(s)))


def summaries(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over starts, a row for each number of agents, β and Δs."""
    found = []
    for mine in tables.by(table, "agents", "mechanism", "interval").values():
        column = {name: np.asarray([row[name] for row in mine], float) for name in _SUMMED}
        found.append({
            **{name: mine[0][name] for name in ("agents", "mechanism", "interval", "equilibrium")},
            "lowest": float(np.min(column["lowest"])),
            "highest": float(np.max(column["highest"])),
            "stops": int(np.sum(column["period"] == 1)),
            "cycles": int(np.sum(column["period"] > 1)),
            "stuck": int(np.sum((column["period"] == 1) & (column["dead"] > 0))),
            "gap": float(np.median(column["gap"])),
            "continuous": float(np.max(np.abs(column["continuous"] - column["equilibrium"]))),
            "continuous_gap": float(np.max(column["continuous_gap"])),
        })  # fmt: skip
    return found


def _shown(table: Sequence[dict[str, Any]]) -> Any:
    """The paper's Δs, if it is there."""
    intervals = [row["interval"] for row in table]
    return next((x for x in intervals if int(x) == _PRINTED), intervals[-1])


def _ends(ax: axes.Axes, table: list[dict[str, Any]], name: str) -> None:
    """Where the first number of agents ends, over where they start."""
    mine = [row for row in table if row["mechanism"] == name and row["agents"] == table[0]["agents"]]
    for k, (interval, one) in enumerate(tables.by(mine, "interval").items()):
        start, low, high = tables.columns(one, "from", "lowest", "highest")
        ax.vlines(start, low, high, color=f"C{k}", linewidth=1)
        mean = tables.columns(one, "total")[0]
        ax.plot(
            start, mean, "osD^v"[k % 5], ms=5, color=f"C{k}", alpha=0.8, label=f"rounded, Δs = {interval}"
        )
    start, end = tables.columns(one, "from", "continuous")
    ax.plot(start, end, "_", color="black", ms=9, mew=2, label="continuous")
    ax.axhline(
        float(mine[0]["equilibrium"]), color="black", linewidth=0.8, linestyle=":", label="equilibrium"
    )
    ax.set(xlabel="S at the start, samples", ylim=(0, None))
    ax.set_title(f"{tables.title(name)}, n = {table[0]['agents']}: S at the end")


def _swings(ax: axes.Axes, table: list[dict[str, Any]]) -> None:
    """How far S swings around the equilibrium in the end, over the number of agents."""
    shown = _shown(table)
    for name in _NAMES:
        mine = [row for row in table if row["mechanism"] == name and row["interval"] == shown]
        groups = sorted(tables.by(mine, "agents").items(), key=lambda item: int(item[0]))
        n = [int(count) for count, _ in groups]
        low, high = (
            [np.median(np.divide(*tables.columns(one, end, "equilibrium"))) for _, one in groups]
            for end in ("lowest", "highest")
        )
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
