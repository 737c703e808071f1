"""A small federation: three members, four numbers a record, three classes, a linear network."""

import jax
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.federation import conduct, member, server
from fedgame.games import payoffs
from fedgame.learning import federated, local, models

NAMES = ("Ann", "Bob", "Çem")
RATES = (0.002, 0.003, 0.006)
RECORDS = 20
CURVE = payoffs.PowerLaw(0.97, 6.0, 0.8, 12.0)


@pytest.fixture(scope="session")
def training():
    options = local.LocalTraining(batch_size=8, epochs=1, learning_rate=0.1)
    model = models.PRESETS["linear"].clone(classes=3)
    return server.Training(model, options, (4,), ("a", "b", "c"), "accuracy", 0)


@pytest.fixture(scope="session")
def records():
    """Of all members, to train on and held out: [3, 20, …] and [3, 5, …]."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 4))

    def draw(m):
        labels = rng.integers(0, 3, (len(NAMES), m)).astype(np.int32)
        rows = centres[labels] + 0.5 * rng.normal(size=(len(NAMES), m, 4))
        return federated.Images(rows.astype(np.float32), labels)

    return draw(RECORDS), draw(5)


@pytest.fixture(scope="session")
def private(records):
    """A function: what member i has."""

    def made(i, **changed):
        train, test = (federated.Images(*(x[i] for x in part)) for part in records)
        return member.Private(games.LinearCost(RATES[i]), 1.0, float(RECORDS), train, test)._replace(
            **changed
        )

    return made


@pytest.fixture(scope="session")
def sites(private):
    """A function: members who answer, by name, anew."""
    return lambda: {name: member.Site(private(i)) for i, name in enumerate(NAMES)}


@pytest.fixture(scope="session")
def federation(training):
    """A function: a federation of all, in which things may be other than usual."""
    usual = {
        "names": NAMES,
        "payoff": CURVE,
        "quality": np.ones(len(NAMES)),
        "held": 0.0,
        "protocol": registry.read("protocol", "fedbr(beta_star, steps=5)"),
        "training": training,
        "rounds": 3,
        "unit": 1e-4,
    }
    return lambda **changed: conduct.Federation(**{**usual, **changed})


@pytest.fixture(scope="session")
def terms(federation):
    """[3] what members are told when they join."""
    usual = federation()
    return server.terms(usual.payoff, usual.quality, usual.protocol, usual.training, usual.rounds)


@pytest.fixture(scope="session")
def the_game():
    """A function: the game that members declare."""

    def made(payoff=CURVE, **changed):
        cost = games.LinearCost(np.array(RATES))
        return games.check(
            games.Game(payoff, cost, np.full(len(NAMES), float(RECORDS)), np.ones(3), **changed)
        )

    return made


@pytest.fixture(scope="session")
def model(training):
    return jax.device_get(server.initial_model(training))
