"""What `check_conditions` says where that is known; λ and L by formula against eigenvalues at profiles."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.equilibria import conditions, dynamics

# Three agents wherever there may be any number: fewer shapes, fewer programs.
QUICK = {"samples": 8, "most_steps": 200}
LAW = games.PowerLaw(1.0, 1.0, 0.5, 1.0)


trace = jax.jit(lambda game, s, step: dynamics.trace(game, s, 1000, step)[1])


def held(found):
    return {c.name: c.holds for c in found.assumptions}


def test_payoffs_of_the_total_with_linear_costs_have_no_lambda_and_no_bound():
    found = equilibria.check_conditions(
        games.Game(LAW, games.LinearCost([0.1, 0.2, 0.3]), [9.0] * 3), **QUICK
    )
    assert all(held(found).values())
    assert found.strong_concavity[1] <= 1e-12
    assert found.step is found.iterations is found.needed is None
    assert "λ ≤ 0" in found.obstacle
    assert "Theorem 3.2 does not apply: no λ > 0 exists on this box (λ ≤ 0), as payoffs see S alone" in str(
        found
    )
    assert "; no bound on iterations" in str(found)


@pytest.mark.parametrize(
    "payoff", [LAW, games.RandomDiscovery([[0.3, 0.2], [0.1, 0.8], [0.0, 0.5]])], ids=["power", "discovery"]
)
def test_where_the_theorem_applies_every_step_contracts_as_it_says(payoff):
    game = games.check(games.Game(payoff, games.PowerCost([0.4, 0.5, 0.6], 2.0), [2.0, 3.0, 0.05]))
    found = equilibria.check_conditions(game, target=1e-8, samples=8)
    assert found.rigorous
    assert found.inside
    lam, L = found.strong_concavity[0], found.derivative_bound[1]
    assert lam == pytest.approx(0.8)
    assert found.step == pytest.approx(lam / (9 * L**2))
    path = trace(game, np.asarray(game.capacity) / 2, found.step)
    size = np.linalg.norm(np.diff(path, axis=0), axis=1) / found.step
    rate = np.sqrt(1 - lam**2 / (9 * L**2))
    assert np.all(size[1:] <= rate * size[:-1] * (1 + 1e-9) + 1e-13)
    assert found.iterations == pytest.approx(2 * 9 * L**2 / lam**2 * np.log(size[0] / 1e-8))
    assert found.needed == np.argmax(size < 1e-8)
    assert 0 < found.needed <= found.iterations
    assert 0 < found.needed_adaptive < found.needed


def test_power_law_3_needs_a_box_away_from_0():
    game = games.Game(games.PowerLaw(1.0, 1.0, 0.5), games.PowerCost(0.2, 2.0), [5.0] * 3)
    at_0 = equilibria.check_conditions(game, **QUICK)
    assert not held(at_0)["payoff concave in own contribution"]  # clipped at 0: a convex kink at S = 1
    assert at_0.step is None
    assert at_0.obstacle == "payoffs are not concave on this box"
    raw = equilibria.check_conditions(
        games.Game(games.PowerLaw(1.0, 1.0, 0.5, clip=False), game.cost, game.capacity), **QUICK
    )
    assert raw.derivative_bound[1] == np.inf
    assert raw.step is None
    away = equilibria.check_conditions(game, low=0.6, **QUICK)
    assert all(held(away).values())
    assert away.strong_concavity[0] == pytest.approx(0.4)
    assert away.rigorous
    assert away.needed is None or away.needed <= away.iterations


def test_a_path_that_leaves_the_box_is_told():
    """At the equilibrium agents share less than 2 each, which is where the box begins."""
    game = games.Game(games.PowerLaw(1.0, 1.0, 0.5), games.PowerCost(0.02, 2.0), [100.0] * 3)
    found = equilibria.check_conditions(game, low=2.0, samples=8, most_steps=2000)
    assert found.step is not None
    assert not found.inside
    assert "the path LEFT the box, so the bound is not proved" in str(found)


def test_a_mix_with_linear_costs_is_looked_at_up_to_0():
    """Identical payoffs: G = a''·1 - diag(0, c''), λ = 0 at the worst, nowhere below."""
    game = games.Game(games.PowerLaw(1.0, 1.0, 1.0, 1.0), games.PowerCost(0.1, [1.0, 2.0, 2.0]), [3.0] * 3)
    least, met = equilibria.check_conditions(game, **QUICK).strong_concavity
    assert least == pytest.approx(0, abs=1e-12)
    assert met >= least


def test_kinks_jumps_and_convex_pieces_are_reported():
    jump = games.TotalPayoff(lambda S: jnp.where(S > 2.3, 1.0, 0.0) + 0.1 * S)
    found = equilibria.check_conditions(games.Game(jump, games.LinearCost(0.1), [3.0] * 3), **QUICK)
    assert not held(found)["payoff continuous"]
    worst = next(c for c in found.assumptions if c.name == "payoff continuous")
    assert worst.margin == pytest.approx(-1, abs=1e-6)
    assert "FAILS: payoff continuous" in str(found)

    def theorem_a2(s):
        e = jnp.clip(0.5 + (s - 0.5) * 16, 0.0, 1.0)
        before = jnp.roll(e, 1)
        return e + before - e * before

    game = games.Game(games.CustomPayoff(theorem_a2), games.LinearCost(0.25), [1.0] * 3)
    found = equilibria.check_conditions(game, **QUICK)
    assert held(found) == {
        "payoff continuous": True,
        "payoff concave in own contribution": False,
        "cost convex": True,
        "cost increasing": True,
    }
    assert found.step is None
    assert found.obstacle == "payoffs are not concave on this box"
    assert not found.rigorous
    assert "(estimate)" in str(found)


def test_free_samples_have_no_increasing_cost_and_a_fixed_part_changes_nothing():
    free = equilibria.check_conditions(games.Game(LAW, games.LinearCost([0.1, 0.0, 0.2]), [3.0] * 3), **QUICK)
    assert not held(free)["cost increasing"]
    dear = equilibria.check_conditions(games.Game(LAW, games.LinearCost(1e-12, 1e6), [3.0] * 3), **QUICK)
    assert held(dear)["cost increasing"]


def test_any_function_of_s_has_estimates_that_are_right():
    game = games.Game(games.TotalPayoff(jnp.log1p), games.PowerCost(0.2, 2.0), [3.0] * 3)
    found = equilibria.check_conditions(game, **QUICK)
    assert found.strong_concavity == (None, pytest.approx(0.4))
    assert found.derivative_bound == (pytest.approx(1.4), None)
    assert "λ and L are estimates" in str(found)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ({"low": -1.0}, "0 ≤ low ≤ high ≤ capacity"),
        ({"low": 2.0, "high": 1.0}, "0 ≤ low ≤ high ≤ capacity"),
        ({"high": [3.0, 3.1]}, "0 ≤ low ≤ high ≤ capacity"),
        ({"low": np.nan}, "0 ≤ low ≤ high ≤ capacity"),
        ({"low": 1.0, "start": [0.5, 2.0]}, "`start` must be a profile in the box"),
        ({"start": [0.5]}, "`start` must be a profile in the box"),
        ({"low": [0.0, 0.0, 0.0]}, "shape"),
    ],
)
def test_bad_boxes(box, message):
    with pytest.raises(ValueError, match=message):
        equilibria.check_conditions(games.Game(LAW, games.LinearCost(0.1), [3.0] * 2), **box)


LONELY = games.Game(games.PowerLaw(1.0, 1.0, 0.5, clip=False), games.PowerCost(1e-3, 2.0), [100.0])


def test_a_step_that_is_rounded_away_is_not_the_end():
    """On a box from 6e-4 δ is 3e-19: s + δ ∂u is s, and ∂u = -.0986 there."""
    found = equilibria.check_conditions(LONELY, 6e-4, start=np.array([50.0]), most_steps=1000)
    assert found.step < 1e-18
    slope = abs(float(jax.jit(games.own_gradient)(games.check(LONELY), np.array([50.0]))[0]))
    assert slope == pytest.approx(0.0986, abs=1e-4)
    lam, bound = found.strong_concavity[0], found.derivative_bound[1]
    assert found.iterations == pytest.approx(2 * (bound / lam) ** 2 * np.log(slope / 1e-6), rel=1e-9)
    assert found.needed is None
    assert found.needed_adaptive < 100


def test_a_lambda_that_is_proved_is_not_denied_for_rounding():
    found = equilibria.check_conditions(LONELY, 1e-6, most_steps=1000)
    assert found.strong_concavity[0] == pytest.approx(0.002, rel=1e-3)
    assert found.strong_concavity[1] >= found.strong_concavity[0]
    assert found.step is not None
    assert found.obstacle == ""
    assert all(condition.holds for condition in found.assumptions)  # steep is not discontinuous


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
    "quadratic": lambda rng: games.PowerCost(rng.uniform(0.01, 1, N), np.full(N, 2.0)),
    "mixed": lambda rng: games.PowerCost(rng.uniform(0.01, 1, N), rng.permutation([1.5, 2.0, 3.0])),
}
jacobian, jacobians = jax.jit(games.jacobian), jax.jit(jax.vmap(games.jacobian, (None, 0)))


def looked_at(game, low, high, rng, points=60):
    """The least λ and the largest |G_ij| at random profiles and at both corners, by numpy."""
    share = np.concatenate([[np.zeros(N), np.ones(N)], rng.uniform(size=(points, N)) ** 2])
    g = np.asarray(jacobians(game, low + (high - low) * share))
    strong = -np.linalg.eigvalsh((g + np.swapaxes(g, 1, 2)) / 2)[:, -1]
    return strong.min(), np.abs(g).max()


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
    found = conditions.bounds(game, low, high)
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
    found = conditions.bounds(game, np.zeros(N), np.full(N, 4.0))
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
    found = conditions.bounds(game, np.zeros(2), game.capacity)
    assert found.strong_concavity == pytest.approx(bend - part, abs=0.1)
    assert found.strong_concavity <= bend - part + 1e-12


def test_coverage_of_one_point_has_the_exact_lambda_at_the_low_corner():
    game = games.check(
        games.Game(games.RandomCoverage([[0.1], [0.8], [0.5]]), games.PowerCost(0.3, 2.0), [4.0] * N)
    )
    low = np.array([0.1, 0.2, 0.0])
    g = np.asarray(jacobian(game, low))
    found = conditions.bounds(game, low, game.capacity)
    assert found.strong_concavity == pytest.approx(-np.linalg.eigvalsh((g + g.T) / 2)[-1], rel=1e-12)
    assert found.derivative >= np.abs(g).max() * (1 - 1e-12)


def test_power_laws_have_no_bound_at_0():
    for clip in (True, False):
        game = games.check(
            games.Game(games.PowerLaw(1.0, 1.0, 0.5, clip=clip), games.PowerCost(0.1, 2.0), [9.0] * 2)
        )
        found = conditions.bounds(game, np.zeros(2), game.capacity)
        assert found is None if clip else found.derivative == np.inf
        away = conditions.bounds(game, np.ones(2), game.capacity)
        assert away.strong_concavity == pytest.approx(0.2)
        assert away.derivative == pytest.approx(0.75 * 2**-2.5 + 0.2)


def test_a_power_law_of_no_loss_does_not_spoil_the_bound():
    game = games.check(
        games.Game(games.PowerLaw(1.0, [0.0, 1.0], 0.5, [0.0, 1.0]), games.PowerCost(0.1, 2.0), [3.0] * 2)
    )
    found = conditions.bounds(game, np.zeros(2), game.capacity)
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
