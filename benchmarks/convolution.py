"""A federated round on this CPU: convolution as patches × matrix against `lax.conv`, one run, ratios.

  python benchmarks/convolution.py          # about 1 minute on two cores

CNN 10/20/50 on 28×28 images, ten agents × 100 images, batch 10, one local epoch. The last rows show that
the time of a round follows Σ s_i.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.learning import federated, layers, local, models

AGENTS, IMAGES, REPEATS = 10, 100, 3
OPTIONS = local.LocalTraining(epochs=1)


def seconds_per_round(patches: bool, one_by_one: bool, samples: int = IMAGES) -> float:
    """The fastest of a few rounds after compilation, with the lowering named."""
    convolution = layers.patches_convolution if patches else jax.lax.conv_general_dilated
    layers.convolution, layers.on_cpu = lambda: convolution, lambda: one_by_one
    model = models.CNN(padding="VALID")
    images = jax.random.uniform(jax.random.key(0), (AGENTS, IMAGES, 28, 28, 1), jnp.float32)
    agents = federated.Images(images, jnp.zeros((AGENTS, IMAGES), jnp.int32))
    params = models.initial_parameters(model, jax.random.key(1), (28, 28, 1))
    step = jax.jit(federated.average.__wrapped__, static_argnames=("model", "options"))
    counts = jnp.full(AGENTS, samples, jnp.int32)
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(step(model, OPTIONS, params, agents, counts, jax.random.key(2)))
        times.append(time.perf_counter() - begin)
    jax.clear_caches()
    return float(np.min(times[1:]))


def main() -> None:
    reference = seconds_per_round(patches=False, one_by_one=False)
    print(f"{'lowering':<45} images/s   times lax.conv under vmap")
    for name, patches, one_by_one in (
        ("lax.conv, vmap over agents", False, False),
        ("lax.conv, one agent at a time", False, True),
        ("patches × matrix, vmap over agents", True, False),
        ("patches × matrix, one agent at a time (ours)", True, True),
    ):
        seconds = seconds_per_round(patches, one_by_one) if patches or one_by_one else reference
        print(f"{name:<45} {AGENTS * IMAGES / seconds:8.0f}   {reference / seconds:.1f}", flush=True)
    full = seconds_per_round(patches=True, one_by_one=True)
    for samples in (50, 10):
        seconds = seconds_per_round(patches=True, one_by_one=True, samples=samples)
        share = samples / IMAGES
        print(f"time of a round with {share:.0%} of the samples, of a full one: {seconds / full:.1%}")


if __name__ == "__main__":
    main()
