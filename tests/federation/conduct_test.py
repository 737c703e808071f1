import json

import jax
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.federation import conduct, member, messages
from fedgame.federation import ledger as ledgers
from fedgame.federation.ledger import Ledger

NAMES = ("Ann", "Bob", "Çem")
CALLS = (
    1 + (1 + 5 * 2) + 1 + 3 * 2 + 1
)  # enrolment, dynamics, the offer, rounds and their statements, the end


class Counting:
    """A transport that raises at call `number`, before members hear of it or after they have answered."""

    def __init__(self, sites, number=None, after=False, error=KeyboardInterrupt):
        self.carry, self.number, self.after, self.error = conduct.InProcess(sites), number, after, error
        self.calls, self.carried = 0, []

    def __call__(self, requests):
        self.calls += 1
        self.carried.append({name: values["kind"] for name, values in requests.items()})
        if self.calls == self.number and not self.after:
            raise self.error
        found = self.carry(requests)
        if self.calls == self.number:
            raise self.error
        return found


def odd(site, does, rounds):
    """A member who does something odd when she trains in these rounds.

    `does` makes her answer from the right one and from that to her last such request.
    """
    last = []

    def answers(values):
        found = site(values)
        if values["kind"] != "Train":
            return found
        last.append(found)
        if values["round"] in rounds:
            return does(found, last[-2] if len(last) > 1 else found | {"round": 0})
        return found

    return answers


def fail(error):
    def does(found, before):
        raise error

    return does


def with_update(change):
    return lambda found, before: found | {"update": {path: change(x) for path, x in found["update"].items()}}


NAN = with_update(lambda x: np.full_like(x, np.nan))
ODD = {  # what she does -> what the ledger says
    "error": (fail(OSError("the disk is full")), "OSError: the disk is full"),
    "any text": (fail(RuntimeError("\udcff\n" * 9000)), "RuntimeError: ? ? ?"),
    "NaN": (NAN, "Update.update params/Dense_0/bias is not finite"),
    "infinite": (with_update(lambda x: x - np.inf), "is not finite"),
    "float64": (with_update(lambda x: x.astype(float)), "must be an array of float32"),
    "shape": (
        with_update(np.transpose),
        "her update has other parameters than the model: params/Dense_0/kernel",
    ),
    "no model": (lambda found, _: found | {"update": {}}, "her update has other parameters"),
    "fewer samples": (lambda found, _: found | {"samples": 1}, "she trained on 1 samples, and contributes "),
    "the round before": (lambda found, before: before, "her update is of round "),
    "another message": (
        lambda found, _: {"kind": "Slope", "step": 0, "slope": 1.0},
        "a message Slope, where Update",
    ),
    "a field more": (lambda found, _: found | {1: 2}, "wrong: 1"),
    "an infinite number": (lambda found, _: found | {"accuracy": 10**400}, "Update.accuracy must be finite"),
    "no kind": (lambda found, _: {"kind": []}, "no message"),
    "a text": (lambda found, _: "hello", "no message but 'hello'"),
    "nothing": (lambda found, _: None, "no message but None"),
}


def rows_of(ledger):
    """All entries, as they stand there."""
    return ledger.as_it_stands()[0]


class Run:
    """What came of a run, to be compared."""

    def __init__(self, ledger):
        self.ledger, self.entries = ledger, ledger.entries()

    @property
    def accuracy(self):
        """What each member says of the final model."""
        return [entry.about["accuracy"] for entry in self.entries if entry.kind == ledgers.FINAL]

    @property
    def result(self):
        """All that does not depend on when it was, and on what was said."""
        agreed = self.ledger.agreed
        of_rounds = [
            (x.kind, x.round, x.member, x.amount, x.about.get("samples"), x.about.get("model"))
            for x in self.entries
        ]
        return (
            agreed["contributions"],
            messages.digest_of(self.ledger.model()),
            self.ledger.balances(),
            of_rounds,
        )

    def of(self, name, kind=ledgers.MEMBER):
        return [entry for entry in self.entries if (entry.member, entry.kind) == (name, kind)]


@pytest.fixture(scope="module")
def play(federation, sites, tmp_path_factory):
    """A function that runs a federation to its end, or on from what a ledger says."""

    def run(changed=None, ledger=None, transport=None, events=conduct.NOBODY, **what):
        ledger = ledger or Ledger(tmp_path_factory.mktemp("run") / "ledger.sqlite", create=True)
        transport = transport or conduct.InProcess(sites() | (changed or {}))
        conduct.run(federation(**what), ledger, transport, events)
        assert ledgers.complaints(ledger) == []
        return Run(ledger)

    return run


@pytest.fixture(scope="module")
def undisturbed(play):
    return play()


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite", create=True)


@pytest.fixture(scope="module")
def without_bob(play, sites):
    """A function: the run in which he was absent in these rounds. Each is done once."""
    done = {}

    def found(*rounds):
        if rounds not in done:
            done[rounds] = play({"Bob": odd(sites()["Bob"], fail(OSError("away")), rounds)})
        return done[rounds]

    return found


def test_a_run_settles_every_round_and_ends_with_a_good_model(undisturbed):
    ledger = undisturbed.ledger
    assert (ledger.settled, ledger.closed, ledger.finished) == (3, True, True)
    assert np.mean(undisturbed.accuracy) > 0.6  # by chance a third
    assert any(ledger.balances().values())
    assert sum(ledger.balances().values()) == 0


@pytest.mark.parametrize(
    ("what", "rounds"), [*((what, (2,)) for what in ODD), ("any text", (1, 3)), ("the round before", (1, 3))]
)
def test_whose_answer_cannot_be_used_is_left_out_of_that_round_as_if_absent(
    play, sites, without_bob, what, rounds
):
    does, words = ODD[what]
    said = []
    run = play({"Bob": odd(sites()["Bob"], does, rounds)}, events=conduct.Events(said.append))
    assert run.result == without_bob(*rounds).result
    for entry in run.of("Bob"):
        if entry.round in rounds:
            assert words in entry.about["reason"]
            assert len(entry.about["reason"]) <= 301
            assert (entry.amount, entry.about["samples"], entry.about["cost"]) == (0, 0, 0.0)
        else:
            assert entry.about["reason"] == ""
            assert entry.about["samples"] > 0
    assert all(entry.about["reason"] == "" for name in ("Ann", "Çem") for entry in run.of(name))
    assert [text.split(" is left out: ")[0] for text in said] == ["Bob"] * len(rounds)


def test_answers_that_nobody_asked_for_change_nothing(play, sites, undisturbed):
    """A transport may deliver twice, late, or in another order."""
    carry, last = conduct.InProcess(sites()), {}

    def transport(requests):
        answers, failures = carry(requests)
        extra = {name: x for name, x in last.items() if name not in answers} | {"Dan": {"kind": "Noted"}}
        last.update(answers)
        return dict(reversed((answers | extra).items())), failures | {"Dan": "who is she?"}

    assert play(transport=transport).result == undisturbed.result


@pytest.mark.parametrize("contribution", [-1.0, 20.5, 1e9])
def test_whoever_would_contribute_what_she_cannot_stays_where_she_began(play, sites, contribution):
    bob, said = sites()["Bob"], []

    def answers(values):
        found = bob(values)
        return found | {"contribution": contribution} if values["kind"] == "Move" else found

    run = play({"Bob": answers}, events=conduct.Events(said.append))
    assert run.ledger.agreed["contributions"][1] % 10 == 0  # a random multiple of 10
    assert len(said) == 5
    assert set(said) == {
        f"Bob is left out: her contribution must be from 0 to 20 samples, got {contribution:g}"
    }
    assert [entry.about["reason"] for entry in run.of("Bob")] == [""] * 3  # she trains


def test_who_was_started_again_enrols_again_and_goes_on(play, sites, without_bob, private):
    """Of the first request she knows nothing; she is left out of that round, and of no other."""
    now = {"Bob": sites()["Bob"]}

    def answers(values):
        if values["kind"] == "Train" and values["round"] == 2:
            now["Bob"] = member.Site(private(1))
        return now["Bob"](values)

    run = play({"Bob": answers})
    assert run.result == without_bob(2).result
    assert run.of("Bob")[1].about["reason"] == "ValueError: she has not enrolled yet"


@pytest.mark.parametrize("changed", [{"cost": games.LinearCost(0.004)}, {"value": 1.1}, {"limit": 19.0}])
def test_who_comes_back_with_another_cost_value_or_limit_is_left_out(
    play, sites, without_bob, private, changed
):
    now, said = {"Bob": sites()["Bob"]}, []

    def answers(values):
        if values["kind"] == "Train" and values["round"] == 2:
            now["Bob"] = member.Site(private(1, **changed))
        return now["Bob"](values)

    run = play({"Bob": answers}, events=conduct.Events(said.append))
    assert run.result == without_bob(2, 3).result
    reason = "she declares another cost, value or limit than when the run began"
    assert run.of("Bob")[2].about["reason"] == reason
    assert f"Bob is left out: {reason}" in said
    now["Bob"] = sites()["Bob"]
    assert play({"Bob": answers}).ledger.agreed == run.ledger.agreed  # the run of others is as it was


def test_if_she_comes_back_with_another_cost_while_members_agree_nothing_is_agreed(
    play, sites, private, ledger
):
    now = {"Bob": sites()["Bob"]}

    def answers(values):
        if values["kind"] == "Move" and values["step"] == 2:
            now["Bob"] = member.Site(private(1, cost=games.LinearCost(0.004)))
        return now["Bob"](values)

    with pytest.raises(conduct.Missing, match=r"must accept .*: Bob: she declares another cost"):
        play({"Bob": answers}, ledger)
    assert ledger.agreed is None
    run = play({"Bob": answers}, ledger)  # the game is played anew, with what she declares now
    assert ledgers.agreement_of(run.ledger).game.cost.rate.tolist() == [0.002, 0.004, 0.006]


def test_all_are_offered_what_the_run_then_settles_and_nothing_begins_if_one_refuses(
    play, sites, private, ledger, undisturbed
):
    offers = {}

    def hearing(name, site):
        def answers(values):
            if values["kind"] == "Offer":
                offers[name] = values
            return site(values)

        return answers

    run = play({name: hearing(name, site) for name, site in sites().items()})
    assert run.result == undisturbed.result
    for name, offer in offers.items():
        assert {entry.about["samples"] for entry in run.of(name)} == {offer["samples"]}
        assert run.ledger.balances()[name] == offer["paid"]
    payer = min(offers, key=lambda name: offers[name]["paid"])
    pays = -offers[payer]["paid"] * offers[payer]["unit"]
    assert pays > 0
    limited = member.Site(private(NAMES.index(payer))._replace(most_paid=pays / 2))
    with pytest.raises(ValueError, match=f"{payer}: she would pay .*, and pays at most"):
        play({payer: limited}, ledger)
    assert ledger.agreed is None
    willing = member.Site(private(NAMES.index(payer))._replace(most_paid=pays))
    assert play({payer: willing}, ledger).result == undisturbed.result


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Dora"}, "Bob: this is the kit of 'Bob', and her file is that of 'Dora'"),
        ({"agreed": "another"}, "Bob: her records were made by another agreement"),
    ],
)
def test_whose_file_is_of_another_federation_is_refused_at_once(play, private, ledger, change, told):
    with pytest.raises(ValueError, match=told):
        play({"Bob": member.Site(private(1)._replace(**change))}, ledger)
    assert ledger.agreed is None


def test_who_has_paid_more_than_she_would_trains_no_more(play, private, sites):
    joined = member.Site(private(1)._replace(most_paid=1.0))
    asked = []

    def answers(values):
        if values["kind"] == "Offer":
            values = values | {"paid": 0}  # it was less when she accepted: others have left
        if values["kind"] == "Statement" and values["round"] == 1:
            values = values | {"balance": int(-2 / values["unit"])}
        asked.append(values["kind"])
        return joined(values)

    run = play({"Bob": answers})
    assert [entry.about["reason"] for entry in run.of("Bob")][1].startswith("ValueError: she has paid 2")
    assert asked.count("Train") == 3


def test_nobody_is_missing_only_if_somebody_answers(play, sites, undisturbed, ledger):
    def away(values):
        raise TimeoutError("no connection")

    with pytest.raises(conduct.Missing, match=r"^Ann, Bob, Çem: TimeoutError: no connection$"):
        play(dict.fromkeys(NAMES, away), ledger)
    with pytest.raises(conduct.Missing, match=r"^Bob: TimeoutError: no connection$"):
        play({"Bob": away}, ledger)  # nothing can be agreed without her
    assert ledger.agreed is None
    there = sites()
    gone = {name: odd(site, fail(TimeoutError("gone")), (2,)) for name, site in there.items()}
    with pytest.raises(conduct.Missing, match="nobody answers: Ann, Bob, Çem: TimeoutError: gone"):
        play(gone, ledger)
    assert ledger.settled == 1
    wrong = {name: odd(site, NAN, (2,)) for name, site in there.items()}
    with pytest.raises(conduct.Missing, match="round 2: no answer can be used"):
        play(wrong, ledger)
    assert ledger.settled == 1
    assert play(ledger=ledger).result == undisturbed.result


def test_a_run_that_is_interrupted_anywhere_goes_on_and_ends_the_same(play, sites, undisturbed, tmp_path):
    """Before members have heard of a request, then they are started again, or after they have answered."""
    transport = Counting(sites())
    assert play(transport=transport).result == undisturbed.result
    assert transport.calls == CALLS
    ends = ["Enrol", "Ask", *["Move", "Ask"] * 5, "Offer", *["Train", "Statement"] * 3, "Statement"]
    assert [{*kinds.values()} for kinds in transport.carried] == [{kind} for kind in ends]
    for number in range(1, CALLS + 1):
        ledger, there, after = Ledger(tmp_path / f"{number}.sqlite", create=True), sites(), number % 2 == 0
        with pytest.raises(KeyboardInterrupt):
            play(transport=Counting(there, number, after), ledger=ledger)
        assert ledgers.complaints(ledger) == []
        assert ledger.settled == ends[: number - 1].count("Train")
        before = rows_of(ledger)
        run = play(there if after else {}, ledger)
        assert run.result == undisturbed.result
        assert rows_of(ledger)[: len(before)] == before
        assert run.accuracy == undisturbed.accuracy


@pytest.mark.parametrize("where", ["settled", "step", "settle", "close", "finish"])
def test_a_run_that_dies_between_calls_goes_on_too(play, undisturbed, ledger, where, monkeypatch):
    """After a round was settled, in the dynamics, or within a transaction."""
    left = [2]

    def die(*_):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        events = conduct.Events(**{where: die}) if where in conduct.Events._fields else conduct.NOBODY
        if where == "settle":
            packed = ledgers._packed
            patch.setattr(ledgers, "_packed", lambda model: die() or packed(model))
        if where in ("close", "finish"):
            left[0] = 1
            patch.setattr(Ledger, where, die)
        with pytest.raises(KeyboardInterrupt):
            play(ledger=ledger, events=events)
    assert not ledger.finished
    assert play(ledger=ledger).result == undisturbed.result
    again, transport = rows_of(ledger), Counting({})
    play(ledger=ledger, transport=transport)  # of a run that has finished nothing is left to do
    assert rows_of(ledger) == again
    assert transport.calls == 0


def test_a_run_may_wait_for_whoever_does_not_answer(play, sites, undisturbed, ledger):
    away = odd(sites()["Bob"], fail(OSError("away")), (2,))
    for _ in range(2):
        with pytest.raises(conduct.Missing, match=r"^round 2 waits for Bob$"):
            play({"Bob": away}, ledger, absent=conduct.WAIT)
        assert ledger.settled == 1
    assert play(ledger=ledger, absent=conduct.WAIT).result == undisturbed.result


def test_the_game_waits_too(play, sites, undisturbed, ledger):
    bob = sites()["Bob"]

    def away(values):
        if values["kind"] == "Move":
            raise OSError("away")
        return bob(values)

    with pytest.raises(conduct.Missing, match=r"^the game waits for Bob$"):
        play({"Bob": away}, ledger, absent=conduct.WAIT)
    assert ledger.agreed is None
    assert play(ledger=ledger, absent=conduct.WAIT).result == undisturbed.result


def test_a_run_does_not_wait_for_whoever_answers_wrongly(play, sites, without_bob):
    bob = odd(sites()["Bob"], NAN, (2,))
    assert play({"Bob": bob}, absent=conduct.WAIT).result == without_bob(2).result


@pytest.mark.parametrize(
    "changed", [{"rounds": 4}, {"unit": 0.01}, {"names": ("Ann", "Bob", "Dan")}, {"protocol": "fedavg"}]
)
def test_a_run_does_not_go_on_with_the_ledger_of_another_federation(play, sites, undisturbed, changed):
    before, there = rows_of(undisturbed.ledger), sites()
    if "protocol" in changed:
        changed = {"protocol": registry.read("protocol", changed["protocol"])}
    what = "rule" if "protocol" in changed else next(iter(changed))
    with pytest.raises(ValueError, match=f"of another federation: there {what} is "):
        play({"Dan": there["Çem"]}, undisturbed.ledger, **changed)
    assert rows_of(undisturbed.ledger) == before


def test_what_makes_no_game_ends_the_run_and_nothing_is_agreed(play, private, ledger):
    dear = member.Site(private(1, cost=games.PowerCost(0.001, 2.0)))
    with pytest.raises(ValueError, match="costs of different kinds: linear, power"):
        play({"Bob": dear}, ledger)
    free = {name: member.Site(private(i, cost=games.LinearCost(0.0))) for i, name in enumerate(NAMES)}
    with pytest.raises(ValueError, match="β"):
        play(free, ledger)
    assert ledger.head == ""


def test_everybody_hears_what_was_settled_with_her_and_no_more(play, sites):
    heard = {name: [] for name in NAMES}

    def listening(name, site):
        def answers(values):
            if values["kind"] == "Statement":
                heard[name].append(messages.from_values(values))
            return site(values)

        return answers

    there = {name: listening(name, site) for name, site in sites().items()}
    there["Bob"] = odd(there["Bob"], fail(OSError("away")), (2,))
    run = play(there, currency="EUR")
    digests = {entry.digest: entry.round for entry in run.entries}
    for name in NAMES:
        *rounds, end = heard[name]
        entries = run.of(name)
        assert [told.round for told in rounds] == [1, 2, 3]
        for told, entry, balance in zip(rounds, entries, np.cumsum([x.amount for x in entries]), strict=True):
            given = (told.samples, told.paid, told.balance, told.reason)
            assert given == (entry.about["samples"], entry.amount, balance, entry.about["reason"])
            assert digests[told.head] == told.round
            assert told.model == {}
        assert (end.round, end.paid) == (0, run.of(name, ledgers.DIFFERENCE)[0].amount)
        assert end.balance == run.ledger.balances()[name]
        assert end.samples == sum(entry.about["samples"] for entry in entries)
        assert end.head == run.of("", ledgers.DIFFERENCE)[-1].digest  # the last one of amounts
        assert messages.digest_of(end.model) == messages.digest_of(run.ledger.model())
    assert [told.samples for told in heard["Bob"]][1] == 0


def test_who_does_not_hear_the_end_has_no_accuracy(play, sites, undisturbed):
    bob = sites()["Bob"]

    def deaf(values):
        if values["kind"] == "Statement":
            raise OSError("away")
        return bob(values)

    run = play({"Bob": deaf})
    assert run.result == undisturbed.result
    assert [x is None for x in run.accuracy] == [False, True, False]
    run = play({name: odd_at_the_end(site) for name, site in sites().items()})
    assert run.result == undisturbed.result
    assert run.accuracy == [None, None, None]


def odd_at_the_end(site):
    def answers(values):
        if values["kind"] == "Statement" and not values["round"]:
            raise OSError("away")
        return site(values)

    return answers


def test_a_federation_of_one_trains_and_pays_nobody(play, federation, sites):
    run = play(
        {},
        names=NAMES[:1],
        quality=np.ones(1),
        protocol=registry.read("protocol", "fedbr(steps=5)"),
        rounds=2,
    )
    assert run.ledger.balances() == {"Ann": 0, "": 0}
    assert run.ledger.settled == 2


def test_a_federation_comes_back_from_json_and_ends_the_same(federation, play, undisturbed):
    given = federation(
        currency="EUR", absent=conduct.WAIT, held=2.5, quality=np.array([1.0, 1 / 3, 2.0]), unit=1 / 700
    )
    values = json.loads(json.dumps(given.to_dict(), allow_nan=False))
    back = conduct.Federation.from_dict(values)
    assert back.to_dict() == given.to_dict()
    for field in ("names", "held", "rounds", "unit", "currency", "absent", "training"):
        assert getattr(back, field) == getattr(given, field), field
    jax.tree.map(np.testing.assert_array_equal, (back.payoff, back.quality), (given.payoff, given.quality))
    usual = conduct.Federation.from_dict(json.loads(json.dumps(federation().to_dict())))
    assert play(**usual._asdict()).result == undisturbed.result
