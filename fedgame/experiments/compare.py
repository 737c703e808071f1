"""Section 5 from end to end: measure ã, play the game on it, train on what agents share, compare.

Every training run is a pure function of the settings, a seed and what agents contribute. Runs are therefore
made in any order, stored one by one, and never made twice: steps of the game, protocols and whole
comparisons (by a cache) that have the same contributions share them.
"""

import dataclasses
import functools
import hashlib
import pathlib
import time
import uuid
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.experiments import contenders, curve, paper, rows, table1
from fedgame.experiments import task as tasks
from fedgame.experiments.contenders import Contender
from fedgame.experiments.task import Task
from fedgame.games import costs, curves, payoffs
from fedgame.games import game as games
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import base as mechanisms
from fedgame.mechanisms import outcomes, refunds, rules
from fedgame.protocols import base, fedbr
from fedgame.registry import option
from fedgame.report import figures, tables, text
from fedgame.runs import jobs, workdir
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

_WITHHELD = "accuracy that is withheld is accounted, as on ã; nobody's model is degraded"


@dataclasses.dataclass(frozen=True)
class Settings(curve.Settings):
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
    seeds: int = option("runs of every protocol", 5, low=1)


def settle(settings: Settings, available: tuple[int, int]) -> tuple[Settings, tasks.Needed]:
    """The settings with every default filled in, and the images they need; see `task.Settle`."""
    capacity = tasks.capacity(settings)
    cost = settings.cost or tuple(0.5 / tau for tau in capacity)
    if not isinstance(cost, str):
        all_settings.one_for_each("cost", cost, settings.agents)
        cost = tasks.for_each(cost, settings.agents)
    settings = dataclasses.replace(settings, capacity=capacity, cost=cost)
    _check_protocols(settings)
    taken = sum(capacity), settings.agents * settings.test_images
    return curve.settle_server(settings, available, taken)


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `task.check`."""
    tasks.check(settings, settle, resources.data_dir)


def prepare(settings: Settings, resources: Resources = Resources()) -> Task:
    """Raises as `task.check`."""
    return tasks.prepare(settings, settle, resources.data_dir)


def _check_protocols(settings: Settings) -> None:
    """Refuses at once what costs and the number of agents do not allow, whatever the curve will be."""
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
    """Whether one of the protocols would be another without the flag."""
    try:
        without = contenders.chosen(dataclasses.replace(settings, **{flag: None}))
    except ValueError:
        return True  # it needs the flag
    now = contenders.chosen(settings)
    return [*map(registry.text_of, now.values())] != [*map(registry.text_of, without.values())]


def _check_literal(title: str, rule: mechanisms.Rule, game: games.Game) -> None:
    if rule.announces is not None and not issubclass(rule.announces, refunds.Refunds):
        raise ValueError(f"--mode=literal is printed for refunds of costs only, not for {title}")
    if rules.linear_rates(game) is None:
        raise ValueError("--cost: --mode=literal divides by costs: they must be linear and above 0")


def cost_of(settings: Settings) -> costs.Cost:
    """The cost of settled settings.

    Raises:
      ValueError: a text names no cost, or not one of so many agents.
    """
    if not isinstance(settings.cost, str):
        return costs.LinearCost(np.asarray(settings.cost))
    with all_settings.of_flag("cost"):
        cost, capacity = registry.read("cost", settings.cost), np.asarray(settings.capacity, float)
        return games.check(games.Game(payoffs.PowerLaw(1.0, 1.0, 1.0), cost, capacity)).cost


class Trial(NamedTuple):
    """One protocol at one seed, after one step of its game."""

    title: str  # of the protocol
    mechanism: mechanisms.Mechanism  # under which costs are settled
    seed: int
    step: int  # of the game; 0 where contributions are not the outcome of dynamics
    last: bool  # whether it is the last step
    profile: np.ndarray  # [n] as agents meant it in the last round, not rounded
    path: np.ndarray  # [t, n] profiles over the steps of the game
    training: dict[str, Any]  # of `train`
    ending: str = ""  # how the path ends, where there is something to tell


def fit_game(task: Task, sizes: np.ndarray, accuracy: np.ndarray) -> tuple[games.Game, curves.Fit]:
    """The game on the fitted ã."""
    fit = curves.fit(task.settings.fit, sizes, accuracy)
    capacity = jnp.asarray(task.settings.capacity)
    return games.check(games.Game(fit.payoff, cost_of(task.settings), capacity)), fit


def describe_game(
    task: Task,
    work: Workdir,
    game: games.Game,
    fit: curves.Fit,
    protocols: list[Contender],
    accuracy: np.ndarray,
) -> dict[str, Any]:
    """How well ã fits, and certified equilibria; writes `game.json` and `fitted_curve.csv`."""
    spread = float(np.mean(np.std(accuracy, axis=0, ddof=1))) if len(accuracy) > 1 else None
    summary = {
        "fit": task.settings.fit,
        "rmse": fit.rmse,
        "largest_residual": fit.largest,
        "deviation_between_seeds": spread,
        "equilibria": _equilibria(game, protocols),
        "parameters": fit.parameters,
    }
    work.write_json("game.json", summary)
    totals = np.linspace(0, max(task.settings.sizes or (sum(task.settings.capacity),)), 401)
    fitted = jax.vmap(fit.payoff.curve)(totals)
    work.write_csv("fitted_curve.csv", rows.curve("", totals, fitted))
    return summary


def _equilibria(game: games.Game, protocols: list[Contender]) -> dict[str, dict[str, Any] | None]:
    """By title, the certified equilibrium that each protocol aims at; None if it aims at none."""
    found: dict[str, dict[str, Any] | None] = {}
    solved: list[outcomes.Outcome] = []  # protocols may aim at the same
    for title, protocol, announced in protocols:
        if not protocol.aims:
            found[title] = None
            continue
        mechanism = announced.mechanism
        outcome = outcomes.known_or_new(game, mechanism, solved, announced.equilibrium)
        solved.append(outcome)
        there = outcome.equilibrium
        found[title] = {
            "announced": {k: np.asarray(x).tolist() for k, x in mechanism.announced(game.n).items()},
            "told": rows.told(mechanism, game.n),
            "contributed": float(jnp.sum(there.profile)),
            "total": float(games.total(game, there.profile)),
            "unique": bool(there.unique),
            "nash_gap": float(jnp.max(there.nash_gap)),
            "converged": bool(there.converged),
            "certified_from_payments": outcome.general,
        }
    return found


def train(
    task: Task,
    protocol: base.Protocol,
    plan: base.Plan,
    seed: int,
    snapshots: trainers.Snapshots = trainers.FORGET,
) -> dict[str, Any]:
    """One training run as plain numbers. All protocols share data, model and start at one seed.

    `drawn` has a row for every round, or one if all rounds are alike.
    """
    settings, begin = task.settings, time.perf_counter()
    keys = jax.random.split(task.key_of("run", seed), 5)
    agents = partitions.partition(task.agents.train, np.asarray(settings.capacity), keys[0])
    test = partitions.partition(task.agents.test, np.full(settings.agents, settings.test_images), keys[1])
    params = jax.device_get(models.initial_parameters(task.model, keys[2], agents.images.shape[2:]))
    placed = federated.place(agents, task.mesh)
    trainer = trainers.Trainer(task.model, task.local_training, placed, keys[3], task.mesh, test)
    outcome = base.run(protocol, plan, trainer, params, settings.rounds, snapshots)
    alike = np.all(outcome.drawn == outcome.drawn[0])
    return {
        "charged": outcome.charged.tolist(),
        "profile": outcome.plan.profile.tolist(),
        "drawn": outcome.drawn[: 1 if alike else None].tolist(),
        "accuracy": trainer.accuracy(outcome.params).tolist(),
        "held_out_accuracy": float(evaluation.accuracy(task.model, outcome.params, task.server.test)),
        "seconds": round(time.perf_counter() - begin, 3),
    }


def evaluated(path: np.ndarray, every: int) -> list[int]:
    """The steps of the game after which a model is trained: every so many, and the last; [0] without any."""
    last = len(path) - 1
    return [*range(every, last, every), last]


def play_and_train(
    task: Task,
    work: Workdir,
    workers: int,
    game: games.Game,
    protocols: list[Contender],
    cache: pathlib.Path | None = None,
) -> list[Trial]:
    """Plays the game from a random start for every seed, then trains on what agents contribute."""
    settings, todo, planned = task.settings, {}, []
    shared = _shared(task) if cache else {}
    with jobs.progress("best-response dynamics", len(protocols) * settings.seeds) as bar:
        for contender in protocols:
            protocol = contender.protocol
            rule = base.identity(protocol)
            mine = uuid.uuid4().hex if rule is None else rule  # nobody else's, in this run and the next
            for seed in range(settings.seeds):
                key = task.key_of("run", seed)
                plan = protocol.start(game, contender.announced, jax.random.split(key, 5)[4])
                for step in evaluated(plan.path, settings.evaluate_every):
                    at = plan._replace(profile=plan.path[step], path=plan.path[step][None])
                    what = {"drawn": base.draw(at.profile).tolist(), "rule": mine}
                    if rule != {}:  # it may go on from the profile as it was meant, and what it remembers
                        what |= {"profile": at.profile.tolist(), "memory": _digest(at.memory)}
                    name = f"runs/{seed}-{_short(what, protocol)}"
                    if name not in todo:
                        compute = functools.partial(train, task, protocol, at, seed, work.snapshots(name))
                        what |= shared | {"key": jax.random.key_data(key).tolist()}
                        folder = None if rule is None else cache
                        cached = functools.partial(workdir.cached, folder, what, compute)
                        todo[name] = (sum(what["drawn"]), cached)
                    planned.append((contender, seed, step, plan, rule == {}, name))
                bar.update()
    done = jobs.run("training", todo, work, workers)
    return [_trial(*about, done[name]) for *about, name in planned]


def _trial(
    contender: Contender, seed: int, step: int, plan: base.Plan, fixed: bool, result: dict[str, Any]
) -> Trial:
    """A fixed plan may share its training with another one of the same whole samples, but is itself."""
    profile = plan.path[step] if fixed else np.asarray(result["profile"])
    last = step == len(plan.path) - 1
    mechanism, ending = contender.announced.mechanism, contender.protocol.ending(plan)
    return Trial(contender.title, mechanism, seed, step, last, profile, plan.path, result, ending)


def _shared(task: Task) -> dict[str, Any]:
    """All that determines a training run beside its samples, its rule and its seed."""
    found = tasks.fingerprint(task, [base.__name__], task.agents, task.server)
    return found | {"capacity": task.settings.capacity, "test_images": task.settings.test_images}


def _digest(memory: Any) -> str:
    """Equal for equal arrays in equal places only."""
    leaves, structure = jax.tree.flatten(memory)
    found = hashlib.sha256(str(structure).encode())
    for leaf in map(np.asarray, leaves):
        found.update(str((leaf.shape, leaf.dtype)).encode() + leaf.tobytes())
    return found.hexdigest()


def _short(what: dict[str, Any], protocol: base.Protocol) -> str:
    """A name for a training run that is the same for the same contributions and rule of training."""
    digest = hashlib.sha256(workdir.to_json(what).encode()).hexdigest()[:8]
    rule = type(protocol).__name__ if what["rule"] else "average"
    return f"{rule}-{sum(what['drawn'])}-{digest}"


def compute(task: Task, work: Workdir, resources: Resources = Resources()) -> None:
    """The whole comparison; leaves its tables.

    Args:
      task: from `prepare`.
      work: from `workdir.open_workdir`.
      resources: its cache has measured accuracies and trained runs that other comparisons may share.
    """
    settings, workers = task.settings, task.workers(resources.workers)
    sizes, accuracy = curve.measure(task, work, resources)
    game, fit = fit_game(task, sizes, accuracy)
    protocols = contenders.make(settings, game, sizes, accuracy)
    describe_game(task, work, game, fit, protocols, accuracy)
    trials = play_and_train(task, work, workers, game, protocols, resources.cache)
    table1.write(work, game, trials, settings.p)


def show(work: Workdir) -> str:
    """Draws `curve.png`, `contributions.png` and `welfare.png`; returns every table as text."""
    dataset = work.read_json("config.json")["settings"]["dataset"]
    with jobs.progress("tables and figures", 2) as bar:
        report = _text(work, dataset)
        bar.update()
        figures.draw(work, "curve", figures.comparison_curve, (7, 4))
        figures.draw(work, "contributions", figures.comparison_contributions, (9, 4))
        figures.draw(work, "welfare", figures.comparison_welfare, (9, 4.5))
        bar.update()
    return report


def _text(work: Workdir, dataset: str) -> str:
    """What the comparison says, the paper's numbers beside ours."""
    per_trial, table = work.read_csv("runs.csv"), work.read_csv("table1.csv")
    blocks = [text.game(work.read_json("game.json")), text.trials(per_trial)]
    literal = [f"{row['protocol']}, seed {row['seed']}: {row['ends']}" for row in per_trial if row["ends"]]
    if literal:
        blocks.append("rounded contributions, step by step:\n" + "\n".join(literal))
    if degraded := list(dict.fromkeys(row["protocol"] for row in per_trial if row["withheld"])):
        blocks.append(f"{_WITHHELD}: {', '.join(degraded)}")
    blocks.append(text.table1(table, paper.printed(dataset, table)))
    if work.has("differences.csv"):
        blocks.append(text.differences(work.read_csv("differences.csv")))
    blocks += paper.remarks(dataset, table)
    return "\n\n".join([*blocks, text.seconds(work.read_csv("seconds.csv"))])


def headline(work: Workdir) -> list[dict[str, Any]]:
    """Normalised p-means by own test images, with the mean utility and the samples of each protocol."""
    by_protocol = {
        name: tables.means(mine) for name, mine in tables.by(work.read_csv("runs.csv"), "protocol").items()
    }
    return [
        {name: row[name] for name in ("protocol", "p", "welfare", "standard_error")}
        | {name: by_protocol[row["protocol"]](name) for name in ("mean_utility", "charged")}
        for row in work.read_csv("table1.csv")
        if (row["utilities"], row["scale"]) == ("own", "mean")
    ]


def show_sweep(work: Workdir) -> str:
    """A table by variant and protocol, and welfare over a setting that is a number."""
    figures.show_sweep(work, figures.comparisons)
    return text.sweep(work, text.comparisons)


EXPERIMENT = Experiment(
    program="launch.compare",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/{pathlib.Path(settings.dataset).stem}",
    headline=headline,
    collected=("welfare.csv", "runs.csv"),
    show_sweep=show_sweep,
    resources=("data_dir", "workers", "cache"),
)
