"""What `check_conditions` says, where it is known what it must say."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games
from fedgame.equilibria import dynamics

QUICK = {"samples": 8, "most_steps": 200}
LAW = games.PowerLaw(1.0, 1.0, 0.5, 1.0)


def held(conditions):
    return {c.name: c.holds for c in conditions.assumptions}


def test_payoffs_of_the_total_with_linear_costs_have_no_lambda_and_no_bound():
    found = equilibria.check_conditions(games.Game(LAW, games.LinearCost([0.1, 0.2]), [9.0] * 2), **QUICK)
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
    _, path = dynamics.trace(game, game.capacity / 2, 1000, found.step)
    size = np.linalg.norm(np.diff(path, axis=0), axis=1) / found.step
    rate = np.sqrt(1 - lam**2 / (9 * L**2))
    assert np.all(size[1:] <= rate * size[:-1] * (1 + 1e-9) + 1e-13)
    assert found.iterations == pytest.approx(2 * 9 * L**2 / lam**2 * np.log(size[0] / 1e-8))
    assert found.needed == np.argmax(size < 1e-8)
    assert 0 < found.needed <= found.iterations
    assert 0 < found.needed_adaptive < found.needed


def test_power_law_3_needs_a_box_away_from_0():
    game = games.Game(games.PowerLaw(1.0, 1.0, 0.5), games.PowerCost(0.2, 2.0), [5.0] * 2)
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
    game = games.Game(games.PowerLaw(1.0, 1.0, 0.5), games.PowerCost(0.02, 2.0), [100.0] * 4)
    found = equilibria.check_conditions(game, low=2.0, samples=8, most_steps=2000)
    assert found.step is not None
    assert not found.inside
    assert "the path LEFT the box, so the bound is not proved" in str(found)


def test_a_mix_with_linear_costs_is_looked_at_up_to_0():
    """Identical payoffs: G = a''·1 - diag(0, c''), λ = 0 at the worst, nowhere below."""
    game = games.Game(games.PowerLaw(1.0, 1.0, 1.0, 1.0), games.PowerCost(0.1, [1.0, 2.0]), [3.0] * 2)
    least, met = equilibria.check_conditions(game, **QUICK).strong_concavity
    assert least == pytest.approx(0, abs=1e-12)
    assert met >= least


def test_kinks_jumps_and_convex_pieces_are_reported():
    jump = games.TotalPayoff(lambda S: jnp.where(S > 2.3, 1.0, 0.0) + 0.1 * S)
    found = equilibria.check_conditions(games.Game(jump, games.LinearCost(0.1), [3.0] * 2), **QUICK)
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
    free = equilibria.check_conditions(games.Game(LAW, games.LinearCost([0.1, 0.0]), [3.0] * 2), **QUICK)
    assert not held(free)["cost increasing"]
    dear = equilibria.check_conditions(games.Game(LAW, games.LinearCost(1e-12, 1e6), [3.0] * 2), **QUICK)
    assert held(dear)["cost increasing"]


def test_any_function_of_s_has_estimates_that_are_right():
    game = games.Game(games.TotalPayoff(jnp.log1p), games.PowerCost(0.2, 2.0), [3.0] * 2)
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
    found = equilibria.check_conditions(LONELY, 6e-4, start=jnp.array([50.0]), most_steps=1000)
    assert found.step < 1e-18
    slope = abs(float(games.own_gradient(games.check(LONELY), jnp.array([50.0]))[0]))
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
