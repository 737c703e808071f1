"""A federation that runs for real: members train on their own data, and payments are settled."""

import dataclasses
import functools
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np

from fedgame import registry
from fedgame.experiments import task as tasks
from fedgame.experiments import trained
from fedgame.experiments.task import Task
from fedgame.federation import carriers, conduct, member, messages, server, statements
from fedgame.federation import ledger as ledgers
from fedgame.federation.ledger import Ledger
from fedgame.games import game as games
from fedgame.games import scenarios
from fedgame.learning import federated, local, models, partitions
from fedgame.protocols import base
from fedgame.registry import option
from fedgame.report import figures, money, page, text
from fedgame.runs import experiment, jobs, snapshots, workdir
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir

_UNIT = 1e-6  # the smallest amount that can be paid, if no currency is named


@dataclasses.dataclass(frozen=True)
class Settings(tasks.TrainingSettings):
    """Settings of `launch.federation`."""

    agents: int = option(
        "n, members among whom images are dealt; with --federation or --scenario those that it has", 4, low=2
    )
    capacity: tuple[int, ...] | None = option(
        "τ, the maximum that a member contributes, one number or one each; 100; --federation: all that can "
        "be trained on",
        None,
        low=1,
        kind=int,
    )
    scenario: str | None = option(
        "JSON file that launch.equilibrium or launch.mechanism wrote: names, costs, values, capacities and "
        "the payoff, instead of --payoff, --cost, --value and --capacity",
        None,
        kind=pathlib.Path,
    )
    like: str | None = option(
        "with --server: directory of a model that launch.train has left, which says network, columns and "
        "classes; no data are read",
        None,
        kind=pathlib.Path,
    )
    payoff: str = option(
        "what accuracy is expected of data, which the server announces; the default fits the digits "
        "(examples/curve.csv)",
        "power(best=0.993, scale=29.8, exponent=1.19, shift=18.5)",
        of="payoff",
        kind=str,
    )
    cost: str = option(
        "what sharing costs members, declared by each when she enrols",
        "power(rate=[0.0002, 0.0004, 0.0006, 0.0008], exponent=1.5)",
        of="cost",
        kind=str,
    )
    value: tuple[float, ...] = option(
        "what accuracy 1 is worth to a member, in the currency of costs", (1.0,), low=0, kind=float
    )
    protocol: str = option(
        "who contributes what, under which payments: fedbr under any rule, fedavg or first_best",
        "fedbr(falkinger)",
        of="protocol",
        kind=str,
    )
    rounds: int | None = option("T, rounds of training; 50, of linear and mlp 100", None, low=1, kind=int)
    test_images: int = option("images that each member holds out, if images are dealt", 50, low=0)
    absent: str = option(
        "what a round does without a member who does not answer: it goes on, and she is paid nothing for it, "
        "or waits for her",
        conduct.GO_ON,
        choices=(conduct.GO_ON, conduct.WAIT),
    )
    currency: str = option("of costs and payments, such as EUR", "", kind=str)
    unit: float | None = option(
        "the smallest amount that can be paid; not given: that of --currency, or 0.000001",
        None,
        above=0,
        kind=float,
    )
    clip: float | None = option(
        "the largest norm of an update that leaves a member; not given: any", None, above=0, kind=float
    )
    noise: float = option(
        "standard deviation of Gaussian noise that members add to every number of their updates, as a "
        "multiple of --clip",
        0.0,
        low=0,
    )


@dataclasses.dataclass(frozen=True)
class Prepared(experiment.Prepared):
    """A federation before it begins, and what each simulated member has."""

    settings: Settings
    federation: conduct.Federation
    members: tuple[member.Private, ...]  # none if they are on machines of their own
    task: Task | None  # None: no data are here

    @property
    def digests(self) -> dict[str, str]:
        """Of the data."""
        return {} if self.task is None else self.task.digests


def settle(settings: Settings, available: tuple[int, int] | None) -> tuple[Settings, tasks.Needed]:
    """The settings with every default filled in, and the images they need; see `task.Settle`."""
    used = money.currency(settings.currency)
    unit = settings.unit or (used.smallest if used.code else _UNIT)
    capacity = settings.capacity or (100,)
    all_settings.one_for_each("capacity", capacity, settings.agents)
    capacity = tasks.for_each(capacity, settings.agents)
    settings = dataclasses.replace(settings, unit=unit, capacity=capacity)
    if available is None:
        return settings, tasks.NOTHING
    needed = sum(capacity), settings.agents * settings.test_images
    if needed[0] > available[0] or needed[1] > available[1]:
        raise ValueError(
            f"--capacity, --test_images: {needed[0]} training and {needed[1]} test images are asked for; "
            f"{settings.dataset} has {available[0]} and {available[1]}"
        )
    return settings, tasks.Needed(needed, (0, 0))


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """Raises as `prepare`."""
    prepare(settings, resources)


def prepare(settings: Settings, resources: Resources = Resources()) -> Prepared:
    """The game, the network, and the data of each member.

    Raises:
      ValueError: a setting is out of range or has no use, names of members differ, a member would contribute
        more than she has, or the protocol or the payoff cannot be played over a network.
    """
    carriers.check(resources)
    if bool(settings.like) != bool(resources.server) or (settings.like and not settings.scenario):
        raise ValueError("--server needs --like and --scenario, and --like is for --server")
    settings, scenario = _with_scenario(settings)
    protocol = _protocol(settings)
    if settings.like:
        settings, training = _as_agreed(settings)
        return Prepared(settings, _federation(settings, scenario, protocol, training), (), None)
    task = tasks.prepare(settle, settings, resources)
    settings, scenario = task.settings, scenario or _scenario(task)
    members = _members(task, scenario)
    training = server.Training(
        model=task.model,
        options=task.local_training,
        features=members[0].train.images.shape[1:],
        classes=task.classes,
        metric=settings.metric,
        seed=settings.seed,
    )
    return Prepared(settings, _federation(settings, scenario, protocol, training), members, task)


def _as_agreed(settings: Settings) -> tuple[Settings, server.Training]:
    """The settings, and how members train, with the network, columns and classes of the model --like."""
    with all_settings.of_flag("like"):
        model = trained.load(settings.like)
    if settings.model or settings.federation:
        raise ValueError(f"--{'model' if settings.model else 'federation'} has no use with --like")
    name = next(name for name, preset in models.PRESETS.items() if type(preset) is type(model.model))
    tasks.check_fields(settings)
    filled = tasks.filled(dataclasses.replace(settings, model=name), tables=model.preparation is not None)
    filled, _ = settle(filled, None)
    options = local.LocalTraining(**{field: getattr(filled, field) for field in local.LocalTraining._fields})
    training = server.Training(
        model=model.model,
        options=options,
        features=model.shape,
        classes=model.classes,
        metric=filled.metric,
        seed=filled.seed,
        agreed=trained.digest(model),
    )
    return filled, training


def _federation(
    settings: Settings, scenario: scenarios.Scenario, protocol: base.Protocol, training: server.Training
) -> conduct.Federation:
    """The federation before anybody has enrolled."""
    game = scenario.game
    with all_settings.of_flag("protocol"):
        server.check(protocol, game.payoff)
        protocol.rule.requires(game)
    return conduct.Federation(
        names=tuple(scenario.names),
        payoff=game.payoff,
        quality=np.broadcast_to(np.asarray(game.quality), (game.n,)),
        held=float(game.held),
        protocol=protocol,
        training=training,
        rounds=settings.rounds,
        unit=settings.unit,
        currency=settings.currency,
        absent=settings.absent,
    )


def _protocol(settings: Settings) -> base.Protocol:
    with all_settings.of_flag("protocol"):
        return registry.read("protocol", settings.protocol)


def _with_scenario(settings: Settings) -> tuple[Settings, scenarios.Scenario | None]:
    """The settings with as many members, and the capacities, that --scenario has; and the scenario."""
    if not settings.scenario:
        return settings, None
    defaults = Settings()
    for name in ("payoff", "cost", "value", "capacity"):
        if getattr(settings, name) != getattr(defaults, name):
            raise ValueError(f"--{name} has no use with --scenario={settings.scenario}, which says it")
    scenario = scenarios.load(settings.scenario)
    n, capacity = scenario.game.n, np.ceil(np.asarray(scenario.game.capacity)).astype(int)
    if np.any(capacity < 1):
        raise ValueError(f"--scenario={settings.scenario}: every member must be able to share a sample")
    if settings.agents not in (n, defaults.agents):
        raise ValueError(f"--agents={settings.agents}: --scenario={settings.scenario} has {n}")
    if settings.federation:  # members have what they have, in the order of their files
        return dataclasses.replace(settings, agents=n), scenario
    return dataclasses.replace(settings, agents=n, capacity=tuple(capacity.tolist())), scenario


def _scenario(task: Task) -> scenarios.Scenario:
    """The game that the flags describe."""
    settings = task.settings
    n = settings.agents
    names = [str(i + 1) for i in range(n)] if task.own is None else list(task.own.federation.names)
    all_settings.one_for_each("value", settings.value, n)
    with all_settings.of_flag("payoff"):
        payoff = registry.read("payoff", settings.payoff)
    with all_settings.of_flag("cost"):
        cost = registry.read("cost", settings.cost)
        capacity = np.asarray(settings.capacity, float)
        value = np.asarray(tasks.for_each(settings.value, n))
        game = games.check(games.Game(payoff, cost, capacity, value))
    return scenarios.Scenario(game, names)


def _members(task: Task, scenario: scenarios.Scenario) -> tuple[member.Private, ...]:
    """What each member has, in the order of the scenario's names."""
    game, settings = scenario.game, task.settings
    train, test, sizes, order = _records(task, scenario)
    found = []
    for i, row in enumerate(order):
        hers = federated.Images(*(np.asarray(x)[row, : sizes[row]] for x in train))
        held_out = np.asarray(test.labels)[row] >= 0
        found.append(
            member.check(
                member.Private(
                    cost=registry.of_agents(game.cost, i),
                    value=float(np.broadcast_to(np.asarray(game.value), (game.n,))[i]),
                    limit=float(game.capacity[i]),
                    train=hers,
                    test=federated.Images(*(np.asarray(x)[row][held_out] for x in test)),
                    clip=settings.clip or np.inf,
                    noise=settings.noise,
                    name=scenario.names[i],
                    secret=int(np.random.SeedSequence([settings.seed, i]).generate_state(1)[0]),
                )
            )
        )
    return tuple(found)


def _records(
    task: Task, scenario: scenarios.Scenario
) -> tuple[federated.Images, federated.Images, np.ndarray, list[int]]:
    """Training and held-out records by member, how many she has, and which row is whose in the scenario."""
    if task.own is None:
        sizes = np.asarray(task.settings.capacity)
        deal, _ = jax.random.split(task.key)
        train = partitions.partition(task.agents.train, sizes, deal)
        test = federated.Images(
            *(x.reshape(len(sizes), -1, *x.shape[1:]) for x in map(np.asarray, task.agents.test))
        )
        return train, test, sizes, list(range(len(sizes)))
    owners = list(task.own.federation.names)
    for name in sorted({*owners} ^ {*scenario.names}):
        has = "no data in --federation" if name in scenario.names else "no part in --scenario"
        raise ValueError(f"{name} has {has}: there are {', '.join(owners)} and {', '.join(scenario.names)}")
    split = task.split(0)
    return split.train, split.test, split.sizes, [owners.index(name) for name in scenario.names]


def compute(prepared: Prepared, work: Workdir, resources: Resources = Resources()) -> None:
    """Runs the federation to its end, or goes on with it; writes its tables and the model.

    Raises:
      ValueError: nobody answers any more, or the federation waits for a member in vain; what was settled is
        kept, and --resume goes on.
    """
    folder = _folder(work, prepared.federation)
    for i, private in enumerate(prepared.members):
        member.save(folder / "members" / f"site-{i + 1}.json", private)
    ledger = Ledger(folder / ledgers.FILE, create=True)
    watch = _progress(work, folder, prepared.federation.rounds)
    carriers.carry(prepared.federation, folder, resources, watch)
    write(prepared.federation, ledger, work)
    params = messages.from_arrays(ledger.model())
    if prepared.task is None:
        trained.save_like(work, prepared.settings.like, params)
    else:
        tasks.write_remarks(prepared.task, work)
        trained.save(work, "", prepared.task, params)


def _folder(work: Workdir, federation: conduct.Federation) -> pathlib.Path:
    """Where the ledger is.

    Raises:
      ValueError: the ledger of another federation is there; it is not deleted.
    """
    folder = work.path / workdir.LEDGER
    plan = folder / carriers.PLAN
    if plan.exists():
        told = json.loads(plan.read_text(encoding="utf-8"))["federation"]
        if told != json.loads(json.dumps(federation.to_dict())):
            raise ValueError(
                f"{folder} has the ledger of another federation, which is not deleted: move it away, or name "
                "another --workdir"
            )
    return folder


def _progress(work: Workdir, folder: pathlib.Path, rounds: int) -> carriers.Watch:
    """Shows the rounds that are settled, and what the server says; stops at a signal."""
    log = folder / carriers.LOG
    bar, told = jobs.progress("rounds settled", rounds), [log.stat().st_size if log.exists() else 0]

    def watch(ledger: Ledger) -> None:
        if work.stop.is_set():
            raise snapshots.Interrupted
        if log.exists():
            with log.open(encoding="utf-8") as opened:
                opened.seek(told[0])
                if said := opened.read().strip():
                    bar.write(said, sys.stderr)
                told[0] = opened.tell()
        bar.update(ledger.settled - bar.n)

    return watch


def write(federation: conduct.Federation, ledger: Ledger, work: Workdir) -> None:
    """Writes what the ledger says as tables, a summary, and a statement for every member."""
    entries, agreement = ledger.entries(), ledgers.agreement_of(ledger)
    work.write_csv("ledger.csv", statements.entry_rows(entries, agreement.unit))
    work.write_csv("settled.csv", statements.member_rows(entries, agreement))
    work.write_csv("rounds.csv", statements.accuracy_rows(entries))
    used = money.currency(federation.currency)
    for name in agreement.names:
        told = "\n".join(statements.statement(name, entries, agreement, used)) + "\n"
        work.put(
            f"statements/{statements.file_of(name)}", functools.partial(pathlib.Path.write_text, data=told)
        )
    summary = {
        "protocol": registry.text_of(federation.protocol),
        "rule": registry.text_of(agreement.rule),
        "rounds": agreement.rounds,
        "settled": ledger.settled,
        "unit": agreement.unit,
        "currency": federation.currency,
        "metric": federation.training.metric,
        "entries": len(entries),
        "head": ledger.head,
        "left_out": statements.left_out(entries),
        "complaints": ledgers.complaints(ledger),
    }
    work.write_json("federation.json", summary)


def show(work: Workdir) -> str:
    """Draws the accuracy over rounds; returns who gave and received what, and whether the ledger holds."""
    if work.has("rounds.csv") and work.read_csv("rounds.csv"):
        figures.draw(work, "rounds", figures.rounds, (7, 4))
    return page.write(work, text.federation(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """One row per member."""
    return work.read_csv("settled.csv", text=("name",))


EXPERIMENT = Experiment(
    program="launch.federation",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/federation_{tasks.data_name(settings)}",
    headline=headline,
    collected=("settled.csv", "rounds.csv"),
    resources=("data_dir", "simulate", "poc", "server", "patience"),
)
