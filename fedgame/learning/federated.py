"""One round of federated averaging (McMahan et al. 2017), the training of every protocol."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedgame.learning import layers, local


class Images(NamedTuple):
    """Labelled images, of one owner or with a leading axis over agents."""

    images: jax.Array  # [..., m, h, w, c] float32 in [0, 1]
    labels: jax.Array  # [..., m] int32


def federated_round(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: Images,
    samples: jax.Array,
    key: jax.Array,
    number: int,
) -> Any:
    """Round `number` of a training run: `average`, its randomness from (key, number), checked.

    Returns:
      The new global model.

    Raises:
      FloatingPointError: an agent's training diverged; names the round and the agents.
    """
    key = jax.random.fold_in(key, number)
    params, losses = average(model, options, params, agents, samples, key)
    diverged = np.flatnonzero(~np.isfinite(losses)).tolist()
    if diverged:
        raise FloatingPointError(
            f"training diverged in round {number}: the loss of agents {diverged} is not finite; "
            "a smaller learning rate may help"
        )
    return params


@functools.partial(jax.jit, static_argnames=("model", "options", "server_rate"))
def average(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: Images,
    samples: jax.Array,
    key: jax.Array,
    server_rate: float = 1.0,
) -> tuple[Any, jax.Array]:
    """params + server_rate · Σ_i (s_i/S) (params_i - params), params_i from agent i's local training.

    Agents with s_i = 0 take no part; with S = 0 the parameters come back as they were. `samples` is
    traced: one compilation serves every profile, and on a CPU the work is proportional to S.

    Args:
      model: a flax module, [b, h, w, c] -> logits.
      options: local training of each agent.
      params: the global model.
      agents: images [n, most, h, w, c] and labels [n, most]; agent i trains on her first s_i.
      samples: [n] int32, s_i ≤ most.
      key: for the order of samples in each agent's epochs.
      server_rate: the paper's global learning rate.

    Returns:
      The new global model and each agent's last batch loss, [n].
    """
    weights = samples / jnp.maximum(jnp.sum(samples), 1)
    weights = weights.astype(jnp.float32) * server_rate

    def train(images: jax.Array, labels: jax.Array, samples: jax.Array, key: jax.Array) -> Any:
        return local.sgd(model.apply, options, params, images, labels, samples, key)

    agent_arrays = agents.images, agents.labels, samples, jax.random.split(key, len(samples))
    if not layers.on_cpu():
        trained, losses = jax.vmap(train)(*agent_arrays)
        change = jax.tree.map(lambda t, p: jnp.tensordot(weights, t - p, 1), trained, params)
        return jax.tree.map(jnp.add, params, change), losses

    def add(total: Any, agent: Any) -> Any:  # one agent at a time: no copy of the model per agent
        weight, arrays = agent
        trained, loss = train(*arrays)
        return jax.tree.map(lambda s, t, p: s + weight * (t - p), total, trained, params), loss

    return jax.lax.scan(add, params, (weights, agent_arrays))


@functools.partial(jax.jit, static_argnames=("model",))
def accuracy(model: nn.Module, params: Any, data: Images) -> jax.Array:
    """The share of `data` that the model labels correctly, one for each leading axis of `data`."""
    owners = data.labels.shape[:-1]
    flat = data.images.reshape(-1, *data.images.shape[-3:])
    hits = jnp.argmax(model.apply(params, flat), axis=-1) == data.labels.reshape(-1)
    return jnp.mean(hits.reshape(*owners, -1), axis=-1)
