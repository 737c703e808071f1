"""Your own scenario: from two CSV files, or numbers on the command line, to a game.

`agents` and `measurements` document the columns of the files.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import costs, curves, payoffs, scenarios
from fedgame.games import game as games
from fedgame.inputs import agents as participants
from fedgame.inputs import measurements
from fedgame.registry import option
from fedgame.runs import jobs
from fedgame.runs import settings as all_settings


@dataclasses.dataclass(frozen=True)
class ScenarioSettings:
    """Where the game comes from. Tuples of numbers have one entry, or one per agent."""

    agents: str | None = option(
        "CSV file: name, cost, capacity; optional fixed, exponent, value, quality; with --cost=NAME or "
        "--payoff=NAME their parameters",
        None,
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
    payoff: str | None = option(
        "a payoff by its text instead of --curve, for example "
        "'power(best=0.97, scale=6, exponent=0.8, shift=12)'",
        None,
        of="payoff",
        kind=str,
    )
    best: tuple[float, ...] | None = option("--family: accuracy with endless data", None, low=0, kind=float)
    scale: tuple[float, ...] | None = option(
        "--family=power: α of best - α (shift + S)^-exponent", None, low=0, kind=float
    )
    power: tuple[float, ...] | None = option("--family=power: the exponent", None, above=0, kind=float)
    shift: tuple[float, ...] = option("--family=power: the shift", (0.0,), low=0, kind=float)
    difficulty: tuple[float, ...] | None = option("--family=bound: k of Eq. (2)", None, above=0, kind=float)
    cost: tuple[float, ...] | str | None = option(
        "instead of --agents: cost per sample (rate c of c s^exponent + fixed); or a cost by its text, also "
        "with --agents",
        None,
        low=0,
        kind=float,
        of="cost",
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

    measured: dict[str, measurements.Measurements]  # by agent, "" if shared; empty if no curve was measured
    fits: dict[str, dict[str, curves.Fit]]  # by agent and name of the fit, the one used and others


def check(settings: ScenarioSettings) -> None:
    """Raises a `ValueError` for numbers out of range, and for agents or payoffs given twice or not at all."""
    all_settings.check(settings)
    families = settings.agents and isinstance(settings.cost, str)  # of the agents in the file
    _exactly_one(settings, *(("agents", "scenario") if families else ("agents", "cost", "scenario")))
    _exactly_one(settings, "curve", "family", "payoff", "scenario")
    _no_use(settings, "scenario", *_BY_NUMBERS, *_OF_FAMILIES, "held", "fit")
    _no_use(settings, "agents", *_BY_NUMBERS)
    _no_use(settings, "curve", *_OF_FAMILIES)
    _no_use(settings, "family", "fit")
    _no_use(settings, "payoff", "fit", *_OF_FAMILIES)
    if isinstance(settings.cost, str):
        _no_use(settings, "cost", "exponent", "fixed")


def read(settings: ScenarioSettings) -> scenarios.Scenario:
    """Reads the files, fits the curve and makes the game.

    Raises:
      ValueError: a setting or a row that is not allowed, contradictory settings, a curve that cannot be
        fitted.
      FileNotFoundError: a file is missing.
    """
    check(settings)
    if settings.scenario:
        return scenarios.load(settings.scenario)._replace(origin=Origin({}, {}))
    agents = _agents(settings)
    measured, fits = {}, {}
    if settings.curve:
        measured = measurements.read(settings.curve, agents.names)
        fits = _fits(settings, measured)
        payoff = payoff_of({key: fit[settings.fit].payoff for key, fit in fits.items()}, agents.names)
    else:
        payoff = _named(settings, "payoff", agents) if settings.payoff else _payoff_by_numbers(settings)
    cost = _named(settings, "cost", agents) if isinstance(settings.cost, str) else _cost_of(agents)
    numbers = {"value": agents.value, "quality": agents.quality, "held": settings.held}
    capacity = agents.capacity
    if np.any(np.isnan(capacity)):  # Section 2: more than this only brings negative utility
        capacity = games.capacity_from_bound(
            cost, jnp.asarray(agents.value) * jnp.max(jnp.asarray(payoff.best))
        )
    game = games.check(games.Game(payoff, cost, capacity, **numbers))
    return scenarios.Scenario(game, agents.names, Origin(measured, fits))


def _agents(settings: ScenarioSettings) -> participants.Agents:
    """The participants, from a file or from numbers."""
    if not settings.agents:
        return _agents_by_numbers(settings)
    cost, payoff = _columns(settings)
    return participants.read(settings.agents, cost if isinstance(settings.cost, str) else None, payoff)


def _columns(settings: ScenarioSettings) -> tuple[dict[str, dataclasses.Field], dict[str, dataclasses.Field]]:
    """By column, the parameters of the named cost, and of the named payoff, that their texts leave open."""
    found = {}
    for kind in ("cost", "payoff"):
        with all_settings.of_flag(kind):
            text = getattr(settings, kind)
            left = registry.left_open(kind, text)[1] if isinstance(text, str) else {}
        found[kind] = {name: field for name, field in left.items() if _fits_a_column(field)}
    own = found["cost"] if isinstance(settings.cost, str) else participants.COST
    taken = {*participants.NAMES, *(own.keys() & found["payoff"].keys())}
    cost, payoff = (
        {f"{kind}.{name}" if name in taken else name: field for name, field in found[kind].items()}
        for kind in ("cost", "payoff")
    )
    return cost, payoff


def _fits_a_column(field: dataclasses.Field) -> bool:
    """Whether a parameter is one number of an agent, always there or with a number for those without."""
    about, default = field.metadata, field.default
    number = default is dataclasses.MISSING or (isinstance(default, int | float))
    number &= about["kind"] not in (bool, str) and not about["of"]
    return about["rank"] == 0 and about["pytree_node"] and number


def _named(settings: ScenarioSettings, kind: str, agents: participants.Agents) -> Any:
    """The cost or the payoff that the settings name, with parameters from columns of --agents."""
    cost, payoff = _columns(settings)
    columns = cost if kind == "cost" else payoff
    given = {x.removeprefix(f"{kind}."): agents.numbers[x] for x in columns if x in agents.numbers}
    return _read(settings, kind, given)


def _cost_of(agents: participants.Agents) -> costs.Cost:
    """c s^exponent + fixed; linear if all exponents are 1, for Section 4 is about linear costs."""
    cost, fixed, exponent = (agents.numbers[name] for name in ("cost", "fixed", "exponent"))
    if np.all(exponent == 1.0):
        return costs.LinearCost(cost, fixed)
    return costs.PowerCost(cost, exponent, fixed)


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
        fit = registry.name_of(type(fitted[names[0]]))
        raise ValueError(f"--fit={fit} needs the same number of sizes in every agent's curve") from None


def _no_use(settings: ScenarioSettings, instead: str, *flags: str) -> None:
    """Refuses numbers that would be ignored, because another flag says where they come from."""
    defaults = ScenarioSettings()
    given = [name for name in flags if getattr(settings, name) != getattr(defaults, name)]
    if (chosen := getattr(settings, instead)) and given:
        text = f"={chosen}" if instead in ("cost", "payoff") else ""
        raise ValueError(f"--{given[0]} has no use with --{instead}{text}")


def _exactly_one(settings: ScenarioSettings, *flags: str) -> None:
    given = [name for name in flags if getattr(settings, name)]
    if len(given) != 1:
        got = " and ".join(f"--{name}" for name in given) or "none"
        raise ValueError(f"give one of {', '.join(f'--{name}' for name in flags)}; got {got}")


def _fits(
    settings: ScenarioSettings, measured: dict[str, measurements.Measurements]
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


def _agents_by_numbers(settings: ScenarioSettings) -> participants.Agents:
    own = () if isinstance(settings.cost, str) else ("cost", "fixed", "exponent")
    columns = (*own, "capacity", "value", "quality")
    lengths = {name: len(x) for name in (*columns, *_OF_FAMILIES) if (x := getattr(settings, name))}
    lengths |= _lengths(settings, "cost") | _lengths(settings, "payoff")
    n = max(lengths.values())
    if wrong := [name for name, length in lengths.items() if length not in (1, n)]:
        raise ValueError(
            f"--{wrong[0]} needs one number or one for each of {n} agents, got {lengths[wrong[0]]}"
        )
    if settings.capacity is None and not (_has_a_best(settings) and (not own or all(settings.cost))):
        raise ValueError(
            "--cost needs --capacity, unless --family, or power or bound as --payoff, says how much accuracy "
            "can pay for, at a cost above 0"
        )
    arrays = {
        name: np.broadcast_to(np.asarray(getattr(settings, name) or (np.nan,), float), (n,))
        for name in columns
    }
    main = [arrays[name] for name in ("capacity", "value", "quality")]
    return participants.Agents([str(i + 1) for i in range(n)], *main, {name: arrays[name] for name in own})


def _has_a_best(settings: ScenarioSettings) -> bool:
    """Whether numbers, not a curve, say what accuracy endless data bring."""
    known = payoffs.PowerLaw, payoffs.GeneralizationBound
    return bool(settings.family or (settings.payoff and isinstance(_read(settings, "payoff"), known)))


def _read(settings: ScenarioSettings, kind: str, given: dict[str, Any] | None = None) -> Any:
    """The cost or the payoff that the settings name; `given`: options that its text leaves open."""
    text = getattr(settings, kind)
    with all_settings.of_flag(kind):
        return registry.read(kind, text, {registry.left_open(kind, text)[0]: given or {}})


def _lengths(settings: ScenarioSettings, kind: str) -> dict[str, int]:
    """How many agents the numbers of the named cost or payoff are for."""
    if not isinstance(getattr(settings, kind), str):
        return {}
    family = _read(settings, kind)
    return {
        f"{kind}: {field.name}": len(value)
        for field in registry.numbers(family)
        if registry.is_per_agent(value := getattr(family, field.name), field)
    }


def _payoff_by_numbers(settings: ScenarioSettings) -> Any:
    wanted = {"power": ("best", "scale", "power", "shift"), "bound": ("best", "difficulty")}[settings.family]
    if missing := [name for name in wanted if getattr(settings, name) is None]:
        raise ValueError(f"--family={settings.family} needs --{' --'.join(missing)}")
    numbers = [jnp.asarray(x[0] if len(x) == 1 else x) for x in (getattr(settings, name) for name in wanted)]
    return {"power": payoffs.PowerLaw, "bound": payoffs.GeneralizationBound}[settings.family](*numbers)
