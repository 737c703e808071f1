"""What all training runs of a federation share, and the one loop over rounds."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import numpy as np

from fedgame.learning import evaluation, federated, local


class Snapshots(Protocol):
    """How a training run keeps its state between rounds, so that it can go on after an interrupt."""

    def restore(self, start: Any) -> tuple[int, Any]:
        """Returns the number of rounds that are done and the state after them, or 0 and `start`."""

    def offer(self, number: int, state: Any) -> None:
        """Is called after every round with its number, from 1, and the state after it."""


class Forget:
    """Keeps nothing."""

    def restore(self, start: Any) -> tuple[int, Any]:
        return 0, start

    def offer(self, number: int, state: Any) -> None:
        pass


FORGET = Forget()


def run(
    step: Callable[[Any, int], Any],
    state: Any,
    rounds: int,
    snapshots: Snapshots = FORGET,
    over: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Any:
    """The state after `rounds` rounds.

    Args:
      step: (state, number of the round, from 1) -> state after it. Its randomness depends on the number
        alone, so that an interrupted run ends like one without interrupt.
      state: at the start, a pytree of arrays.
      rounds: 0 returns the state as it is.
      snapshots: restore and keep the state.
      over: wraps the numbers of the rounds that are left, like `tqdm.tqdm`.
    """
    done, state = snapshots.restore(state)
    for number in over(range(done + 1, rounds + 1)):
        state = step(state, number)
        snapshots.offer(number, state)
    return state


class Trainer(NamedTuple):
    """What all rounds of a training run share, and what agents report about a model.

    Attributes:
      model: the network.
      options: local training.
      train: the agents' images, [n, most, h, w, c]; with a mesh, as `federated.place` puts them.
      key: for the order of samples.
      mesh: devices that share the agents, or None.
      test: the agents' own test images, [n, m, h, w, c]; None if `accuracy` is not used.
      metric: what `accuracy` is, one of `evaluation.METRICS`.
    """

    model: nn.Module
    options: local.LocalTraining
    train: federated.Images
    key: jax.Array
    mesh: jax.sharding.Mesh | None = None
    test: federated.Images | None = None
    metric: str = "accuracy"

    def average(self, params: Any, samples: np.ndarray, number: int) -> Any:
        """The model after round `number` of federated averaging, see `federated.federated_round`.

        Args:
          params: the model before the round.
          samples: [n], agent i trains on her first `samples[i]` images.
          number: of the round.
        """
        return federated.federated_round(
            self.model, self.options, params, self.train, samples, self.key, number, self.mesh
        )

    def changes(
        self, params: Any, samples: np.ndarray, weights: np.ndarray, number: int
    ) -> tuple[Any, np.ndarray]:
        """Σ_i weights_i (params_i - params) of round `number`, and ‖params_i - params‖², [n]."""
        return federated.changes(
            self.model, self.options, params, self.train, samples, weights, self.key, number, self.mesh
        )

    def accuracy(self, params: Any) -> np.ndarray:
        """[n] each agent's accuracy, or what `metric` says, on her own test images."""
        return evaluation.measured(self.model, federated.local_copy(params), self.test, self.metric)

    def loss(self, params: Any, samples: np.ndarray) -> np.ndarray:
        """[n] each agent's mean loss on the samples that she contributes."""
        return federated.local_copy(evaluation.loss(self.model, params, self.train, samples))
