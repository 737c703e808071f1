import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame.learning import layers


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 3))])
@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (2, 7, 9, 4)])
def test_patches_convolution_is_the_native_one_with_its_gradients(shape, padding):
    image_key, kernel_key = jax.random.split(jax.random.key(0))
    images = jax.random.normal(image_key, shape)
    kernel = jax.random.normal(kernel_key, (5, 4, shape[-1], 6))

    def native(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=numbers)

    def patches(images, kernel):
        return layers.patches_convolution(images, kernel, (1, 1), padding)

    np.testing.assert_allclose(patches(images, kernel), native(images, kernel), rtol=1e-10, atol=1e-12)
    gradients = [
        jax.grad(lambda x, w, f=f: jnp.sum(jnp.sin(f(x, w))), argnums=(0, 1))(images, kernel)
        for f in (patches, native)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *gradients)


@pytest.mark.parametrize(
    "options", [{"strides": (2, 1)}, {"rhs_dilation": (1, 2)}, {"feature_group_count": 2}]
)
def test_patches_convolution_refuses_what_it_does_not_compute(options):
    images, kernel = jnp.zeros((1, 8, 8, 2)), jnp.zeros((3, 3, 2, 2))
    with pytest.raises(ValueError, match="strides and dilations of 1"):
        layers.patches_convolution(images, kernel, **{"strides": (1, 1), "padding": "SAME"} | options)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 5, 2)])
def test_max_pool_is_flax_max_pool(shape):
    images = jax.random.normal(jax.random.key(1), shape)
    np.testing.assert_array_equal(layers.max_pool(images), nn.max_pool(images, (2, 2), (2, 2)))
