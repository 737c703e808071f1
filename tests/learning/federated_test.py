import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame.learning import federated, layers, local, models

MODEL = models.CNN(channels=(2, 3), units=5)
OPTIONS = local.LocalTraining(batch_size=2, epochs=2)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def agents():
    images = jax.random.uniform(jax.random.key(0), (3, 6, 8, 8, 1), jnp.float32)
    labels = jax.random.randint(jax.random.key(1), (3, 6), 0, 10, jnp.int32)
    return federated.Images(images, labels)


@pytest.fixture(scope="module")
def params():
    return models.initial_parameters(MODEL, jax.random.key(2), (8, 8, 1))


def average(params, agents, samples, **options):
    return federated.average(MODEL, OPTIONS, params, agents, jnp.asarray(samples, jnp.int32), KEY, **options)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


@pytest.mark.parametrize("server_rate", [1.0, 0.5])
def test_average_is_weighted_by_samples(params, agents, server_rate):
    samples = [1, 0, 5]
    alone = [
        local.sgd(MODEL.apply, OPTIONS, params, agents.images[i], agents.labels[i], jnp.int32(s), key)[0]
        for i, (s, key) in enumerate(zip(samples, jax.random.split(KEY, 3), strict=True))
    ]
    expected = jax.tree.map(
        lambda p, a, c: p + server_rate * ((a - p) / 6 + 5 * (c - p) / 6), params, alone[0], alone[2]
    )
    trained, _ = average(params, agents, samples, server_rate=server_rate)
    close(trained, expected)


def test_the_batched_path_of_accelerators_gives_the_same(params, agents, monkeypatch):
    one_by_one, losses = average(params, agents, [2, 0, 6])
    monkeypatch.setattr(layers, "on_cpu", lambda: False)
    model = models.CNN(channels=(2, 3), units=5, classes=10)
    batched = jax.jit(federated.average.__wrapped__, static_argnums=(0, 1))
    trained, batched_losses = batched(model, OPTIONS, params, agents, jnp.asarray([2, 0, 6], jnp.int32), KEY)
    close(trained, one_by_one)
    close(batched_losses, losses)


def test_an_agent_without_samples_takes_no_part(params, agents):
    changed = agents._replace(images=agents.images.at[1].set(jnp.nan))
    for a, b in zip(average(params, agents, [3, 0, 2]), average(params, changed, [3, 0, 2]), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_nobody_contributing_returns_the_initial_model(params, agents):
    trained = federated.federated_round(MODEL, OPTIONS, params, agents, jnp.zeros(3, jnp.int32), KEY, 1)
    jax.tree.map(np.testing.assert_array_equal, trained, params)


def test_no_recompilation_when_contributions_change(params, agents):
    average(params, agents, [1, 1, 1])
    before = federated.average._cache_size()
    average(params, agents, [6, 2, 0])
    assert federated.average._cache_size() == before


def test_divergence_names_the_round_and_the_agents(params, agents):
    broken = agents._replace(images=agents.images.at[2].set(jnp.inf))
    samples = jnp.asarray([1, 1, 1], jnp.int32)
    with pytest.raises(FloatingPointError, match=r"round 7: the loss of agents \[2\]"):
        federated.federated_round(MODEL, OPTIONS, params, broken, samples, KEY, 7)


def test_accuracy_counts_right_labels_per_owner(params, agents):
    logits = [MODEL.apply(params, images) for images in agents.images]
    expected = [np.mean(np.argmax(x, -1) == y) for x, y in zip(logits, agents.labels, strict=True)]
    np.testing.assert_array_equal(federated.accuracy(MODEL, params, agents), expected)
    one = federated.Images(agents.images[0], agents.labels[0])
    assert federated.accuracy(MODEL, params, one) == expected[0]
