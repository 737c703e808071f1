"""One federated training run on real images, by itself: `launch.train`."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame.experiments import task as tasks
from fedgame.experiments import trained
from fedgame.experiments.task import Task
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers
from fedgame.registry import option
from fedgame.report import figures, page, text
from fedgame.runs import jobs, scalars
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Experiment, Resources
from fedgame.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Settings(tasks.TrainingSettings):
    """Settings of `launch.train`, one training run."""

    contributions: tuple[int, ...] | None = option(
        "s, images that each agent trains on, one number or one per agent; all if not given",
        None,
        low=0,
        kind=int,
    )
    partition: str = option(
        "who holds which images: i.i.d., Dirichlet label skew, shards", "iid", choices=partitions.KINDS
    )
    alpha: float = option("of the Dirichlet partition; the smaller, the more skewed", 0.5, above=0)
    shards: int = option("of every agent, in the partition by shards", 2, low=1)
    held_out: int | None = option("test images; 1,000 or what there is", None, low=1, kind=int)
    evaluate_every: int = option("rounds between evaluations; the last round always is one", 1, low=1)


def settle(settings: Settings, available: tuple[int, int] | None) -> tuple[Settings, tasks.Needed]:
    """The settings with every default filled in, and the images they need; see `task.Settle`."""
    n, capacity = settings.agents, tasks.capacity(settings)
    contributions = settings.contributions or capacity
    all_settings.one_for_each("contributions", contributions, n)
    contributions = tasks.for_each(contributions, n)
    for i, (s, tau) in enumerate(zip(contributions, capacity, strict=True)):
        if s > tau:
            raise ValueError(f"--contributions: agent {i} has {tau} images (--capacity), not {s}")
    settings = dataclasses.replace(settings, capacity=capacity, contributions=contributions)
    if available is None:
        return settings, tasks.NOTHING
    needed, held_out = sum(capacity), settings.held_out or min(1000, available[1])
    if needed > available[0] or held_out > available[1]:
        raise ValueError(
            f"--capacity, --held_out: {needed} training and {held_out} test images are asked for; "
            f"{settings.dataset} has {available[0]} and {available[1]}"
        )
    settled = dataclasses.replace(settings, held_out=held_out)
    return settled, tasks.Needed(agents=(needed, 0), server=(0, held_out))


def check(settings: Settings, resources: Resources = Resources()) -> None:
    """As `task.check`; also refuses --tensorboard without the package that it needs."""
    if resources.tensorboard:
        scalars.check()
    tasks.check(settle, settings, resources)


def prepare(settings: Settings, resources: Resources = Resources()) -> Task:
    """The images or the members' records, the network and its training; raises as `check`."""
    if resources.tensorboard:
        scalars.check()
    return tasks.prepare(settle, settings, resources)


class _State(NamedTuple):
    """What a run carries from round to round."""

    params: Any
    accuracy: np.ndarray  # [evaluations so far, owners of held-out images]
    rounds: np.ndarray  # [evaluations so far] the rounds after which they were made


def compute(task: Task, work: Workdir, resources: Resources = Resources()) -> None:
    """Deals the images, trains, and writes `holdings.csv`, `rounds.csv` and the model, for `trained.load`.

    If the model learns nothing, also `training_remarks.json`. Of members with data of their own also
    `rounds_by_member.csv`: everybody's metric on what she holds out. All processes of a run call it; only
    the first writes.
    """
    settings, first = task.settings, jax.process_index() == 0
    deal_key, init_key, train_key = jax.random.split(task.key, 3)
    if task.own is None:
        capacity = np.asarray(settings.capacity)
        dealt = partitions.partition(
            task.agents.train, capacity, deal_key, settings.partition, settings.alpha, settings.shards
        )
        test = federated.Images(*(array[None] for array in task.server.test))
    else:
        dealt, test, *_ = task.split(0)
    if first:
        work.write_csv("holdings.csv", _holdings(task, dealt))
        tasks.write_remarks(task, work)
    params = jax.device_get(models.initial_parameters(task.model, init_key, dealt.images.shape[2:]))
    events = work.path / scalars.FOLDER if resources.tensorboard and first else None
    with scalars.opened(events) as add:

        def tell(state: _State) -> None:
            add(state.rounds, _tags(task, state))

        state = _train(task, work, federated.place(dealt, task.mesh), test, params, train_key, tell)
    evaluations = [
        {"round": int(r), "accuracy": float(evaluation.mean_of(settings.metric, a))}
        for r, a in zip(state.rounds, state.accuracy, strict=True)
    ]
    if first:
        work.write_csv("rounds.csv", evaluations)
        if any(settings.contributions):
            last, labels = evaluations[-1], np.asarray(test.labels)
            what = f"on {sum(settings.contributions)} samples"
            tasks.write_if_nothing_is_learnt(task, work, what, last["accuracy"], labels)
        if task.own is not None:
            work.write_csv("rounds_by_member.csv", _by_member(task.own.federation.names, state))
        trained.save(work, "", task, state.params)


def _holdings(task: Task, dealt: federated.Images) -> list[dict[str, Any]]:
    """One row per agent: how many samples she holds and contributes, and how many she holds of each class."""
    settings, rows = task.settings, []
    held = partitions.holdings(dealt.labels, np.asarray(settings.capacity), len(task.classes))
    for i in range(settings.agents):
        row = {
            "agent": i if task.own is None else task.own.federation.names[i],
            "holds": settings.capacity[i],
            "contributes": settings.contributions[i],
        }
        of_class = zip(_columns(task.classes), held[i], strict=True)
        rows.append(row | {name: int(count) for name, count in of_class})
    return rows


def _tags(task: Task, state: _State) -> dict[str, np.ndarray]:
    """What TensorBoard shows, over the evaluations so far: the metric, and each member's by her name."""
    metric = task.settings.metric
    found = {metric: evaluation.mean_of(metric, state.accuracy)}
    if task.own is not None:
        for i, name in enumerate(task.own.federation.names):
            allowed = re.sub(r"[^-/.\w]", "_", name)  # in tags; the number keeps names apart
            found[f"{metric}_of/{i}_{allowed}"] = state.accuracy[:, i]
    return found


def _by_member(names: tuple[str, ...], state: _State) -> list[dict[str, Any]]:
    """One row per evaluation and member."""
    return [
        {"round": int(number), "member": name, "accuracy": float(accuracy)}
        for number, row in zip(state.rounds, state.accuracy, strict=True)
        for name, accuracy in zip(names, row, strict=True)
    ]


def show(work: Workdir) -> str:
    """Draws what agents hold and the accuracy over rounds; returns the text."""
    figures.draw(work, "holdings", figures.holdings, (7, 4))
    figures.draw(work, "rounds", figures.rounds, (7, 4))
    return page.write(work, text.training(work))


def headline(work: Workdir) -> list[dict[str, Any]]:
    """The last accuracy and the best."""
    accuracies = [row["accuracy"] for row in work.read_csv("rounds.csv")]
    return [{"last_accuracy": accuracies[-1], "best_accuracy": max(accuracies)}]


def _columns(classes: tuple[str, ...]) -> list[str]:
    """Names of columns for classes; all get a number if one is there twice, or is another column's.

    All: a class may be called like another one with its number.
    """
    if len({*classes, "agent", "holds", "contributes"}) == len(classes) + 3:
        return list(classes)
    return [f"{name} (class {k})" for k, name in enumerate(classes)]


def _train(
    task: Task,
    work: Workdir,
    agents: federated.Images,
    test: federated.Images,
    params: Any,
    key: jax.Array,
    tell: Callable[[_State], None] = lambda state: None,
) -> _State:
    """Trains for all rounds, and evaluates after every few of them and the last.

    `test` are records [owners, m, ...]; `tell` is given the state after every evaluation, and at the end.
    """
    settings = task.settings
    drawn = np.asarray(settings.contributions, np.int32)
    trainer = trainers.Trainer(task.model, task.local_training, agents, key, task.mesh, test, settings.metric)

    def step(state: _State, number: int) -> _State:
        params = trainer.average(state.params, drawn, number)
        due = number % settings.evaluate_every == 0 or number == settings.rounds
        if not due:
            return state._replace(params=params)
        now = np.asarray(trainer.accuracy(params), float)
        accuracy = np.concatenate([state.accuracy, now[None]])
        state = _State(params, accuracy, np.append(state.rounds, number))
        tell(state)
        return state

    start = _State(params, np.asarray(trainer.accuracy(params), float)[None], np.zeros(1, int))
    saved = work.snapshots("training", last=settings.rounds)
    progress = functools.partial(jobs.progress_over, "training")
    rounds = settings.rounds if drawn.any() else 0  # without any samples there is nothing to train on
    state = trainers.run(step, start, rounds, saved, progress)
    tell(state)  # of a run that had finished, or without rounds, nothing is told yet
    return state._replace(params=federated.local_copy(state.params))


EXPERIMENT = Experiment(
    program="launch.train",
    settings=Settings,
    check=check,
    prepare=prepare,
    compute=compute,
    show=show,
    results=lambda settings: f"results/train_{tasks.data_name(settings)}",
    headline=headline,
    collected=("rounds.csv",),
    resources=("data_dir", "tensorboard"),
    processes=True,
)
