"""How good a model is on the images, or the rows of tables, of one owner or of every agent."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame.learning import federated, local

_BATCH = 100  # images at a time: the patches of a whole test set would fill the memory
METRICS = ("accuracy", "auc", "log_loss")


@functools.partial(jax.jit, static_argnames=("model",))
def accuracy(model: nn.Module, params: Any, data: federated.Images) -> jax.Array:
    """The share of images that the model labels correctly.

    Args:
      model: a flax module.
      params: its parameters.
      data: images [..., m, h, w, c] and labels [..., m]; those labelled -1 are not counted.

    Returns:
      [...], in [0, 1].
    """
    there = data.labels >= 0
    hits = (jnp.argmax(_logits(model, params, data), axis=-1) == data.labels) & there
    return jnp.sum(hits, axis=-1) / jnp.sum(there, axis=-1)


@functools.partial(jax.jit, static_argnames=("model",))
def logits(model: nn.Module, params: Any, data: federated.Images) -> jax.Array:
    """What the model says of every image, [..., m, classes]; arguments as of `accuracy`."""
    return _logits(model, params, data)


def _logits(model: nn.Module, params: Any, data: federated.Images) -> jax.Array:
    owners = data.labels.shape
    flat = data.images.reshape(-1, *data.images.shape[len(owners) :])
    number, batch = len(flat), min(_BATCH, len(flat))
    missing = -number % batch  # images of zeros that fill the last batch
    filled = jnp.pad(flat, [(0, missing), *[(0, 0)] * (flat.ndim - 1)])
    batches = filled.reshape(-1, batch, *flat.shape[1:])
    found = jax.lax.map(lambda images: model.apply(params, images), batches)
    return found.reshape(-1, found.shape[-1])[:number].reshape(*owners, -1)


def measured(model: nn.Module, params: Any, data: federated.Images, metric: str) -> np.ndarray:
    """`metric_of` what the model says of the data; arguments and results as there and of `accuracy`."""
    if metric == "accuracy":
        return np.asarray(accuracy(model, params, data))
    return metric_of(metric, logits(model, params, data), data.labels)


def metric_of(metric: str, logits: Any, labels: Any) -> np.ndarray:
    """A metric of what a model says, the larger the better, in [0, 1].

    - "accuracy": the share of correct labels.
    - "auc": the area under the receiver operating characteristic, which is the probability that a record of
      a class is ranked above one of another class, ties counting half; of two classes that of the second
      one, of more the mean over the classes that occur ("one versus rest").
    - "log_loss": 1 - the mean cross entropy in nats, and 0 if that is above 1.

    Args:
      metric: one of METRICS.
      logits: [..., m, classes].
      labels: [..., m]; records labelled -1 are not counted.

    Returns:
      [...]; NaN where it is not defined: there are no records or, for "auc", only those of one class.
    """
    return mean_of(metric, values_of(metric, logits, labels))


def mean_of(metric: str, values: np.ndarray) -> np.ndarray:
    """The metric [...] from what `values_of` says of each record, [..., m]; NaN where it is not defined."""
    there = np.isfinite(values)
    number = np.sum(there, axis=-1)
    total = np.sum(np.where(there, values, 0.0), axis=-1)
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return np.maximum(mean, 0.0) if metric == "log_loss" else mean


def values_of(metric: str, logits: Any, labels: Any) -> np.ndarray:
    """What every record adds to a metric: the metric is their mean, their spread says how sure it is.

    Of the area under the curve it is what DeLong et al. (1988) add up, scaled so that the variance of the
    mean over independent records is theirs.

    Args:
      metric: one of METRICS.
      logits: [..., m, classes].
      labels: [..., m].

    Returns:
      [..., m]; NaN for records labelled -1, and for all if the metric is not defined.
    """
    logits, labels = np.asarray(logits, float), np.asarray(labels)
    if metric == "auc":
        return _areas(logits, labels)
    if metric == "accuracy":
        good = np.argmax(logits, axis=-1) == labels
    else:
        label = np.broadcast_to(np.maximum(labels, 0), logits.shape[:-1])
        chosen = np.take_along_axis(logits, label[..., None], axis=-1)[..., 0]
        good = 1.0 + chosen - scipy.special.logsumexp(logits, axis=-1)
    return np.where(labels >= 0, good, np.nan)


def _areas(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`values_of` the area under the curve, by ranks."""
    labels = np.broadcast_to(labels, logits.shape[:-1])
    there = labels >= 0
    classes = range(1, 2) if logits.shape[-1] == 2 else range(logits.shape[-1])
    found = []
    for k in classes:
        positive = labels == k
        negative = there & ~positive
        a, b = (np.sum(x, axis=-1, keepdims=True) for x in (positive, negative))
        # Log odds: probabilities near 1 would be rounded to ties.
        scores = logits[..., k] - scipy.special.logsumexp(np.delete(logits, k, axis=-1), axis=-1)
        # Of a positive record the share of others below it, of another one that of positive ones above it.
        rank = _rank(scores, there)
        below = (rank - _rank(scores, positive)) / np.maximum(b, 1)
        above = 1.0 - (rank - _rank(scores, negative)) / np.maximum(a, 1)
        area = np.sum(np.where(positive, below, 0.0), axis=-1, keepdims=True) / np.maximum(a, 1)
        of_positive, of_negative = (a + b) / np.maximum(a, 1), (a + b) / np.maximum(b, 1)
        moved = np.where(positive, of_positive * (below - area), of_negative * (above - area))
        found.append(np.where(there & (a * b > 0), area + moved, np.nan))
    defined = np.isfinite(found)
    total = np.sum(np.where(defined, found, 0.0), axis=0)
    number = np.sum(defined, axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _rank(scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The ranks along the last axis of scores that are there, ties sharing the mean; others mean nothing."""
    return scipy.stats.rankdata(np.where(there, scores, np.inf), axis=-1)


@functools.partial(jax.jit, static_argnames=("model",))
def loss(model: nn.Module, params: Any, agents: federated.Images, samples: jax.Array) -> jax.Array:
    """Each agent's mean loss over her first s_i images.

    Args:
      model: a flax module.
      params: the global model.
      agents: images [n, most, h, w, c] and labels [n, most]; with a mesh, as `federated.place` puts them.
      samples: s, [n] int32.

    Returns:
      [n]; 0 for agents without samples.
    """

    def of_agent(images: jax.Array, labels: jax.Array, own: jax.Array) -> jax.Array:
        batch = min(_BATCH, len(labels))

        def step(number: jax.Array, total: jax.Array) -> jax.Array:
            rows = number * batch + jnp.arange(batch)
            contributed = rows < own
            rows = jnp.where(contributed, rows, 0)  # the first image, which counts 0, fills the last batch
            losses = local.losses(model.apply, params, images[rows], labels[rows])
            return total + jnp.sum(contributed * losses)

        batches = -(-own // batch)  # rounded up
        total = jax.lax.fori_loop(0, batches, step, jnp.zeros((), jnp.float32))
        return total / jnp.maximum(own, 1)

    n = len(samples)
    return jax.lax.map(lambda agent: of_agent(*agent), (agents.images[:n], agents.labels[:n], samples))
