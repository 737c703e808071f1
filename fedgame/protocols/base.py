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
) -> Outcome:
    """Trains the global model for `rounds` rounds on what the protocol has agents contribute.

    A pure function of its arguments.

    Args:
      protocol: the contribution rule.
      plan: `protocol.start(…)`.
      model: the network.
      options: local training.
      params: the initial global model.
      train: the agents' images, [n, most, h, w, c].
      test: the agents' own test images, [n, m, h, w, c], of which rules see the accuracy.
      rounds: at least 1.
      key: for the order of samples.
    """
    drawn = []
    for number in range(1, rounds + 1):
        drawn.append(draw(plan.profile))
        params = federated.federated_round(model, options, params, train, drawn[-1], key, number)
        if number < rounds:
            plan = protocol.adapt(plan, lambda p=params: federated.accuracy(model, p, test))
    return Outcome(params, plan, np.mean(drawn, axis=0))
