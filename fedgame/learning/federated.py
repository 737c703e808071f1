"""One round of federated averaging (McMahan et al. 2017), the training of every protocol.

Several devices share the agents: each trains her own, and one sum over devices makes the new model.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedgame.learning import layers, local

AXIS = "agents"  # of the device mesh
_EVALUATED = 100  # images at a time: patches of a whole test set would fill the memory


class Images(NamedTuple):
    """Labelled images, of one owner or with a leading axis over agents."""

    images: jax.Array  # [..., m, h, w, c] float32 in [0, 1]
    labels: jax.Array  # [..., m] int32


class Snapshots(NamedTuple):
    """How a training run keeps its state between rounds, so that it can go on after an interrupt."""

    restore: Callable[[Any], tuple[int, Any]]  # state at the start -> rounds done, state after them
    offer: Callable[[int, Any], None]  # rounds done, state; called after every round


FORGET = Snapshots(lambda state: (0, state), lambda number, state: None)


def agents_mesh() -> jax.sharding.Mesh | None:
    """A mesh named `agents` of all devices of all processes; None if there is but one device."""
    if jax.device_count() == 1:
        return None
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def place(agents: Images, mesh: jax.sharding.Mesh | None) -> Images:
    """Puts agents on the devices that will train them, each process its own part.

    Args:
      agents: images [n, most, h, w, c] and labels [n, most], the same in every process.
      mesh: from `agents_mesh`; None leaves everything as it is.

    Returns:
      The same, sharded; agents without images fill up where devices do not divide n.
    """
    if mesh is None:
        return agents
    sharding = jax.sharding.NamedSharding(mesh, jax.P(AXIS))
    extra = -len(agents.labels) % mesh.size

    def fill(x: Any) -> np.ndarray:
        return np.pad(np.asarray(x), [(0, extra)] + [(0, 0)] * (np.ndim(x) - 1))

    return Images(*(_put(fill(x), sharding) for x in agents))


def _put(x: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _everywhere(x: Any, mesh: jax.sharding.Mesh) -> jax.Array:
    sharding = jax.sharding.NamedSharding(mesh, jax.P())
    return x if isinstance(x, jax.Array) and x.sharding == sharding else _put(np.asarray(x), sharding)


def local_copy(tree: Any) -> Any:
    """numpy copies of arrays that every device holds, such as a model."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)) if isinstance(x, jax.Array) else x, tree)


def federated_round(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: Images,
    samples: jax.Array,
    key: jax.Array,
    number: int,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """Round `number` of a training run: `average`, its randomness from (key, number), checked.

    Returns:
      The new global model.

    Raises:
      FloatingPointError: an agent's training diverged; names the round and the agents.
    """
    key = jax.random.fold_in(key, number)
    if mesh is not None:  # a model that comes from elsewhere would be compiled for once more
        params = jax.tree.map(functools.partial(_everywhere, mesh=mesh), params)
    params, losses = average(model, options, params, agents, samples, key, mesh=mesh)
    diverged = np.flatnonzero(~np.isfinite(local_copy(losses))).tolist()
    if diverged:
        raise FloatingPointError(
            f"training diverged in round {number}: the loss of agents {diverged} is not finite; "
            "a smaller learning rate may help"
        )
    return params


@functools.partial(jax.jit, static_argnames=("model", "options", "mesh"))
def average(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: Images,
    samples: jax.Array,
    key: jax.Array,
    server_rate: float = 1.0,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Any, jax.Array]:
    """params + server_rate · Σ_i (s_i/S) (params_i - params), params_i from agent i's local training.

    Agents with s_i = 0 take no part; with S = 0 the parameters come back as they were. `samples` is
    traced: one compilation serves every profile, and on a CPU the work is proportional to S.

    Args:
      model: a flax module, [b, h, w, c] -> logits.
      options: local training of each agent.
      params: the global model.
      agents: images [n, most, h, w, c] and labels [n, most]; agent i trains on her first s_i. With a mesh,
        as `place` puts them.
      samples: [n] int32, s_i ≤ most.
      key: for the order of samples in each agent's epochs.
      server_rate: the paper's global learning rate.
      mesh: of `agents_mesh`; None computes on one device.

    Returns:
      The new global model and each agent's loss, [n], as of `local.train`.
    """
    n, weights = len(samples), samples / jnp.maximum(jnp.sum(samples), 1)
    weights = (weights * server_rate).astype(jnp.float32)
    arrays = (*agents, samples, jax.random.split(key, n))
    if mesh is None:
        change, losses = _change(model, options, params, weights, arrays)
    else:
        filled = jnp.minimum(jnp.arange(len(agents.labels)), n - 1)
        there = jnp.arange(len(agents.labels)) < n
        samples, weights = jnp.where(there, samples[filled], 0), jnp.where(there, weights[filled], 0)
        change, losses = jax.shard_map(
            functools.partial(_shard, model, options),
            mesh=mesh,
            in_specs=(jax.P(), jax.P(AXIS), jax.P(AXIS)),
            out_specs=(jax.P(), jax.P(AXIS)),
        )(params, weights, (*agents, samples, arrays[-1][filled]))
        everywhere = jax.sharding.NamedSharding(mesh, jax.P())
        losses = jax.lax.with_sharding_constraint(losses, everywhere)[:n]
    return jax.tree.map(jnp.add, params, change), losses


def _shard(model: nn.Module, options: local.LocalTraining, params: Any, weights: Any, arrays: Any) -> Any:
    """One device's part. Without the cast, gradients of a shared model would be summed over devices."""
    params = jax.lax.pcast(params, AXIS, to="varying")
    change, losses = _change(model, options, params, weights, arrays)
    return jax.lax.psum(change, AXIS), losses


def _change(model: nn.Module, options: local.LocalTraining, params: Any, weights: Any, arrays: Any) -> Any:
    """Σ_i weights_i (params_i - params) over the agents at hand, and their losses."""

    def train(*agent: jax.Array) -> Any:
        return local.train(model.apply, options, params, *agent)

    if not layers.on_cpu(options.lowering):
        trained, losses = jax.vmap(train)(*arrays)
        return jax.tree.map(lambda t, p: jnp.tensordot(weights, t - p, 1), trained, params), losses

    def add(total: Any, agent: Any) -> Any:  # one agent at a time: no copy of the model per agent
        weight, agent_arrays = agent
        trained, loss = train(*agent_arrays)
        return jax.tree.map(lambda s, t, p: s + weight * (t - p), total, trained, params), loss

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (weights, arrays))


@functools.partial(jax.jit, static_argnames=("model",))
def accuracy(model: nn.Module, params: Any, data: Images) -> jax.Array:
    """The share of `data` that the model labels correctly, one for each leading axis of `data`."""
    owners = data.labels.shape[:-1]
    flat = data.images.reshape(-1, *data.images.shape[-3:])
    number, batch = len(flat), min(_EVALUATED, len(flat))
    batches = jnp.pad(flat, [(0, -number % batch)] + [(0, 0)] * 3).reshape(-1, batch, *flat.shape[1:])
    found = jax.lax.map(lambda images: jnp.argmax(model.apply(params, images), axis=-1), batches)
    hits = found.reshape(-1)[:number] == data.labels.reshape(-1)
    return jnp.mean(hits.reshape(*owners, -1), axis=-1)
