"""λ and L by formula against eigenvalues at many profiles of the box."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.equilibria import curvature

N = 3


def measured(rng, shape):
    sizes = np.array([0.0, 2.0, 5.0, 9.0])  # the box reaches beyond the last size
    slope = np.sort(rng.uniform(0.01, 0.3, (*shape, 4)), axis=-1)[..., ::-1]
    rise = np.diff(sizes) * (slope[..., 1:] + slope[..., :-1]) / 2
    first = np.zeros((*shape, 1))
    return games.MeasuredCurve(sizes, np.concatenate([first, np.cumsum(rise, axis=-1)], axis=-1), slope)


FAMILIES = {
    "power law": lambda rng: games.PowerLaw(1.0, 1.0, rng.uniform(0.3, 1), 1.0),
    "power laws": lambda rng: games.PowerLaw(
        1.0, rng.uniform(0.1, 0.9, N), rng.uniform(0.3, 1, N), rng.uniform(1, 3, N)
    ),
    "raw power laws": lambda rng: games.PowerLaw(
        1.0, rng.uniform(0.1, 2, N), rng.uniform(0.3, 1, N), clip=False
    ),
    "measured curve": lambda rng: measured(rng, ()),
    "measured curves": lambda rng: measured(rng, (N,)),
    "coverage": lambda rng: games.RandomCoverage(rng.dirichlet(np.ones(3), N) * 0.9),
    "discovery": lambda rng: games.RandomDiscovery(rng.dirichlet(np.ones(3), N)),
    "linear": lambda rng: games.LinearPayoff(rng.normal(size=(N, N))),
}
COSTS = {
    "linear": lambda rng: games.LinearCost(rng.uniform(0.01, 1, N)),
    "quadratic": lambda rng: games.PowerCost(rng.uniform(0.01, 1, N), 2.0),
    "mixed": lambda rng: games.PowerCost(rng.uniform(0.01, 1, N), rng.permutation([1.5, 2.0, 3.0])),
}
jacobian = jax.jit(games.jacobian)


def looked_at(game, low, high, rng, points=60):
    """The least λ and the largest |G_ij| at random profiles and at both corners, by numpy."""
    strong, largest = np.inf, 0.0
    share = np.concatenate([[np.zeros(N), np.ones(N)], rng.uniform(size=(points, N)) ** 2])
    for s in low + (high - low) * share:
        g = np.asarray(jacobian(game, s))
        strong = min(strong, -np.linalg.eigvalsh((g + g.T) / 2)[-1])
        largest = max(largest, np.abs(g).max())
    return strong, largest


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cost", COSTS)
@hypothesis.settings(max_examples=5)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_rigorous_bounds_hold_at_every_profile(family, cost, seed):
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0.2, 1, N), rng.uniform(1, 5, N)
    game = games.Game(
        FAMILIES[family](rng), COSTS[cost](rng), high, rng.uniform(0.5, 2, N), rng.uniform(0.5, 2, N)
    )
    game = games.check(game)
    found = curvature.bounds(game, jnp.asarray(low), jnp.asarray(high))
    strong, largest = looked_at(game, low, high, rng)
    assert found.strong_concavity <= strong + 1e-12
    assert found.derivative >= largest * (1 - 1e-12)
    assert found.derivative <= 20 * largest  # and they say something
    if cost == "linear" and game.payoff.of_total:
        assert found.strong_concavity <= 0


@pytest.mark.parametrize("family", ["power law", "measured curve", "discovery", "linear"])
def test_equal_payoffs_have_the_lambda_of_their_costs(family):
    rng = np.random.default_rng(0)
    rate = np.array([0.3, 0.1, 0.2])
    game = games.check(games.Game(FAMILIES[family](rng), games.PowerCost(rate, 2.0), [4.0] * N))
    found = curvature.bounds(game, jnp.zeros(N), jnp.full(N, 4.0))
    assert found.strong_concavity == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("bend", [19.0, 20.0])
def test_strictly_convex_costs_must_be_steep_enough(bend):
    """v = a''(S) = (-1, -100): the payoff part's largest eigenvalue is (√2·‖v‖ - 101) / 2 = 20.214."""
    scale = np.array([1.0, 100.0]) / 2  # a'' = -2 scale (1 + S)^-3 at S = 0
    game = games.check(
        games.Game(games.PowerLaw(100.0, scale, 1.0, 1.0), games.PowerCost(bend / 2, 2.0), [1e-3] * 2)
    )
    v = -np.array([1.0, 100.0])
    part = (v.sum() + np.sqrt(2) * np.linalg.norm(v)) / 2
    assert part == pytest.approx(20.214, abs=1e-3)
    g = np.asarray(jacobian(game, np.zeros(2)))
    assert -np.linalg.eigvalsh((g + g.T) / 2)[-1] == pytest.approx(bend - part, abs=1e-9)
    found = curvature.bounds(game, jnp.zeros(2), game.capacity)
    assert found.strong_concavity == pytest.approx(bend - part, abs=0.1)
    assert found.strong_concavity <= bend - part + 1e-12


def test_coverage_of_one_point_has_the_exact_lambda_at_the_low_corner():
    game = games.check(
        games.Game(games.RandomCoverage([[0.1], [0.8], [0.5]]), games.PowerCost(0.3, 2.0), [4.0] * N)
    )
    low = jnp.array([0.1, 0.2, 0.0])
    g = np.asarray(jacobian(game, low))
    found = curvature.bounds(game, low, game.capacity)
    assert found.strong_concavity == pytest.approx(-np.linalg.eigvalsh((g + g.T) / 2)[-1], rel=1e-12)
    assert found.derivative >= np.abs(g).max() * (1 - 1e-12)


def test_power_laws_have_no_bound_at_0():
    for clip in (True, False):
        game = games.check(
            games.Game(games.PowerLaw(1.0, 1.0, 0.5, clip=clip), games.PowerCost(0.1, 2.0), [9.0] * 2)
        )
        found = curvature.bounds(game, jnp.zeros(2), game.capacity)
        assert found is None if clip else found.derivative == np.inf
        away = curvature.bounds(game, jnp.ones(2), game.capacity)
        assert away.strong_concavity == pytest.approx(0.2)
        assert away.derivative == pytest.approx(0.75 * 2**-2.5 + 0.2)


def test_a_power_law_of_no_loss_does_not_spoil_the_bound():
    game = games.check(
        games.Game(games.PowerLaw(1.0, [0.0, 1.0], 0.5, [0.0, 1.0]), games.PowerCost(0.1, 2.0), [3.0] * 2)
    )
    found = curvature.bounds(game, jnp.zeros(2), game.capacity)
    assert np.isfinite(found.derivative)
    assert found.derivative >= 0.75 + 0.2


def test_steps_and_bound_of_the_theorem():
    assert equilibria.theorem_step(0.5, 2.0, 3) == pytest.approx(0.5 / (9 * 4))
    assert equilibria.iteration_bound(0.5, 2.0, 3, 10.0, 0.1) == pytest.approx(2 * 9 * 4 / 0.25 * np.log(100))
    assert equilibria.iteration_bound(0.5, 2.0, 3, 0.1, 1.0) == 0
    assert equilibria.iteration_bound(0.5, 2.0, 3, 0.0, 1.0) == 0
    for wrong in [(0, 1, 2, 1, 1), (-1, 1, 2, 1, 1), (1, 0, 2, 1, 1), (1, 1, 2, -1, 1), (1, 1, 2, 1, 0)]:
        with pytest.raises(ValueError, match=r"Theorem 3\.2 needs λ > 0"):
            equilibria.iteration_bound(*wrong)
    with pytest.raises(ValueError, match=r"Theorem 3\.2 needs"):
        equilibria.iteration_bound(1.0, np.inf, 2, 0.5, 1.0)  # inf · 0: no number of steps
    for wrong in [(-1.0, 1.0, 2), (0.0, 1.0, 2), (1.0, 0.0, 2), (1.0, np.inf, 2)]:
        with pytest.raises(ValueError, match=r"Theorem 3\.2 needs λ > 0"):
            equilibria.theorem_step(*wrong)
