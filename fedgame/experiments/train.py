"""One federated training run on real images, by itself: `launch.train`."""

import collections
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame import registry
from fedgame.experiments import checkpoints, checks, jobs, plots, storage, tables
from fedgame.experiments import settings as all_settings
from fedgame.learning import data, evaluation, federated, layers, local, models, partitions
from fedgame.learning import trainer as trainers


class Task(NamedTuple):
    """What all training runs of one experiment share."""

    settings: Any  # settled
    model: models.CNN | models.VGG11
    local_training: local.LocalTraining
    agents: data.Data  # the agents' training and test images, undealt
    server: data.Data  # the server's training and held-out images
    classes: tuple[str, ...]
    mesh: jax.sharding.Mesh | None  # devices that share the agents
    key: jax.Array

    def key_of(self, purpose: str, number: int) -> jax.Array:
        """A key of its own for the curve's and the protocols' repetition `number`."""
        return jax.random.fold_in(self.key, 2 * number + ("curve", "run").index(purpose))

    def workers(self, asked: int | None) -> int:
        """Training runs at a time: as asked, else one per processor on a CPU; one if it has all devices."""
        if self.mesh is not None:
            return 1  # two would wait for each other's devices
        return asked or (os.cpu_count() or 1 if layers.on_cpu(self.settings.lowering) else 1)


def prepare(settings: all_settings.TrainingSettings, data_dir: str | None = None) -> Task:
    """Settles the settings and loads the images it needs.

    Raises:
      ValueError: a setting out of range, more images asked for than there are, or images that do not fit
        the model.
      FileNotFoundError: the data set is not there.
    """
    checks.check(settings)
    settings = checks.settle(settings, data.sizes(settings.dataset, data_dir))
    (train, test), (server_train, held_out) = checks.images(settings)
    drawn = data.load(settings.dataset, train + server_train, test + held_out, settings.seed, data_dir)
    classes = data.classes(settings.dataset, data_dir)
    model, local_training = checks.network(settings, drawn.train.images.shape[1:], len(classes))
    parts = [
        data.Data(
            *(
                federated.Images(part.images[span], part.labels[span])
                for part, span in zip(drawn, spans, strict=True)
            )
        )
        for spans in ((slice(train), slice(test)), (slice(train, None), slice(test, None)))
    ]
    mesh, key = federated.agents_mesh(), jax.random.key(settings.seed)
    return Task(settings, model, local_training, *parts, classes, mesh, key)


def digest(*parts: data.Data) -> str:
    """Equal for equal images and labels only."""
    found = hashlib.sha256()
    for array in (array for part in parts for owned in part for array in owned):
        found.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fingerprint(task: Task, rules: Iterable[str], *images: data.Data) -> dict[str, Any]:
    """What determines trained models, beside their samples and randomness: images, code, settings, machine.

    Args:
      task: of the experiment.
      rules: names of modules that take part in training, beside those of `fedgame.learning`.
      *images: all that is trained or tested on.
    """
    files = sorted(pathlib.Path(data.__file__).parent.glob("*.py"))
    files += [pathlib.Path(sys.modules[name].__file__ or "") for name in sorted(set(rules))]
    code = hashlib.sha256()
    for file in files:
        code.update(file.read_bytes())
    return {
        "images": digest(*images),
        "code": code.hexdigest(),
        "use": sorted(registry.used().values()),
        "model": repr(task.model),
        "training": task.local_training._asdict(),
        "agents": task.settings.agents,
        "rounds": task.settings.rounds,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")},
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processors": [os.cpu_count(), np.show_config(mode="dicts")["SIMD Extensions"]],
        "flags": [os.environ.get("XLA_FLAGS"), str(jax.config.jax_default_matmul_precision)],
    }


class _State(NamedTuple):
    """What a run remembers from round to round."""

    params: Any
    accuracy: np.ndarray  # [evaluations so far]
    rounds: np.ndarray  # [evaluations so far] after which round


def run(task: Task, work: storage.Workdir) -> str:
    """Deals the images, trains, and leaves tables, figures and the model; returns their text.

    Every process of a run calls it; only the first writes.
    """
    settings, first = task.settings, jax.process_index() == 0
    deal_key, init_key, train_key = jax.random.split(task.key, 3)
    capacity = np.asarray(settings.capacity)
    dealt = partitions.partition(
        task.agents.train, capacity, deal_key, settings.partition, settings.alpha, settings.shards
    )
    held = partitions.holdings(dealt.labels, capacity, len(task.classes))
    rows = [
        {"agent": i, "holds": settings.capacity[i], "contributes": settings.contributions[i]}
        | {name: int(x) for name, x in zip(_columns(task.classes), held[i], strict=True)}
        for i in range(settings.agents)
    ]
    if first:
        work.write_csv("holdings.csv", rows)
    params = jax.device_get(models.initial_parameters(task.model, init_key, dealt.images.shape[2:]))
    state = _train(task, work, federated.place(dealt, task.mesh), params, train_key)
    evaluations = [
        {"round": int(r), "accuracy": float(a)} for r, a in zip(state.rounds, state.accuracy, strict=True)
    ]
    if first:
        work.write_csv("rounds.csv", evaluations)
        if not work.has("model"):
            checkpoints.save_model(work.path / "model", state.params)
        plots.draw(work, "holdings", plots.holdings, (7, 4))
        plots.draw(work, "rounds", plots.rounds, (7, 4))
    return tables.holdings_text(rows) + "\n\n" + tables.rounds_text(evaluations)


def _columns(classes: tuple[str, ...]) -> list[str]:
    """Names of classes as names of columns: no two alike, none that another column has."""
    taken = collections.Counter((*classes, "agent", "holds", "contributes"))
    return [name if taken[name] == 1 else f"{name} (class {k})" for k, name in enumerate(classes)]


def _train(
    task: Task, work: storage.Workdir, agents: federated.Images, params: Any, key: jax.Array
) -> _State:
    settings, test = task.settings, task.server.test
    drawn = np.asarray(settings.contributions, np.int32)
    trainer = trainers.Trainer(task.model, task.local_training, agents, key, task.mesh)
    accuracy = functools.partial(evaluation.accuracy, task.model)

    def step(state: _State, number: int) -> _State:
        params = trainer.average(state.params, drawn, number)
        if number % settings.evaluate_every and number < settings.rounds:
            return state._replace(params=params)
        now = float(accuracy(federated.local_copy(params), test))
        return _State(params, np.append(state.accuracy, now), np.append(state.rounds, number))

    start = _State(params, np.asarray([float(accuracy(params, test))]), np.zeros(1, int))
    snapshots = work.snapshots("training", last=settings.rounds)
    over = functools.partial(jobs.progress_over, "training")
    state = trainers.run(step, start, settings.rounds if drawn.any() else 0, snapshots, over)
    return state._replace(params=federated.local_copy(state.params))
