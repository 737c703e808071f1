import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games

best_response, nash_gap = jax.jit(equilibria.best_response), jax.jit(equilibria.nash_gap)


def step_function(x, epsilon=1 / 32):
    """e of Eq. (8)."""
    return jnp.interp(x, jnp.array([0.5 - epsilon, 0.5 + epsilon]), jnp.array([0.0, 1.0]))


def theorem_a2(s):
    e = step_function(s)
    before = jnp.roll(e, 1)
    return e + before - e * before


NO_EQUILIBRIUM = games.check(games.Game(games.CustomPayoff(theorem_a2), games.LinearCost(0.25), [1.0] * 3))


def test_the_gap_is_what_a_deviation_gains():
    """a = 8 - 1/S, costs 5 and 4 (Example 1): at (1, 1) agent i best lowers S to 1 or so."""
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [5.0, 5.0]))
    s = jnp.array([1.0, 1.0])
    np.testing.assert_allclose(best_response(game, s), [0.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(nash_gap(game, s), [7 - 2.5, 7 - 3.5], rtol=1e-14)
    alone = jnp.array([0.0, 0.25])
    np.testing.assert_allclose(best_response(game, alone), [1 / np.sqrt(5) - 0.25, 0.5], rtol=1e-7)
    gains = [(8 - np.sqrt(5) - 5 * (1 / np.sqrt(5) - 0.25)) - 4, (8 - 2 - 2) - (8 - 4 - 1)]
    np.testing.assert_allclose(nash_gap(game, alone), gains, rtol=1e-12)
    assert equilibria.is_equilibrium(game, jnp.array([0.0, 0.5]), 1e-12)
    assert not equilibria.is_equilibrium(game, alone)
    assert not equilibria.is_equilibrium(game, jnp.array([-1.0, 1.5]))


@pytest.mark.parametrize(("cost", "stays_out"), [(3e-4, False), (1e-3, True)])
def test_of_two_local_optima_the_better_one_is_the_response(cost, stays_out):
    """Eq. (2) clipped at 0: an agent who is alone contributes either nothing or a great deal."""
    game = games.check(games.Game(games.GeneralizationBound(0.95, 10.0), games.LinearCost([cost]), [5000.0]))
    x = np.linspace(0, 5000, 2_000_001)
    utility = np.asarray(jax.vmap(game.payoff.curve)(x)) - cost * x
    (response,) = best_response(game, jnp.array([0.0]))
    assert response == pytest.approx(x[np.argmax(utility)], abs=0.01)
    assert (response == 0) == stays_out
    gradient = games.own_gradient(game, jnp.array([0.0]))
    assert gradient[0] < 0  # so 0 is a local optimum, and a vanishing projected gradient no proof
    assert (nash_gap(game, jnp.array([0.0]))[0] == 0) == stays_out


def test_whole_numbers_of_samples_are_profiles_too():
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [5.0, 5.0]))
    np.testing.assert_array_equal(nash_gap(game, jnp.array([1, 1])), nash_gap(game, jnp.array([1.0, 1.0])))


def test_theorem_a2_has_no_equilibrium_and_best_responses_cycle():
    high = 0.5 + 1 / 32
    s, seen = jnp.zeros(3), []
    for turn in range(30):  # agents respond one after the other, 3, 1, 2, …
        agent = (2 + turn) % 3
        s = s.at[agent].set(best_response(NO_EQUILIBRIUM, s)[agent])
        assert min(abs(s[agent]), abs(s[agent] - high)) < 1e-9
        seen.append(tuple((np.asarray(s) > 0.25).tolist()))
    assert seen[6:18] == seen[12:24]
    assert len(set(seen[6:12])) > 1
    grid = jnp.linspace(0, 1, 33)
    profiles = jnp.stack(jnp.meshgrid(grid, grid, grid), axis=-1).reshape(-1, 3)
    e = step_function(profiles)
    before = jnp.roll(e, 1, axis=1)
    utility = e + before - e * before - profiles / 4
    # The best of all responses, by Appendix A: 0 or ½+ε.
    best = jnp.maximum(before, 1 - high / 4)
    assert jnp.min(jnp.max(best - utility, axis=1)) > 0.05
    found = equilibria.solve(NO_EQUILIBRIUM, steps=500)
    assert not found.converged
    assert jnp.max(found.nash_gap) > 0.05


def test_theorem_a2_no_profile_on_a_grid_has_a_vanishing_gap():
    """The certificate itself, against the best responses of Appendix A: 0 or ½+ε."""
    grid = jnp.linspace(0, 1, 9)
    profiles = jnp.stack(jnp.meshgrid(grid, grid, grid), axis=-1).reshape(-1, 3)
    gaps = jax.jit(jax.vmap(lambda s: equilibria.nash_gap(NO_EQUILIBRIUM, s)))(profiles)
    e = step_function(profiles)
    before = jnp.roll(e, 1, axis=1)
    expected = jnp.maximum(before, 1 - (0.5 + 1 / 32) / 4) - (e + before - e * before - profiles / 4)
    np.testing.assert_allclose(gaps, expected, atol=1e-12)
    assert jnp.min(jnp.max(gaps, axis=1)) > 0.05


@pytest.mark.parametrize("capacity", [1e2, 1e9, 1e30])
def test_a_capacity_far_beyond_what_is_wanted_hides_nothing(capacity):
    """a = 1 - (1 + S)^-½, cost 1e-12 s², alone: the best response solves ½ (1 + s)^-1.5 = 2e-12 s."""
    game = games.check(
        games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(1e-12, 2.0), [capacity])
    )
    (response,) = best_response(game, jnp.zeros(1))
    assert float(nash_gap(game, jnp.zeros(1))[0]) > 0.8
    if capacity > 1e5:
        assert float(0.5 * (1 + response) ** -1.5) == pytest.approx(float(2e-12 * response), rel=1e-6)


@pytest.mark.parametrize(
    "payoff", [games.TotalPayoff(lambda S: 1 - jnp.exp(-S / 10)), games.PowerLaw(1.0, 1.0, 0.5, 1.0)]
)
def test_gaps_can_be_differentiated_in_both_modes(payoff):
    game = games.check(games.Game(payoff, games.LinearCost([0.01, 0.02]), [10.0, 20.0]))
    s = jnp.array([3.0, 4.0])
    gap = lambda s: equilibria.nash_gap(game, s)  # noqa: E731
    expected = [(gap(s + step) - gap(s - step)) / 2e-5 for step in 1e-5 * jnp.eye(2)]
    for jacobian in (jax.jacfwd(gap)(s), jax.jacrev(gap)(s)):
        np.testing.assert_allclose(jacobian.T, expected, rtol=1e-6, atol=1e-9)
