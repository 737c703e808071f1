"""Convolution and pooling in the form that is fast on the platform at hand.

With one set of weights per agent, a native convolution under `vmap` becomes a grouped convolution. XLA's
CPU back end runs it some 20 times slower than the same sum as image patches times a matrix, and gains
nothing from batching over agents. On an NVIDIA H100 patches are 2 to 3.5 times faster as well, batched
over agents (`benchmarks/against_pytorch.py`). TPUs, which nobody has timed, get the native convolution.
`chosen` is the one place that decides.

What is left on a CPU is memory traffic: the patches of 5×5 pixels are 25 copies of an image. Where
pooling follows and channels are few, `_blocks` needs 9 copies instead of 25.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

LOWERINGS = ("auto", "patches", "batched_patches", "native")
_FEW_CHANNELS = (
    16  # on CPUs, up to here 44% more arithmetic (5×5) cost less than the memory traffic they save
)


def chosen(lowering: str = "auto") -> str:
    """How to compute: convolutions as patches or native, agents one at a time or batched by `vmap`.

    Args:
      lowering: "auto" looks at the platform; "patches" (one agent at a time), "batched_patches" and "native"
        (XLA's convolution, batched) overrule it.

    Returns:
      One of `LOWERINGS`, but not "auto".

    Raises:
      ValueError: `lowering` is none of these.
    """
    if lowering not in LOWERINGS:
        raise ValueError(f"`lowering` must be one of {', '.join(LOWERINGS)}, got {lowering!r}")
    if lowering != "auto":
        return lowering
    return {"cpu": "patches", "gpu": "batched_patches"}.get(jax.default_backend(), "native")


def one_by_one(lowering: str = "auto") -> bool:
    """Whether agents are trained one at a time, not batched; arguments as of `chosen`."""
    return chosen(lowering) == "patches"


def convolve(
    images: jax.Array, kernel: jax.Array, padding: str = "SAME", lowering: str = "auto"
) -> jax.Array:
    """The convolution (cross-correlation) of stride 1, [b, h, w, c] and [kh, kw, c, d] -> [b, h', w', d]."""
    if chosen(lowering) == "native":
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return _times_patches(_padded(images, kernel, padding), kernel)


def convolve_and_pool(
    images: jax.Array, kernel: jax.Array, padding: str = "SAME", lowering: str = "auto"
) -> jax.Array:
    """`max_pool(convolve(…))`, [b, h, w, c] and [kh, kw, c, d] -> [b, h'//2, w'//2, d]."""
    kh, kw, c, _ = kernel.shape
    if chosen(lowering) != "native" and c <= _FEW_CHANNELS and kh % 2 and kw % 2:
        return _blocks(_padded(images, kernel, padding), kernel)
    return max_pool(convolve(images, kernel, padding, lowering))


def max_pool(images: jax.Array) -> jax.Array:
    """The maximum of each 2×2 block, [b, h, w, c] -> [b, h//2, w//2, c]; odd edges are dropped.

    It is a reshape and a maximum, because the gradient of `reduce_window` is slow on CPUs.
    """
    b, h, w, c = images.shape
    h, w = h // 2, w // 2
    return _largest(images[:, : 2 * h, : 2 * w].reshape(b, h, 2, w, 2, c), (2, 4))


def _padded(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    pads = jax.lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], (1, 1), padding)
    return jnp.pad(images, ((0, 0), *pads, (0, 0)))


def _times_patches(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution without padding, as patches [b·h'·w', kh·kw·c] times a matrix."""
    kh, kw, c, d = kernel.shape
    b, h, w = images.shape[0], images.shape[1] - kh + 1, images.shape[2] - kw + 1
    patches = [images[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
    patches = jnp.concatenate(patches, axis=-1).reshape(b * h * w, kh * kw * c)
    return _product(patches, kernel.reshape(kh * kw * c, d)).reshape(b, h, w, d)


@jax.custom_vjp
def _product(patches: jax.Array, kernel: jax.Array) -> jax.Array:
    """patches [rows, k] @ kernel [k, d], with the kernel's gradient in the form that XLA's CPU is fast at."""
    return patches @ kernel


def _product_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, ...]:
    patches, kernel = saved
    if kernel.shape[0] <= kernel.shape[1]:
        return gradient @ kernel.T, patches.T @ gradient
    transposed = jax.lax.dot_general(gradient, patches, (((0,), (0,)), ((), ())))  # gradient.T @ patches
    return gradient @ kernel.T, jax.lax.optimization_barrier(transposed).T  # or XLA would swap them back


_product.defvjp(lambda patches, kernel: (patches @ kernel, (patches, kernel)), _product_backward)


def _blocks(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution and pooling at once: a convolution of 2×2 blocks that yields each block's four outputs.

    Four pixels of an image become one of 4c channels; the (kh, kw) kernel, shifted to each pixel of a
    block, becomes one of ((kh+1)/2, (kw+1)/2) with 4c inputs and 4d outputs. The maximum over the four is
    then taken within a row of the matrix product.
    """
    kh, kw, c, d = kernel.shape
    shifted = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)]
    kernel = _space_to_depth(jnp.stack(shifted, axis=-2).reshape(1, kh + 1, kw + 1, c * 4 * d))[0]
    kernel = kernel.reshape((kh + 1) // 2, (kw + 1) // 2, 4 * c, 4 * d)
    h, w = (images.shape[1] - kh + 1) // 2, (images.shape[2] - kw + 1) // 2
    outputs = _times_patches(_space_to_depth(images[:, : 2 * h + kh - 1, : 2 * w + kw - 1]), kernel)
    return _largest(outputs.reshape(-1, h, w, 4, d), (3,))


def _space_to_depth(images: jax.Array) -> jax.Array:
    """[b, 2h, 2w, c] -> [b, h, w, 4c]."""
    b, h, w, c = images.shape
    blocks = images.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(b, h // 2, w // 2, 4 * c)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """`jnp.max(x, axes)`, with the same gradient, which equal entries share, in one pass over x."""
    return jnp.max(x, axes)


def _largest_forward(x: jax.Array, axes: Sequence[int]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    largest = jnp.max(x, axes)
    return largest, (x, largest)


def _largest_backward(
    axes: Sequence[int], saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    x, largest = saved
    hits = x == jnp.expand_dims(largest, axes)
    # How many entries are largest, added up: a reduction would be a pass more.
    number = jnp.zeros_like(gradient)
    for place in itertools.product(*(range(x.shape[axis]) for axis in axes)):
        index = [slice(None)] * x.ndim
        for axis, position in zip(axes, place, strict=True):
            index[axis] = position
        number += hits[tuple(index)]
    return (jnp.where(hits, jnp.expand_dims(gradient / number, axes), 0),)


_largest.defvjp(_largest_forward, _largest_backward)
