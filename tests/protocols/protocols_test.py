import jax
import jax.numpy as jnp
import numpy as np

from fedgame import games, registry
from fedgame.learning import federated, local, models, trainer
from fedgame.protocols import base, fedavg, mwfed

MODEL = models.CNN(channels=(2, 2), units=4)


def started(protocol, samples):
    """The plan of a protocol that depends on nothing but the capacities."""
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(0.01), samples))
    return protocol.start(game, protocol.rule.announced(game), jax.random.key(0))


class Accuracies:
    """A trainer that knows accuracies only: protocols may ask for nothing else here."""

    def __init__(self, found):
        self.found = found

    def accuracy(self, params):
        assert self.found is not None, "accuracy was asked for"
        return np.asarray(self.found)


def test_fedavg_shares_everything():
    protocol = fedavg.FedAvg()
    plan = started(protocol, [7, 9])
    np.testing.assert_array_equal(plan.profile, [7, 9])
    assert protocol.adapt(plan, Accuracies(None), None) is plan


def test_mwfed_by_hand():
    """n=3, τ=12: w=1/3 each; agent 0 behind: (4,1,1)/6; then 0 and 1 behind: (16,4,1)/21; then frozen."""
    protocol = mwfed.MWFed()
    plan = started(protocol, [12, 12, 12])
    accuracies = ([0.6, 0.7, 0.9], [0.5, 0.65, 0.8], [0.7, 0.7, 0.7], [0.0, 0.0, 1.0])
    weights = ([2 / 3, 1 / 6, 1 / 6], *[[16 / 21, 4 / 21, 1 / 21]] * 3)
    profiles = ([12, 6, 6], *[[12, 7, 2]] * 3)  # 36 w, rounded, at most τ
    np.testing.assert_array_equal(plan.profile, [12, 12, 12])
    for accuracy, w, profile in zip(accuracies, weights, profiles, strict=True):
        plan = protocol.adapt(plan, Accuracies(accuracy), None)
        np.testing.assert_allclose(plan.memory.weights, w, rtol=1e-12)
        np.testing.assert_array_equal(plan.profile, profile)
    assert plan.memory.frozen
    np.testing.assert_array_equal(plan.memory.capacity, [12, 12, 12])
    assert plan.path.shape == (1, 3)  # it plays no game


def test_a_run_trains_on_what_the_rule_says_and_charges_the_mean():
    images = jax.random.uniform(jax.random.key(0), (2, 6, 8, 8, 1), jnp.float32)
    train = federated.Images(images, jnp.zeros((2, 6), jnp.int32))
    params = models.initial_parameters(MODEL, jax.random.key(1), (8, 8, 1))
    seen = []

    @registry.register("growing")
    class Growing(base.Protocol):
        def start(self, game, announced, key):
            return base.always([0.4, 2.6])

        def adapt(self, plan, trainer, params):
            seen.append(trainer.accuracy(params))
            return plan._replace(profile=plan.profile + 1.0)

    protocol, options, key = Growing(), local.LocalTraining(epochs=1), jax.random.key(2)
    learning = trainer.Trainer(MODEL, options, train, key, test=train)
    outcome = base.run(protocol, started(protocol, [6, 6]), learning, params, 3)
    np.testing.assert_array_equal(outcome.drawn, [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(outcome.charged, [1.0, 4.0])  # rounded: (0,3), (1,4), (2,5)
    expected = params
    for number, samples in enumerate(([0, 3], [1, 4], [2, 5]), 1):
        samples = jnp.asarray(samples, jnp.int32)
        expected = federated.federated_round(MODEL, options, expected, train, samples, key, number)
    jax.tree.map(np.testing.assert_array_equal, outcome.params, expected)
    assert len(seen) == 2
    assert seen[0].shape == (2,)
