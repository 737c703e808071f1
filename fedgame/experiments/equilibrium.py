"""Who contributes what: the equilibrium of a federation, certified, with intervals, as files."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria
from fedgame.experiments import break_even, resampled, validation
from fedgame.experiments import rows as all_rows
from fedgame.games import game as games
from fedgame.games import scenarios
from fedgame.inputs import read as inputs
from fedgame.mechanisms import outcomes, personal, refunds
from fedgame.registry import option
from fedgame.report import figures, page, text
from fedgame.runs import experiment, jobs
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Settings(resampled.Settings, validation.Settings, inputs.ScenarioSettings):
    """Settings of `launch.equilibrium`."""

    conditions: bool = option("also check the assumptions of Theorems 3.1 and 3.2", False)


@dataclasses.dataclass(frozen=True)
class Prepared(experiment.Prepared):
    """Settings, and the game that they describe."""

    settings: Settings
    scenario: scenarios.Scenario
    outside: np.ndarray  # [n] the utility that every agent has if she leaves
    measured: validation.Measured | None  # with --validate

    @property
    def digests(self) -> dict[str, str]:
        """With --validate, of how the records were measured: stored training depends on it."""
        return {} if self.measured is None else self.measured.digests


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `all_rows.check`; also a `ValueError` for --bootstrap without measurements to resample."""
    all_rows.check(settings)
    resampled.check(settings)


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """The game that the settings describe; raises as `inputs.read`."""
    check(settings)
    measured = validation.behind(settings)  # before anything is fitted
    scenario = inputs.read(settings)
    validation.check_scenario(measured, scenario)
    resampled.check_number(settings, scenario)
    return Prepared(settings, scenario, all_rows.outside(settings, scenario), measured)


def compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Solves the game; with --bootstrap, also for resampled curves.

    Writes `outcome.csv`, `outcome.json`, `equilibria.csv` (every certified equilibrium total, where
    they can be listed), `fitted_curve.csv`, `curve.csv` (the measurements behind it), `exchange_rates.csv`,
    `equilibrium.json`, and `scenario.json` (to be read by --scenario) if JSON can hold the game.
    """
    settings, scenario = prepared.settings, prepared.scenario
    game = scenario.game
    found = equilibria.solve(game)
    rows = agent_rows(scenario, found, prepared.outside)
    summary = _summary(settings, scenario, found)
    band = intervals = None
    if settings.bootstrap and scenario.origin.measured:
        intervals, summary["bootstrap"], band = bootstrap(settings, scenario)
    elif payoffs := resampled.of_rates(settings, scenario):
        intervals, summary["bootstrap"] = _of_rates(settings, scenario, payoffs)
    if intervals:
        rows = [row | more for row, more in zip(rows, intervals, strict=True)]
    work.write_csv("outcome.csv", rows)
    work.write_json("outcome.json", rows)
    if game.payoff.of_total:
        several = [found] if found.converged else []
        if game.concave and not found.unique:
            several = equilibria.solve_all(game) or several
        totals = [_total_row(game, one) for one in several]
        if totals:
            work.write_csv("equilibria.csv", totals)
        summary["equilibrium_totals"] = [row["total"] for row in totals]
    all_rows.write_curve(work, scenario, found.profile, band)
    all_rows.write_exchange_rates(work, scenario)
    if settings.conditions:
        summary["conditions"] = str(equilibria.check_conditions(game))
    if found.converged:
        summary["nobody_shares"] = break_even.nobody_shares(game, found.profile, scenario.names)
    summary["not_validated"] = ""
    if prepared.measured is not None and not found.converged:
        summary["not_validated"] = "there is no certified equilibrium to advise"
    elif prepared.measured is not None:
        everybody = np.arange(game.n)
        advice = validation.advice(scenario, settings, found.profile, everybody, refunds.Refunds())
        validation.check(prepared.measured, {"": advice}, settings.validations, work)
    work.write_json("equilibrium.json", summary)
    all_rows.write_scenario(work, scenario)


def show(work: Workdir) -> str:
    """Draws the curve with the equilibrium, and what agents contribute; returns the text."""
    figures.draw(work, "equilibrium", figures.equilibrium, (10, 4))
    if work.has("exchange_rates.csv"):
        figures.draw(work, "exchange_rates", figures.exchange_rates, (7, 5.5))
    return page.write(work, text.equilibrium(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """Data, accuracy and utility at the equilibrium, and how many agents share nothing or prefer to leave."""
    found, agents = work.read_json("equilibrium.json"), work.read_csv("outcome.csv", text=("name",))
    row = {name: found[name] for name in ("total", "contributed", "mean_payoff", "mean_utility")}
    row["share_nothing"] = sum(agent["shares"] == "nothing" for agent in agents)
    row["would_rather_leave"] = sum(agent["rather_leaves"] for agent in agents)
    row |= {name: found[name] for name in ("nash_gap", "converged")}
    return [row | validation.headline(work)]


def agent_rows(
    scenario: scenarios.Scenario, found: equilibria.Equilibrium, outside: np.ndarray
) -> list[dict[str, Any]]:
    """One row per agent: what she contributes, gains, pays, has outside, and could gain by deviating."""
    game, there = scenario.game, all_rows.at(scenario.game, found.profile)
    columns = {
        "contribution": found.profile,
        "capacity": game.capacity,
        "payoff": there["payoff"],
        "cost": there["cost"],
        "utility": there["utility"],
        "outside": outside,
        "nash_gap": found.nash_gap,
        **all_rows.effective(game, found.profile),
    }
    all_rows.check_finite(columns, scenario.names)
    rows = all_rows.of_columns(columns, game.n)
    leave = np.asarray(_leave(game, found.profile, there["utility"], outside))
    return [
        {"name": name, **row, "shares": _role(row), "rather_leaves": bool(leaves)}
        for name, row, leaves in zip(scenario.names, rows, leave, strict=True)
    ]


@jax.jit
def _leave(game: games.Game, s: jax.Array, utilities: jax.Array, outside: jax.Array) -> jax.Array:
    """[n] who has less than outside at a profile s [n] without payments, by more than is negligible."""
    spent = games.incurred_costs(game, s)
    return outside - utilities > outcomes.negligible_at(game, s, spent, jnp.zeros_like(s), outside)


def _role(row: dict[str, float]) -> str:
    """How much of her data an agent shares, in words."""
    if break_even.nothing(row["contribution"], row["capacity"]):
        return "nothing"
    return "all she has" if row["contribution"] >= row["capacity"] * (1 - 1e-9) else "part"


def bootstrap(
    settings: Settings, scenario: scenarios.Scenario
) -> tuple[list[dict[str, Any]], dict[str, Any], tuple[np.ndarray, np.ndarray, np.ndarray] | None]:
    """Solves the game for resampled curves, all of them in one vmapped call.

    Returns:
      rows: for each agent, the intervals of her contribution and utility, and the shares of resampled games
        in which she contributes nothing or would rather leave.
      summary: the interval of what all share, and how many games were resampled and certified.
      band: totals [k], and lower and upper ends of the curve there; None if curves differ between agents.

    If no resampled game has a certified equilibrium there are no rows and no band.
    """
    game, (payoff, shared) = scenario.game, resampled.of_curve(settings, scenario)
    solved = jax.tree.map(np.asarray, _solve_all(game, payoff, scenario.outside, settings.outside))
    converged = solved.certified
    found = jax.tree.map(lambda x: x[converged], solved)
    if not converged.any():
        return [], resampled.summary(settings, found.profile, len(converged)), None
    rows, summary = _intervals(settings, scenario, found, len(converged))
    band = None
    if shared:
        total = _total_of(game, found.profile)
        totals = all_rows.drawn_totals(scenario, float(total.max()))
        values = np.asarray(jax.vmap(lambda one: jax.vmap(one.curve)(jnp.asarray(totals)))(payoff))
        band = (totals, *np.percentile(values, resampled.percentiles(settings), axis=0))
    return rows, summary, band


def _of_rates(
    settings: Settings, scenario: scenarios.Scenario, payoffs: Sequence[Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Solves the game for payoffs of resampled --measurements; rows and summary as of `bootstrap`."""
    found = []
    for payoff in jobs.progress("solving resampled games", len(payoffs), 0, payoffs):
        solved = _solved(scenario.game, payoff, scenario.outside, settings.outside)
        if solved.certified:
            found.append(jax.tree.map(np.asarray, solved))
    if not found:
        return [], resampled.summary(settings, np.zeros((0, scenario.game.n)), len(payoffs))
    return _intervals(settings, scenario, jax.tree.map(lambda *x: np.stack(x), *found), len(payoffs))


def _total_of(game: games.Game, profile: np.ndarray) -> np.ndarray:
    """S = S₀ + Σ w_i s_i of profiles [k, n]."""
    return float(game.held) + (profile * np.asarray(game.quality)).sum(axis=1)


class _Solved(NamedTuple):
    """What comes of a game without payments; of k games with a leading axis [k]."""

    profile: Any  # [n] samples
    utility: Any  # [n]
    outside: Any  # [n] what they have if they leave
    leaves: Any  # [n] who would rather leave
    certified: Any


def _intervals(
    settings: Settings, scenario: scenarios.Scenario, found: _Solved, asked: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What certified resampled games say: a row per agent, and a summary; see `bootstrap`.

    Args:
      settings: with the confidence.
      scenario: of n agents.
      found: of k games, all certified.
      asked: how many games were resampled.
    """
    game, profile = scenario.game, found.profile
    numbers = {"contribution": profile, "utility": found.utility, "gain": found.utility - found.outside}
    rows = resampled.intervals(settings, numbers)
    shares = {
        "shares_nothing_in": break_even.nothing(profile, np.asarray(game.capacity)).mean(axis=0),
        "rather_leaves_in": found.leaves.mean(axis=0),
    }
    rows = [row | more for row, more in zip(rows, all_rows.of_columns(shares, game.n), strict=True)]
    return rows, resampled.summary(settings, profile, asked)


def _solved(game: games.Game, payoff: Any, outside: Any, which: str) -> _Solved:
    """What comes of the game with another payoff.

    Args:
      game: n agents.
      payoff: instead of that of the game.
      outside: [n] what agents have outside, currency, if that is given; None: it depends on the payoff.
      which: of `scenarios.OUTSIDE`, then.
    """
    game = game.replace(payoff=payoff)
    found = equilibria.solve(game)
    utilities = games.utilities(game, found.profile)
    least = personal.outside(game, which) if outside is None else outside
    leaves = _leave(game, found.profile, utilities, least)
    return _Solved(found.profile, utilities, least, leaves, found.converged)


@functools.partial(jax.jit, static_argnums=3)
def _solve_all(game: games.Game, payoff: Any, outside: Any, which: str) -> _Solved:
    """`_solved` of resampled payoffs, with a leading axis [k]."""
    return jax.vmap(lambda one: _solved(game, one, outside, which))(payoff)


def _summary(
    settings: Settings, scenario: scenarios.Scenario, found: equilibria.Equilibrium
) -> dict[str, Any]:
    """`equilibrium.json` of one solved game."""
    game = scenario.game
    there = {name: np.asarray(x) for name, x in all_rows.at(game, found.profile).items()}
    fits = [
        {
            "agent": agent,
            "fit": name,
            "used": name == settings.fit,
            "rmse": fit.rmse,
            "largest": fit.largest,
            "rises": fit.rises,
            "parameters": fit.parameters,
        }
        for agent, several in scenario.origin.fits.items()
        for name, fit in several.items()
    ]
    summary = {
        **all_rows.about(settings, scenario),
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
        **all_rows.measured(scenario, found.profile),
        "mean_payoff": float(np.mean(there["payoff"])),
        "mean_utility": float(np.mean(there["utility"])),
    }
    sums = ("total", "contributed", "mean_payoff", "mean_utility")
    all_rows.check_finite({name: summary[name] for name in sums})
    return summary


def _total_row(game: games.Game, found: equilibria.Equilibrium) -> dict[str, Any]:
    """One row of `equilibria.csv`."""
    there = all_rows.at(game, found.profile)
    return {
        "total": float(there["statistic"]),
        "contributed": float(np.sum(np.asarray(found.profile))),
        "mean_utility": float(np.mean(np.asarray(there["utility"]))),
        "largest_nash_gap": float(np.max(np.asarray(found.nash_gap))),
        "unique": bool(found.unique),
    }


EXPERIMENT = Experiment(
    program="launch.equilibrium",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/equilibrium{inputs.of_measurements(settings)}",
    headline=headline,
    collected=("outcome.csv",),
)
