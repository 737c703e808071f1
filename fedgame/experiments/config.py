"""Settings of the experiments that train: name, default, allowed values and help in one place.

`Training` is what they share: data, who holds how much of it, the network, local training. `Curve` adds
how the server measures ã, `Config` the game and the protocols of `launch.compare`.
"""

import dataclasses
from typing import Any

import jax

from fedgame.experiments import settings
from fedgame.experiments.settings import option
from fedgame.games import curves
from fedgame.learning import layers, local, models, partitions


@dataclasses.dataclass(frozen=True)
class Training:
    """Settings of every federated training run. Tuples of numbers have one entry, or one per agent."""

    dataset: str = option(
        "digits",
        "images to train on: digits, a set that tensorflow-datasets prepared (mnist, fashion_mnist, cifar10, "
        "cifar100, ...), or your own: FILE.npz or FOLDER/ with a folder per class",
    )
    agents: int = option(10, "n, number of agents", low=2)
    capacity: tuple[int, ...] | None = option(
        None,
        "τ, training images of an agent, one number or one per agent; digits: 50, else 100",
        low=1,
        kind=int,
    )
    rounds: int = option(50, "rounds of federated averaging in every training run", low=1)
    batch_size: int = option(10, "images in a step of local SGD (McMahan et al. 2017: 10)", low=1)
    epochs: int = option(5, "local epochs in a round (McMahan et al. 2017: 5)", low=1)
    learning_rate: float = option(0.01, "local learning rate", above=0)
    momentum: float = option(0.9, "local momentum", low=0, high=1)
    full_batch: bool = option(
        False, "one step along the gradient over all of an agent's samples a round, as Algorithms 1 and 2 do"
    )
    model: str = option(
        "cnn",
        "the network: a CNN of 10/20 channels and 50 units, or of 32/64 and 512; VGG11 for 32×32 images, "
        "without or with its two layers of 4096 units",
        choices=tuple(models.PRESETS),
    )
    channels: tuple[int, ...] | None = option(
        None, "channels of the CNN's two convolutions, instead of the model's", low=1, kind=int
    )
    units: int | None = option(
        None, "units of the CNN's first fully connected layer, instead of the model's", low=1, kind=int
    )
    padding: str = option("SAME", "of the CNN's convolutions", choices=("SAME", "VALID"))
    lowering: str = option(
        "auto",
        "convolutions as patches and one agent at a time (best on CPUs), or native and batched over agents "
        "(GPUs, TPUs); auto looks at the device",
        choices=layers.LOWERINGS,
    )
    seed: int = option(0, "of every random choice", low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Curve(Training):
    """How the server measures the public accuracy curve ã."""

    sizes: tuple[int, ...] | None = option(
        None, "totals S at which the server measures ã, beside 0, instead of a grid", low=1, kind=int
    )
    interval: int | None = option(
        None,
        "Δs: measure ã at all its multiples (the paper's is 10), not on a geometric grid",
        low=1,
        kind=int,
    )
    curve_points: int = option(10, "sizes above 0 in the geometric grid", low=4)
    curve_seeds: int = option(3, "training runs per size", low=1)
    fit: str = option(
        "concave",
        "shape of the fitted ã: any concave curve, a power law, or bound (2)",
        choices=tuple(curves.FITS),
    )
    server_images: int | None = option(
        None, "the server's own training images; twice the largest total, or what is left", low=1, kind=int
    )
    held_out: int | None = option(
        None, "images that ã is evaluated on; 1,000 or what is left", low=1, kind=int
    )


@dataclasses.dataclass(frozen=True)
class Run(Training):
    """Settings of `launch.train`, one training run."""

    contributions: tuple[int, ...] | None = option(
        None,
        "s, images that each agent trains on, one number or one per agent; all if not given",
        low=0,
        kind=int,
    )
    partition: str = option(
        "iid", "who holds which images: i.i.d., Dirichlet label skew, shards", choices=partitions.KINDS
    )
    alpha: float = option(0.5, "of the Dirichlet partition; the smaller, the more skewed", above=0)
    shards: int = option(2, "of every agent, in the partition by shards", low=1)
    held_out: int | None = option(None, "test images; 1,000 or what there is", low=1, kind=int)
    evaluate_every: int = option(1, "rounds between evaluations; the last round always is one", low=1)


@dataclasses.dataclass(frozen=True)
class Config(Curve):
    """Settings of `launch.compare`."""

    test_images: int = option(10, "test images of each agent's own", low=1)
    cost: tuple[float, ...] | None = option(
        None,
        "c, cost per sample, one number or one per agent; so that τ·c = 0.5 if not given",
        low=0,
        kind=float,
    )
    beta: float | None = option(
        None, "β of FedBR-BG; β* of Definition 2 if not given", low=0, high=1, kind=float
    )
    steps: int = option(100, "H, steps of the best-response dynamics", low=1)
    step_size: float | None = option(
        None, "constant δ of the dynamics; adaptive if not given", above=0, kind=float
    )
    mwfed_target: float = option(0.7, "MWFed: accuracy every agent should reach", low=0, high=1)
    mwfed_factor: float = option(4.0, "MWFed: what weights of agents below it grow by", above=1)
    p: tuple[float, ...] = option(
        (0.2, 0.4, 0.6, 0.8, 1.0), "p of the p-means in Table 1", high=1, kind=float, infinite=True
    )
    seeds: int = option(5, "runs of every protocol", low=1)


def check(config: Training) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    settings.check(config)
    if config.channels is not None and len(config.channels) != 2:
        raise ValueError(f"--channels needs two numbers, got {len(config.channels)}")
    cnn = isinstance(models.PRESETS[config.model], models.CNN)
    if not cnn and (config.channels, config.units, config.padding) != (None, None, "SAME"):
        raise ValueError(f"--channels, --units and --padding are the CNN's; --model={config.model} has none")
    for name in ("capacity", "cost", "contributions"):
        given = getattr(config, name, None)
        if given is not None and len(given) not in (1, config.agents):
            raise ValueError(
                f"--{name} needs one number or one for each of {config.agents} agents, got {len(given)}"
            )


def network(
    config: Training, image_shape: tuple[int, ...], classes: int
) -> tuple[models.CNN | models.VGG11, local.LocalTraining]:
    """The model and the local training that the settings ask for.

    Raises:
      ValueError: images of this shape do not fit the model.
    """
    given = {"channels": config.channels, "units": config.units}
    changes = {name: value for name, value in given.items() if value is not None}
    preset = models.PRESETS[config.model]
    changes |= {"padding": config.padding} if isinstance(preset, models.CNN) else {}
    model = preset.clone(classes=classes, lowering=config.lowering, **changes)
    jax.eval_shape(lambda: models.initial_parameters(model, jax.random.key(0), image_shape))
    options = {field: getattr(config, field) for field in local.LocalTraining._fields}
    return model, local.LocalTraining(**options)


def settle(config: Training, available: tuple[int, int]) -> Any:
    """The configuration with every default filled in, checked against the size of the data.

    Args:
      config: as given, of any of the classes here.
      available: numbers of training and test images that the data set has.

    Raises:
      ValueError: a flag out of range, or more images asked for than there are.
    """
    check(config)
    n = config.agents
    capacity = _each(config.capacity or ((50,) if config.dataset == "digits" else (100,)), n)
    config = dataclasses.replace(config, capacity=capacity)
    if isinstance(config, Run):
        return _settle_run(config, available)
    if isinstance(config, Config):
        cost = _each(config.cost or tuple(0.5 / tau for tau in capacity), n)
        if config.beta is None and min(cost) == 0:
            raise ValueError("--cost: β* of Definition 2 needs every cost above 0; or give --beta")
        config = dataclasses.replace(config, cost=cost)
    return _settle_curve(config, available)


def images(config: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Numbers of training and test images of the agents and of the server, once settled."""
    if isinstance(config, Run):
        return (sum(config.capacity), 0), (0, config.held_out)
    server = config.server_images, config.held_out
    if isinstance(config, Config):
        return (sum(config.capacity), config.agents * config.test_images), server
    return (0, 0), server


def _settle_run(config: Run, available: tuple[int, int]) -> Run:
    shared = _each(config.contributions or config.capacity, config.agents)
    for i, (s, tau) in enumerate(zip(shared, config.capacity, strict=True)):
        if s > tau:
            raise ValueError(f"--contributions: agent {i} has {tau} images (--capacity), not {s}")
    needed, held_out = sum(config.capacity), config.held_out or min(1000, available[1])
    if needed > available[0] or held_out > available[1]:
        raise ValueError(
            f"--capacity, --held_out: {needed} training and {held_out} test images are asked for; "
            f"{config.dataset} has {available[0]} and {available[1]}"
        )
    return dataclasses.replace(config, contributions=shared, held_out=held_out)


def _settle_curve(config: Curve, available: tuple[int, int]) -> Curve:
    n, (taken, _) = config.agents, images(config)
    left, left_test = available[0] - taken[0], available[1] - taken[1]
    if config.sizes and config.interval:
        raise ValueError("--sizes and --interval exclude each other")
    largest = max(config.sizes or (sum(config.capacity),))
    few = config.sizes and len(set(config.sizes)) < 3
    if few or largest < 3 * (config.interval or 0):
        raise ValueError("--sizes, --interval: a curve needs at least three sizes above 0")
    simulated = n * -(-largest // n)  # the server measures ã with as many, equally large, agents
    if (config.server_images or simulated) > left or (config.server_images or left) < simulated:
        raise ValueError(
            f"--capacity={max(config.capacity)}, --server_images={config.server_images}: {n} agents need "
            f"{taken[0]} training images and the server at least {simulated} of its own; "
            f"{config.dataset} has {available[0]}"
        )
    if (config.held_out or 1) > left_test:
        test_images = getattr(config, "test_images", 0)
        raise ValueError(
            f"--test_images={test_images}, --held_out={config.held_out}: {n} agents need {taken[1]} test "
            f"images and the server at least one; {config.dataset} has {available[1]}"
        )
    return dataclasses.replace(
        config,
        server_images=config.server_images or min(2 * simulated, left),
        held_out=config.held_out or min(1000, left_test),
    )


def _each(given: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return given * (n // len(given))
