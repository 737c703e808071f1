"""Which payments fix it: who pays and receives what, who leaves, how well all do, and what else could be."""

import dataclasses
import decimal
from concurrent import futures
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, mechanisms, registry
from fedgame.experiments import over_beta
from fedgame.experiments import rows as all_rows
from fedgame.games import game as games
from fedgame.games import scenarios
from fedgame.inputs import read as inputs
from fedgame.mechanisms import base, optimum, outcomes, personal, prices, refunds, rules
from fedgame.registry import option
from fedgame.report import figures, text
from fedgame.runs import jobs
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

# Flags, the rule that each belongs to, and its option.
_SHORT = ("beta", "beta", "beta"), ("price", "price", "price"), ("rational", "personal", "outside")
_AUDITED = 200  # most agents of an audit: its optimum is that of a general solver


@dataclasses.dataclass(frozen=True)
class Settings(inputs.ScenarioSettings):
    """Settings of `launch.mechanism`."""

    mechanism: str = option(
        "who is paid what, for example 'price(price=0.004)'", "personal", of="rule", kind=str
    )
    beta: float | None = option("--mechanism=beta: the rate", None, low=0, high=1, kind=float)
    price: float | None = option(
        "--mechanism=price: what a sample brings; not given: what has the largest sum of utilities",
        None,
        low=0,
        kind=float,
    )
    p: tuple[float, ...] = option(
        "of the p-means; --mechanism=designed maximises the first",
        (1.0, 0.5, 0.0, -1.0),
        high=1,
        infinite=True,
        kind=float,
    )
    outside: str = option(
        "what agents have if they leave: a model of their own data, or none",
        "alone",
        choices=("alone", "nothing"),
    )
    rational: bool = option("--mechanism=personal: transfers that leave nobody worse off than outside", False)
    leave: bool = option("agents who would rather leave do, the one first who is worst off", True)
    unit: float = option("the smallest amount that can be paid", 1e-4, above=0)
    over_beta: int = option("rates β in the figure", 60, low=2)


class Prepared(NamedTuple):
    """A scenario, and what is announced for it."""

    settings: Settings
    scenario: scenarios.Scenario
    outside: np.ndarray  # [n] what every agent has if she leaves
    rule: base.Rule
    announced: base.Announcement  # with everybody there

    @property
    def digests(self) -> dict[str, str]:
        return {}


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `inputs.check`; also a `ValueError` for a rule that does not exist or lacks a number."""
    inputs.check(settings)
    rule_of(settings)


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """The game that the settings describe, and what agents are told.

    Raises:
      ValueError: as `inputs.read`; fewer than two agents; a rule that the game does not allow, or not for
        so many agents.
    """
    check(settings)
    scenario, rule = inputs.read(settings), rule_of(settings)
    if scenario.game.n < 2:
        raise ValueError("payments between agents need at least two of them")
    with all_settings.of_flag("mechanism"):
        rule.requires(scenario.game)  # before anything is computed
        outside = personal.outside(scenario.game, settings.outside)
        alone = outside if settings.outside == "alone" else None
        announced = rule.announced(scenario.game, alone=alone)
    return Prepared(settings, scenario, outside, rule, announced)


def rule_of(settings: Settings) -> base.Rule:
    """The rule that `--mechanism` names; other flags are used where its text gives no option."""
    flags = {"beta": {"beta": settings.beta}, "price": {"price": settings.price}}
    flags |= {"designed": {"p": settings.p[0]}}
    flags |= {"personal": {"outside": settings.outside if settings.rational else None}}
    given = {name: {k: x for k, x in one.items() if x is not None} for name, one in flags.items()}
    with all_settings.of_flag("mechanism"):
        name, left = registry.left_open("rule", settings.mechanism)
        if name == "beta" and "beta" in left and settings.beta is None:
            raise ValueError("beta needs --beta, or beta(0.5), the share of costs that everybody gets back")
        rule = registry.read("rule", settings.mechanism, given)
    for flag, owner, its in _SHORT:
        if getattr(settings, flag) in (None, False):
            continue
        if name != owner:
            raise ValueError(f"--{flag} needs --mechanism={owner}")
        if its not in left:
            raise ValueError(f"--{flag} has no use with --mechanism={settings.mechanism}, which says it")
    return rule


def compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Solves, lets agents leave, solves over β.

    Writes `outcome.csv`, `outcome.json`, `p_means.csv`, `over_beta.csv`, `over_beta_contributions.csv`,
    `marks.csv`, `announced.json` (what each who stays is told), `mechanism.json`, and `scenario.json` (to be
    read by --scenario) if JSON can hold the game.
    """
    settings, game = prepared.settings, prepared.scenario.game
    with futures.ThreadPoolExecutor(1) as background:  # XLA compiles on another processor meanwhile
        compiled = background.submit(over_beta.compile_for, game)
        found = _found(settings, prepared)
        everybody = found.everybody
        before = outcomes.known_or_new(game, refunds.Refunds(), [everybody])
        best = mechanisms.first_best(game) if everybody.best is None else everybody.best
        compiled.result()
    rows = agent_rows(settings, prepared, found, before)
    welfare = over_beta.welfare_rows(game, found, before, best, settings.p)
    rates, contributions = over_beta.rows_by_beta(
        game, prepared.scenario.names, prepared.outside, settings.p, settings.over_beta
    )
    summary = _summary(settings, prepared, found, best) | {"audit": _verdicts(settings, game, found, best)}
    chosen = prepared.rule.values["beta"] if prepared.rule.name == "beta" else None
    work.write_csv("outcome.csv", rows)
    work.write_json("outcome.json", rows)
    work.write_csv("p_means.csv", welfare)
    work.write_csv(
        "marks.csv", over_beta.marks(game, settings.p[0], chosen, _best_rate(prepared, everybody, rates))
    )
    work.write_csv("over_beta.csv", rates)
    work.write_csv("over_beta_contributions.csv", contributions)
    work.write_json("mechanism.json", summary)
    work.write_json("announced.json", _announced(prepared, found))
    if scenarios.holds(game):
        scenarios.save(work.path / "scenario.json", game, prepared.scenario.names)


def _best_rate(prepared: Prepared, everybody: outcomes.Outcome, rates: list[dict[str, Any]]) -> float | None:
    """The β with the largest first p-mean: that of the rule if this is what it looks for, else searched."""
    game, power = prepared.scenario.game, prepared.settings.p[0]
    if registry.text_of(prepared.rule) != registry.text_of(rules.designed.having(p=power)):
        return over_beta.best_rate(game, prepared.outside, power, rates)
    defined = np.isfinite(float(mechanisms.p_mean(everybody.utilities, power)))
    return float(everybody.mechanism.rates) if everybody.equilibrium.converged and defined else None


def show(work: Workdir) -> str:
    """Draws contributions and welfare over β; returns the text."""
    figures.draw(work, "mechanism", figures.mechanism, (11, 4.5))
    return text.mechanism(work)


def headline(work: Workdir) -> list[dict[str, Any]]:
    """Who stays, what is contributed and paid, and how well off those are who stay."""
    found = work.read_json("mechanism.json")
    shown = ("mechanism", "stay", "contributed", "received", "mean_utility", "nash_gap", "certified")
    return [{name: found.get(name) for name in shown}]  # a federation that falls apart has fewer


def _found(settings: Settings, prepared: Prepared) -> outcomes.Participation:
    """What comes of the mechanism: after all have left who would rather, or with everybody there."""
    game, outside = prepared.scenario.game, prepared.outside
    if settings.leave:
        with jobs.progress("agents who leave", game.n) as bar:
            return outcomes.participation(game, prepared.rule, outside, bar.update, prepared.announced)
    there = outcomes.of_announcement(game, prepared.announced)
    certified = bool(there.equilibrium.converged)
    return outcomes.Participation(np.arange(game.n), [], [], there, outside, there, certified)


def agent_rows(
    settings: Settings, prepared: Prepared, found: outcomes.Participation, before: outcomes.Outcome
) -> list[dict[str, Any]]:
    """One row per agent: what she contributes, pays or receives, and has in the end.

    `payment` is rounded to whole units of `settings.unit`, as text, and sums to exactly 0. `before` is the
    outcome without payments.
    """
    game, final, outside = prepared.scenario.game, found.outcome, prepared.outside
    capacity = np.asarray(game.capacity)
    announced = {} if final is None else all_rows.announced(final.mechanism, len(found.stay))
    rows = [
        {"name": name, "contribution": 0.0, "capacity": float(capacity[i]), "payoff": None, "cost": 0.0}
        | {"utility": float(outside[i]), "nash_gap": None, "stays": False}
        | dict.fromkeys(announced)
        | {"exact_payment": 0.0, "payment": "0", "outside": float(outside[i])}
        | {"without_payments": float(before.utilities[i]) if before.equilibrium.converged else None}
        for i, name in enumerate(prepared.scenario.names)
    ]
    if final is None:
        return rows
    unit = decimal.Decimal(repr(settings.unit))
    whole = _whole_units(final, settings.unit)
    columns = {
        "contribution": final.equilibrium.profile,
        "payoff": final.received,
        "cost": final.spent,
        **announced,
        "exact_payment": final.payments,
        "utility": final.utilities,
        "nash_gap": final.equilibrium.nash_gap,
    }
    numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
    for k, i in enumerate(found.stay):
        rows[i] |= {name: column[k] for name, column in numbers.items()}
        rows[i] |= {"stays": True, "payment": format(int(whole[k]) * unit, "f")}
    return rows


def _whole_units(final: outcomes.Outcome, unit: float) -> np.ndarray:
    """Payments in units; their sum is exactly 0 if that is promised."""
    paid = np.asarray(final.payments)
    if not final.mechanism.balanced:
        return np.rint(paid / unit).astype(np.int64)
    if abs(np.sum(paid)) > max(1e-9 * np.sum(np.abs(paid)), 0.5 * unit):
        kind = type(final.mechanism).__name__
        raise ValueError(
            f"payments of {kind} sum to {np.sum(paid):.6g}: set `balanced = False` if that is meant"
        )
    return mechanisms.whole_units(paid, unit)


def _verdicts(
    settings: Settings, game: games.Game, found: outcomes.Participation, best: optimum.FirstBest
) -> list[str]:
    """Whether the equilibrium of those who stay is optimal, in sentences."""
    if found.outcome is None or not found.certified:
        return []
    rest, mechanism, known = game, found.outcome.mechanism, found.outcome.best
    if found.left:
        rest = games.subset(game, found.stay)
        best = mechanisms.first_best(rest) if known is None else known
    u = np.asarray(found.outcome.utilities)
    short = best.welfare - float(np.sum(u))
    proof = "proved to be" if best.proved else "as far as was found"
    # What agents have whatever the profile is no measure of rounding.
    idle = np.asarray(all_rows.at(rest, np.zeros(rest.n))["utility"])
    size, moved = float(np.max(np.abs(u))), float(np.max(np.abs(u - idle)))
    close = 1e-9 * (moved if np.isfinite(moved) else size) + 64 * np.finfo(float).eps * size
    at_bound = float(np.ptp(u)) <= close and short <= rest.n * close
    first = f"Σ u is {short:.1e} below the largest there is ({proof} {best.welfare:.6g})"
    first += "; utilities are equal, so every p-mean with p ≤ 1 is at its bound" if at_bound else ""
    if not isinstance(mechanism, refunds.Refunds):
        return [first, _reached(rest, found.outcome, best)]
    if np.ndim(mechanism.rates):
        return [first]  # Theorem 4.1 is about one rate of refunds for all
    if rest.n > _AUDITED:
        return [first, f"not audited: {rest.n} agents are more than the {_AUDITED} of an audit"]
    try:
        return [first, *(_audited(rest, found.outcome, p) for p in settings.p)]
    except ValueError as error:
        return [first, f"not audited: {error}"]


def _reached(game: games.Game, found: outcomes.Outcome, best: optimum.FirstBest) -> str:
    """How much of the first best a mechanism reaches that is no refund of costs, and at whose expense."""
    welfare, mechanism = float(np.sum(np.asarray(found.utilities))), found.mechanism
    text = f"Σ u is {welfare:.6g}"
    if best.welfare > 0:
        text += f", {welfare / best.welfare:.2%} of the largest"
    if mechanism.balanced:
        text += "; payments sum to 0 whatever agents do"
    else:
        text += f"; the server pays {float(np.sum(np.asarray(found.payments))):.6g} in all"
    if mechanism.degrades:
        lost = float(jnp.sum(mechanism.withheld(game, found.equilibrium.profile)))
        if lost > 1e-9 * float(jnp.sum(jnp.abs(game.value * found.received))):
            text += f"; it would be {lost:.6g} more if nobody were given a worse model than all data allow"
        else:
            text += "; nobody is given a worse model than all data allow"
    return text


def _audited(game: games.Game, found: outcomes.Outcome, p: float) -> str:
    return str(mechanisms.audit(game, float(found.mechanism.rates), p, profile=found.equilibrium))


def _summary(
    settings: Settings, prepared: Prepared, found: outcomes.Participation, best: optimum.FirstBest
) -> dict[str, Any]:
    names, final = prepared.scenario.names, found.outcome
    summary = {
        "mechanism": registry.text_of(prepared.rule),
        "agents": prepared.scenario.game.n,
        "stay": len(found.stay),
        "left": [
            {"name": names[i], "worse_off_by": short}
            for i, short in zip(found.left, found.shortfall, strict=True)
        ],
        "outside": settings.outside,
        "unit": settings.unit,
        "largest_sum_of_utilities": best.welfare,
        "largest_sum_proved": best.proved,
        "certified": found.certified,
    }
    if final is None:
        return summary
    summary |= _splits(prepared, found)
    told = {name: np.unique(np.asarray(x)) for name, x in final.mechanism.announced(len(found.stay)).items()}
    return summary | {
        "certified_from_payments": final.general,
        "columns": all_rows.shown(final.mechanism),
        "status": equilibria.describe(final.equilibrium),
        "converged": bool(final.equilibrium.converged),
        "nash_gap": float(np.max(np.asarray(final.equilibrium.nash_gap))),
        "announced": {name: float(x[0]) for name, x in told.items() if len(x) == 1},
        "contributed": float(np.sum(np.asarray(final.equilibrium.profile))),
        "received": float(np.sum(np.maximum(np.asarray(final.payments), 0.0))),
        "mean_utility": float(np.mean(np.asarray(final.utilities))),
    }


def _splits(prepared: Prepared, found: outcomes.Participation) -> dict[str, list[str]]:
    """The names of those who are indifferent how they split s*, where Pigou's prices are announced."""
    final = found.outcome
    if not isinstance(final.mechanism, prices.Prices):
        return {}
    tied = prices.splits(games.subset(prepared.scenario.game, found.stay), final.mechanism)
    names = [prepared.scenario.names[i] for i in found.stay[tied]]
    return {"splits": names if final.equilibrium.converged else []}


def _announced(prepared: Prepared, found: outcomes.Participation) -> list[dict[str, Any]]:
    """What everybody who stays is told."""
    if found.outcome is None:
        return []
    announced = all_rows.announced(found.outcome.mechanism, len(found.stay))
    return [
        {"name": prepared.scenario.names[i]} | {name: float(x[k]) for name, x in announced.items()}
        for k, i in enumerate(found.stay)
    ]


EXPERIMENT = Experiment(
    program="launch.mechanism",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: "results/mechanism",
    headline=headline,
    collected=("outcome.csv",),
)
