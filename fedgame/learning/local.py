"""What one agent does in a round: SGD with momentum on the samples she contributes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LocalTraining(NamedTuple):
    """Hyperparameters of an agent's training in one round.

    The learning rate and momentum are the paper's (Section 5.2). It gives neither batch size nor
    epochs: 10 and 5 are McMahan et al.'s (2017).

    Attributes:
      batch_size: images in a step.
      epochs: passes over an agent's samples.
      learning_rate: the paper's α.
      momentum: of SGD; it starts at 0 in every round.
      full_batch: instead of all that, one step along the gradient over all of an agent's samples, as in
        Algorithms 1 and 2.
      lowering: one of `layers.LOWERINGS`: whether agents train one by one ("patches") or batched.
    """

    batch_size: int = 10
    epochs: int = 5
    learning_rate: float = 0.01
    momentum: float = 0.9
    full_batch: bool = False
    lowering: str = "auto"


def train(
    apply: Callable,
    options: LocalTraining,
    params: Any,
    images: jax.Array,
    labels: jax.Array,
    samples: jax.Array,
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """`sgd` or, with `options.full_batch`, `full_batch_step`; a loss of NaN tells of parameters not finite.

    Arguments and results are the same. The last step of a run may overflow after a loss that was finite.
    """
    rule = full_batch_step if options.full_batch else sgd
    params, loss = rule(apply, options, params, images, labels, samples, key)
    finite = jnp.isfinite(sum(jnp.sum(x) for x in jax.tree.leaves(params)))  # one by one: slow to compile
    return params, jnp.where(finite, loss, jnp.nan)


def sgd(
    apply: Callable,
    options: LocalTraining,
    params: Any,
    images: jax.Array,
    labels: jax.Array,
    samples: jax.Array,
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """Trains on the first `samples` of an agent's images, so contributing more only adds data.

    The work is proportional to `samples`, a traced number: no recompilation when it changes. Each
    epoch has a new order and ends with the partial batch that is left; momentum starts at 0.

    Args:
      apply: (params, images [b, h, w, c]) -> logits [b, classes].
      options: hyperparameters.
      params: where training starts.
      images: [most, h, w, c].
      labels: [most] int32.
      samples: scalar int32 in [0, most]; at 0 the parameters come back as they were.
      key: for the order of the samples.

    Returns:
      The trained parameters and the last batch's mean loss (0 without samples), or the first one that is
      not finite.
    """
    batch = options.batch_size
    optimizer = optax.sgd(options.learning_rate, options.momentum)
    most = len(labels)
    dtype = jnp.result_type(*jax.tree.leaves(params))

    def loss(params: Any, rows: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(weight * losses(apply, params, images[rows], labels[rows])) / jnp.sum(weight)

    def epoch(index: jax.Array, carry: Any) -> Any:
        noise = jax.random.uniform(jax.random.fold_in(key, index), (most,), jnp.float32)
        mine = jnp.arange(most) < samples
        order = jnp.argsort(jnp.where(mine, noise, jnp.inf)).astype(jnp.int32)
        order = jnp.where(mine, order, order[0])  # fills the last batch, with weight 0
        order = jnp.pad(order, (0, batch), mode="edge")

        def step(number: jax.Array, carry: Any) -> Any:
            params, state, last = carry
            rows = jax.lax.dynamic_slice_in_dim(order, number * batch, batch)
            weight = (number * batch + jnp.arange(batch) < samples).astype(dtype)
            value, gradient = jax.value_and_grad(loss)(params, rows, weight)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, jnp.where(jnp.isfinite(last), value, last)

        return jax.lax.fori_loop(0, -(-samples // batch), step, carry)

    carry = params, optimizer.init(params), jnp.zeros_like(samples, dtype)
    params, _, value = jax.lax.fori_loop(0, options.epochs, epoch, carry)
    return params, value


def full_batch_step(
    apply: Callable,
    options: LocalTraining,
    params: Any,
    images: jax.Array,
    labels: jax.Array,
    samples: jax.Array,
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """θ - α ∇L_i(θ), L_i the mean loss over all of the agent's samples: lines 6-7 of Algorithms 1 and 2.

    Averaged with weights s_i/S, agents' results are one gradient step on the union of their data, line
    11. The gradient is summed over batches, so memory does not grow with `samples`; `key` is not used.

    Returns:
      As `sgd`; the loss is L_i(θ) before the step.
    """
    del key
    batch = options.batch_size
    dtype = jnp.result_type(*jax.tree.leaves(params))

    def loss(params: Any, rows: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(weight * losses(apply, params, images[rows], labels[rows]))

    def add(number: jax.Array, carry: Any) -> Any:
        rows = number * batch + jnp.arange(batch)
        mine = rows < samples  # the rest of the last batch is filled with the first image, with weight 0
        weight = mine.astype(dtype) / samples.astype(dtype)
        part = jax.value_and_grad(loss)(params, jnp.where(mine, rows, 0), weight)
        return jax.tree.map(jnp.add, carry, part)

    nothing = jnp.zeros_like(samples, dtype), jax.tree.map(jnp.zeros_like, params)
    value, gradient = jax.lax.fori_loop(0, -(-samples // batch), add, nothing)
    return jax.tree.map(lambda p, g: p - options.learning_rate * g, params, gradient), value


def losses(apply: Callable, params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The cross entropy of every image, [b]."""
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, images), labels)
