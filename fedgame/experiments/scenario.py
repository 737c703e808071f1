"""Your own scenario: from two CSV files, or numbers on the command line, to a game.

`inputs` documents the columns of the files.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.experiments import inputs, jobs
from fedgame.experiments import settings as all_settings
from fedgame.games import costs, curves, payoffs, scenarios
from fedgame.games import game as games
from fedgame.registry import option


@dataclasses.dataclass(frozen=True)
class ScenarioSettings:
    """Where the game comes from. Tuples of numbers have one entry, or one per agent."""

    agents: str | None = option(
        "CSV file: name, cost, capacity; optional fixed, exponent, value, quality", None
    )
    curve: str | None = option("CSV file: samples, accuracy; optional standard_error, agent", None)
    scenario: str | None = option("JSON file that an earlier run wrote, instead of all other numbers", None)
    fit: str = option(
        "how --curve is fitted, by a power law with a free ceiling, bound (2), any concave curve, or a "
        "payoff of yours with a `fit`",
        "power",
        choices=curves.fits,
    )
    family: str | None = option(
        "a payoff by numbers instead of --curve, Eq. (3) or Eq. (2)", None, choices=("power", "bound")
    )
    best: tuple[float, ...] | None = option("--family: accuracy with endless data", None, low=0, kind=float)
    scale: tuple[float, ...] | None = option(
        "--family=power: α of best - α (shift + S)^-exponent", None, low=0, kind=float
    )
    power: tuple[float, ...] | None = option("--family=power: the exponent", None, above=0, kind=float)
    shift: tuple[float, ...] = option("--family=power: the shift", (0.0,), low=0, kind=float)
    difficulty: tuple[float, ...] | None = option("--family=bound: k of Eq. (2)", None, above=0, kind=float)
    cost: tuple[float, ...] | None = option(
        "instead of --agents: cost per sample (rate c of c s^exponent + fixed)", None, low=0, kind=float
    )
    exponent: tuple[float, ...] = option("with --cost: exponent of the cost", (1.0,), low=1, kind=float)
    fixed: tuple[float, ...] = option("with --cost: fixed cost while enrolled", (0.0,), low=0, kind=float)
    capacity: tuple[float, ...] | None = option(
        "with --cost: most samples; if not given, what the best accuracy can pay for", None, low=0, kind=float
    )
    value: tuple[float, ...] = option(
        "with --cost: what accuracy 1 is worth, in the currency of costs", (1.0,), low=0, kind=float
    )
    quality: tuple[float, ...] = option(
        "with --cost: standard samples that one sample counts as", (1.0,), above=0, kind=float
    )
    held: float = option("S₀, samples that the server holds already", 0.0, low=0)


_BY_NUMBERS = ("exponent", "fixed", "capacity", "value", "quality")
_OF_FAMILIES = ("best", "scale", "power", "shift", "difficulty")


class Origin(NamedTuple):
    """What the payoff of a scenario was fitted to, and how."""

    measured: dict[str, inputs.Measurements]  # by agent, "" if shared; empty if no curve was measured
    fits: dict[str, dict[str, curves.Fit]]  # by agent and name of the fit, the one used and others


def read(settings: ScenarioSettings) -> scenarios.Scenario:
    """Reads the files, fits the curve and makes the game.

    Raises:
      ValueError: a setting or a row that is not allowed, contradictory settings, a curve that cannot be
        fitted.
      FileNotFoundError: a file is missing.
    """
    all_settings.check(settings)
    _exactly_one(settings, "agents", "cost", "scenario")
    _exactly_one(settings, "curve", "family", "scenario")
    _no_use(settings, "scenario", *_BY_NUMBERS, *_OF_FAMILIES, "held", "fit")
    _no_use(settings, "agents", *_BY_NUMBERS)
    _no_use(settings, "curve", *_OF_FAMILIES)
    _no_use(settings, "family", "fit")
    if settings.scenario:
        return scenarios.load(settings.scenario)._replace(origin=Origin({}, {}))
    agents = inputs.read_agents(settings.agents) if settings.agents else _agents_by_numbers(settings)
    measured, fits = {}, {}
    if settings.curve:
        measured = inputs.read_curve(settings.curve, agents.names)
        fits = _fits(settings, measured)
        payoff = payoff_of({key: fit[settings.fit].payoff for key, fit in fits.items()}, agents.names)
    else:
        payoff = _payoff_by_numbers(settings)
    linear = np.all(agents.exponent == 1.0)  # Section 4 is about linear costs
    cost = (
        costs.LinearCost(agents.cost, agents.fixed)
        if linear
        else costs.PowerCost(agents.cost, agents.exponent, agents.fixed)
    )
    numbers = {"value": agents.value, "quality": agents.quality, "held": settings.held}
    capacity = agents.capacity
    if np.any(np.isnan(capacity)):  # Section 2: more than this only brings negative utility
        capacity = games.capacity_from_bound(
            cost, jnp.asarray(agents.value) * jnp.max(jnp.asarray(payoff.best))
        )
    game = games.check(games.Game(payoff, cost, capacity, **numbers))
    return scenarios.Scenario(game, agents.names, Origin(measured, fits))


def payoff_of(fitted: dict[str, Any], names: list[str]) -> Any:
    """One payoff from a shared curve, or from one curve per agent.

    Raises:
      ValueError: parameters differ in shape, as those of concave curves do that were measured at different
        numbers of sizes.
    """
    if "" in fitted:
        return fitted[""]
    try:
        return jax.tree.map(lambda *x: jnp.stack(x), *(fitted[name] for name in names))
    except ValueError:
        fit = fitted[names[0]].fit_name
        raise ValueError(f"--fit={fit} needs the same number of sizes in every agent's curve") from None


def _no_use(settings: ScenarioSettings, instead: str, *flags: str) -> None:
    """Refuses numbers that would be ignored, because another flag says where they come from."""
    defaults = ScenarioSettings()
    given = [name for name in flags if getattr(settings, name) != getattr(defaults, name)]
    if getattr(settings, instead) and given:
        raise ValueError(f"--{given[0]} has no use with --{instead}")


def _exactly_one(settings: ScenarioSettings, *flags: str) -> None:
    given = [name for name in flags if getattr(settings, name)]
    if len(given) != 1:
        got = " and ".join(f"--{name}" for name in given) or "none"
        raise ValueError(f"give one of {', '.join(f'--{name}' for name in flags)}; got {got}")


def _fits(
    settings: ScenarioSettings, measured: dict[str, inputs.Measurements]
) -> dict[str, dict[str, curves.Fit]]:
    """The fit that was asked for, and of a shared curve the others too where they are possible."""
    found = {}
    with jobs.progress("fitting the curve", len(measured)) as bar:
        for key, one in measured.items():
            try:
                if len(measured) == 1:
                    found[key] = curves.fit_all(one.sizes, one.accuracy, settings.fit)
                else:
                    found[key] = {settings.fit: curves.fit(settings.fit, one.sizes, one.accuracy)}
            except ValueError as error:
                whose = f", agent {key}" if key else ""
                raise ValueError(f"{settings.curve}{whose}: --fit={settings.fit}: {error}") from None
            bar.update()
    return found


def _agents_by_numbers(settings: ScenarioSettings) -> inputs.Agents:
    columns = ("cost", "fixed", "exponent", "capacity", "value", "quality")
    lists = {
        name: getattr(settings, name) for name in (*columns, "best", "scale", "power", "shift", "difficulty")
    }
    n = max(len(x) for x in lists.values() if x)
    wrong = [name for name, x in lists.items() if x and len(x) not in (1, n)]
    if wrong:
        raise ValueError(
            f"--{wrong[0]} needs one number or one for each of {n} agents, got {len(lists[wrong[0]])}"
        )
    if settings.capacity is None and not (settings.family and all(settings.cost)):
        raise ValueError(
            "--cost needs --capacity, unless --family says how much accuracy can pay for, at a cost above 0"
        )
    arrays = {name: np.broadcast_to(np.asarray(lists[name] or (np.nan,), float), (n,)) for name in columns}
    return inputs.Agents(names=[str(i + 1) for i in range(n)], **arrays)


def _payoff_by_numbers(settings: ScenarioSettings) -> Any:
    wanted = {"power": ("best", "scale", "power", "shift"), "bound": ("best", "difficulty")}[settings.family]
    if missing := [name for name in wanted if getattr(settings, name) is None]:
        raise ValueError(f"--family={settings.family} needs --{' --'.join(missing)}")
    numbers = [jnp.asarray(x[0] if len(x) == 1 else x) for x in (getattr(settings, name) for name in wanted)]
    return {"power": payoffs.PowerLaw, "bound": payoffs.GeneralizationBound}[settings.family](*numbers)
