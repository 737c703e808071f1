import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from fedgame import games
from fedgame.games import curves
from fedgame.mechanisms import refunds, rules
from fedgame.protocols import fedbr, literal

SIZES = np.array([0.0, 10, 20, 50, 100, 200, 500, 1000])
TRACE = jax.jit(fedbr.trace, static_argnames="steps")
ACCURACY = np.array([0.10, 0.37, 0.565, 0.69, 0.796, 0.861, 0.929, 0.947])


def a_game(rates, capacity=100.0):
    payoff = curves.fit("concave", SIZES, ACCURACY).payoff
    return games.check(games.Game(payoff, games.LinearCost(rates), np.full(len(rates), capacity)))


def between(sizes, accuracy, total):
    """ã at `total` by hand."""
    if total <= sizes[0]:
        return accuracy[0]
    for k in range(1, len(sizes)):
        if total <= sizes[k]:
            share = (total - sizes[k - 1]) / (sizes[k] - sizes[k - 1])
            return (1 - share) * accuracy[k - 1] + share * accuracy[k]
    return accuracy[-1]


def algorithms_1_and_2(s, capacity, cost, beta, sizes, accuracy, interval, delta, steps):
    """The printed loops, one agent after the other: Algorithm 1 with `beta`, Algorithm 2 if it is None."""
    path = [list(s)]
    for _ in range(steps):
        s, new = path[-1], []
        total = sum(s)
        rise = between(sizes, accuracy, total + interval) - between(sizes, accuracy, total)
        for i in range(len(s)):
            slope = rise / interval - (cost[i] if beta is None else (1 - beta[i]) * cost[i])
            if (s[i] == 0 and slope < 0) or (s[i] == capacity[i] and slope > 0):
                new.append(s[i])
                continue
            wanted = (s[i] + delta * slope) / interval
            low = int(wanted // 1)
            if wanted - low == 0.5:
                low += low % 2
            elif wanted - low > 0.5:
                low += 1
            new.append(min(max(low * interval, 0.0), capacity[i]))
        path.append(new)
    return path


@st.composite
def cases(draw):
    n = draw(st.integers(1, 6))
    interval = draw(st.sampled_from([1, 2, 5, 10]))
    capacity = [float(draw(st.integers(0, 37))) for _ in range(n)]
    some = st.sampled_from([0.0005, 0.001, 0.002, 0.005, 0.011, 0.03])
    cost = [draw(some)] * n if draw(st.booleans()) else [draw(some) for _ in range(n)]
    rate = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])
    kind = draw(st.sampled_from(["none", "one", "personal"]))
    beta = None if kind == "none" or n == 1 else [draw(rate)] * n
    if beta and kind == "personal":
        beta = [draw(rate) for _ in range(n)]
    bounds = draw(st.sampled_from(["low", "high", "inside"]))
    inside = {"low": 0.0, "high": 1.0, "inside": 0.5}[bounds]
    s = [min(inside * c // interval * interval if bounds == "inside" else inside * c, c) for c in capacity]
    sizes = [0.0, 8.0, 16.0, 32.0, 64.0]  # dyadic, so that no rounding error decides a tie
    accuracy = sorted(draw(st.lists(st.integers(5, 60), min_size=5, max_size=5)))
    scale = draw(st.sampled_from([0.5, 1.0, 4.0]))
    return s, capacity, cost, beta, sizes, [a / 64 for a in accuracy], interval, scale


@hypothesis.settings(max_examples=300)
@hypothesis.given(cases())
def test_printed_loops_agree_step_by_step(case):
    s, capacity, cost, beta, sizes, accuracy, interval, scale = case
    mechanism = refunds.Refunds(0.0 if beta is None else np.asarray(beta))
    delta = scale * interval / float(np.mean(cost))
    printed = literal.prepare(
        games.Game(None, games.LinearCost(np.array(cost)), np.array(capacity)),
        sizes, accuracy, interval, mechanism, None if scale == 1.0 else delta,
    )  # fmt: skip
    assert printed.step_size == delta
    path = literal.trace(printed, s, 12)
    expected = algorithms_1_and_2(s, capacity, cost, beta, sizes, accuracy, interval, delta, 12)
    np.testing.assert_array_equal(path, expected)


HIGH, FALKINGER = np.full(10, 70.0), refunds.Refunds(0.9)


def test_rounding_holds_up_high_what_the_continuous_dynamics_bring_down():
    """β = 1 - 1/n, all at 70 of 100: S* is 179, |∂u| at most c/n = 0.0005, and δ|∂u| ≤ Δs/n < Δs/2."""
    game = a_game([0.005] * 10)
    printed = literal.prepare(game, SIZES, ACCURACY, 10, FALKINGER)
    path = literal.trace(printed, HIGH, 100)
    assert np.all(path == 70.0)
    assert literal.ending(printed, path) == (1, 0, 10)
    played = refunds.under_mechanism(game, 0.9)
    continuous = np.asarray(TRACE(played, HIGH, steps=100))[-1]
    assert np.sum(continuous) == pytest.approx(179.18, abs=0.01)
    # Without payments a sample costs c: there they do come down, and jump over S* = 32 all together.
    free = literal.prepare(game, SIZES, ACCURACY, 10)
    path = literal.trace(free, HIGH, 100)
    assert np.sum(path, axis=1)[:14].tolist() == [700, 600, 500, *[400, 300, 200, 100, 0] * 2, 400]
    assert literal.ending(free, path) == (5, 3, 0)


def test_many_agents_overshoot_together():
    """100 agents respond to the same S with the same δ: rounded they cycle, continuous they converge."""
    game = a_game(np.full(100, 0.005))
    start = np.full(100, 50.0)
    printed = literal.prepare(game, SIZES, ACCURACY, 10)
    path = literal.trace(printed, start, 100)
    end = literal.ending(printed, path)
    assert end.period > 1
    round_trip = np.sum(path[-end.period :], axis=1)
    assert np.max(round_trip) > 10 * 31.66
    assert np.min(round_trip) == 0
    assert np.sum(np.asarray(TRACE(game, start, steps=100))[-1]) == pytest.approx(31.66, abs=0.01)


def test_endings_by_hand():
    printed = literal.prepare(a_game([0.005] * 2), SIZES, ACCURACY, 10)
    paths = {
        (1, 2): [[0, 0], [10, 0], [20, 20], [20, 20], [20, 20]],
        (2, 1): [[0, 0], [10, 0], [20, 20], [10, 0], [20, 20]],
        (3, 0): [[0, 0], [10, 0], [20, 20], [0, 0]],
        (0, 2): [[0, 0], [10, 0], [20, 20]],
        (0, 0): [[0, 0]],
    }
    for expected, path in paths.items():
        assert literal.ending(printed, np.asarray(path, float))[:2] == expected


def test_dead_agents_are_those_whom_rounding_holds():
    """At S = 40, ã(50) - ã(40) = 0.125/3: slopes 0.0041667 - c; dead where 0 < δ|slope| < 5, δ = 10/c̄."""
    rates = [0.002, 0.004, 0.0045, 0.0071, 0.0074]  # c̄ = 0.005, δ = 2000: moves 4.3, 0.3, -0.7, -5.9, -6.5
    printed = literal.prepare(a_game(rates, 20.0), SIZES, ACCURACY, 10)
    at = np.array([20.0, 10.0, 10.0, 0.0, 0.0])  # the first wants more than she has, the last two less than 0
    assert literal.ending(printed, at[None]).dead == 2
    assert literal.ending(printed, np.array([[10.0, 10.0, 10.0, 10.0, 0.0]])).dead == 3


def test_raw_curve_between_and_beyond_what_was_measured():
    printed = literal.prepare(a_game([0.005] * 2), SIZES[1:], ACCURACY[1:], 10)
    found = [literal.measured(printed, total) for total in (0.0, 10.0, 35.0, 1000.0, 5000.0)]
    np.testing.assert_allclose(found, [0.37, 0.37, 0.6275, 0.947, 0.947], rtol=1e-14)
    np.testing.assert_array_equal(literal.slopes(printed, 2000.0), [-0.005, -0.005])


@pytest.mark.parametrize("rule", [rules.none, rules.beta_star, rules.personal])
def test_the_plan_has_path_and_ending(rule):
    game = a_game(np.linspace(0.003, 0.007, 7))
    protocol = literal.Literal(SIZES, ACCURACY, 10, rule, steps=30)
    announced = protocol.rule.announced(game)
    plan = protocol.start(game, announced, jax.random.key(3))
    assert protocol.title == fedbr.FedBR(rule, 30).title
    assert protocol.ending(plan) == literal.describe(plan.memory)
    assert plan.path.shape == (31, 7)
    np.testing.assert_array_equal(plan.path[0], fedbr.random_start(jax.random.key(3), game.capacity))
    np.testing.assert_array_equal(plan.path % 10, 0)
    np.testing.assert_array_equal(plan.path[-1], plan.profile)
    printed = literal.prepare(game, SIZES, ACCURACY, 10, announced.mechanism)
    assert plan.memory == literal.ending(printed, plan.path)


GAME = a_game([0.005] * 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((a_game([0.0, 0.005]), SIZES, ACCURACY, 10), "linear costs above 0"),
        ((GAME.replace(cost=games.PowerCost(0.1, 2.0)), SIZES, ACCURACY, 10), "linear costs above 0"),
        ((GAME.replace(value=2.0), SIZES, ACCURACY, 10), "no quality, value"),
        ((GAME.replace(held=2.0), SIZES, ACCURACY, 10), "no quality, value"),
        ((GAME, SIZES[::-1], ACCURACY, 10), "`sizes` must increase"),
        ((GAME, SIZES, ACCURACY[1:], 10), "one accuracy each"),
        ((GAME, SIZES, np.where(SIZES > 50, np.nan, ACCURACY), 10), "one accuracy each"),
        ((GAME, SIZES, ACCURACY, 0), "above 0"),
        ((GAME, SIZES, ACCURACY, 10, refunds.Refunds(), -1.0), "above 0"),
        ((GAME, SIZES, ACCURACY, 10, refunds.Refunds([0.1] * 3)), "`beta` must lie"),
        ((a_game([0.005]), SIZES, ACCURACY, 10, refunds.Refunds(0.5)), "at least two"),
    ],
)
def test_what_the_algorithms_do_not_know_is_said(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        literal.prepare(*arguments)


@pytest.mark.parametrize(
    ("game", "options", "complaint"),
    [
        (a_game([0.0, 0.005]), {}, "linear costs above 0"),
        (GAME, {"sizes": SIZES[::-1]}, "`sizes` must increase"),
        (GAME, {"rule": rules.price.having(price=0.001)}, "for refunds of costs only, not for Price"),
    ],
)
def test_a_game_they_do_not_know_is_refused_when_it_starts(game, options, complaint):
    protocol = literal.Literal(**{"sizes": SIZES, "accuracy": ACCURACY, "interval": 10, **options})
    with pytest.raises(ValueError, match=complaint):
        protocol.start(game, protocol.rule.announced(game), jax.random.key(0))
    with pytest.raises(ValueError, match="`interval` must be a number, greater than 0"):
        literal.Literal(SIZES, ACCURACY, 0)
