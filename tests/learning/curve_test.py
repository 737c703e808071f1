import jax
import numpy as np
import pytest

from fedgame.learning import curve, data, evaluation, local, models

MODEL = models.CNN(channels=(4, 8), units=16)
OPTIONS = local.LocalTraining(epochs=3, learning_rate=0.05)


@pytest.mark.parametrize(("most", "points", "agents"), [(500, 10, 10), (30, 4, 10), (3, 4, 10)])
def test_grid_runs_from_0_to_the_largest_total(most, points, agents):
    sizes = curve.grid(most, points, agents)
    assert sizes[0] == 0
    assert sizes[-1] == most
    assert np.all(np.diff(sizes) > 0)


@pytest.fixture(scope="module")
def server():
    return data.load("digits", 120, 300, seed=0)


def measure(server, total, key=0, rounds=6):
    return curve.measure(MODEL, OPTIONS, server.train, server.test, total, 3, rounds, jax.random.key(key))


def test_more_samples_make_a_better_model_and_the_key_decides_all_else(server):
    none, few, many = (measure(server, total) for total in (0, 10, 120))
    assert none < few < many
    assert many > 0.6
    assert measure(server, 10) == few


def test_no_samples_leave_the_initial_model(server):
    init_key = jax.random.split(jax.random.key(0), 3)[1]
    params = models.initial_parameters(MODEL, init_key, (8, 8, 1))
    assert measure(server, 0) == evaluation.accuracy(MODEL, params, server.test)
