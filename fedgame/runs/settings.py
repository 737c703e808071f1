"""Settings of the experiments that train: name, default, allowed values and help in one place; checks of any.

`TrainingSettings` is what they share: data, who holds how much of it, the network, local training.
`TrainSettings` adds what `launch.train` needs, `CurveSettings` how the server measures ã, and
`CompareSettings`, to that, the game and the protocols of `launch.compare`.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

from fedgame import registry
from fedgame.games import curves
from fedgame.learning import layers, models, partitions
from fedgame.registry import option


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
        "convolutions as patches and one agent at a time (best on CPUs), or native and batched over agents "
        "(GPUs, TPUs); auto looks at the device",
        "auto",
        choices=layers.LOWERINGS,
    )
    seed: int = option("of every random choice", 0, low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class CurveSettings(TrainingSettings):
    """How the server measures the public accuracy curve ã."""

    sizes: tuple[int, ...] | None = option(
        "totals S at which the server measures ã, beside 0, instead of a grid", None, low=1, kind=int
    )
    interval: int | None = option(
        "Δs: measure ã at all its multiples (the paper's is 10), not on a geometric grid",
        None,
        low=1,
        kind=int,
    )
    curve_points: int = option("sizes above 0 in the geometric grid", 10, low=4)
    curve_seeds: int = option("training runs per size", 3, low=1)
    fit: str = option(
        "shape of the fitted ã: any concave curve, a power law, bound (2), or a payoff of yours with a `fit`",
        "concave",
        choices=curves.fits,
    )
    server_images: int | None = option(
        "the server's own training images; twice the largest total, or what is left", None, low=1, kind=int
    )
    held_out: int | None = option(
        "images that ã is evaluated on; 1,000 or what is left", None, low=1, kind=int
    )


@dataclasses.dataclass(frozen=True)
class TrainSettings(TrainingSettings):
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


@dataclasses.dataclass(frozen=True)
class CompareSettings(CurveSettings):
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


@contextlib.contextmanager
def of_flag(name: str) -> Iterator[None]:
    """Says of errors which flag they are about."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--{name}: {error}") from None
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from None


def described(settings: Any) -> dict[str, Any]:
    """The settings as JSON values, and the SHA-256 of every file of numbers that their texts name."""
    named: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        texts = value if isinstance(value, tuple) else (value,)
        if field.metadata["of"]:
            named += [file for text in texts if isinstance(text, str) for file in registry.files(text)]
    files = [pathlib.Path(file) for file in named if pathlib.Path(file).is_file()]
    digests = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return dataclasses.asdict(settings) | {"sha256": digests}


def names(settings: type) -> tuple[str, ...]:
    """The settings of a class of them."""
    return tuple(field.name for field in dataclasses.fields(settings))


def check(settings: Any) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == ():
            kind = "name" if field.metadata["kind"] is str else "number"
            raise ValueError(f"--{field.name} needs at least one {kind}")
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                _check_one(field, one)


def _check_one(field: dataclasses.Field, value: Any) -> None:
    choices = registry.choices(field)
    if choices and value not in choices:
        raise ValueError(f"--{field.name} must be one of {', '.join(choices)}, got {value!r}")
    if not isinstance(value, str | bool):
        registry.check_number(f"--{field.name}", value, field)
