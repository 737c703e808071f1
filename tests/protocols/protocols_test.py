import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.learning import federated, local, models
from fedgame.mechanisms import budget_balanced
from fedgame.protocols import base, fedavg, fedbr, mwfed

MODEL = models.CNN(channels=(2, 2), units=4)
nash_gap, solve = jax.jit(equilibria.nash_gap), jax.jit(equilibria.solve)
CURVE = games.PowerLaw(1.0, 10.0, 0.9, 16.0)


def a_game(rates):
    return games.check(games.Game(CURVE, games.LinearCost(rates), [50] * len(rates)))


@pytest.mark.parametrize("beta", [None, 0.5, 0.9])
@pytest.mark.parametrize("rates", [[0.01] * 10, np.linspace(0.005, 0.02, 7), [0.001, 0.3]])
def test_fedbr_ends_at_a_certified_equilibrium_of_its_game(rates, beta):
    game = a_game(rates)
    protocol = fedbr.protocol(game, beta)
    plan = protocol.start(jax.random.key(0))
    played = budget_balanced.under_mechanism(game, beta or 0.0)
    assert jnp.max(nash_gap(played, plan.profile)) < 1e-9
    assert np.sum(plan.profile) == pytest.approx(float(jnp.sum(solve(played).profile)), rel=1e-5)
    assert plan.path.shape == (101, game.n)
    assert np.all((plan.path >= 0) & (plan.path <= 50))
    np.testing.assert_array_equal(plan.path[-1], plan.profile)
    assert protocol.name == ("FedBR" if beta is None else "FedBR-BG")


def test_payments_balance_at_every_step():
    game = a_game(np.linspace(0.005, 0.02, 7))
    protocol = fedbr.protocol(game, 0.8)
    for profile in protocol.start(jax.random.key(1)).path:
        spent = np.asarray(games.incurred_costs(game, profile))
        payments = budget_balanced.payments(protocol.beta, spent)
        assert abs(jnp.sum(payments)) <= 1e-15 * game.n
        assert jnp.any(payments != 0) or not jnp.any(spent)


def test_a_constant_step_is_used_as_given():
    game = a_game([0.01, 0.02])
    path = fedbr.protocol(game, steps=1, step_size=100.0).start(jax.random.key(5)).path
    moved = np.clip(path[0] + 100.0 * games.own_gradient(game, path[0]), 0, 50)
    np.testing.assert_allclose(path[1], moved, rtol=1e-12)


def test_random_starts_are_multiples_of_ten_up_to_the_capacity():
    capacity = jnp.asarray([50, 100, 9, 15])
    starts = np.stack([fedbr.random_start(jax.random.key(k), capacity) for k in range(300)])
    assert [sorted(set(column)) for column in starts.T] == [
        [10.0 * k for k in range(6)],
        [10.0 * k for k in range(11)],
        [0.0],
        [0.0, 10.0],
    ]


def test_fedavg_shares_everything():
    protocol = fedavg.protocol([7, 9])
    plan = protocol.start(jax.random.key(0))
    np.testing.assert_array_equal(plan.profile, [7, 9])
    assert protocol.adapt(plan, lambda: pytest.fail("accuracy was asked for")) is plan


def test_mwfed_by_hand():
    """n=3, τ=12: w=1/3 each; agent 0 behind: (4,1,1)/6; then 0 and 1 behind: (16,4,1)/21; then frozen."""
    protocol = mwfed.protocol([12, 12, 12])
    plan = protocol.start(None)
    accuracies = ([0.6, 0.7, 0.9], [0.5, 0.65, 0.8], [0.7, 0.7, 0.7], [0.0, 0.0, 1.0])
    weights = ([2 / 3, 1 / 6, 1 / 6], *[[16 / 21, 4 / 21, 1 / 21]] * 3)
    profiles = ([12, 6, 6], *[[12, 7, 2]] * 3)  # 36 w, rounded, at most τ
    np.testing.assert_array_equal(plan.profile, [12, 12, 12])
    for accuracy, w, profile in zip(accuracies, weights, profiles, strict=True):
        plan = protocol.adapt(plan, lambda a=accuracy: np.asarray(a))
        np.testing.assert_allclose(plan.memory.weights, w, rtol=1e-12)
        np.testing.assert_array_equal(plan.profile, profile)
    assert plan.memory.frozen
    assert plan.path.shape == (5, 3)


def test_a_run_trains_on_what_the_rule_says_and_charges_the_mean():
    images = jax.random.uniform(jax.random.key(0), (2, 6, 8, 8, 1), jnp.float32)
    train = federated.Images(images, jnp.zeros((2, 6), jnp.int32))
    params = models.initial_parameters(MODEL, jax.random.key(1), (8, 8, 1))
    seen = []

    def adapt(plan, accuracy):
        seen.append(np.asarray(accuracy()))
        return base.Plan(plan.profile + 1.0, np.vstack([plan.path, plan.profile + 1.0]))

    start = np.asarray([0.4, 2.6])
    protocol = base.Protocol("growing", lambda key: base.Plan(start, start[None]), adapt)
    options, key = local.LocalTraining(epochs=1), jax.random.key(2)
    plan = protocol.start(None)
    outcome = base.run(protocol, plan, MODEL, options, params, train, train, 3, key)
    np.testing.assert_array_equal(outcome.charged, [1.0, 4.0])  # rounded: (0,3), (1,4), (2,5)
    expected = params
    for number, samples in enumerate(([0, 3], [1, 4], [2, 5]), 1):
        samples = jnp.asarray(samples, jnp.int32)
        expected = federated.federated_round(MODEL, options, expected, train, samples, key, number)
    jax.tree.map(np.testing.assert_array_equal, outcome.params, expected)
    assert len(seen) == 2
    assert seen[0].shape == (2,)
