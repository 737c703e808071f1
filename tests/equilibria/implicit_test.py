"""Derivatives of equilibria against finite differences, closed forms, and at kinks."""

from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.equilibria import implicit


class Look(NamedTuple):
    profile: jax.Array  # [n]
    forward: jax.Array  # [n, m] by every number in the game
    reverse: jax.Array
    kinks: jax.Array  # [n]


@jax.jit
def look(game):
    """Profile, derivatives in both modes, and kinks, from one compiled program."""
    flat, unravel = jax.flatten_util.ravel_pytree(game)
    s, push = jax.linearize(lambda x: implicit.profile(unravel(x)), flat)
    (reverse,) = jax.vmap(jax.linear_transpose(push, flat))(jnp.eye(len(s), dtype=s.dtype))
    return Look(
        s, jax.vmap(push, out_axes=1)(jnp.eye(len(flat), dtype=flat.dtype)), reverse, implicit.kinks(game, s)
    )


VALUE, QUALITY = [1.0, 2.0, 3.0, 0.5], [1.0, 2.0, 0.5, 1.0]
LAW = games.PowerLaw(1.0, [1.0, 2.0, 1.5, 0.7], [0.5, 0.8, 0.6, 0.9], [1.0, 2.0, 1.0, 3.0])
Q = np.random.default_rng(0).dirichlet(np.ones(3), 4) * 0.3
CURVE = games.MeasuredCurve([0.0, 3.0, 9.0, 30.0], [0.0, 0.3, 0.69, 1.215], [0.12, 0.08, 0.05, 0.0])
POWER = games.PowerCost([1e-3, 2e-3, 1e-3, 5e-2], [2.0, 1.5, 2.5, 2.0])
MIXED = games.PowerCost([1e-3, 2e-3, 1e-2, 0.5], [2.0, 1.5, 1.0, 1.0], 0.1)  # the third decides S
LINEAR = games.LinearCost([1e-2, 1.1e-3, 0.1, 0.5], [0.0, 0.1, 0.2, 0.3])
RECORDS = games.OrderedCost(
    [[0.001, 0.002, 0.2, 0.3], [0.001, 0.01, 0.3, 0.4], [0.002, 0.03, 0.2, 0.3], [0.4, 0.5, 0.6, 0.7]]
)
BOUND = games.GeneralizationBound(1.0, [0.4, 0.5, 0.6, 0.3])
CUSTOM = games.CustomPayoff(lambda s: jnp.log1p(s @ jnp.asarray(Q) @ jnp.asarray(Q).T + s.sum()))
SEPARABLE = games.Separable(lambda i, x: jnp.log1p(x), lambda s: s.sum() - s)
CASES = {  # payoff, cost, capacity, S₀, and which agents are at 0, in between, or held
    "power": (LAW, POWER, [50.0, 2.0, 50.0, 50.0], 3.0, "-^--"),
    "mixed": (LAW, MIXED, [50.0, 2.0, 50.0, 50.0], 3.0, "-^-0"),
    "linear": (LAW, LINEAR, [50.0, 0.5, 50.0, 50.0], 3.0, "-^00"),
    "everybody at a bound": (LAW, LINEAR, [3.0, 0.9, 4.0, 1.0], 0.0, "^^00"),
    "records": (LAW, RECORDS, [3.0, 3.0, 3.0, 3.0], 3.0, "---0"),
    "bound": (BOUND, POWER, [50.0, 2.0, 50.0, 50.0], 60.0, "-^--"),
    "measured": (CURVE, POWER, [50.0, 2.0, 50.0, 50.0], 0.5, "-^--"),
    "coverage": (games.RandomCoverage(Q), POWER, [50.0, 2.0, 50.0, 50.0], 0.0, "-^--"),
    "coverage, mixed": (games.RandomCoverage(Q), MIXED, [50.0, 2.0, 50.0, 50.0], 0.0, "-^-0"),
    "linear payoff": (games.LinearPayoff(Q @ Q.T), POWER, [50.0, 2.0, 5e3, 50.0], 0.0, "-^--"),
    "custom": (CUSTOM, POWER, [50.0, 2.0, 50.0, 50.0], 0.0, "-^--"),
    "separable": (SEPARABLE, POWER, [50.0, 2.0, 50.0, 50.0], 0.0, "-^--"),
}  # fmt: skip


def make(name):
    payoff, cost, capacity, held, _ = CASES[name]
    return games.check(games.Game(payoff, cost, capacity, VALUE, QUALITY, held))


def like_power(rate, exponent, capacity):
    """The payoff is 1 - 1 / (1 + S); `look` has one program for these games, "power" and "mixed"."""
    law = registry.per_agent(games.PowerLaw(1.0, 1.0, 1.0, 1.0), 4).replace(best=1.0)
    return games.check(games.Game(law, games.PowerCost(rate, exponent), capacity, np.ones(4), np.ones(4)))


def first_rate(game):
    """The number of the first rate among the numbers of the game."""
    return sum(np.size(x) for x in jax.tree.leaves(game.payoff))


def differences(game, step):
    """[n, m] central finite differences by every number in the game."""
    flat, unravel = jax.flatten_util.ravel_pytree(game)
    columns = []
    for change in np.diag(step * np.maximum(1e-2, np.abs(flat))):
        up, down = (np.asarray(look(unravel(flat + sign * change)).profile) for sign in (1, -1))
        columns.append((up - down) / (2 * change.sum()))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("name", CASES)
def test_forward_and_reverse_are_finite_differences_in_every_number_of_the_game(name):
    """Rates, exponents, values, weights, S₀, capacities and payoffs at once."""
    game = make(name)
    found, flat = look(game), np.asarray(jax.flatten_util.ravel_pytree(game)[0])
    s, expected = np.asarray(found.profile), CASES[name][-1]
    assert "".join(np.where(s <= 0, "0", np.where(s >= game.capacity * (1 - 1e-15), "^", "-"))) == expected
    assert not np.any(found.kinks)
    marked = jax.tree.map(np.zeros_like, game)
    if isinstance(game.cost, games.PowerCost):  # linear costs begin at exponent 1, which is no inner point
        marked = marked.replace(
            cost=marked.cost.replace(exponent=1.0 * (np.asarray(game.cost.exponent) == 1.0))
        )
    if not game.payoff.of_total:  # S₀ is part of payoffs of S only
        marked = marked.replace(held=np.ones(()))
    use = np.asarray(jax.flatten_util.ravel_pytree(marked)[0]) == 0
    # A best response without a known slope is the top of a grid: right to the root of a rounding only.
    step, error = (1e-3, 1e-4) if name == "separable" else (1e-6, 1e-6)
    direct = differences(game, step)
    scale = np.abs(direct * flat).max() / np.maximum(np.abs(flat), 1e-2)  # errors of a relative step
    for slope in (found.forward, found.reverse):
        assert np.abs((np.asarray(slope) - direct) / scale)[:, use].max() < error


def test_closed_form_with_linear_costs():
    """v / (1 + S₀ + w_1 s_1 + w_2 τ_2) w_1 = c_1: agent 2 is held at her capacity, agent 3 stays out."""
    quality = jnp.array([2.0, 1.0, 1.0])
    cost = games.LinearCost(jnp.array([0.2, 0.01, 0.5]), jnp.zeros(()))
    game = games.check(games.Game(games.TotalPayoff(jnp.log1p), cost, [50.0, 4.0, 9.0], 3.0, quality, 1.5))

    def direct(game):
        w, c = game.quality, game.cost.rate
        s_1 = (game.value * w[0] / c[0] - 1.0 - game.held - w[1] * game.capacity[1]) / w[0]
        return jnp.stack([s_1, game.capacity[1], 0.0 * s_1])

    np.testing.assert_allclose(look(game).profile, direct(game), rtol=1e-13)
    exact = jnp.concatenate([x.reshape(3, -1) for x in jax.tree.leaves(jax.jacfwd(direct)(game))], axis=1)
    np.testing.assert_allclose(look(game).forward, exact, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("c", [1e-4, 0.3, 1e6])
def test_closed_form_of_equal_agents_with_quadratic_costs(c):
    """2 c s (1 + n s)² = 1 if all change together."""
    n = len(VALUE)
    game = like_power(np.full(n, c), np.full(n, 2.0), np.full(n, 1e3))
    found, first = look(game), first_rate(game)
    s = np.asarray(found.profile)[0]
    assert 2 * c * s * (1 + n * s) ** 2 == pytest.approx(1, rel=1e-9)
    exact = -s * (1 + n * s) / (c * (1 + 3 * n * s))
    for slope in (found.forward, found.reverse):
        assert np.asarray(slope)[0, first : first + n].sum() == pytest.approx(exact, rel=1e-9)


def test_vmap_over_costs_is_a_loop():
    game = make("mixed")
    rates = np.asarray(game.cost.rate) * np.linspace(0.9, 1.1, 5)[:, None]

    def of(rate):
        return game.replace(cost=game.cost.replace(rate=rate))

    slopes = jax.jit(jax.vmap(jax.grad(lambda rate: jnp.sum(implicit.profile(of(rate)) ** 2))))(rates)
    first = first_rate(game)
    for rate, slope in zip(rates, slopes, strict=True):
        found = look(of(rate))
        direct = 2 * np.asarray(found.profile) @ np.asarray(found.forward)[:, first : first + 4]
        np.testing.assert_allclose(slope, direct, rtol=1e-9, atol=1e-9)


kinks = jax.jit(implicit.kinks)


def one_sided(game, change, step=1e-6):
    """The derivatives of the profile from the left and from the right."""
    middle, less, more = (np.asarray(look(x).profile) for x in (game, change(-step), change(step)))
    return (middle - less) / step, (more - middle) / step


def at_kink(name):
    """A game, a one-number change of it, and the agents at a kink. The last two agents contribute nothing."""
    if name == "enters":  # 2 · ⅛ · s = 1 / (1 + s)² at s = 1: there the next sample is worth ¼
        game = like_power([0.125, 0.25, 9.0, 9.0], [2.0, 1.0, 1.0, 1.0], [9.0] * 4)
        return game, ("cost", "rate", 1), [False, True, False, False]
    if name == "reaches her capacity":
        game = like_power([0.125, 0.9, 9.0, 9.0], [2.0, 1.0, 1.0, 1.0], [1.0, 9.0, 9.0, 9.0])
        return game, ("capacity", None, 0), [True, False, False, False]
    if name == "takes turns":
        game = like_power([0.25, 0.25, 9.0, 9.0], [1.0] * 4, [2.0, 3.0, 9.0, 9.0])
        return game, ("cost", "rate", 0), [True, True, False, False]
    # Two records shared; the third costs what a third sample is worth, 1 / (1 + 2)².
    records = [[0.05, 0.1, 1 / 9, 0.2], [0.7, 0.8, 0.9, 1.0], [0.7, 0.8, 0.9, 1.0], [0.7, 0.8, 0.9, 1.0]]
    game = like_power([1.0] * 4, [1.0] * 4, [3.0] * 4).replace(cost=games.OrderedCost(records))
    return games.check(game), ("value", None, 0), [True, False, False, False]


@pytest.mark.parametrize("name", ["enters", "reaches her capacity", "takes turns", "the next record"])
def test_at_a_kink_one_sided_differences_differ_and_the_agents_are_named(name):
    game, (field, part, i), named = at_kink(name)

    def change(step):
        number, one = getattr(game, field), step * np.eye(4)[i]
        if part:
            return game.replace(**{field: number.replace(**{part: np.asarray(getattr(number, part)) + one})})
        return game.replace(**{field: np.asarray(number) + one})

    left, right = one_sided(game, change)
    assert np.max(np.abs(left - right)) > 0.2
    found = look(game)
    assert found.kinks.tolist() == named
    assert kinks(game, found.profile, 1e-9).tolist() == named
    for step in (-1e-3, 1e-3):  # but not on the sides
        assert not np.any(look(change(step)).kinks)


def test_who_is_at_a_whole_number_of_records_stays():
    game = make("records")
    s = np.asarray(look(game).profile)
    assert s[:2].tolist() == [2.0, 2.0]  # not at a bound, but the next record costs more than it brings
    assert 1 < s[2] < 2
    slope = np.asarray(look(game).forward)
    assert np.all(slope[[0, 1, 3]] == 0)
    assert np.abs(slope[2]).max() > 1


def test_more_agents_than_a_dense_system_can_hold():
    def derivative(game):
        return jax.jvp(lambda v: implicit.profile(game.replace(value=v)), (jnp.ones(()),), (jnp.ones(()),))

    many = games.Game(
        games.RandomCoverage(jnp.full((2049, 1), 0.1)), games.PowerCost(0.1, 2.0), jnp.ones(2049)
    )
    with pytest.raises(ValueError, match=r"payoff of S or at most 2048 agents, got 2049"):
        jax.eval_shape(derivative, many)
    fewer = games.subset(many, np.arange(2048))
    assert jax.eval_shape(derivative, fewer)[1].shape == (2048,)
    of_total = many.replace(payoff=games.PowerLaw(1.0, 1.0, 0.5, 1.0))
    (s, *_), (slope, *_) = (np.asarray(x) for x in jax.jit(derivative)(of_total))
    worth, bend = 0.5 * (1 + 2049 * s) ** -1.5, 0.75 * 2049 * (1 + 2049 * s) ** -2.5
    assert worth == pytest.approx(0.2 * s, rel=1e-9)  # equal agents: v a'(S) = 2 c s
    assert slope == pytest.approx(worth / (0.2 + bend), rel=1e-9)


def test_games_that_were_not_checked_have_derivatives_too():
    """Parameters may be Python integers."""

    def total(rate):
        game = games.Game(games.PowerLaw(1, 1, 1, 1), games.LinearCost(rate, 0), np.array([5, 5]), 4, 1, 0)
        return implicit.profile(game).sum()

    assert float(jax.jit(jax.grad(total))(jnp.array([1.0, 2.0]))[0]) == pytest.approx(-1.0)  # S = √(4/c) - 1


def test_single_precision():
    with jax.enable_x64(False):
        game = jax.tree.map(lambda x: np.asarray(x, np.float32), make("mixed"))
        found = look(game)
    assert found.profile.dtype == found.forward.dtype == np.float32
    assert not np.any(found.kinks)
    exact = np.asarray(look(make("mixed")).forward)
    for slope in (found.forward, found.reverse):
        assert np.all(np.abs(np.asarray(slope) - exact) <= 2e-3 * np.abs(exact).max(axis=0))
