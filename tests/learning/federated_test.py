import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedgame.learning import evaluation, federated, local, models


class Linear(nn.Module):
    """Quick to compile; what is averaged does not matter to the average."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


MODEL = Linear()
OPTIONS = local.LocalTraining(batch_size=2, epochs=2, learning_rate=0.1)
FULL_BATCH = OPTIONS._replace(full_batch=True)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def agents():
    images = jax.random.uniform(jax.random.key(0), (3, 6, 8, 8, 1), jnp.float32)
    labels = jax.random.randint(jax.random.key(1), (3, 6), 0, 10, jnp.int32)
    return federated.Images(images, labels)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(2), jnp.zeros((1, 8, 8, 1), jnp.float32))


quick = jax.jit(
    federated.weighted_change,
    static_argnames=("model", "options", "mesh"),
    compiler_options={"xla_backend_optimization_level": 0},
)


def average(params, agents, samples, options=OPTIONS, model=MODEL, server_rate=1.0):
    """The new model and the losses."""
    samples = np.asarray(samples, np.int32)
    weights = np.asarray(samples / max(np.sum(samples), 1), np.float32)
    change, losses, _ = quick(model, options, params, agents, samples, weights, KEY)
    return federated.add(params, change, server_rate), losses


def close(a, b, rtol=1e-5):
    chex.assert_trees_all_close(a, b, rtol=rtol, atol=1e-7)


@jax.jit
def gradient(params, images, labels):
    """The gradient of the mean loss over these images, without any of the code under test."""

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(MODEL.apply(params, images), labels).mean()

    return jax.grad(loss)(params)


def stepped(params, slope):
    """After one step of gradient descent."""
    return jax.tree.map(lambda p, g: np.asarray(p) - np.float32(0.1) * np.asarray(g), params, slope)


def test_average_is_weighted_by_samples(params, agents):
    train = jax.jit(local.sgd, static_argnums=(0, 1))
    keys = jax.random.split(KEY, 3)
    images, labels = jax.device_get(agents)
    a, _ = train(MODEL.apply, OPTIONS, params, images[0], labels[0], np.int32(1), keys[0])
    c, _ = train(MODEL.apply, OPTIONS, params, images[2], labels[2], np.int32(5), keys[2])
    start, a, c = jax.device_get((params, a, c))
    for rate in (1.0, 0.5):
        expected = jax.tree.map(lambda p, a, c: p + rate * ((a - p) + 5 * (c - p)) / 6, start, a, c)  # noqa: B023
        close(average(params, agents, [1, 0, 5], server_rate=rate)[0], expected)


@pytest.mark.parametrize("samples", [[5, 0, 3], [0, 1, 0], [6, 6, 6]])
def test_a_full_batch_round_is_one_gradient_step_on_the_union(params, agents, samples):
    """Algorithms 1 and 2, lines 6-11, though no agent's samples are a multiple of the batch."""
    kept = jax.device_get(agents)
    images, labels = (np.concatenate([x[i, :s] for i, s in enumerate(samples)]) for x in kept)
    expected = stepped(params, gradient(params, images, labels))
    poisoned = np.array(kept.images)
    poisoned[1, max(samples[1], 1) :] = np.nan  # nobody sees what is not contributed
    close(average(params, agents._replace(images=jnp.asarray(poisoned)), samples, FULL_BATCH)[0], expected)


def test_momentum_starts_at_zero_in_every_round(params, agents):
    options = OPTIONS._replace(batch_size=6, epochs=1)
    (images, labels), trained, expected = jax.device_get(agents), params, params
    for number in (1, 2):
        trained = federated.federated_round(MODEL, options, trained, agents, np.array([6, 0, 0]), KEY, number)
        expected = stepped(expected, gradient(expected, images[0], labels[0]))
    close(trained, expected)


def test_batched_agents_of_accelerators_give_the_same(params, agents):
    cnn = models.CNN(channels=(2, 3), units=5)
    weights = models.initial_parameters(cnn, KEY, (8, 8, 1))
    results = [
        average(weights, agents, [2, 0, 5], OPTIONS._replace(lowering=x), cnn.clone(lowering=x))
        for x in ("patches", "batched_patches", "native")
    ]
    for result in results[1:]:
        close(results[0], result, rtol=1e-4)
    results = [
        average(params, agents, [2, 0, 5], FULL_BATCH._replace(lowering=x)) for x in ("patches", "native")
    ]
    close(*results)


def test_an_agent_without_samples_takes_no_part(params, agents):
    changed = agents._replace(images=agents.images.at[1].set(jnp.nan))
    chex.assert_trees_all_equal(average(params, agents, [3, 0, 2]), average(params, changed, [3, 0, 2]))


@pytest.mark.parametrize("options", [OPTIONS, FULL_BATCH])
def test_nobody_contributing_returns_the_initial_model(params, agents, options):
    chex.assert_trees_all_equal(
        federated.federated_round(MODEL, options, params, agents, np.zeros(3, np.int32), KEY, 1), params
    )


def test_no_recompilation_when_contributions_change(params, agents):
    rounds = [
        federated.federated_round(MODEL, OPTIONS, params, agents, np.array(samples, np.int32), KEY, 1)
        and federated.weighted_change._cache_size()
        for samples in ([1, 1, 1], [6, 2, 0], [0, 0, 0])
    ]
    assert rounds[0] == rounds[1] == rounds[2]


def test_divergence_names_the_round_and_the_agents(params, agents):
    broken = agents._replace(images=agents.images.at[2].set(jnp.inf))
    samples = jnp.asarray([1, 1, 1], jnp.int32)
    with pytest.raises(FloatingPointError, match=r"round 7: the loss of agents \[2\]"):
        federated.federated_round(MODEL, OPTIONS, params, broken, samples, KEY, 7)


@pytest.mark.parametrize("full_batch", [False, True])
def test_overflow_in_the_last_step_does_not_pass_as_a_model(params, agents, full_batch):
    options = OPTIONS._replace(batch_size=6, epochs=1, learning_rate=1e38, full_batch=full_batch)
    agents = agents._replace(images=100 * agents.images)  # the loss is finite, the step is not
    with pytest.raises(FloatingPointError, match=r"round 2: the loss of agents \[1\]"):
        federated.federated_round(MODEL, options, params, agents, np.array([0, 6, 0]), KEY, 2)


@pytest.mark.parametrize("shape", [(3, 6), (3, 70), (130,), (100,), (1,)])
def test_accuracy_counts_right_labels_per_owner(params, shape):
    """Fewer images than a batch, and numbers that batches do not divide."""
    images = np.random.default_rng(4).random((*shape, 8, 8, 1), np.float32)
    logits = images.reshape(*shape, 64) @ np.asarray(params["params"]["Dense_0"]["kernel"])
    right = np.argmax(logits, axis=-1)  # the biases are 0
    labels = np.where(np.random.default_rng(0).random(shape) < 0.6, right, (right + 1) % 10)
    found = evaluation.accuracy(
        MODEL, params, federated.Images(jnp.asarray(images), jnp.asarray(labels, jnp.int32))
    )
    np.testing.assert_allclose(found, np.mean(labels == right, axis=-1), rtol=1e-6)


def test_one_program_serves_every_round_and_profile(params, agents, monkeypatch):
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(federated.weighted_change.__wrapped__, n=1)
    static = ("model", "options", "mesh")
    monkeypatch.setattr(federated, "weighted_change", jax.jit(counted, static_argnames=static))
    trained = params
    for number, samples in enumerate(([1, 0, 5], [6, 6, 6], [0, 0, 0]), 1):
        samples = np.array(samples, np.int32)
        trained = federated.federated_round(MODEL, OPTIONS, trained, agents, samples, KEY, number)
    chex.assert_trees_all_equal_shapes_and_dtypes(trained, params)
