"""How good a model is: its accuracy, and its loss, on the images of one owner or of every agent."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedgame.learning import federated, local

_EVALUATED = 100  # images at a time: patches of a whole test set would fill the memory


@functools.partial(jax.jit, static_argnames=("model",))
def accuracy(model: nn.Module, params: Any, data: federated.Images) -> jax.Array:
    """The share of `data` that the model labels correctly, one for each leading axis of `data`."""
    owners = data.labels.shape[:-1]
    flat = data.images.reshape(-1, *data.images.shape[-3:])
    number, batch = len(flat), min(_EVALUATED, len(flat))
    batches = jnp.pad(flat, [(0, -number % batch)] + [(0, 0)] * 3).reshape(-1, batch, *flat.shape[1:])
    found = jax.lax.map(lambda images: jnp.argmax(model.apply(params, images), axis=-1), batches)
    hits = found.reshape(-1)[:number] == data.labels.reshape(-1)
    return jnp.mean(hits.reshape(*owners, -1), axis=-1)


@functools.partial(jax.jit, static_argnames=("model",))
def loss(model: nn.Module, params: Any, agents: federated.Images, samples: jax.Array) -> jax.Array:
    """Each agent's mean loss over her first s_i images, [n]; 0 without any.

    Args:
      model: a flax module.
      params: the global model.
      agents: images [n, most, h, w, c] and labels [n, most]; with a mesh, as `place` puts them.
      samples: [n] int32.
    """

    def one(images: jax.Array, labels: jax.Array, own: jax.Array) -> jax.Array:
        batch = min(_EVALUATED, len(labels))

        def step(number: jax.Array, total: jax.Array) -> jax.Array:
            rows = number * batch + jnp.arange(batch)
            mine = rows < own
            rows = jnp.where(mine, rows, 0)
            return total + jnp.sum(mine * local.losses(model.apply, params, images[rows], labels[rows]))

        total = jax.lax.fori_loop(0, -(-own // batch), step, jnp.zeros((), jnp.float32))
        return total / jnp.maximum(own, 1)

    n = len(samples)
    return jax.lax.map(lambda agent: one(*agent), (agents.images[:n], agents.labels[:n], samples))
