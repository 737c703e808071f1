"""Global best responses against a dense grid in numpy, and all of them if there are several."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games
from fedgame.equilibria import certificates, total

best_response, solve = jax.jit(equilibria.best_response), jax.jit(equilibria.solve)


def curve(family, S, scale):
    if family == "(3)":
        with np.errstate(divide="ignore"):
            return np.maximum(0.95 - scale * S**-0.5, 0)
    safe = np.maximum(S, scale)
    raw = 0.95 - (4 + np.sqrt(2 * scale * (2 + np.log(safe / scale)))) / np.sqrt(safe)
    return np.where(scale < S, np.maximum(raw, 0), 0)


@pytest.mark.parametrize("family", ["(2)", "(3)"])
@pytest.mark.parametrize("n", [1, 2])
@hypothesis.settings(max_examples=30)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), at=st.sampled_from(["0", "capacity", "inside", "mixed"]))
def test_clipped_payoffs_against_a_dense_grid(family, n, seed, at):
    rng = np.random.default_rng(seed)
    unit = 1000 if family == "(2)" else 10
    scale, rate = rng.uniform(0.5, 3, n), 10 ** rng.uniform(-3, 0, n) / unit
    capacity, value, w = rng.uniform(0.05, 3, n) * unit, rng.uniform(0.5, 2, n), rng.uniform(0.3, 3, n)
    held = float(rng.choice([0.0, rng.uniform(0, 0.3) * unit]))
    payoff = games.PowerLaw(0.95, scale, 0.5) if family == "(3)" else games.GeneralizationBound(0.95, scale)
    game = games.check(games.Game(payoff, games.LinearCost(rate), capacity, value, w, held))
    share = {"0": np.zeros(n), "capacity": np.ones(n), "inside": rng.uniform(size=n), "mixed": np.eye(n)[0]}
    s = capacity * share[at]
    evidence = certificates.examine(game, s)
    found, gaps = np.asarray(evidence.response), np.asarray(evidence.gap)
    for i in range(n):
        rest = held + w @ s - w[i] * s[i]

        def utility(x, i=i, rest=rest):
            return value[i] * curve(family, rest + w[i] * x, scale[i]) - rate[i] * x

        x = np.linspace(0, capacity[i], 20_001)
        u = utility(x)
        close = (capacity[i] / 2e4) * (rate[i] + np.abs(np.diff(u)).max() / (capacity[i] / 2e4))
        assert utility(found[i]) >= u.max() - 1e-14
        assert utility(found[i]) <= u.max() + close
        assert gaps[i] == pytest.approx(utility(found[i]) - utility(s[i]), abs=1e-12)
        assert 0 <= found[i] <= capacity[i]


def test_where_utility_is_concave_there_is_one_interval():
    game = games.check(
        games.Game(
            games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost([0.01, 0.1, 10.0], [2.0, 1.0, 1.0]), [5.0] * 3
        )
    )
    s = jnp.array([1.0, 2.0, 3.0])
    sets = equilibria.all_best_responses(game, s)
    for one, point in zip(sets, best_response(game, s), strict=True):
        assert len(one) == 1
        np.testing.assert_allclose(one[0], (point, point), atol=1e-6)


def test_who_is_indifferent_has_the_whole_interval():
    game = games.check(
        games.Game(games.LinearPayoff([[0.3, 0.2], [0.1, 0.7]]), games.LinearCost(0.3), [5.0, 4.0])
    )
    assert equilibria.all_best_responses(game, jnp.array([1.0, 1.0])) == [[(0.0, 5.0)], [(4.0, 4.0)]]
    game = games.check(games.Game(games.PowerLaw(1.0, 3.0, 0.5), games.LinearCost(0.0), [6.0]))
    assert equilibria.all_best_responses(game, np.zeros(1)) == [[(0.0, 6.0)]]  # (3) is 0 up to 9
    game = games.check(games.Game(games.PowerLaw(1.0, 3.0, 0.5), games.LinearCost(0.1), [0.0]))
    assert equilibria.all_best_responses(game, np.zeros(1)) == [[(0.0, 0.0)]]
    ordered = games.Game(games.LinearPayoff([[0.2]]), games.OrderedCost([0.1, 0.2, 0.2, 0.3]), [4.0])
    ((interval,),) = equilibria.all_best_responses(games.check(ordered), np.zeros(1))
    np.testing.assert_allclose(interval, (1, 3), atol=1e-9)


def test_theorem_a2_at_the_point_of_indifference():
    high = 0.5 + 1 / 32

    def theorem_a2(s):
        e = jnp.clip(0.5 + (s - 0.5) * 16, 0.0, 1.0)
        before = jnp.roll(e, 1)
        return e + before - e * before

    game = games.check(games.Game(games.CustomPayoff(theorem_a2), games.LinearCost(0.25), [1.0] * 3))
    third = 0.5 + (1 - high / 4 - 0.5) / 16  # e(s₃) = 1 - ¼(½ + ε)
    first, second, _ = equilibria.all_best_responses(game, jnp.array([0.3, 0.9, third]))
    np.testing.assert_allclose(first, [(0, 0), (high, high)], atol=1e-9)
    np.testing.assert_allclose(second, [(high, high)], atol=1e-9)
    first, *_ = equilibria.all_best_responses(game, jnp.array([0.3, 0.9, third + 1e-3]))
    assert first == [(0.0, 0.0)]


def test_the_bound_at_the_cost_where_nothing_and_much_are_equally_good():
    def best(cost):
        found = scipy.optimize.minimize_scalar(
            lambda x: cost * x - curve("(2)", x, 1.0),
            bounds=(80, 5000),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return -found.fun, found.x

    cost = scipy.optimize.brentq(lambda c: best(c)[0], 1e-3, 1e-2, xtol=1e-18)
    interior = best(cost)[1]
    game = games.check(games.Game(games.GeneralizationBound(0.95, 1.0), games.LinearCost(cost), [5000.0]))
    ((zero, much),) = equilibria.all_best_responses(game, jnp.array([7.0]))
    assert zero == (0.0, 0.0)
    np.testing.assert_allclose(much, (interior, interior), rtol=1e-5)


def test_functions_of_s_that_are_not_concave_have_their_equilibria_too():
    """A sigmoid: 20 samples before anything is learned. The cheaper agent carries them alone."""
    payoff = games.TotalPayoff(lambda S: jax.nn.sigmoid(S - 20))
    game = games.check(games.Game(payoff, games.LinearCost([0.01, 0.02]), [50.0, 50.0]))
    found = solve(game)
    assert found.converged
    p = (1 + np.sqrt(1 - 4 * 0.01)) / 2  # p (1 - p) = 0.01
    np.testing.assert_allclose(found.profile, [20 + np.log(p / (1 - p)), 0], rtol=1e-8, atol=1e-12)


def test_best_responses_in_turn_go_from_peak_to_peak():
    """Theorem A.2 on a line instead of a circle: the first agent shares, the second lives on that."""

    def line(s):
        e = jnp.clip(0.5 + (s - 0.5) * 16, 0.0, 1.0)
        before = jnp.concatenate([jnp.zeros(1), e[:-1]])
        return e + before - e * before

    game = games.check(games.Game(games.CustomPayoff(line), games.LinearCost(0.25), [1.0] * 2))
    found = solve(game)
    assert found.converged
    np.testing.assert_allclose(found.profile, [0.5 + 1 / 32, 0], atol=1e-12)


def test_nobody_is_kept_moving_by_what_only_rounding_makes_better():
    """Of a thousand agents all but one are at a bound, where u is level to rounding over 10⁻¹³ samples."""
    n = 1000
    rates = np.random.default_rng(n).uniform(0.001, 0.02, n)
    payoff = games.TotalPayoff(lambda S: 0.1 * jnp.log1p(S))
    found = solve(games.check(games.Game(payoff, games.LinearCost(rates), [2.0] * n)))
    assert found.converged
    assert found.steps < 5
    s, full = np.asarray(found.profile), 2.0 * (rates < np.sort(rates)[30])
    np.testing.assert_allclose(s[full > 0], 2.0)
    assert np.sum((s > 0) & (s < 2)) == 1


def test_sweeps_that_go_well_are_not_disturbed_by_jumps():
    """With more agents than Newton's method takes: 80 plain sweeps, or 121 if every second one is a jump."""
    rng = np.random.default_rng(0)
    q = 0.9 * rng.dirichlet(np.full(50, 0.05), 500)
    cost = games.PowerCost(10 ** rng.uniform(-6, -4, 500), 2.0)
    game = games.check(games.Game(games.RandomCoverage(q), cost, np.full(500, 10.0)))
    found = solve(game)
    assert found.converged
    assert found.steps < 100


def test_sweeps_do_not_jump_to_another_split_of_the_same_total():
    """Agents with equal costs are tied: which of many splits they end at would be arbitrary."""
    payoff = games.TotalPayoff(lambda S: jax.nn.sigmoid(S - 20))
    for rates, jumps in (([0.01, 0.01], False), ([0.01, 0.0100001], True)):
        game = games.check(games.Game(payoff, games.LinearCost(rates), [50.0, 50.0]))
        s = jax.jit(total.settled)(game, jnp.asarray([24.55, 0.0]))
        assert np.all(np.isfinite(s)) == jumps
