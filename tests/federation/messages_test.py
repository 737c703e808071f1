import math
import re

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from fedgame.federation import messages

MODEL = {"params/Dense_0/bias": np.zeros(3, np.float32), "params/Dense_0/kernel": np.ones((4, 3), np.float32)}
FAMILY = {"family": "linear", "rate": 0.002, "fixed": 0.0}
OF_FIELD = {int: 2, float: 0.25, str: "accuracy", bool: True, list[str]: ["a", "b"], list[int]: [4]}


def a_message(kind):
    """One of this kind, with something in every field."""
    hints = messages.typing.get_type_hints(kind)
    values = {
        name: MODEL if of == messages.Arrays else OF_FIELD.get(of, FAMILY) for name, of in hints.items()
    }
    return kind(**values)


MESSAGES = [a_message(kind) for kind in messages.KINDS.values()]


def same(a, b):
    return messages.digest(a) == messages.digest(b)


def refused(values, *words, kind=None):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        messages.from_values(values, kind)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def with_field(kind, name, x):
    return messages.to_values(a_message(kind)) | {name: x}


def test_every_request_has_its_answer():
    assert len(messages.KINDS) == 2 * len(messages.ANSWER_OF) == 12


@pytest.mark.parametrize("message", MESSAGES, ids=lambda x: type(x).__name__)
def test_a_message_arrives_as_it_was_sent(message):
    values = messages.to_values(message)
    assert set(values) == {"kind", *message._fields}
    for kind in (None, type(message)):
        arrived = messages.from_values(dict(reversed(values.items())), kind)
        assert type(arrived) is type(message)
        assert same(arrived, message)
    for field in message._fields:
        less = {name: x for name, x in values.items() if name != field}
        refused(less, type(message).__name__, f"wrong: {field}")
    refused(values | {"more": 1}, "wrong: more")
    refused(values | {3: 1}, "wrong: 3")
    other = next(kind for kind in messages.KINDS.values() if kind is not type(message))
    refused(values, f"a message {type(message).__name__}, where {other.__name__} is the answer", kind=other)


@pytest.mark.parametrize(
    "garbage", [None, "Train", [], {}, {"kind": "Gift"}, {"kind": []}, {"kind": None}, 7]
)
def test_what_is_no_message_is_refused(garbage):
    refused(garbage, "no message")
    refused(garbage, "no message", kind=messages.Slope)


WRONG = {
    int: (True, 1.0, "1", None, np.float64(1), [1]),
    float: (math.nan, math.inf, -math.inf, True, "0.5", None, np.array(1.0), 10**400),
    str: (1, None, b"accuracy"),
    bool: (1, "true", None),
    list[int]: ((4,), 4, "4", [math.nan], [b"4"]),
    list[str]: ("ab", None, {"a": 1}),
    dict[str, messages.Any]: ([], "linear(1)", {"rate": np.ones(2)}, {"rate": math.nan}, {1: 2, "a": 3}),
}
WRONG_ARRAYS = {
    "no dict": [MODEL["params/Dense_0/bias"]],
    "float64": {"w": np.zeros(3)},
    "int": {"w": np.zeros(3, np.int32)},
    "other byte order": {"w": np.zeros(3, ">f4")},
    "objects": {"w": np.array([None])},
    "list": {"w": [0.0]},
    "no text": {1: np.zeros(3, np.float32)},
    "NaN": {"w": np.array([0, math.nan], np.float32)},
    "infinite": {"w": np.array([0, -math.inf], np.float32)},
}


@pytest.mark.parametrize("kind", messages.KINDS.values(), ids=lambda x: x.__name__)
def test_numbers_and_texts_of_another_kind_are_refused_and_the_field_is_named(kind):
    for name, of in messages.typing.get_type_hints(kind).items():
        if of == messages.Arrays:
            continue
        for x in WRONG[of]:
            if name == "accuracy" and isinstance(x, float) and math.isnan(x):
                messages.from_values(with_field(kind, name, x))  # she has no held-out records
            else:
                refused(with_field(kind, name, x), f"{kind.__name__}.{name} must")


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
@pytest.mark.parametrize(
    ("kind", "field"), [(messages.Train, "model"), (messages.Update, "update"), (messages.Statement, "model")]
)
def test_only_finite_arrays_of_float32_are_a_model(kind, field, wrong):
    refused(with_field(kind, field, WRONG_ARRAYS[wrong]), f"{kind.__name__}.{field}")


def test_whole_numbers_are_numbers():
    assert messages.from_values(with_field(messages.Slope, "slope", 3)).slope == 3


@hypothesis.given(
    path=st.sampled_from(sorted(MODEL)), place=st.integers(0, 2), bit=st.integers(0, 31), key=st.randoms()
)
def test_a_digest_is_of_every_bit_and_of_no_order(path, place, bit, key):
    update = a_message(messages.Update)
    paths = list(MODEL)
    key.shuffle(paths)
    assert same(update, update._replace(update={one: MODEL[one].copy() for one in paths}))
    changed = MODEL[path].copy()
    changed.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
    assert not same(update, update._replace(update=MODEL | {path: changed}))


def test_a_digest_is_of_kind_shape_and_structure():
    update, kernel = a_message(messages.Update), np.ones((4, 3), np.float32)
    found = [
        messages.digest_of(x)
        for x in (
            {"w": kernel},
            {"w": kernel.T.copy()},
            {"w": kernel.reshape(-1)},
            {"w": kernel.view(np.int32)},
            {"v": kernel},
            {"v/w": kernel},
            {"v": {"w": kernel}},
            {"v:w": kernel},
            {},
            {"w": {}},
            {"a": {"b": 1, "c": 2}},
            {"a": {"b": 1}, "c": 2},
            {"a": {"b": 1.0, "c": 2}},
            {"a": {"b": "1", "c": 2}},
            {"a": {"b": True, "c": 2}},
            {"a": {"b": -0.0, "c": 2}},
            {"a": {"b": 0.0, "c": 2}},
            {"a": {"b": None, "c": 2}},
            messages.to_values(update),
            messages.to_values(update._replace(samples=3)),
            messages.to_values(update._replace(accuracy=math.nextafter(0.25, 1))),
            messages.to_values(update._replace(accuracy=math.nan)),
        )
    ]
    assert len({*found}) == len(found)
    assert messages.digest_of({"w": kernel.T}) == found[1]  # however it lies in memory


def test_a_model_of_flax_is_what_its_arrays_say(model):
    arrays = messages.to_arrays(model)
    assert list(arrays) == ["params/Dense_0/bias", "params/Dense_0/kernel"]
    back = messages.from_arrays(arrays)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, back, model)
    assert messages.digest_of(messages.to_arrays(back)) == messages.digest_of(arrays)
    messages.from_values(messages.to_values(messages.Train(1, 2, arrays)))
