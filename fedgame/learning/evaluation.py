"""The accuracy and the loss of a model on the images of one owner or of every agent."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedgame.learning import federated, local

_BATCH = 100  # images at a time: the patches of a whole test set would fill the memory


@functools.partial(jax.jit, static_argnames=("model",))
def accuracy(model: nn.Module, params: Any, data: federated.Images) -> jax.Array:
    """The share of images that the model labels correctly.

    Args:
      model: a flax module.
      params: its parameters.
      data: images [..., m, h, w, c] and labels [..., m].

    Returns:
      [...], in [0, 1].
    """
    owners = data.labels.shape[:-1]
    flat = data.images.reshape(-1, *data.images.shape[-3:])
    number, batch = len(flat), min(_BATCH, len(flat))
    missing = -number % batch  # images of zeros that fill the last batch
    filled = jnp.pad(flat, [(0, missing), (0, 0), (0, 0), (0, 0)])
    batches = filled.reshape(-1, batch, *flat.shape[1:])
    predicted = jax.lax.map(lambda images: jnp.argmax(model.apply(params, images), axis=-1), batches)
    hits = predicted.reshape(-1)[:number] == data.labels.reshape(-1)
    return jnp.mean(hits.reshape(*owners, -1), axis=-1)


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
