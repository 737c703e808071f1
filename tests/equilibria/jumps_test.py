"""Payoffs that jump: what is found is the best of all points that were looked at, to the last digit."""

from typing import Any, ClassVar

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, registry
from fedgame.equilibria import certificates, solvers
from fedgame.games import payoffs

solve = jax.jit(equilibria.solve)


@registry.family
class Jump(payoffs.OfTotal):
    """From 0 to 1 at `place`, or just after it. Of `TotalPayoff`s each would be another program."""

    concave: ClassVar[bool] = False

    place: Any = registry.option("where it jumps")
    attained: Any = registry.option("whether it is 1 there already: 1 or 0")

    def curve(self, total):
        return jnp.where((total > self.place) | ((total == self.place) & (self.attained > 0)), 1.0, 0.0)


def jump(place, attained, rate, capacity, held=0.0):
    return games.check(games.Game(Jump(place, attained), games.LinearCost(rate), capacity, held=held))


def at_30(attained):
    """1 from 30 samples on, of which the server holds 20: an agent who gives 10 gains most of it."""
    return jump(30.0, attained, [0.02, 0.03], [100.0, 100.0], 20.0)


@jax.jit
def examined(game, s):
    """Nash gaps and best responses with one compilation."""
    found = certificates.examine(game, s)
    return found.gap, found.response


@pytest.mark.parametrize("attained", [True, False])
def test_nobody_sharing_is_no_equilibrium_where_ten_samples_bring_one(attained):
    game = at_30(attained)
    gaps, responses = examined(game, np.zeros(2))
    np.testing.assert_allclose(gaps, [0.8, 0.7], rtol=1e-12)
    np.testing.assert_allclose(responses, [10, 10], rtol=1e-12)
    found = solve(game)
    np.testing.assert_allclose(found.profile, [10, 0], rtol=1e-12)
    assert found.converged
    assert not found.unique


def test_a_supremum_that_is_not_attained_is_said():
    there, beyond = solve(at_30(True)), solve(at_30(False))
    assert int(there.status) == solvers.GRID
    assert f"certified up to a grid of {certificates.POINTS:,}" in equilibria.describe(there)
    assert int(beyond.status) == solvers.LIMIT
    assert "no exact equilibrium" in equilibria.describe(beyond)
    assert equilibria.describe(beyond).endswith("agent 0's best is just above 10")
    assert beyond.limit.tolist() == [1, 0]


def test_all_best_responses_at_a_jump():
    ((one,), (two,)) = equilibria.all_best_responses(at_30(True), np.zeros(2))
    np.testing.assert_allclose([one, two], 10, rtol=1e-12)


def test_steps_of_a_separable_payoff():
    """√⌊x⌋: whole numbers are best, the one at ¼ c⁻² where it is whole, or all there is."""
    payoff = games.Separable(lambda i, x: jnp.sqrt(jnp.floor(x)), lambda s: 0.0 * s)
    game = games.check(games.Game(payoff, games.LinearCost([0.1, 0.05, 0.3]), [100.0] * 3))
    found = solve(game)
    np.testing.assert_allclose(found.profile, [25, 100, 3], rtol=1e-12)
    assert found.converged
    np.testing.assert_allclose(examined(game, np.zeros(3))[0], [2.5, 5, np.sqrt(3) - 0.9], rtol=1e-12)


@jax.jit
def look(heights, places, rate, capacity, s):
    payoff = games.TotalPayoff(lambda S: jnp.sum(jnp.where(places <= S, heights, 0.0)))
    game = games.Game(payoff, games.LinearCost(rate), capacity)
    return examined(game, s)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@hypothesis.settings(max_examples=60)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_random_jumps_are_seen_wherever_they_are(dtype, seed):
    """The best is 0 or right at a jump: that is all there is to compare with."""
    rng = np.random.default_rng(seed)
    heights, places = rng.uniform(0, 1, 3), np.sort(rng.uniform(0, 90, 3))
    rate, s = 10 ** rng.uniform(-3, -1, 2), rng.uniform(0, 50, 2) * (rng.random(2) < 0.5)
    with jax.enable_x64(dtype == np.float64):
        numbers = [np.asarray(x, dtype) for x in (heights, places, rate, [100.0, 100.0], s)]
        gaps, responses = look(*numbers)
    heights, places, rate, _, s = (x.astype(float) for x in numbers)
    eps = float(np.finfo(dtype).eps)
    for i in range(2):
        rest = s.sum() - s[i]
        x = np.concatenate([[0.0, s[i]], places - rest])
        x = x[(x >= 0) & (x <= 100)]
        u = np.array([heights[y + rest >= places * (1 - 4 * eps)].sum() - rate[i] * y for y in x])
        assert float(gaps[i]) == pytest.approx(u.max() - u[1], abs=64 * eps * (heights.sum() + rate[i] * 100))
        assert np.min(np.abs(x - float(responses[i]))) <= 64 * eps * 100


def test_more_agents_than_peaks_and_two_sides_of_a_jump():
    """A payoff that rises to 10 and falls off there: best just below."""
    payoff = games.CustomPayoff(lambda s: jnp.where(s < 10, s, 0.0))
    game = games.check(games.Game(payoff, games.LinearCost(0.5), [100.0]))
    found = certificates.examine(game, np.zeros(1))
    np.testing.assert_allclose(found.gap, 5, rtol=1e-12)
    np.testing.assert_allclose(found.response, 10, rtol=1e-12)
    assert float(found.response[0]) < 10
    assert found.limit.tolist() == [-1]


@pytest.mark.parametrize("cost", [1e-2, 1e-4, 0.0])
def test_whether_a_supremum_is_attained_does_not_depend_on_how_little_a_sample_costs(cost):
    """Not one next to the jump: its utility is the same to rounding. Free samples attain it further away."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        place, held = np.round(rng.uniform(1, 10), 1), np.round(rng.uniform(0, 0.9), 2)
        above, at = (int(solve(jump(place, attained, [cost], [60.0], held)).status) for attained in (0, 1))
        assert above == (solvers.LIMIT if cost else solvers.GRID)
        assert at == solvers.GRID


def test_a_jump_at_nothing_is_approached_and_not_attained():
    found = solve(jump(0.0, False, [1.0], [1.0]))
    assert int(found.status) == solvers.LIMIT
    assert 0 < float(found.profile[0]) < 1e-12


def test_a_root_is_found_beside_much_that_the_server_holds():
    payoff = games.TotalPayoff(lambda S: ((S - 1e10) / 100) ** 2)
    game = games.Game(payoff, games.LinearCost(0.1), [1.0] * 10, 100.0, held=1e10)
    np.testing.assert_allclose(solve(games.check(game)).profile, 1.0, atol=1e-5)  # 8 ε · 10¹⁰
