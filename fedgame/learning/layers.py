"""Convolution and pooling in the form that is fast on the platform at hand.

With one set of weights per agent, a native convolution under `vmap` becomes a grouped convolution.
GPUs and TPUs are built for it; XLA's CPU back end runs it some 20 times slower than the same sum as
image patches times a matrix, and gains nothing from batching over agents. `on_cpu` is the one place
that decides.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def on_cpu() -> bool:
    """Whether JAX computes on a CPU: patches and one agent at a time, else native and batched."""
    return jax.default_backend() == "cpu"


def convolution() -> Callable:
    """What flax `nn.Conv` should call here."""
    return patches_convolution if on_cpu() else jax.lax.conv_general_dilated


def patches_convolution(
    images: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for stride 1 and NHWC images, as patches times a matrix.

    Args:
      images: [b, h, w, c].
      kernel: [kh, kw, c, d].
      strides: all 1.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      **options: what flax passes beside; dilated or grouped convolutions are not offered.

    Returns:
      [b, h', w', d].
    """
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    if set(strides) | set(dilations) > {1} or options.get("feature_group_count", 1) != 1:
        raise ValueError("patches_convolution needs strides and dilations of 1 and a single group")
    kh, kw, c, d = kernel.shape
    pads = (
        jax.lax.padtype_to_pads(images.shape[1:3], (kh, kw), (1, 1), padding)
        if isinstance(padding, str)
        else padding
    )
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    b, h, w = images.shape[0], images.shape[1] - kh + 1, images.shape[2] - kw + 1
    patches = [images[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
    patches = jnp.concatenate(patches, axis=-1).reshape(b * h * w, kh * kw * c)
    return (patches @ kernel.reshape(kh * kw * c, d)).reshape(b, h, w, d)


def max_pool(images: jax.Array) -> jax.Array:
    """The largest of each 2×2 block, [b, h, w, c] -> [b, h//2, w//2, c]; odd edges are dropped.

    A reshape and a maximum: the gradient of `reduce_window` is slow on CPUs.
    """
    b, h, w, c = images.shape
    h, w = h // 2, w // 2
    return images[:, : 2 * h, : 2 * w].reshape(b, h, 2, w, 2, c).max(axis=(2, 4))
