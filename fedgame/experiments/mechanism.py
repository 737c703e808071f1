"""Which payments fix it: who pays and receives what, who leaves, how well all do, and what else could be."""

import dataclasses
import decimal
from concurrent import futures
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, mechanisms, registry
from fedgame.experiments import break_even, candidates, over_beta, resampled, validation
from fedgame.experiments import rows as all_rows
from fedgame.games import game as games
from fedgame.games import payoffs, scenarios
from fedgame.inputs import read as inputs
from fedgame.mechanisms import base, choice, coalitions, optimum, outcomes, personal, prices, refunds, rules
from fedgame.registry import option
from fedgame.report import figures, money, page, text
from fedgame.runs import experiment, jobs
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

# Short flags: the flag, the rule that it belongs to, and the option of the rule that it stands for.
_SHORT_FLAGS = (("beta", "beta", "beta"), ("price", "price", "price"), ("rational", "personal", "transfers"))
_UNIT = 1e-4  # the smallest amount that can be paid, if no currency is named
_OWN_ALWAYS = payoffs.EffectiveSamples(None, None, own=payoffs.ALWAYS)
_MEMBERS = 12  # members up to whom it is said what becomes of the others if one leaves
_AUDITED = 200  # an audit needs an optimum from a general solver, so it is left out with more agents


@dataclasses.dataclass(frozen=True)
class Settings(resampled.Settings, validation.Settings, inputs.ScenarioSettings):
    """Settings of `launch.mechanism`."""

    mechanism: str | None = option(
        "who is paid what, for example 'price(price=0.004)'. Not given: all that apply are compared, and the "
        "simplest of those is used whose gain over leaving is within 1% of the largest",
        None,
        of="rule",
        kind=str,
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
    rational: bool = option(
        "--mechanism=personal: transfers as equal as what agents have outside allows (transfers=p_mean)",
        False,
    )
    leave: bool = option("agents who would rather leave do, the one first who is worst off", True)
    unit: float | None = option(
        "the smallest amount that can be paid; not given: that of --currency, or 0.0001",
        None,
        above=0,
        kind=float,
    )
    over_beta: int = option("rates β in the figure", 60, low=2, high=10_000)


@dataclasses.dataclass(frozen=True)
class Prepared(experiment.Prepared):
    """A scenario, and what is announced for it."""

    settings: Settings
    scenario: scenarios.Scenario
    outside: np.ndarray  # [n] the utility that every agent has if she leaves
    rule: base.Rule | None  # None: it is to be chosen
    announced: base.Announcement | None  # when all agents take part
    measured: validation.Measured | None  # with --validate

    @property
    def digests(self) -> dict[str, str]:
        """With --validate, of how the records were measured: stored training depends on it."""
        return {} if self.measured is None else self.measured.digests


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `inputs.check`; also a `ValueError` for a rule that does not exist or lacks an option."""
    all_rows.check(settings)
    resampled.check(settings)
    rule = rule_of(settings)
    if (
        rule is not None
        and settings.own == payoffs.ALWAYS
        and rule.requires in (rules.samples_bring_something, rules.has_rates)
    ):
        with all_settings.of_flag("mechanism"):  # before anything is fitted
            rules.samples_bring_something(games.Game(_OWN_ALWAYS, None, None))


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """The game that the settings describe, and what agents are told.

    Raises:
      ValueError: as `inputs.read`; there are fewer than two agents; the rule does not allow this game, or so
        many agents.
    """
    check(settings)
    measured = validation.behind(settings)  # before anything is fitted
    scenario, rule = inputs.read(settings), rule_of(settings)
    validation.check_scenario(measured, scenario)
    resampled.check_number(settings, scenario)
    if scenario.game.n < 2:
        raise ValueError("payments between agents need at least two of them")
    with all_settings.of_flag("mechanism"):
        if rule is not None:
            rule.requires(scenario.game)  # before anything is computed
        outside = all_rows.outside(settings, scenario)
        announced = None if rule is None else rule.announced(scenario.game, outside=outside)
    if settings.unit is None:
        used = money.currency(settings.currency)
        settings = dataclasses.replace(settings, unit=used.smallest if used.code else _UNIT)
    return Prepared(settings, scenario, outside, rule, announced, measured)


def rule_of(settings: Settings) -> base.Rule | None:
    """The rule that `--mechanism` names; other flags are used for options that its text leaves open.

    Returns:
      None if it names none, so that one is to be chosen.

    Raises:
      ValueError: there is no such rule; an option is missing; or a flag is given that belongs to another
        rule, or to an option that the text gives already.
    """
    if settings.mechanism is None:
        for flag, owner, _ in _SHORT_FLAGS:
            if getattr(settings, flag) not in (None, False):
                raise ValueError(f"--{flag} needs --mechanism={owner}")
        return None
    from_flags = _options_of_rules(settings)
    if settings.beta is not None:
        from_flags["beta"] = {"beta": settings.beta}
    if settings.price is not None:
        from_flags["price"] = {"price": settings.price}
    if settings.rational:
        from_flags["personal"] = {"transfers": personal.P_MEAN}
    with all_settings.of_flag("mechanism"):
        name, left = registry.left_open("rule", settings.mechanism)
        if name == "beta" and "beta" in left and settings.beta is None:
            raise ValueError("beta needs --beta, or beta(0.5), the share of costs that everybody gets back")
        rule = registry.read("rule", settings.mechanism, from_flags)
    for flag, owner, option_name in _SHORT_FLAGS:
        value = getattr(settings, flag)
        if value is None or value is False:
            continue
        if name != owner:
            raise ValueError(f"--{flag} needs --mechanism={owner}")
        if option_name not in left:
            raise ValueError(f"--{flag} has no use with --mechanism={settings.mechanism}, which says it")
    return rule


def _options_of_rules(settings: Settings) -> dict[str, dict[str, Any]]:
    """Options of rules that other flags than --mechanism say, by the name of the rule."""
    return {"designed": {"p": settings.p[0]}}


def compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Solves the game under the mechanism, lets agents leave, and solves it at other rates β.

    If no mechanism is named, compares all that apply first (`mechanisms.csv`, `mechanisms_by_member.csv`).
    Of 3 to 12 members who stay, `without_each.csv` says what becomes of the others if one of them leaves.
    Writes `outcome.csv`, `outcome.json`, `p_means.csv`, `over_beta.csv`, `over_beta_contributions.csv`,
    `marks.csv`, `announced.json` (what each agent who stays is told), `mechanism.json`, and `scenario.json`
    (for --scenario) if JSON can hold the game; of effective samples also `exchange_rates.csv`, of others the
    curve (`fitted_curve.csv`) and what was measured of it (`curve.csv`).
    """
    settings, game = prepared.settings, prepared.scenario.game
    compared: list[choice.Candidate] = []
    with futures.ThreadPoolExecutor(1) as background:  # XLA compiles on another processor meanwhile
        compiled = background.submit(over_beta.compile_for, game)
        if prepared.rule is None:
            prepared, compared = _choose(prepared, work)
        found = _participation(prepared)
        everybody = found.everybody
        known = [everybody, *(one.outcome for one in compared if one.outcome is not None)]
        before = outcomes.known_or_new(game, refunds.Refunds(), known)
        best = mechanisms.first_best(game) if everybody.best is None else everybody.best
        compiled.result()
    rows = agent_rows(prepared, found, before)
    intervals, resampled_games = _intervals(prepared, found)
    rows = [row | intervals.get(row["name"], {}) for row in rows]
    welfare = over_beta.welfare_rows(game, found, before, best, settings.p, known)
    rates, contributions = over_beta.rows_by_beta(
        game, prepared.scenario.names, prepared.outside, settings.p, settings.over_beta
    )
    profile = np.asarray([row["contribution"] for row in rows])
    total = float(all_rows.at(game, profile)["total"])
    summary = _summary(prepared, found, best) | {"compared": _reasons(compared, prepared), "total": total}
    summary["audit"] = _verdicts(prepared, found, best)
    summary |= {"bootstrap": resampled_games} if resampled_games else {}
    chosen = prepared.rule.values["beta"] if prepared.rule.name == "beta" else None
    work.write_csv("outcome.csv", rows)
    work.write_json("outcome.json", rows)
    work.write_csv("p_means.csv", welfare)
    best_rate = _best_rate(prepared, everybody, rates)
    work.write_csv("marks.csv", over_beta.marks(game, settings.p[0], chosen, best_rate))
    work.write_csv("over_beta.csv", rates)
    work.write_csv("over_beta_contributions.csv", contributions)
    if without := _without_each(prepared, found):
        work.write_csv("without_each.csv", without)
    summary["not_validated"] = _validate(prepared, found, work)
    work.write_json("mechanism.json", summary)
    work.write_json("announced.json", _announced(prepared, found))
    all_rows.write_scenario(work, prepared.scenario)
    all_rows.write_exchange_rates(work, prepared.scenario)
    all_rows.write_curve(work, prepared.scenario, profile)


def _choose(prepared: Prepared, work: Workdir) -> tuple[Prepared, list[choice.Candidate]]:
    """Compares all mechanisms that apply, and writes how they compare.

    Returns:
      What is prepared with the rule that is chosen, what is announced with all that was found for it; and the
      candidates.

    Raises:
      FloatingPointError: no mechanism has a certified equilibrium.
    """
    scenario, settings = prepared.scenario, prepared.settings
    given = None if scenario.outside is None else prepared.outside
    best = mechanisms.first_best(scenario.game)
    options = _options_of_rules(settings)
    compared = candidates.compare(scenario.game, settings.outside, given, options, best)
    chosen = choice.choose(compared)
    candidates.write(work, scenario, compared, chosen)
    if chosen is None:
        raise FloatingPointError("no mechanism has a certified equilibrium in this game")
    announced = chosen.announced._replace(best=best, equilibrium=chosen.outcome.equilibrium)
    return dataclasses.replace(prepared, rule=chosen.rule, announced=announced), compared


def _reasons(compared: list[choice.Candidate], prepared: Prepared) -> dict[str, Any] | None:
    """Why the rule was chosen, as JSON values; None if it was named."""
    chosen = [one for one in compared if one.rule is prepared.rule]
    return candidates.reasons(compared, chosen[0]) if chosen else None


def _without_each(prepared: Prepared, found: outcomes.Participation) -> list[dict[str, Any]]:
    """For every member who stays, what the others share and have if she leaves; [] of too few or too many."""
    if not found.certified or found.outcome is None or not 3 <= len(found.stay) <= _MEMBERS:
        return []
    game, final = prepared.scenario.game, found.outcome
    together = np.asarray(final.utilities)
    rounding = 1e-12 * float(np.sum(np.abs(together)))
    rows = []
    for k, i in enumerate(jobs.progress("if one more leaves", len(found.stay), over=found.stay)):
        rest = np.delete(found.stay, k)
        outside = prepared.outside[rest]
        row: dict[str, Any] = {"name": prepared.scenario.names[i], "certified": False}
        try:
            announced = rules.announced(prepared.rule, games.subset(game, rest), outside=outside)
            there = outcomes.of_announcement(games.subset(game, rest), announced)
        except (ValueError, FloatingPointError):  # the rule has nothing to announce to the others
            rows.append(row | {"contributed": None, "others_lose": None})
            continue
        lost = float(np.sum(np.delete(together, k)) - np.sum(np.asarray(there.utilities)))
        rows.append(row | {
            "certified": bool(there.equilibrium.converged),
            "contributed": float(np.sum(np.asarray(there.equilibrium.profile))),
            "others_lose": lost if abs(lost) > rounding else 0.0,
        })  # fmt: skip
    return rows


def _intervals(
    prepared: Prepared, found: outcomes.Participation
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Solves resampled games of those who stay, under what the same rule announces for each of them.

    Returns:
      By name: intervals of what those who stay share, receive and have, and the share of games in which each
      would rather leave; {} if no game has a certified equilibrium. And the interval of what all share, with
      the number of games; None if none were resampled.
    """
    settings, scenario = prepared.settings, prepared.scenario
    if found.outcome is None or not found.certified:
        return {}, None
    drawn = resampled.payoffs(settings, scenario)
    if not drawn:
        return {}, None
    wanted = ("contribution", "payment", "utility", "gain")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    leaves = []
    for payoff in jobs.progress("resampled games", len(drawn), 0, drawn):
        game = scenario.game.replace(payoff=payoff)
        outside = personal.outside(game, settings.outside) if scenario.outside is None else prepared.outside
        rest, least = games.subset(game, found.stay), np.asarray(outside)[found.stay]
        try:
            announced = rules.announced(prepared.rule, rest, outside=least)
        except (ValueError, FloatingPointError):
            continue  # it has nothing to announce in this game
        there = outcomes.outcome(rest, announced.mechanism, general=False, solved=announced.equilibrium)
        if there.equilibrium.converged:
            solved = (there.equilibrium.profile, there.payments, there.utilities, there.utilities - least)
            for column, numbers in zip(columns.values(), solved, strict=True):
                column.append(np.asarray(numbers))
            leaves.append(outcomes.rather_leave(rest, there, least))
    if not leaves:
        return {}, resampled.summary(settings, np.zeros((0, len(found.stay))), len(drawn))
    rows = resampled.intervals(settings, {name: np.stack(column) for name, column in columns.items()})
    names = [scenario.names[i] for i in found.stay]
    often = np.mean(leaves, axis=0).tolist()
    by_name = {
        name: row | {"rather_leaves_in": share} for name, row, share in zip(names, rows, often, strict=True)
    }
    return by_name, resampled.summary(settings, np.stack(columns["contribution"]), len(drawn))


def _validate(prepared: Prepared, found: outcomes.Participation, work: Workdir) -> str:
    """With --validate, checks by training what those who stay are advised to share; says why if it cannot."""
    if prepared.measured is None:
        return ""
    if found.outcome is None:
        return "fewer than two are left"
    if not found.certified:
        return "there is no certified equilibrium to advise"
    settings, scenario, final = prepared.settings, prepared.scenario, found.outcome
    advice = validation.advice(scenario, settings, final.equilibrium.profile, found.stay, final.mechanism)
    validation.check(prepared.measured, {"": advice}, settings.validations, work)
    return ""


def _best_rate(prepared: Prepared, everybody: outcomes.Outcome, rates: list[dict[str, Any]]) -> float | None:
    """The β with the largest p-mean for the first p: that of the rule if it maximises this, else searched."""
    game, power = prepared.scenario.game, prepared.settings.p[0]
    if registry.text_of(prepared.rule) != registry.text_of(rules.designed.having(p=power)):
        return over_beta.best_rate(game, prepared.outside, power, rates)
    defined = np.isfinite(float(mechanisms.p_mean(everybody.utilities, power)))
    return float(everybody.mechanism.rates) if everybody.equilibrium.converged and defined else None


def show(work: Workdir) -> str:
    """Draws who shares and pays, and contributions and welfare over β; writes the page; returns the text."""
    figures.draw(work, "mechanism", figures.mechanism, (9, 4.5))
    figures.draw(work, "over_beta", figures.over_beta, (11, 4.5))
    if work.has("exchange_rates.csv"):
        figures.draw(work, "exchange_rates", figures.exchange_rates, (7, 5.5))
    if work.has("fitted_curve.csv"):
        figures.draw(work, "curve", figures.curve_under_mechanism, (7, 4))
    return page.write(work, text.mechanism(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """How many stay, what they contribute and receive, and their mean utility."""
    found = work.read_json("mechanism.json")
    shown = ("stay", "contributed", "received", "mean_utility", "nash_gap", "certified")
    # Of a federation that falls apart, the file has only some of these.
    return [{name: found.get(name) for name in shown} | validation.headline(work)]


def _participation(prepared: Prepared) -> outcomes.Participation:
    """The outcome once everybody who prefers to leave has left; with --noleave, with all agents there."""
    game, outside = prepared.scenario.game, prepared.outside
    if prepared.settings.leave:
        with jobs.progress("agents who leave", game.n) as bar:
            return outcomes.participation(game, prepared.rule, outside, bar.update, prepared.announced)
    everybody = outcomes.of_announcement(game, prepared.announced)
    return outcomes.Participation(
        stay=np.arange(game.n),
        left=[],
        shortfall=[],
        outcome=everybody,
        outside=outside,
        everybody=everybody,
        certified=bool(everybody.equilibrium.converged),
    )


def agent_rows(
    prepared: Prepared, found: outcomes.Participation, before: outcomes.Outcome
) -> list[dict[str, Any]]:
    """One row per agent: what she contributes, pays or receives, and has in the end.

    `payment` is rounded to whole multiples of --unit and written as text. If the mechanism is balanced, the
    column sums to exactly 0.

    Args:
      prepared: the scenario, and what is announced.
      found: who stays, and their outcome. Agents who leave have `outside`, and no payments.
      before: the outcome without payments, with all agents.
    """
    game, final = prepared.scenario.game, found.outcome
    capacity, utilities = np.asarray(game.capacity), np.asarray(before.utilities)
    shared = np.asarray(before.equilibrium.profile)
    all_there = np.asarray(found.everybody.utilities)
    announced = {} if final is None else all_rows.announced(final.mechanism, len(found.stay))
    rows = []
    for i, name in enumerate(prepared.scenario.names):
        without = float(utilities[i]) if before.equilibrium.converged else None
        rows.append({
            **_of_who_leaves(name, float(capacity[i]), float(prepared.outside[i]), announced),
            "without_payments": without,
            "contribution_without_payments": float(shared[i]) if before.equilibrium.converged else None,
            "with_everybody": float(all_there[i]) if found.everybody.equilibrium.converged else None,
        })  # fmt: skip
    if final is None:
        return rows
    columns = {
        "contribution": final.equilibrium.profile,
        "payoff": final.received,
        "cost": final.spent,
        **announced,
        "exact_payment": final.payments,
        "utility": final.utilities,
        "nash_gap": final.equilibrium.nash_gap,
    }
    all_rows.check_finite(columns, [prepared.scenario.names[i] for i in found.stay])
    numbers = all_rows.of_columns(columns, len(found.stay))
    payments = _payment_texts(final, prepared.settings.unit)
    for i, row, payment in zip(found.stay, numbers, payments, strict=True):
        rows[i].update(row, stays=True, payment=payment)
    return rows


def _of_who_leaves(name: str, capacity: float, outside: float, announced: dict[str, Any]) -> dict[str, Any]:
    """The columns of an agent who leaves, as of one who stays; nothing is announced to her."""
    return {
        "name": name,
        "contribution": 0.0,
        "capacity": capacity,
        "payoff": None,
        "cost": 0.0,
        "utility": outside,
        "nash_gap": None,
        "stays": False,
        **dict.fromkeys(announced),
        "exact_payment": 0.0,
        "payment": "0",
        "outside": outside,
    }


def _payment_texts(final: outcomes.Outcome, unit: float) -> list[str]:
    """The payments, [k] as text, rounded to whole multiples of `unit`."""
    exact = decimal.Decimal(repr(unit))
    return [format(int(count) * exact, "f") for count in _whole_units(final, unit)]


def _whole_units(final: outcomes.Outcome, unit: float) -> np.ndarray:
    """The payments as numbers of units, [k] integers that sum to 0 if the mechanism is balanced.

    Raises:
      ValueError: the mechanism says that it is balanced, but its payments do not sum to 0; or units are so
        small that payments are too many of them.
    """
    paid = np.asarray(final.payments)
    most = float(np.max(np.abs(paid)))
    if not most < unit * 2.0**52:
        raise ValueError(
            f"--unit={unit:g}: a payment of {most:g} is more than 2^52 of them; choose a larger one"
        )
    if not final.mechanism.balanced:
        return np.rint(paid / unit).astype(np.int64)
    if abs(np.sum(paid)) > max(1e-9 * np.sum(np.abs(paid)), 0.5 * unit):
        kind = type(final.mechanism).__name__
        raise ValueError(
            f"payments of {kind} sum to {np.sum(paid):.6g}: set `balanced = False` if that is meant"
        )
    return mechanisms.whole_units(paid, unit)


def _verdicts(prepared: Prepared, found: outcomes.Participation, best: optimum.FirstBest) -> list[str]:
    """Whether the equilibrium of those who stay is optimal, in sentences; none if it is not certified.

    Args:
      prepared: the scenario, and the p for which refunds of costs at one rate are audited.
      found: who stays, and their outcome.
      best: the first best of all n agents.
    """
    game, final, used = prepared.scenario.game, found.outcome, money.currency(prepared.settings.currency)
    if final is None or not found.certified:
        return []
    rest = game
    if found.left:
        rest = games.subset(game, found.stay)
        best = mechanisms.first_best(rest) if final.best is None else final.best
    u = np.asarray(final.utilities)
    short = best.welfare - float(np.sum(u))
    if abs(short) <= rest.n * _rounding(rest, u):
        short = max(short, 0.0)
    proof, most = "proved" if best.proved else "as far as was found", used.amount(best.welfare, 6)
    first = f"Σ u is {used.amount(short)} below the largest there is, {most} ({proof})"
    close = _rounding(rest, u)
    if short <= rest.n * close:
        first = f"Σ u, {most}, is the largest there is ({proof})"
        if float(np.ptp(u)) <= close:
            first += "; utilities are equal, so every p-mean with p ≤ 1 is at its bound"
    if not isinstance(final.mechanism, refunds.Refunds):
        return [first, _reached(rest, final, best, used)]
    if np.ndim(final.mechanism.rates):
        return [first]  # Theorem 4.1 is about one rate of refunds for all
    if rest.n > _AUDITED:
        return [first, f"not audited: {rest.n} agents are more than the {_AUDITED} of an audit"]
    try:
        return [first, *(_audited(rest, final, p) for p in prepared.settings.p)]
    except ValueError as error:
        return [first, f"not audited: {error}"]


def _rounding(game: games.Game, u: np.ndarray) -> float:
    """The difference up to which utilities u [n] count as equal.

    Relative to the largest change from the utilities of nobody contributing: what agents have whatever they
    contribute would make the tolerance too wide. It only adds the rounding of its own floating-point numbers.
    """
    idle = np.asarray(all_rows.at(game, np.zeros(game.n))["utility"])
    size, change = float(np.max(np.abs(u))), float(np.max(np.abs(u - idle)))
    if not np.isfinite(change):  # a payoff may have no finite value without data
        change = size
    return 1e-9 * change + 64 * np.finfo(float).eps * size


def _reached(game: games.Game, found: outcomes.Outcome, best: optimum.FirstBest, used: money.Currency) -> str:
    """How much of the first best a mechanism other than refunds of costs reaches, and at whose expense."""
    welfare, mechanism = float(np.sum(np.asarray(found.utilities))), found.mechanism
    text = f"Σ u is {used.amount(welfare, 6)}"
    if best.welfare > 0:
        text += f", {welfare / best.welfare:.2%} of the largest"
    if mechanism.balanced:
        text += "; payments sum to 0 whatever agents do"
    else:
        text += f"; the server pays {used.amount(float(np.sum(np.asarray(found.payments))), 6)} in all"
    if mechanism.degrades:
        lost = float(jnp.sum(mechanism.withheld(game, found.equilibrium.profile)))
        if lost > 1e-9 * float(jnp.sum(jnp.abs(game.value * found.received))):
            more = f"; it would be {used.amount(lost)} more if nobody were given a worse model"
            text += f"{more} than all data allow"
        else:
            text += "; nobody is given a worse model than all data allow"
    return text


def _audited(game: games.Game, found: outcomes.Outcome, p: float) -> str:
    return str(mechanisms.audit(game, float(found.mechanism.rates), p, profile=found.equilibrium))


def _summary(prepared: Prepared, found: outcomes.Participation, best: optimum.FirstBest) -> dict[str, Any]:
    """`mechanism.json` but for the audit; `best` is the first best of all agents."""
    settings, names, final = prepared.settings, prepared.scenario.names, found.outcome
    summary = {
        "mechanism": registry.text_of(prepared.rule),
        **all_rows.about(settings, prepared.scenario),
        "leave": settings.leave,
        "stay": len(found.stay),
        "left": [
            {"name": names[i], "worse_off_by": short}
            for i, short in zip(found.left, found.shortfall, strict=True)
        ],
        "rather_leave": _rather_leave(prepared, found),
        "unit": settings.unit,
        "largest_sum_of_utilities": best.welfare,
        "largest_sum_proved": best.proved,
        "surplus": best.welfare - float(np.sum(prepared.outside)),
        "certified": found.certified,
    }
    all_rows.check_finite({name: summary[name] for name in ("largest_sum_of_utilities", "surplus")})
    summary |= _coalition(prepared, summary["surplus"])
    if final is None:
        return summary
    whole = np.zeros(prepared.scenario.game.n)
    whole[found.stay] = final.equilibrium.profile
    sums = {
        "contributed": float(np.sum(np.asarray(final.equilibrium.profile))),
        "received": float(np.sum(np.maximum(np.asarray(final.payments), 0.0))),
        "mean_utility": float(np.mean(np.asarray(final.utilities))),
    }
    all_rows.check_finite(sums)
    return (
        summary
        | _splits(prepared, found)
        | {
            "certified_from_payments": final.general,
            "columns": all_rows.shown(final.mechanism),
            "per_sample": sorted(final.mechanism.per_sample),
            "status": equilibria.describe(final.equilibrium),
            "converged": bool(final.equilibrium.converged),
            "nash_gap": float(np.max(np.asarray(final.equilibrium.nash_gap))),
            "announced": _same_for_all(final.mechanism.announced(len(found.stay))),
            **sums,
            "nobody_shares": _nobody_shares(prepared, found),
            **all_rows.measured(prepared.scenario, whole),
        }
    )


def _rather_leave(prepared: Prepared, found: outcomes.Participation) -> list[dict[str, Any]]:
    """Who stays although she would rather leave (--noleave), and by how much she is worse off."""
    if prepared.settings.leave or not found.certified:
        return []
    game, short = prepared.scenario.game, prepared.outside - np.asarray(found.outcome.utilities)
    return [
        {"name": prepared.scenario.names[i], "worse_off_by": float(short[i])}
        for i in np.flatnonzero(outcomes.rather_leave(game, found.outcome, prepared.outside))
    ]


def _nobody_shares(prepared: Prepared, found: outcomes.Participation) -> dict[str, Any] | None:
    """Why none of those who stay shares anything, see `break_even`; None if somebody does."""
    final = found.outcome
    if not final.equilibrium.converged:
        return None
    game = prepared.scenario.game
    game = games.subset(game, found.stay) if found.left else game
    names = [prepared.scenario.names[i] for i in found.stay]
    return break_even.nobody_shares(game, final.equilibrium.profile, names, final.mechanism)


def _coalition(prepared: Prepared, surplus: float) -> dict[str, Any]:
    """The coalition with the largest surplus, if all together have less than outside; None of too many."""
    game, outside = prepared.scenario.game, prepared.outside
    if surplus >= -1e-9 * float(np.sum(np.abs(outside))):
        return {}
    if game.n > coalitions.MOST:
        return {"coalition": None}
    with jobs.progress("coalitions", coalitions.looks(game.n)) as bar:
        found = coalitions.best(game, outside, bar.update)
    names = [prepared.scenario.names[i] for i in found.members]
    return {"coalition": {"members": names, "surplus": found.surplus, "exhaustive": found.exhaustive}}


def _same_for_all(announced: dict[str, Any]) -> dict[str, float]:
    """The numbers that all agents are told alike, from [n] numbers by name."""
    found = {}
    for name, numbers in announced.items():
        distinct = np.unique(np.asarray(numbers))
        if len(distinct) == 1:
            found[name] = float(distinct[0])
    return found


def _splits(prepared: Prepared, found: outcomes.Participation) -> dict[str, list[str]]:
    """Under Pigou's prices, the names of the agents who are indifferent how they split s*; else nothing."""
    final = found.outcome
    if not isinstance(final.mechanism, prices.Prices):
        return {}
    tied = prices.splits(games.subset(prepared.scenario.game, found.stay), final.mechanism)
    names = [prepared.scenario.names[i] for i in found.stay[tied]]
    return {"splits": names if final.equilibrium.converged else []}


def _announced(prepared: Prepared, found: outcomes.Participation) -> list[dict[str, Any]]:
    """What each agent who stays is told, one row each."""
    if found.outcome is None:
        return []
    n = len(found.stay)
    told = all_rows.of_columns(all_rows.announced(found.outcome.mechanism, n), n)
    return [{"name": prepared.scenario.names[i], **row} for i, row in zip(found.stay, told, strict=True)]


EXPERIMENT = Experiment(
    program="launch.mechanism",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/mechanism{inputs.of_measurements(settings)}",
    headline=headline,
    collected=("outcome.csv",),
)
