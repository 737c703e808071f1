"""JSON files of games: every digit kept, every mistake named."""

import json

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.games import scenarios

POSITIVE = st.floats(1e-300, 1e300)
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
    names = ['Zoë, "A"\n', "二"]
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
        (["payoff"], [], "`payoff` needs a `family`, one of bound, linear, concave"),
        (["payoff", "family"], "powerlaw", "`payoff` needs a `family`, .*'powerlaw'; did you mean 'power'"),
        (["payoff", "family"], ["PowerLaw"], "`payoff` needs a `family`, one of bound, linear, concave"),
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
    with pytest.raises(ValueError, match=r"game.json: "):
        scenarios.load(file)
    file.write_text(json.dumps(scenarios.to_dict(GAME)).replace("0.1", "NaN"))
    with pytest.raises(ValueError, match="`rate` must be finite"):
        scenarios.load(file)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        scenarios.load(tmp_path / "none.json")
