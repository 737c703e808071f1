"""What all experiments that train share: images, agents, a network, local training, and their settings."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame import registry
from fedgame.learning import data, federated, layers, local, models
from fedgame.registry import option
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Resources


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Settings of every federated training run. Tuples of numbers have one entry, or one per agent."""

    dataset: str = option(
        "images to train on: digits, a set that tensorflow-datasets prepared (mnist, fashion_mnist, cifar10, "
        "cifar100, ...), or your own: FILE.npz or FOLDER/ with a folder per class",
        "digits",
    )
    agents: int = option("n, number of agents", 10, low=2)
    capacity: tuple[int, ...] | None = option(
        "τ, training images of an agent, one number or one per agent; digits: 50, else 100",
        None,
        low=1,
        kind=int,
    )
    rounds: int = option("rounds of federated averaging in every training run", 50, low=1)
    batch_size: int = option("images in a step of local SGD (McMahan et al. 2017: 10)", 10, low=1)
    epochs: int = option("local epochs in a round (McMahan et al. 2017: 5)", 5, low=1)
    learning_rate: float = option("local learning rate", 0.01, above=0)
    momentum: float = option("local momentum", 0.9, low=0, high=1)
    full_batch: bool = option(
        "one step along the gradient over all of an agent's samples a round, as Algorithms 1 and 2 do", False
    )
    model: str = option(
        "the network: a CNN of 10/20 channels and 50 units, or of 32/64 and 512; VGG11 for 32×32 images, "
        "without or with its two layers of 4096 units",
        "cnn",
        choices=tuple(models.PRESETS),
    )
    channels: tuple[int, ...] | None = option(
        "channels of the CNN's two convolutions, instead of the model's", None, low=1, kind=int
    )
    units: int | None = option(
        "units of the CNN's first fully connected layer, instead of the model's", None, low=1, kind=int
    )
    padding: str = option("of the CNN's convolutions", "SAME", choices=("SAME", "VALID"))
    lowering: str = option(
        "convolutions as patches times a matrix, one agent at a time (best on CPUs) or batched over agents "
        "(GPUs), or native ones, batched; auto looks at the device",
        "auto",
        choices=layers.LOWERINGS,
    )
    seed: int = option("of every random choice", 0, low=0, high=2**31 - 1)


class Task(NamedTuple):
    """What all training runs of one experiment share."""

    settings: Any  # with every default filled in
    model: models.CNN | models.VGG11
    local_training: local.LocalTraining
    agents: data.Data  # training and test images of all agents, not yet dealt to them
    server: data.Data  # the server's training and held-out images
    classes: tuple[str, ...]  # names
    mesh: jax.sharding.Mesh | None  # devices that share the agents; None for a single one
    key: jax.Array  # from which all random choices follow

    @property
    def digests(self) -> dict[str, str]:
        """A digest of the images of agents and server."""
        return {"images": digest(self.agents, self.server)}

    def key_of(self, purpose: str, number: int) -> jax.Array:
        """The random key of repetition `number`, different for the purposes "curve" and "run"."""
        return jax.random.fold_in(self.key, 2 * number + ("curve", "run").index(purpose))

    def workers(self, asked: int | None) -> int:
        """The number of training runs at a time.

        One if a run uses all devices. Otherwise as asked; if nothing is asked, one per processor on a CPU,
        and one on other devices.
        """
        if self.mesh is not None:
            return 1  # two would wait for each other's devices
        if asked:
            return asked
        return (os.cpu_count() or 1) if layers.one_by_one(self.settings.lowering) else 1


class Needed(NamedTuple):
    """How many images an experiment needs: (training, test)."""

    agents: tuple[int, int]
    server: tuple[int, int]


# Fills in every default of settings, given how many training and test images the data set has. Returns the
# settings and the images they need. Raises a ValueError if a flag is out of range or images are too few.
Settle = Callable[[Any, tuple[int, int]], tuple[Any, Needed]]


def check(settle: Settle, settings: Any, resources: Resources = Resources()) -> None:
    """Refuses what `prepare` would, after loading only one training and one test image.

    Args:
      settle: fills in the defaults of the experiment.
      settings: of the experiment.
      resources: names the directory of the data set.

    Raises:
      ValueError: a setting is out of range, there are fewer images than asked for, or images do not fit the
        model.
      FileNotFoundError: the data set is not there.
    """
    check_fields(settings)
    available, shape, classes = _about(settings.dataset, resources.data_dir)
    settled, _ = settle(settings, available)
    network(settled, shape, classes)


def prepare(settle: Settle, settings: Any, resources: Resources = Resources()) -> Task:
    """Fills in the settings and loads the images that they need; arguments and errors as `check`."""
    check_fields(settings)
    data_dir = resources.data_dir
    settings, needed = settle(settings, data.sizes(settings.dataset, data_dir))
    (of_agents, test_of_agents), (of_server, test_of_server) = needed
    train, test = of_agents + of_server, test_of_agents + test_of_server
    loaded = data.load(settings.dataset, train, test, settings.seed, data_dir)
    classes = data.classes(settings.dataset, data_dir)
    model, local_training = network(settings, loaded.train.images.shape[1:], len(classes))
    return Task(
        settings=settings,
        model=model,
        local_training=local_training,
        agents=_part(loaded, slice(of_agents), slice(test_of_agents)),
        server=_part(loaded, slice(of_agents, None), slice(test_of_agents, None)),
        classes=classes,
        mesh=federated.agents_mesh(),
        key=jax.random.key(settings.seed),
    )


def _part(whole: data.Data, train: slice, test: slice) -> data.Data:
    """Some of the training images, and some of the test images."""
    return data.Data(
        federated.Images(whole.train.images[train], whole.train.labels[train]),
        federated.Images(whole.test.images[test], whole.test.labels[test]),
    )


@functools.lru_cache(maxsize=8)  # a sweep asks again for each of its variants
def _about(dataset: str, data_dir: str | None) -> tuple[tuple[int, int], tuple[int, ...], int]:
    """The numbers of training and test images of a data set, the shape of one, the number of classes."""
    one = data.load(dataset, 1, 1, 0, data_dir)
    return data.sizes(dataset, data_dir), one.train.images.shape[1:], len(data.classes(dataset, data_dir))


def check_fields(settings: TrainingSettings) -> None:
    """Refuses settings of training that no data set allows.

    Raises:
      ValueError: a setting is out of range, does not fit the model, or has a wrong number of values.
    """
    all_settings.check(settings)
    if settings.channels is not None and len(settings.channels) != 2:
        raise ValueError(f"--channels needs two numbers, got {len(settings.channels)}")
    cnn = isinstance(models.PRESETS[settings.model], models.CNN)
    if not cnn and (settings.channels, settings.units, settings.padding) != (None, None, "SAME"):
        raise ValueError(
            f"--channels, --units and --padding are the CNN's; --model={settings.model} has none"
        )
    if settings.capacity is not None:
        all_settings.one_for_each("capacity", settings.capacity, settings.agents)


def capacity(settings: TrainingSettings) -> tuple[int, ...]:
    """τ of every agent, in images: as given, else the default of the data set."""
    default = 50 if settings.dataset == "digits" else 100
    return for_each(settings.capacity or (default,), settings.agents)


def for_each(given: tuple[Any, ...], agents: int) -> tuple[Any, ...]:
    """One value for every agent, from a tuple of one value or of one for each."""
    return given if len(given) == agents else given * agents


def network(
    settings: TrainingSettings, image_shape: tuple[int, ...], classes: int
) -> tuple[models.CNN | models.VGG11, local.LocalTraining]:
    """The model and the local training that the settings ask for.

    Raises:
      ValueError: images of this shape do not fit the model.
    """
    changes: dict[str, Any] = {"classes": classes, "lowering": settings.lowering}
    if settings.channels is not None:
        changes["channels"] = settings.channels
    if settings.units is not None:
        changes["units"] = settings.units
    preset = models.PRESETS[settings.model]
    if isinstance(preset, models.CNN):
        changes["padding"] = settings.padding
    model = preset.clone(**changes)
    # Computes shapes only: raises where images are too small for the model's layers.
    jax.eval_shape(lambda: models.initial_parameters(model, jax.random.key(0), image_shape))
    training = {field: getattr(settings, field) for field in local.LocalTraining._fields}
    return model, local.LocalTraining(**training)


def digest(*parts: data.Data) -> str:
    """A digest of images and labels, equal only if all of them are equal, and in the same order."""
    found = hashlib.sha256()
    for part in parts:
        for images, labels in part:
            for array in (images, labels):
                found.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fingerprint(task: Task, modules: Iterable[str], *images: data.Data) -> dict[str, Any]:
    """What determines trained models, beside their samples and randomness: images, code, settings, machine.

    Args:
      task: of the experiment.
      modules: names of modules that take part in training, beside those of `fedgame.learning`.
      *images: all that is trained or tested on.

    Returns:
      JSON values, as a key for results that runs share.
    """
    files = sorted(pathlib.Path(data.__file__).parent.glob("*.py"))
    files += [pathlib.Path(sys.modules[name].__file__ or "") for name in sorted(set(modules))]
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
