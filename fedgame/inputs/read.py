"""A user's own scenario: from two CSV files, or from numbers on the command line, to a game.

`agents` and `measurements` document the columns of the files.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import costs, curves, payoffs, scenarios
from fedgame.games import exchange_rates as fitted_rates
from fedgame.games import game as games
from fedgame.inputs import agents as participants
from fedgame.inputs import columns, exchange_rates, measurements
from fedgame.inputs import fits as fitting
from fedgame.inputs import mixtures as measured_mixtures
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
        kind=pathlib.Path,
    )
    curve: str | None = option(
        "CSV file: samples, accuracy; optional standard_error, agent", None, kind=pathlib.Path
    )
    scenario: str | None = option(
        "JSON file that an earlier run wrote, instead of all other numbers", None, kind=pathlib.Path
    )
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
    measurements: str | None = option(
        "folder with mixtures.csv and measurements.csv, accuracies of models of different mixtures of the "
        "members' samples, instead of --curve: exchange rates and curves are fitted to them",
        None,
        kind=pathlib.Path,
    )
    exchange_rates: str | None = option(
        "CSV file: member, of, rate; how many of her own samples one of another member's is worth to each. "
        "The curve is then one of a member's effective samples",
        None,
        kind=pathlib.Path,
    )
    rates: str = option(
        "--measurements: what another member's sample is taken to be worth: as much as an own one, a rate "
        "per member, or a rate per pair; or whichever of these predicts held-out mixtures best",
        "chosen",
        choices=("chosen", *fitted_rates.MODELS),
    )
    own: str = option(
        "with exchange rates: what of her own teaches a member's own model, only what she contributes or, "
        "always, all her records",
        "contributed",
        choices=("contributed", payoffs.ALWAYS),
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
    outside: str = option(
        "what agents have if they leave: what they train alone, at their cost per sample; a model of all "
        "records that they own, at no cost; or no model. A column `outside` of --agents says it instead",
        "alone",
        choices=scenarios.OUTSIDE,
    )
    currency: str = option("of costs and values, such as EUR: how reports write amounts", "", kind=str)
    held: float = option("S₀, samples that the server holds already", 0.0, low=0)


_BY_NUMBERS = ("exponent", "fixed", "capacity", "value", "quality")  # flags that agents' files replace
_OF_FAMILIES = ("best", "scale", "power", "shift", "difficulty")  # flags of payoffs by numbers
_FAMILIES = {  # of --family: the payoff, and the flags that are its parameters, in their order
    "power": (payoffs.PowerLaw, ("best", "scale", "power", "shift")),
    "bound": (payoffs.GeneralizationBound, ("best", "difficulty")),
}


class Origin(NamedTuple):
    """The measurements behind the payoff of a scenario, and their fits."""

    measured: dict[str, measurements.Measurements]  # by agent, "" if shared; empty if no curve was measured
    fits: dict[str, dict[str, curves.Fit]]  # by agent and name of the fit: the one that is used, and others
    exchange: fitting.Exchange | None = None
    notes: Sequence[str] = ()  # sentences on what was read, and what was skipped


def check(settings: ScenarioSettings) -> None:
    """Raises a `ValueError` for numbers out of range, and for agents or payoffs given twice or not at all."""
    all_settings.check(settings)
    if settings.agents and isinstance(settings.cost, str):  # the cost of the agents in the file
        _exactly_one(settings, "agents", "scenario")
    else:
        _exactly_one(settings, "agents", "cost", "scenario")
    _exactly_one(settings, "curve", "family", "payoff", "measurements", "scenario")
    _no_use(settings, "scenario", *_BY_NUMBERS, *_OF_FAMILIES, "held", "fit", "exchange_rates", "own")
    _no_use(settings, "measurements", *_OF_FAMILIES, "fit", "exchange_rates")
    _no_use(settings, "agents", *_BY_NUMBERS)
    _no_use(settings, "curve", *_OF_FAMILIES)
    _no_use(settings, "family", "fit")
    _no_use(settings, "payoff", "fit", *_OF_FAMILIES)
    if isinstance(settings.cost, str):
        _no_use(settings, "cost", "exponent", "fixed")
    if settings.rates != fitting.CHOSEN and not settings.measurements:
        raise ValueError(f"--rates={settings.rates} needs --measurements")
    if settings.own != ScenarioSettings().own and not (settings.exchange_rates or settings.measurements):
        raise ValueError(f"--own={settings.own} needs --exchange_rates or --measurements")


def read(settings: ScenarioSettings) -> scenarios.Scenario:
    """Reads the files, fits the curve and makes the game.

    Raises:
      ValueError: a setting or a row is not allowed, settings contradict each other, or a curve cannot be
        fitted.
      FileNotFoundError: a file is missing.
    """
    check(settings)
    if settings.scenario:
        scenario = scenarios.load(settings.scenario)
        notes = [f"{columns.counted(scenario.game.n, 'participant')} from {settings.scenario}"]
        return scenario._replace(origin=Origin({}, {}, notes=notes))
    notes: list[str] = []
    agents = _agents(settings, notes)
    measured, fits, exchange, payoff = {}, {}, None, None
    if settings.measurements:
        if settings.held > 0 or np.any(agents.quality != 1.0):
            raise ValueError("with --measurements qualities are 1, and the server holds nothing (--held)")
        exchange = _fitted(settings, agents.names, notes)
    elif settings.curve:
        measured = measurements.read(settings.curve, agents.names, notes)
        fits = _fits(settings, measured)
        payoff = payoff_of({key: fit[settings.fit].payoff for key, fit in fits.items()}, agents.names)
    elif settings.payoff:
        payoff = _named(settings, "payoff", agents)
    else:
        payoff = _payoff_by_numbers(settings)
    cost = _named(settings, "cost", agents) if isinstance(settings.cost, str) else _cost_of(agents)
    capacity = agents.capacity
    if np.any(np.isnan(capacity)):  # not given; Section 2: more than this only brings negative utility
        best = jnp.max(jnp.asarray(payoff.best))
        with all_settings.of_flag("capacity"):
            capacity = games.capacity_from_bound(cost, jnp.asarray(agents.value) * best)
    if settings.exchange_rates:
        rates = exchange_rates.read(settings.exchange_rates, agents.names, notes)
        payoff = fitting.effective(payoff, rates, settings.own, capacity)
    if exchange is not None:
        payoff = fitting.payoff_of(exchange, settings.own, capacity)
    game = games.Game(payoff, cost, capacity, value=agents.value, quality=agents.quality, held=settings.held)
    outside = None if np.any(np.isnan(agents.outside)) else agents.outside
    origin = Origin(measured, fits, exchange, notes)
    return scenarios.Scenario(games.check(game), agents.names, origin, outside)


def _fitted(settings: ScenarioSettings, names: list[str], notes: list[str]) -> fitting.Exchange:
    """Rates and curves that fit --measurements, of the model that predicts held-out mixtures best.

    What was read is added to `notes`.
    """
    folder = settings.measurements
    try:
        mixtures = measured_mixtures.read(folder, None, notes)
        for name in sorted({*names} ^ {*mixtures.members}):
            told = "was not measured" if name in names else "is no participant"
            raise ValueError(f"{name} {told}: measured were {', '.join(mixtures.members)}")
        metric = measured_mixtures.metric(folder)
        found = fitting.read(folder, mixtures, settings.rates, metric)
        if found is None:
            found = fitting.fitted(mixtures, settings.rates, metric)
    except ValueError as error:
        told = str(error)
        where = "" if told.startswith(folder) else f"{folder}: "
        raise ValueError(f"{where}{told}") from None
    return fitting.in_order(found, [mixtures.members.index(name) for name in names])


def of_measurements(settings: ScenarioSettings) -> str:
    """What is added to the name of a folder of results, to tell those of different measurements apart."""
    name = pathlib.Path(settings.measurements or "").resolve().name.removeprefix("measure_")
    return f"_{name}" if settings.measurements else ""


def _agents(settings: ScenarioSettings, notes: list[str]) -> participants.Agents:
    """The participants, from a file or from numbers; what was read is added to `notes`."""
    if not settings.agents:
        return _agents_by_numbers(settings)
    cost, payoff = _columns(settings)
    parameters = cost if isinstance(settings.cost, str) else None
    return participants.read(settings.agents, parameters, payoff, notes)


def _columns(settings: ScenarioSettings) -> tuple[dict[str, dataclasses.Field], dict[str, dataclasses.Field]]:
    """The parameters that the texts of the named cost and of the named payoff leave open, by column.

    A parameter's column is called `cost.NAME` or `payoff.NAME` if another column of the file has its name.
    """
    cost, payoff = _open_parameters(settings, "cost"), _open_parameters(settings, "payoff")
    of_cost = cost if isinstance(settings.cost, str) else participants.COST
    taken = {*participants.NAMES, *(of_cost.keys() & payoff.keys())}
    return _renamed(cost, "cost", taken), _renamed(payoff, "payoff", taken)


def _open_parameters(settings: ScenarioSettings, kind: str) -> dict[str, dataclasses.Field]:
    """The parameters that the text of the cost or the payoff leaves open, those that fit a column."""
    text = getattr(settings, kind)
    if not isinstance(text, str):
        return {}
    with all_settings.of_flag(kind):
        _, left = registry.left_open(kind, text)
    return {name: field for name, field in left.items() if _fits_a_column(field)}


def _renamed(
    fields: dict[str, dataclasses.Field], kind: str, taken: set[str]
) -> dict[str, dataclasses.Field]:
    return {f"{kind}.{name}" if name in taken else name: field for name, field in fields.items()}


def _fits_a_column(field: dataclasses.Field) -> bool:
    """Whether a parameter is one number for each agent, and its default, if it has one, is a number."""
    about, default = field.metadata, field.default
    if default is not dataclasses.MISSING and not isinstance(default, int | float):
        return False
    is_number = about["kind"] not in (bool, str) and not about["of"]
    return is_number and about["rank"] == 0 and about["pytree_node"]


def _named(settings: ScenarioSettings, kind: str, agents: participants.Agents) -> Any:
    """The cost or the payoff that the settings name, with parameters from columns of --agents."""
    cost, payoff = _columns(settings)
    given = {}
    for column in cost if kind == "cost" else payoff:
        if column in agents.numbers:
            given[column.removeprefix(f"{kind}.")] = agents.numbers[column]
    return _read(settings, kind, given)


def _cost_of(agents: participants.Agents) -> costs.Cost:
    """Costs c s^exponent + fixed; a `LinearCost` if all exponents are 1, for Section 4 needs linear costs."""
    cost, fixed, exponent = (agents.numbers[name] for name in ("cost", "fixed", "exponent"))
    if np.all(exponent == 1.0):
        return costs.LinearCost(cost, fixed)
    return costs.PowerCost(cost, exponent, fixed)


def payoff_of(fitted: dict[str, Any], names: list[str]) -> Any:
    """One payoff from a shared curve, or from one curve per agent.

    Args:
      fitted: payoffs by name of the agent, or one under "" that all share.
      names: of the agents, in order.

    Raises:
      ValueError: parameters differ in shape, as those of concave curves do that were measured at different
        numbers of sizes.
    """
    if "" in fitted:
        return fitted[""]
    try:
        return jax.tree.map(lambda *numbers: jnp.stack(numbers), *(fitted[name] for name in names))
    except ValueError:
        fit = registry.name_of(type(fitted[names[0]]))
        raise ValueError(f"--fit={fit} needs the same number of sizes in every agent's curve") from None


def _no_use(settings: ScenarioSettings, instead: str, *flags: str) -> None:
    """Refuses flags that would be ignored because the flag `instead` says where their numbers come from."""
    chosen, defaults = getattr(settings, instead), ScenarioSettings()
    given = [name for name in flags if getattr(settings, name) != getattr(defaults, name)]
    if chosen and given:
        text = f"={chosen}" if instead in ("cost", "payoff") else ""
        raise ValueError(f"--{given[0]} has no use with --{instead}{text}")


def _exactly_one(settings: ScenarioSettings, *flags: str) -> None:
    """Refuses settings that give none of the flags, or several."""
    given = [name for name in flags if getattr(settings, name)]
    if len(given) != 1:
        got = " and ".join(f"--{name}" for name in given) or "none"
        raise ValueError(f"give one of {', '.join(f'--{name}' for name in flags)}; got {got}")


def _fits(
    settings: ScenarioSettings, measured: dict[str, measurements.Measurements]
) -> dict[str, dict[str, curves.Fit]]:
    """By agent and name, the fit that was asked for; of a single curve, also all others that are possible."""
    found = {}
    with jobs.progress("fitting the curve", len(measured)) as bar:
        for agent, one in measured.items():
            try:
                if len(measured) == 1:
                    found[agent] = curves.fit_all(one.sizes, one.accuracy, settings.fit)
                else:
                    found[agent] = {settings.fit: curves.fit(settings.fit, one.sizes, one.accuracy)}
            except ValueError as error:
                whose = f", agent {agent}" if agent else ""
                raise ValueError(f"{settings.curve}{whose}: --fit={settings.fit}: {error}") from None
            bar.update()
    return found


def _agents_by_numbers(settings: ScenarioSettings) -> participants.Agents:
    """The participants from flags, called 1 to n; capacities that are not given are NaN.

    Raises:
      ValueError: flags have numbers for different numbers of agents, or the capacity is needed and missing.
    """
    of_cost = () if isinstance(settings.cost, str) else ("cost", "fixed", "exponent")
    n = _number_of_agents(settings, (*of_cost, "capacity", "value", "quality", *_OF_FAMILIES))
    if settings.capacity is None:
        above_0 = isinstance(settings.cost, str) or all(settings.cost)
        if not (_has_a_best(settings) and above_0):
            raise ValueError(
                "--cost needs --capacity, unless --family, or power or bound as --payoff, says how much "
                f"accuracy can pay for, at a cost above 0{_enough(settings)}"
            )

    def column(name: str) -> np.ndarray:
        numbers = getattr(settings, name) or (np.nan,)
        return np.broadcast_to(np.asarray(numbers, float), (n,))

    return participants.Agents(
        names=[str(i + 1) for i in range(n)],
        capacity=column("capacity"),
        value=column("value"),
        quality=column("quality"),
        outside=np.full(n, np.nan),
        numbers={name: column(name) for name in of_cost},
    )


def _enough(settings: ScenarioSettings) -> str:
    """A capacity with which nobody lacks any, since no accuracy is above 1; "" if costs do not tell one."""
    if settings.payoff and not _has_a_best(settings):  # a payoff that is no accuracy, perhaps
        return ""
    value = settings.value if len(settings.value) > 1 else settings.value[0]
    try:
        if isinstance(settings.cost, str):
            cost = _read(settings, "cost")
        else:
            numbers = (settings.cost, settings.exponent, settings.fixed, value)
            *parameters, value = np.broadcast_arrays(*numbers)
            cost = costs.PowerCost(*parameters)
        most = np.max(games.capacity_from_bound(cost, value))
    except ValueError:  # some costs never reach this
        return ""
    return f"; --capacity={math.ceil(most)} is enough: more would cost more than an accuracy of 1 is worth"


def _number_of_agents(settings: ScenarioSettings, flags: Sequence[str]) -> int:
    """How many agents the numbers of these flags, and of the named cost and payoff, are for.

    Raises:
      ValueError: a flag has more than one number, but not one for each agent.
    """
    lengths = {}
    for name in flags:
        if numbers := getattr(settings, name):
            lengths[name] = len(numbers)
    lengths |= _lengths(settings, "cost") | _lengths(settings, "payoff")
    n = max(lengths.values())
    wrong = [name for name, length in lengths.items() if length not in (1, n)]
    if wrong:
        raise ValueError(
            f"--{wrong[0]} needs one number or one for each of {n} agents, got {lengths[wrong[0]]}"
        )
    return n


def _has_a_best(settings: ScenarioSettings) -> bool:
    """Whether the payoff is given by numbers, not by a curve, and so is its accuracy with endless data."""
    if settings.family:
        return True
    known = payoffs.PowerLaw, payoffs.GeneralizationBound
    return bool(settings.payoff) and isinstance(_read(settings, "payoff"), known)


def _read(settings: ScenarioSettings, kind: str, given: dict[str, Any] | None = None) -> Any:
    """The cost or the payoff that the settings name; `given` are parameters that its text leaves open."""
    text = getattr(settings, kind)
    with all_settings.of_flag(kind):
        return registry.read(kind, text, {registry.left_open(kind, text)[0]: given or {}})


def _lengths(settings: ScenarioSettings, kind: str) -> dict[str, int]:
    """The numbers of agents for whom the named cost or payoff has parameters, by parameter."""
    if not isinstance(getattr(settings, kind), str):
        return {}
    family, found = _read(settings, kind), {}
    for field in registry.numbers(family):
        value = getattr(family, field.name)
        if registry.is_per_agent(value, field):
            found[f"{kind}: {field.name}"] = len(value)
    return found


def _payoff_by_numbers(settings: ScenarioSettings) -> Any:
    """The payoff that --family names, with the numbers of its flags."""
    payoff, flags = _FAMILIES[settings.family]
    missing = [name for name in flags if getattr(settings, name) is None]
    if missing:
        raise ValueError(f"--family={settings.family} needs --{' --'.join(missing)}")
    numbers = [getattr(settings, name) for name in flags]
    return payoff(*(jnp.asarray(x[0] if len(x) == 1 else x) for x in numbers))
