"""Every setting of the comparison: name, default, allowed values and help in one place."""

import dataclasses

from fedgame.experiments import settings
from fedgame.experiments.settings import option
from fedgame.games import curves
from fedgame.learning import data


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of `launch.compare`. Tuples of numbers have one entry, or one per agent."""

    dataset: str = option("digits", "images to train on", choices=data.DATASETS)
    agents: int = option(10, "n, number of agents", low=2)
    capacity: tuple[int, ...] | None = option(
        None,
        "τ, training images of an agent, one number or one per agent; digits: 50, else 100",
        low=1,
        kind=int,
    )
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
    rounds: int = option(50, "rounds of federated averaging in every training run", low=1)
    batch_size: int = option(10, "images in a step of local SGD", low=1)
    epochs: int = option(5, "local epochs in a round", low=1)
    learning_rate: float = option(0.01, "local learning rate", above=0)
    momentum: float = option(0.9, "local momentum", low=0, high=1)
    model: str = option("cnn", "the network: the CNN, or VGG11 for 32×32 images", choices=("cnn", "vgg11"))
    channels: tuple[int, ...] = option((10, 20), "channels of the CNN's two convolutions", low=1, kind=int)
    units: int = option(50, "units of the CNN's first fully connected layer", low=1)
    padding: str = option("SAME", "of the convolutions", choices=("SAME", "VALID"))
    curve_points: int = option(10, "sizes above 0 at which the server measures ã", low=4)
    curve_seeds: int = option(3, "training runs per size", low=1)
    fit: str = option(
        "concave",
        "shape of the fitted ã: any concave curve, a power law, or bound (2)",
        choices=tuple(curves.FITS),
    )
    server_images: int | None = option(
        None,
        "the server's own training images; twice what n agents can hold, or what is left",
        low=1,
        kind=int,
    )
    held_out: int | None = option(
        None, "images that ã is evaluated on; 1,000 or what is left", low=1, kind=int
    )
    mwfed_target: float = option(0.7, "MWFed: accuracy every agent should reach", low=0, high=1)
    mwfed_factor: float = option(4.0, "MWFed: what weights of agents below it grow by", above=1)
    p: tuple[float, ...] = option(
        (0.2, 0.4, 0.6, 0.8, 1.0), "p of the p-means in Table 1", high=1, kind=float, infinite=True
    )
    seeds: int = option(5, "runs of every protocol", low=1)
    seed: int = option(0, "of every random choice", low=0, high=2**31 - 1)


def check(config: Config) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    settings.check(config)
    if config.model == "vgg11" and config.dataset != "cifar10":
        raise ValueError(
            f"--model=vgg11 needs images of 32×32, as cifar10 has; got --dataset={config.dataset}"
        )
    if len(config.channels) != 2:
        raise ValueError(f"--channels needs two numbers, got {len(config.channels)}")
    for name in ("capacity", "cost"):
        given = getattr(config, name)
        if given is not None and len(given) not in (1, config.agents):
            raise ValueError(
                f"--{name} needs one number or one for each of {config.agents} agents, got {len(given)}"
            )


def settle(config: Config, available: tuple[int, int]) -> Config:
    """The configuration with every default filled in, checked against the size of the data.

    Args:
      config: as given.
      available: numbers of training and test images that the data set has.

    Raises:
      ValueError: a flag out of range, or more images asked for than there are.
    """
    check(config)
    n, (train, test) = config.agents, available
    capacity = config.capacity or ((50,) if config.dataset == "digits" else (100,))
    capacity = capacity * (n // len(capacity))
    cost = config.cost or tuple(0.5 / tau for tau in capacity)
    cost = cost * (n // len(cost))
    if config.beta is None and min(cost) == 0:
        raise ValueError("--cost: β* of Definition 2 needs every cost above 0; or give --beta")
    simulated = n * max(capacity)  # the server measures ã with as many, equally large, agents
    left = train - sum(capacity)
    if (config.server_images or simulated) > left or (config.server_images or left) < simulated:
        raise ValueError(
            f"--capacity={max(capacity)}, --server_images={config.server_images}: {n} agents need "
            f"{sum(capacity)} training images and the server at least {simulated} of its own; "
            f"{config.dataset} has {train}"
        )
    left_test = test - n * config.test_images
    if (config.held_out or 1) > left_test:
        raise ValueError(
            f"--test_images={config.test_images}, --held_out={config.held_out}: {n} agents need "
            f"{n * config.test_images} test images and the server at least one; "
            f"{config.dataset} has {test}"
        )
    return dataclasses.replace(
        config,
        capacity=capacity,
        cost=cost,
        server_images=config.server_images or min(2 * simulated, left),
        held_out=config.held_out or min(1000, left_test),
    )
