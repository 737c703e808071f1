import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.equilibria import certificates

best_response, nash_gap, is_equilibrium = (
    jax.jit(x) for x in (equilibria.best_response, equilibria.nash_gap, equilibria.is_equilibrium)
)


def step_function(x, np=np, epsilon=1 / 32):
    """e of Eq. (8)."""
    return np.interp(x, np.array([0.5 - epsilon, 0.5 + epsilon]), np.array([0.0, 1.0]))


def theorem_a2(s):
    e = step_function(s, jnp)
    before = jnp.roll(e, 1)
    return e + before - e * before


def utilities_and_best(profiles):
    """Those of the theorem at profiles [k, 3]; the best of all responses, by Appendix A, is 0 or ½ + ε."""
    e = step_function(profiles)
    before = np.roll(e, 1, axis=1)
    return e + before - e * before - profiles / 4, np.maximum(before, 1 - (0.5 + 1 / 32) / 4)


def grid(points):
    """All profiles of three agents whose entries are among so many, [points³, 3]."""
    return np.stack(np.meshgrid(*[np.linspace(0, 1, points)] * 3), axis=-1).reshape(-1, 3)


NO_EQUILIBRIUM = games.check(games.Game(games.CustomPayoff(theorem_a2), games.LinearCost(0.25), [1.0] * 3))


def gaps_and_responses(s):
    found = certificates.examine(NO_EQUILIBRIUM, s)
    return np.asarray(found.gap), np.asarray(found.response)


def test_the_gap_is_what_a_deviation_gains():
    """a = 8 - 1/S, costs 5 and 4 (Example 1): at (1, 1) agent i best lowers S to 1 or so."""
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [5.0, 5.0]))
    s = np.array([1.0, 1.0])
    np.testing.assert_allclose(best_response(game, s), [0.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(nash_gap(game, s), [7 - 2.5, 7 - 3.5], rtol=1e-14)
    alone = np.array([0.0, 0.25])
    np.testing.assert_allclose(best_response(game, alone), [1 / np.sqrt(5) - 0.25, 0.5], rtol=1e-7)
    gains = [(8 - np.sqrt(5) - 5 * (1 / np.sqrt(5) - 0.25)) - 4, (8 - 2 - 2) - (8 - 4 - 1)]
    np.testing.assert_allclose(nash_gap(game, alone), gains, rtol=1e-12)
    assert is_equilibrium(game, np.array([0.0, 0.5]), 1e-12)
    assert not is_equilibrium(game, alone, 1e-6)
    assert not is_equilibrium(game, np.array([-1.0, 1.5]), 1e-6)


def test_a_certificate_at_another_profile_or_of_other_numbers_compiles_nothing():
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(certificates.certify, n=1))
    for best, rates, s in (8.0, [5.0, 4.0], [1.0, 1.0]), (9.0, [3.0, 4.0], [0.0, 0.0]):
        game = games.check(games.Game(games.PowerLaw(best, 1.0, 1.0), games.LinearCost(rates), [5.0, 5.0]))
        _, fine = once(game, np.array(s))
        assert not fine


@pytest.mark.parametrize(("cost", "stays_out"), [(3e-4, False), (1e-3, True)])
def test_of_two_local_optima_the_better_one_is_the_response(cost, stays_out):
    """Eq. (2) clipped at 0: an agent who is alone contributes either nothing or a great deal."""
    game = games.check(games.Game(games.GeneralizationBound(0.95, 10.0), games.LinearCost([cost]), [5000.0]))
    x = np.linspace(0, 5000, 500_001)
    safe = np.maximum(x, 1e-9)
    raw = 0.95 - (4 + np.sqrt(np.maximum(20 * (2 + np.log(safe / 10)), 0))) / np.sqrt(safe)
    utility = np.where(x > 10, np.maximum(raw, 0), 0) - cost * x
    (response,) = best_response(game, np.zeros(1))
    assert response == pytest.approx(x[np.argmax(utility)], abs=0.01)
    assert (response == 0) == stays_out
    gradient = jax.jit(games.own_gradient)(game, np.zeros(1))
    assert gradient[0] < 0  # so 0 is a local optimum, and a vanishing projected gradient no proof
    assert (nash_gap(game, np.zeros(1))[0] == 0) == stays_out


def test_whole_numbers_of_samples_are_profiles_too():
    game = games.check(games.Game(games.PowerLaw(8.0, 1.0, 1.0), games.LinearCost([5.0, 4.0]), [5.0, 5.0]))
    np.testing.assert_array_equal(nash_gap(game, np.array([1, 1])), nash_gap(game, np.array([1.0, 1.0])))


def test_theorem_a2_has_no_equilibrium_and_best_responses_cycle():
    high = 0.5 + 1 / 32
    s, seen = np.zeros(3), []
    for turn in range(30):  # agents respond one after the other, 3, 1, 2, …
        agent = (2 + turn) % 3
        s[agent] = gaps_and_responses(s)[1][agent]
        assert min(abs(s[agent]), abs(s[agent] - high)) < 1e-9
        seen.append(tuple((s > 0.25).tolist()))
    assert seen[6:18] == seen[12:24]
    assert len(set(seen[6:12])) > 1
    utility, best = utilities_and_best(grid(33))
    assert np.min(np.max(best - utility, axis=1)) > 0.05


def test_theorem_a2_no_profile_on_a_grid_has_a_vanishing_gap():
    """The certificate itself, against the best responses of Appendix A: 0 or ½+ε."""
    profiles = grid(5)
    gaps = np.stack([gaps_and_responses(s)[0] for s in profiles])
    utility, best = utilities_and_best(profiles)
    np.testing.assert_allclose(gaps, best - utility, atol=1e-12)
    assert np.min(np.max(gaps, axis=1)) > 0.05


@pytest.mark.parametrize("capacity", [1e2, 1e9, 1e30, 1e60, 1e99])
def test_a_capacity_far_beyond_what_is_wanted_hides_nothing(capacity):
    """a = 1 - (1 + S)^-½, cost 1e-12 s², alone: the best response solves ½ (1 + s)^-1.5 = 2e-12 s."""
    game = games.check(
        games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(1e-12, 2.0), [capacity])
    )
    response = float(best_response(game, np.zeros(1))[0])
    assert float(nash_gap(game, np.zeros(1))[0]) > 0.8
    if capacity > 1e5:
        assert 0.5 * (1 + response) ** -1.5 == pytest.approx(2e-12 * response, rel=1e-6)


@pytest.mark.parametrize(
    "payoff", [games.TotalPayoff(lambda S: 1 - jnp.exp(-S / 10)), games.PowerLaw(1.0, 1.0, 0.5, 1.0)]
)
def test_gaps_can_be_differentiated_in_both_modes(payoff):
    game = games.check(games.Game(payoff, games.LinearCost([0.01, 0.02]), [10.0, 20.0]))
    s, step = np.array([3.0, 4.0]), 1e-5 * np.eye(2)
    expected = [(np.asarray(nash_gap(game, s + x)) - np.asarray(nash_gap(game, s - x))) / 2e-5 for x in step]
    gap = lambda s: equilibria.nash_gap(game, s)  # noqa: E731
    for jacobian in jax.jit(lambda s: (jax.jacfwd(gap)(s), jax.jacrev(gap)(s)))(s):
        np.testing.assert_allclose(np.asarray(jacobian).T, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("number", ["gap", "utility", "stake", "rounding"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_nothing_that_is_not_finite_is_an_equilibrium(number, value):
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(0.01), [10.0, 20.0]))
    profile = equilibria.solve(game).profile
    found = certificates.examine(game, profile)
    assert certificates.holds(game, profile, found, 1e-6)
    wrong = found._replace(**{number: getattr(found, number).at[1].set(value)})
    assert not certificates.holds(game, profile, wrong, 1e-6)
