"""Who contributes what: the equilibrium of a federation, certified, with intervals, as files."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria
from fedgame.experiments import break_even, memory, validation
from fedgame.experiments import rows as all_rows
from fedgame.games import curves, scenarios
from fedgame.games import game as games
from fedgame.inputs import read as inputs
from fedgame.mechanisms import outcomes, personal, refunds
from fedgame.registry import option
from fedgame.report import figures, page, text
from fedgame.runs import experiment, jobs
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

_ARRAYS = 50  # numbers of every agent that the solver and the certificate of one resampled game take
_RESAMPLED = 50  # agents up to whom the game is solved for resampled exchange rates too
_GAMES = 100  # how often


@dataclasses.dataclass(frozen=True)
class Settings(validation.Settings, inputs.ScenarioSettings):
    """Settings of `launch.equilibrium`."""

    bootstrap: int = option("resampled curves, for intervals", 0, low=0)
    confidence: float = option("of the intervals", 0.95, above=0, high=1)
    conditions: bool = option("also check the assumptions of Theorems 3.1 and 3.2", False)
    seed: int = option("of the resampling", 0, low=0, high=2**31 - 1)


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
    if settings.bootstrap and not settings.curve:
        raise ValueError("--bootstrap resamples measurements: it needs --curve")
    if settings.bootstrap and settings.exchange_rates:
        raise ValueError(
            "--bootstrap has no use with --exchange_rates, which have an uncertainty of their own"
        )


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """The game that the settings describe; raises as `inputs.read`."""
    check(settings)
    measured = validation.behind(settings)  # before anything is fitted
    scenario = inputs.read(settings)
    validation.check_scenario(measured, scenario)
    resampled = 8.0 * _ARRAYS * settings.bootstrap * scenario.game.n
    memory.check("resampled games, solved together,", {f"--bootstrap={settings.bootstrap}": resampled})
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
    if settings.bootstrap:
        intervals, summary["bootstrap"], band = bootstrap(settings, scenario)
    elif scenario.origin.exchange is not None and game.n <= _RESAMPLED:
        intervals, resampled = _of_resampled_rates(settings, scenario)
        if intervals:
            summary["bootstrap"] = resampled
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
      summary: the interval of the total S, and how many games were resampled and certified.
      band: totals [k], and lower and upper ends of the curve there; None if curves differ between agents.

    Raises:
      FloatingPointError: not one resampled game has a certified equilibrium.
    """
    game, (payoff, shared) = scenario.game, _resampled(settings, scenario)
    solved = jax.tree.map(np.asarray, _solve_all(game, payoff, scenario.outside, settings.outside))
    converged = solved.certified
    if not converged.any():
        raise FloatingPointError("no resampled game has a certified equilibrium")
    found = jax.tree.map(lambda x: x[converged], solved)
    rows, summary = _intervals(settings, scenario, found, len(converged))
    band = None
    if shared:
        percentiles = 50 * (1 - settings.confidence), 50 * (1 + settings.confidence)
        total = _total_of(game, found.profile)
        totals = all_rows.drawn_totals(scenario, float(total.max()))
        values = np.asarray(jax.vmap(lambda one: jax.vmap(one.curve)(jnp.asarray(totals)))(payoff))
        band = (totals, *np.percentile(values, percentiles, axis=0))
    return rows, summary, band


def _of_resampled_rates(
    settings: Settings, scenario: scenarios.Scenario
) -> tuple[list[dict[str, Any]] | None, dict[str, Any] | None]:
    """Solves the game for the fits to resampled --measurements; rows and summary as of `bootstrap`.

    (None, None) if none of them has a certified equilibrium.
    """
    game, exchange = scenario.game, scenario.origin.exchange
    drawn = exchange.resampled[:_GAMES]
    found = []
    for fit in jobs.progress("solving resampled games", len(drawn), 0, drawn):
        payoff = inputs.payoff_of_exchange(
            exchange._replace(fit=fit), settings.own, np.asarray(game.capacity)
        )
        solved = _solved(game, payoff, scenario.outside, settings.outside)
        if solved.certified:
            found.append(jax.tree.map(np.asarray, solved))
    if not found:
        return None, None
    return _intervals(settings, scenario, jax.tree.map(lambda *x: np.stack(x), *found), len(drawn))


def _total_of(game: games.Game, profile: np.ndarray) -> np.ndarray:
    """S = S₀ + Σ w_i s_i of profiles [k, n]."""
    return float(game.held) + (profile * np.asarray(game.quality)).sum(axis=1)


class _Solved(NamedTuple):
    """What comes of a game without payments; of k games with a leading axis [k]."""

    profile: Any  # [n] samples
    utility: Any  # [n]
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
    percentiles = 50 * (1 - settings.confidence), 50 * (1 + settings.confidence)
    contribution_low, contribution_high = np.percentile(profile, percentiles, axis=0)
    utility_low, utility_high = np.percentile(found.utility, percentiles, axis=0)
    columns = {
        "contribution_low": contribution_low,
        "contribution_high": contribution_high,
        "utility_low": utility_low,
        "utility_high": utility_high,
        "shares_nothing_in": break_even.nothing(profile, np.asarray(game.capacity)).mean(axis=0),
        "rather_leaves_in": found.leaves.mean(axis=0),
    }
    total_low, total_high = np.percentile(_total_of(game, profile), percentiles)
    summary = {
        "resamples": asked,
        "certified": len(profile),
        "confidence": settings.confidence,
        "total_low": float(total_low),
        "total_high": float(total_high),
    }
    return all_rows.of_columns(columns, game.n), summary


def _resampled(settings: Settings, scenario: scenarios.Scenario) -> tuple[Any, bool]:
    """The payoff with a leading axis of resamples, and whether one curve is shared by all agents."""
    stacked = {}
    with jobs.progress("resampling the curve", settings.bootstrap * len(scenario.origin.measured)) as bar:

        def counted(items: Iterable) -> Iterable:
            for item in items:
                yield item
                bar.update()

        for agent, measured in scenario.origin.measured.items():
            stacked[agent] = curves.bootstrap(
                settings.fit, *measured, samples=settings.bootstrap, seed=settings.seed, progress=counted
            )
    payoff = inputs.payoff_of(stacked, scenario.names)
    if "" in stacked:
        return payoff, True
    # Each agent's numbers are [resamples, …], so those of all agents were stacked to [n, resamples, …].
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), payoff), False


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
    return _Solved(found.profile, utilities, _leave(game, found.profile, utilities, least), found.converged)


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
    measured = scenario.origin.measured.values()
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
        "largest_measured": max((float(one.sizes[-1]) for one in measured), default=None),
        "of_total": bool(game.payoff.of_total),
        "extrapolated": all_rows.extrapolated(scenario, found.profile),
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
