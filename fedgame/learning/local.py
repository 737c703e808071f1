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
      batch_size: images in a step; all that an agent has if she has fewer.
      epochs: passes over an agent's samples.
      learning_rate: the paper's α.
      momentum: of SGD; it starts at 0 in every round.
      full_batch: whether to do a single step along the gradient over all of an agent's samples, as in
        Algorithms 1 and 2; epochs and momentum are then ignored.
      lowering: one of `layers.LOWERINGS`: "patches" trains agents one by one, the others all at once.
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
    """`sgd`, or `full_batch_step` with `options.full_batch`; arguments and results as of `sgd`.

    Returns a NaN loss if any parameter is not finite: the last step may overflow although its loss was
    finite.
    """
    rule = full_batch_step if options.full_batch else sgd
    params, loss = rule(apply, options, params, images, labels, samples, key)
    # The sum of all is finite only if each is; to check each would be slow to compile.
    finite = jnp.isfinite(sum(jnp.sum(x) for x in jax.tree.leaves(params)))
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
    """Trains by SGD with momentum on the first `samples` of an agent's images.

    So contributing more only adds data. `samples` is traced: another number does not compile anew, and the
    work is proportional to it. Each epoch has a new order and ends with the partial batch that is left.

    Args:
      apply: (params, images [b, h, w, c]) -> logits [b, classes].
      options: hyperparameters.
      params: where training starts.
      images: [most, h, w, c].
      labels: [most] int32.
      samples: scalar int32 in [0, most]; 0 returns the parameters as they are.
      key: for the order of the samples.

    Returns:
      The trained parameters, and the mean loss of the last batch (0 without samples), or the first loss that
      is not finite.
    """
    most = len(labels)
    batch = min(options.batch_size, most)  # a larger one would only be filled with images of weight 0
    optimizer = optax.sgd(options.learning_rate, options.momentum)
    dtype = jnp.result_type(*jax.tree.leaves(params))

    def loss(params: Any, rows: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(weight * losses(apply, params, images[rows], labels[rows])) / jnp.sum(weight)

    def epoch(index: jax.Array, carry: Any) -> Any:
        noise = jax.random.uniform(jax.random.fold_in(key, index), (most,), jnp.float32)
        # A random order of all, of which those that she contributes are kept. Mapped over numbers of samples,
        # as over mixtures, it sorts once.
        everything = jnp.argsort(noise).astype(jnp.int32)
        kept = everything < samples
        place = jnp.where(kept, jnp.cumsum(kept) - 1, most)
        order = jnp.zeros(most, jnp.int32).at[place].set(everything, mode="drop")
        # One of her samples, with weight 0, fills the last batch.
        order = jnp.where(jnp.arange(most) < samples, order, order[0])
        order = jnp.pad(order, (0, batch), mode="edge")

        def step(number: jax.Array, carry: Any) -> Any:
            params, state, last = carry
            rows = jax.lax.dynamic_slice_in_dim(order, number * batch, batch)
            weight = (number * batch + jnp.arange(batch) < samples).astype(dtype)
            value, gradient = jax.value_and_grad(loss)(params, rows, weight)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, jnp.where(jnp.isfinite(last), value, last)

        batches = -(-samples // batch)  # rounded up
        return jax.lax.fori_loop(0, batches, step, carry)

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
    """θ - α ∇L_i(θ), with the mean loss L_i over all of the agent's samples: Algorithms 1 and 2, lines 6-7.

    The average of agents' results with weights s_i/S, line 11, is one gradient step on the union of their
    data. The gradient is summed over batches, so memory does not grow with `samples`. `key` is ignored.

    Returns:
      As `sgd`; the loss is L_i(θ) before the step.
    """
    del key
    batch = min(options.batch_size, len(labels))
    dtype = jnp.result_type(*jax.tree.leaves(params))

    def loss(params: Any, rows: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(weight * losses(apply, params, images[rows], labels[rows]))

    def add(number: jax.Array, carry: Any) -> Any:
        rows = number * batch + jnp.arange(batch)
        contributed = rows < samples
        weight = contributed.astype(dtype) / samples.astype(dtype)
        rows = jnp.where(contributed, rows, 0)  # the first image, with weight 0, fills the last batch
        part = jax.value_and_grad(loss)(params, rows, weight)
        return jax.tree.map(jnp.add, carry, part)

    nothing = jnp.zeros_like(samples, dtype), jax.tree.map(jnp.zeros_like, params)
    batches = -(-samples // batch)  # rounded up
    value, gradient = jax.lax.fori_loop(0, batches, add, nothing)
    return jax.tree.map(lambda p, g: p - options.learning_rate * g, params, gradient), value


def losses(apply: Callable, params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The cross entropy of the logits of every image, [b]."""
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, images), labels)
