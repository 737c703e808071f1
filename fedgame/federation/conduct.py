"""Runs a federation over any transport, from what its ledger says to the end.

The ledger is the truth, and whatever carries messages is disposable: `run` can be called again, in another
process, after anything has died, and goes on after the last settled round.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.federation import ledger as ledgers
from fedgame.federation import messages, server, settlement
from fedgame.federation.ledger import Ledger, Line
from fedgame.federation.settlement import SERVER, Agreement
from fedgame.games import game as games
from fedgame.games import payoffs, scenarios
from fedgame.learning import local, models
from fedgame.protocols import base

WAIT, GO_ON = "wait", "go_on"  # what a round does if a member does not answer
_LONGEST = 300  # characters of a reason why somebody was left out
_REFUSES = (
    "ValueError: "  # begins a transport's reason if it was a member who would not, or could not, answer
)


class Transport(Protocol):
    """Carries requests to members by name, to all at once."""

    def __call__(
        self, requests: Mapping[str, dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Returns the answers that came, and for every other member in words why none did."""


class Federation(NamedTuple):
    """What the server knows before anybody has enrolled.

    Attributes:
      names: [n] of the members.
      payoff: of n members, as it is announced.
      quality: [n] w_i.
      held: S₀, samples that the server holds.
      protocol: who contributes what, under which payments.
      training: how members train.
      rounds: T.
      unit: the smallest amount that can be paid, in the currency of costs.
      currency: of costs, such as EUR; "": none is named.
      absent: GO_ON without a member who does not answer, or WAIT for her.
    """

    names: tuple[str, ...]
    payoff: payoffs.Payoff
    quality: np.ndarray
    held: float
    protocol: base.Protocol
    training: server.Training
    rounds: int
    unit: float
    currency: str = ""
    absent: str = GO_ON

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, which another process can read."""
        training = self.training
        return {
            "names": list(self.names),
            "payoff": scenarios.family_values(self.payoff),
            "quality": np.asarray(self.quality, float).tolist(),
            "held": float(self.held),
            "protocol": registry.text_of(self.protocol),
            "network": models.to_dict(training.model),
            "training": training._asdict() | {"model": None, "options": training.options._asdict()},
            "rounds": self.rounds,
            "unit": self.unit,
            "currency": self.currency,
            "absent": self.absent,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Federation":
        """The federation of which `to_dict` made this."""
        told = values["training"]
        training = server.Training(
            model=models.from_dict(values["network"]),
            options=local.LocalTraining(**told["options"]),
            features=tuple(told["features"]),
            classes=tuple(told["classes"]),
            metric=told["metric"],
            seed=told["seed"],
            agreed=told["agreed"],
        )
        return cls(
            names=tuple(values["names"]),
            payoff=scenarios.family_of("payoff", values["payoff"]),
            quality=np.asarray(values["quality"], float),
            held=values["held"],
            protocol=registry.read("protocol", values["protocol"]),
            training=training,
            rounds=values["rounds"],
            unit=values["unit"],
            currency=values["currency"],
            absent=values["absent"],
        )


class Missing(Exception):
    """Nobody answers, or the run waits for members; says who in words. Call `run` again."""


class Events(NamedTuple):
    """Who is told what happens; by default nobody."""

    tell: Callable[[str], None] = lambda sentence: None  # sentences, as members that are left out
    step: Callable[[], None] = lambda: None  # after every step of the dynamics
    settled: Callable[[int, list[Line]], None] = lambda number, lines: None  # after every settled round


NOBODY = Events()


def run(federation: Federation, ledger: Ledger, transport: Transport, events: Events = NOBODY) -> None:
    """Enrols members, has them agree, trains, settles every round, and books the difference at the end.

    What the ledger has already is not done again.

    Raises:
      Missing: see there; the ledger holds all that was settled.
      ValueError: what members declare makes no game, or none that the rule of payments allows; or the ledger
        is of another federation.
    """
    told = _terms(federation)
    talk = _Talk(federation.names, told, transport, events.tell)
    if ledger.agreed is None:
        _agree(federation, ledger, talk, events)
    agreement, talk.declared = ledgers.agreement_of(ledger), ledger.agreed["declared"]
    _check_same(federation, agreement, ledger)
    for number in range(ledger.settled + 1, federation.rounds + 1):
        lines = _round(federation, agreement, ledger, talk, number)
        events.settled(number, lines)
        _tell_of_round(federation, ledger, talk, number, lines)
    if not ledger.closed:
        amounts = ledgers.differences(agreement, ledger.entries()).tolist()
        names = [*federation.names, SERVER]
        ledger.close([Line(name, x, {}) for name, x in zip(names, amounts, strict=True)])
    if not ledger.finished:
        _farewell(federation, ledger, talk)


def _check_same(federation: Federation, agreement: Agreement, ledger: Ledger) -> None:
    """Raises a `ValueError` that names what the ledger has otherwise: it is of another federation."""
    rule = registry.text_of(federation.protocol.rule)
    now = {"names": federation.names, "rule": rule, "rounds": federation.rounds, "unit": federation.unit}
    for name, x in now.items():
        then = registry.text_of(agreement.rule) if name == "rule" else getattr(agreement, name)
        if x != then:
            raise ValueError(f"{ledger.file} is of another federation: there {name} is {then}, not {x}")


def _terms(federation: Federation) -> list[messages.Enrol]:
    """[n] what each member is told when she joins."""
    told = server.terms(
        federation.payoff, federation.quality, federation.protocol, federation.training, federation.rounds
    )
    return [
        one._replace(currency=federation.currency, name=name)
        for one, name in zip(told, federation.names, strict=True)
    ]


class _Talk:
    """Asks members by number, and leaves out whose answers are missing or wrong; remembers why.

    Who has not enrolled since she, or this process, was started does so before she is asked anything else.
    """

    def __init__(
        self,
        names: Sequence[str],
        terms: Sequence[messages.Enrol],
        transport: Transport,
        tell: Callable[[str], None],
    ):
        self._names, self._terms, self._transport, self._tell = names, terms, transport, tell
        self._enrolled: dict[int, messages.Enrolled] = {}
        self.declared: list[str] | None = None  # digests of what members declared when the run began
        self.absent: dict[int, str] = {}  # of the last question: who did not answer, and why
        self.wrong: dict[int, str] = {}  # whose answer was rejected, and why
        self._told: dict[int, str] = {}  # what was told of the last question

    @property
    def reasons(self) -> dict[int, str]:
        """Why members were left out of the last question."""
        return self.absent | self.wrong

    def enrol(self) -> dict[int, messages.Enrolled]:
        """What everybody declares.

        Raises:
          Missing: somebody is not there.
          ValueError: somebody cannot take part in this federation.
        """
        self._ask({i: terms for i, terms in enumerate(self._terms)}, self._fault_of_enrolment)
        refusals = {i: x for i, x in self.absent.items() if x.startswith(_REFUSES)}
        if refusals:
            raise ValueError(self._in_words({i: x.removeprefix(_REFUSES) for i, x in refusals.items()}))
        if self.reasons:
            raise Missing(self._in_words(self.reasons))
        return dict(self._enrolled)

    def __call__(
        self, requests: Mapping[int, Any], fault: Callable[[int, Any, Any], str] = lambda *_: ""
    ) -> dict[int, Any]:
        """See `server.Ask`; raises `Missing` if nobody answers at all."""
        new = {i: self._terms[i] for i in requests if i not in self._enrolled}
        if new:
            self._ask(new, self._fault_of_enrolment)
        before = dict(self.absent if new else {}), dict(self.wrong if new else {})
        found = self._ask({i: x for i, x in requests.items() if i in self._enrolled}, fault)
        self.absent, self.wrong = before[0] | self.absent, before[1] | self.wrong
        for i, reason in self.reasons.items():
            if reason != self._told.get(i):  # once, not in every round
                self._tell(f"{self._names[i]} is left out: {reason}")
        self._told = self.reasons
        if len(self.absent) == len(requests):
            raise Missing(f"nobody answers: {self._in_words(self.absent)}")
        return found

    def _ask(self, requests: Mapping[int, Any], fault: Callable[[int, Any, Any], str]) -> dict[int, Any]:
        """The right answers; all others are told apart in `absent` and `wrong`."""
        self.absent, self.wrong, found = {}, {}, {}
        if not requests:
            return found
        sent = {self._names[i]: messages.to_values(request) for i, request in requests.items()}
        came, lost = self._transport(sent)
        for i, request in requests.items():
            name = self._names[i]
            if name not in came:
                self.absent[i] = _one_line(lost.get(name, "she does not answer"))
                self._enrolled.pop(i, None)  # she may have been started again
                continue
            try:
                answer = messages.from_values(came[name], messages.ANSWER_OF[type(request)])
                reason = fault(i, request, answer)
            except ValueError as error:
                reason = str(error)
            if reason:
                self.wrong[i] = _one_line(reason)
                continue
            found[i] = answer
            if isinstance(request, messages.Enrol):
                self._enrolled[i] = answer
        return found

    def _fault_of_enrolment(self, i: int, request: messages.Enrol, answer: messages.Enrolled) -> str:
        """Whether she declares the same as when the run began: payments depend on it."""
        del request
        if self.declared is None or messages.digest(answer) == self.declared[i]:
            return ""
        return "she declares another cost, value or limit than when the run began"

    def _in_words(self, reasons: Mapping[int, str]) -> str:
        """Who, and why, with equal reasons told once."""
        by_reason: dict[str, list[str]] = {}
        for i, reason in reasons.items():
            by_reason.setdefault(reason, []).append(self._names[i])
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def _one_line(text: str) -> str:
    """What a member, or her machine, says, fit for the ledger and for logs: she may say anything."""
    words = " ".join(text.encode("utf-8", "replace").decode().split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def _agree(federation: Federation, ledger: Ledger, talk: _Talk, events: Events) -> None:
    """Has members declare their costs and say what they contribute, and enters both."""
    protocol, training = federation.protocol, federation.training
    declared = talk.enrol()
    talk.declared = [messages.digest(declared[i]) for i in range(len(federation.names))]
    game = server.declared(federation.payoff, federation.quality, federation.held, declared)
    protocol.rule.requires(game)
    agreement = Agreement(federation.names, game, protocol.rule, federation.rounds, federation.unit)

    def ask(requests: Mapping[int, Any], fault: Callable[[int, Any, Any], str]) -> dict[int, Any]:
        found = talk(requests, fault)
        if talk.absent and federation.absent == WAIT:
            raise Missing(f"the game waits for {', '.join(federation.names[i] for i in talk.absent)}")
        return found

    path = server.agree(agreement, protocol, training.seed, ask, events.step)
    _offer(agreement, path[-1], talk)
    model = messages.to_arrays(server.initial_model(training))
    about = {
        "agreement": agreement.to_dict(),
        "currency": federation.currency,
        "contributions": path[-1].tolist(),
        "declared": talk.declared,
        "model": messages.digest_of(model),
    }
    ledger.agree(about, model)


def _offer(agreement: Agreement, contributions: np.ndarray, talk: _Talk) -> None:
    """Tells members what came of the game, and has them accept it.

    Raises:
      Missing: somebody does not answer.
      ValueError: somebody does not accept.
    """
    samples = np.rint(contributions).astype(int)
    everybody = range(len(agreement.names))
    paid = settlement.units(agreement, settlement.amounts(agreement, samples, everybody))
    accuracies = np.asarray(games.payoff_values(agreement.game, jnp.asarray(samples, float)))
    offers = {
        i: messages.Offer(int(samples[i]), int(paid[i]), agreement.unit, float(accuracies[i]))
        for i in everybody
    }
    found = talk(offers)
    refused = [f"{agreement.names[i]}: {one.reason}" for i, one in found.items() if not one.accepts]
    if refused:
        raise ValueError(f"not everybody takes part on these terms. {_one_line('; '.join(refused))}")
    if len(found) < len(offers):
        lacking = [f"{agreement.names[i]}: {reason}" for i, reason in talk.reasons.items()]
        raise Missing(f"everybody must accept what came of the game: {_one_line('; '.join(lacking))}")


def _round(
    federation: Federation, agreement: Agreement, ledger: Ledger, talk: _Talk, number: int
) -> list[Line]:
    """Trains and settles one round; returns what was entered, members first, the server last.

    A member who is left out neither pays nor is paid for the round, and the rule is applied to the others
    alone.
    """
    contributions = np.asarray(ledger.agreed["contributions"])
    found = server.train(contributions, ledger.model(), number, talk)
    if talk.absent and federation.absent == WAIT:
        raise Missing(f"round {number} waits for {', '.join(federation.names[i] for i in talk.absent)}")
    if not found.there:
        raise Missing(f"round {number}: no answer can be used")
    amounts = settlement.of_round(agreement, found.samples, found.there).tolist()
    costs = np.asarray(games.incurred_costs(agreement.game, jnp.asarray(found.samples, float)))
    lines = []
    for i, name in enumerate(federation.names):
        answer = found.answers.get(i)
        about = {
            "samples": int(found.samples[i]),
            "cost": float(costs[i]) / agreement.rounds if answer else 0.0,
            "accuracy": None if answer is None or np.isnan(answer.accuracy) else answer.accuracy,
            "reason": talk.reasons.get(i, ""),
            "absent": i in talk.absent,
            "message": messages.digest(answer) if answer else "",
        }
        lines.append(Line(name, amounts[i], about))
    lines.append(Line(SERVER, amounts[-1], {"model": messages.digest_of(found.model)}))
    ledger.settle(number, lines, found.model)
    return lines


def _tell_of_round(
    federation: Federation, ledger: Ledger, talk: _Talk, number: int, lines: list[Line]
) -> None:
    """Tells every member what was settled with her; who does not hear it hears her balance the next time."""
    balances, head = ledger.balances(), ledger.head
    told = {
        i: messages.Statement(
            round=number,
            samples=line.about["samples"],
            paid=line.amount,
            balance=balances[line.member],
            unit=federation.unit,
            reason=line.about["reason"],
            head=head,
            model={},
        )
        for i, line in enumerate(lines[:-1])
    }
    with contextlib.suppress(Missing):
        talk(told)


def _farewell(federation: Federation, ledger: Ledger, talk: _Talk) -> None:
    """Tells every member how the run ended, with the final model, and enters how good that is for her."""
    entries, balances, model = ledger.entries(), ledger.balances(), ledger.model()
    samples = sum(drawn for drawn, _ in ledgers.contributed(entries, federation.names))
    last = {entry.member: entry.amount for entry in entries if entry.kind == ledgers.DIFFERENCE}
    told = {
        i: messages.Statement(
            0, int(samples[i]), last[name], balances[name], federation.unit, "", ledger.head, model
        )
        for i, name in enumerate(federation.names)
    }
    heard: dict[int, messages.Noted] = {}
    with contextlib.suppress(Missing):
        heard = talk(told)
    says = [heard[i].accuracy if i in heard else np.nan for i in told]
    known = [None if np.isnan(x) else x for x in says]
    names = federation.names
    ledger.finish([Line(name, 0, {"accuracy": x}) for name, x in zip(names, known, strict=True)])


class InProcess:
    """A transport to members in this process: what they answer is carried as over a network."""

    def __init__(self, sites: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]):
        self._sites = sites

    def __call__(
        self, requests: Mapping[str, dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """See `Transport`."""
        answers, failures = {}, {}
        for name, values in requests.items():
            try:
                answers[name] = self._sites[name](values)
            except Exception as error:  # whatever happens at a member must not end the server
                failures[name] = f"{type(error).__name__}: {error}"
        return answers, failures
