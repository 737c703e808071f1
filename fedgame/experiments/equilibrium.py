"""Who contributes what: the equilibrium of a federation, certified, with intervals, as files."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, registry
from fedgame.experiments import rows as all_rows
from fedgame.games import curves, scenarios
from fedgame.games import game as games
from fedgame.inputs import read as inputs
from fedgame.registry import option
from fedgame.report import figures, text
from fedgame.runs import jobs
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Settings(inputs.ScenarioSettings):
    """Settings of `launch.equilibrium`."""

    bootstrap: int = option("resampled curves, for intervals", 0, low=0)
    confidence: float = option("of the intervals", 0.95, above=0, high=1)
    conditions: bool = option("also check the assumptions of Theorems 3.1 and 3.2", False)
    seed: int = option("of the resampling", 0, low=0, high=2**31 - 1)


class Prepared(NamedTuple):
    """Settings, and the game that they describe."""

    settings: Settings
    scenario: scenarios.Scenario

    @property
    def digests(self) -> dict[str, str]:
        return {}


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `inputs.check`; also a `ValueError` for resamples of nothing."""
    inputs.check(settings)
    if settings.bootstrap and not settings.curve:
        raise ValueError("--bootstrap resamples measurements: it needs --curve")


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """The game that the settings describe; raises as `inputs.read`."""
    check(settings)
    return Prepared(settings, inputs.read(settings))


def compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Solves, and resamples if asked.

    Writes `outcome.csv`, `outcome.json`, `equilibria.csv` (every equilibrium total, where they can be
    listed), `fitted_curve.csv`, `measurements.csv`, `equilibrium.json`, and `scenario.json` (to be read by
    --scenario) if JSON can hold the game.
    """
    settings, scenario = prepared.settings, prepared.scenario
    game = scenario.game
    found = equilibria.solve(game)
    rows = agent_rows(scenario, found)
    summary = _summary(settings, scenario, found)
    band = None
    if settings.bootstrap:
        intervals, summary["bootstrap"], band = bootstrap(settings, scenario)
        rows = [row | more for row, more in zip(rows, intervals, strict=True)]
    work.write_csv("outcome.csv", rows)
    work.write_json("outcome.json", rows)
    if game.payoff.of_total:
        several = game.concave and not found.unique
        others = (equilibria.solve_all(game) if several else []) or [found]
        work.write_csv("equilibria.csv", [_total_row(game, one) for one in others])
        summary["equilibrium_totals"] = [_total_row(game, one)["total"] for one in others]
        work.write_csv("fitted_curve.csv", _curve_rows(scenario, found, band))
    if scenario.origin.measured:
        work.write_csv("measurements.csv", _measured_rows(scenario))
    if settings.conditions:
        summary["conditions"] = str(equilibria.check_conditions(game))
    work.write_json("equilibrium.json", summary)
    if scenarios.holds(game):
        scenarios.save(work.path / "scenario.json", game, scenario.names)


def show(work: Workdir) -> str:
    """Draws the curve with the equilibrium, and what agents contribute; returns the text."""
    figures.draw(work, "equilibrium", figures.equilibrium, (10, 4))
    return text.equilibrium(work)


def headline(work: Workdir) -> list[dict[str, Any]]:
    """Data, accuracy and utility at the equilibrium."""
    found, agents = work.read_json("equilibrium.json"), work.read_csv("outcome.csv", text=("name",))
    shown = ("total", "contributed", "mean_payoff", "mean_utility", "nash_gap", "converged")
    idle = {"share_nothing": sum(row["shares"] == "nothing" for row in agents)}
    idle["would_rather_leave"] = sum(row["rather_leaves"] for row in agents)
    return [{name: found[name] for name in shown[:4]} | idle | {name: found[name] for name in shown[4:]}]


def agent_rows(scenario: scenarios.Scenario, found: equilibria.Equilibrium) -> list[dict[str, Any]]:
    """One row per agent: what she contributes, gains, pays, and could gain by deviating."""
    game, s = scenario.game, np.asarray(found.profile)
    capacity, there = np.asarray(game.capacity), all_rows.at(game, found.profile)
    columns = {
        "contribution": s,
        "capacity": capacity,
        **{name: there[name] for name in ("payoff", "cost", "utility")},
        "nash_gap": found.nash_gap,
    }
    numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
    nothing, everything = _nothing(s, capacity), np.asarray(s) >= capacity * (1 - 1e-9)
    role = np.where(nothing, "nothing", np.where(everything, "all she has", "part"))
    return [
        {"name": scenario.names[i]}
        | {name: column[i] for name, column in numbers.items()}
        | {"shares": str(role[i]), "rather_leaves": numbers["utility"][i] < 0}
        for i in range(game.n)
    ]


def bootstrap(
    settings: Settings, scenario: scenarios.Scenario
) -> tuple[list[dict[str, Any]], dict[str, Any], tuple[np.ndarray, np.ndarray, np.ndarray] | None]:
    """Solves the game for resampled curves, all of them in one vmapped call.

    Returns:
      For every agent the intervals of contribution and utility, and how often she contributes nothing
      or would rather leave; the same for the total; and the band of the curve, or None for
      curves that differ between agents.

    Raises:
      FloatingPointError: not one resampled game has a certified equilibrium.
    """
    game, (payoff, shared) = scenario.game, _resampled(settings, scenario)
    solved = jax.jit(jax.vmap(_solved, in_axes=(None, 0)))
    profile, utility, converged = (np.asarray(x) for x in solved(game, payoff))
    profile, utility = profile[converged], utility[converged]
    if not len(profile):
        raise FloatingPointError("no resampled game has a certified equilibrium")
    ends = 50 * (1 - settings.confidence), 50 * (1 + settings.confidence)
    s, u = np.percentile(profile, ends, axis=0), np.percentile(utility, ends, axis=0)
    columns = {
        **{"contribution_low": s[0], "contribution_high": s[1], "utility_low": u[0], "utility_high": u[1]},
        "shares_nothing_in": _nothing(profile, np.asarray(game.capacity)).mean(axis=0),
        "rather_leaves_in": (utility < 0).mean(axis=0),
    }
    rows = [{name: float(column[i]) for name, column in columns.items()} for i in range(game.n)]
    total = float(game.held) + (profile * np.asarray(game.quality)).sum(axis=1)  # S, as it is printed
    low, high = np.percentile(total, ends)
    summary = {"resamples": settings.bootstrap, "certified": len(profile), "confidence": settings.confidence}
    summary |= {"total_low": float(low), "total_high": float(high)}
    if not shared:
        return rows, summary, None
    x = _totals(scenario, float(total.max()))
    values = np.asarray(jax.vmap(lambda p: jax.vmap(p.curve)(jnp.asarray(x)))(payoff))
    return rows, summary, (x, *np.percentile(values, ends, axis=0))


def _resampled(settings: Settings, scenario: scenarios.Scenario) -> tuple[Any, bool]:
    """The payoff with a leading axis of resamples, and whether one curve is shared by all agents."""
    stacked = {}
    with jobs.progress("resampling the curve", settings.bootstrap * len(scenario.origin.measured)) as bar:

        def counted(items: Iterable) -> Iterable:
            for item in items:
                yield item
                bar.update()

        for key, one in scenario.origin.measured.items():
            numbers = {"samples": settings.bootstrap, "seed": settings.seed, "progress": counted}
            stacked[key] = curves.bootstrap(settings.fit, *one, **numbers)
    payoff, shared = inputs.payoff_of(stacked, scenario.names), "" in stacked
    # Curves of their own are [n, resamples, …].
    return payoff if shared else jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), payoff), shared


def _solved(game: games.Game, payoff: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    game = game.replace(payoff=payoff)
    found = equilibria.solve(game)
    return found.profile, games.utilities(game, found.profile), found.converged


def _summary(
    settings: Settings, scenario: scenarios.Scenario, found: equilibria.Equilibrium
) -> dict[str, Any]:
    game = scenario.game
    there = {name: np.asarray(x) for name, x in all_rows.at(game, found.profile).items()}
    fits = [
        {"agent": key, "fit": name, "used": name == settings.fit, "rmse": fit.rmse, "largest": fit.largest}
        | {"parameters": fit.parameters}
        for key, several in scenario.origin.fits.items()
        for name, fit in several.items()
    ]
    return {
        "agents": game.n,
        "fits": fits,
        "status": equilibria.describe(found),
        "converged": bool(found.converged),
        "unique": bool(found.unique),
        "method": found.method,
        "steps": int(found.steps),
        "residual": float(found.residual),
        "nash_gap": float(np.max(np.asarray(found.nash_gap))),
        "total": float(there["total"]),
        "contributed": float(np.sum(np.asarray(found.profile))),
        "largest_measured": max(
            (float(one.sizes[-1]) for one in scenario.origin.measured.values()), default=None
        ),
        "mean_payoff": float(np.mean(there["payoff"])),
        "mean_utility": float(np.mean(there["utility"])),
    }


def _nothing(s: Any, capacity: np.ndarray) -> np.ndarray:
    return np.asarray(s) <= 1e-9 * capacity


def _total_row(game: games.Game, found: equilibria.Equilibrium) -> dict[str, Any]:
    there = all_rows.at(game, found.profile)
    return {
        "total": float(there["statistic"]),
        "contributed": float(np.sum(np.asarray(found.profile))),
        "mean_utility": float(np.mean(np.asarray(there["utility"]))),
        "largest_nash_gap": float(np.max(np.asarray(found.nash_gap))),
        "unique": bool(found.unique),
    }


def _totals(scenario: scenarios.Scenario, total: float) -> np.ndarray:
    longest = max((one.sizes[-1] for one in scenario.origin.measured.values()), default=0.0)
    return np.linspace(0.0, max(longest, 1.2 * total, 1e-9), 301)


def _curve_rows(
    scenario: scenarios.Scenario, found: equilibria.Equilibrium, band: tuple | None
) -> list[dict[str, Any]]:
    """The payoff curves against S, one row per curve and total; shared ones have no agent."""
    game = scenario.game
    x = band[0] if band else _totals(scenario, float(all_rows.at(game, found.profile)["statistic"]))
    shared = 0 not in jax.tree.leaves(registry.axes(game.payoff))
    keys = [""] if shared else scenario.names[:8]
    rows = []
    for i, key in enumerate(keys):
        values = np.asarray(all_rows.curve_at(game, i, x))
        rows += all_rows.curve(key, x, values, band and band[1:])
    return rows


def _measured_rows(scenario: scenarios.Scenario) -> list[dict[str, Any]]:
    return [
        {"agent": key, "samples": float(size), "accuracy": float(accuracy)}
        for key, one in scenario.origin.measured.items()
        for repetition in np.atleast_2d(one.accuracy)
        for size, accuracy in zip(one.sizes, repetition, strict=True)
        if np.isfinite(accuracy)
    ]


EXPERIMENT = Experiment(
    program="launch.equilibrium",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: "results/equilibrium",
    headline=headline,
    collected=("outcome.csv",),
)
