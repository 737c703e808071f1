"""A federated round against PyTorch eager and against other ways to compute it: one run, ratios.

  pip install -e ".[pytorch]"                           # torch 2.13.0, for this benchmark alone
  python benchmarks/against_pytorch.py                  # about 3 minutes on two cores
  python benchmarks/against_pytorch.py --cases vgg11    # a part of it
  python benchmarks/against_pytorch.py --cases vgg11 --agents 100 --images 100     # a GPU's

Ten agents with 100 images each, batches of 10, one local epoch, SGD with momentum, weighted average; VGG11:
two agents with 50. The sides take turns, and the best of six rounds counts. FLOPs are those of convolutions
and linear layers, forward and backward, without the gradient in the first layer's inputs. What the machine
can do is measured in the same run by a product of matrices of float32: numpy's, 2000×2000, or on a GPU
PyTorch's, 8000×8000, in TF32, as XLA and PyTorch compute convolutions there.
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
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
SIDES = {  # of fedgame: the convolutions' form and the agents' (patches: one at a time; native: batched)
    "ours": ("auto", "auto"),
    "ours, one device": ("auto", "auto"),
    "lax.conv, vmap": ("native", "native"),
    "lax.conv, one by one": ("native", "patches"),
    "patches, vmap": ("patches", "native"),
    "patches, one by one": ("patches", "patches"),
}


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
    images = torch.tensor(images.transpose(0, 1, 4, 2, 3), device=DEVICE)
    labels = torch.tensor(labels, dtype=torch.long, device=DEVICE)
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
    if ON_GPU:
        torch.cuda.synchronize()


def jax_round(
    model: models.CNN | models.VGG11,
    lowerings: tuple[str, str],
    images: np.ndarray,
    labels: np.ndarray,
    mesh: jax.sharding.Mesh | None,
) -> Callable[[], object]:
    """A round of fedgame, ready to run; a `mesh` shares the agents between the cores."""
    model, options = model.clone(lowering=lowerings[0]), OPTIONS._replace(lowering=lowerings[1])
    agents = federated.place(federated.Images(images, labels), mesh)
    params = jax.device_get(models.initial_parameters(model, jax.random.key(1), images.shape[2:]))
    samples, key = np.full(len(labels), labels.shape[1], np.int32), jax.random.key(2)

    def ready() -> object:
        trained = federated.federated_round(
            model, options, params, agents, samples, key=key, number=1, mesh=mesh
        )
        return jax.block_until_ready(trained)

    return ready


def side(case: str, name: str, agents: int, each: int) -> Callable[[], object]:
    """A round of one side of a case, ready to be timed."""
    model, shape = CASES[case][:2]
    rng = np.random.default_rng(0)
    images = rng.random((agents, each, *shape), np.float32)
    labels = rng.integers(0, 10, (agents, each)).astype(np.int32)
    if name == "PyTorch eager":
        return functools.partial(pytorch_round, network(model, shape).to(DEVICE), images, labels)
    if name == "ours" and not ON_GPU:
        jax.config.update("jax_num_cpu_devices", os.cpu_count())
    return jax_round(model, SIDES[name], images, labels, federated.agents_mesh())


def seconds(side: Callable[[], object]) -> float:
    begin = time.perf_counter()
    side()
    return time.perf_counter() - begin


def serve(case: str, name: str, agents: str, each: str) -> None:
    """Times a round for every line of the standard input, and prints the seconds."""
    ready = side(case, name, int(agents), int(each))
    for _ in sys.stdin:
        print(seconds(ready), flush=True)


def sides(case: str) -> list[str]:
    """Who takes part in a case: `lax.conv` takes minutes on CPUs with other networks than the small ones."""
    if ON_GPU:
        return ["ours", "PyTorch eager", *list(SIDES)[2:]]
    return ["ours", "ours, one device", "PyTorch eager"] + ["lax.conv, vmap"] * case.startswith("cnn,")


def in_turns(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each side; the machine may get slower or faster meanwhile."""
    start = functools.partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    servers = {name: start(command) for name, command in commands.items()}
    taken = {name: [] for name in commands}
    for _ in range(rounds):
        for name, server in servers.items():
            print(file=server.stdin, flush=True)
            taken[name].append(float(server.stdout.readline()))
    for server in servers.values():
        server.communicate()
    return taken


def one_after_another(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """The same for sides of which each takes most of a GPU's memory; none of one that does not fit."""
    run = functools.partial(subprocess.run, input="\n" * rounds, stdout=subprocess.PIPE, text=True)
    return {name: [float(x) for x in run(command).stdout.split()] for name, command in commands.items()}


def compare(case: str, agents: int | None, each: int | None, turns: int, gflops: float) -> None:
    """Runs the sides of a case, each in a process of its own: idle threads would disturb the others.

    The first round of each, with compilation, is not counted.
    """
    model, shape, default_agents, default_each = CASES[case]
    agents, each = agents or default_agents, each or default_each
    serve_it = [sys.executable, __file__, "--serve", case]
    commands = {name: [*serve_it, name, str(agents), str(each)] for name in sides(case)}
    taken = (one_after_another if ON_GPU else in_turns)(commands, turns + 1)
    work = flops_per_image(network(model, shape), shape) / 1e9
    for name, (first, *later) in ((name, times) for name, times in taken.items() if times):
        rate, ratio = agents * each / min(later), min(later) / min(taken["ours"][1:])
        numbers = f"{rate:8.0f} {rate * work:8.1f} {rate * work / gflops:10.0%} {ratio:15.2f} {first:9.1f}"
        print(f"{case:<16} {name:<20} {numbers}", flush=True)


def matrix_gflops() -> float:
    """GFLOP/s of a product of two n × n matrices, which is 2 n³."""
    if not ON_GPU:
        a = np.random.default_rng(0).random((2000, 2000), np.float32)
        return 16 / min(seconds(lambda: a @ a) for _ in range(5))
    torch.backends.cuda.matmul.allow_tf32 = True
    a = torch.rand(8000, 8000, device=DEVICE)

    def product() -> None:
        a @ a
        torch.cuda.synchronize()

    return 1024 / min(seconds(product) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="which cases")
    parser.add_argument("--agents", type=int, help="how many agents; default: the case's")
    parser.add_argument("--images", type=int, help="how many images each of them has; default: the case's")
    parser.add_argument("--turns", type=int, default=6, help="the best of how many rounds counts")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve)
        return
    gflops = matrix_gflops()
    machine = torch.cuda.get_device_name() if ON_GPU else f"{os.cpu_count()} cores"
    print(f"a product of matrices: {gflops:.0f} GFLOP/s on {machine}")
    print(f"{'network':<16} {'side':<20} images/s  GFLOP/s of product  seconds / ours  first, s")
    for case in given.cases:
        compare(case, given.agents, given.images, given.turns, gflops)


if __name__ == "__main__":
    main()
