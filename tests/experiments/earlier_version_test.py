"""Files that version 0.1 wrote are still read; `tests/fixtures/0.1` is what its commands left."""

import pathlib

import jax
import numpy as np
import pytest

from fedgame import games
from fedgame.games import scenarios
from fedgame.inputs import measurements

utilities_of, accuracy_at = jax.jit(games.utilities), jax.jit(lambda payoff, total: payoff.curve(total))
FILES = pathlib.Path(__file__).parent.parent / "fixtures" / "0.1"


def test_a_curve_whose_totals_are_called_size():
    """launch.curve --agents=3 --capacity=12 --epochs=1 --rounds=2 --curve_points=4 --curve_seeds=2"""
    (curve,) = measurements.read(str(FILES / "curve.csv")).values()
    np.testing.assert_array_equal(curve.sizes, [0, 3, 7, 16, 36])
    np.testing.assert_allclose(curve.accuracy, [[0.08] * 4 + [0.12], [0.14] * 5], atol=1e-7)


@pytest.mark.parametrize(
    ("name", "payoff", "accuracy", "utilities"),
    [  # with 5,000 samples; where everybody contributes half of what she has
        ("power_law", games.PowerLaw, 0.97 - 6 / 5012**0.8, [0.58056443240, -10.738871135, -3.3620762547]),
        ("generalization_bound", games.GeneralizationBound, 0.80477912077, [-0.2375] * 3),
        ("concave", games.MeasuredCurve, 0.97800138968, [0.93041988018, 0.95785928255, 0.95492810831]),
    ],
)
def test_a_scenario(name, payoff, accuracy, utilities):
    """launch.equilibrium with --family=power, --family=bound, and on examples/ with --fit=concave."""
    found = scenarios.load(FILES / f"{name}.json")
    assert type(found.game.payoff) is payoff
    assert type(found.game.cost) is games.PowerCost
    assert len(found.names) == found.game.n
    assert float(accuracy_at(found.game.payoff, 5000.0)) == pytest.approx(accuracy, rel=1e-9)
    u = utilities_of(found.game, 0.5 * np.asarray(found.game.capacity))
    np.testing.assert_allclose(np.asarray(u)[:3], utilities, rtol=1e-9)


def test_numbers_of_a_scenario():
    game = scenarios.load(FILES / "power_law.json").game
    np.testing.assert_array_equal(game.cost.exponent, [1.0, 2.0, 1.5])
    np.testing.assert_array_equal(game.cost.fixed, [0.1, 0.0, 0.0])
    np.testing.assert_array_equal(game.quality, [1.0, 0.5, 2.0])
    assert (float(game.payoff.scale), float(game.payoff.exponent), float(game.held)) == (6.0, 0.8, 5.0)
    assert scenarios.load(FILES / "concave.json").names[11] == "clinic 12"
