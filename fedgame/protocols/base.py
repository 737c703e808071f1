"""A protocol is a contribution rule and a training round.

`start` makes a plan from a game and a random key, `adapt` changes it after a round, and `train` makes the
next model from what agents contribute: by federated averaging, unless a protocol has its own way (AFL,
q-FFL).
"""

import dataclasses
import hashlib
import numbers
import pathlib
import sys
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.learning import federated
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import rules
from fedgame.mechanisms.base import Announcement, Rule

PROTOCOLS = registry.kind("protocol", registry.a_choice)


class Plan(NamedTuple):
    """What agents mean to contribute in the next round."""

    profile: np.ndarray  # [n] contributions in samples, not yet rounded
    path: np.ndarray  # [t, n] samples, the steps of the game that led to `profile`, itself included
    memory: Any = ()  # whatever else is carried from round to round, a pytree of arrays


def always(profile: Any) -> Plan:
    """The plan of a protocol that plays no game: the same profile, [n] samples, in every round."""
    profile = np.asarray(profile, float)
    return Plan(profile, profile[None])


class Protocol:
    """Who contributes what, how models are combined, and which payments go with it.

    A protocol is a class that is registered under a name (`registry.register`). Its fields, made by
    `registry.option`, are what users choose. Only `start` must be defined. `adapt` and `train` may depend on
    the fields and the plan only: a stored model is reused if these and the source of the protocol's modules
    are the same (see `identity`). Modules that they import are not compared.
    """

    kind: ClassVar[str] = "protocol"
    label: ClassVar[str]  # in tables and figures
    aims: ClassVar[bool] = False  # whether its profile should be an equilibrium under its rule
    rule: Rule = rules.none  # what the server announces, and so who is paid what

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(number := getattr(self, field.name), numbers.Number):
                registry.check_number(f"`{field.name}`", number, field)

    @registry.needed
    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> Plan:
        """The plan of the first round, a pure function of its arguments.

        Args:
          game: n agents without payments, with the fitted ã; capacities are whole numbers of samples.
          announced: what `rule` announces for this game.
          key: for all random choices.
        """
        raise NotImplementedError

    def adapt(self, plan: Plan, trainer: trainers.Trainer, params: Any) -> Plan:
        """The plan of the next round, after one that made `params`; shapes must stay. By default the same."""
        del trainer, params
        return plan

    def train(self, trainer: trainers.Trainer, params: Any, plan: Plan, number: int) -> Any:
        """The model after round `number`, from 1; by default that of federated averaging.

        Args:
          trainer: images, local training and randomness.
          params: the model before the round.
          plan: what agents contribute.
          number: of the round.
        """
        return trainer.average(params, draw(plan.profile), number)

    def ending(self, plan: Plan) -> str:
        """How the path of the plan ends, in words; "" if there is nothing to say."""
        del plan
        return ""

    @property
    def title(self) -> str:
        """The name in tables and figures."""
        return registry.title(self)


class Outcome(NamedTuple):
    """The result of a run."""

    params: Any  # the global model
    plan: Plan  # as it stood in the last round
    drawn: np.ndarray  # [rounds, n] samples that agents trained on

    @property
    def charged(self) -> np.ndarray:
        """[n] s_i in u_i: samples drawn in a round, averaged over rounds."""
        return np.mean(self.drawn, axis=0)


def _inside(protocol: Protocol) -> list[Any]:
    """Functions and classes that define the fields: those of rules, and those of dataclasses of numbers."""
    defining = []
    for field in dataclasses.fields(protocol):
        value = getattr(protocol, field.name)
        if isinstance(value, Rule):
            defining.append(registry.definition(value))
        elif dataclasses.is_dataclass(value):
            defining.append(type(value))
    return defining


def _plain(value: Any) -> Any:
    """The value of a field; for a rule, the text that stands for it on the command line."""
    return registry.text_of(value) if isinstance(value, Rule) else value


def draw(profile: np.ndarray) -> np.ndarray:
    """Whole numbers of samples, [n] int32: only here are contributions rounded."""
    return np.rint(profile).astype(np.int32)


def run(
    protocol: Protocol,
    plan: Plan,
    trainer: trainers.Trainer,
    params: Any,
    rounds: int,
    snapshots: trainers.Snapshots = trainers.FORGET,
) -> Outcome:
    """Trains the global model for `rounds` rounds on what agents contribute under the protocol.

    A pure function of its arguments.

    Args:
      protocol: the contribution rule and the training round.
      plan: of the first round: `protocol.start(…)`, or another step of its path.
      trainer: network, images and randomness.
      params: the initial global model.
      rounds: at least 1.
      snapshots: keep the model, the plan and the samples drawn, so that an interrupted run can go on.
    """

    def step(state: tuple[Any, Plan, np.ndarray], number: int) -> tuple[Any, Plan, np.ndarray]:
        params, plan, drawn = state
        params = protocol.train(trainer, params, plan, number)
        drawn = np.concatenate([drawn, draw(plan.profile)[None]])
        if number < rounds:
            plan = protocol.adapt(plan, trainer, params)
        return params, plan, drawn

    start = params, plan, np.zeros((0, len(plan.profile)), np.int32)
    params, plan, drawn = trainers.run(step, start, rounds, snapshots)
    return Outcome(federated.local_copy(params), plan, drawn)


def identity(protocol: Protocol) -> dict[str, Any] | None:
    """What makes a protocol's models differ from those of federated averaging on the same samples.

    Models of protocols with equal identities may be exchanged for one another.

    Returns:
      JSON values. {} if the protocol has neither `adapt` nor `train` of its own. Otherwise the class, its
      fields, and a digest of the modules that define them. None if that is not known: a field is more than
      numbers and text, or the class is in no file (a notebook) or made in a function. Models are then never
      reused, and are trained again when a run is resumed.
    """
    kind = type(protocol)
    if kind.adapt is Protocol.adapt and kind.train is Protocol.train:
        return {}
    fields = {field.name: _plain(getattr(protocol, field.name)) for field in dataclasses.fields(protocol)}
    leaves, structure = jax.tree.flatten(fields)
    if any(_is_random_key(leaf) for leaf in leaves):
        return None
    leaves = [np.asarray(leaf) for leaf in leaves]
    defining = [*kind.mro()[:-1], *_inside(protocol)]
    files = [getattr(sys.modules.get(one.__module__), "__file__", None) for one in defining]
    addressed = " at 0x" in str(structure)  # a function among the numbers: not the same in another process
    local = "<locals>" in kind.__qualname__  # may depend on variables of the function that made it
    numbers_and_text = all(leaf.dtype.kind in "biufU" for leaf in leaves)
    if None in files or addressed or local or not numbers_and_text:
        return None
    code = hashlib.sha256(b"".join(pathlib.Path(file).read_bytes() for file in sorted({*files})))
    return {
        "rule": f"{kind.__module__}.{kind.__qualname__}",
        "fields": [str(structure), [leaf.tolist() for leaf in leaves]],
        "code": code.hexdigest(),
    }


def _is_random_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
