"""Section 5 from end to end: measure ã, play the game on it, train on what agents share, compare.

Every training run is a pure function of the settings, a seed and what agents contribute. So runs are made in
any order, stored one by one, and never made twice: steps of the game and protocols with the same
contributions share a run, and with a cache, comparisons share runs too.
"""

import dataclasses
import functools
import hashlib
import pathlib
import time
import urllib.parse
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.experiments import (
    break_even,
    contenders,
    curve,
    measure,
    memory,
    paper,
    rows,
    table1,
    trained,
    validation,
)
from fedgame.experiments import task as tasks
from fedgame.experiments.contenders import Contender
from fedgame.experiments.task import Task
from fedgame.games import costs, curves, payoffs, scenarios
from fedgame.games import exchange_rates as fitted_rates
from fedgame.games import game as games
from fedgame.inputs import fits
from fedgame.inputs import read as inputs
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import base as mechanisms
from fedgame.mechanisms import outcomes, refunds, rules
from fedgame.protocols import base, fedbr
from fedgame.registry import option
from fedgame.report import answers, figures, page, scales, tables, text
from fedgame.runs import jobs, workdir
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

# What the report says of mechanisms that give agents a worse model than all data allow.
_WITHHELD = "accuracy that is withheld is accounted, as on ã; nobody's model is degraded"


@dataclasses.dataclass(frozen=True)
class Settings(validation.Settings, measure.Design, curve.Settings):
    """Settings of `launch.compare`."""

    protocol: tuple[str, ...] = option(
        "protocols to compare, separated by commas, for example "
        "'fedavg, mwfed(target=0.8), fedbr(falkinger), fedbr(price(price=0.004), steps=50)'",
        ("fedavg", "mwfed", "fedbr", "fedbr_bg"),
        of="protocol",
        kind=str,
    )
    mode: str = option(
        "contributions follow the fitted curve and are rounded when samples are drawn; or, literally as "
        "Algorithms 1 and 2, raw ã's differences, each step rounded to multiples of Δs (--interval, or 10)",
        "continuous",
        choices=("continuous", "literal"),
    )
    test_images: int = option("test images of each agent's own", 10, low=1)
    cost: tuple[float, ...] | str | None = option(
        "c, cost per sample, one number or one per agent, or another cost; so that τ·c = 0.5 if not given",
        None,
        low=0,
        kind=float,
        of="cost",
    )
    beta: float | None = option(
        "β of FedBR-BG; β* of Definition 2 if not given", None, low=0, high=1, kind=float
    )
    price: float | None = option(
        "rule price: what a sample brings; not given: what has the largest sum of utilities",
        None,
        low=0,
        kind=float,
    )
    steps: int = option("H, steps of the best-response dynamics", 100, low=1)
    step_size: float | None = option(
        "constant δ of the dynamics; adaptive if not given, Δs / mean cost if literal",
        None,
        above=0,
        kind=float,
    )
    evaluate_every: int = option(
        "steps of the game between models trained anew; the paper's is 1, the last step always is one",
        25,
        low=1,
    )
    mwfed_target: float = option("MWFed: accuracy every agent should reach", 0.7, low=0, high=1)
    mwfed_factor: float = option("MWFed: what weights of agents below it grow by", 4.0, above=1)
    afl_rate: float = option("AFL: step size of the agents' weights", 0.1, above=0)
    qffl_q: float = option("q-FFL: q, 0 is FedAvg with equal weights", 0.1, low=0)
    p: tuple[float, ...] = option(
        "p of the p-means in Table 1", (0.2, 0.4, 0.6, 0.8, 1.0), high=1, kind=float, infinite=True
    )
    seeds: int = option("runs of every protocol", 5, low=1, high=10_000)
    keep_models: bool = option(
        "keep the final model of every protocol and seed, for fedgame.load_model; trains those anew that "
        "--cache only has the accuracy of",
        False,
    )


# Settings of a curve that is measured on data of the server, which a federation of its own has none of.
_OF_CURVE = ("sizes", "interval", "curve_points", "curve_seeds", "fit", "mode")


def settle(settings: Settings, available: tuple[int, int] | None) -> tuple[Settings, tasks.Needed]:
    """The settings with every default filled in, and the images they need; see `task.Settle`."""
    defaults = Settings()
    of_others = _OF_CURVE if available is None else ("runs", "minutes", "splits", "validate", "validations")
    for name in of_others:
        if getattr(settings, name) != getattr(defaults, name):
            need = "has no use with" if available is None else "needs"
            raise ValueError(f"--{name} {need} --federation")
    capacity = tasks.capacity(settings)
    cost = settings.cost or tuple(0.5 / tau for tau in capacity)
    if not isinstance(cost, str):
        all_settings.one_for_each("cost", cost, settings.agents)
        cost = tasks.for_each(cost, settings.agents)
    settings = dataclasses.replace(settings, capacity=capacity, cost=cost)
    if available is None:
        measure.check_design(settings, settings.agents)
    _check_protocols(settings)
    path = 8.0 * settings.steps * settings.agents * settings.seeds
    memory.check("every step of the dynamics", {f"--steps={settings.steps}": path})
    taken = sum(capacity), settings.agents * settings.test_images
    return curve.settle_server(settings, available, taken)


check = functools.partial(tasks.check, settle)


def prepare(settings: Settings, resources: Resources = Resources()) -> Task:
    """The images or the members' records, the network and its training; raises as `check`."""
    task = tasks.prepare(settle, settings, resources)
    validation.check_tests(task, range(settings.seeds))
    if settings.validate:
        validation.check_reserve(task)
    return task


def _check_protocols(settings: Settings) -> None:
    """Refuses, before ã is measured, protocols that costs or the number of agents do not allow.

    Raises:
      ValueError: such a protocol, or a flag that changes none of the protocols.
    """
    named = contenders.chosen(settings)
    for flag, protocol in (("price", "fedbr(price)"), ("beta", "fedbr_bg"), ("step_size", "fedbr")):
        if getattr(settings, flag) is not None and not _makes_a_difference(settings, flag):
            raise ValueError(f"--{flag} is that of {protocol}: no protocol of --protocol leaves it open")
    game = games.Game(None, cost_of(settings), np.asarray(settings.capacity, float))
    for title, protocol in named.items():
        try:
            protocol.rule.requires(game)
        except ValueError as error:
            more = "; or give --beta" if protocol.rule.name == "beta_star" else ""
            raise ValueError(f"--protocol, {title}: {error}{more}") from None
        if settings.mode == "literal" and type(protocol) is fedbr.FedBR:
            _check_literal(title, protocol.rule, game)


def _makes_a_difference(settings: Settings, flag: str) -> bool:
    """Whether the flag changes an option of one of the protocols."""
    try:
        without = contenders.chosen(dataclasses.replace(settings, **{flag: None}))
    except ValueError:
        return True  # a protocol needs the flag
    texts = [registry.text_of(protocol) for protocol in contenders.chosen(settings).values()]
    return texts != [registry.text_of(protocol) for protocol in without.values()]


def _check_literal(title: str, rule: mechanisms.Rule, game: games.Game) -> None:
    """Refuses what Algorithms 1 and 2 are not printed for: other payments than refunds, costs not linear."""
    if rule.announces is not None and not issubclass(rule.announces, refunds.Refunds):
        raise ValueError(f"--mode=literal is printed for refunds of costs only, not for {title}")
    if rules.linear_rates(game) is None:
        raise ValueError("--cost: --mode=literal divides by costs: they must be linear and above 0")


def cost_of(settings: Settings) -> costs.Cost:
    """The cost of settled settings.

    Raises:
      ValueError: a text names no cost, or a cost of another number of agents.
    """
    if not isinstance(settings.cost, str):
        return costs.LinearCost(np.asarray(settings.cost))
    any_payoff = payoffs.PowerLaw(1.0, 1.0, 1.0)  # only to have the cost checked
    with all_settings.of_flag("cost"):
        cost, capacity = registry.read("cost", settings.cost), np.asarray(settings.capacity, float)
        return games.check(games.Game(any_payoff, cost, capacity)).cost


class Trial(NamedTuple):
    """One protocol at one seed, after one step of its game."""

    title: str  # of the protocol
    mechanism: mechanisms.Mechanism  # under which costs are settled
    seed: int
    step: int  # of the game; 0 where contributions are not the outcome of dynamics
    last: bool  # whether it is the last step
    profile: np.ndarray  # [n] samples that agents meant to contribute in the last round, not rounded
    path: np.ndarray  # [t, n] profiles over the steps of the game
    training: dict[str, Any]  # what `train` returned
    ending: str = ""  # how the path ends, in words; "" if there is nothing to say


def fit_game(task: Task, sizes: np.ndarray, accuracy: np.ndarray) -> tuple[games.Game, curves.Fit]:
    """The game on the fitted ã, and the fit, from accuracies [seeds, k] at totals [k]."""
    fit = curves.fit(task.settings.fit, sizes, accuracy)
    capacity = jnp.asarray(task.settings.capacity)
    return games.check(games.Game(fit.payoff, cost_of(task.settings), capacity)), fit


def aims(game: games.Game, protocols: list[Contender]) -> dict[str, outcomes.Outcome | None]:
    """By title, the certified outcome that each protocol aims at; None if it aims at none."""
    found: dict[str, outcomes.Outcome | None] = {}
    solved: list[outcomes.Outcome] = []  # protocols with equal mechanisms aim at the same one
    for title, protocol, announced in protocols:
        found[title] = None
        if protocol.aims:
            found[title] = outcomes.known_or_new(game, announced.mechanism, solved, announced.equilibrium)
            solved.append(found[title])
    return found


def describe_game(
    task: Task,
    work: Workdir,
    game: games.Game,
    fit: curves.Fit,
    protocols: list[Contender],
    accuracy: np.ndarray,
) -> dict[str, Any]:
    """How well ã fits, and certified equilibria; writes `game.json` and `fitted_curve.csv`.

    Args:
      task: images, network and settings.
      work: the directory.
      game: the game on the fitted ã.
      fit: of ã.
      protocols: whose equilibria are wanted.
      accuracy: [seeds, k], as ã was measured.

    Returns:
      What it writes to `game.json`.
    """
    spread = float(np.mean(np.std(accuracy, axis=0, ddof=1))) if len(accuracy) > 1 else None
    summary = {
        "fit": task.settings.fit,
        "rmse": fit.rmse,
        "largest_residual": fit.largest,
        "rises": fit.rises,
        "deviation_between_seeds": spread,
        "equilibria": _equilibria(game, aims(game, protocols)),
        "parameters": fit.parameters,
    }
    work.write_json("game.json", summary)
    totals = np.linspace(0, curve.largest_of(task.settings), 401)
    fitted = np.asarray(curves.values(fit.payoff, totals))
    work.write_csv("fitted_curve.csv", rows.curve("", totals, fitted))
    return summary


def _equilibria(
    game: games.Game, aimed: dict[str, outcomes.Outcome | None]
) -> dict[str, dict[str, Any] | None]:
    """What `game.json` says of the outcomes that protocols aim at."""
    found: dict[str, dict[str, Any] | None] = {}
    for title, outcome in aimed.items():
        if outcome is None:
            found[title] = None
            continue
        mechanism, there = outcome.mechanism, outcome.equilibrium
        utility, gap = np.asarray(outcome.utilities), np.asarray(there.nash_gap)
        rows.check_finite({f"{title}: utility": utility, f"{title}: Nash gap": gap}, range(game.n))
        found[title] = {
            "announced": {
                name: np.asarray(numbers).tolist() for name, numbers in mechanism.announced(game.n).items()
            },
            "told": rows.told(mechanism, game.n),
            "contributed": float(np.sum(np.asarray(there.profile))),
            "total": float(rows.at(game, there.profile)["total"]),
            "unique": bool(there.unique),
            "nash_gap": float(np.max(np.asarray(there.nash_gap))),
            "converged": bool(there.converged),
            "certified_from_payments": outcome.general,
            "nobody_shares": None,
        }
        if there.converged:
            why = break_even.nobody_shares(game, there.profile, range(game.n), mechanism)
            found[title]["nobody_shares"] = why
    return found


def _own_game(
    task: Task, work: Workdir, resources: Resources
) -> tuple[scenarios.Scenario, fitted_rates.Mixtures]:
    """The game of members with data of their own, whose exchange rates are measured first."""
    measured = measure.measure(task, work, resources)
    exchange = fits.fitted(measured, metric=task.settings.metric)
    capacity = np.asarray(task.settings.capacity, float)
    payoff = fits.payoff_of(exchange, "contributed", capacity)
    game = games.check(games.Game(payoff, cost_of(task.settings), jnp.asarray(capacity)))
    scenario = scenarios.Scenario(game, list(measured.members), inputs.Origin({}, {}, exchange), None)
    rows.write_exchange_rates(work, scenario)
    return scenario, measured


def _describe_own_game(
    task: Task,
    work: Workdir,
    scenario: scenarios.Scenario,
    measured: fitted_rates.Mixtures,
    protocols: list[Contender],
    resources: Resources,
) -> None:
    """Certified equilibria, in `game.json`; with --validate, each is checked by training."""
    game, aimed = scenario.game, aims(scenario.game, protocols)
    exchange = rows.exchange_of(scenario.origin.exchange, scenario.names)
    work.write_json("game.json", {"exchange": exchange, "equilibria": _equilibria(game, aimed)})
    if not task.settings.validate:
        return
    everybody = np.arange(game.n)
    advised = {}
    for title, outcome in aimed.items():
        if outcome is not None:
            advised[title] = validation.advice(
                scenario, task.settings, outcome.equilibrium.profile, everybody, outcome.mechanism
            )
    of_task = validation.Measured(task, measured)
    validation.check(of_task, advised, task.settings.validations, work, resources)


def train(
    task: Task,
    protocol: base.Protocol,
    plan: base.Plan,
    seed: int,
    snapshots: trainers.Snapshots = trainers.FORGET,
    keep: Callable[[Any], None] = lambda params: None,
) -> dict[str, Any]:
    """One training run. At one seed all protocols share data, initial model and the start of the game.

    Args:
      task: images, network and settings.
      protocol: how contributions and the model change from round to round.
      plan: of the first round.
      seed: number of the repetition.
      snapshots: keep the state, so that an interrupted run can go on.
      keep: is given the final parameters.

    Returns:
      JSON values: `charged` [n], the samples drawn, averaged over rounds; `profile` [n] as agents meant it
      in the last round; `drawn` [rounds, n], or [1, n] if all rounds are alike; `accuracy` [n] on each
      agent's own test images; `held_out_accuracy` on the server's, a number, or [n] on her own reserve;
      `seconds`.
    """
    settings, begin = task.settings, time.perf_counter()
    keys = _keys(task, seed)
    agents, test, held_out = _dealt(task, keys, seed)
    params = jax.device_get(models.initial_parameters(task.model, keys.model, agents.images.shape[2:]))
    placed = federated.place(agents, task.mesh)
    trainer = trainers.Trainer(
        task.model, task.local_training, placed, keys.training, task.mesh, test, settings.metric
    )
    outcome = base.run(protocol, plan, trainer, params, settings.rounds, snapshots)
    keep(outcome.params)
    alike = np.all(outcome.drawn == outcome.drawn[0])
    drawn = outcome.drawn[:1] if alike else outcome.drawn
    return {
        "charged": outcome.charged.tolist(),
        "profile": outcome.plan.profile.tolist(),
        "drawn": drawn.tolist(),
        "accuracy": trainer.accuracy(outcome.params).tolist(),
        "held_out_accuracy": evaluation.measured(
            task.model, outcome.params, held_out, settings.metric
        ).tolist(),
        "seconds": round(time.perf_counter() - begin, 3),
    }


class _Keys(NamedTuple):
    """Random keys of the repetition with one seed, for all that is random in it."""

    train_images: jax.Array  # which agent holds which training images
    test_images: jax.Array
    model: jax.Array  # initial parameters
    training: jax.Array
    game: jax.Array  # where the dynamics start


def _keys(task: Task, seed: int) -> _Keys:
    return _Keys(*jax.random.split(task.key_of("run", seed), len(_Keys._fields)))


class _Dealt(NamedTuple):
    """What a repetition trains on and tests on."""

    train: federated.Images  # [n, ...] of every agent
    test: federated.Images  # [n, ...] her own
    held_out: federated.Images  # the server's, or [n, ...] each member's own reserve


def _dealt(task: Task, keys: _Keys, seed: int) -> _Dealt:
    if task.own is not None:
        split = task.split(seed)
        return _Dealt(split.train, split.test, split.reserve)
    settings = task.settings
    agents = partitions.partition(task.agents.train, np.asarray(settings.capacity), keys.train_images)
    test_images = np.full(settings.agents, settings.test_images)
    test = partitions.partition(task.agents.test, test_images, keys.test_images)
    return _Dealt(agents, test, task.server.test)


def evaluated(path: np.ndarray, every: int) -> list[int]:
    """The steps of the game after which a model is trained: each multiple of `every`, and the last.

    [0] for a path of one profile, which has no steps.
    """
    last = len(path) - 1
    return [*range(every, last, every), last]


class _Planned(NamedTuple):
    """A trial before its training."""

    contender: Contender
    seed: int
    step: int  # of the game, after which it trains
    plan: base.Plan  # with the path of the whole game
    first: base.Plan  # of the first round of training
    identity: dict[str, Any]  # what tells its training run apart from others of its seed
    job: str  # the training run, which trials may share

    @property
    def last(self) -> bool:
        """Whether it trains after the last step of its game."""
        return self.step == len(self.plan.path) - 1


def play_and_train(
    task: Task,
    work: Workdir,
    workers: int,
    game: games.Game,
    protocols: list[Contender],
    cache: pathlib.Path | None = None,
) -> list[Trial]:
    """Plays the game from a random start for every seed, then trains on what agents contribute.

    With --keep_models, also writes the model of every protocol and seed after the last step.

    Args:
      task: images, network and settings.
      work: where finished training runs are kept.
      workers: training runs at a time.
      game: the game on the fitted ã.
      protocols: who plays it, and under which announcements.
      cache: directory of training runs that all comparisons share; None: none.

    Returns:
      A trial for each protocol, seed and evaluated step of the game, in this order.
    """
    planned = _play(task, game, protocols)
    sharing: dict[str, list[_Planned]] = {}
    for one in planned:
        sharing.setdefault(one.job, []).append(one)
    shared = _shared(task) if cache else {}
    todo: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {}
    for job, trials in sharing.items():
        one, final = trials[0], [trial for trial in trials if trial.last and task.settings.keep_models]
        folders = [model_folder(trial.contender.title, trial.seed) for trial in final]
        keep = functools.partial(_keep, task, work, folders, one.seed)
        protocol, snapshots = one.contender.protocol, work.snapshots(job)
        compute = functools.partial(train, task, protocol, one.first, one.seed, snapshots, keep)
        # Nobody knows what else a rule without an identity trains; and the cache has no parameters to keep.
        folder = None if isinstance(one.identity["rule"], str) or folders else cache
        key = {"key": jax.random.key_data(task.key_of("run", one.seed)).tolist()}
        known = functools.partial(workdir.cached, folder, one.identity | shared | key, compute)
        todo[job] = (sum(one.identity["drawn"]), known)
    done = jobs.run("training", todo, work, workers)
    return [_trial(one, done[one.job]) for one in planned]


def _play(task: Task, game: games.Game, protocols: list[Contender]) -> list[_Planned]:
    """What is trained after the evaluated steps of every protocol's game, at every seed."""
    settings, planned = task.settings, []
    with jobs.progress("best-response dynamics", len(protocols) * settings.seeds) as bar:
        for contender in protocols:
            protocol = contender.protocol
            rule = base.identity(protocol)
            if rule is None:  # nobody knows which models are the same: a text that is no other protocol's
                rule = uuid.uuid4().hex
            for seed in range(settings.seeds):
                plan = protocol.start(game, contender.announced, _keys(task, seed).game)
                for step in evaluated(plan.path, settings.evaluate_every):
                    first = plan._replace(profile=plan.path[step], path=plan.path[step : step + 1])
                    identity = _identity(first, rule)
                    job = f"runs/{seed}-{_short(identity, protocol)}"
                    planned.append(_Planned(contender, seed, step, plan, first, identity, job))
                bar.update()
    return planned


def model_folder(title: str, seed: int) -> str:
    """Where the final model of a protocol and a seed is kept, below the directory of the comparison."""
    name = urllib.parse.quote(title, safe=" =,+()")
    return f"models/{workdir.shortened(name)}/{seed}"


def _keep(task: Task, work: Workdir, folders: list[str], seed: int, params: Any) -> None:
    """Writes the parameters into each of the folders, for `trained.load`."""
    for folder in folders:
        trained.save(work, folder, task, params, seed)


def _identity(plan: base.Plan, rule: dict[str, Any] | str) -> dict[str, Any]:
    """What tells training runs of one seed apart, as JSON values.

    Args:
      plan: of the first round.
      rule: `base.identity` of the protocol, or a text that no other protocol has.
    """
    found: dict[str, Any] = {"drawn": base.draw(plan.profile).tolist(), "rule": rule}
    if rule != {}:  # later rounds may depend on the profile before it is rounded, and on the memory
        found |= {"profile": plan.profile.tolist(), "memory": _digest(plan.memory)}
    return found


def _trial(planned: _Planned, result: dict[str, Any]) -> Trial:
    """The trial, from the result of its training run.

    Where models are averaged, the plan stays, and the run may be shared with others that draw the same whole
    samples: so the profile is its own.
    """
    contender, plan = planned.contender, planned.plan
    return Trial(
        title=contender.title,
        mechanism=contender.announced.mechanism,
        seed=planned.seed,
        step=planned.step,
        last=planned.last,
        profile=plan.path[planned.step] if planned.identity["rule"] == {} else np.asarray(result["profile"]),
        path=plan.path,
        training=result,
        ending=contender.protocol.ending(plan),
    )


def _shared(task: Task) -> dict[str, Any]:
    """All that determines a training run beside its samples, its rule and its seed, as JSON values."""
    images = (task.agents, task.server) if task.own is None else ()
    found = tasks.fingerprint(task, [base.__name__], *images)
    return found | {"capacity": task.settings.capacity, "test_images": task.settings.test_images}


def _digest(memory: Any) -> str:
    """A digest of a pytree of arrays, equal only if structure, shapes, types and numbers are equal."""
    leaves, structure = jax.tree.flatten(memory)
    found = hashlib.sha256(str(structure).encode())
    for leaf in map(np.asarray, leaves):
        found.update(str((leaf.shape, leaf.dtype)).encode() + leaf.tobytes())
    return found.hexdigest()


def _short(identity: dict[str, Any], protocol: base.Protocol) -> str:
    """A short name for a training run: its rule, the samples drawn, and the start of a digest."""
    digest = hashlib.sha256(workdir.to_json(identity).encode()).hexdigest()[:8]
    rule = type(protocol).__name__ if identity["rule"] else "average"
    return f"{rule}-{sum(identity['drawn'])}-{digest}"


def compute(task: Task, work: Workdir, resources: Resources = Resources()) -> None:
    """Makes the whole comparison, and writes its tables.

    Args:
      task: from `prepare`.
      work: from `workdir.open_workdir`.
      resources: number of training runs at a time, and a cache of measured accuracies and training runs that
        all comparisons share.
    """
    settings, workers = task.settings, task.workers(resources.workers)
    tasks.write_remarks(task, work)
    if task.own is None:
        sizes, accuracy = curve.measure(task, work, resources)
        game, fit = fit_game(task, sizes, accuracy)
        protocols = contenders.make(settings, game, sizes, accuracy)
        describe_game(task, work, game, fit, protocols, accuracy)
    else:
        scenario, measured = _own_game(task, work, resources)
        game = scenario.game
        protocols = contenders.make(settings, game)
        _describe_own_game(task, work, scenario, measured, protocols, resources)
    trials = play_and_train(task, work, workers, game, protocols, resources.cache)
    table1.write(work, game, trials, settings.p)
    if settings.keep_models:
        final = [trial for trial in trials if trial.last]
        about = [
            {"protocol": x.title, "seed": x.seed, "folder": model_folder(x.title, x.seed)} for x in final
        ]
        work.write_csv("models.csv", about)
    if task.own is not None:
        work.write_csv("members.csv", _by_member(scenario.names, game, trials))


def _by_member(names: list[str], game: games.Game, trials: list[Trial]) -> list[dict[str, Any]]:
    """`members.csv`: one row per protocol and member, means over seeds of what was predicted and trained."""
    table = []
    for title in dict.fromkeys(trial.title for trial in trials):
        mine = [trial for trial in trials if trial.title == title and trial.last]
        charged = np.array([trial.training["charged"] for trial in mine])
        predicted = np.array([rows.at(game, jnp.asarray(s))["payoff"] for s in charged])
        columns = {
            "contribution": charged,
            "predicted": predicted,
            "held_out": [trial.training["accuracy"] for trial in mine],
            "reserve": [trial.training["held_out_accuracy"] for trial in mine],
        }
        means = {column: np.mean(numbers, axis=0) for column, numbers in columns.items()}
        numbers = rows.of_columns(means, len(names))
        table += [
            {"protocol": title, "member": name, **row} for name, row in zip(names, numbers, strict=True)
        ]
    return table


def show(work: Workdir) -> str:
    """Draws the curve or the exchange rates, contributions and welfare; returns every table as text."""
    settings = work.read_json("config.json")["settings"]
    # A folder of members may be called mnist: the paper has no numbers of it.
    dataset = "" if settings.get("federation") else settings["dataset"]
    with jobs.progress("tables and figures", 2) as bar:
        report = _text(work, dataset)
        bar.update()
        if work.has("fitted_curve.csv"):
            figures.draw(work, "curve", figures.comparison_curve, (7, 4))
        else:
            figures.draw(work, "exchange_rates", figures.exchange_rates, (7, 5.5))
        figures.draw(work, "contributions", figures.comparison_contributions, (9, 4))
        figures.draw(work, "welfare", figures.comparison_welfare, (9, 4.5))
        bar.update()
    return page.write(work, report)


def _text(work: Workdir, dataset: str) -> str:
    """The tables of a comparison, with the paper's numbers beside ours."""
    per_trial, table = work.read_csv("runs.csv"), scales.lengthened(work.read_csv("table1.csv"))
    answer = answers.comparison(work)
    blocks = [text.lines(answer.sentences), text.trials(per_trial)]
    if told := text.remarks(work):
        blocks.insert(0, told)
    if work.has("members.csv"):
        blocks.append(text.by_member(work.read_csv("members.csv", text=("member",))))
    if checked := text.validation(work):
        blocks.append(checked)
    literal = [f"{row['protocol']}, seed {row['seed']}: {row['ends']}" for row in per_trial if row["ends"]]
    if literal:
        blocks.append("rounded contributions, step by step:\n" + "\n".join(literal))
    if degraded := list(dict.fromkeys(row["protocol"] for row in per_trial if row["withheld"])):
        blocks.append(f"{_WITHHELD}: {', '.join(degraded)}")
    tested = text.RECORDS if work.has("members.csv") else text.IMAGES
    blocks.append(text.table1(table, paper.printed(dataset, table), tested))
    if work.has("differences.csv"):
        paired = scales.lengthened(work.read_csv("differences.csv"))
        blocks.append(text.differences(paired, tested))
    blocks += paper.remarks(dataset, table, tested)
    blocks.append(text.lines(["How sure this is", *answer.sure, text.certificates(per_trial)]))
    blocks += [text.game(work.read_json("game.json")), text.seconds(work.read_csv("seconds.csv"))]
    return "\n\n".join([*blocks, text.words(answer)])


def headline(work: Workdir) -> list[dict[str, Any]]:
    """Normalised p-means by own test images, with the mean utility and the samples of each protocol."""
    trials = tables.by(work.read_csv("runs.csv"), "protocol")
    found = []
    for row in scales.lengthened(work.read_csv("table1.csv")):
        if row["utilities"] == "own" and row["scale"] == "mean":
            mean = tables.means(trials[row["protocol"]])
            shown = {name: row[name] for name in ("protocol", "p", "welfare", "standard_error")}
            found.append(shown | {"mean_utility": mean("mean_utility"), "charged": mean("charged")})
    return found


def show_sweep(work: Workdir) -> str:
    """A table by variant and protocol, and welfare over a setting that is a number."""
    figures.show_sweep(work, figures.comparisons)
    return page.write(work, text.sweep(work, text.comparisons))


EXPERIMENT = Experiment(
    program="launch.compare",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/{tasks.data_name(settings)}",
    headline=headline,
    collected=("welfare.csv", "runs.csv"),
    show_sweep=show_sweep,
    resources=("data_dir", "workers", "cache"),
)
