"""What one member does: she keeps her records, her cost and her limit, and answers the server's requests.

Pure functions of messages, of what she has, and of what she was told when she enrolled.
"""

import functools
import json
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedgame.federation import messages
from fedgame.games import costs, scenarios
from fedgame.games import game as games
from fedgame.learning import evaluation, federated, local, models
from fedgame.protocols import fedbr
from fedgame.report import money

OVER = "The whole run"  # begins the last sentence of a member's log


class Private(NamedTuple):
    """What a member has, and tells nobody beyond what she declares (`messages.Enrolled`).

    Attributes:
      cost: c_i, what sharing costs her, in the currency of `value`.
      value: v_i, what accuracy 1 is worth to her.
      limit: τ_i, the maximum that she contributes, samples; at most her records.
      train: her records, [m, ...], in her own order: she trains on the first ones.
      test: records that she holds out, [k, ...], to see how good the model is for her.
      clip: C, the largest norm ‖update‖₂ that leaves her; infinite: any.
      noise: standard deviation of the Gaussian noise on every number of the update, as a multiple of C.
      secret: seed of that noise; whoever knows it can subtract it, so choose a large one.
      most_paid: the most that she pays for the whole run, in the currency of `value`; infinite: any.
      name: what the federation calls her; "": whatever it does.
      like: where what was agreed lies on her machine, of which her records were made; "": nothing was.
      agreed: digest of it, to be compared with the server's; "": it is not.
    """

    cost: costs.Cost
    value: float
    limit: float
    train: federated.Images
    test: federated.Images
    clip: float = np.inf
    noise: float = 0.0
    secret: int = 0
    most_paid: float = np.inf
    name: str = ""
    like: str = ""
    agreed: str = ""


def check(private: Private) -> Private:
    """Raises a `ValueError` that says which of her numbers is not allowed."""
    for part in ("train", "test"):
        inputs, labels = (len(array) for array in getattr(private, part))
        if inputs != labels:
            raise ValueError(f"`{part}` must have one label for each record, got {labels} for {inputs}")
    records = len(private.train.labels)
    if not 0 <= private.limit <= records:
        raise ValueError(f"`limit` must be from 0 to the {records} records that she has, got {private.limit}")
    if not 0 <= private.value < np.inf:
        raise ValueError(f"`value` must be at least 0 and finite, got {private.value}")
    if not private.clip > 0:
        raise ValueError(f"`clip` must be above 0, got {private.clip}")
    if not 0 <= private.noise < np.inf:
        raise ValueError(f"`noise` must be at least 0, got {private.noise}")
    if private.noise > 0 and not np.isfinite(private.clip):
        raise ValueError("`noise` is a multiple of `clip`: give that too")
    if not private.most_paid >= 0:
        raise ValueError(f"`most_paid` must be at least 0, got {private.most_paid}")
    if private.secret < 0:
        raise ValueError(f"`secret` must be at least 0, got {private.secret}")
    return private


def save(file: pathlib.Path, private: Private) -> None:
    """Writes what a member has, for `load`: FILE.json, which people can edit, and FILE.npz beside it."""
    about = {
        "cost": scenarios.family_values(private.cost),
        "value": float(private.value),
        "limit": float(private.limit),
        "clip": float(private.clip) if np.isfinite(private.clip) else None,
        "noise": float(private.noise),
        "secret": int(private.secret),
        "most_paid": float(private.most_paid) if np.isfinite(private.most_paid) else None,
        "name": private.name,
        "like": private.like,
        "agreed": private.agreed,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = {"train": private.train, "test": private.test}
    arrays = {
        f"{part}_{field}": np.asarray(getattr(records, field))
        for part, records in parts.items()
        for field in records._fields
    }
    with _of_hers(file.with_suffix(".npz")).open("wb") as opened:
        np.savez(opened, **arrays)
    _of_hers(file).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _of_hers(file: pathlib.Path) -> pathlib.Path:
    """A file that nobody else on her machine can read."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    return file


def model_file(file: pathlib.Path) -> pathlib.Path:
    """Where the final model lies that she was given, beside the file that `save` wrote."""
    return file.with_name(f"{file.stem}_model.npz")


def save_model(file: pathlib.Path, model: messages.Arrays) -> None:
    """Writes the final model beside her file."""
    with _of_hers(model_file(file)).open("wb") as opened:
        np.savez(opened, **model)


def load_model(file: pathlib.Path) -> messages.Arrays:
    """The final model that `save_model` wrote beside her file."""
    with np.load(model_file(file), allow_pickle=False) as stored:
        return dict(stored)


def load(file: pathlib.Path) -> Private:
    """What a member has, as `save` wrote it.

    Raises:
      FileNotFoundError: one of the two files is not there.
      ValueError: they do not hold what `save` writes, or as `check`.
    """
    records = file.with_suffix(".npz")
    for one in (file, records):
        if not one.is_file():
            raise FileNotFoundError(f"there is no file {one}")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        with records.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            train, test = (
                federated.Images(*(stored[f"{part}_{field}"] for field in federated.Images._fields))
                for part in ("train", "test")
            )
        private = Private(
            cost=scenarios.family_of("cost", about["cost"]),
            value=float(about["value"]),
            limit=float(about["limit"]),
            train=train,
            test=test,
            clip=np.inf if about.get("clip") is None else float(about["clip"]),
            noise=float(about.get("noise", 0.0)),
            secret=int(about.get("secret", 0)),
            most_paid=np.inf if about.get("most_paid") is None else float(about["most_paid"]),
            name=str(about.get("name", "")),
            like=str(about.get("like", "")),
            agreed=str(about.get("agreed", "")),
        )
        return check(private)
    except KeyError as error:
        raise ValueError(f"{file}: {error} is missing") from None
    except (ValueError, TypeError, OverflowError, OSError, EOFError) as error:
        raise ValueError(f"{file}: {error}") from None
    except (zipfile.BadZipFile, RuntimeError) as error:  # the latter of an archive with unknown features
        raise ValueError(f"{file}: {error}") from None


class Joined(NamedTuple):
    """A member who has enrolled: what she has, what she was told, and what she makes of both."""

    private: Private
    terms: messages.Enrol
    agent: games.Game  # her own game, without payments
    model: nn.Module
    options: local.LocalTraining


def join(private: Private, terms: messages.Enrol) -> Joined:
    """A member who takes part on these terms.

    Raises:
      ValueError: the terms are for somebody else, or the federation trains on something else than she has, or
        there is no game or network as they say.
    """
    if private.name and private.name != terms.name:
        raise ValueError(f"this is the kit of {terms.name!r}, and her file is that of {private.name!r}")
    if private.agreed and private.agreed != terms.agreed:
        raise ValueError("her records were made by another agreement (--like) than the server's")
    has = list(private.train.images.shape[1:])
    if has != list(terms.features):
        raise ValueError(f"the federation trains on inputs of shape {terms.features}, and she has {has}")
    payoff = scenarios.family_of("payoff", terms.payoff)
    value = private.value if terms.gains else 0.0  # with 0 her own samples bring her nothing
    limit = np.asarray([private.limit], float)
    game = games.check(games.Game(payoff, private.cost, limit, value, terms.quality))
    model = models.from_dict(terms.network)
    return Joined(private, terms, games.agent_of(game, 0), model, local.LocalTraining(**terms.training))


def declare(joined: Joined) -> messages.Enrolled:
    """What she declares."""
    private = joined.private
    cost = scenarios.family_values(private.cost)
    return messages.Enrolled(cost, float(private.value), float(private.limit))


@jax.jit
def _slope(agent: games.Game, rate: float, own: float, announced: float, paid: float) -> jax.Array:
    """`fedbr.slope`, with her cost as it is after refunds."""
    return fedbr.slope(games.scale_costs(agent, 1.0 - rate), own, announced, paid)


_move = jax.jit(fedbr.move)


def slope(joined: Joined, asked: messages.Ask) -> messages.Slope:
    """The slope of her utility."""
    found = _slope(joined.agent, asked.rate, asked.own, asked.announced, asked.paid)
    return messages.Slope(asked.step, float(found))


def move(joined: Joined, asked: messages.Move) -> messages.Contribution:
    """Her next contribution, `fedbr.move`: within what she is willing to contribute, whatever is proposed."""
    found = _move(joined.agent, asked.own, asked.slope, asked.step_size)
    return messages.Contribution(asked.step, float(found))


def consider(joined: Joined, asked: messages.Offer) -> messages.Accepted:
    """Whether she takes part if it costs her this."""
    most, pays = joined.private.most_paid, -asked.paid * asked.unit
    if pays > most:
        return messages.Accepted(False, f"she would pay {pays:.12g}, and pays at most {most:.12g}")
    return messages.Accepted(True, "")


@functools.partial(jax.jit, static_argnames=("model", "options"))
def _trained(
    model: nn.Module,
    options: local.LocalTraining,
    params: Any,
    records: federated.Images,
    samples: jax.Array,
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """Her model minus the global one, and her loss."""
    found, loss = local.train(model.apply, options, params, *records, samples, key)
    return jax.tree.map(jnp.subtract, found, params), loss


def train(joined: Joined, asked: messages.Train) -> messages.Update:
    """What comes of training on her first samples, clipped and with noise if she wants that.

    Raises:
      ValueError: she is asked for more samples than she is willing to contribute.
      FloatingPointError: training diverged.
    """
    private, terms, params = joined.private, joined.terms, messages.from_arrays(asked.model)
    if not 0 <= asked.samples <= np.rint(private.limit):
        raise ValueError(f"she contributes at most {private.limit:g} samples, not {asked.samples}")
    key = jax.random.fold_in(jax.random.key(terms.seed), asked.round)
    hers = jax.random.split(key, terms.members)[terms.number]
    samples = jnp.int32(asked.samples)
    change, loss = _trained(joined.model, joined.options, params, private.train, samples, hers)
    if not np.isfinite(loss):
        raise FloatingPointError("training diverged: a smaller learning rate may help")
    update = _kept_private(messages.to_arrays(change), joined, asked)
    return messages.Update(asked.round, asked.samples, update, _accuracy(joined, params))


def _kept_private(update: messages.Arrays, joined: Joined, asked: messages.Train) -> messages.Arrays:
    """The update, scaled so that its norm is at most C, and with Gaussian noise of deviation C·noise.

    The same request has the same noise, so that a round can be repeated, and every other one has another: the
    server could subtract noise that two different answers share. One round then is as private as the Gaussian
    mechanism makes it; T rounds together are less so.
    """
    private = joined.private
    if not np.isfinite(private.clip):
        return update
    norm = np.sqrt(sum(np.sum(np.square(x, dtype=float)) for x in update.values()))
    factor = np.float32(min(1.0, private.clip / max(norm, 1e-30)))
    request = [int(messages.digest(one), 16) for one in (joined.terms, asked)]
    rng = np.random.default_rng([private.secret, *request])
    deviation = private.noise * private.clip
    return {
        path: factor * x + np.asarray(deviation * rng.standard_normal(x.shape), np.float32)
        for path, x in update.items()
    }


def _accuracy(joined: Joined, params: Any) -> float:
    """The metric of a model on her held-out records; NaN if there are none."""
    if not len(joined.private.test.labels):
        return float("nan")
    hers = federated.Images(*(np.asarray(array)[None] for array in joined.private.test))
    (found,) = evaluation.measured(joined.model, params, hers, joined.terms.metric)
    return float(found)


def note(joined: Joined, told: messages.Statement) -> messages.Noted:
    """She hears what was settled; of the final model she says how good it is for her."""
    accuracy = float("nan")
    if told.model:
        accuracy = _accuracy(joined, messages.from_arrays(told.model))
    return messages.Noted(told.round, accuracy)


_DOES = {
    messages.Ask: slope,
    messages.Move: move,
    messages.Offer: consider,
    messages.Train: train,
    messages.Statement: note,
}


class Site:
    """A member who is running: answers requests as they travel, and says in words what happens to her.

    Once she has paid more than `most_paid`, because others were left out of rounds, she trains no more.
    """

    def __init__(
        self,
        private: Private,
        tell: Callable[[str], None] = lambda sentence: None,
        keep: Callable[[messages.Arrays], None] = lambda model: None,
    ):
        """Args: private: what she has; tell: gets the sentences; keep: gets the final model."""
        self._private, self._tell, self._keep = check(private), tell, keep
        self._joined: Joined | None = None
        self._paid = 0.0  # in all rounds that she has heard of

    def __call__(self, values: dict[str, Any]) -> dict[str, Any]:
        """Answers a request.

        Raises:
          ValueError: it is none, or she has not enrolled; or as `join` and `train`.
          FloatingPointError: as `train`.
        """
        request = messages.from_values(values)
        if isinstance(request, messages.Enrol):
            self._joined = join(self._private, request)
            found = declare(self._joined)
        elif self._joined is None:
            raise ValueError("she has not enrolled yet")
        elif isinstance(request, messages.Train) and self._paid > self._private.most_paid:
            raise ValueError(
                f"she has paid {self._paid:.12g}, and pays at most {self._private.most_paid:.12g}"
            )
        elif type(request) in _DOES:
            found = _DOES[type(request)](self._joined, request)
        else:
            raise ValueError(f"{type(request).__name__} is an answer, and no request")
        if isinstance(request, messages.Statement):
            self._paid = -request.balance * request.unit
            if request.model:
                self._keep(request.model)
        if sentence := in_words(request, found, money.currency(self._joined.terms.currency)):
            self._tell(sentence)
        return messages.to_values(found)


def in_words(request: Any, found: Any, used: money.Currency) -> str:
    """What she was asked, gave or received, as a sentence for her log; "" of steps of the dynamics."""
    if isinstance(request, messages.Enrol):
        called = f", {request.name}," if request.name else ""
        return (
            f"Enrolled as member {request.number + 1} of {request.members}{called} in a federation of "
            f"{request.rounds} rounds, under the rule {request.rule}. Declared: accuracy 1 is worth "
            f"{found.value:g}, at most {found.capacity:g} samples, cost {found.cost}."
        )
    if isinstance(request, messages.Offer):
        verb = "receives" if request.paid >= 0 else "pays"
        answer = "She takes part" if found.accepts else f"She does not take part: {found.reason}"
        return (
            f"What came of the game: she contributes {request.samples} samples in every round, and {verb} "
            f"{_amount(abs(request.paid), request.unit, used)} for the whole run; the model is expected to "
            f"have {request.accuracy:.3f}. {answer}."
        )
    if isinstance(request, messages.Train):
        size = sum(x.nbytes for x in found.update.values())
        return (
            f"Round {request.round}: trained on {found.samples} samples, gave an update of {size:,} bytes; "
            f"the model she was sent has {found.accuracy:.3f} on her own held-out records."
        )
    if isinstance(request, messages.Statement):
        return _statement_in_words(request, found, used)
    return ""


def _amount(units: int, unit: float, used: money.Currency) -> str:
    """An amount to the last unit."""
    return used.exact(units * unit) if used.code else f"{units * unit:.12g}"


def _statement_in_words(told: messages.Statement, noted: messages.Noted, used: money.Currency) -> str:
    """What was settled with her."""
    what = f"Round {told.round}" if told.round else OVER
    verb = "received" if told.paid >= 0 else "paid"
    left_out = f"; left out: {told.reason}" if told.reason else ""
    paid, balance = _amount(abs(told.paid), told.unit, used), _amount(told.balance, told.unit, used)
    head = told.head if told.model else told.head[:16]
    final = f" The final model has {noted.accuracy:.3f} on her own held-out records." if told.model else ""
    return (
        f"{what}: {told.samples} samples count, {verb} {paid}{left_out}. Balance {balance}; the ledger ends "
        f"in {head}.{final}"
    )
