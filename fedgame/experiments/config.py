"""Settings of the experiments that train: name, default, allowed values and help in one place.

`Training` is what they share: data, who holds how much of it, the network, local training. `Curve` adds
how the server measures ã, `Config` the game and the protocols of `launch.compare`.
"""

import dataclasses

from fedgame.experiments.settings import option
from fedgame.games import curves
from fedgame.learning import layers, models, partitions


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


PROTOCOLS = (
    "fedavg",
    "mwfed",
    "fedbr",
    "fedbr_bg",
    "fedbr_falkinger",
    "fedbr_personal",
    "first_best",
    "afl",
    "qffl",
)


@dataclasses.dataclass(frozen=True)
class Config(Curve):
    """Settings of `launch.compare`."""

    protocol: tuple[str, ...] = option(
        ("fedavg", "mwfed", "fedbr", "fedbr_bg"),
        "protocols to compare: the paper's four; FedBR under β = 1 - 1/n or personal rates; the first best; "
        "AFL and q-FFL, which share all data",
        choices=PROTOCOLS,
        kind=str,
    )
    mode: str = option(
        "continuous",
        "contributions follow the fitted curve and are rounded when samples are drawn; or, literally as "
        "Algorithms 1 and 2, raw ã's differences, each step rounded to multiples of Δs (--interval, or 10)",
        choices=("continuous", "literal"),
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
        None,
        "constant δ of the dynamics; adaptive if not given, Δs / mean cost if literal",
        above=0,
        kind=float,
    )
    evaluate_every: int = option(
        25,
        "steps of the game between models trained anew; the paper's is 1, the last step always is one",
        low=1,
    )
    mwfed_target: float = option(0.7, "MWFed: accuracy every agent should reach", low=0, high=1)
    mwfed_factor: float = option(4.0, "MWFed: what weights of agents below it grow by", above=1)
    afl_rate: float = option(0.1, "AFL: step size of the agents' weights", above=0)
    qffl_q: float = option(0.1, "q-FFL: q, 0 is FedAvg with equal weights", low=0)
    p: tuple[float, ...] = option(
        (0.2, 0.4, 0.6, 0.8, 1.0), "p of the p-means in Table 1", high=1, kind=float, infinite=True
    )
    seeds: int = option(5, "runs of every protocol", low=1)
