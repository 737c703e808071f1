"""A protocol is a contribution rule around rounds of federated averaging.

Like an optimiser in optax, a rule is two pure functions: `start` makes a plan from a random key, and
`adapt` changes it after a round. Everything else is the same for all protocols.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from fedgame.learning import federated, local


class Plan(NamedTuple):
    """What agents mean to contribute in the next round."""

    profile: np.ndarray  # [n] contributions in samples, not yet rounded
    path: np.ndarray  # [t, n] the profiles that led here, the last one included
    memory: Any = ()  # whatever else the rule carries from round to round


def keep(plan: Plan, accuracy: Callable[[], np.ndarray]) -> Plan:
    """The `adapt` of a rule whose plan stands once it is made."""
    del accuracy
    return plan


class Protocol(NamedTuple):
    """Who contributes what, and which payments go with it."""

    name: str
    start: Callable[[jax.Array], Plan]  # key -> plan of the first round
    adapt: Callable[[Plan, Callable[[], np.ndarray]], Plan] = keep  # second argument: () -> [n]
    beta: float = 0.0  # β of the mechanism M_β under which costs are settled; 0: no payments


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
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    train: federated.Images,
    test: federated.Images,
    rounds: int,
    key: jax.Array,
    mesh: jax.sharding.Mesh | None = None,
    snapshots: federated.Snapshots = federated.FORGET,
) -> Outcome:
    """Trains the global model for `rounds` rounds on what the protocol has agents contribute.

    A pure function of its arguments.

    Args:
      protocol: the contribution rule.
      plan: `protocol.start(…)`.
      model: the network.
      options: local training.
      params: the initial global model.
      train: the agents' images, [n, most, h, w, c]; with a mesh, as `federated.place` puts them.
      test: the agents' own test images, [n, m, h, w, c], of which rules see the accuracy.
      rounds: at least 1.
      key: for the order of samples.
      mesh: devices that share the agents, or None.
      snapshots: keep model, plan and samples drawn for a run that is interrupted.
    """
    start = params, plan, np.zeros((0, len(plan.profile)), np.int32)
    done, (params, plan, drawn) = snapshots.restore(start)
    for number in range(done + 1, rounds + 1):
        samples = draw(plan.profile)
        params = federated.federated_round(model, options, params, train, samples, key, number, mesh)
        if number < rounds:
            plan = protocol.adapt(
                plan, lambda p=params: federated.accuracy(model, federated.local_copy(p), test)
            )
        drawn = np.concatenate([drawn, samples[None]])
        snapshots.offer(number, (params, plan, drawn))
    return Outcome(federated.local_copy(params), plan, np.mean(drawn, axis=0))
