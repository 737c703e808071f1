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
from fedgame.experiments import memory
from fedgame.inputs import members as inputs
from fedgame.learning import data, evaluation, federated, layers, local, members, models
from fedgame.registry import option
from fedgame.runs import settings as all_settings
from fedgame.runs.experiment import Resources
from fedgame.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Settings of a model and of how it is trained; `filled` says what stands for None."""

    rounds: int | None = option(
        "rounds of federated averaging in every training run; 50, of linear and mlp 100",
        None,
        low=1,
        kind=int,
    )
    batch_size: int | None = option(
        "images in a step of local SGD; 10 (McMahan et al. 2017), of linear and mlp 64", None, low=1, kind=int
    )
    epochs: int = option("local epochs in a round (McMahan et al. 2017: 5)", 5, low=1)
    learning_rate: float | None = option(
        "local learning rate; 0.01, of linear and mlp 0.1",
        None,
        above=0,
        high=1e38,  # of single precision
        kind=float,
    )
    momentum: float = option("local momentum", 0.9, low=0, high=1)
    full_batch: bool | None = option(
        "one step along the gradient over all of an agent's samples a round, as Algorithms 1 and 2 do; not "
        "given: of linear and mlp only",
        None,
        kind=bool,
    )
    model: str | None = option(
        "the network: a CNN of 10/20 channels and 50 units, or of 32/64 and 512; VGG11 for 32×32 images, "
        "without or with its two layers of 4096 units; logistic regression, or one hidden layer, for tables "
        "and images; cnn, on tables linear, if not given",
        None,
        choices=tuple(models.PRESETS),
        kind=str,
    )
    channels: tuple[int, ...] | None = option(
        "channels of the CNN's two convolutions, instead of the model's", None, low=1, kind=int
    )
    units: int | None = option(
        "units of the first fully connected layer of the CNN or the MLP, instead of the model's",
        None,
        low=1,
        kind=int,
    )
    padding: str = option("of the CNN's convolutions", "SAME", choices=("SAME", "VALID"))
    lowering: str = option(
        "convolutions as patches times a matrix, one agent at a time (best on CPUs) or batched over agents "
        "(GPUs), or native ones, batched; auto looks at the device",
        "auto",
        choices=layers.LOWERINGS,
    )
    seed: int = option("of every random choice", 0, low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class MembersSettings:
    """Settings of a federation whose members have data of their own."""

    federation: str | None = option(
        "folder with the members' own data: MEMBER.csv for a table, MEMBER.npz or MEMBER/CLASS/*.png for "
        "images",
        None,
        kind=pathlib.Path,
    )
    target: str | None = option(
        "--federation of tables: column of the class; the last one if not given", None
    )
    categorical: tuple[str, ...] | None = option(
        "--federation of tables: columns of numbers that are categories", None, kind=str
    )
    without: tuple[str, ...] | None = option(
        "--federation of tables: columns that are ignored", None, kind=str
    )
    metric: str = option(
        "--federation: what a model is worth to a member, on her own held-out records: accuracy, the area "
        "under the ROC curve, or 1 - log loss",
        "accuracy",
        choices=evaluation.METRICS,
    )
    reserve: float = option(
        "--federation: share of every member's records that is kept to check advice, and never measured on",
        0.25,
        above=0,
        below=1,
    )
    tested: float = option(
        "--federation: share of the other records that is held out in every split, to measure on",
        1 / 3,
        above=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class OwnSettings(MembersSettings, ModelSettings):
    """Settings of training on members' own data."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings(OwnSettings):
    """Settings of every federated training run. Tuples of numbers have one entry, or one per agent."""

    dataset: str = option(
        "images to train on: digits, a set that tensorflow-datasets prepared (mnist, fashion_mnist, cifar10, "
        "cifar100, ...), or your own: FILE.npz or FOLDER/ with a folder per class",
        "digits",
        kind=pathlib.Path,
    )
    agents: int = option(
        "n, number of agents; with --federation its members, in the order of their names",
        10,
        low=2,
        high=1_000_000,
    )
    capacity: tuple[int, ...] | None = option(
        "τ, training images of an agent, one number or one per agent; digits: 50, --federation: all that can "
        "be trained on, else 100",
        None,
        low=1,
        kind=int,
    )


class Own(NamedTuple):
    """The data of a federation whose members have their own."""

    federation: members.Federation
    shares: members.Shares


class Task(NamedTuple):
    """What all training runs of one experiment share."""

    settings: Any  # with every default filled in
    model: models.Network
    local_training: local.LocalTraining
    agents: data.Data | None  # training and test images of all agents, not yet dealt to them; None: `own`
    server: data.Data | None  # the server's training and held-out images; None: `own`
    classes: tuple[str, ...]  # names
    mesh: jax.sharding.Mesh | None  # devices that share the agents; None for a single one
    key: jax.Array  # from which all random choices follow
    own: Own | None = None  # what members have themselves, if images are not dealt
    remarks: tuple[str, ...] = ()  # what is odd about the data, but allowed

    @property
    def digests(self) -> dict[str, str]:
        """A digest of the images of agents and server, or of the members' records."""
        if self.own is not None:
            return {"records": members.digest(self.own.federation)}
        return {"images": digest(self.agents, self.server)}

    def split(self, number: int) -> members.Split:
        """Split `number` of the members' own records, to train and to measure on."""
        return members.measuring_split(self.own.federation, self.own.shares, number)

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


# Fills in every default of settings, given how many training and test images the data set has; None if
# members have their own data. Returns the settings and the images they need. Raises a ValueError if a flag is
# out of range or images are too few.
Settle = Callable[[Any, tuple[int, int] | None], tuple[Any, Needed]]
NOTHING = Needed((0, 0), (0, 0))


def check(settle: Settle, settings: Any, resources: Resources = Resources()) -> None:
    """Refuses what `prepare` would, after loading only one image.

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
    if settings.federation:
        _prepare_own(settle, settings)
        return
    settings = filled(_without_members(settings), tables=False)
    about = _about(settings.dataset, resources.data_dir)
    settled, needed = settle(settings, about.sizes)
    model, local_training = network(settled, about.shape, len(about.classes))
    _check_memory(settled, needed, about.shape, model, local_training, resources)


def prepare(settle: Settle, settings: Any, resources: Resources = Resources()) -> Task:
    """Fills in the settings and loads the images that they need; arguments and errors as `check`."""
    check_fields(settings)
    if settings.federation:
        return _prepare_own(settle, settings)
    settings = filled(_without_members(settings), tables=False)
    about = data.about(settings.dataset, resources.data_dir)
    settings, needed = settle(settings, about.sizes)
    model, local_training = network(settings, about.shape, len(about.classes))
    _check_memory(settings, needed, about.shape, model, local_training, resources)
    (of_agents, test_of_agents), (of_server, test_of_server) = needed
    train, test = of_agents + of_server, test_of_agents + test_of_server
    loaded = data.load(settings.dataset, train, test, settings.seed, resources.data_dir)
    return Task(
        settings=settings,
        model=model,
        local_training=local_training,
        agents=_part(loaded, slice(of_agents), slice(test_of_agents)),
        server=_part(loaded, slice(of_agents, None), slice(test_of_agents, None)),
        classes=about.classes,
        mesh=federated.agents_mesh(),
        key=jax.random.key(settings.seed),
        remarks=loaded.remarks,
    )


def _prepare_own(settle: Settle, settings: Any) -> Task:
    """The task of a federation whose members have their own data; errors as of `check`."""
    federation, remarks = inputs.read(
        settings.federation, settings.target, settings.categorical or (), settings.without or ()
    )
    shares = members.Shares(settings.seed, settings.reserve, settings.tested)
    members.check(federation, shares)
    settings = filled(settings, tables=federation.schema is not None)
    settings, _ = settle(_of_members(settings, federation, shares), None)
    shape = members.shape(federation)
    model, local_training = network(settings, shape, len(federation.classes))
    trainable = members.trainable(federation, shares)
    records = memory.Records(shape, len(trainable), int(max(trainable)), int(sum(federation.sizes)))
    memory.check_training(settings, model, local_training, records)
    return Task(
        settings=settings,
        model=model,
        local_training=local_training,
        agents=None,
        server=None,
        classes=federation.classes,
        mesh=federated.agents_mesh(),
        key=jax.random.key(settings.seed),
        own=Own(federation, shares),
        remarks=tuple(remarks),
    )


def filled(settings: Any, tables: bool) -> Any:
    """The settings with the usual model of images, or of tables, and its usual training.

    Small models are trained along the whole gradient of every member, at a larger rate and for more rounds:
    that is as good as logistic regression with a penalty, because it stops early. SGD fits the noise of a few
    hundred records. What is said stays.
    """
    model = settings.model or ("linear" if tables else "cnn")
    small = isinstance(models.PRESETS[model], models.Linear | models.MLP)
    usual = {
        "model": model,
        "rounds": 100 if small else 50,
        "learning_rate": 0.1 if small else 0.01,
        "batch_size": 64 if small else 10,
        "full_batch": small,
    }
    missing = {name: value for name, value in usual.items() if getattr(settings, name) is None}
    return dataclasses.replace(settings, **missing)


def _check_memory(
    settings: Any,
    needed: Needed,
    shape: tuple[int, ...],
    model: models.Network,
    local_training: local.LocalTraining,
    resources: Resources,
) -> None:
    """Refuses, before images are loaded, what does not fit into memory; see `memory.check_training`."""
    owners = settings.agents
    capacity = getattr(settings, "capacity", None) or (0,)
    most = max(*capacity, -(-needed.server[0] // owners))  # the server measures its curve with as many agents
    records = memory.Records(shape, owners, most, sum(needed.agents + needed.server))
    memory.check_training(settings, model, local_training, records, resources.workers or 1)


def _without_members(settings: Any) -> Any:
    """The settings; raises a ValueError if one is given that only members with data of their own need."""
    for field in dataclasses.fields(MembersSettings):
        if getattr(settings, field.name) != field.default:
            raise ValueError(f"--{field.name} needs --federation")
    return settings


# Settings that have no use where nothing is dealt.
_OF_DEALING = ("dataset", "partition", "alpha", "shards", "server_images", "held_out", "test_images")


def _of_members(settings: Any, federation: members.Federation, shares: members.Shares) -> Any:
    """The settings with as many agents as members, and as capacities what each can train on.

    Raises:
      ValueError: a setting has no use with --federation, or is of another number of agents; or a member has
        fewer records than asked for.
    """
    fields = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in _OF_DEALING:
        if name in fields and getattr(settings, name) != fields[name]:
            raise ValueError(f"--{name} has no use with --federation: members have their own data")
    if "agents" not in fields:
        return settings
    n = len(federation.names)
    if settings.agents not in (n, fields["agents"]):
        raise ValueError(f"--agents={settings.agents}: {settings.federation} has {n} members")
    most = members.trainable(federation, shares)
    if settings.capacity is not None:
        all_settings.one_for_each("capacity", settings.capacity, n)
    capacity = for_each(settings.capacity or tuple(most.tolist()), n)
    for name, asked, has in zip(federation.names, capacity, most, strict=True):
        if asked > has:
            possible = ",".join(str(min(pair)) for pair in zip(capacity, most.tolist(), strict=True))
            raise ValueError(
                f"--capacity: {name} can train on {has} records, not {asked}: the others are reserved or "
                f"held out; --capacity={possible} is possible"
            )
    return dataclasses.replace(settings, agents=n, capacity=capacity)


def _part(whole: data.Data, train: slice, test: slice) -> data.Data:
    """Some of the training images, and some of the test images."""
    return data.Data(
        federated.Images(whole.train.images[train], whole.train.labels[train]),
        federated.Images(whole.test.images[test], whole.test.labels[test]),
    )


_about = functools.lru_cache(maxsize=8)(data.about)  # a sweep asks again for each of its variants


def check_fields(settings: Any) -> None:
    """Refuses settings of training that no data set allows.

    Raises:
      ValueError: a setting is out of range, does not fit the model, or has a wrong number of values.
    """
    all_settings.check(settings)
    if settings.channels is not None and len(settings.channels) != 2:
        raise ValueError(f"--channels needs two numbers, got {len(settings.channels)}")
    if settings.model or not settings.federation:  # else it is not yet known
        _check_model(settings, settings.model or "cnn")
    several = getattr(settings, "capacity", None)
    if several is not None and not settings.federation:
        all_settings.one_for_each("capacity", several, settings.agents)


def _check_model(settings: ModelSettings, name: str) -> None:
    """Raises a ValueError for a setting that the model does not have."""
    network = models.PRESETS[name]
    if not isinstance(network, models.CNN | models.MLP) and settings.units is not None:
        raise ValueError(f"--units is of cnn and mlp; --model={name} has none")
    if not isinstance(network, models.CNN) and (settings.channels, settings.padding) != (None, "SAME"):
        raise ValueError(f"--channels and --padding are the CNN's; --model={name} has none")


def capacity(settings: TrainingSettings) -> tuple[int, ...]:
    """τ of every agent, in images: as given, else the default of the data set."""
    default = 50 if settings.dataset == "digits" else 100
    return for_each(settings.capacity or (default,), settings.agents)


def for_each(given: tuple[Any, ...], agents: int) -> tuple[Any, ...]:
    """One value for every agent, from a tuple of one value or of one for each."""
    return given if len(given) == agents else given * agents


def network(
    settings: ModelSettings, shape: tuple[int, ...], classes: int
) -> tuple[models.Network, local.LocalTraining]:
    """The model and the local training that the settings ask for, with every default filled in.

    Args:
      settings: of the model and of training.
      shape: [h, w, c] of an image, or [d] of the features of a table.
      classes: their number.

    Raises:
      ValueError: records of this shape do not fit the model.
    """
    _check_model(settings, settings.model)
    preset = models.PRESETS[settings.model]
    changes: dict[str, Any] = {"classes": classes}
    if isinstance(preset, models.CNN | models.VGG11):
        if len(shape) != 3:
            raise ValueError(f"--model={settings.model} is for images; tables need linear or mlp")
        changes["lowering"] = settings.lowering
    if settings.channels is not None:
        changes["channels"] = settings.channels
    if settings.units is not None:
        changes["units"] = settings.units
    if isinstance(preset, models.CNN):
        changes["padding"] = settings.padding
    model = preset.clone(**changes)
    # Computes shapes only: raises where images are too small for the model's layers.
    jax.eval_shape(lambda: models.initial_parameters(model, jax.random.key(0), shape))
    training = {field: getattr(settings, field) for field in local.LocalTraining._fields}
    return model, local.LocalTraining(**training)


def digest(*parts: data.Data) -> str:
    """A digest of images and labels, equal only if all of them are equal, and in the same order."""
    found = hashlib.sha256()
    for part in parts:
        for images, labels in (part.train, part.test):
            for array in (images, labels):
                found.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fingerprint(task: Task, modules: Iterable[str], *images: data.Data) -> dict[str, Any]:
    """What determines trained models, beside their samples and randomness: images, code, settings, machine.

    Args:
      task: of the experiment.
      modules: names of modules that take part in training, beside those of `fedgame.learning`.
      *images: all that is trained or tested on; none if members have their own data.

    Returns:
      JSON values, as a key for results that runs share.
    """
    files = sorted(pathlib.Path(data.__file__).parent.glob("*.py"))
    files += [pathlib.Path(sys.modules[name].__file__ or "") for name in sorted(set(modules))]
    code = hashlib.sha256()
    for file in files:
        code.update(file.read_bytes())
    found = {
        "images": digest(*images),
        "code": code.hexdigest(),
        "use": sorted(registry.used().values()),
        "model": repr(task.model),
        "training": task.local_training._asdict(),
        "agents": len(task.own.federation.names) if task.own else task.settings.agents,
        "rounds": task.settings.rounds,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")},
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processors": [os.cpu_count(), np.show_config(mode="dicts")["SIMD Extensions"]],
        "flags": [os.environ.get("XLA_FLAGS"), str(jax.config.jax_default_matmul_precision)],
    }
    if task.own is not None:
        of_own = {"shares": task.own.shares._asdict(), "metric": task.settings.metric}
        found |= of_own | task.digests | {"scikit-learn": importlib.metadata.version("scikit-learn")}
    return found


def write_remarks(task: Task, work: Workdir) -> None:
    """Writes what is told about the data: `members.json` of members' own, else `remarks.json`, if any."""
    if task.own is not None:
        sizes = zip(task.own.federation.names, task.own.federation.sizes.tolist(), strict=True)
        about = {"metric": task.settings.metric, "records": dict(sizes), "remarks": task.remarks}
        work.write_json("members.json", about)
    elif task.remarks:
        work.write_json("remarks.json", {"remarks": task.remarks})


def write_if_nothing_is_learnt(
    task: Task, work: Workdir, what: str, accuracy: float, labels: np.ndarray
) -> None:
    """Writes `training_remarks.json` if models of the most data are not seen to beat guessing one class.

    Two standard errors of the accuracy are not told from luck. Other metrics than the accuracy are ignored.

    Args:
      task: with the metric.
      work: the directory.
      what: the models are trained on, for the remark.
      accuracy: on what is held out, the mean over owners.
      labels: [owners, m] of what is held out; -1 fills the rows of owners who have fewer.
    """
    if task.settings.metric != "accuracy":
        return
    there = labels >= 0
    shares = [
        np.mean(np.sum(labels == k, axis=1) / np.maximum(np.sum(there, axis=1), 1))
        for k in range(len(task.classes))
    ]
    guess = float(max(shares))
    tested = int(np.sum(there))
    error = np.sqrt(guess * (1 - guess) / tested)
    if accuracy <= guess + 2 * error:
        remark = (
            f"{what}: the models learn nothing, as far as {tested} held-out ones tell (accuracy "
            f"{accuracy:.3f}, always guessing the commonest class gives {guess:.3f}): try a smaller "
            "--learning_rate or more --rounds"
        )
        if accuracy > guess:
            remark = (
                f"{what}: accuracy {accuracy:.3f} cannot be told from always guessing the commonest class "
                f"({guess:.3f}): {tested} held-out ones are too few to tell, or the models learn nothing "
                "(then try a smaller --learning_rate or more --rounds)"
            )
        work.write_json("training_remarks.json", {"remarks": [remark]})


def data_name(settings: TrainingSettings) -> str:
    """What results of these settings are called."""
    path = os.path.expanduser(settings.federation or settings.dataset)
    return pathlib.Path(os.path.abspath(path)).stem  # of ./ and ../ too
