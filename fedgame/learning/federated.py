"""One round of federated averaging (McMahan et al. 2017), the training of every protocol.

Several devices share the agents: each trains her own, and one sum over devices makes the new model.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedgame.learning import layers, local

AXIS = "agents"  # of the device mesh


class Images(NamedTuple):
    """Labelled images, or rows of tables, of one owner or with a leading axis over agents.

    Wherever images [..., h, w, c] are spoken of, rows [..., d] of tables will do, if the model takes them.
    """

    images: jax.Array  # [..., m, h, w, c] float32 in [0, 1]; [..., m, d] float32 of tables
    labels: jax.Array  # [..., m] int32; -1 fills the rows of owners who have fewer than m


def agents_mesh() -> jax.sharding.Mesh | None:
    """A mesh with the axis "agents" over all devices of all processes; None if there is only one device."""
    if jax.device_count() == 1:
        return None
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def place(agents: Images, mesh: jax.sharding.Mesh | None) -> Images:
    """Puts agents on the devices that will train them, each process its own part.

    Args:
      agents: images [n, most, h, w, c] and labels [n, most], the same in every process.
      mesh: from `agents_mesh`; None leaves everything as it is.

    Returns:
      The same, sharded. If the number of devices does not divide n, agents without images are added.
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


def _everywhere(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """Replicates the model on all devices of the mesh: another sharding would compile anew."""
    if mesh is None:
        return tree
    sharding = jax.sharding.NamedSharding(mesh, jax.P())

    def replicated(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        return _put(np.asarray(x), sharding)

    return jax.tree.map(replicated, tree)


def local_copy(tree: Any) -> Any:
    """numpy copies of arrays that every device holds, such as a model.

    Raises:
      ValueError: an array is sharded, so that no device holds all of it.
    """

    def copied(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        if not x.is_fully_replicated:
            raise ValueError(f"an array {x.shape} is shared out between devices: {x.sharding}")
        return np.asarray(x.addressable_data(0))

    return jax.tree.map(copied, tree)


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
    """Round `number` of federated averaging: params + Σ_i (s_i/S) (params_i - params).

    Arguments and errors as of `changes`, with weights s_i/S.

    Returns:
      The new global model; with S = 0 `params` as they are.
    """
    params, weights = _everywhere(params, mesh), np.asarray(samples) / max(np.sum(samples), 1)
    change, _ = changes(model, options, params, agents, samples, weights, key, number, mesh)
    return add(params, change)


def changes(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: Images,
    samples: jax.Array,
    weights: jax.Array,
    key: jax.Array,
    number: int,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Any, np.ndarray]:
    """The `weighted_change` of round `number`, with the random key of that round, checked.

    Args:
      model: a flax module, [b, h, w, c] -> logits.
      options: local training of each agent.
      params: the global model.
      agents: images [n, most, h, w, c] and labels [n, most]; with a mesh, as `place` puts them.
      samples: s, [n]; agent i trains on her first s_i images.
      weights: [n].
      key: of the training run.
      number: of the round.
      mesh: of `agents_mesh`; None computes on one device.

    Returns:
      Σ_i weights_i (params_i - params), and ‖params_i - params‖² of every agent, [n].

    Raises:
      FloatingPointError: an agent's training diverged; names the round and the agents.
    """
    params, weights = _everywhere(params, mesh), np.asarray(weights, np.float32)
    key = jax.random.fold_in(key, number)
    change, losses, squares = weighted_change(
        model, options, params, agents, samples, weights, key, mesh=mesh
    )
    diverged = np.flatnonzero(~np.isfinite(local_copy(losses))).tolist()
    if diverged:
        raise FloatingPointError(
            f"training diverged in round {number}: the loss of agents {diverged} is not finite; "
            "a smaller learning rate may help"
        )
    return change, local_copy(squares)


@jax.jit
def add(params: Any, change: Any, rate: float | jax.Array = 1.0) -> Any:
    """params + rate · change; the paper's global learning rate is 1."""
    return jax.tree.map(lambda p, c: p + jnp.asarray(rate, p.dtype) * c, params, change)


@functools.partial(jax.jit, static_argnames=("model", "options", "mesh"))
def weighted_change(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: Images,
    samples: jax.Array,
    weights: jax.Array,
    key: jax.Array,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Any, jax.Array, jax.Array]:
    """Σ_i weights_i (params_i - params), with params_i from agent i's local training.

    Agents with s_i = 0 do not train. `samples` is traced: another profile does not compile anew, and on a CPU
    the work is proportional to S.

    Args:
      model: a flax module, [b, h, w, c] -> logits.
      options: local training of each agent.
      params: the global model.
      agents: images [n, most, h, w, c] and labels [n, most]; agent i trains on her first s_i. With a mesh,
        as `place` puts them.
      samples: [n] int32, s_i ≤ most.
      weights: [n] float32; s_i/S in federated averaging.
      key: for the order of samples in each agent's epochs.
      mesh: of `agents_mesh`; None computes on one device.

    Returns:
      The change, each agent's loss, [n], as of `local.train`, and ‖params_i - params‖², [n].
    """
    n = len(samples)
    arrays = (*agents, samples, jax.random.split(key, n))
    if mesh is None:
        return _change(model, options, params, weights, arrays)
    # `place` may have added agents without images: they repeat the last agent, with no samples and weight 0.
    rows = jnp.arange(len(agents.labels))
    filled, there = jnp.minimum(rows, n - 1), rows < n
    samples, weights = jnp.where(there, samples[filled], 0), jnp.where(there, weights[filled], 0)
    change, *numbers = jax.shard_map(
        functools.partial(_shard, model, options),
        mesh=mesh,
        in_specs=(jax.P(), jax.P(AXIS), jax.P(AXIS)),
        out_specs=(jax.P(), jax.P(AXIS), jax.P(AXIS)),
    )(params, weights, (*agents, samples, arrays[-1][filled]))
    everywhere = jax.sharding.NamedSharding(mesh, jax.P())
    return change, *(jax.lax.with_sharding_constraint(x, everywhere)[:n] for x in numbers)


def _shard(model: nn.Module, options: local.LocalTraining, params: Any, weights: Any, arrays: Any) -> Any:
    """One device's agents, then the sum over devices.

    Without the cast, gradients by a model that is the same on all devices would be summed over them.
    """
    params = jax.lax.pcast(params, AXIS, to="varying")
    change, *numbers = _change(model, options, params, weights, arrays)
    return jax.lax.psum(change, AXIS), *numbers


def _change(model: nn.Module, options: local.LocalTraining, params: Any, weights: Any, arrays: Any) -> Any:
    """Σ_i weights_i (params_i - params) over the agents at hand, their losses, and ‖params_i - params‖²."""

    def train(*agent: jax.Array) -> Any:
        trained, loss = local.train(model.apply, options, params, *agent)
        change = jax.tree.map(jnp.subtract, trained, params)
        return change, loss, sum(jnp.sum(x * x) for x in jax.tree.leaves(change))

    if not layers.one_by_one(options.lowering):
        change, losses, squares = jax.vmap(train)(*arrays)
        return jax.tree.map(lambda c: jnp.tensordot(weights, c, 1), change), losses, squares

    def step(total: Any, agent: Any) -> Any:  # one agent at a time: no copy of the model per agent
        weight, agent_arrays = agent
        change, *numbers = train(*agent_arrays)
        return jax.tree.map(lambda s, c: s + weight * c, total, change), numbers

    nothing = jax.tree.map(jnp.zeros_like, params)
    change, (losses, squares) = jax.lax.scan(step, nothing, (weights, arrays))
    return change, losses, squares
