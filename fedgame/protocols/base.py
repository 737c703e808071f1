"""A protocol is a contribution rule around rounds of federated averaging.

Like an optimiser in optax, a rule is pure functions: `start` makes a plan from a random key, and `adapt`
changes it after a round. Rules of training (AFL, q-FFL) replace `round`, how agents' models are put
together. Everything else is the same for all protocols.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from fedgame.learning import evaluation, federated, local
from fedgame.mechanisms import budget_balanced

NO_PAYMENTS = budget_balanced.Refunds()


class Plan(NamedTuple):
    """What agents mean to contribute in the next round."""

    profile: np.ndarray  # [n] contributions in samples, not yet rounded
    path: np.ndarray  # [t, n] the profiles that led here, the last one included
    memory: Any = ()  # whatever else the rule carries from round to round, a pytree of arrays


class Learning(NamedTuple):
    """What all training runs of a federation share, and what agents report of a model.

    Attributes:
      model: the network.
      options: local training.
      train: the agents' images, [n, most, h, w, c]; with a mesh, as `federated.place` puts them.
      test: the agents' own test images, [n, m, h, w, c].
      key: for the order of samples.
      mesh: devices that share the agents, or None.
    """

    model: nn.Module
    options: local.LocalTraining
    train: federated.Images
    test: federated.Images
    key: jax.Array
    mesh: jax.sharding.Mesh | None = None

    def accuracy(self, params: Any) -> np.ndarray:
        """[n] each agent's accuracy on her own test images."""
        return np.asarray(evaluation.accuracy(self.model, federated.local_copy(params), self.test))

    def loss(self, params: Any, samples: np.ndarray) -> np.ndarray:
        """[n] each agent's mean loss on the samples that she contributes."""
        return federated.local_copy(evaluation.loss(self.model, params, self.train, samples))

    def changes(
        self, params: Any, samples: np.ndarray, weights: np.ndarray, number: int
    ) -> tuple[Any, np.ndarray]:
        """Σ_i weights_i (params_i - params) of round `number`, and ‖params_i - params‖², [n]."""
        arrays = params, self.train, samples, weights, self.key
        return federated.changes(self.model, self.options, *arrays, number, self.mesh)


def average(learning: Learning, params: Any, plan: Plan, number: int) -> Any:
    """Round `number` of federated averaging: the `round` of every protocol that has no other."""
    arrays = params, learning.train, draw(plan.profile), learning.key
    return federated.federated_round(learning.model, learning.options, *arrays, number, learning.mesh)


def keep(plan: Plan, learning: Learning, params: Any) -> Plan:
    """The `adapt` of a rule whose plan stands once it is made."""
    del learning, params
    return plan


class Protocol(NamedTuple):
    """Who contributes what, how models are put together, and which payments go with it."""

    name: str
    start: Callable[[jax.Array], Plan]  # key -> plan of the first round
    adapt: Callable[[Plan, Learning, Any], Plan] = keep  # plan, learning, params after a round -> plan
    round: Callable[[Learning, Any, Plan, int], Any] = average  # learning, params, plan, number -> params
    mechanism: budget_balanced.Refunds = NO_PAYMENTS  # under which costs are settled
    training: tuple[
        str, ...
    ] = ()  # what makes its training differ from FedAvg's on the same profile, if it does


class Outcome(NamedTuple):
    """What came of a run."""

    params: Any  # the global model
    plan: Plan  # as it stood in the last round
    charged: np.ndarray  # [n] s_i in u_i: samples drawn, the mean over rounds where they vary


def draw(profile: np.ndarray) -> np.ndarray:
    """Whole numbers of samples, [n] int32: only here are contributions rounded."""
    return np.rint(profile).astype(np.int32)


def run(
    protocol: Protocol,
    plan: Plan,
    learning: Learning,
    params: Any,
    rounds: int,
    snapshots: federated.Snapshots = federated.FORGET,
) -> Outcome:
    """Trains the global model for `rounds` rounds on what the protocol has agents contribute.

    A pure function of its arguments.

    Args:
      protocol: the contribution rule.
      plan: `protocol.start(…)`, or another step of its path.
      learning: model, images and randomness.
      params: the initial global model.
      rounds: at least 1.
      snapshots: keep model, plan and samples drawn for a run that is interrupted.
    """
    start = params, plan, np.zeros((0, len(plan.profile)), np.int32)
    done, (params, plan, drawn) = snapshots.restore(start)
    for number in range(done + 1, rounds + 1):
        samples = draw(plan.profile)
        params = protocol.round(learning, params, plan, number)
        if number < rounds:
            plan = protocol.adapt(plan, learning, params)
        drawn = np.concatenate([drawn, samples[None]])
        snapshots.offer(number, (params, plan, drawn))
    return Outcome(federated.local_copy(params), plan, np.mean(drawn, axis=0))
