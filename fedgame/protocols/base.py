"""A protocol is a contribution rule and a training round.

`start` makes a plan from a game and a random key, `adapt` changes it after a round, and `train` makes the
next model of what agents contribute: federated averaging unless a protocol has its own (AFL, q-FFL).
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
    path: np.ndarray  # [t, n] the steps of the game that led here, the last one included
    memory: Any = ()  # whatever else is carried from round to round, a pytree of arrays


def always(profile: Any) -> Plan:
    """The plan of a protocol that plays no game: the same profile, [n] samples, in every round."""
    profile = np.asarray(profile, float)
    return Plan(profile, profile[None])


class Protocol:
    """Who contributes what, how models are put together, and which payments go with it.

    A protocol is a class with a name, see `registry.register`, whose fields, made by `registry.option`, are
    what people choose. Only `start` has to be defined. All that `adapt` and `train` depend on must be in the
    fields, or in the plan: models that were trained under other ones, or by another text of the module, are
    then never taken for its own. Other modules that these call do not count.
    """

    kind: ClassVar[str] = "protocol"
    label: ClassVar[str]  # in tables and figures
    aims: ClassVar[bool] = False  # at an equilibrium of the game under what the rule announces
    rule: Rule = rules.none  # whose payments settle costs

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(number := getattr(self, field.name), numbers.Number):
                registry.check_number(f"`{field.name}`", number, field)

    @registry.needed
    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> Plan:
        """The plan of the first round, a pure function of its arguments.

        Args:
          game: on the fitted ã, n agents without payments; their capacities are whole numbers of samples.
          announced: what `rule` announces for it.
          key: of all random choices.
        """
        raise NotImplementedError

    def adapt(self, plan: Plan, trainer: trainers.Trainer, params: Any) -> Plan:
        """The plan of the next round, after one that made `params`; by default the same. Keeps all shapes."""
        del trainer, params
        return plan

    def train(self, trainer: trainers.Trainer, params: Any, plan: Plan, number: int) -> Any:
        """The model after round `number`; by default of federated averaging."""
        return trainer.average(params, draw(plan.profile), number)

    def ending(self, plan: Plan) -> str:
        """How the steps of its game end, in words, where there is something to tell."""
        del plan
        return ""

    @property
    def title(self) -> str:
        """What it is called in tables and figures."""
        return registry.title(self)


class Outcome(NamedTuple):
    """What came of a run."""

    params: Any  # the global model
    plan: Plan  # as it stood in the last round
    drawn: np.ndarray  # [rounds, n] samples that agents trained on

    @property
    def charged(self) -> np.ndarray:
        """[n] s_i in u_i: samples drawn, the mean over rounds where they vary."""
        return np.mean(self.drawn, axis=0)


def _inside(protocol: Protocol) -> list[Any]:
    """What defines the rules, and the families of numbers, in its fields."""
    values = [getattr(protocol, field.name) for field in dataclasses.fields(protocol)]
    defined = [registry.definition(x) for x in values if isinstance(x, Rule)]
    return defined + [type(x) for x in values if dataclasses.is_dataclass(x) and not isinstance(x, Rule)]


def _plain(value: Any) -> Any:
    """A field; of a rule, the text by which it is read."""
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
    """Trains the global model for `rounds` rounds on what the protocol has agents contribute.

    A pure function of its arguments.

    Args:
      protocol: the contribution rule and the training round.
      plan: `protocol.start(…)`, or another step of its path.
      trainer: network, images and randomness.
      params: the initial global model.
      rounds: at least 1.
      snapshots: keep model, plan and samples drawn for a run that is interrupted.
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
    """What makes its models differ from those of federated averaging on the same samples, as JSON values.

    Empty if it neither adapts nor trains in a way of its own. Else the class, its fields, and the text of the
    modules that define it. None if that cannot be told, because a field is more than numbers and text, or the
    class is in no file (a notebook) or made in a function: such models are nobody else's, and trained anew
    when a run is resumed.
    """
    kind = type(protocol)
    if kind.adapt is Protocol.adapt and kind.train is Protocol.train:
        return {}
    fields = {field.name: _plain(getattr(protocol, field.name)) for field in dataclasses.fields(protocol)}
    leaves, structure = jax.tree.flatten(fields)
    if any(
        isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in leaves
    ):
        return None  # random keys, which are no numbers
    leaves = [np.asarray(leaf) for leaf in leaves]
    defining = [*kind.mro()[:-1], *_inside(protocol)]
    files = [getattr(sys.modules.get(one.__module__), "__file__", None) for one in defining]
    addressed = " at 0x" in str(structure)  # a function among the numbers: not the same in another process
    local = "<locals>" in kind.__qualname__  # may depend on variables of the function that made it
    if None in files or addressed or local or any(leaf.dtype.kind not in "biufU" for leaf in leaves):
        return None
    code = hashlib.sha256(b"".join(pathlib.Path(file).read_bytes() for file in sorted({*files})))
    return {
        "rule": f"{kind.__module__}.{kind.__qualname__}",
        "fields": [str(structure), [leaf.tolist() for leaf in leaves]],
        "code": code.hexdigest(),
    }
