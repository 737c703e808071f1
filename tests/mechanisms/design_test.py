"""Rates by gradient: against grids of rates, closed forms, and at kinks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import implicit
from fedgame.mechanisms import design, rules

N = 4
solve, utilities = jax.jit(equilibria.solve), jax.jit(mechanisms.utilities)
POWERS = {"p=1": 1, "p=0": 0, "p=-5": -5}
NAMES = [*POWERS, "the least", "priced"]


def welfare_of(name):
    """One of `NAMES` as a function of utilities; a traced number, so that all are compiled once."""

    def least(u):
        return jnp.min(u) + 0.1 * jnp.mean(u)

    def priced(u):  # what the others pay agent 1 costs more than it brings
        return u[0] + 1.05 * jnp.sum(u[1:])

    means = [lambda u, p=p: mechanisms.p_mean(u, p) for p in POWERS.values()]
    return lambda u: jax.lax.switch(name, [*means, least, priced], u)


@jax.jit
def _beta_of(game, name):
    return mechanisms.design_beta(game, welfare_of(name))


@jax.jit
def _rates_of(game, name, start):
    return mechanisms.design_rates(game, welfare_of(name), start, steps=100)


@jax.jit
def _grid(game, name):
    """Welfare at 2,001 rates."""
    return jax.lax.map(
        lambda b: design.welfare_of_rates(game, b, welfare_of(name))[0], jnp.linspace(0, 1, 2001)
    )


@jax.jit
def _at(game, name, rates):
    value, slope = jax.value_and_grad(lambda b: design.welfare_of_rates(game, b, welfare_of(name))[0])(rates)
    return value, slope


def beta_of(game, name):
    return _beta_of(game, NAMES.index(name))


def rates_of(game, name, start):
    return _rates_of(game, NAMES.index(name), np.broadcast_to(np.asarray(start, float), N))


def grid(game, name):
    return np.asarray(_grid(game, NAMES.index(name)))


def make(
    rate, exponent, capacity, value=1.0, quality=1.0, best=2.0, scale=1.0, power=1.0, shift=1.0, fixed=0.0
):
    """best - scale (shift + S)^-power; every number once per agent."""
    numbers = (best, scale, power, shift, rate, exponent, fixed, capacity, value, quality)
    every = [np.broadcast_to(np.asarray(x, float), N) for x in numbers]
    return games.check(games.Game(games.PowerLaw(*every[:4]), games.PowerCost(*every[4:7]), *every[7:]))


def random_game(seed, **others):
    rng = np.random.default_rng(seed)
    numbers = {
        "rate": 10 ** rng.uniform(-3, -1, N),
        "exponent": rng.uniform(1.5, 2.5, N),
        "capacity": rng.uniform(0.5, 8, N),
        "value": rng.uniform(0.5, 2, N),
        "quality": rng.uniform(0.5, 2, N),
        "scale": rng.uniform(0.5, 2, N),
        "power": rng.uniform(0.3, 1, N),
    }
    return make(**numbers | others)


@pytest.mark.parametrize("name", NAMES[:4])
@pytest.mark.parametrize("seed", range(4))
def test_no_rate_of_a_fine_grid_is_better(seed, name):
    game = random_game(seed)
    found = beta_of(game, name)
    assert float(found.welfare) >= np.nanmax(grid(game, name)) - 1e-12
    b, s = float(found.rates), np.asarray(found.equilibrium.profile)
    assert 0 <= b <= 1
    # And the welfare is the one of its profile, written out.
    payoff, cost = game.payoff, game.cost
    spent = np.asarray(cost.rate * s**cost.exponent)
    value = np.asarray(game.value * (2 - payoff.scale * (1 + game.quality @ s) ** -payoff.exponent))
    u = value - (1 - b) * spent - b * (spent.sum() - spent) / (N - 1)
    mean = u.min() + 0.1 * u.mean() if name == "the least" else float(mechanisms.p_mean(u, POWERS[name]))
    assert float(found.welfare) == pytest.approx(mean, rel=1e-12)
    if 0 < b < 1 and not np.any(found.kinks) and name != "the least":
        assert abs(float(found.slope)) < 1e-7


@pytest.mark.parametrize("name", POWERS)
def test_identical_payoffs_and_unequal_costs_give_falkingers_beta(name):
    for seed in range(3):
        game = random_game(seed, scale=1.0, power=1.0, value=1.0, quality=1.0)
        found = beta_of(game, name)
        assert float(found.rates) == pytest.approx(1 - 1 / N, abs=1e-7)
        assert abs(float(found.slope)) < 1e-7


def test_under_vmap_over_costs_it_is_a_loop():
    game, factors = random_game(0), jnp.array([0.3, 1.0, 3.0])

    def of(factor):
        return game.replace(cost=game.cost.scaled(factor))

    together = jax.jit(jax.vmap(lambda factor: _beta_of(of(factor), 1)))(factors)
    for k, factor in enumerate(factors):
        one = beta_of(of(factor), "p=0")
        assert float(together.welfare[k]) == pytest.approx(float(one.welfare), rel=1e-13)
        assert float(together.rates[k]) == pytest.approx(float(one.rates), abs=1e-7)
        np.testing.assert_allclose(
            together.equilibrium.profile[k], one.equilibrium.profile, rtol=1e-6, atol=1e-8
        )


def test_a_maximum_at_a_kink_is_found_to_the_last_digit():
    """Agent 1 alone gives S = 1/√((1-β)c) - 1 up to τ; from 1 - β = 1/(c (1 + τ)²) on only payments rise."""
    c, capacity = 0.6, 0.7
    game = make([c, 50.0, 50.0, 50.0], 1.0, [capacity, 1.0, 1.0, 1.0])
    found = beta_of(game, "priced")
    kink = 1 - 1 / (c * (1 + capacity) ** 2)
    assert 0.1 < kink < 0.9
    assert float(found.rates) == pytest.approx(kink, abs=1e-12)
    assert found.kinks.tolist() == [True, False, False, False]
    left, right = np.diff(grid(game, "priced"))[[int(2000 * kink) - 1, int(2000 * kink) + 1]]
    assert left > 0 > right


@pytest.mark.parametrize("name", ["p=1", "p=0"])
@pytest.mark.parametrize("seed", range(6))
def test_where_agents_take_turns_welfare_jumps_and_no_better_side_is_missed(seed, name):
    """Linear costs: one agent at a time is between her bounds, and which one depends on β."""
    rng = np.random.default_rng(seed)
    game = random_game(seed, rate=10 ** rng.uniform(-2, -0.5, N), exponent=1.0, value=rng.uniform(1, 2, N))
    values = grid(game, name)
    assert float(beta_of(game, name).welfare) >= np.nanmax(values) - 1e-9


def test_where_welfare_is_undefined_it_is_not_a_number():
    """Fixed costs are so large that at every β some utility is negative."""
    game, broke = random_game(1), random_game(1, fixed=100.0)
    found = beta_of(broke, "p=0")
    assert jnp.isnan(found.welfare)
    assert float(found.rates) == 0
    assert jnp.isnan(rates_of(broke, "p=0", 0.3).welfare)
    mean = beta_of(broke, "p=1")  # the mean takes any sign
    assert float(mean.welfare) == pytest.approx(float(beta_of(game, "p=1").welfare) - 100, abs=1e-9)


@pytest.mark.parametrize("name", ["p=0", "p=-5"])
def test_where_it_is_undefined_at_some_rates_the_others_are_searched(name):
    """If β is small, agent 1 bears too much of her fixed cost; if it is large, the others do."""
    game = make([0.05, 9.0, 9.0, 9.0], 1.5, 4.0, best=1.0, fixed=[0.9, 0.0, 0.0, 0.0])
    values = grid(game, name)
    assert 0.05 < np.mean(np.isnan(values)) < 0.95
    assert float(beta_of(game, name).welfare) >= np.nanmax(values) - 1e-12


@pytest.mark.parametrize("name", ["p=1", "p=-5", "the least"])
def test_designed_rates_are_never_worse_than_their_start(name):
    for seed in range(2):
        game = random_game(seed)
        for start in (0.0, 1.0, beta_of(game, name).rates, np.array([0.1, 0.9, 0.0, 1.0])):
            found = rates_of(game, name, start)
            begun = float(_at(game, NAMES.index(name), np.broadcast_to(np.asarray(start, float), N))[0])
            assert not float(found.welfare) < begun
            rates = np.asarray(found.rates)
            assert np.all((rates >= 0) & (rates <= 1))
            again = float(_at(game, NAMES.index(name), rates)[0])
            assert float(found.welfare) == pytest.approx(again, rel=1e-12)


def test_the_largest_mean_is_that_of_personal_rates():
    """Σ u has the bound max Σ u, which personal rates attain: ascent gets close to it, and never above."""
    game = random_game(3)
    personal = mechanisms.personal_rates(game, transfers="equal")
    best, one = np.asarray(personal.utilities).mean(), beta_of(game, "p=1")
    found = rates_of(game, "p=1", one.rates)
    assert float(one.welfare) < best - 1e-5
    assert best - 0.2 * (best - float(one.welfare)) < float(found.welfare) <= best + 1e-12
    stays = rates_of(game, "p=1", personal.mechanism.rates)
    assert float(stays.welfare) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_finite_differences(name):
    game, rates, step, k = random_game(2), np.array([0.3, 0.5, 0.2, 0.6]), 1e-5, NAMES.index(name)
    slope = np.asarray(_at(game, k, rates)[1])
    moves = step * np.eye(N)
    direct = [float(_at(game, k, rates + e)[0] - _at(game, k, rates - e)[0]) / (2 * step) for e in moves]
    np.testing.assert_allclose(slope, direct, rtol=1e-5, atol=1e-6 * np.abs(slope).max())


def test_the_rule_announces_what_was_designed():
    """Also for p as a number."""
    rule = rules.designed.having(p=0)
    game = random_game(1)
    assert float(rule(game).rates) == pytest.approx(float(beta_of(game, "p=0").rates), abs=1e-7)
    assert float(rule(random_game(1, fixed=100.0)).rates) == 0


def test_bad_input():
    game = random_game(0)
    single = games.subset(game, [0])
    for call in (lambda g: mechanisms.design_beta(g, 1), lambda g: mechanisms.design_rates(g, 1, 0.0)):
        with pytest.raises(ValueError, match="at least two"):
            call(single)
    with pytest.raises(ValueError, match=r"`p` must lie in \[-inf, 1\]"):
        jax.eval_shape(lambda game: mechanisms.design_beta(game, 1.5), game)
    for start in (1.5, -0.1, [0.5, 0.5], np.nan):
        with pytest.raises(ValueError, match=r"`beta` must lie in \[0, 1\]"):
            mechanisms.design_rates(game, 1, start)


SIGMOID = games.check(
    games.Game(
        games.TotalPayoff(lambda S: 1 / (1 + jnp.exp(-(S - 50) / 2))),
        games.LinearCost([0.002, 0.004, 0.006]),
        [100.0] * 3,
    )
)
CLIPPED = make(
    [0.02, 0.05, 0.02, 0.1], 1.0, [20.0, 50.0, 50.0, 1.0],
    best=[0.6, 0.7, 0.8, 0.5], scale=[2.0, 3.0, 8.0, 9.0], power=0.7, shift=0.0,
)  # fmt: skip


def of_sigmoid():
    best, ascent = (
        jax.jit(lambda g: mechanisms.design_beta(g, 1)),
        jax.jit(lambda g: mechanisms.design_rates(g, 1, 0.5, steps=20)),
    )
    return SIGMOID, best(SIGMOID), ascent(SIGMOID)


def of_clipped():
    return CLIPPED, beta_of(CLIPPED, "p=1"), rates_of(CLIPPED, "p=1", 0.5)


@pytest.mark.parametrize("designed", [of_sigmoid, of_clipped])
def test_only_rates_with_a_certified_equilibrium_are_announced(designed):
    """β ≈ 1 of the sigmoid has W = .933 in a profile that is none, .957 is certified near β = 2/3."""
    game, found, rates = designed()
    assert found.equilibrium.converged
    best = -np.inf
    for beta in np.linspace(0, 1, 25):
        there = solve(mechanisms.under_mechanism(game, beta))
        if there.converged:
            best = max(best, np.mean(utilities(game, np.full(game.n, beta), there.profile)))
    assert float(found.welfare) >= best - 1e-9
    if game is SIGMOID:
        assert float(found.welfare) > 0.956
    assert rates.equilibrium.converged
    again = np.mean(utilities(game, rates.rates, rates.equilibrium.profile))
    assert again == pytest.approx(float(rates.welfare), rel=1e-12)


def test_the_differentiable_profile_is_that_of_solve():
    profile = jax.jit(implicit.profile)
    for beta in (0.0, 0.3, 0.7, 0.95):
        game = mechanisms.under_mechanism(SIGMOID, beta)
        np.testing.assert_array_equal(profile(game), solve(game).profile)
