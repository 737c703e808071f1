"""JSON files of games keep every digit, and errors name every mistake."""

import json
import os
import re

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, registry, testing
from fedgame.games import costs, payoffs, scenarios

POSITIVE = st.floats(1e-99, 1e99)
SIZES = [0.0, 1 / 3, 7.1]
PAYOFFS = {
    "PowerLaw": lambda x: games.PowerLaw([1 / 3, x], x, 0.1, [x, 0.0], clip=False),
    "GeneralizationBound": lambda x: games.GeneralizationBound(0.1 + 0.2, [x, 1 / 3]),
    "MeasuredCurve": lambda x: games.MeasuredCurve(
        SIZES, [0.1, 0.1 + 0.2 / 3, 0.1 + 0.2 / 3], [0.4, 0.0, 0.0]
    ),
    "LinearPayoff": lambda x: games.LinearPayoff([[x, -1 / 3], [0.1, -x]]),
    "RandomDiscovery": lambda x: games.RandomDiscovery([[1 / 3, 0.1, 1.0]] * 2),
    "RandomCoverage": lambda x: games.RandomCoverage([0.1, 1 / 3]),
}
COSTS = {
    "LinearCost": lambda x: games.LinearCost([x, 1 / 3], x),
    "PowerCost": lambda x: games.PowerCost(x, [1.0, 7 / 3], [0.1, x]),
    "OrderedCost": lambda x: games.OrderedCost([[0.0, 0.1, x + 1], [1 / 3, 0.5, 0.7]]),
}


@pytest.mark.parametrize("payoff", PAYOFFS)
@pytest.mark.parametrize("cost", COSTS)
@hypothesis.settings(max_examples=4, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(x=POSITIVE)
def test_a_file_keeps_every_bit(tmp_path, payoff, cost, x):
    held = x if PAYOFFS[payoff](x).of_total else 0.0
    game = games.check(games.Game(PAYOFFS[payoff](x), COSTS[cost](x), [1 / 3, 2.1], [x, 1.0], 1 / 7, held))
    names = ['Zoë, "A"', "二"]
    scenarios.save(tmp_path / "game.json", game, names)
    loaded = scenarios.load(tmp_path / "game.json")
    assert loaded.names == names
    assert jax.tree.structure(loaded.game) == jax.tree.structure(game)  # families and `clip` too
    for one, other in zip(jax.tree.leaves(loaded.game), jax.tree.leaves(game), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


GAME = games.Game(games.PowerLaw(1.0, 1.0, 0.5), games.LinearCost(0.1), [1.0, 2.0])


def test_names_are_numbers_by_default_and_files_are_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "game.json"
    scenarios.save(path, GAME)
    assert scenarios.load(path).names == ["0", "1"]
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            scenarios.save(path, GAME, ["a", "b"])
    assert path.read_bytes() == before
    scenarios.save(path, GAME, ["a", "b"])
    assert scenarios.load(path).names == ["a", "b"]
    assert [file.name for file in tmp_path.iterdir()] == ["game.json"]


@pytest.mark.parametrize(
    "payoff", [games.TotalPayoff(jnp.log1p), games.CustomPayoff(jnp.sqrt), games.Separable(jnp.add, jnp.sqrt)]
)
def test_functions_cannot_be_saved(payoff, tmp_path):
    with pytest.raises(ValueError, match=f"{type(payoff).__name__} has no name, so JSON cannot hold it"):
        scenarios.save(tmp_path / "game.json", GAME.replace(payoff=payoff))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="`names` must name all 2 agents, got 1 names"):
        scenarios.to_dict(GAME, ["a"])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "fedgame scenario 2", "`format` must be"),
        (["capacities"], [1.0], "unknown field `capacities`; a scenario has .*capacity"),
        (["capacity"], None, "`capacity` must be"),
        (["capacity"], [[1], [2, 3]], "`capacity` must be a number or a list of numbers"),
        (["capacity"], {}, "`capacity` must be a number or a list of numbers"),
        (["capacity"], ["1", "2"], "`capacity` must be a number or a list of numbers"),
        (["capacity"], [True, 2], "`capacity` must be a number or a list of numbers"),
        (["value"], True, "`value` must be a number or a list of numbers"),
        (["value"], [1.0, 2.0, 3.0], "`value` must be shared or"),
        (["held"], -1.0, "`held` must be a number, at least 0"),
        (["names"], ["a"], "`names` must be a list of 2 strings"),
        (["names"], "ab", "`names` must be a list of 2 strings"),
        (["payoff"], [], "`payoff` needs a `family`, one of effective, bound, linear, concave"),
        (["payoff", "family"], "powerlaw", "`payoff` needs a `family`, .*'powerlaw'; did you mean 'power'"),
        (
            ["payoff", "family"],
            ["PowerLaw"],
            "`payoff` needs a `family`, one of effective, bound, linear, concave",
        ),
        (["payoff", "scale"], "much", "`scale` must be a number or a list of numbers"),
        (["payoff", "scale"], True, "`scale` must be a number or a list of numbers"),
        (["payoff", "clip"], 1, "`clip` must be true or false"),
        (["payoff", "clip"], "no", "`clip` must be"),
        (["payoff", "slope"], 1.0, "power has no `slope`; did you mean 'scale'.*; it has best, scale"),
        (["cost", "family"], "PowerLaw", "`cost` needs a `family`, one of linear, power"),
        (["cost"], {"family": "PowerCost", "rate": 1.0}, "`cost`: PowerCost: missing .*exponent"),
    ],
)
def test_every_mistake_is_named(path, value, message, tmp_path):
    values = scenarios.to_dict(GAME)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        scenarios.from_dict(values)
    file = tmp_path / "game.json"
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"game.json: .*{message}"):
        scenarios.load(file)


@pytest.mark.parametrize("field", ["payoff", "cost", "capacity"])
def test_what_is_missing_is_named(field):
    values = scenarios.to_dict(GAME)
    del values[field]
    with pytest.raises(ValueError, match=f"`{field}` is missing"):
        scenarios.from_dict(values)
    with pytest.raises(ValueError, match="this is no scenario"):
        scenarios.from_dict([])


def test_bad_files(tmp_path):
    file = tmp_path / "game.json"
    file.write_text('{\n"format": 1,\n"names": [,\n}')
    with pytest.raises(ValueError, match=r"game.json, line 3: not JSON"):
        scenarios.load(file)
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"game\.json is not a text file in UTF-8"):
        scenarios.load(file)
    file.write_text(json.dumps(scenarios.to_dict(GAME)).replace("0.1", "NaN"))
    with pytest.raises(ValueError, match=r"game\.json: NaN is no number below 1e100"):
        scenarios.load(file)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        scenarios.load(tmp_path / "none.json")


TEXT = json.dumps(scenarios.to_dict(GAME, ["a", "b"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "brackets are nested too deeply for a scenario"),
        ('{"a":' * 2_000, "brackets are nested too deeply for a scenario"),
        (TEXT.replace('"held": 0.0', '"held": ' + "[" * 900 + "]" * 900), "brackets are nested too deeply"),
        (TEXT.replace('"held": 0.0', '"held": -Infinity'), "-Infinity is no number below 1e100"),
        (TEXT.replace('"held": 0.0', '"held": 1e400'), "1e400 is no number below 1e100"),
        (TEXT.replace('"held": 0.0', '"held": 1e100'), "1e100 is no number below 1e100"),
        (TEXT.replace('"held": 0.0', '"held": ' + "7" * 400), f"{'7' * 20}… is no number below 1e100"),
        (TEXT.replace('"held": 0.0', '"held": ' + "7" * 5_000), f"{'7' * 20}… is no number below 1e100"),
        (TEXT.replace('"held"', '"held": 1, "held"'), "'held' is there twice in one object"),
        (TEXT.replace('"b"', '"\\ud800"'), r"a text has '\ud800', half of a surrogate pair"),
        (
            TEXT.replace('"format"', '"\\udfff": 1, "format"'),
            r"a text has '\udfff', half of a surrogate pair",
        ),
        (TEXT.replace('"b"', '"a"'), "`names`: agents 0 and 1 have the same name, 'a'"),
        (
            TEXT.replace('"a"', '"\u00e9"').replace('"b"', '"e\u0301"'),
            "`names`: agents 0 and 1 have the same name",
        ),
        (TEXT.replace('"b"', '" "'), "`names`: that of agent 1 must not be empty"),
        (
            TEXT.replace('"b"', '"b\\n"'),
            r"`names`: that of agent 1 must be printable text, but 'b\n' has U+000A, a control character",
        ),
        (TEXT.replace('"b"', '"b\u202e"'), "has U+202E, right-to-left override"),
        (TEXT.replace("[1.0, 2.0]", json.dumps(["x"] * 1000)), "got ['x', 'x'"),
    ],
)
def test_texts_that_python_would_read_otherwise_or_not_at_all_are_refused(tmp_path, text, message):
    file = tmp_path / "game.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        scenarios.load(file)
    assert str(error.value).startswith(str(file))
    assert len(str(error.value)) < len(str(file)) + 250


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "game.json").write_text(TEXT, encoding="utf-8-sig")
    assert scenarios.load(tmp_path / "game.json").names == ["a", "b"]


def test_pipes_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")  # reading it would never end
    for name, kind in (("pipe.json", "a pipe or a device"), (".", "a folder")):
        with pytest.raises(ValueError, match=f"is {kind}, not a file"):
            scenarios.load(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read: File name too long"):
        scenarios.load("x" * 5000)


@pytest.mark.parametrize("names", [["a", "a"], ["a", ""], ["a", "b\n"]])
def test_names_that_cannot_be_read_are_not_written(names, tmp_path):
    with pytest.raises(ValueError, match="`names`: "):
        scenarios.save(tmp_path / "game.json", GAME, names)


@pytest.mark.parametrize("payoff", PAYOFFS)
@pytest.mark.parametrize("cost", COSTS)
def test_files_of_version_0_1_name_classes(payoff, cost):
    game = games.check(games.Game(PAYOFFS[payoff](0.7), COSTS[cost](0.7), [1 / 3, 2.1]))
    values = scenarios.to_dict(game)
    assert {values["payoff"]["family"], values["cost"]["family"]} <= {*payoffs.PAYOFFS, *costs.COSTS}
    values["payoff"]["family"], values["cost"]["family"] = payoff, cost
    read = scenarios.from_dict(values).game
    assert jax.tree.structure(read) == jax.tree.structure(game)
    chex.assert_trees_all_equal(read, game)


def test_a_strangers_class_never_takes_the_name_of_one_of_ours():
    values = scenarios.to_dict(GAME)
    values["payoff"]["family"] = "PowerLaw"

    @registry.register("mine")
    class PowerLaw(payoffs.OfTotal):
        best: object = registry.option("of endless data")

        def curve(self, total):
            return self.best + 0.0 * total

    assert type(scenarios.from_dict(values).game.payoff) is games.PowerLaw
    values["payoff"] = {"family": "mine", "best": 1.0}
    assert type(scenarios.from_dict(values).game.payoff) is PowerLaw


def test_a_family_may_be_written_as_a_text():
    values = {**scenarios.to_dict(GAME), "payoff": "power(1, 1, 0.5)", "cost": "linear(0.1)"}
    chex.assert_trees_all_equal(scenarios.from_dict(values).game, games.check(GAME))
    for text, message in (("powr(1)", "did you mean 'power'"), ("power(1, 1)", "power needs `exponent`")):
        with pytest.raises(ValueError, match=message):
            scenarios.from_dict({**values, "payoff": text})
    with pytest.raises(ValueError, match="there is no cost 'bound'"):
        scenarios.from_dict({**values, "cost": "bound(1, 1)"})


def test_strangers_families_may_hold_text_whole_numbers_and_families():
    @registry.register("mixed")
    class Mixed(payoffs.OfTotal):
        first: payoffs.Payoff = registry.option("where it begins", of="payoff")
        weight: object = registry.option("of the rest", 0.5, low=0)
        shape: str = registry.option("of the rest", "log", choices=("log", "root"), kind=str, static=True)
        degree: int = registry.option("of the rest", 2, low=1, static=True)

        def curve(self, total):
            rest = jnp.log1p(total) if self.shape == "log" else total ** (1 / self.degree)
            return self.first.curve(total) + self.weight * rest

    payoff = registry.read("payoff", "mixed(power([1, 1.1], 1, 0.5, 1), [1, 2], 'root', 3)")
    game = games.check(GAME.replace(payoff=payoff))
    values = json.loads(json.dumps(scenarios.to_dict(game)))
    assert values["payoff"]["first"]["family"] == "power"
    assert (values["payoff"]["shape"], values["payoff"]["degree"]) == ("root", 3)
    loaded = scenarios.from_dict(values).game
    assert jax.tree.structure(loaded) == jax.tree.structure(game)
    chex.assert_trees_all_equal(loaded, game)
    testing.check_payoff(payoff, [1.0, 2.0])
    for field, value, message in (
        ("shape", "line", "`shape` must be one of log, root, got 'line'"),
        ("degree", 2.5, "`degree` must be a whole number, got 2.5"),
        ("degree", 0, "`degree` must be a number, at least 1"),
        ("first", {"family": "linear", "w": True}, "`w` must be a number or a list of numbers"),
        ("first", 1.0, "`payoff` needs a `family`"),
    ):
        with pytest.raises(ValueError, match=message):
            scenarios.from_dict({**values, "payoff": {**values["payoff"], field: value}})


def test_a_registered_family_may_hold_a_function_that_json_cannot():
    @registry.register("shaped")
    class Shaped(payoffs.OfTotal):
        shape: object = registry.option("from S to the payoff", jnp.log1p, static=True)

        def curve(self, total):
            return self.shape(total)

    game = GAME.replace(payoff=Shaped())
    assert not scenarios.holds(game)
    with pytest.raises(ValueError, match=r"Shaped holds a .*, which JSON cannot hold"):
        scenarios.to_dict(game)
