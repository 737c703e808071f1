import jax
import jax.numpy as jnp
import numpy as np
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
        (models.PRESETS["linear"], (7,), 7 * 2 + 2),
        (models.Linear(classes=10), (4, 4, 3), 48 * 10 + 10),
        (models.PRESETS["mlp"], (7,), 7 * 32 + 32 + 32 * 2 + 2),
        (models.MLP(classes=10, units=5), (4, 4, 3), 48 * 5 + 5 + 5 * 10 + 10),
        (models.PRESETS["vgg11"], (32, 32, 3), 9_225_610),
        (models.PRESETS["vgg11_4096"], (32, 32, 3), 9_220_480 + 2_101_248 + 16_781_312 + 40_970),
    ],
)
def test_shapes_types_and_parameter_counts(model, shape, parameters):
    params = jax.eval_shape(lambda key: models.initial_parameters(model, key, shape), jax.random.key(0))
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == parameters
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    logits = jax.eval_shape(model.apply, params, jax.ShapeDtypeStruct((3, *shape), jnp.float32))
    assert logits.shape == (3, model.classes)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("model", "shape", "convolutions"), [(models.CNN(), (8, 8, 1), 2), (models.VGG11(), (32, 32, 3), 8)]
)
def test_a_setting_decides_how_every_convolution_is_computed(model, shape, convolutions):
    images = jnp.zeros((1, *shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)
    for lowering, expected in (("patches", 0), ("native", convolutions)):
        jaxpr = jax.make_jaxpr(model.clone(lowering=lowering).apply)(params, images)
        assert str(jaxpr).count("conv_general_dilated[") == expected


def test_initial_weights_are_he_normal_and_biases_zero():
    """The variance of weights is 2 / inputs, also in the last layer, and no two kernels are equal."""
    quick = {"static_argnums": (0, 2), "compiler_options": {"xla_backend_optimization_level": 0}}
    initial = jax.jit(models.initial_parameters, **quick)
    layers = jax.device_get(initial(models.CNN(channels=(8, 16)), jax.random.key(0), (8, 8, 1)))["params"]
    for layer in layers.values():
        inputs = layer["kernel"].size // layer["kernel"].shape[-1]
        np.testing.assert_allclose(np.std(layer["kernel"]) * np.sqrt(inputs / 2), 1, atol=0.2)
        assert not layer["bias"].any()
    assert len({float(layer["kernel"].ravel()[0]) for layer in layers.values()}) == len(layers) == 4


def test_vgg11_takes_no_smaller_images():
    with pytest.raises(ValueError, match="at least 32×32, got"):
        models.initial_parameters(models.VGG11(), jax.random.key(0), (28, 28, 1))


def test_logistic_regression_starts_at_0_and_is_linear():
    rng = np.random.default_rng(0)
    records = rng.normal(size=(5, 2, 3)).astype(np.float32)
    params = models.initial_parameters(models.Linear(classes=4), jax.random.key(0), (2, 3))
    np.testing.assert_array_equal(models.Linear(classes=4).apply(params, records), np.zeros((5, 4)))
    kernel, bias = rng.normal(size=(6, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
    found = models.Linear(classes=4).apply({"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}, records)
    np.testing.assert_allclose(found, records.reshape(5, 6) @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_the_mlp_has_one_hidden_layer_with_relu():
    model, records = models.MLP(classes=3, units=4), np.random.default_rng(0).normal(size=(5, 2))
    params = models.initial_parameters(model, jax.random.key(1), (2,))
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    hidden = np.maximum(records @ first["kernel"] + first["bias"], 0)
    assert ((hidden == 0).any(), (hidden > 0).any()) == (True, True)
    want = hidden @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(model.apply(params, jnp.asarray(records, jnp.float32)), want, rtol=1e-5)
