"""Compile time, memory and speed of federated rounds at the sizes of the paper.

  python benchmarks/training_limits.py                    # less than 3 minutes on two idle cores
  python benchmarks/training_limits.py --parts compile    # or memory, speed, work

Every line is measured in a process of its own. Processor time is that of all threads: other programs disturb
it less than they disturb wall-clock time.

compile: seconds of the first call of a round minus those of a later one, tracing included, with an empty
persistent cache and with the cache that the first process left. A round has one sample per agent.
memory: peak of the process in one round of 100 agents × 100 CIFAR-10-shaped images with VGG11. Two agents
contribute ten samples each, so that it takes seconds: agents train one after another and in batches, and
shapes do not depend on contributions, so the peak does not, either.
speed: a round of VGG11 where two agents contribute 50 samples each, and what the paper's CIFAR-10 setting
would take at that rate: 100 agents × 100 images, 50 rounds, 5 local epochs, 100 re-trainings with s = τ.
work: rounds of the small CNN on 10 agents × 100 images where everybody contributes all, half and a tenth.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from fedgame.learning import federated, local, models

SHAPES = {"cnn": (28, 28, 1), "cnn_wide": (28, 28, 1), "vgg11": (32, 32, 3)}
ONE_EPOCH = local.LocalTraining(epochs=1)


def rounds(name: str, agents: int, each: int, devices: int) -> Callable[[np.ndarray], float]:
    """A training run on random images, as a function from contributions to the seconds of its next round.

    Args:
      name: of the model.
      agents: how many.
      each: images of each agent.
      devices: processors that share the agents.
    """
    jax.config.update("jax_enable_x64", True)  # as in launch scripts
    jax.config.update("jax_num_cpu_devices", devices)
    model, rng = models.PRESETS[name], np.random.default_rng(0)
    images = rng.random((agents, each, *SHAPES[name]), np.float32)
    labels = rng.integers(0, 10, (agents, each)).astype(np.int32)
    mesh, key = federated.agents_mesh(), jax.random.key(0)
    params = jax.device_get(models.initial_parameters(model, key, SHAPES[name]))
    dealt, number = federated.place(federated.Images(images, labels), mesh), 0
    del images, labels

    def one(samples: np.ndarray) -> float:
        nonlocal params, number
        begin, number = time.perf_counter(), number + 1
        samples = samples.astype(np.int32)
        params = federated.federated_round(model, ONE_EPOCH, params, dealt, samples, key, number, mesh)
        jax.block_until_ready(params)
        return time.perf_counter() - begin

    return one


def compile_time(name: str, devices: str) -> str:
    one, samples = rounds(name, 2, 10, int(devices)), np.ones(2)
    begin = time.process_time()
    first = one(samples)
    used = time.process_time() - begin
    later = min(one(samples) for _ in range(3))
    return f"{first - later:5.2f} s, processor time {used:5.2f} s"


def memory(devices: str) -> str:
    samples = np.zeros(100)
    samples[[0, 99]] = 10
    seconds = rounds("vgg11", 100, 100, int(devices))(samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    return f"{peak:.2f} GiB, {seconds:.1f} s with compilation"


def speed(devices: str) -> str:
    one, samples = rounds("vgg11", 2, 50, int(devices)), np.full(2, 50)
    one(samples)
    rate = 100 / min(one(samples) for _ in range(3))
    hours = 50 * 5 * 100 * 100 / rate / 3600  # rounds, epochs, agents, images of each
    return f"{rate:.0f} images/s: the paper takes {hours:.1f} h a run, {hours * 100 / 24:.0f} days in all"


def work(devices: str) -> str:
    one, parts = rounds("cnn", 10, 100, int(devices)), {}
    one(np.full(10, 100))
    for each in (100, 50, 10):
        parts[each] = min(one(np.full(10, each)) for _ in range(5))
    return ", ".join(f"{each}%: {1e3 * t:.0f} ms ({t / parts[100]:.0%})" for each, t in parts.items())


def show(label: str, function: Callable, *arguments: object, cache: str | None = None) -> None:
    """Prints what the function returns in a process of its own, with or without a persistent cache."""
    environment = dict(os.environ)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    command = [sys.executable, __file__, "--measure", function.__name__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    print(f"{label:<46} {done.stdout.strip()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts, functions = ("compile", "memory", "speed", "work"), (compile_time, memory, speed, work)
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts, help="what to measure")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, *arguments = given.measure
        print({f.__name__: f for f in functions}[name](*arguments))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before, jax {jax.__version__}")
    for devices in (1, 2):
        where = f"{devices} device{'s' if devices > 1 else ''}"
        with tempfile.TemporaryDirectory() as cache:
            for name in SHAPES if "compile" in given.parts else ():
                show(f"compile {name}, {where}, no cache", compile_time, name, devices, cache=cache)
                show(f"compile {name}, {where}, cached", compile_time, name, devices, cache=cache)
        for name, function in (("memory", memory), ("speed", speed), ("work", work)):
            if name in given.parts:
                show(f"{name}, {where}", function, devices)


if __name__ == "__main__":
    main()
