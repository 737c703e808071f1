import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedgame.learning import layers


def value_and_gradients(function, images, kernel):
    value, back = jax.vjp(function, images, kernel)
    return value, back(jnp.sin(1 + jnp.arange(value.size).reshape(value.shape)))


@functools.partial(
    jax.jit,
    static_argnames=("padding", "lowering"),
    compiler_options={"xla_backend_optimization_level": 0},  # compiles sooner
)
def both(images, kernel, padding, lowering):
    """Values and gradients of our layers, and of those of XLA and flax, from one compiled program."""
    options = {"padding": padding, "lowering": lowering}

    def native(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=numbers)

    ours = [lambda x, w, f=f: f(x, w, **options) for f in (layers.convolve, layers.convolve_and_pool)]
    theirs = [native, lambda x, w: nn.max_pool(native(x, w), (2, 2), (2, 2))]
    return [[value_and_gradients(f, images, kernel) for f in side] for side in (ours, theirs)]


@pytest.mark.parametrize(
    ("shape", "size", "padding", "lowering"),
    [
        ((2, 8, 8, 1), (3, 3), "SAME", "patches"),
        ((2, 7, 9, 4), (5, 3), "VALID", "patches"),
        ((1, 7, 8, 4), (5, 4), "SAME", "patches"),  # kernels of even size
        ((1, 6, 8, 20), (3, 3), "SAME", "patches"),  # too many channels for blocks
        ((2, 7, 9, 4), (5, 3), "VALID", "native"),
    ],
)
def test_patches_are_the_native_convolution_with_and_without_pooling(shape, size, padding, lowering):
    image_key, kernel_key = jax.random.split(jax.random.key(0))
    images = jax.random.normal(image_key, shape)
    kernel = jax.random.normal(kernel_key, (*size, shape[-1], 6))
    ours, theirs = both(images, kernel, padding, lowering)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), ours, theirs)


def test_only_one_place_decides_and_a_setting_overrules_it(monkeypatch):
    for platform, best in (("cpu", "patches"), ("gpu", "batched_patches"), ("tpu", "native")):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        assert [layers.chosen(x) for x in layers.LOWERINGS] == [best, *layers.LOWERINGS[1:]]
        assert layers.one_by_one() == (platform == "cpu")
    with pytest.raises(ValueError, match="must be one of auto, patches, batched_patches, native, got 'fast'"):
        layers.chosen("fast")


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 5, 2)])
def test_max_pool_is_flax_max_pool(shape):
    images = jax.random.normal(jax.random.key(1), shape)
    np.testing.assert_array_equal(layers.max_pool(images), nn.max_pool(images, (2, 2), (2, 2)))


def test_equal_pixels_share_the_gradient_of_pooling():
    gradient = jax.grad(lambda x: jnp.sum(layers.max_pool(x)))
    images = jnp.asarray([[1.0, 1.0], [0.0, 1.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(gradient(images)[0, ..., 0], [[1 / 3, 1 / 3], [0, 1 / 3]])
    np.testing.assert_allclose(gradient(jnp.zeros((1, 2, 2, 1)))[0, ..., 0], np.full((2, 2), 0.25))
