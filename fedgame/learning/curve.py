"""The public accuracy curve ã that a server measures on data of its own (Section 5.1)."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from fedgame.learning import evaluation, federated, local, models, partitions
from fedgame.learning import trainer as trainers


def grid(most: int, points: int, agents: int, interval: int | None = None) -> np.ndarray:
    """Totals, in samples, at which to measure ã.

    Args:
      most: the largest total.
      points: number of totals above 0, geometrically spaced from `agents` to `most`.
      agents: number of agents.
      interval: Δs, samples. If given, the totals are its multiples up to `most`, as in Section 5.1, and
        `most`; `points` and `agents` are ignored.

    Returns:
      [k] increasing, from 0 to `most`.
    """
    if interval is not None:
        return np.append(np.arange(0, most, interval), most)
    spaced = np.geomspace(min(agents, most), most, points)
    return np.unique(np.concatenate([[0], np.round(spaced)]).astype(int))


def measure(
    model: nn.Module,
    options: local.LocalTraining,
    train: federated.Images,
    held_out: federated.Images,
    total: int,
    agents: int,
    rounds: int,
    key: jax.Array,
    mesh: jax.sharding.Mesh | None = None,
    snapshots: trainers.Snapshots = trainers.FORGET,
) -> float:
    """Accuracy on held-out data after `rounds` rounds on `total` samples, split evenly over agents.

    A pure function of its arguments. Under the same key, the images of a smaller total are among those of a
    larger one. Shapes do not depend on `total`, so the whole curve is compiled once.

    Args:
      model: the network that the agents will train.
      options: local training, as the agents will do it.
      train: the server's own training images.
      held_out: images that nobody trains on.
      total: S, number of samples.
      agents: number of simulated agents.
      rounds: rounds of federated averaging.
      key: for the order of images, the initial model and the training.
      mesh: devices that share the agents, or None.
      snapshots: keep the model, so that an interrupted run can go on.
    """
    most = len(train.labels) // agents  # images of each agent
    deal_key, init_key, train_key = jax.random.split(key, 3)
    owners = federated.place(partitions.partition(train, np.full(agents, most), deal_key), mesh)
    samples = np.full(agents, total // agents, np.int32)
    samples[: total % agents] += 1  # the remainder goes to the first agents
    params = jax.device_get(models.initial_parameters(model, init_key, train.images.shape[1:]))
    trainer = trainers.Trainer(model, options, owners, train_key, mesh)

    def step(params: Any, number: int) -> Any:
        return trainer.average(params, samples, number)

    params = trainers.run(step, params, rounds if total else 0, snapshots)
    return float(evaluation.accuracy(model, federated.local_copy(params), held_out))
