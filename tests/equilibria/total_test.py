"""Roots in S against a scan of every total in plain numpy, and several equilibria at once."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games, registry
from fedgame.equilibria import solvers, total

solve, is_equilibrium = jax.jit(equilibria.solve), jax.jit(equilibria.is_equilibrium)
nash_gap, own_gradient = jax.jit(equilibria.nash_gap), jax.jit(games.own_gradient)


def own_gap(value_of, cost_of, s, capacity, points=20_001):
    """The largest gain of a deviation, agent by agent, on a dense grid: no code of the library."""
    gaps = []
    for i in range(len(s)):
        x = np.unique(np.r_[np.linspace(0, capacity[i], points), s[i]])
        utility = value_of(i, x + s.sum() - s[i]) - cost_of(i, x)
        gaps.append(utility.max() - utility[np.searchsorted(x, s[i])])
    return np.asarray(gaps)


def bound(S, best, k):
    S = np.maximum(S, 1e-12)
    raw = best - (4 + np.sqrt(2 * k * np.maximum(2 + np.log(S / k), 0))) / np.sqrt(S)
    return np.where(k < S, np.maximum(raw, 0), 0)


def with_the_bound(rate, capacity):
    """Games of which `solve` has one program per number of agents."""
    return games.check(games.Game(games.GeneralizationBound(0.95, 1.0), games.LinearCost(rate), capacity))


@pytest.mark.parametrize(("cost", "S"), [(1e-4, 1148.389), (1e-3, 238.113), (2.442e-5, 3000.320)])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_bound_has_the_totals_known_from_the_literature(cost, S, n):
    """Stand-alone optima of Karimireddy et al. for (2), k = 1, a₀ = 0.95: a'(S) = c whatever n is."""
    game = with_the_bound([cost] * n, [1e4] * n)
    found = solve(game)
    assert float(found.profile.sum()) == pytest.approx(S, abs=1e-3)
    assert found.converged
    assert found.unique == (n == 1)


def four(payoff, cost, capacity, quality=1.0, held=0.0):
    """Games of four agents, with numbers of their own wherever there may be: one program for all."""
    payoff, cost = registry.per_agent(payoff, 4), registry.per_agent(cost, 4)
    return games.check(games.Game(payoff, cost, capacity, 1.0, np.broadcast_to(quality, 4), held))


@hypothesis.settings(max_examples=15)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), clipped=st.booleans())
def test_every_equilibrium_of_clipped_power_laws_is_found_and_no_other(seed, clipped):
    rng, n = np.random.default_rng(seed), 4
    scale, power = rng.uniform(0.5, 4, n), rng.uniform(0.3, 1, n)
    rate, exponent = 10 ** rng.uniform(-4, -0.5, n), rng.uniform(1.2, 3, n)
    shift = 0.0 if clipped else scale.max() ** (1 / power.min())
    capacity = rng.uniform(0.5, 60, n)
    game = four(games.PowerLaw(1.0, scale, power, shift), games.PowerCost(rate, exponent), capacity)

    def value(i, S):
        with np.errstate(divide="ignore"):
            return np.maximum(1 - scale[i] * (S + shift) ** -power[i], 0)

    def cost(i, x):
        return rate[i] * x ** exponent[i]

    def wanted(S):
        """[..., n] of totals [...]."""
        zero, S = scale ** (1 / power) - shift, np.asarray(S)[..., None]
        price = np.where(zero < S, scale * power * (np.maximum(S, 1e-30) + shift) ** (-power - 1), 0)
        return np.minimum((price / (rate * exponent)) ** (1 / (exponent - 1)), capacity)

    # A scan: totals at which what is wanted crosses the total from above, and nobody sharing.
    S = np.concatenate([[0], np.geomspace(1e-9, capacity.sum(), 40_001)])
    excess = wanted(S).sum(axis=1) - S
    roots = [
        scipy.optimize.brentq(lambda x: wanted(x).sum() - x, S[k], S[k + 1], xtol=1e-13)
        for k in range(1, len(S) - 1)
        if excess[k] > 0 >= excess[k + 1]
    ]
    if excess[-1] >= -1e-12 * S[-1]:
        roots.append(S[-1])
    candidates = [np.zeros(n)] + [wanted(root) for root in roots]
    expected = [c.sum() for c in candidates if own_gap(value, cost, c, capacity).max() < 1e-9]
    listed = equilibria.solve_all(game)
    totals = [float(e.profile.sum()) for e in listed]
    assert totals == sorted(totals, reverse=True)
    np.testing.assert_allclose(totals, sorted(expected, reverse=True), rtol=1e-7, atol=1e-9)
    for e in listed:
        assert own_gap(value, cost, np.asarray(e.profile), capacity).max() < 1e-9
        assert e.converged
    found = solve(game)
    if listed:
        assert float(found.profile.sum()) == pytest.approx(totals[0], rel=1e-9, abs=1e-12)
        assert found.converged
        if len(listed) > 1:
            assert not found.unique
        if totals[-1] == 0 < totals[0]:
            assert int(found.status) == solvers.LARGEST
    if found.unique:
        assert len(listed) == 1


def test_nobody_and_somebody_are_both_equilibria_of_the_bound():
    """Alone nobody would begin, but each of three goes on while the others do."""
    game = with_the_bound([4e-3] * 3, [5000.0] * 3)
    found = solve(game)
    assert int(found.status) == solvers.LARGEST
    assert "others exist" in equilibria.describe(found)
    high, nobody = equilibria.solve_all(game)
    assert float(high.profile.sum()) == pytest.approx(float(found.profile.sum()), rel=1e-12)
    assert nobody.profile.tolist() == [0, 0, 0]
    for e in (high, nobody):
        s, capacity = np.asarray(e.profile), np.full(3, 5000.0)
        gap = own_gap(lambda i, S: bound(S, 0.95, 1.0), lambda i, x: 4e-3 * x, s, capacity)
        assert gap.max() < 1e-7


def test_a_vanishing_gradient_is_no_equilibrium():
    """At S = 91.98 one agent alone would have to pay more than she gains, and stays out."""
    game = with_the_bound([4e-3], [5000.0])
    s = np.array([91.98524022956435])
    assert abs(float(own_gradient(game, s)[0])) < 1e-12
    assert float(nash_gap(game, s)[0]) > 0.01
    found = solve(game)
    assert found.profile.tolist() == [0]
    assert found.unique


def test_every_status_and_what_it_says():
    law = games.PowerLaw(8.0, 1.0, 1.0, 0.5)

    def of(payoff, cost, held=0.0):
        return solve(games.check(games.Game(payoff, cost, [5.0, 5.0], held=held)))

    unique = of(law, games.LinearCost([4.0, 5.0]))
    tied = of(law, games.LinearCost([1.0, 1.0]))
    # log(1 + S) up to 20 samples; beyond 100 nothing, and beyond 103 as much as was added to 100.
    curve = games.TotalPayoff(
        lambda S: jnp.where(S > 100, jnp.where(S - 100 > 3, 1.0, 0.0) * (S - 100), jnp.log1p(S))
    )
    unknown = of(curve, games.PowerCost(0.1, 2.0))
    step = of(curve, games.PowerCost(0.05, 2.0), held=100.0)
    broken = solve(
        games.check(games.Game(law, games.LinearCost([4.0, 5.0]), [5.0, 5.0])).replace(value=np.array(np.nan))
    )
    assert [int(x.status) for x in (unique, tied, unknown)] == [
        solvers.UNIQUE, solvers.TOTAL_ONLY, solvers.GRID,
    ]  # fmt: skip
    assert int(broken.status) == solvers.NOT_FINITE
    assert not broken.converged
    assert [bool(x.unique) for x in (unique, tied, unknown, broken)] == [True, False, False, False]
    assert int(step.status) in (solvers.GRID, solvers.NOT_FOUND)
    assert bool(step.converged) == (int(step.status) == solvers.GRID)
    for found in (unique, tied, unknown, broken, step):
        assert equilibria.describe(found).startswith(solvers.MEANING[int(found.status)])


@pytest.mark.parametrize("quality", [1.0, [0.5, 1.0, 2.0, 1.5]])
@pytest.mark.parametrize("held", [0.0, 7.0])
def test_quality_and_held_samples_enter_the_total(quality, held):
    rate, capacity = np.array([2e-3, 1e-3, 5e-3, 3e-3]), np.full(4, 50.0)
    w = np.broadcast_to(quality, 4)
    game = four(games.PowerLaw(0.97, 6.0, 0.8, 12.0), games.PowerCost(rate, 2.0), capacity, quality, held)
    s = np.asarray(solve(game).profile)
    price = 6 * 0.8 * (12 + held + w @ s) ** -1.8
    np.testing.assert_allclose(s, np.minimum(w * price / (2 * rate), capacity), rtol=1e-11)
    np.testing.assert_allclose(own_gradient(game, s), 0, atol=1e-14)


def test_wrong_methods_are_refused():
    cost = games.PowerCost(np.array([2e-3, 1e-3, 5e-3, 3e-3]), 2.0)
    game = four(games.PowerLaw(0.97, 6.0, 0.8, 12.0), cost, [50.0] * 4)
    with pytest.raises(ValueError, match="`method` must be one of root in S, separable"):
        equilibria.solve(game, method="magic")
    with pytest.raises(ValueError, match="'separable' does not fit PowerLaw"):
        equilibria.solve(game, method="separable")
    with pytest.raises(ValueError, match="needs a payoff of the total"):
        equilibria.solve_all(game.replace(payoff=games.RandomDiscovery(np.ones((4, 2)) / 2)))


def test_a_million_agents_need_ten_looks():
    n = 1_000_000
    rng = np.random.default_rng(0)
    payoff = games.PowerLaw(1.0, rng.uniform(0.5, 2, n), rng.uniform(0.3, 1, n), rng.uniform(1, 2, n))
    game = games.check(
        games.Game(payoff, games.PowerCost(10 ** rng.uniform(-3, -1, n), 2.0), np.full(n, 1e6))
    )
    found = jax.jit(lambda game: solvers.find(game)[0])(game)
    assert found.steps < 20
    S = float(found.profile.sum())
    price = np.asarray(payoff.scale) * payoff.exponent * (payoff.shift + S) ** (-payoff.exponent - 1)
    np.testing.assert_allclose(found.profile, price / (2 * game.cost.rate), rtol=1e-9)
    some, s = np.arange(0, n, 100), np.asarray(found.profile)  # what the others contribute the server holds
    ten_thousand = games.subset(game, some).replace(held=s.sum() - s[some].sum())
    assert float(nash_gap(ten_thousand, s[some]).max()) <= 1e-9


def test_what_is_wanted_is_between_nothing_and_everything():
    game = games.check(
        games.Game(games.PowerLaw(1.0, 1.0, 0.5), games.LinearCost([0.1, 0.2, 0.0]), [3.0, 0.0, 2.0])
    )
    totals = np.array([0.0, 1e-12, 0.5, 2.0, 1e9])
    for wanted in np.asarray(jax.jit(jax.vmap(total.wanted, (None, 0)))(game, totals)):
        assert np.all((wanted >= 0) & (wanted <= [3, 0, 2]))
        assert wanted[2] == 2  # it costs her nothing


def test_an_equilibrium_that_needs_another_split_than_shares_of_capacity_is_found():
    """S = 91.985: thirds are stable, but nobody would carry the half that her share of τ asks for."""
    capacity = np.array([5000.0, 5000.0, 100.0])
    game = with_the_bound([4e-3] * 3, capacity)
    s = np.full(3, 91.98524022956435 / 3)
    gaps = own_gap(lambda i, S: bound(S, 0.95, 1.0), lambda i, x: 4e-3 * x, s, capacity)
    assert gaps.max() < 1e-9
    equal_shares = s.sum() * capacity / capacity.sum()
    assert (
        own_gap(lambda i, S: bound(S, 0.95, 1.0), lambda i, x: 4e-3 * x, equal_shares, capacity).max() > 0.01
    )
    found = solve(game)
    assert not found.unique
    assert float(found.profile.sum()) == pytest.approx(s.sum(), rel=1e-9)
    assert len(equilibria.solve_all(game)) == 2


FLAT = games.MeasuredCurve([0.0, 10.0, 20.0], [0.0, 0.5, 0.5], [0.1, 0.0, 0.0])
STRAIGHT = games.MeasuredCurve([0.0, 10.0, 20.0], [0.0, 1.0, 1.5], [0.1, 0.1, 0.0])
LAW = games.PowerLaw(1.0, 1.0, 1.0, 1.0)


def flat(S):
    x = np.minimum(S, 10)
    return 0.1 * x - 0.005 * x**2


def straight(S):
    return 0.1 * np.minimum(S, 10) + flat(np.maximum(S - 10, 0))


@pytest.mark.parametrize(
    ("payoff", "curve", "rate", "value", "another"),
    [
        (FLAT, flat, 0.0, 1.0, 15.0),  # more than 10 samples cost nothing and bring nothing
        (STRAIGHT, straight, 0.1, 1.0, 3.0),  # up to 10 samples bring what they cost
        (LAW, lambda S: S / (1 + S), 0.0, 0.0, 3.0),  # she cares about nothing
        (games.PowerLaw(1.0, 3.0, 0.5), lambda S: np.maximum(1 - 3 / np.sqrt(S + 1e-9), 0), 0.0, 1.0, None),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_nothing_is_called_the_only_equilibrium_where_others_exist(payoff, curve, rate, value, another, n):
    capacity = 50.0 if another else 4.0
    game = games.check(games.Game(payoff, games.LinearCost(rate), [capacity] * n, value))
    other = np.full(n, (another or 1.0) / n)  # (3) is 0 up to 9 samples
    found = solve(game)
    if n == 2 and another is None:
        assert float(game.payoff.pays_from()) > 8
    gains = own_gap(lambda i, S: value * curve(S), lambda i, x: rate * x, other, [capacity] * n)
    assert gains.max() <= 1e-12
    assert found.converged
    assert abs(float(np.sum(found.profile)) - other.sum()) > 1
    assert not found.unique
    assert int(found.status) != solvers.TOTAL_ONLY  # the total is not determined either


def test_free_contributions_where_more_data_stop_helping_are_no_nan():
    """β = 1 leaves no cost, and beyond 10 samples of the others the payoff is flat: 0/0 for a supply."""
    game = games.check(games.Game(FLAT, games.PowerCost([1e-3, 2e-3], 2.0), [50.0, 60.0]))
    found = solve(game.replace(cost=game.cost.scaled(0.0)))
    assert found.converged
    assert np.all(np.asarray(found.nash_gap) <= 1e-15)
    assert float(np.sum(found.profile)) >= 10 - 1e-9
    assert not found.unique
    assert int(found.status) != solvers.TOTAL_ONLY


def test_what_solve_says_exists_solve_all_lists():
    """Two free agents with 6 samples each, and (3) is 0 below 9: alone nobody gains by sharing."""
    game = games.check(games.Game(games.PowerLaw(1.0, 3.0, 0.5), games.LinearCost(0.0), [6.0, 6.0]))
    assert is_equilibrium(game, jnp.zeros(2), 1e-12)
    assert int(solve(game).status) == solvers.LARGEST
    listed = equilibria.solve_all(game)
    assert [float(e.profile.sum()) for e in listed] == [12.0, 0.0]


def test_the_raw_bound_has_the_interior_equilibrium_of_the_clipped_one():
    game = with_the_bound([1e-4, 2e-4], [5e3] * 2)
    clipped, raw = solve(game), solve(game.replace(payoff=game.payoff.replace(clip=False)))
    assert raw.converged
    np.testing.assert_allclose(raw.profile, clipped.profile, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("capacity", [1e30, 1e60, 1e99])
def test_the_root_is_found_however_much_more_there_could_be(capacity):
    payoff, cost = games.PowerLaw(0.97, 6.0, 0.8, 12.0), games.LinearCost([0.004, 0.005, 0.012])
    game = games.check(games.Game(payoff, cost, np.full(3, capacity)))
    found = equilibria.solve(game)
    total = (6 * 0.8 / 0.004) ** (1 / 1.8) - 12  # where 4.8 (12 + S)^-1.8 = 0.004
    assert found.converged
    np.testing.assert_allclose(found.profile, [total, 0, 0], rtol=1e-9, atol=1e-9)
    assert not equilibria.is_equilibrium(game, np.zeros(3))
