import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedgame.learning import local

OPTIONS = local.LocalTraining(batch_size=4, epochs=3, learning_rate=0.1, momentum=0.9)
FULL_BATCH = OPTIONS._replace(full_batch=True)
PARAMS = {"w": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.zeros(3)}


def linear(params, images):
    return images.reshape(len(images), -1) @ params["w"] + params["b"]


compiled = jax.jit(local.train, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0})


def train(images, labels, samples, options=OPTIONS, params=PARAMS):
    return compiled(linear, options, params, images, labels, np.int32(samples), jax.random.key(0))


def some_images(seed=0, most=11):
    image_key, label_key = jax.random.split(jax.random.key(seed))
    images = jax.random.normal(image_key, (most, 1, 2, 1))
    return jax.device_get((images, jax.random.randint(label_key, (most,), 0, 3)))


@functools.partial(jax.jit, static_argnames="steps")
def full_batch_steps(images, labels, steps):
    """SGD with momentum written out by hand."""

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(linear(params, images), labels).mean()

    params, velocity = PARAMS, jax.tree.map(jnp.zeros_like, PARAMS)
    for _ in range(steps):
        gradient = jax.grad(loss)(params)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
    return params


@jax.jit
def losses(images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(linear(PARAMS, images), labels)


def close(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-12, atol=0)


def test_a_single_batch_is_gradient_descent_on_exactly_the_contributed_images():
    images, labels = some_images()
    trained, _ = train(images, labels, 4)
    close(trained, full_batch_steps(images[:4], labels[:4], steps=3))


@pytest.mark.parametrize(("samples", "batches"), [(3, 1), (4, 1), (5, 2), (9, 3), (11, 3)])
def test_every_epoch_has_all_batches_and_the_partial_one_is_averaged_over_its_own(samples, batches):
    image, label = some_images(most=1)  # equal images make the order irrelevant
    images, labels = np.repeat(image, 11, axis=0), np.repeat(label, 11)
    trained, _ = train(images, labels, samples)
    close(trained, full_batch_steps(image, label, steps=3 * batches))


@pytest.mark.parametrize("options", [OPTIONS, FULL_BATCH])
def test_images_beyond_the_contribution_are_never_seen(options):
    images, labels = some_images()
    changed = np.where(np.arange(11)[:, None, None, None] < 7, images, np.nan)
    for a, b in zip(train(images, labels, 7, options), train(changed, labels, 7, options), strict=True):
        chex.assert_trees_all_equal(a, b)


@pytest.mark.parametrize("options", [OPTIONS, FULL_BATCH])
def test_without_samples_nothing_changes(options):
    trained, loss = train(*some_images(), 0, options)
    chex.assert_trees_all_equal(trained, PARAMS)
    assert loss == 0


@pytest.mark.parametrize("samples", [1, 3, 4, 7, 11])
def test_a_full_batch_step_sums_batches_that_do_not_divide_the_samples(samples):
    images, labels = some_images()
    trained, loss = train(images, labels, samples, FULL_BATCH)
    close(trained, full_batch_steps(images[:samples], labels[:samples], steps=1))
    np.testing.assert_allclose(loss, np.mean(losses(images, labels)[:samples]), rtol=1e-12)


def test_a_loss_that_was_not_finite_is_told_though_the_next_is():
    huge = {"w": jnp.asarray([[-1.5e308, 0, 1.5e308], [0, 0, 0]]), "b": jnp.zeros(3)}
    images, labels = jnp.asarray([1.0, 0.0]).reshape(1, 1, 2, 1), jnp.zeros(1, jnp.int32)
    options = OPTIONS._replace(learning_rate=1.5e308, momentum=0.0, epochs=1)
    recovered, first = train(images, labels, 1, options, huge)
    assert np.isposinf(first)
    assert np.isfinite(train(images, labels, 1, options, recovered)[1])
    assert np.isposinf(train(images, labels, 1, options._replace(epochs=2), huge)[1])


def test_the_order_is_new_in_every_epoch():
    """Two epochs in one call differ from the same epoch twice only if the order changes."""
    images, labels = some_images()
    options = OPTIONS._replace(momentum=0.0, batch_size=1, epochs=1)
    repeated = PARAMS
    for _ in range(2):
        repeated, _ = train(images, labels, 11, options, repeated)
    both, _ = train(images, labels, 11, options._replace(epochs=2))
    assert not np.allclose(repeated["w"], both["w"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("samples", [1, 3, 7, 11])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_epoch_visits_every_contributed_sample_once(samples, batch_size):
    """The slope of image k is the k-th unit vector, so the model counts the visits, weighted in batches."""
    counts = np.zeros(11)
    images, labels = np.eye(11)[:, :, None, None], np.zeros(11, np.int32)
    options = OPTIONS._replace(batch_size=batch_size, epochs=5, momentum=0.0, learning_rate=1e-9)
    params = {"w": jnp.zeros((11, 2)), "b": jnp.zeros(2)}
    trained, _ = compiled(linear, options, params, images, labels, np.int32(samples), jax.random.key(1))
    moved = np.asarray(trained["w"][:, 0]) / (1e-9 * 0.5)  # the gradient of a loss at 0 is p - 1 = -1/2
    last = samples % batch_size or batch_size  # a sample in a partial batch weighs more
    counts[:samples] = 1
    assert (moved[samples:] == 0).all()
    np.testing.assert_allclose(np.sum(moved), 5 * -(-samples // batch_size), rtol=1e-6)
    lowest, highest = 5 / batch_size, 5 / last
    assert ((moved[:samples] >= lowest - 1e-6) & (moved[:samples] <= highest + 1e-6)).all()


def test_numbers_of_samples_side_by_side_give_the_same_as_one_by_one():
    images, labels = map(jnp.asarray, some_images())
    numbers = np.arange(12, dtype=np.int32)
    options = OPTIONS._replace(batch_size=4)
    together, losses = jax.jit(
        jax.vmap(lambda s: local.train(linear, options, PARAMS, images, labels, s, jax.random.key(0)))
    )(numbers)
    for s in numbers:
        alone, loss = train(images, labels, s, options)
        chex.assert_trees_all_close(jax.tree.map(lambda x, s=s: x[s], together), alone, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(losses[s], loss, rtol=1e-9)


def test_the_order_of_few_is_that_of_many_without_the_others():
    """More samples only come in between: mixtures have common random numbers."""
    images, labels = np.eye(11)[:, :, None, None], np.zeros(11, np.int32)
    options = OPTIONS._replace(batch_size=1, epochs=1, momentum=0.0, learning_rate=1.0)
    params = {"w": jnp.zeros((11, 2)), "b": jnp.zeros(2)}
    orders = []
    for samples in (5, 11):
        trained, _ = compiled(linear, options, params, images, labels, np.int32(samples), jax.random.key(1))
        moved = np.asarray(trained["w"][:samples, 0])  # the later, the less, as the bias learns
        orders.append([k for k in np.argsort(-moved).tolist() if k < 5])
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("samples", [1, 7, 11])
@pytest.mark.parametrize("options", [OPTIONS, FULL_BATCH])
def test_a_batch_is_at_most_what_an_agent_can_have(options, samples):
    """Whatever is asked for, the program holds no more images, and steps are those along all of hers."""
    images, labels = map(jnp.asarray, some_images())
    options = options._replace(batch_size=10**6)
    run = functools.partial(local.train, linear, options, PARAMS, images, labels)
    assert str(10**6) not in str(jax.make_jaxpr(run)(np.int32(samples), jax.random.key(0)))
    trained, _ = train(images, labels, samples, options)
    steps = 1 if options.full_batch else 3
    close(trained, full_batch_steps(images[:samples], labels[:samples], steps=steps))
