import itertools

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import games
from fedgame.mechanisms import constrained

BOUND = games.GeneralizationBound(best=0.95, difficulty=1.0)
POWER = games.PowerLaw(1.0, 1.0, 0.5)  # 1 - 1/√S: a target μ needs S = (1 - μ)⁻²
few = hypothesis.settings(max_examples=15)


def make(payoff, capacity, rate=1e-3, **others):
    return games.Game(payoff, games.LinearCost(rate), jnp.asarray(capacity, float), **others)


def proves_equilibrium(fn, found, targets, capacity, tolerance=1e-6):
    """Targets are met, and an agent who gave a little less than she does would miss her own."""
    s, met = found.profile, fn(found.profile)
    assert np.all((s >= 0) & (s <= capacity) & (met >= targets - tolerance))
    for i in np.flatnonzero(s > 0):
        less = s.copy()
        less[i] -= 1e-3 * s[i]
        assert fn(less)[i] < targets[i]


def eq2(total, best=0.95, k=1.0):
    """Eq. (2) clipped at 0, in numpy."""
    total = np.asarray(total, float)
    safe = np.maximum(total, k)
    raw = best - (4 + np.sqrt(2 * k * (2 + np.log(safe / k)))) / np.sqrt(safe)
    return np.where(total >= k, np.maximum(raw, 0), 0.0)


def coverage(q):
    return lambda s: 1 - 0.5 * np.sum(q * np.prod((1 - q) ** np.asarray(s)[:, None], axis=0), axis=1)


def test_least_contributions():
    game = make(POWER, [200.0, 200.0, 50.0])
    np.testing.assert_allclose(constrained.least_contribution(game, 0.9, [30.0, 0, 0]), [100, 70, np.inf])
    np.testing.assert_array_equal(constrained.least_contribution(game, 0.9, [60.0, 60, 0])[2], 0)
    game = make(games.LinearPayoff([[2.0, 1.0], [1.0, 0.0]]), [9.0, 9.0])
    np.testing.assert_allclose(constrained.least_contribution(game, [4.0, 3.0], [0, 1.0]), [1.5, np.inf])
    helped = make(POWER, [1e9, 10.0], quality=jnp.array([2.0, 1.0]), held=20.0)
    np.testing.assert_allclose(constrained.least_contribution(helped, 0.9, [0, 10.0]), [35.0, np.inf])
    q = np.array([[0.5, 0.2], [0.1, 0.6]])
    found = constrained.least_contribution(make(games.RandomCoverage(q), np.full(2, 50.0)), 0.8, [1.0, 2.0])
    for i in range(2):
        at = np.array([1.0, 2.0])
        at[i] = found[i]
        assert coverage(q)(at)[i] == pytest.approx(0.8, abs=1e-14)


@pytest.mark.parametrize("targets", [np.nan, np.inf, [0.1, 0.2, 0.3], [[0.1, 0.2]]])
def test_bad_targets(targets):
    game = make(POWER, np.ones(2))
    for call in (constrained.constrained_equilibrium, constrained.optimal_collaboration):
        with pytest.raises(ValueError, match="`targets` must be finite, one or one for each of 2 agents"):
            call(game, targets)


def supports(w, targets, capacity):
    """Totals of all equilibria of a positive definite W, by trying who contributes."""
    n, found = len(w), []
    for mask in itertools.product([False, True], repeat=n):
        s, p = np.zeros(n), np.flatnonzero(mask)
        s[p] = np.linalg.solve(w[np.ix_(p, p)], targets[p])
        if np.all((s >= 0) & (s <= capacity)) and np.all(w @ s >= targets - 1e-9):
            found.append(s)
    return found


@few
@hypothesis.given(st.sampled_from([1, 2, 4]), st.integers(0, 10**6))
def test_linear_payoffs_against_every_support(n, seed):
    rng = np.random.default_rng(seed)
    q = rng.random((n, n + 1)) * (rng.random((n, n + 1)) < 0.7)
    w = q @ q.T + 1e-3 * np.eye(n)
    targets, capacity, quality = rng.uniform(0, 2, n), rng.uniform(1, 9, n), rng.uniform(0.5, 2, n)
    game = make(games.LinearPayoff(w), capacity, quality=jnp.asarray(quality))
    found, every = (
        constrained.constrained_equilibrium(game, targets),
        supports(w, targets, quality * capacity),
    )
    assert found.exhaustive
    assert found.converged == bool(every)
    if every:
        np.testing.assert_allclose(quality * found.profile, every[0], atol=1e-7 * (1 + every[0].max()))
        optimum = constrained.optimal_collaboration(game, targets)
        direct = scipy.optimize.linprog(
            np.ones(n), -w * quality, -targets, bounds=np.stack([0 * capacity, capacity], 1)
        )
        assert optimum.total == pytest.approx(direct.fun, rel=1e-7, abs=1e-9)
        assert abs(optimum.gap) <= 1e-9
        assert constrained.price_of_stability(found, optimum) >= 1 - 1e-7


def test_two_agents_by_hand():
    game = make(games.LinearPayoff([[1.0, 0.5], [0.5, 1.0]]), [9.0, 9.0])
    found = constrained.constrained_equilibrium(game, 1.0)
    np.testing.assert_allclose(found.profile, 2 / 3, rtol=1e-12)
    # Agent 1 has enough of her own: agent 0 gives nothing if 1's data bring her above her target.
    np.testing.assert_allclose(
        constrained.constrained_equilibrium(game, [1.0, 3.0]).profile, [0, 3], atol=1e-12
    )


def test_many_equilibria_the_least_total_is_found():
    """Agents 0, 1 and 2 alike: any split is an equilibrium, and whoever has the best samples is cheapest.

    Agent 3 has still better ones, needs less, and gives nothing: the price of stability is 4/2.
    """
    quality = jnp.array([1.0, 2.0, 1.0, 4.0])
    game, targets = make(POWER, np.full(4, 1e3), quality=quality), np.array([0.9, 0.9, 0.9, 0.8])
    found, optimum = (
        constrained.constrained_equilibrium(game, targets),
        constrained.optimal_collaboration(game, targets),
    )
    np.testing.assert_allclose(found.profile, [0, 50, 0, 0], atol=1e-9)
    np.testing.assert_allclose(optimum.profile, [0, 0, 0, 25], atol=1e-9)
    assert found.converged
    assert found.exhaustive
    assert constrained.price_of_stability(found, optimum) == pytest.approx(2, rel=1e-9)
    # Capacities split what the cheapest cannot give.
    tight = constrained.constrained_equilibrium(game.replace(capacity=jnp.array([30.0, 40, 30, 9])), targets)
    assert tight.converged
    assert tight.profile.sum() == pytest.approx(60, rel=1e-9)


def test_random_discovery_of_fewer_points_than_agents():
    """W is singular: agents 0 and 1 sample alike, so only their sum is determined."""
    q = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    game = make(games.RandomDiscovery(q), [3.0, 3.0, 9.0])
    found = constrained.constrained_equilibrium(game, [2.0, 2.0, 1.0])
    assert found.converged
    assert found.exhaustive
    assert found.profile == pytest.approx([3, 1, 0], abs=1e-9) or found.profile == pytest.approx(
        [1, 3, 0], abs=1e-9
    )
    alone = constrained.constrained_equilibrium(
        game.replace(capacity=jnp.array([1.0, 1.0, 9.0])), [2.0, 2.0, 1.0]
    )
    assert not alone.converged
    assert alone.exhaustive
    assert alone.infeasible == ()  # agent 2 could help, but has enough


def test_an_asymmetric_matrix():
    w = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0]])
    found = constrained.constrained_equilibrium(make(games.LinearPayoff(w), np.full(3, 9.0)), [1.0, 2.0, 3.0])
    assert found.converged
    assert not found.exhaustive
    proves_equilibrium(lambda s: w @ s, found, np.array([1.0, 2.0, 3.0]), 9.0)


def test_only_an_upper_bound_where_not_all_equilibria_are_searched():
    """W is indefinite: (1, 0), (0, 1) and (1/3, 1/3), the optimum, which best responses run away from."""
    game = make(games.LinearPayoff([[1.0, 2.0], [2.0, 1.0]]), [9.0, 9.0])
    found, optimum = (
        constrained.constrained_equilibrium(game, 1.0),
        constrained.optimal_collaboration(game, 1.0),
    )
    assert found.converged
    assert not found.exhaustive
    np.testing.assert_allclose(optimum.profile, 1 / 3, rtol=1e-9)
    assert constrained.price_of_stability(found, optimum) == pytest.approx(1.5, rel=1e-9)


def test_the_least_total_of_those_found():
    """(1, 0) is where best responses lead from nothing, (0, ½) from elsewhere."""
    w = [[1.0, 3.0], [4.0, 2.0]]
    found = constrained.constrained_equilibrium(make(games.LinearPayoff(w), [9.0, 9.0]), 1.0)
    np.testing.assert_allclose(found.profile, [0, 0.5], atol=1e-12)
    first = constrained.constrained_equilibrium(make(games.LinearPayoff(w), [9.0, 9.0]), 1.0, starts=1)
    np.testing.assert_allclose(first.profile, [1, 0], atol=1e-12)


def test_random_coverage_by_hand():
    """All sample m points evenly: a = 1 - ½ (1 - 1/m)^S."""
    m, target = 5, 0.9
    game = make(games.RandomCoverage(np.full((3, m), 1 / m)), np.full(3, 50.0))
    total = np.log(2 * (1 - target)) / np.log(1 - 1 / m)
    found, optimum = (
        constrained.constrained_equilibrium(game, target),
        constrained.optimal_collaboration(game, target),
    )
    assert found.converged
    assert found.profile.sum() == pytest.approx(total, rel=1e-9)
    assert optimum.total == pytest.approx(total, rel=1e-9)
    assert abs(optimum.gap) <= 1e-9


@few
@hypothesis.given(st.integers(0, 10**6))
def test_random_coverage(seed):
    rng = np.random.default_rng(seed)
    q = 0.95 * rng.dirichlet(np.full(6, 0.7), size=3)
    targets = rng.uniform(0.6, 0.9, 3)
    game = make(games.RandomCoverage(q), np.full(3, 1e4))
    found = constrained.constrained_equilibrium(game, targets, starts=2)
    assert found.converged
    proves_equilibrium(coverage(q), found, targets, 1e4)
    optimum = constrained.optimal_collaboration(game, targets)
    assert np.all(coverage(q)(optimum.profile) >= targets - 1e-7)
    assert optimum.total <= found.profile.sum() * (1 + 1e-7)
    assert -1e-11 <= optimum.gap <= 1e-6  # the bound is a sum of large terms
    # The bound holds for profiles that the solver never saw.
    for direction in rng.dirichlet(np.ones(3), size=50):
        enough = scipy.optimize.brentq(lambda x, d=direction: min(coverage(q)(x * d) - targets), 0, 1e6)
        assert enough >= optimum.lower_bound * (1 - 1e-9)


# Where there is no equilibrium


def test_eq2_with_targets_that_no_data_reach():
    game = make(BOUND, np.full(3, 1e6))
    found = constrained.constrained_equilibrium(game, [0.95, 0.5, 0.99])
    assert not found.converged
    assert found.exhaustive
    assert found.infeasible == (0, 2)
    assert np.all(np.isfinite(found.profile))
    assert found.shortfall == pytest.approx([0.95, 0.5, 0.99] - np.minimum(eq2(3e6), [9, 0.5, 9]), abs=0.01)
    assert np.all(np.isinf(constrained.least_contribution(game, 0.95, np.full(3, 1e6))))
    with pytest.raises(ValueError, match="`targets` must be within reach together"):
        constrained.optimal_collaboration(game, 0.95)


def test_eq2_beyond_capacity():
    found = constrained.constrained_equilibrium(make(BOUND, [100.0, 200.0]), [0.7, 0.0])
    assert (found.converged, found.infeasible) == (False, (0,))


def test_linear_targets_that_no_amount_of_data_reaches():
    """Each agent's data cost the other what they bring herself; or an agent's data are of no use."""
    game = make(games.LinearPayoff([[1.0, -1.0], [-1.0, 1.0]]), [9.0, 9.0])
    found = constrained.constrained_equilibrium(game, 1.0)
    assert not found.converged
    assert found.exhaustive
    assert found.infeasible == ()
    game = make(games.RandomDiscovery([[1.0, 0.0], [0.0, 0.0]]), [9.0, 9.0])
    found = constrained.constrained_equilibrium(game, 1.0)
    assert (found.converged, found.exhaustive, found.infeasible) == (False, True, (1,))
    np.testing.assert_allclose(
        constrained.constrained_equilibrium(game, [1.0, 0.0]).profile, [1, 0], rtol=1e-12
    )


def test_quality_and_held_data_decide_what_is_in_reach():
    game = make(POWER, [30.0, 30.0], quality=jnp.array([0.5, 1.0]), held=60.0)  # 100 are wanted, 105 there
    found = constrained.constrained_equilibrium(game, 0.9)
    assert (found.converged, found.infeasible) == (True, ())
    np.testing.assert_allclose(found.profile, [20, 30], rtol=1e-9)
    assert constrained.optimal_collaboration(game, 0.9).total == pytest.approx(50, rel=1e-9)
    assert constrained.constrained_equilibrium(game.replace(held=50.0), 0.9).infeasible == (0, 1)
    coarse = make(games.LinearPayoff(np.eye(2)), [1.0, 1.0], quality=jnp.array([0.5, 2.0]))
    assert constrained.constrained_equilibrium(coarse, [0.8, 1.5]).infeasible == (0,)


def test_what_fails_its_certificate_proves_nothing(monkeypatch):
    game = make(games.LinearPayoff(np.eye(2)), [9.0, 9.0])
    monkeypatch.setattr(constrained, "_least_equilibrium", lambda *_: (True, np.array([1.0, 2.0])))
    found = constrained.constrained_equilibrium(game, 1.0)
    assert (found.converged, found.exhaustive) == (False, False)
    np.testing.assert_allclose(found.excess, [0, 1], atol=1e-12)


def test_random_coverage_out_of_reach():
    q = np.array([[0.5, 0.0], [0.0, 0.5]])  # a ≤ 1 - ½ · ½ 0.5^τ
    game = make(games.RandomCoverage(q), [1.0, 50.0])
    found = constrained.constrained_equilibrium(game, 0.9)
    assert (found.converged, found.infeasible) == (False, (0,))
    assert found.profile[0] == 1
    assert found.shortfall == pytest.approx([0.025, 0.0], abs=1e-9)
    with pytest.raises(ValueError, match="`targets` must be within reach together"):
        constrained.optimal_collaboration(game, 0.9)


def test_all_targets_can_be_met_and_nobody_helps():
    """Eq. (2): agent 0 needs S = 1086.48 and has 800; agent 1 needs 405 and stops giving before that."""
    game, targets = make(BOUND, [800.0, 5000.0]), np.array([0.7, 0.6])
    need = [scipy.optimize.brentq(lambda x, t=t: eq2(x) - t, 100, 1e5) for t in targets]
    assert need[1] < 800 < need[0] < 5800
    found = constrained.constrained_equilibrium(game, targets)
    assert not found.converged
    assert found.exhaustive
    assert found.infeasible == ()
    assert found.shortfall == pytest.approx([0.7 - eq2(800.0), 0], abs=1e-9)
    optimum = constrained.optimal_collaboration(game, targets)
    assert optimum.total == pytest.approx(need[0], rel=1e-9)
    assert constrained.price_of_stability(found, optimum) == np.inf


def test_best_responses_that_cycle():
    """Each of three uses the better of her data and her neighbour's, who stands before her in a ring.

    Whoever's neighbour gives less than 1 gives 1, else nothing: round an odd ring nobody can be right.
    Payoffs are continuous and non-decreasing in everyone's data and every target is within reach alone,
    but a_i does not rise strictly.
    """
    game = make(games.CustomPayoff(lambda s: jnp.maximum(s, jnp.roll(s, 1))), np.full(3, 2.0))
    s = np.zeros(3)
    for start in itertools.product([0.0, 0.5, 1.0, 2.0], repeat=3):
        s = np.asarray(start)
        reply = constrained.least_contribution(game, 1.0, s)
        np.testing.assert_allclose(reply, np.where(np.roll(s, 1) >= 1, 0, 1), atol=1e-12)
        assert np.max(np.abs(reply - s)) >= 0.5
    found = constrained.constrained_equilibrium(game, 1.0)
    assert not found.converged
    assert not found.exhaustive
    assert found.infeasible == ()
    optimum = constrained.optimal_collaboration(game, 1.0)
    assert np.all(np.maximum(optimum.profile, np.roll(optimum.profile, 1)) >= 1 - 1e-6)
    assert (optimum.lower_bound, optimum.gap) == (0, 1)  # payoffs are not concave: nothing is claimed


def test_with_four_in_the_ring_two_give():
    game = make(games.CustomPayoff(lambda s: jnp.maximum(s, jnp.roll(s, 1))), np.full(4, 2.0))
    found = constrained.constrained_equilibrium(game, 1.0)
    assert found.converged
    np.testing.assert_allclose(found.profile, [1, 0, 1, 0], atol=1e-12)


def test_nothing_to_do():
    game = make(POWER, np.full(2, 1e3), held=400.0)
    found, optimum = (
        constrained.constrained_equilibrium(game, 0.9),
        constrained.optimal_collaboration(game, 0.9),
    )
    assert found.converged
    assert np.all(found.profile == 0)
    assert (optimum.total, optimum.gap) == (0, 0)
    assert constrained.price_of_stability(found, optimum) == 1
