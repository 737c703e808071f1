"""What several experiments write in their rows: curves, what a mechanism announces, the largest Nash gap."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import certificates
from fedgame.games import exchange_rates as fitted
from fedgame.games import game as games
from fedgame.games import payoffs, scenarios
from fedgame.inputs import exchange_rates, mixtures
from fedgame.inputs import read as inputs
from fedgame.mechanisms import personal
from fedgame.mechanisms.base import Mechanism
from fedgame.report import money
from fedgame.runs import settings as all_settings
from fedgame.runs.workdir import Workdir

# Columns that `outcome.csv` of launch.mechanism and `utilities.csv` of launch.compare have in any case.
_OF_OUTCOME = (
    "name, contribution, capacity, payoff, cost, utility, nash_gap, stays, exact_payment, payment, outside, "
    "without_payments, contribution_without_payments, with_everybody"
)
_OF_UTILITIES = (
    "protocol, seed, agent, contribution, charged, accuracy, withheld, cost, payment, utility, "
    "held_out_utility"
)
_CURVES = 8  # the number of agents, from the first, whose own curves are drawn
_TAKEN = {*_OF_OUTCOME.split(", "), *_OF_UTILITIES.split(", ")}


def check(settings: inputs.ScenarioSettings) -> None:
    """Raises as `inputs.check`; also a `ValueError` for a currency that does not exist."""
    inputs.check(settings)
    with all_settings.of_flag("currency"):
        money.currency(settings.currency)


def outside(settings: inputs.ScenarioSettings, scenario: scenarios.Scenario) -> np.ndarray:
    """[n] what agents have if they leave, currency: what the scenario says, else what --outside says.

    Raises:
      ValueError: both say it.
    """
    if scenario.outside is None:
        return np.asarray(personal.outside(scenario.game, settings.outside))
    if settings.outside != inputs.ScenarioSettings().outside:
        raise ValueError(f"--outside={settings.outside} has no use: the agents' column `outside` says it")
    return np.asarray(scenario.outside)


def about(settings: inputs.ScenarioSettings, scenario: scenarios.Scenario) -> dict[str, Any]:
    """What the summary of any solved game says of where the game comes from, as JSON values."""
    return {
        "agents": scenario.game.n,
        "read": list(scenario.origin.notes),
        "currency": settings.currency,
        "values": [float(np.min(scenario.game.value)), float(np.max(scenario.game.value))],
        "outside": settings.outside if scenario.outside is None else "given",
        "own": getattr(scenario.game.payoff, "own", ""),
        "data": "samples" if _exchange_of(scenario) is None else "records",
        "flat": [agent for agent, fits in scenario.origin.fits.items() if not fits[settings.fit].rises],
        "samples": what_samples_count(scenario),
        "exchange": exchange(scenario),
        **_of_measured_records(settings, scenario),
    }


def _of_measured_records(settings: inputs.ScenarioSettings, scenario: scenarios.Scenario) -> dict[str, Any]:
    """What is known with --measurements of how many records members have, as JSON values.

    Returns:
      `trainable`: whose capacity is all that can be trained on, less than she owns, with both numbers.
      `unmeasured`: those whose capacity is more than was measured of hers, with both numbers.
    """
    found, trainable, unmeasured = _exchange_of(scenario), [], []
    if found is not None:
        owned = mixtures.owned(settings.measurements)
        measured = np.max(found.samples, axis=0)
        for name, most, capacity in zip(
            scenario.names, measured.tolist(), np.asarray(scenario.game.capacity).tolist(), strict=True
        ):
            if capacity > most:
                unmeasured.append({"name": name, "capacity": capacity, "measured": most})
            elif capacity == most < owned.get(name, 0):
                trainable.append({"name": name, "capacity": capacity, "owned": owned[name]})
    return {"trainable": trainable, "unmeasured": unmeasured}


@jax.jit
def at(game: games.Game, s: jax.Array) -> dict[str, jax.Array]:
    """What agents have at a profile s [n] without payments.

    Returns:
      By column: `payoff` a_i(s), `cost` c_i(s_i) and `utility` u_i(s), [n] each; `total`, S; and `statistic`,
      what payoffs see of s, which is S for payoffs of the total.
    """
    return {
        "payoff": games.payoff_values(game, s),
        "cost": games.incurred_costs(game, s),
        "utility": games.utilities(game, s),
        "total": games.total(game, s),
        "statistic": games.statistic(game, s),
    }


@jax.jit
def curve_at(game: games.Game, i: int, totals: jax.Array) -> jax.Array:
    """Agent i's accuracy at totals [k], in samples; only for payoffs that depend on s through the total."""
    return jax.vmap(games.agent_of(game, i).payoff.curve)(totals)


def of_columns(columns: Mapping[str, Any], n: int) -> list[dict[str, float]]:
    """Returns n rows of plain numbers from columns [n], by name."""
    numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
    return [{name: column[i] for name, column in numbers.items()} for i in range(n)]


def check_finite(found: Mapping[str, Any], names: Sequence[Any] = ()) -> None:
    """Refuses results that are no numbers, although all that was given is finite.

    Args:
      found: by name, one number, or [n] of the agents.
      names: of the agents.

    Raises:
      FloatingPointError: names the first such result, and whose it is.
    """
    for what, numbers in found.items():
        bad = np.flatnonzero(~np.isfinite(np.asarray(numbers, float)))
        if len(bad):
            whose = f" of agent {names[bad[0]]}" if np.ndim(numbers) else ""
            number = float(np.ravel(numbers)[bad[0]])
            raise FloatingPointError(
                f"{what.replace('_', ' ')}{whose} is {number}, not a finite number, though all inputs are: "
                "they are too large or too small to compute with; use another unit of money or of samples"
            )


def curve(
    agent: str, totals: Any, accuracy: Any, band: tuple[Any, Any] | None = None
) -> list[dict[str, Any]]:
    """Rows of `fitted_curve.csv`, one for each total.

    Args:
      agent: whose curve it is; "" if all agents share it.
      totals: [k] samples.
      accuracy: [k] at these totals.
      band: lower and upper ends, [k] each, of the interval around the curve; None: the cells stay empty.
    """
    nothing = [None] * len(totals)
    lower, upper = (nothing, nothing) if band is None else band
    return [
        {"agent": agent, "samples": float(total), "accuracy": float(a), "low": low, "high": high}
        for total, a, low, high in zip(totals, accuracy, lower, upper, strict=True)
    ]


def drawn_totals(scenario: scenarios.Scenario, total: float) -> np.ndarray:
    """[301] totals at which the curve is drawn: up to the largest measured, and beyond `total`.

    If nothing was measured and nobody shares anything, up to all that agents have.
    """
    game = scenario.game
    longest = max((one.sizes[-1] for one in scenario.origin.measured.values()), default=0.0)
    everything = float(game.held) + float(np.sum(np.asarray(game.quality) * np.asarray(game.capacity)))
    last = max(longest, 1.2 * total)
    return np.linspace(0.0, everything if last <= 1e-9 * everything else last, 301)


def write_curve(
    work: Workdir, scenario: scenarios.Scenario, profile: Any, band: tuple[Any, Any, Any] | None = None
) -> None:
    """Writes the accuracy over the total to `fitted_curve.csv`, and measurements of it to `curve.csv`.

    The first is left out of payoffs that depend on more than the total, the second if nothing was measured.

    Args:
      work: the directory.
      scenario: of n agents.
      profile: [n] samples; the curve is drawn beyond their total.
      band: totals [k], and lower and upper ends of the curve there; None: there are none.
    """
    game = scenario.game
    if game.payoff.of_total:
        if band is None:
            totals, ends = drawn_totals(scenario, float(at(game, profile)["total"])), None
        else:
            totals, *ends = band
        shared = 0 not in jax.tree.leaves(registry.axes(game.payoff))
        fitted_curve = []
        for i, agent in enumerate([""] if shared else scenario.names[:_CURVES]):
            fitted_curve += curve(agent, totals, np.asarray(curve_at(game, i, totals)), ends)
        work.write_csv("fitted_curve.csv", fitted_curve)
    if scenario.origin.measured:
        work.write_csv("curve.csv", _measured(scenario))


def _measured(scenario: scenarios.Scenario) -> list[dict[str, Any]]:
    """One row per curve, repetition and size; missing repetitions are left out."""
    return [
        {"agent": agent, "samples": float(size), "accuracy": float(accuracy)}
        for agent, one in scenario.origin.measured.items()
        for repetition in np.atleast_2d(one.accuracy)
        for size, accuracy in zip(one.sizes, repetition, strict=True)
        if np.isfinite(accuracy)
    ]


def announced(mechanism: Mechanism, n: int) -> dict[str, Any]:
    """What each of n agents is told, [n] by column; no column has the name of another one of the table."""
    return {_column(name): numbers for name, numbers in mechanism.announced(n).items()}


def shown(mechanism: Mechanism) -> dict[str, str]:
    """The headers of those columns of `announced` that are printed, by column."""
    return {_column(name): header for name, header in mechanism.columns.items()}


def _column(name: str) -> str:
    return f"announced_{name}" if name in _TAKEN else name


def told(mechanism: Mechanism, n: int) -> str:
    """What n agents are told, in a few characters: β = 0.9, or β_i = 0.85 to 0.95."""
    numbers = mechanism.announced(n)
    return ", ".join(_span(label, numbers[name]) for name, label in mechanism.columns.items())


def _span(label: str, numbers: Any) -> str:
    numbers = np.asarray(numbers)
    low, high = float(np.min(numbers)), float(np.max(numbers))
    if low == high:
        return f"{label.removesuffix('_i')} = {low:.6g}"
    return f"{label} = {low:.6g} to {high:.6g}"


@jax.jit
def largest_gap(game: games.Game, mechanism: Mechanism, s: jax.Array) -> jax.Array:
    """The largest Nash gap of a profile s [n] in the game under a mechanism, in the currency of utilities."""
    return jnp.max(certificates.nash_gap(mechanism.under(game), s))


def effective(game: games.Game, s: Any) -> dict[str, Any]:
    """z_i, [n], the effective samples at a profile, as a column; none if the payoff is not of them."""
    if not isinstance(game.payoff, payoffs.EffectiveSamples):
        return {}
    return {"effective": np.asarray(_effective(game, jnp.asarray(s)))}


_effective = jax.jit(games.over_agents(lambda agent, own, rest: agent.payoff.effective(own, rest)))


def measured(scenario: scenarios.Scenario, s: Any) -> dict[str, Any]:
    """How far the measurements behind a game reach, and who is beyond them at s [n], as JSON values."""
    sizes = [float(one.sizes[-1]) for one in scenario.origin.measured.values()]
    return {
        "largest_measured": max(sizes, default=None),
        "of_total": bool(scenario.game.payoff.of_total),
        "extrapolated": extrapolated(scenario, s),
    }


def extrapolated(scenario: scenarios.Scenario, s: Any) -> list[str]:
    """The names of the agents who have more effective samples at a profile than were measured."""
    found, there = _exchange_of(scenario), effective(scenario.game, s)
    if not there:
        return []
    most = np.inf
    if found is not None:
        most = np.max(found.samples @ np.asarray(scenario.game.payoff.rates).T, axis=0)
    elif scenario.origin is not None and scenario.origin.measured:
        most = max(float(one.sizes[-1]) for one in scenario.origin.measured.values())
    beyond = there["effective"] > np.broadcast_to(most, len(scenario.names)) * (1.0 + 1e-9)
    return [scenario.names[i] for i in np.flatnonzero(beyond)]


def write_scenario(work: Workdir, scenario: scenarios.Scenario) -> None:
    """Writes `scenario.json`, which --scenario reads, if JSON can hold the game."""
    if scenarios.holds(scenario.game):
        given = scenario.game, scenario.names, scenario.outside
        work.put("scenario.json", lambda path: scenarios.save(path, *given))


def write_exchange_rates(work: Workdir, scenario: scenarios.Scenario) -> None:
    """Writes `exchange_rates.csv` of effective samples or of measured mixtures, with intervals if fitted."""
    found, low, high = _exchange_of(scenario), None, None
    if found is not None:
        rates = np.asarray(found.fit.rates)
        low, high = found.intervals or (None, None)
    elif isinstance(scenario.game.payoff, payoffs.EffectiveSamples):
        rates = np.asarray(scenario.game.payoff.rates)
    else:
        return
    work.write_csv(exchange_rates.FILE, exchange_rates.rows(scenario.names, rates, low, high))


def _exchange_of(scenario: scenarios.Scenario) -> Any:
    """What was found in --measurements, or None."""
    return getattr(scenario.origin, "exchange", None)


def exchange(scenario: scenarios.Scenario) -> dict[str, Any] | None:
    """What was found in --measurements, as JSON values; None without them."""
    found = _exchange_of(scenario)
    return None if found is None else exchange_of(found, scenario.names)


def exchange_of(found: Any, names: Sequence[str]) -> dict[str, Any]:
    """What an `inputs.fits.Exchange` says of members of these names, as JSON values."""
    return {
        "model": found.fit.model,
        "best": found.choice.model,
        "metric": found.metric,
        "p_value_of_equal_rates": found.test.p_value,
        "members": [
            {
                "name": name,
                "noise": float(found.choice.noise[i]),
                **{model: float(x) for model, x in zip(fitted.MODELS, found.choice.error[:, i], strict=True)},
            }
            for i, name in enumerate(names)
        ],
        "without_data": bool(found.without_data),
        "rates": np.asarray(found.fit.rates).tolist(),
        "low": None if found.intervals is None else _or_none(found.intervals.low),
        "high": None if found.intervals is None else _or_none(found.intervals.high),
        "harmful": [
            {"member": names[i], "of": names[j]} for i, j in np.argwhere(np.asarray(found.fit.harmful))
        ],
    }


def _or_none(numbers: np.ndarray) -> list[list[float | None]]:
    """A matrix as lists, with None where it is NaN."""
    return [[float(x) if np.isfinite(x) else None for x in row] for row in numbers]


def what_samples_count(scenario: scenarios.Scenario) -> str:
    """What the payoff takes samples to be worth, in a sentence; "" if nothing is to be said."""
    if scenario.game.payoff.of_total and _exchange_of(scenario) is None:
        return (
            "every sample is taken to count the same for everybody; measure to test that (--measurements, or "
            "--exchange_rates if you know better)"
        )
    if not scenario.game.payoff.own_gain:
        return (
            "her own records teach a member's model whether she shares them or not: without payments nobody "
            "gains by sharing"
        )
    return ""
