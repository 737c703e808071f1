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

from fedgame.experiments import checkpoints, checks, pieces, plots, storage, tables
from fedgame.experiments import config as configs
from fedgame.learning import data, evaluation, federated, layers, local, models, partitions
from fedgame.learning import trainer as trainers


class Setting(NamedTuple):
    """What all training runs of one experiment share."""

    config: Any  # settled
    model: models.CNN | models.VGG11
    options: local.LocalTraining
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
        return asked or (os.cpu_count() or 1 if layers.on_cpu(self.config.lowering) else 1)


def prepare(config: configs.Training, data_dir: str | None = None) -> Setting:
    """Settles the configuration and loads the images it needs.

    Raises:
      ValueError: a setting out of range, more images asked for than there are, or images that do not fit
        the model.
      FileNotFoundError: the data set is not there.
    """
    checks.check(config)
    config = checks.settle(config, data.sizes(config.dataset, data_dir))
    (train, test), (server_train, held_out) = checks.images(config)
    drawn = data.load(config.dataset, train + server_train, test + held_out, config.seed, data_dir)
    classes = data.classes(config.dataset, data_dir)
    model, options = checks.network(config, drawn.train.images.shape[1:], len(classes))
    parts = [
        data.Data(
            *(
                federated.Images(part.images[span], part.labels[span])
                for part, span in zip(drawn, spans, strict=True)
            )
        )
        for spans in ((slice(train), slice(test)), (slice(train, None), slice(test, None)))
    ]
    mesh, key = federated.agents_mesh(), jax.random.key(config.seed)
    return Setting(config, model, options, *parts, classes, mesh, key)


def digest(*parts: data.Data) -> str:
    """Equal for equal images and labels only."""
    found = hashlib.sha256()
    for array in (array for part in parts for owned in part for array in owned):
        found.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fingerprint(setting: Setting, rules: Iterable[str], *images: data.Data) -> dict[str, Any]:
    """What determines trained models, beside their samples and randomness: images, code, settings, machine.

    Args:
      setting: of the experiment.
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
        "model": repr(setting.model),
        "training": setting.options._asdict(),
        "agents": setting.config.agents,
        "rounds": setting.config.rounds,
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


def run(setting: Setting, work: storage.Workdir) -> str:
    """Deals the images, trains, and leaves tables, figures and the model; returns their text.

    Every process of a run calls it; only the first writes.
    """
    config, first = setting.config, jax.process_index() == 0
    deal_key, init_key, train_key = jax.random.split(setting.key, 3)
    capacity = np.asarray(config.capacity)
    dealt = partitions.partition(
        setting.agents.train, capacity, deal_key, config.partition, config.alpha, config.shards
    )
    held = partitions.holdings(dealt.labels, capacity, len(setting.classes))
    rows = [
        {"agent": i, "holds": config.capacity[i], "contributes": config.contributions[i]}
        | {name: int(x) for name, x in zip(_columns(setting.classes), held[i], strict=True)}
        for i in range(config.agents)
    ]
    if first:
        work.write_csv("holdings.csv", rows)
    params = jax.device_get(models.initial_parameters(setting.model, init_key, dealt.images.shape[2:]))
    state = _train(setting, work, federated.place(dealt, setting.mesh), params, train_key)
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
    setting: Setting, work: storage.Workdir, agents: federated.Images, params: Any, key: jax.Array
) -> _State:
    config, test = setting.config, setting.server.test
    samples = np.asarray(config.contributions, np.int32)
    trainer = trainers.Trainer(setting.model, setting.options, agents, key, setting.mesh)
    accuracy = functools.partial(evaluation.accuracy, setting.model)

    def step(state: _State, number: int) -> _State:
        params = trainer.average(state.params, samples, number)
        if number % config.evaluate_every and number < config.rounds:
            return state._replace(params=params)
        now = float(accuracy(federated.local_copy(params), test))
        return _State(params, np.append(state.accuracy, now), np.append(state.rounds, number))

    start = _State(params, np.asarray([float(accuracy(params, test))]), np.zeros(1, int))
    snapshots = work.snapshots("training", last=config.rounds)
    over = functools.partial(pieces.progress_over, "training")
    state = trainers.run(step, start, config.rounds if samples.any() else 0, snapshots, over)
    return state._replace(params=federated.local_copy(state.params))
