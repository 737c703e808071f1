import dataclasses

import jax
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.federation import member, messages, server, settlement
from fedgame.games import payoffs
from fedgame.learning import federated, trainer
from fedgame.protocols import base

NAMES = ("Ann", "Bob", "Çem")
CURVE = payoffs.PowerLaw(0.97, 6.0, 0.8, 12.0)
MATRIX = np.array([[1, 0.5, 0.2], [0.3, 1, 0.6], [0.1, 0.9, 1]])
PAYOFFS = {
    "total": CURVE,
    "one curve each": payoffs.PowerLaw(np.array([0.97, 0.9, 0.95]), 6.0, 0.8, 12.0),
    "effective": payoffs.EffectiveSamples(CURVE, MATRIX),
    "always": payoffs.EffectiveSamples(CURVE, MATRIX, np.full(3, 20.0), "always"),
}
DYNAMICS = [
    ("total", "fedbr(steps=5)"),
    ("total", "fedbr(beta_star, steps=5)"),
    ("total", "fedbr(falkinger, steps=5, step_size=200.0)"),
    ("total", "fedbr(price(price=0.004), steps=5)"),
    ("one curve each", "fedbr(beta_star, steps=5)"),
    ("effective", "fedbr(beta_star, steps=5)"),
    ("effective", "fedbr(price(price=0.004), steps=5)"),
    ("always", "fedbr(price(price=0.004), steps=5)"),
]
PROPOSED = [("total", "fedavg"), ("total", "first_best"), ("effective", "first_best")]


@pytest.fixture(scope="module")
def play(private, training, the_game):
    """A function: what the server asks, and whom, in a game; and the path that is agreed upon."""

    def asked(payoff, text, answer=lambda i, request, found: found, quality=None):
        quality = np.ones(3) if quality is None else quality
        protocol = registry.read("protocol", text)
        told = server.terms(PAYOFFS[payoff], quality, protocol, training, 3)
        members = [member.join(private(i), one) for i, one in enumerate(told)]
        log, rejected = [], {}

        def ask(requests, fault):
            good = {}
            for i, request in requests.items():
                log.append((i, request))
                found = answer(i, request, member._DOES[type(request)](members[i], request))
                if found is None:
                    continue
                if reason := fault(i, request, found):
                    rejected.setdefault(i, []).append(reason)
                else:
                    good[i] = found
            return good

        game = server.declared(PAYOFFS[payoff], quality, 0.0, dict(enumerate(map(member.declare, members))))
        agreement = settlement.Agreement(NAMES, game, protocol.rule, 3, 1e-4)
        return protocol, agreement, server.agree(agreement, protocol, 0, ask), log, rejected

    return asked


@pytest.mark.parametrize(("payoff", "text"), DYNAMICS)
def test_members_agree_on_the_path_of_the_dynamics(play, payoff, text):
    protocol, agreement, path, log, rejected = play(payoff, text)
    plan = protocol.start(agreement.game, protocol.rule.announced(agreement.game), jax.random.key(0))
    np.testing.assert_allclose(path, plan.path, rtol=1e-9, atol=1e-9)
    assert path.shape == (6, 3)
    assert rejected == {}
    asked = [(i, type(request).__name__, request.step) for i, request in log]
    first = [(i, "Ask", 0) for i in range(3)]
    steps = [(i, kind, step) for step in range(1, 6) for kind in ("Move", "Ask") for i in range(3)]
    assert asked == first + steps


@pytest.mark.parametrize(("payoff", "text"), PROPOSED)
def test_of_other_protocols_members_contribute_the_profile_that_is_proposed(play, payoff, text):
    protocol, agreement, path, log, _ = play(payoff, text)
    plan = protocol.start(agreement.game, protocol.rule.announced(agreement.game), jax.random.key(0))
    assert path.shape == (2, 3)
    for profile in path:
        np.testing.assert_allclose(profile, plan.profile, rtol=1e-12, atol=1e-12)
    assert [(i, type(request).__name__) for i, request in log] == [(i, "Move") for i in range(3)]


def test_samples_of_more_or_less_quality_are_counted_as_such(play):
    protocol, agreement, path, _, rejected = play(
        "total", "fedbr(price(price=0.004), steps=5)", quality=np.array([0.5, 1.0, 3.0])
    )
    plan = protocol.start(agreement.game, protocol.rule.announced(agreement.game), jax.random.key(0))
    np.testing.assert_allclose(path, plan.path, rtol=1e-9, atol=1e-9)
    assert rejected == {}


def test_the_game_is_the_one_that_was_declared(play, the_game):
    _, agreement, *_ = play("total", "fedbr(beta_star, steps=5)")
    right = the_game()
    for field in ("capacity", "value", "quality"):
        np.testing.assert_array_equal(getattr(agreement.game, field), getattr(right, field))
    np.testing.assert_array_equal(agreement.game.cost.rate, right.cost.rate)
    cheap = messages.Enrolled({"family": "linear", "rate": 0.1, "fixed": 0.0}, 1.0, 5.0)
    dear = cheap._replace(cost={"family": "power", "rate": 0.1, "exponent": 2.0, "fixed": 0.0})
    with pytest.raises(ValueError, match="costs of different kinds: linear, power"):
        server.declared(CURVE, np.ones(3), 0.0, {0: cheap, 1: dear, 2: cheap})
    with pytest.raises(ValueError, match=r"a member would contribute 4e\+09 samples: at most 2147483647"):
        server.declared(CURVE, np.ones(2), 0.0, {0: cheap, 1: cheap._replace(capacity=4e9)})
    for wrong in ({"family": "linear", "rate": -1.0}, {"family": "none of these"}, {}):
        with pytest.raises(ValueError, match=r"\w"):
            server.declared(CURVE, np.ones(3), 0.0, {0: cheap, 1: cheap._replace(cost=wrong), 2: cheap})


@pytest.mark.parametrize(("payoff", "text"), DYNAMICS)
@pytest.mark.parametrize("by", [1e-9, 1e-3, -1e-3])
def test_a_slope_that_contradicts_what_was_declared_is_rejected_and_rounding_is_not(play, payoff, text, by):
    """Whoever says that a sample brings her a thousandth of its cost more, or less, is left where she is."""

    def answer(i, request, found):
        wrong = i == 1 and isinstance(found, messages.Slope)
        return found._replace(slope=found.slope + by * 0.003) if wrong else found

    *_, path, _, rejected = play(payoff, text, answer)
    if abs(by) < 1e-6:
        assert rejected == {}
        return
    assert {i: len(reasons) for i, reasons in rejected.items()} == {1: 6}
    assert all("by what she has declared it is" in reason for reason in rejected[1])
    np.testing.assert_array_equal(path[:, 1], path[0, 1])


def test_who_does_not_answer_stays_where_she_is(play):
    *_, path, _, rejected = play(
        "total", "fedbr(steps=5)", lambda i, request, found: None if i == 2 else found
    )
    assert rejected == {}
    np.testing.assert_array_equal(path[:, 2], path[0, 2])
    assert np.any(path[:, :2] != path[0, :2])
    *_, path, _, _ = play("total", "fedavg", lambda i, request, found: None if i == 2 else found)
    np.testing.assert_array_equal(path[1], path[0])


@pytest.mark.parametrize("contribution", [-1e-9, 20.0 + 1e-9, 1e30])
def test_contributions_beyond_the_declared_limit_and_answers_of_another_step_are_rejected(play, contribution):
    def beyond(i, request, found):
        moves = i == 0 and isinstance(found, messages.Contribution)
        return found._replace(contribution=contribution) if moves else found

    *_, path, _, rejected = play("total", "fedbr(steps=5)", beyond)
    assert [len(reasons) for reasons in rejected.values()] == [5]
    assert rejected[0][0].startswith("her contribution must be from 0 to 20 samples, got ")
    np.testing.assert_array_equal(path[:, 0], path[0, 0])
    *_, rejected = play(
        "total", "fedbr(steps=5)", lambda i, request, found: found._replace(step=request.step - 1)
    )
    assert {i: len(reasons) for i, reasons in rejected.items()} == {0: 11, 1: 11, 2: 11}
    assert rejected[0][:2] == [
        "her slope is that of step -1, not 0",
        "her contribution is that of step 0, not 1",
    ]


def test_members_are_told_what_is_public_and_hers_alone(training):
    payoff = PAYOFFS["effective"]
    told = server.terms(payoff, np.ones(3), registry.read("protocol", "fedbr(beta_star)"), training, 3)
    assert [(one.members, one.number, one.rule, one.gains) for one in told] == [
        (3, i, "beta_star", True) for i in range(3)
    ]
    for one in told:
        assert one.payoff == {
            "family": "power",
            **{f.name: getattr(CURVE, f.name) for f in dataclasses.fields(CURVE)},
        }
        messages.from_values(messages.to_values(one), messages.Enrol)
    each = PAYOFFS["one curve each"]
    told = server.terms(each, np.array([1.0, 2.0, 3.0]), registry.read("protocol", "fedbr"), training, 3)
    assert [one.payoff["best"] for one in told] == [0.97, 0.9, 0.95]
    assert [one.quality for one in told] == [1.0, 2.0, 3.0]


def test_what_cannot_be_done_over_a_network_is_refused():
    for text in ("fedbr(beta_star)", "fedavg", "first_best"):
        server.check(registry.read("protocol", text), CURVE)
    for text in ("afl", "qffl"):
        with pytest.raises(ValueError, match="take fedbr, fedavg or first_best"):
            server.check(registry.read("protocol", text), CURVE)
    with pytest.raises(ValueError, match="LinearPayoff depends on more"):
        server.check(registry.read("protocol", "fedbr"), games.LinearPayoff(np.eye(2)))


@pytest.fixture(scope="module")
def members(private, terms):
    return [member.join(private(i), told) for i, told in enumerate(terms)]


def asking(members, answer=lambda i, request, found: found, rejected=None):
    """A function that asks members, and keeps the reasons why answers are rejected."""
    rejected = {} if rejected is None else rejected

    def ask(requests, fault):
        good = {}
        for i, request in requests.items():
            found = answer(i, request, member.train(members[i], request))
            if found is None:
                continue
            rejected[i] = fault(i, request, found)
            if not rejected[i]:
                good[i] = found
        return good

    return ask


PROFILE = np.array([12.4, 20.0, 0.0])


def test_rounds_are_those_of_federated_averaging(members, model, training, records):
    """To the last digits: the same samples in the same order, weighed the same."""
    of_all = trainer.Trainer(training.model, training.options, records[0], jax.random.key(training.seed))
    protocol = registry.read("protocol", "fedavg")
    right = base.run(protocol, base.always(PROFILE), of_all, model, 3)
    found = messages.to_arrays(model)
    for number in (1, 2, 3):
        made = server.train(PROFILE, found, number, asking(members))
        assert made.there == (0, 1, 2)
        assert made.samples.tolist() == right.drawn[number - 1].tolist() == [12, 20, 0]
        found = made.model
    assert any(np.any(x) for x in found.values())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
        messages.from_arrays(found),
        right.params,
    )


def test_without_a_member_it_is_the_round_of_the_others(members, model, training, records):
    before = messages.to_arrays(model)
    ask = asking(members, lambda i, request, found: None if i == 0 else found)
    found = server.train(np.array([12.0, 15.0, 8.0]), before, 2, ask)
    right = federated.federated_round(
        training.model,
        training.options,
        model,
        records[0],
        np.array([0, 15, 8]),
        jax.random.key(training.seed),
        2,
    )
    assert found.there == (1, 2) == tuple(found.answers)
    assert found.samples.tolist() == [0, 15, 8]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
        messages.from_arrays(found.model),
        right,
    )
    assert all(not np.any(x) for x in before.values())  # the linear network begins at 0, and stays as it was


def test_with_nobody_or_without_samples_the_model_stays(members, model):
    before = messages.to_arrays(model)
    for profile, answer in ((PROFILE, lambda *_: None), (np.zeros(3), lambda i, request, found: found)):
        found = server.train(profile, before, 1, asking(members, answer))
        assert messages.digest_of(found.model) == messages.digest_of(before)
        assert not np.any(found.samples)


FAULTS = {
    "her update is of round 1, not 2": {"round": 1},
    "she trained on 11 samples, and contributes 12": {"samples": 11},
    "she trained on 13 samples, and contributes 12": {"samples": 13},
}
HUGE = "her update has numbers beyond 1e+30"  # finite, but sums of such would not be
SHAPES = {
    "transposed": (
        "params/Dense_0/kernel",
        lambda x: x | {"params/Dense_0/kernel": x["params/Dense_0/kernel"].T},
    ),
    "a number": ("params/Dense_0/bias", lambda x: x | {"params/Dense_0/bias": np.zeros((), np.float32)}),
    "one is missing": (
        "params/Dense_0/bias",
        lambda x: {"params/Dense_0/kernel": x["params/Dense_0/kernel"]},
    ),
    "one more": ("more", lambda x: x | {"more": np.zeros(3, np.float32)}),
    "none": ("params/Dense_0/bias", lambda x: {}),
}


@pytest.mark.parametrize("reason", [*FAULTS, *SHAPES, HUGE])
def test_an_update_that_cannot_be_right_is_rejected_with_the_reason(members, model, reason):
    def answer(i, request, found):
        if i:
            return found
        if reason in FAULTS:
            return found._replace(**FAULTS[reason])
        if reason == HUGE:
            huge = {path: np.full_like(x, 3e38) for path, x in found.update.items()}
            return found._replace(update=huge)
        return found._replace(update=SHAPES[reason][1](found.update))

    rejected, before = {}, messages.to_arrays(model)
    found = server.train(PROFILE, before, 2, asking(members, answer, rejected))
    expected = (
        f"her update has other parameters than the model: {SHAPES[reason][0]}" if reason in SHAPES else reason
    )
    assert rejected == {0: expected, 1: "", 2: ""}
    assert found.there == (1, 2)
    without = server.train(PROFILE, before, 2, asking(members, lambda i, _, found: found if i else None))
    assert messages.digest_of(found.model) == messages.digest_of(without.model)


def test_a_model_begins_where_the_seed_says(training, model):
    again = server.initial_model(training._replace(model=training.model.clone()))
    jax.tree.map(np.testing.assert_array_equal, again, model)
