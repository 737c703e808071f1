"""Rounding in every step, as Algorithms 1 and 2 print it, against dynamics that stay continuous.

Both start from the same random contributions. The printed update here reads the fitted curve, sample by
sample, so that rounding, the step δ = Δs/c and the forward difference are all that differs.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import axes
from matplotlib import figure as figures

from fedgame.equilibria import certificates
from fedgame.experiments import plots, storage
from fedgame.experiments.studies import rows
from fedgame.experiments.studies import settings as all_settings
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, outcomes
from fedgame.protocols import base, fedbr, literal

SIZE = (11, 4.2)
_NAMES = ("no payments", "β*")
_PRINTED = 10  # Δs of Section 5.2
_SUMMED = ("equilibrium", "lowest", "highest", "period", "dead", "gap", "continuous", "continuous_gap")


def jobs(settings: all_settings.Settings, measured: rows.Measured) -> dict[str, tuple[float, Callable]]:
    """One for each number of agents."""
    return {f"agents/{n}": (n, functools.partial(_at, settings, measured, n)) for n in settings.counts}


def _at(settings: all_settings.Settings, measured: rows.Measured, n: int) -> dict[str, Any]:
    game = rows.game_of(settings, measured.fit.payoff, np.full(n, settings.cost[0]))
    found = []
    for name in _NAMES:
        mechanism = rows.RULES[name](game)
        shared = {"agents": n, "mechanism": name, "beta": float(mechanism.rates)}
        equilibrium = outcomes.outcome(game, mechanism).equilibrium
        shared |= {"equilibrium": float(jnp.sum(equilibrium.profile))}
        shared |= {"nash_gap": float(jnp.max(equilibrium.nash_gap))}
        found += [shared | row for row in _from_starts(settings, measured, game, mechanism)]
    return {"rows": found}


def _from_starts(
    settings: all_settings.Settings,
    measured: rows.Measured,
    game: games.Game,
    mechanism: budget_balanced.Refunds,
) -> list[dict[str, Any]]:
    """A row for every Δs and start."""
    sizes = np.arange(float(jnp.sum(game.capacity)) + max(settings.intervals) + 1)
    accuracy = np.asarray(jax.vmap(measured.fit.payoff.curve)(jnp.asarray(sizes)))
    continuous = fedbr.FedBR(game, mechanism, steps=settings.steps)
    keys = [jax.random.fold_in(jax.random.key(settings.seed), k) for k in range(settings.starts)]
    smooth, found = [continuous.start(key) for key in keys], []
    for interval in settings.intervals:
        printed = literal.Literal(game, sizes, accuracy, interval, mechanism, steps=settings.steps)
        for k, key in enumerate(keys):
            plan = printed.start(key)
            row = {"interval": interval, "start": k, "from": float(np.sum(plan.path[0]))}
            row |= _ending(plan, game, mechanism, measured.longest)
            row |= {"continuous": float(np.sum(smooth[k].profile))}
            found.append(row | {"continuous_gap": _gap(game, mechanism.rates, smooth[k].profile)})
    return found


def _ending(
    plan: base.Plan, game: games.Game, mechanism: budget_balanced.Refunds, longest: float
) -> dict[str, Any]:
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
        "gap": float(_gap(game, mechanism.rates, plan.profile)),
        "extrapolated": highest > longest,
    }


def _gap(game: games.Game, rates: Any, s: np.ndarray) -> float:
    return float(_largest_gap(budget_balanced.under_mechanism(game, rates), jnp.asarray(s)))


_largest_gap = jax.jit(lambda played, s: jnp.max(certificates.nash_gap(played, s)))


def summaries(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over starts, a row for each number of agents, β and Δs."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in table:
        groups.setdefault((row["agents"], row["mechanism"], row["interval"]), []).append(row)
    found = []
    for mine in groups.values():
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


def text(table: Sequence[dict[str, Any]]) -> str:
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
    return rows.table(header, formatted)


def _shown(table: Sequence[dict[str, Any]]) -> Any:
    """The paper's Δs, if it is there."""
    intervals = [row["interval"] for row in table]
    return next((x for x in intervals if int(x) == _PRINTED), intervals[-1])


def _ends(ax: axes.Axes, table: list[dict[str, str]], name: str) -> None:
    """Where the first number of agents ends, over where they start."""
    mine = [row for row in table if row["mechanism"] == name and row["agents"] == table[0]["agents"]]
    for k, (interval, one) in enumerate(plots.by(mine, "interval").items()):
        start, low, high = plots.columns(one, "from", "lowest", "highest")
        ax.vlines(start, low, high, color=f"C{k}", linewidth=1)
        mean = plots.columns(one, "total")[0]
        ax.plot(
            start, mean, "osD^v"[k % 5], ms=5, color=f"C{k}", alpha=0.8, label=f"rounded, Δs = {interval}"
        )
    start, end = plots.columns(one, "from", "continuous")
    ax.plot(start, end, "_", color="black", ms=9, mew=2, label="continuous")
    ax.axhline(
        float(mine[0]["equilibrium"]), color="black", linewidth=0.8, linestyle=":", label="equilibrium"
    )
    ax.set(xlabel="S at the start, samples", ylim=(0, None))
    ax.set_title(f"{name}, n = {table[0]['agents']}: S at the end")


def _swings(ax: axes.Axes, table: list[dict[str, str]]) -> None:
    """How far S swings around the equilibrium in the end, over the number of agents."""
    shown = _shown(table)
    for name in _NAMES:
        mine = [row for row in table if row["mechanism"] == name and row["interval"] == shown]
        groups = sorted(plots.by(mine, "agents").items(), key=lambda item: int(item[0]))
        n = [int(count) for count, _ in groups]
        low, high = (
            [np.median(np.divide(*plots.columns(one, end, "equilibrium"))) for _, one in groups]
            for end in ("lowest", "highest")
        )
        color = rows.COLORS[name]
        ax.fill_between(n, low, high, color=color, alpha=0.3, linewidth=0)
        ax.plot(n, low, color=color, marker="v", ms=4, label=f"{name}: lowest S")
        ax.plot(n, high, color=color, marker="^", ms=4, label=f"{name}: highest S")
    ax.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    ax.set(xscale="log", xlabel="number of agents n", title=f"rounded, Δs = {shown}: S / equilibrium's S")
    ax.set_xticks(n, [str(x) for x in n])
    ax.minorticks_off()
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set_ylim(0, None)
    ax.legend(frameon=False, fontsize="small", loc="upper left")


def figure(work: storage.Workdir, fig: figures.Figure) -> None:
    """Ends over starts, without payments and with; swings over the number of agents."""
    table = work.read_csv("study_rounding.csv")
    *ends, right = fig.subplots(1, 3)
    for ax, name in zip(ends, _NAMES, strict=True):
        _ends(ax, table, name)
    _swings(right, table)
    fig.legend(*ends[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
