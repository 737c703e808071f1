import jax
import jax.numpy as jnp
import pytest

from fedgame.learning import models


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        (models.CNN(), (8, 8, 1), 260 + 5020 + 4050 + 510),
        (models.CNN(), (32, 32, 3), 760 + 5020 + 64050 + 510),
        (models.CNN(padding="VALID"), (28, 28, 1), 21840),
        (models.PRESETS["cnn"], (28, 28, 1), 54840),
        (models.PRESETS["cnn_wide"], (28, 28, 1), 1663370),  # McMahan et al. (2017)
        (models.PRESETS["vgg11"], (32, 32, 3), 9_225_610),
        (models.VGG11(units=(4096, 4096)), (32, 32, 3), 9_220_480 + 2_101_248 + 16_781_312 + 40_970),
    ],
)
def test_shapes_types_and_parameter_counts(model, shape, parameters):
    params = models.initial_parameters(model, jax.random.key(0), shape)
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == parameters
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    logits = jax.eval_shape(model.apply, params, jax.ShapeDtypeStruct((3, *shape), jnp.float32))
    assert logits.shape == (3, 10)
    assert logits.dtype == jnp.float32


def test_vgg11_takes_no_smaller_images():
    with pytest.raises(ValueError, match="at least 32×32, got"):
        models.initial_parameters(models.VGG11(), jax.random.key(0), (28, 28, 1))
