"""What the server does: what it asks, what it makes of the answers, and which of them it rejects.

The game is played first, by the dynamics of `protocols.fedbr`; then members train for T rounds on what they
have said that they contribute, and the server averages. Everything is a function of messages; `ask` carries
them, see `conduct`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import dynamics
from fedgame.federation import messages
from fedgame.federation.settlement import Agreement
from fedgame.games import game as games
from fedgame.games import payoffs, scenarios
from fedgame.learning import local, models
from fedgame.mechanisms import refunds
from fedgame.mechanisms.base import Mechanism
from fedgame.protocols import base, fedbr

# Asks members, by number, and returns the answers that are right, by number. Each is checked by a function of
# the request and the answer, which returns what is wrong with it or "".
Ask = Callable[[Mapping[int, Any], Callable[[int, Any, Any], str]], dict[int, Any]]
_MOST = 2**31 - 1  # samples of a member: they are drawn as int32
_LARGEST = 1e30  # number in an update: sums of such stay finite in single precision
_SLOPE_TOLERANCE = 1e-6  # of what a sample costs and brings: other machines round differently


class Training(NamedTuple):
    """How members train, and what they train on."""

    model: nn.Module  # one of `models`
    options: local.LocalTraining
    features: tuple[int, ...]  # shape of one input
    classes: tuple[str, ...]
    metric: str
    seed: int
    agreed: str = ""  # digest of what members on machines of their own have agreed on; "": of nothing


def check(protocol: base.Protocol, payoff: payoffs.Payoff) -> None:
    """Raises a `ValueError` for a protocol or a payoff of which members cannot be told what they need."""
    if base.identity(protocol) != {}:
        raise ValueError(
            f"{protocol.title} adapts contributions to the model, or has a training round of its own; over a "
            "network members average what they contribute: take fedbr, fedavg or first_best"
        )
    if not fedbr.sees_one_number(payoff):
        raise ValueError(
            f"members are told ‖s‖₁ or their effective samples; {type(payoff).__name__} depends on more"
        )


def initial_model(training: Training) -> Any:
    """The parameters before the first round, which follow from the seed."""
    key = jax.random.fold_in(jax.random.key(training.seed), 0)
    return jax.device_get(models.initial_parameters(training.model, key, training.features))


def terms(
    payoff: payoffs.Payoff, quality: np.ndarray, protocol: base.Protocol, training: Training, rounds: int
) -> list[messages.Enrol]:
    """[n] what each member is told when she joins.

    Args:
      payoff: of n members.
      quality: [n] w_i.
      protocol: with the rule of payments.
      training: how they train.
      rounds: T.
    """
    n = len(quality)
    told = []
    for i in range(n):
        hers = registry.of_agents(payoff, i)
        if isinstance(payoff, payoffs.EffectiveSamples):
            hers = hers.data_to_accuracy
        told.append(
            messages.Enrol(
                members=n,
                number=i,
                seed=training.seed,
                rounds=rounds,
                network=models.to_dict(training.model),
                training=training.options._asdict(),
                metric=training.metric,
                classes=list(training.classes),
                features=list(training.features),
                payoff=scenarios.family_values(hers),
                quality=float(quality[i]),
                gains=bool(payoff.own_gain),
                rule=registry.text_of(protocol.rule),
                agreed=training.agreed,
            )
        )
    return told


def declared(
    payoff: payoffs.Payoff, quality: np.ndarray, held: float, answers: Mapping[int, messages.Enrolled]
) -> games.Game:
    """The game that members have declared.

    Raises:
      ValueError: a cost is none, a limit too large, or members have declared costs of different kinds.
    """
    told = [answers[i] for i in range(len(quality))]
    if (most := max(one.capacity for one in told)) > _MOST:
        raise ValueError(f"a member would contribute {most:g} samples: at most {_MOST} are possible")
    costs = [scenarios.family_of("cost", one.cost) for one in told]
    kinds = {type(cost) for cost in costs}
    if len(kinds) > 1:
        names = ", ".join(sorted(registry.name_of(kind) for kind in kinds))
        raise ValueError(f"members have declared costs of different kinds: {names}")
    cost = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(one, float) for one in x]), *costs)
    capacity, value = (jnp.asarray([getattr(one, name) for one in told]) for name in ("capacity", "value"))
    return games.check(games.Game(payoff, cost, capacity, value, jnp.asarray(quality), held))


def rates(mechanism: Mechanism, n: int) -> np.ndarray:
    """[n] the share of her cost that each member gets back; 0 if payments are no refunds of costs."""
    if isinstance(mechanism, refunds.Refunds):
        return np.broadcast_to(np.asarray(mechanism.rates, float), (n,))
    return np.zeros(n)


_announcements, _offers, _after = (
    jax.jit(fedbr.announcements),
    jax.jit(fedbr.offers),
    jax.jit(dynamics.after, static_argnames="adaptive"),
)


def agree(
    agreement: Agreement,
    protocol: base.Protocol,
    seed: int,
    ask: Ask,
    progress: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The path to what members say that they contribute, [steps, n] samples, as that of `protocol.start`.

    Of FedBR these are the steps of best-response dynamics. Other protocols propose a profile, and members
    contribute that as far as they are willing to. Who does not answer stays where she is.

    Args:
      agreement: the declared game.
      protocol: see `check`.
      seed: of the random start, as in `protocol.start`.
      ask: carries messages.
      progress: called after every step.
    """
    game, announced = agreement.game, agreement.announced(range(len(agreement.names)))
    if not isinstance(protocol, fedbr.FedBR) or protocol.known(game, announced.mechanism) is not None:
        profile = protocol.start(game, announced, jax.random.key(seed)).profile
        return np.stack([profile, _moved(game, profile, np.zeros(game.n), 0.0, 0, ask)])
    s = fedbr.random_start(jax.random.key(seed), game.capacity)
    adaptive = protocol.step_size is None
    slopes = functools.partial(_slopes, game, announced.mechanism, ask=ask)
    state = dynamics.state_at(s, slopes(s, step=0), game.capacity, protocol.step_size)
    path = [np.asarray(s)]
    for step in range(1, protocol.steps + 1):
        new = _moved(game, state.profile, state.gradient, float(state.step_size), step, ask)
        state = _after(state, new, slopes(new, step=step), game.capacity, adaptive=adaptive)
        path.append(np.asarray(new))
        progress()
    return np.stack(path)


def _slopes(game: games.Game, mechanism: Mechanism, s: jax.Array, step: int, ask: Ask) -> jax.Array:
    """[n] the slopes that members report at a profile; 0 of those who do not."""
    s = games.as_profile(s)
    told, paid = np.asarray(_announcements(game, s)), np.zeros(game.n)
    if not isinstance(mechanism, refunds.Refunds):
        paid = np.asarray(_offers(mechanism, game, s))
    rate = rates(mechanism, game.n)
    numbers = np.stack([np.asarray(s), told, rate, paid], axis=1).tolist()
    requests = {i: messages.Ask(step, *hers) for i, hers in enumerate(numbers)}
    expected, size = _expected_slopes(game, rate, s, told, paid)

    def fault(i: int, request: messages.Ask, answer: messages.Slope) -> str:
        if answer.step != request.step:
            return f"her slope is that of step {answer.step}, not {request.step}"
        if abs(answer.slope - expected[i]) > _SLOPE_TOLERANCE * size[i]:
            return (
                f"her slope at step {step} is {answer.slope:.6g}; by what she has declared it is "
                f"{expected[i]:.6g}"
            )
        return ""

    found = np.zeros(game.n)
    for i, answer in ask(requests, fault).items():
        found[i] = answer.slope
    return jnp.asarray(found)


@jax.jit
def _expected_slopes(
    game: games.Game, rate: jax.Array, s: jax.Array, told: jax.Array, paid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """[n] the slopes that follow from what was declared, and the size of what they are the sum of."""
    cost = games.marginal_costs(game, s)
    without_refunds = jax.vmap(fedbr.slope, (games.agent_axes(game), 0, 0, 0))(game, s, told, paid)
    brings = without_refunds + cost - paid
    return without_refunds + rate * cost, jnp.abs(brings) + cost + jnp.abs(paid)


def _moved(game: games.Game, s: Any, slopes: Any, step_size: float, step: int, ask: Ask) -> np.ndarray:
    """[n] what members contribute next; those who do not say it stay where they are."""
    s, slopes = np.asarray(s, float), np.asarray(slopes, float)
    requests = {i: messages.Move(step, float(s[i]), float(slopes[i]), step_size) for i in range(game.n)}
    capacity = np.asarray(game.capacity)

    def fault(i: int, request: messages.Move, answer: messages.Contribution) -> str:
        if answer.step != request.step:
            return f"her contribution is that of step {answer.step}, not {request.step}"
        if not 0 <= answer.contribution <= capacity[i]:
            return f"her contribution must be from 0 to {capacity[i]:g} samples, got {answer.contribution:g}"
        return ""

    found = s.copy()
    for i, answer in ask(requests, fault).items():
        found[i] = answer.contribution
    return found


class Round(NamedTuple):
    """What came of a round of training."""

    there: tuple[int, ...]  # numbers of the members whose updates count
    samples: np.ndarray  # [n] that they trained on; 0 of the others
    model: messages.Arrays  # after it
    answers: dict[int, messages.Update]  # of those who are there


def train(contributions: np.ndarray, model: messages.Arrays, number: int, ask: Ask) -> Round:
    """Round `number` of federated averaging: model + Σ_i (s_i/S) update_i over those who are there.

    Args:
      contributions: [n] s_i; members who contribute nothing are asked too, and so hear the model.
      model: before the round.
      number: from 1.
      ask: carries messages.
    """
    drawn = base.draw(np.asarray(contributions))
    requests = {i: messages.Train(number, int(s), model) for i, s in enumerate(drawn)}
    answers = ask(requests, fault_of_update)
    there = tuple(sorted(answers))
    samples = np.zeros(len(drawn), int)
    samples[list(there)] = drawn[list(there)]
    total = max(int(np.sum(samples)), 1)
    new = {path: array.copy() for path, array in model.items()}
    for i in there:  # in the order of members, so that sums are rounded the same way every time
        weight = np.float32(samples[i] / total)
        for path, change in answers[i].update.items():
            new[path] += weight * change
    return Round(there, samples, new, {i: answers[i] for i in there})


def fault_of_update(i: int, request: messages.Train, answer: messages.Update) -> str:
    """What is wrong with an update; "" if nothing is."""
    if answer.round != request.round:
        return f"her update is of round {answer.round}, not {request.round}"
    if answer.samples != request.samples:
        return f"she trained on {answer.samples} samples, and contributes {request.samples}"
    shapes = {path: array.shape for path, array in request.model.items()}
    theirs = {path: array.shape for path, array in answer.update.items()}
    if theirs != shapes:
        wrong = sorted({path for path in {*shapes, *theirs} if shapes.get(path) != theirs.get(path)})
        return f"her update has other parameters than the model: {wrong[0]}"
    if any(np.any(np.abs(array) > _LARGEST) for array in answer.update.values()):
        return f"her update has numbers beyond {_LARGEST:g}"
    return ""
