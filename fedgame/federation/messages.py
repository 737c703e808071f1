"""What travels between the server and the members of a federation: requests, and the answers to them.

A message is a `NamedTuple`; on its way it is a dict of plain values and numpy arrays, which any transport can
carry. Nothing else travels: no records, no cost of anybody else's, no contribution of anybody else's.
"""

import hashlib
import json
import sys
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import numpy as np

Arrays = dict[str, np.ndarray]  # a model, or a change of it, by the paths of its parameters


class Enrol(NamedTuple):
    """Server → member, when she joins and when she comes back: all that is public, and all that is hers."""

    members: int  # n
    number: int  # hers, from 0: which of the random keys of a round she uses
    seed: int  # of the order of samples in training
    rounds: int  # T
    network: dict[str, Any]  # `models.to_dict`
    training: dict[str, Any]  # fields of `local.LocalTraining`
    metric: str  # what is measured on her own held-out records
    classes: list[str]
    features: list[int]  # shape of one input of the network
    payoff: dict[str, Any]  # ã, or her f_i: a payoff of what is announced to her (`scenarios.family_values`)
    quality: float  # w_i, standard samples that one of hers counts as
    gains: bool  # whether what she contributes teaches the model that she is given
    rule: str  # who is paid what, as it is written on command lines
    currency: str = ""  # of costs and payments, such as EUR
    name: str = ""  # what the federation calls her
    agreed: str = ""  # digest of the columns, classes and network that were agreed on; "": of none


class Enrolled(NamedTuple):
    """What she declares: her cost, by Remark 2 of the paper, what accuracy is worth to her, and her limit."""

    cost: dict[str, Any]  # c_i, `scenarios.family_values`
    value: float  # v_i
    capacity: float  # τ_i, the maximum that she would ever contribute, samples


class Ask(NamedTuple):
    """Asks for the slope of her utility at the profile of a step of best-response dynamics, Eq. (4)."""

    step: int
    own: float  # s_i, samples, as she last said
    announced: float  # ‖s‖₁, or her effective samples z_i
    rate: float  # the share of her cost that she gets back, if payments are refunds of costs
    paid: float  # what one more sample of hers is paid, if they are not


class Slope(NamedTuple):
    """∂u_i/∂s_i."""

    step: int
    slope: float


class Move(NamedTuple):
    """Asks her to move. A step of 0 proposes `own`."""

    step: int
    own: float
    slope: float  # as she has reported it
    step_size: float  # δ


class Contribution(NamedTuple):
    """What she will contribute from now on."""

    step: int
    contribution: float  # s_i, samples


class Offer(NamedTuple):
    """Tells her what came of the game, before anything is trained or paid."""

    samples: int  # that she contributes in every round
    paid: int  # what she receives for the whole run, in smallest units; negative: she pays
    unit: float  # the smallest unit, in the currency of costs
    accuracy: float  # a_i(s), of the model that she is given, as the announced payoff expects it


class Accepted(NamedTuple):
    """Whether she takes part on these terms."""

    accepts: bool
    reason: str  # why not; "" if she does


class Train(NamedTuple):
    """Asks her to train."""

    round: int  # from 1
    samples: int  # s_i, as she said, rounded
    model: Arrays  # the global model


class Update(NamedTuple):
    """What came of her training."""

    round: int
    samples: int  # that she trained on
    update: Arrays  # her model minus the global one
    accuracy: float  # of the global model on her own held-out records, by the metric; NaN: none


class Statement(NamedTuple):
    """What was settled with her, after a round; round 0 is of the whole run, with the final model."""

    round: int
    samples: int  # that count
    paid: int  # what she receives, in smallest units; negative: she pays
    balance: int  # of all rounds so far
    unit: float  # the smallest unit, in the currency of costs
    reason: str  # why she was left out; "" if she was not
    head: str  # digest of the last entry of the ledger: with it she can show that it was changed later
    model: Arrays  # the final model; {} in a round


class Noted(NamedTuple):
    """She has heard it."""

    round: int
    accuracy: float  # of the final model on her own held-out records; NaN: none, or in a round


ANSWER_OF = {
    Enrol: Enrolled,
    Ask: Slope,
    Move: Contribution,
    Offer: Accepted,
    Train: Update,
    Statement: Noted,
}
KINDS = {kind.__name__: kind for pair in ANSWER_OF.items() for kind in pair}
_MAY_BE_NAN = ("accuracy",)


def to_values(message: NamedTuple) -> dict[str, Any]:
    """A message as it travels."""
    return {"kind": type(message).__name__} | message._asdict()


def from_values(values: Any, kind: type | None = None) -> Any:
    """The message of which `to_values` made these values.

    Args:
      values: as they arrived.
      kind: of the message that is expected; None: any.

    Raises:
      ValueError: they are no message of this kind; says what is wrong with them.
    """
    named = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(named, str) or named not in KINDS:
        raise ValueError(f"this is no message but {_short(values)}")
    found = KINDS[named]
    if kind is not None and found is not kind:
        raise ValueError(f"this is a message {found.__name__}, where {kind.__name__} is the answer")
    given = {name: x for name, x in values.items() if name != "kind"}
    if given.keys() != set(found._fields):
        wrong = sorted(map(str, given.keys() ^ set(found._fields)))
        raise ValueError(f"{found.__name__} has the fields {', '.join(found._fields)}; wrong: {wrong[0]}")
    for name, kind_of_field in typing.get_type_hints(found).items():
        if fault := _fault(name, given[name], kind_of_field):
            raise ValueError(f"{found.__name__}.{name} {fault}")
    return found(**given)


def _fault(name: str, x: Any, kind: Any) -> str:
    """What is wrong with a field, to follow its name; "" if nothing is."""
    if kind is float:
        if isinstance(x, bool) or not isinstance(x, int | float):
            return f"must be a number, got {_short(x)}"
        allowed = abs(x) <= sys.float_info.max or (name in _MAY_BE_NAN and x != x)
        return "" if allowed else f"must be finite, got {_short(x)}"
    if kind is int and (isinstance(x, bool) or not isinstance(x, int)):
        return f"must be a whole number, got {_short(x)}"
    if kind in (bool, str) and not isinstance(x, kind):
        return f"must be a {kind.__name__}, got {_short(x)}"
    if kind == Arrays:
        return _fault_of_arrays(x)
    if (plain := typing.get_origin(kind)) in (dict, list):
        if not isinstance(x, plain):
            return f"must be a {plain.__name__}, got {_short(x)}"
        try:
            json.dumps(x, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            return f"must hold finite numbers, texts, and lists and dicts of them, got {_short(x)}"
    return ""


def _fault_of_arrays(x: Any) -> str:
    """What is wrong with a model; "" if all parameters are finite float32."""
    if not isinstance(x, dict):
        return f"must be a dict of arrays, got {_short(x)}"
    for path, array in x.items():
        if not (isinstance(path, str) and isinstance(array, np.ndarray) and array.dtype == np.float32):
            return f"{path} must be an array of float32, got {_short(array)}"
        if not np.all(np.isfinite(array)):
            return f"{path} is not finite"
    return ""


def _short(x: Any) -> str:
    text = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else repr(x)
    return text if len(text) <= 60 else f"{text[:60]}…"


def digest(message: NamedTuple) -> str:
    """SHA-256 of a message: equal only if all of it is, to the last bit."""
    return digest_of(to_values(message))


def digest_of(values: Any) -> str:
    """SHA-256 of values as they travel."""
    found = hashlib.sha256()

    def add(x: Any) -> None:
        if isinstance(x, Mapping):
            found.update(b"{")
            for key in sorted(x):
                found.update(f"{json.dumps(key)}:".encode())
                add(x[key])
            found.update(b"}")
        elif isinstance(x, np.ndarray):
            found.update(f"{x.dtype}{list(x.shape)}".encode() + np.ascontiguousarray(x).tobytes())
        else:
            found.update(f"{json.dumps(x)};".encode())

    add(values)
    return found.hexdigest()


def to_arrays(params: Any) -> Arrays:
    """A model of Flax, or a change of one, as it travels."""
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    return {path: np.asarray(array, np.float32) for path, array in sorted(flat.items())}


def from_arrays(arrays: Arrays) -> Any:
    """The model, or the change, of which `to_arrays` made this."""
    return flax.traverse_util.unflatten_dict(arrays, sep="/")
