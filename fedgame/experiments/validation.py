"""Does the advice hold? Models of what members are advised to share, tested on records that were never seen.

The announced profile is trained on, and every member's deviations to nothing and to all she has, the others
staying: what was predicted stands beside what came of it. Models are trained on what is not reserved, and
tested on the reserve, which no measurement has seen.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame.experiments import mixtures
from fedgame.experiments import rows as all_rows
from fedgame.experiments import task as tasks
from fedgame.experiments.task import Task
from fedgame.games import curves, payoffs, scenarios
from fedgame.games import exchange_rates as fitted_rates
from fedgame.games import game as games
from fedgame.inputs import mixtures as files
from fedgame.learning import evaluation, members
from fedgame.mechanisms import base as mechanisms
from fedgame.mechanisms import outcomes
from fedgame.registry import option
from fedgame.runs.experiment import Resources
from fedgame.runs.workdir import Workdir

PROGRAM = "launch.measure"  # whose directories say how models are trained
CONFIDENCE = 0.9  # of the intervals, of all members together
_DRAWS = 100  # curves from resampled measurements
_ANNOUNCED, _NOTHING, _ALL = "announced", "nothing", "all"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of those commands that can check their advice."""

    validate: bool = option(
        "train on what members are advised to share, and on their deviations, and test on the reserved "
        "records; games from files need --measurements or --curve of launch.measure, which says how to train",
        False,
    )
    validations: int = option("--validate: training runs of every profile", 20, low=2, high=10_000)


class Measured(NamedTuple):
    """How the members' records were measured."""

    task: Task  # of the measuring
    mixtures: fitted_rates.Mixtures  # what was measured, members in the order of the federation

    @property
    def digests(self) -> dict[str, str]:
        """A digest of the records and of how they are dealt and trained on.

        The name of the folder does not tell: it may have been measured in anew, with another seed or model.
        """
        about = repr((self.task.settings, self.task.digests))
        return {"measured": hashlib.sha256(about.encode()).hexdigest()}


class Advice(NamedTuple):
    """What k members are advised to share, and what is predicted of it."""

    names: tuple[str, ...]  # [k] those who take part
    profile: np.ndarray  # [k] records that each contributes, whole numbers
    most: np.ndarray  # [k] all that each can contribute
    own: np.ndarray | None  # [k] records that teach a member's own model whatever she contributes; None: none
    value: np.ndarray  # [k] what a metric of 1 is worth to her
    metric: Callable[[np.ndarray], np.ndarray]  # predictions [k] at contributions [k]
    utility: Callable[[np.ndarray], np.ndarray]  # utilities [k] at contributions [k]
    # Predictions [D, B, k] from resampled measurements at mixtures [B, k]; None: nothing was fitted.
    resampled: Callable[[np.ndarray], np.ndarray] | None
    gap: float | None = None  # the largest Nash gap at these whole numbers of records; None: not known


class _Row(NamedTuple):
    """One member at one profile."""

    member: int
    kind: str  # "announced", or what she deviates to: "nothing" or "all"
    contribution: int
    mixture: int  # number of the mixture that her model is trained on
    metric: float  # predicted
    utility: float  # predicted


class _Reserve(NamedTuple):
    """What is known of the records that a member is tested on."""

    labels: np.ndarray  # [r]
    others: int  # records that she was measured on


def measured_by(folder: pathlib.Path) -> Measured:
    """What launch.measure left in a folder, with the members' records as they were then.

    Raises:
      ValueError: the folder is not one of launch.measure, or the records have changed since.
      FileNotFoundError: there is no such folder, or the records are not where they were.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: {PROGRAM} makes it")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        program, stored = config["program"], config["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        program, stored = None, {}
    if program != PROGRAM:
        raise ValueError(
            f"--validate needs to know how models are trained: {folder} is not what {PROGRAM} left"
        )
    given = {}
    for field in dataclasses.fields(tasks.OwnSettings):
        if field.name not in stored:
            raise ValueError(
                f"{folder} is of another version of {PROGRAM}, without --{field.name}: measure anew"
            )
        value = stored[field.name]
        given[field.name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    if not pathlib.Path(given["federation"]).is_dir():  # seen from another directory than then
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((folder / "measure.json").read_text(encoding="utf-8"))
            given["federation"] = about["federation"]
    task = tasks.prepare(lambda settings, available: (settings, tasks.NOTHING), tasks.OwnSettings(**given))
    if task.digests["records"] != stored["records"]:
        raise ValueError(
            f"the records in {given['federation']} have changed since they were measured in {folder}: "
            "restore them, or measure again"
        )
    return Measured(task, files.read(str(folder), task.own.federation.names))


def behind(settings: Any) -> Measured | None:
    """With --validate, what the measurements of a scenario were made from, else None.

    Raises:
      ValueError: as `measured_by`; or there are no measurements.
    """
    if not settings.validate:
        return None
    if settings.measurements:
        folder = pathlib.Path(settings.measurements)
    elif settings.curve:
        folder = pathlib.Path(settings.curve).parent
    else:
        raise ValueError("--validate needs --measurements or --curve, of what launch.measure left")
    measured = measured_by(folder)
    check_reserve(measured.task)
    return measured


def check_scenario(measured: Measured | None, scenario: scenarios.Scenario) -> None:
    """Raises a ValueError if advice to these agents cannot be checked by training; not without `measured`.

    Agents are not the members, their samples are not all alike, or a capacity is more than can be trained on
    while the reserve is kept.
    """
    if measured is None:
        return
    if float(scenario.game.held) > 0 or np.any(np.asarray(scenario.game.quality) != 1.0):
        raise ValueError("--validate trains on what members give: qualities must be 1, and --held 0")
    if odd := set(scenario.names) ^ set(measured.mixtures.members):
        raise ValueError(
            f"--validate: {sorted(odd)[0]} is not both a participant and a member that was measured"
        )
    own = measured.task.own
    unreserved = dict(zip(own.federation.names, members.unreserved(own.federation, own.shares), strict=True))
    for name, most in zip(scenario.names, np.asarray(scenario.game.capacity), strict=True):
        if most > unreserved[name]:
            raise ValueError(
                f"--validate: the capacity of {name} is {most:g}, and only {unreserved[name]} of her records "
                "are not reserved"
            )


def check_reserve(task: Task) -> None:
    """Raises a ValueError if a metric of two classes is to be tested on a reserve that has one."""
    if task.settings.metric != "auc":
        return
    if name := _of_one_class(task, members.reserved(task.own.federation, task.own.shares)):
        raise ValueError(
            f"--validate: all reserved records of {name} are of one class, so that --metric=auc is not "
            "defined on them; a larger --reserve may have others"
        )


def check_tests(task: Task, splits: Iterable[int]) -> None:
    """Raises a ValueError if the metric of a trained model will not be defined for a member in some split."""
    if task.own is None or task.settings.metric != "auc":
        return
    for number in splits:
        split = task.split(number)
        for flag, part in (("tested", split.test), ("reserve", split.reserve)):
            if name := _of_one_class(task, part.labels):
                raise ValueError(
                    f"--metric=auc is not defined for {name} in split {number}: all records of --{flag} are "
                    f"of one class; a larger --{flag} may have others"
                )


def _of_one_class(task: Task, labels: Iterable[np.ndarray]) -> str | None:
    """The first member whose labels, one row for each, are of one class; None if there is none."""
    for name, own in zip(task.own.federation.names, labels, strict=True):
        if len(set(own[own >= 0].tolist())) < 2:
            return name
    return None


def advice(
    scenario: scenarios.Scenario,
    settings: Any,
    profile: np.ndarray,
    stay: np.ndarray,
    mechanism: mechanisms.Mechanism,
) -> Advice:
    """The advice to those who stay, rounded to whole records.

    Args:
      scenario: of all n agents.
      settings: of the command.
      profile: [k] what those who stay contribute.
      stay: [k] their numbers.
      mechanism: who is paid what.
    """
    game = games.subset(scenario.game, stay) if len(stay) < scenario.game.n else scenario.game
    payoff = game.payoff
    always = isinstance(payoff, payoffs.EffectiveSamples) and payoff.own == payoffs.ALWAYS
    most = np.floor(np.asarray(game.capacity)).astype(int)
    whole = np.minimum(np.rint(np.asarray(profile)).astype(int), most)
    return Advice(
        names=tuple(scenario.names[i] for i in stay),
        profile=whole,
        most=most,
        own=np.rint(np.broadcast_to(np.asarray(payoff.records), (game.n,))).astype(int) if always else None,
        value=np.broadcast_to(np.asarray(game.value), (game.n,)),
        metric=lambda s: np.asarray(all_rows.at(game, jnp.asarray(s, float))["payoff"]),
        utility=functools.partial(_utilities, game, mechanism),
        resampled=_resampled(scenario, settings, stay),
        gap=float(all_rows.largest_gap(game, mechanism, jnp.asarray(whole, float))),
    )


def _resampled(
    scenario: scenarios.Scenario, settings: Any, stay: np.ndarray
) -> Callable[[np.ndarray], np.ndarray] | None:
    """See `Advice.resampled`; of those who stay."""
    exchange, n = scenario.origin.exchange, scenario.game.n

    def of_all(samples: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(samples), n))
        whole[:, stay] = samples
        return whole

    if exchange is not None:
        return lambda samples: np.stack(
            [fitted_rates.predict(one, of_all(samples))[:, stay] for one in exchange.resampled]
        )
    if not scenario.origin.measured:
        return None
    by_agent = {}
    for agent, one in scenario.origin.measured.items():
        payoff = curves.bootstrap(settings.fit, *one, samples=_DRAWS, seed=0)
        by_agent[agent] = payoff
    payoff = scenario.game.payoff  # with --exchange_rates the curve is one of effective samples
    rates = np.asarray(payoff.rates) if isinstance(payoff, payoffs.EffectiveSamples) else np.ones((n, n))

    def of_curves(samples: np.ndarray) -> np.ndarray:
        effective = of_all(samples) @ rates.T
        found = []
        for i in stay:
            drawn = by_agent.get("", by_agent.get(scenario.names[i]))
            found.append(jax.vmap(lambda one, z=effective[:, i]: jax.vmap(one.curve)(z))(drawn))
        return np.stack(found, axis=-1)

    return of_curves


def _utilities(game: games.Game, mechanism: mechanisms.Mechanism, s: np.ndarray) -> np.ndarray:
    """Utilities [k] at contributions s [k] under a mechanism, as it is announced."""
    return np.asarray(outcomes.settle(game, mechanism, jnp.asarray(s, float)).utilities)


def check(
    measured: Measured,
    advised: dict[str, Advice],
    runs: int,
    work: Workdir,
    resources: Resources = Resources(),
) -> None:
    """Trains at the advice and at every deviation; writes `validation.csv` and `validation.json`.

    Args:
      measured: how records were measured, and models trained.
      advised: what is checked, by title.
      runs: training runs of every profile, each on other records.
      work: where finished runs are kept.
      resources: number of runs at a time, and a cache.
    """
    own, names = measured.task.own, measured.mixtures.members
    labels = members.reserved(own.federation, own.shares)
    unreserved = members.unreserved(own.federation, own.shares)
    table, summaries = [], []
    for title, advice in advised.items():
        places = [names.index(name) for name in advice.names]
        rows, samples = _mixtures(names, advice)
        trained = mixtures.measure(measured.task, samples, range(runs), work, resources, "check")[
            :, :, places
        ]
        drawn = None if advice.resampled is None else advice.resampled(samples[:, places])
        found = []
        for i, place in enumerate(places):
            reserve = _Reserve(labels[place], int(unreserved[place]))
            mine = [row for row in rows if row.member == i]
            announced = next(row for row in mine if row.kind == _ANNOUNCED)
            found += [_of_row(measured.task, advice, row, announced, trained, drawn, reserve) for row in mine]
        table += [{"of": title, **row} for row in found]
        summaries.append({"of": title, "rounded_gap": advice.gap, **_summary(measured.task, found, runs)})
    work.write_csv("validation.csv", table)
    work.write_json("validation.json", summaries)


def _mixtures(names: tuple[str, ...], advice: Advice) -> tuple[list[_Row], np.ndarray]:
    """Every member at the announced profile and at her deviations, and the mixtures [B, n] to train on.

    `names` are those of all n members, in the order of the federation.
    """
    places = [names.index(name) for name in advice.names]
    rows, known = [], {}
    for i in range(len(advice.names)):
        for kind, own in ((_ANNOUNCED, advice.profile[i]), (_NOTHING, 0), (_ALL, advice.most[i])):
            contributions = advice.profile.copy()
            contributions[i] = own
            metric, utility = advice.metric(contributions)[i], advice.utility(contributions)[i]
            mixture = contributions.copy()
            if advice.own is not None:
                mixture[i] = advice.own[i]
            whole = np.zeros(len(names), int)
            whole[places] = mixture
            number = known.setdefault(tuple(whole.tolist()), len(known))
            rows.append(_Row(i, kind, int(own), number, float(metric), float(utility)))
    return rows, np.array(list(known))


def _of_row(
    task: Task,
    advice: Advice,
    row: _Row,
    announced: _Row,
    trained: np.ndarray,
    drawn: np.ndarray | None,
    reserve: _Reserve,
) -> dict[str, Any]:
    """One row of `validation.csv`.

    Args:
      task: of the measuring.
      advice: what is checked.
      row: a member at a profile.
      announced: she at the announced one.
      trained: [B, runs, k, r] what each record of a member's reserve adds to her metric; NaN beyond them.
      drawn: [D, B, k] predictions from resampled measurements; None: nothing was fitted.
      reserve: hers.
    """
    i, metric = row.member, task.settings.metric
    here, base = (trained[one.mixture, :, i, : len(reserve.labels)] for one in (row, announced))
    level, difference = _half_widths(task, advice, row, announced, here, base, drawn, reserve)
    value = float(advice.value[i])
    mean, at_announced = (float(np.mean(evaluation.mean_of(metric, each))) for each in (here, base))
    # Payments are what is announced: only the metric that they are paid for may turn out otherwise.
    utility = row.utility + value * (mean - row.metric)
    gain = row.utility - announced.utility
    trained_gain = gain + value * ((mean - row.metric) - (at_announced - announced.metric))
    return {
        "member": advice.names[i],
        "profile": row.kind,
        "contribution": row.contribution,
        "predicted": row.metric,
        "trained": mean,
        "low": max(mean - level, 0.0),
        "high": min(mean + level, 1.0),
        "holds": bool(abs(mean - row.metric) <= level),
        "predicted_utility": row.utility,
        "trained_utility": utility,
        "utility_low": utility - value * level,
        "utility_high": utility + value * level,
        "predicted_gain": gain,
        "trained_gain": trained_gain,
        "gain_low": trained_gain - value * difference,
        "gain_high": trained_gain + value * difference,
    }


def _half_widths(
    task: Task,
    advice: Advice,
    row: _Row,
    announced: _Row,
    here: np.ndarray,
    base: np.ndarray,
    drawn: np.ndarray | None,
    reserve: _Reserve,
) -> tuple[float, float]:
    """Half the interval of a member's metric, and of its difference to that at the announced profile.

    `here` and `base` are what her reserve's records add to both, [runs, r]; the rest is as of `_of_row`.
    """
    of_level = of_difference = 0.0  # variance of what is predicted
    if drawn is not None:
        mine, hers = drawn[:, row.mixture, row.member], drawn[:, announced.mixture, row.member]
        of_level, of_difference = float(np.var(mine)), float(np.var(mine - hers))
    number, least = len(advice.names), _least_spread(task, row.metric, reserve.labels)
    # Two models whose accuracies differ by so much judge at least this share of records differently.
    apart = min(abs(row.metric - announced.metric), 1.0)
    least_apart = apart * (1.0 - apart) if task.settings.metric == "accuracy" else 0.0
    return (
        _half_width(here, reserve.others, of_level, number, least),
        _half_width(here - base, reserve.others, of_difference, 2 * number, least_apart),
    )


def _least_spread(task: Task, predicted: float, labels: np.ndarray) -> float:
    """The variance of what a record adds to a metric, if the prediction is right; 0 where that says nothing.

    The spread in the reserve alone would be too sure where hardly any of its records are judged wrongly. With
    accuracy p a record is judged correctly with probability p; the variance of an area under the curve of two
    classes is at least about that of Hanley and McNeil (1982).

    Args:
      task: of the measuring.
      predicted: the metric.
      labels: [r] of the reserve.
    """
    if task.settings.metric == "accuracy":
        return predicted * (1.0 - predicted)
    if task.settings.metric == "log_loss" or len(task.classes) > 2:
        return 0.0
    a, b = (float(np.sum(labels == k)) for k in (1, 0))
    area = min(max(predicted, 0.5), 1.0)
    of_positive, of_negative = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    total = area * (1.0 - area) + (a - 1.0) * (of_positive - area**2) + (b - 1.0) * (of_negative - area**2)
    return total / (a * b) * (a + b)


def _half_width(
    values: np.ndarray, others: int, of_fit: float, comparisons: int, spread: float = 0.0
) -> float:
    """Half the interval of trained minus predicted, at a joint level over so many comparisons (Bonferroni).

    Three things move it: which records were trained on, which are in the reserve and which were measured on
    (both are samples of what the member will see), and the noise of what was fitted. The quantile is that of
    Student's t, as the spread is known from the reserve's records only.

    Args:
      values: [runs, r] what the r records of the reserve add to the metric.
      others: the number of records that were measured on.
      of_fit: variance of what is predicted.
      comparisons: their number.
      spread: the least variance of what a record adds.
    """
    runs, reserve = values.shape
    of_runs = np.var(np.mean(values, axis=1), ddof=1) / runs
    of_records = max(np.var(np.mean(values, axis=0), ddof=1) if reserve > 1 else 0.25, spread)
    variance = of_runs + of_records * (1.0 / reserve + 1.0 / others) + of_fit
    upper = 1.0 - (1.0 - CONFIDENCE) / (2 * comparisons)
    return float(scipy.stats.t.ppf(upper, max(reserve - 1, 1)) * np.sqrt(variance))


def _summary(task: Task, table: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    """`validation.json`: what holds and what does not."""
    deviations = [row for row in table if row["profile"] != _ANNOUNCED]
    pay = [
        {"member": row["member"], "profile": row["profile"], "gain": row["trained_gain"]}
        for row in deviations
        if row["gain_low"] > max(0.0, row["predicted_gain"])
    ]
    return {
        "metric": task.settings.metric,
        "confidence": CONFIDENCE,
        "runs": runs,
        "predicted_nash_gap": max(0.0, *(row["predicted_gain"] for row in deviations)),
        "trained_nash_gap": max(0.0, *(row["trained_gain"] for row in deviations)),
        "deviations_that_pay": pay,
        "holds": not pay and all(row["holds"] for row in table if row["profile"] == _ANNOUNCED),
    }


def headline(work: Workdir) -> dict[str, bool]:
    """A column for the table of a sweep, if advice was checked: whether all of it held."""
    if not work.has("validation.json"):
        return {}
    return {"advice_holds": all(one["holds"] for one in work.read_json("validation.json"))}


def of_mixtures(
    task: Task, measured: fitted_rates.Mixtures, found: Any, runs: int, work: Workdir, resources: Resources
) -> None:
    """Checks what was fitted where everybody gives all that could be measured, or one gives nothing.

    Args:
      task: of the measuring.
      measured: the mixtures.
      found: `inputs.fits.Exchange` fitted to them.
      runs: training runs of every profile.
      work: where finished runs are kept.
      resources: number of runs at a time, and a cache.
    """
    most = members.trainable(task.own.federation, task.own.shares)

    def metric(s: np.ndarray) -> np.ndarray:
        return fitted_rates.predict(found.fit, np.asarray(s, float)[None])[0]

    everything = Advice(
        names=measured.members,
        profile=most,
        most=most,
        own=None,
        value=np.ones(len(most)),
        metric=metric,
        utility=metric,
        resampled=lambda samples: np.stack([fitted_rates.predict(one, samples) for one in found.resampled]),
    )
    check(Measured(task, measured), {"": everything}, runs, work, resources)
