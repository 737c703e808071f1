"""Payoffs of effective samples, their equilibria by pivoting, and when there is only one."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import implicit, pivoting, solvers
from fedgame.games import payoffs
from fedgame.mechanisms import personal, prices, rules

CURVE = games.PowerLaw(0.95, 2.0, 0.5, 10.0, clip=False)
RATES = np.array([[1.0, 0.5, 0.0], [0.2, 1.0, 1.5], [0.0, 0.3, 1.0]])  # a P-matrix
COST = games.LinearCost([0.001, 0.0015, 0.002])


def effective(rates=RATES, curve=CURVE, cost=COST, capacity=1000.0, **more):
    payoff = payoffs.EffectiveSamples(curve, np.asarray(rates, float), **more)
    return games.check(games.Game(payoff, cost, np.full(len(rates), capacity)))


GAME = effective()
certify = jax.jit(equilibria.is_equilibrium)


def test_agents_have_what_their_effective_samples_bring():
    s = np.array([10.0, 20.0, 5.0])
    z = RATES @ s
    np.testing.assert_allclose(games.payoff_values(GAME, s), 0.95 - 2 / np.sqrt(10 + z), rtol=1e-14)
    slope = (10 + z) ** -1.5
    np.testing.assert_allclose(games.own_gradient(GAME, s), slope - COST.rate, rtol=1e-12)
    expected = -1.5 * ((10 + z) ** -2.5)[:, None] * RATES
    np.testing.assert_allclose(games.jacobian(GAME, s), expected, rtol=1e-12)
    two = games.subset(GAME, np.array([2, 0]))
    np.testing.assert_allclose(two.payoff.rates, RATES[np.ix_([2, 0], [2, 0])])


def test_where_all_share_z_is_what_each_wants_at_her_cost():
    """(10 + z_i)^-1.5 = c_i, so s = W⁻¹ z if that is inside the box."""
    game = effective([[1.0, 0.2, 0.1], [0.1, 1.0, 0.2], [0.1, 0.1, 1.0]])
    z = np.asarray(COST.rate) ** (-2 / 3) - 10
    found = equilibria.solve(game)
    np.testing.assert_allclose(found.profile, np.linalg.solve(game.payoff.rates, z), rtol=1e-12)
    assert (found.method, int(found.status), bool(found.unique)) == ("pivoting", solvers.UNIQUE, True)


def test_rates_of_one_are_the_papers_game():
    ones, total = effective(np.ones((3, 3))), games.check(games.Game(CURVE, COST, np.full(3, 1000.0)))
    np.testing.assert_allclose(
        equilibria.solve(ones).profile, equilibria.solve(total).profile, rtol=1e-9, atol=1e-9
    )
    assert int(equilibria.solve(ones).status) == solvers.ISOLATED  # the matrix of ones is no P-matrix
    np.testing.assert_allclose(mechanisms.alone(ones), mechanisms.alone(total), rtol=1e-12)


def test_nobody_sharing_is_no_equilibrium_where_clipped_payoffs_can_be_gained():
    """Alone each could gain .65: the best of 0.95 - 2/√x - 0.001 x is at x = 100."""
    game = effective([[1.0, 0.5], [0.2, 1.0]], games.PowerLaw(0.95, 2.0, 0.5), games.LinearCost(0.001))
    np.testing.assert_allclose(equilibria.nash_gap(game, jnp.zeros(2)), 0.65, rtol=1e-9)
    np.testing.assert_allclose(equilibria.best_response(game, jnp.zeros(2)), 100.0, rtol=1e-6)
    found = equilibria.solve(game)
    assert found.converged
    np.testing.assert_allclose(found.profile, np.linalg.solve(game.payoff.rates, [100.0, 100.0]))


def random_game(rng, n, clip, costs, density=0.7):
    rates = rng.uniform(0, 1.5, (n, n)) * (rng.random((n, n)) < density)
    np.fill_diagonal(rates, 1.0)
    shift = 0.0 if clip else rng.uniform(0.5, 10)
    curve = games.PowerLaw(
        rng.uniform(0.7, 1, n), rng.uniform(0.5, 3, n), rng.uniform(0.3, 1, n), shift, clip
    )
    cost = games.LinearCost(10 ** rng.uniform(-4, -1.5, n))
    if costs == "power":
        cost = games.PowerCost(10 ** rng.uniform(-6, -2, n), rng.uniform(1, 2.5, n))
    payoff = payoffs.EffectiveSamples(curve, rates)
    value = rng.uniform(0.5, 2, n)
    return games.check(games.Game(payoff, cost, rng.uniform(1, 300, n), value=value))


@pytest.mark.parametrize("costs", ["linear", "power"])
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_pivoting_finds_an_equilibrium_of_every_concave_game(costs, seed):
    game = random_game(np.random.default_rng(seed), 4, False, costs)
    found = pivoting.find(game)
    assert certify(game, found.profile, 1e-9)


@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_what_is_called_the_only_equilibrium_is_where_best_responses_end_too(seed):
    game = random_game(np.random.default_rng(seed), 4, False, "linear")
    found = equilibria.solve(game)
    if found.unique:
        other = equilibria.solve(game, method="Gauss-Seidel")
        assert not other.converged or np.allclose(other.profile, found.profile, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("capacity", [1000.0, 5.0])
@pytest.mark.parametrize("density", [1.0, 0.02])
def test_hundreds_of_agents(capacity, density):
    rng = np.random.default_rng(0)
    n = 300
    rates = rng.uniform(0, 1, (n, n)) * (rng.random((n, n)) < density)
    np.fill_diagonal(rates, 1.0)
    game = effective(rates, cost=games.LinearCost(rng.uniform(0.0005, 0.002, n)), capacity=capacity)
    found = pivoting.find(game)
    assert certify(game, found.profile, 1e-9)
    np.testing.assert_array_equal(implicit.profile(game), found.profile)
    assert np.sum(found.profile > 0) < n or capacity == 5.0


def test_order_and_unit_do_not_matter():
    rng = np.random.default_rng(3)
    game = random_game(rng, 5, False, "linear")
    order = rng.permutation(5)
    s = np.asarray(equilibria.solve(game).profile)
    np.testing.assert_allclose(equilibria.solve(games.subset(game, order)).profile, s[order], rtol=1e-9)
    curve = game.payoff.data_to_accuracy
    thousand = game.replace(
        payoff=game.payoff.replace(
            data_to_accuracy=curve.replace(
                shift=curve.shift * 1000, scale=curve.scale * 1000.0**curve.exponent
            )
        ),
        cost=games.LinearCost(game.cost.rate / 1000),
        capacity=game.capacity * 1000,
    )
    np.testing.assert_allclose(equilibria.solve(thousand).profile, 1000 * s, rtol=1e-9)


def test_p_matrices():
    """All principal minors are positive; beyond 15 agents two conditions that are enough."""
    assert "principal minors" in payoffs.why_p_matrix(RATES)
    assert "principal minors" in payoffs.why_p_matrix(np.array([[1.0, 3.0], [0.3, 1.0]]))
    assert payoffs.why_p_matrix(np.array([[1.0, 2.0], [0.5, 1.0]])) == ""  # determinant 0
    assert payoffs.why_p_matrix(np.array([[1.0, 2.0], [0.6, 1.0]])) == ""
    assert payoffs.why_p_matrix(np.ones((20, 20))) == ""
    near = np.eye(20) + 0.9 * (1 - np.eye(20))
    assert "positive definite" in payoffs.why_p_matrix(near)
    lower = np.eye(20) + 0.9 * np.eye(20, k=-1) + 0.05 * np.eye(20, k=-2)
    lower[:, 0] = np.where(np.arange(20) > 2, 0.04, lower[:, 0])
    assert payoffs.why_p_matrix(lower) != ""
    assert payoffs.why_p_matrix(np.eye(20) + 2.0 * np.eye(20, k=-1)) == ""  # one, but not by these conditions


def test_a_measured_curve_with_straight_or_flat_pieces_has_several_equilibria():
    """Slope .01 up to 50 samples and cost .01: any split of up to 50 is one."""
    straight = games.MeasuredCurve(
        np.array([0.0, 50.0, 150.0]), np.array([0.1, 0.6, 1.1]), np.array([0.01, 0.01, 0.0])
    )
    for rates in (np.eye(2), np.array([[1.0, 0.5], [0.5, 1.0]])):
        game = effective(rates, straight, games.LinearCost(0.01), capacity=200.0)
        found = equilibria.solve(game)
        assert int(found.status) == solvers.ISOLATED
        assert certify(game, np.full(2, 20.0), 1e-9)
        assert certify(game, np.full(2, 10.0), 1e-9)


def test_inside_jit_a_profile_that_best_responses_do_not_reach_is_not_a_number():
    """Each wants three times what the next one has: best responses go round and round."""
    cyclic = np.array([[1.0, 3.0, 0.0], [0.0, 1.0, 3.0], [3.0, 0.0, 1.0]])
    game = effective(cyclic, cost=games.LinearCost([0.001, 0.0011, 0.0012]))
    expected = np.asarray(equilibria.solve(game).profile)
    assert equilibria.solve(game).unique
    np.testing.assert_array_equal(implicit.profile(game), expected)
    inside = np.asarray(jax.jit(implicit.profile)(game))
    assert np.all(np.isnan(inside))


@pytest.mark.parametrize(
    ("change", "unique"),
    [
        ({}, True),
        ({"value": np.array([1.0, 0.0, 1.0])}, False),
        ({"payoff": GAME.payoff.replace(rates=np.ones((3, 3)))}, False),
        ({"payoff": GAME.payoff.replace(data_to_accuracy=games.PowerLaw(0.95, 2.0, 0.5))}, False),  # clipped
    ],
)
def test_uniqueness_is_claimed_where_the_theorem_proves_it(change, unique):
    assert bool(equilibria.solve(games.check(GAME.replace(**change))).unique) == unique
    for solve in (jax.jit(equilibria.solve), lambda game: jax.jit(lambda: equilibria.solve(game))()):
        assert not solve(GAME).unique  # not known inside jit
        assert solve(GAME).method == "Gauss-Seidel"


def test_derivatives_of_the_equilibrium():
    def profile(rates):
        return implicit.profile(GAME.replace(payoff=GAME.payoff.replace(rates=rates)))

    rates = jnp.asarray(RATES)
    derivative = jax.jacfwd(profile)(rates)
    for i, j in ((0, 1), (1, 2)):
        step = 1e-6 * np.eye(9)[3 * i + j].reshape(3, 3)
        difference = (profile(rates + step) - profile(rates - step)) / 2e-6
        np.testing.assert_allclose(derivative[:, i, j], difference, rtol=1e-5, atol=1e-6)


def test_own_records_teach_in_any_case():
    """Then nobody gains from what she shares: without payments, and under refunds, nobody shares."""
    game = effective(records=np.array([100.0, 50.0, 20.0]), own="always", capacity=100.0)
    found = equilibria.solve(game)
    np.testing.assert_array_equal(found.profile, 0.0)
    assert found.converged
    np.testing.assert_allclose(
        games.payoff_values(game, found.profile), 0.95 - 2 / np.sqrt(10 + np.array([100.0, 50.0, 20.0]))
    )
    np.testing.assert_allclose(mechanisms.alone(game), games.payoff_values(game, found.profile))
    for rule in (rules.falkinger, rules.beta_star, rules.personal, rules.designed):
        with pytest.raises(ValueError, match="name a mechanism that pays for samples, price or prices"):
            rule(game)
    cheap = game.replace(cost=games.LinearCost(1e-4))
    there = mechanisms.outcome(cheap, prices.pigou(cheap))
    assert there.equilibrium.converged
    assert np.sum(np.asarray(there.equilibrium.profile)) > 50
    assert np.all(np.asarray(there.utilities) > personal.outside(cheap, "own_records"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": np.ones((2, 3))}, "`rates` must be shared or have one entry for each of 3 agents"),
        ({"rates": np.ones(3)}, "`rates` must be a square matrix"),
        ({"rates": 2.0 * RATES}, "`rates` must have 1 on the diagonal"),
        ({"rates": np.where(np.eye(3), 1.0, -0.1)}, "`rates` must be a number, at least 0"),
        ({"records": 5.0}, "`records` has no use without own=always"),
        (
            {"data_to_accuracy": games.LinearPayoff(np.eye(3))},
            "must be a payoff of the total, got LinearPayoff",
        ),
    ],
)
def test_what_is_no_such_payoff_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        games.check(GAME.replace(payoff=GAME.payoff.replace(**change)))


def test_qualities_and_what_the_server_holds_are_refused():
    with pytest.raises(ValueError, match="`quality` has no use with effective, whose rates say"):
        games.check(GAME.replace(quality=2.0))
    with pytest.raises(ValueError, match="`held` must be one number, and needs a payoff of the total"):
        games.check(GAME.replace(held=5.0))
    with pytest.raises(ValueError, match="`method` 'pivoting' does not fit PowerLaw"):
        equilibria.solve(games.check(games.Game(CURVE, COST, np.ones(3))), method="pivoting")
    with pytest.raises(ValueError, match=r"`method` 'pivoting' .*is not for use inside jit"):
        jax.jit(lambda game: equilibria.solve(game, method="pivoting"))(GAME)
