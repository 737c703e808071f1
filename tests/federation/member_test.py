import contextlib
import json

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from fedgame.federation import member, messages, server
from fedgame.games import game as the_games
from fedgame.games import payoffs
from fedgame.learning import federated
from fedgame.protocols import fedbr

NUMBERS = {
    "limit": (-1.0, 20.5, np.nan, np.inf),
    "clip": (0.0, -1.0, np.nan),
    "noise": (-0.1, np.inf, np.nan),
    "secret": (-1,),
}


@pytest.fixture(scope="module")
def joined(private, terms):
    return [member.join(private(i), told) for i, told in enumerate(terms)]


@pytest.fixture(scope="module")
def asked(model):
    return messages.Train(1, 12, messages.to_arrays(model))


def norm(update):
    return np.sqrt(sum(np.sum(np.square(x, dtype=float)) for x in update.values()))


@hypothesis.given(
    who=st.integers(0, 2),
    own=st.floats(0, 20),
    others=st.floats(0, 40),
    rate=st.floats(0, 1),
    paid=st.floats(-0.01, 0.01),
    step_size=st.floats(0, 1e4),
)
def test_she_answers_as_fedbr_has_it(joined, the_game, who, own, others, rate, paid, step_size):
    agent = the_games.agent_of(the_game(), who)
    answer = member.slope(joined[who], messages.Ask(3, own, own + others, rate, paid))
    cheaper = agent.replace(cost=agent.cost.scaled(1.0 - rate))
    assert answer == (3, pytest.approx(float(fedbr.slope(cheaper, own, own + others, paid)), rel=1e-12))
    moved = member.move(joined[who], messages.Move(4, own, answer.slope, step_size))
    assert moved == (4, float(fedbr.move(agent, own, answer.slope, step_size)))


@hypothesis.given(
    own=st.floats(-1e9, 1e9), slope=st.floats(-1e9, 1e9), step_size=st.floats(0, 1e9), limit=st.floats(0, 20)
)
def test_whatever_is_proposed_she_stays_within_her_limit(private, terms, own, slope, step_size, limit):
    hers = member.join(private(0, limit=limit), terms[0])
    assert member.declare(hers).capacity == limit
    assert 0 <= member.move(hers, messages.Move(1, own, slope, step_size)).contribution <= limit


def test_she_trains_on_no_more_than_her_limit(private, terms, asked):
    hers = member.join(private(0, limit=12.0), terms[0])
    assert member.train(hers, asked).samples == 12
    for more in (13, 10**9, -1):
        with pytest.raises(ValueError, match=rf"she contributes at most 12 samples, not {more}"):
            member.train(hers, asked._replace(samples=more))


def test_records_beyond_her_samples_make_no_difference(private, records, terms, asked):
    train, _ = records
    other = federated.Images(train.images[0].copy(), train.labels[0].copy())
    other.images[12:], other.labels[12:] = 7.0, 0
    one, two = (member.train(member.join(private(0, **x), terms[0]), asked) for x in ({}, {"train": other}))
    assert messages.digest(one) == messages.digest(two)
    other.images[11] = 7.0
    changed = member.train(member.join(private(0, train=other), terms[0]), asked)
    assert messages.digest(changed) != messages.digest(one)


def test_own_samples_bring_nothing_if_her_records_teach_her_model_in_any_case(private, federation):
    rates = np.array([[1, 0.5, 0.2], [0.3, 1, 0.6], [0.1, 0.9, 1]])
    payoff = payoffs.EffectiveSamples(
        payoffs.PowerLaw(0.97, 6.0, 0.8, 12.0), rates, np.full(3, 20.0), "always"
    )
    usual = federation()
    told = server.terms(payoff, usual.quality, usual.protocol, usual.training, 3)
    answer = member.slope(member.join(private(1), told[1]), messages.Ask(0, 5.0, 30.0, 0.0, 0.25))
    assert answer.slope == pytest.approx(0.25 - 0.003, rel=1e-12)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_make_no_sense_are_refused_by_name(private, name):
    for x in NUMBERS[name]:
        with pytest.raises(ValueError, match=f"`{name}`"):
            member.Site(private(0, **{"clip": 1.0} | {name: x}))
    with pytest.raises(ValueError, match="`noise` is a multiple of `clip`"):
        member.check(private(0, noise=1.0))


def test_records_and_labels_must_be_equally_many(private):
    train = private(0).train
    for part in ("train", "test"):
        with pytest.raises(ValueError, match=f"`{part}` must have one label for each record"):
            member.check(private(0, limit=3.0, **{part: train._replace(labels=train.labels[:4])}))


def test_what_she_has_comes_back_from_her_files(private, tmp_path):
    file = tmp_path / "new" / "Çem, 2.json"
    for given in (private(2), private(1, clip=0.5, noise=1.5, secret=2**70, limit=3.25, value=1 / 3)):
        member.save(file, given)
        found = member.load(file)
        jax.tree.map(np.testing.assert_array_equal, found, given._replace(cost=found.cost))
        assert found.cost.rate == given.cost.rate
        assert (found.secret, found.train.images.dtype, found.train.labels.dtype) == (
            given.secret,
            np.float32,
            np.int32,
        )
    assert sorted(x.name for x in file.parent.iterdir()) == ["Çem, 2.json", "Çem, 2.npz"]


@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_a_file_that_is_missing_or_damaged_is_a_sentence(private, tmp_path, ending):
    member.save(tmp_path / "ann.json", private(0))
    file = (tmp_path / "ann.json").with_suffix(ending)
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    damaged = [b"", b"\x00", b"[1]", b"7", b'"a"', b"{}", whole[: len(whole) // 2], whole[:-1], b"\x93NUMPY"]
    damaged += [
        whole[:i] + bytes([whole[i] ^ 1 << rng.integers(8)]) + whole[i + 1 :]
        for i in rng.integers(0, len(whole), 100)
    ]
    for found in damaged:
        file.write_bytes(found)
        with contextlib.suppress(ValueError):
            member.load(tmp_path / "ann.json")
    for found in damaged[:6]:
        file.write_bytes(found)
        with pytest.raises(ValueError, match=r"ann\.json: "):
            member.load(tmp_path / "ann.json")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"there is no file .*ann\{ending}$"):
        member.load(tmp_path / "ann.json")


@pytest.mark.parametrize("field", ["cost", "value", "limit"])
def test_a_field_that_is_missing_or_another_in_her_file_is_named(private, tmp_path, field):
    file = tmp_path / "ann.json"
    member.save(file, private(0))
    about = json.loads(file.read_text())
    for wrong in (None, [], "much", {}):
        file.write_text(json.dumps(about | {field: wrong}))
        with pytest.raises(ValueError, match=r"ann\.json: "):
            member.load(file)
    del about[field]
    file.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=rf"ann\.json: '{field}' is missing"):
        member.load(file)


def test_an_update_is_no_longer_than_she_allows(private, terms, asked):
    plain = member.train(member.join(private(0), terms[0]), asked)
    for part in (0.1, 0.999, 1.5):
        clip = part * norm(plain.update)
        clipped = member.train(member.join(private(0, clip=clip), terms[0]), asked)
        assert norm(clipped.update) == pytest.approx(min(clip, norm(plain.update)), rel=1e-6)
        for path, x in plain.update.items():
            np.testing.assert_allclose(clipped.update[path], min(part, 1.0) * x, rtol=1e-5, atol=1e-9)
            assert clipped.update[path].dtype == np.float32


def test_noise_has_the_deviation_that_is_asked_for(private, terms, asked):
    update = {"w": np.zeros((100, 200), np.float32)}
    one, two = (member.join(private(0, clip=0.5, noise=1.5, secret=k), terms[0]) for k in (1, 2))
    added = member._kept_private(update, one, asked)["w"]
    assert abs(added.mean()) < 5 * 0.75 / np.sqrt(added.size)
    assert added.std() == pytest.approx(0.75, rel=5 / np.sqrt(2 * added.size))
    assert abs(np.mean(added[:-1] * added[1:])) < 5 * 0.75**2 / np.sqrt(added.size)
    of_another = member._kept_private(update, two, asked)["w"]
    assert abs(np.mean(added * of_another)) < 5 * 0.75**2 / np.sqrt(added.size)


def test_noise_follows_from_the_secret_and_from_what_is_asked_alone(private, terms, asked):
    """The server could subtract noise that is the same for two models, or two seeds."""

    def noise(request, secret=5, told=terms[0]):
        noisy, quiet = (
            member.train(member.join(private(0, clip=9.0, noise=x, secret=secret), told), request)
            for x in (1.0, 0.0)
        )
        return np.concatenate([(noisy.update[p] - quiet.update[p]).ravel() for p in sorted(noisy.update)])

    first = noise(asked)
    np.testing.assert_array_equal(first, noise(asked))
    other_model = {path: x + np.float32(0.5) for path, x in asked.model.items()}
    others = [asked._replace(round=2), asked._replace(model=other_model), asked._replace(samples=11)]
    other_terms = terms[0]._replace(seed=terms[0].seed + 1)
    for other in (noise(asked, secret=6), noise(asked, told=other_terms), *map(noise, others)):
        assert np.min(np.abs(other - first)) > 1e-4


def test_what_she_sends_holds_no_records(private, records, terms, asked):
    """The same numbers of bytes, whatever she has; and none of her numbers among them."""
    train, test = records
    fewer = private(
        0,
        train=federated.Images(*(x[0, :12] for x in train)),
        test=federated.Images(*(x[0, :1] for x in test)),
    )

    def sent(private):
        hers = member.join(private._replace(limit=12.0), terms[0])
        requests = (messages.Ask(0, 1.0, 2.0, 0.0, 0.0), messages.Move(1, 1.0, 0.1, 1.0), asked)
        told = messages.Statement(0, 12, 0, 0, 0.01, "", "", asked.model)
        answers = [member._DOES[type(one)](hers, one) for one in (*requests, told)]
        return [member.declare(hers), *answers]

    def numbers(x):
        if isinstance(x, dict):
            return [y for one in x.values() for y in numbers(one)]
        return [*np.ravel(x)]

    def sizes(x):
        return {k: sizes(y) for k, y in x.items()} if isinstance(x, dict) else np.shape(x)

    many, few = sent(private(0)), sent(fewer)
    assert [sizes(one._asdict()) for one in many] == [sizes(one._asdict()) for one in few]
    hers = {*train.images[0].ravel().tolist(), *test.images[0].ravel().tolist()}
    said = {y for one in many for y in numbers(one._asdict()) if isinstance(y, np.floating | float)}
    assert hers.isdisjoint(said)


def test_accuracy_is_that_of_her_own_records_and_none_without_any(private, records, terms, asked):
    _, test = records
    right = member.train(member.join(private(0), terms[0]), asked).accuracy
    assert right == np.mean(test.labels[0] == 0)  # the linear network begins at 0, and says the first class
    nothing = federated.Images(*(x[0, :0] for x in test))
    assert np.isnan(member.train(member.join(private(0, test=nothing), terms[0]), asked).accuracy)


def test_training_that_diverges_is_said_and_sends_nothing(private, terms, asked):
    wild = terms[0]._replace(training=terms[0].training | {"learning_rate": 1e38, "epochs": 3})
    with pytest.raises(FloatingPointError, match="a smaller learning rate"):
        member.train(member.join(private(0), wild), asked)


def test_she_refuses_a_federation_of_other_inputs(private, terms):
    with pytest.raises(ValueError, match=r"inputs of shape \[5\], and she has \[4\]"):
        member.join(private(0), terms[0]._replace(features=[5]))


def test_before_enrolment_she_answers_nothing(private, terms, asked):
    site = member.Site(private(0))
    requests = [messages.Ask(0, 1.0, 2.0, 0.0, 0.0), messages.Move(1, 1.0, 0.1, 1.0), asked]
    requests.append(messages.Statement(1, 0, 0, 0, 0.01, "", "", {}))
    for request in requests:
        with pytest.raises(ValueError, match="she has not enrolled yet"):
            site(messages.to_values(request))
    enrolled = messages.from_values(site(messages.to_values(terms[0])))
    assert enrolled == ({"family": "linear", "rate": 0.002, "fixed": 0.0}, 1.0, 20.0)
    for request in requests:
        messages.from_values(site(messages.to_values(request)), messages.ANSWER_OF[type(request)])
    for answer in (enrolled, messages.Slope(0, 0.0)):
        with pytest.raises(ValueError, match="is an answer, and no request"):
            site(messages.to_values(answer))
    with pytest.raises(ValueError, match="no message"):
        site({"kind": "Give", "records": True})


def test_her_log_says_what_happens_to_her_in_her_currency(private, terms, asked):
    said = []
    site = member.Site(private(0), said.append)
    requests = [terms[0]._replace(currency="EUR"), messages.Ask(0, 1.0, 2.0, 0.0, 0.0), asked]
    requests += [
        messages.Statement(k, 12, -130, 250, 0.01, why, "ab" * 32, {}) for k, why in ((1, ""), (0, "ill"))
    ]
    for request in requests:
        site(messages.to_values(request))
    enrolled, trained, settled, ended = said
    assert enrolled.startswith(
        "Enrolled as member 1 of 3 in a federation of 3 rounds, under the rule beta_star."
    )
    assert "at most 20 samples" in enrolled
    assert trained.startswith("Round 1: trained on 12 samples, gave an update of 60 bytes; ")
    assert settled.startswith("Round 1: 12 samples count, paid €1.30. Balance €2.50; ")
    assert ended.startswith("The whole run: 12 samples count, paid €1.30; left out: ill. Balance ")


def test_the_final_model_is_kept_and_only_she_can_read_her_files(private, tmp_path):
    file = tmp_path / "hers.json"
    hers = private(0)._replace(name="Ann", like="/agreed", agreed="ab", most_paid=3.0)
    member.save(file, hers)
    found = member.load(file)
    assert (found.name, found.like, found.agreed, found.most_paid) == ("Ann", "/agreed", "ab", 3.0)
    model = {"params/Dense_0/bias": np.arange(3, dtype=np.float32)}
    member.save_model(file, model)
    np.testing.assert_array_equal(member.load_model(file)["params/Dense_0/bias"], np.arange(3))
    for one in (file, file.with_suffix(".npz"), member.model_file(file)):
        assert one.stat().st_mode & 0o077 == 0
