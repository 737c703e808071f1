"""No array that a large game needs has n² numbers: read from the compiled programs themselves."""

import math
import re

import jax
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.equilibria import responses

N, M = 997, 7  # prime, so that no other array happens to have n² numbers


def coverage(n):
    q = np.random.default_rng(0).dirichlet(np.ones(M), n) * 0.9
    return games.check(games.Game(games.RandomCoverage(q), games.PowerCost(0.01, 2.0), np.ones(n)))


def discovery(n):
    q = np.random.default_rng(0).dirichlet(np.ones(M), n)
    return games.check(games.Game(games.RandomDiscovery(q), games.PowerCost(0.01, 2.0), np.ones(n)))


def total(n):
    scale = np.random.default_rng(0).uniform(1, 2, n)
    payoff = games.PowerLaw(1.0, scale, 0.5, 1.0)
    return games.check(games.Game(payoff, games.PowerCost(scale, 2.0), np.ones(n)))


def largest_array(function, *args):
    text = jax.jit(function).lower(*args).compile().as_text()
    shapes = re.findall(r"\b(?:f64|f32|s64|s32|pred)\[([\d,]+)\]", text)
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


@pytest.mark.parametrize("make", [coverage, discovery, total])
@pytest.mark.parametrize("look", [equilibria.solve, lambda game: equilibria.nash_gap(game, game.capacity)])
def test_no_array_has_more_numbers_than_the_agents_and_points(make, look):
    assert largest_array(look, make(N)) <= 10 * N * M


def test_the_look_sees_such_an_array():
    few = coverage(responses.NEWTON)
    assert largest_array(equilibria.solve, few) >= responses.NEWTON**2  # Newton's method has it
