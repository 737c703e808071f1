"""Models of mixtures of the members' records: which mixtures to train on, and how good each model is.

The accuracies show what members' records are worth to each other (`games.exchange_rates`).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame.learning import evaluation, federated, local, members, models

_ABSENT = 0.2  # the probability that a member gives nothing to a mixture that fills the space


def structural(n: int) -> int:
    """How many mixtures `design` begins with that are the same for everybody: none, all, one, all but one."""
    return 2 + (2 * n if n > 2 else n)


def design(most: np.ndarray, number: int, seed: int) -> np.ndarray:
    """The samples that members give in different mixtures.

    First nobody gives any, then everybody gives all, then each member alone, then all but one. The others
    fill the space: scrambled Sobol points, of which a fifth is cut off in each direction, where that member
    gives nothing; the rest are spread by the square, as accuracy changes most where there is little. A longer
    design begins with the shorter one.

    Args:
      most: [n] samples that each member can give, at least 1.
      number: of mixtures; at least those of `structural`, and fewer if there are not so many different ones.
      seed: of the points.

    Returns:
      [number, n] whole numbers, all rows different.
    """
    n = len(most)
    alone = np.diag(most)
    first = [np.zeros_like(most), most, *alone, *([most - row for row in alone] if n > 2 else [])]
    seen = {tuple(row.tolist()): None for row in first}
    points = scipy.stats.qmc.Sobol(n, scramble=True, rng=np.random.default_rng(seed))
    for _ in range(20):  # of few samples there are few different mixtures
        if len(seen) >= number:
            break
        drawn = points.random(2 ** max(6, int(np.ceil(np.log2(number)))))
        inner = np.maximum((drawn - _ABSENT) / (1.0 - _ABSENT), 0.0)
        given = np.where(inner > 0, np.maximum(np.rint(most * inner**2), 1), 0).astype(int)
        seen |= dict.fromkeys(tuple(row) for row in given.tolist() if any(row))
    return np.array(list(seen)[: max(number, len(first))])


def without_data(split: members.Split, classes: int) -> np.ndarray:
    """[n, m, classes] logits without a model: each member is told the most frequent class of her records.

    As probabilities they are the shares of her classes, after one more record of each class.
    """
    found = []
    for i, size in enumerate(split.sizes):
        counts = np.bincount(split.train.labels[i, :size], minlength=classes) + 1.0
        found.append(np.tile(np.log(counts / np.sum(counts)), (split.test.labels.shape[1], 1)))
    return np.array(found)


def batched(model: nn.Module) -> bool:
    """Whether models of many mixtures are trained faster in one call than one after the other."""
    return isinstance(model, models.Linear | models.MLP)


def measure(
    model: nn.Module,
    options: local.LocalTraining,
    split: members.Split,
    samples: np.ndarray,
    rounds: int,
    key: jax.Array,
) -> np.ndarray:
    """Trains on each mixture by federated averaging, all in one call, and tests on every member's records.

    A pure function of its arguments. The initial model and the order of samples are the same in all mixtures.

    Args:
      model: the network.
      options: local training.
      split: records to train on and to test on.
      samples: [B, n]; in mixture b member i gives her first `samples[b, i]`.
      rounds: rounds of federated averaging.
      key: of the initial model and the training.

    Returns:
      [B, n, m, classes] logits of each member's test records; `without_data` of a mixture without samples.

    Raises:
      FloatingPointError: the training on some mixture diverged.
    """
    init_key, train_key = jax.random.split(key)
    params = models.initial_parameters(model, init_key, split.train.images.shape[2:])
    trained, losses = _train(
        model, options, params, split.train, np.asarray(samples, np.int32), rounds, train_key
    )
    if not np.all(np.isfinite(losses)):
        raise FloatingPointError(
            "training diverged: the loss of a mixture is not finite; a smaller learning rate may help"
        )
    return filled(np.asarray(_logits(model, trained, split.test)), split, samples)


def filled(found: np.ndarray, split: members.Split, samples: np.ndarray) -> np.ndarray:
    """The logits [B, n, m, classes] with `without_data` for those mixtures [B, n] that have no samples."""
    nobody = ~np.any(samples > 0, axis=1)
    return np.where(nobody[:, None, None, None], without_data(split, found.shape[-1]), found)


@functools.partial(jax.jit, static_argnames=("model", "options"))
def _train(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    agents: federated.Images,
    samples: jax.Array,
    rounds: int,
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """The models of B mixtures, with a leading axis, and the largest loss of each in any round."""

    def of_mixture(own: jax.Array) -> tuple[Any, jax.Array]:
        weights = own.astype(jnp.float32) / jnp.maximum(jnp.sum(own), 1)

        def step(number: jax.Array, state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            now = jax.random.fold_in(key, number)
            change, losses, _ = federated.weighted_change(model, options, state[0], agents, own, weights, now)
            return federated.add(state[0], change), jnp.maximum(state[1], jnp.max(losses))

        return jax.lax.fori_loop(1, rounds + 1, step, (params, jnp.zeros((), jnp.float32)))

    return jax.vmap(of_mixture)(samples)


@functools.partial(jax.jit, static_argnames=("model",))
def _logits(model: nn.Module, trained: Any, test: federated.Images) -> jax.Array:
    """[B, n, m, classes] what each of B models says of every member's test records."""
    return jax.vmap(lambda params: evaluation.logits(model, params, test))(trained)
