"""A federated round against PyTorch eager and against `lax.conv` under `vmap`: one run, ratios.

  pip install -e ".[pytorch]"                           # torch 2.13.0, for this benchmark alone
  python benchmarks/against_pytorch.py                  # about 3 minutes on two cores
  python benchmarks/against_pytorch.py --cases vgg11    # a part of it

Ten agents with 100 images each, batches of 10, one local epoch, SGD with momentum, weighted average; VGG11:
two agents with 50. The sides take turns, and the best of six rounds counts. FLOPs are those of convolutions
and linear layers, forward and backward, without the gradient in the first layer's inputs. What the machine
can do is measured by numpy's product of 2000×2000 matrices of float32 in the same run.
"""

import argparse
import copy
import functools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import torch

from fedgame.learning import federated, local, models

CASES = {  # model, padding, image shape, agents, images of each
    "cnn, VALID": (models.PRESETS["cnn"].clone(padding="VALID"), (28, 28, 1), 10, 100),
    "cnn, SAME": (models.PRESETS["cnn"], (28, 28, 1), 10, 100),
    "cnn_wide, VALID": (models.PRESETS["cnn_wide"].clone(padding="VALID"), (28, 28, 1), 10, 100),
    "cnn_wide, SAME": (models.PRESETS["cnn_wide"], (28, 28, 1), 10, 100),
    "vgg11": (models.PRESETS["vgg11"], (32, 32, 3), 2, 50),
}
OPTIONS = local.LocalTraining(epochs=1)
TURNS = 6


def network(model: models.CNN | models.VGG11, shape: tuple[int, int, int]) -> torch.nn.Sequential:
    """The same network in PyTorch, for images of this shape (height, width, channels)."""
    nn, made = torch.nn, []
    if isinstance(model, models.CNN):
        for channels in model.channels:
            padding = 2 if model.padding == "SAME" else 0
            made += [nn.LazyConv2d(channels, 5, padding=padding), nn.MaxPool2d(2), nn.ReLU()]
        made += [nn.Flatten(), nn.LazyLinear(model.units), nn.ReLU()]
    else:
        for block in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
            for channels in block:
                made += [nn.LazyConv2d(channels, 3, padding=1), nn.ReLU()]
            made.append(nn.MaxPool2d(2))
        made.append(nn.Flatten())
    made = nn.Sequential(*made, nn.LazyLinear(model.classes))
    made(torch.zeros(1, shape[2], *shape[:2]))  # lazy layers learn the sizes of their inputs
    return made


def flops_per_image(network: torch.nn.Sequential, shape: tuple[int, int, int]) -> int:
    """FLOPs of a training step on one image, a multiplication and an addition for each use of a weight.

    Each layer is passed three times: forward, and backward for the gradients in weights and in inputs. The
    first layer does without the last.
    """
    x, total, passes = torch.zeros(1, shape[2], *shape[:2]), 0, 2
    for layer in network:
        x = layer(x)
        weights = getattr(layer, "weight", None)
        if weights is not None:
            uses = math.prod(x.shape[2:]) if x.ndim == 4 else 1
            total += 2 * weights.numel() * uses * passes
            passes = 3
    return total


def pytorch_round(network: torch.nn.Module, images: np.ndarray, labels: np.ndarray) -> None:
    """FedAvg as people write it in eager PyTorch: every agent trains a copy, and the mean is taken."""
    trained = []
    images, labels = torch.tensor(images.transpose(0, 1, 4, 2, 3)), torch.tensor(labels, dtype=torch.long)
    for x, y in zip(images, labels, strict=True):
        mine = copy.deepcopy(network)
        optimizer = torch.optim.SGD(mine.parameters(), OPTIONS.learning_rate, OPTIONS.momentum)
        for rows in torch.randperm(len(y)).split(OPTIONS.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(mine(x[rows]), y[rows]).backward()
            optimizer.step()
        trained.append(mine.state_dict())
    mean = {name: torch.stack([state[name] for state in trained]).mean(0) for name in trained[0]}
    network.load_state_dict(mean)


def jax_round(
    model: models.CNN, lowering: str, images: np.ndarray, labels: np.ndarray, mesh: jax.sharding.Mesh | None
) -> Callable[[], object]:
    """A round of fedgame, ready to run; a `mesh` shares the agents between the cores."""
    model, options = model.clone(lowering=lowering), OPTIONS._replace(lowering=lowering)
    agents = federated.place(federated.Images(images, labels), mesh)
    params = jax.device_get(models.initial_parameters(model, jax.random.key(1), images.shape[2:]))
    samples, key = np.full(len(labels), labels.shape[1], np.int32), jax.random.key(2)

    def ready() -> object:
        trained = federated.federated_round(
            model, options, params, agents, samples, key=key, number=1, mesh=mesh
        )
        return jax.block_until_ready(trained)

    return ready


def side(case: str, name: str) -> Callable[[], object]:
    """A round of one side of a case, ready to be timed."""
    model, shape, agents, each = CASES[case]
    rng = np.random.default_rng(0)
    images = rng.random((agents, each, *shape), np.float32)
    labels = rng.integers(0, 10, (agents, each)).astype(np.int32)
    if name == "PyTorch eager":
        return functools.partial(pytorch_round, network(model, shape), images, labels)
    if name == "ours":
        jax.config.update("jax_num_cpu_devices", os.cpu_count())
    lowering = "native" if name.startswith("lax.conv") else "auto"
    return jax_round(model, lowering, images, labels, federated.agents_mesh())


def seconds(side: Callable[[], object]) -> float:
    begin = time.perf_counter()
    side()
    return time.perf_counter() - begin


def serve(case: str, name: str) -> None:
    """Times a round for every line of the standard input, and prints the seconds."""
    ready = side(case, name)
    for _ in sys.stdin:
        print(seconds(ready), flush=True)


def compare(case: str, gflops_of_numpy: float) -> None:
    """Runs the sides of a case in turns, each in a process of its own: idle threads would disturb the others.

    The first round of each, with compilation, is not counted.
    """
    model, shape, agents, each = CASES[case]
    names = ["ours", "ours, one device", "PyTorch eager"]
    if case.startswith("cnn,"):  # with other networks it takes minutes
        names.append("lax.conv, vmap")
    start = functools.partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    servers = {name: start([sys.executable, __file__, "--serve", case, name]) for name in names}
    taken = {name: [] for name in names}
    for _ in range(TURNS + 1):
        for name, server in servers.items():
            print(file=server.stdin, flush=True)
            taken[name].append(float(server.stdout.readline()))
    for server in servers.values():
        server.communicate()
    best = {name: min(times[1:]) for name, times in taken.items()}
    work = flops_per_image(network(model, shape), shape) / 1e9
    for name in names:
        rate = agents * each / best[name]
        share = rate * work / gflops_of_numpy
        ratio = best[name] / best["ours"]
        print(f"{case:<16} {name:<17} {rate:8.0f} {rate * work:8.1f} {share:8.0%} {ratio:15.2f}", flush=True)


def numpy_gflops() -> float:
    """GFLOP/s of numpy's product of two 2000×2000 matrices, which is 2 · 2000³ = 16 GFLOP."""
    a = np.random.default_rng(0).random((2000, 2000), np.float32)
    return 16 / min(seconds(lambda: a @ a) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="which cases")
    parser.add_argument("--serve", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve)
        return
    gflops = numpy_gflops()
    print(f"numpy's matrix product: {gflops:.0f} GFLOP/s on {os.cpu_count()} cores")
    print(f"{'network':<16} {'side':<17} images/s  GFLOP/s of numpy  seconds / ours")
    for case in given.cases:
        compare(case, gflops)


if __name__ == "__main__":
    main()
