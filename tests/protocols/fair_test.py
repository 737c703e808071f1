"""AFL and q-FFL against numpy on a linear model with two classes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.learning import federated, local, trainer
from fedgame.protocols import afl, base, fedavg, qffl

SAMPLES, RATE = [3, 5, 4], 0.1


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(2, use_bias=False)(images.reshape(len(images), -1))


def federation(samples=SAMPLES):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(len(samples), max(samples), 1, 2, 1)).astype(np.float32)
    labels = rng.integers(0, 2, (len(samples), max(samples)))
    labels[0] = 0  # agents differ, so that it matters whom a rule listens to
    data = federated.Images(jnp.asarray(images), jnp.asarray(labels, jnp.int32))
    options = local.LocalTraining(full_batch=True, learning_rate=RATE)
    learning = trainer.Trainer(Linear(), options, data, jax.random.key(0), test=data)
    return learning, images.squeeze((2, 4)), labels


START = np.array([[0.3, -0.2], [0.1, 0.4]])


def started(protocol, samples=SAMPLES):
    """The plan of a protocol that depends on nothing but the capacities."""
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(0.01), samples))
    return protocol.start(game, protocol.rule.announced(game), None)


def parameters(weights):
    return {"params": {"Dense_0": {"kernel": jnp.asarray(weights, jnp.float32)}}}


def weights_of(params):
    return np.asarray(params["params"]["Dense_0"]["kernel"])


def loss_and_step(weights, images, labels):
    """Mean cross entropy of softmax(x W), and W after one step along its gradient."""
    logits = images @ weights
    chance = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
    truth = np.eye(2)[labels]
    gradient = images.T @ (chance - truth) / len(images)
    return -np.mean(np.log(np.sum(chance * truth, axis=1))), weights - RATE * gradient


def by_hand(weights, images, labels, samples):
    pairs = [loss_and_step(weights, images[i][:m], labels[i][:m]) for i, m in enumerate(samples)]
    return np.array([loss for loss, _ in pairs]), [after for _, after in pairs]


def nearest_on_simplex(v):
    """The nearest of the projections on all faces that lie in the simplex."""
    best = None
    for mask in range(1, 2 ** len(v)):
        face = np.array([mask >> i & 1 for i in range(len(v))], bool)
        x = np.where(face, v - (np.sum(v[face]) - 1) / np.sum(face), 0.0)
        if np.all(x >= 0) and (best is None or np.sum((x - v) ** 2) < np.sum((best - v) ** 2)):
            best = x
    return best


@pytest.mark.parametrize("rate", [0.1, 2.0, 30.0])
def test_afl_by_hand(rate):
    learning, images, labels = federation()
    protocol = afl.AFL(rate)
    plan, params = started(protocol), parameters(START)
    weights, mixture = START, np.full(3, 1 / 3)
    for number in range(1, 5):
        _, after = by_hand(weights, images, labels, SAMPLES)
        weights = sum(share * one for share, one in zip(mixture, after, strict=True))
        mixture = nearest_on_simplex(mixture + rate * by_hand(weights, images, labels, SAMPLES)[0])
        params = protocol.train(learning, params, plan, number)
        plan = protocol.adapt(plan, learning, params)
        np.testing.assert_allclose(weights_of(params), weights, rtol=1e-5)
        np.testing.assert_allclose(plan.memory, mixture, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(plan.profile, SAMPLES)
    assert plan.memory.shape == (3,)
    if rate == 30.0:
        assert np.max(plan.memory) == 1.0  # nobody but the agent who is worst off


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 5.0])
def test_qffl_by_hand(q):
    learning, images, labels = federation()
    protocol = qffl.QFFL(q)
    plan, params, weights = started(protocol), parameters(START), START
    for number in range(1, 4):
        losses, after = by_hand(weights, images, labels, SAMPLES)
        moved = [(weights - one) / RATE for one in after]
        norms = [q * f ** (q - 1) * np.sum(w**2) + f**q / RATE for f, w in zip(losses, moved, strict=True)]
        weights = weights - sum(f**q * w for f, w in zip(losses, moved, strict=True)) / sum(norms)
        params = protocol.train(learning, params, plan, number)
        np.testing.assert_allclose(weights_of(params), weights, rtol=1e-5)
        assert protocol.adapt(plan, learning, params) is plan


def test_qffl_without_fairness_is_fedavg_of_equal_agents():
    samples = [4, 4, 4]
    learning, *_ = federation(samples)
    params = parameters(START)
    rounds = [
        protocol.train(learning, params, started(protocol, samples), 1)
        for protocol in (fedavg.FedAvg(), qffl.QFFL(0.0))
    ]
    np.testing.assert_allclose(*map(weights_of, rounds), rtol=1e-6)


@pytest.mark.parametrize("q", [0.0, 0.5, 8.0])
def test_qffl_without_data_counts_nobody(q):
    learning, *_ = federation()
    protocol = qffl.QFFL(q)
    first_two = learning._replace(train=jax.tree.map(lambda x: x[:2], learning.train))
    found = protocol.train(learning, parameters(START), started(protocol, [3, 5, 0]), 1)
    expected = protocol.train(first_two, parameters(START), started(protocol, [3, 5]), 1)
    np.testing.assert_allclose(weights_of(found), weights_of(expected), rtol=1e-6)
    kept = protocol.train(learning, parameters(START), started(protocol, [0, 0, 0]), 1)
    np.testing.assert_array_equal(weights_of(kept), START.astype(np.float32))


def test_a_whole_run_charges_all_data_and_keeps_the_plan_in_shape():
    learning, *_ = federation()
    for protocol in (afl.AFL(1.0), qffl.QFFL(1.0)):
        plan = started(protocol)
        outcome = base.run(protocol, plan, learning, parameters(START), 3)
        np.testing.assert_array_equal(outcome.charged, SAMPLES)
        assert jax.tree.map(np.shape, outcome.plan) == jax.tree.map(np.shape, plan)
        assert type(protocol).__name__ in base.identity(protocol)["rule"]


@pytest.mark.parametrize("rate", [0.0, -1.0, np.inf, np.nan])
def test_rates_that_are_none(rate):
    with pytest.raises(ValueError, match="`rate` must be"):
        afl.AFL(rate)
    with pytest.raises(ValueError, match="`q` must be a number, at least 0"):
        qffl.QFFL(-1.0)
