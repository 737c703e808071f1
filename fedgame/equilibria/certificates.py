"""Proofs that a profile is an equilibrium, sharing no code with the solvers that find it.

A vanishing gradient proves nothing where utilities are not concave; the Nash gap, how much an agent
could still gain by any deviation of her own, does (Definition 1).

How small a gap has to be is measured by what the agent's own decision moves (`Evidence.stake`), so a
verdict is the same in another currency, in another unit of samples, beside fixed costs and beside agents
who could give far more than anybody wants. Only whether a supremum at a jump is attained (`Response.limit`)
is asked at round numbers, which are others in another unit.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import game as games

# Shares of τ_i at which a payoff that may be anything is first looked at: evenly spaced ones, and, as a
# capacity may be far more than is wanted, some on a logarithmic scale.
_SHARES = np.union1d(np.linspace(0.0, 1.0, 1025), np.geomspace(1e-30, 1e-3, 361))
POINTS = len(_SHARES)
_PEAKS = 64  # the best local maxima of the first look, each looked at more closely
_ZOOM = 33  # points of a closer look; every one narrows the interval 16 times
_LOOKS = 3  # closer looks before the interval is halved, down to neighbouring numbers if need be
_HALVINGS = 200
_DIGITS = {8: 8, 4: 3}  # digits, by bytes of a number, of which the place of a jump counts as round
_UNRESOLVED = 1e-3  # share of what an agent's decision moves, beyond which rounding leaves no verdict


class Response(NamedTuple):
    """The best that ONE agent can do, or all of them, [n] each; or peaks of her utility, [k]."""

    contribution: jax.Array  # samples
    utility: jax.Array  # there, as it was when it was found: the largest of all evaluated
    # The same contribution, or next to a jump a few roundings further on its better side, where utility is
    # the same for everybody who computes it.
    safe: jax.Array
    # +1 (-1) if utilities come that close only just above (below) a jump, and what they approach is
    # attained by no contribution; 0 if it is attained.
    limit: jax.Array


class Evidence(NamedTuple):
    """What is known of a profile; all [n]. Utilities, gaps, stakes and rounding in the agents' currency."""

    gap: jax.Array  # max_x u_i(x, s_-i) - u_i(s), ≥ 0
    utility: jax.Array  # u_i(s)
    # The most that her own decision moves, up or down: the larger of |v_i (a_i(x) - a_i(0))| and
    # c_i(x) - c_i(0), at x = s_i and at her best response.
    stake: jax.Array
    rounding: jax.Array  # 8 ε (|v_i a_i(s)| + |c_i(s_i)|), at least: smaller gaps may be none
    told: jax.Array  # whether `rounding` is small beside what decisions can move
    response: jax.Array  # a best contribution, samples
    limit: jax.Array  # see `Response`


@jax.jit
def best_response(game: games.Game, s: jax.Array) -> jax.Array:
    """f_i(s_-i) for every agent at once: a global maximiser of u_i over [0, τ_i] (Proposition 1).

    Where a_i is known to be 0 first and concave from some contribution on (all of Section 2.1,
    clipped or not, and measured curves): the better of 0 and the root of the own gradient, by
    bisection down to 10⁻³⁰ τ_i. Payoffs given as functions: a grid of 1,386 contributions, then closer looks
    around its 64 best local maxima, down to the two neighbouring floating point numbers between which a
    payoff jumps. What is missed is only a peak that hides between two points of the grid. Of all points
    that were evaluated the best is returned, at a jump a few roundings further on its better side. Costs
    O(n·m·log(1/ε)) time and O(n·m) memory.

    Args:
      game: n agents.
      s: [n] profile.

    Returns:
      [n] contributions; 0 if nothing is better, else where several are equally good, one of them. Not to be
      differentiated: see `implicit`.
    """
    return games.over_agents(lambda agent, own, rest: _best(agent, own, rest)[0].safe)(
        game, games.as_profile(s)
    )


@jax.jit
def best_utility(game: games.Game, s: jax.Array) -> jax.Array:
    """max_x u_i(x, s_-i), [n], in the agents' currency."""
    return games.over_agents(lambda agent, own, rest: _best(agent, own, rest)[0].utility)(
        game, games.as_profile(s)
    )


@jax.jit
def examine(game: games.Game, s: jax.Array) -> Evidence:
    """Nash gaps of all agents, and what they are to be measured by.

    Gaps can be differentiated in both modes: best responses count as fixed (the envelope theorem).
    """
    s = games.as_profile(s)
    found, might, spent = games.over_agents(_examine_one)(game, s)
    # What all decisions together move for her, from nobody sharing anything to all what they might. Not only
    # her own: one who gives next to nothing is not in doubt for that.
    nothing = games.payoff_values(game, jnp.zeros_like(s))

    def gained(s: jax.Array) -> jax.Array:
        return _number(game.value * jnp.abs(games.payoff_values(game, s) - nothing))

    moved = jnp.maximum(jnp.maximum(gained(s), gained(might)), jnp.maximum(spent, found.stake))
    hidden = (moved > 0) & (found.rounding > _UNRESOLVED * moved)
    if not game.payoff.concave:  # nobody knows what they might give: all they have moves counts, for less
        everything = jnp.broadcast_to(jnp.asarray(game.capacity, s.dtype), s.shape)
        cost = games.incurred_costs(game, everything) - games.incurred_costs(game, jnp.zeros_like(s))
        least = max(1e-6, 64.0 * float(jnp.finfo(s.dtype).eps))
        hidden &= found.rounding > least * jnp.maximum(gained(everything), _number(cost))
    return found._replace(told=~(hidden & (game.capacity > 0)))


def _number(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, 0.0)


def _examine_one(agent: games.Game, own: jax.Array, rest: Any) -> tuple[Evidence, jax.Array, jax.Array]:
    """ONE agent's evidence, the most that she might give, and what that might cost."""
    best, reach = _best(*jax.lax.stop_gradient((agent, own, rest)))
    points = jnp.stack([jnp.zeros_like(own), own, best.contribution])
    payoffs, costs = jax.vmap(lambda x: _parts(agent, x, rest))(points)
    now, again = payoffs[1] - costs[1], payoffs[2] - costs[2]
    # The value of when it was found, with the derivative that it has here.
    utility = best.utility + jnp.where(jnp.isfinite(again), again - jax.lax.stop_gradient(again), 0.0)
    gained, spent = jnp.abs(payoffs - payoffs[0]), jnp.abs(costs - costs[0])
    stake = jnp.max(jnp.maximum(_number(gained), spent))
    ceiling = _ceiling(agent, own.dtype)
    size = jnp.maximum(jnp.abs(payoffs[1]), ceiling) + jnp.abs(costs[1])
    rounding = 8.0 * jnp.finfo(own.dtype).eps * size
    # With a bounded payoff all she has, else what she might want. Its cost as if its last sample's were that
    # of all, for a fixed part may have hidden differences; more than all there is to gain is no measure.
    most = jnp.where(ceiling > 0, jnp.asarray(agent.capacity, own.dtype), reach)
    spent = jnp.abs(jax.grad(agent.cost.value)(most)) * most
    spent = jnp.where(ceiling > 0, jnp.minimum(spent, ceiling), spent)
    # What she does already may be as good as a supremum elsewhere that nothing attains.
    tie = (now >= best.utility) & (jnp.abs(own - best.contribution) > 1e-6 * best.contribution)
    limit = jnp.where(tie, 0.0, best.limit)
    gap = jnp.maximum(utility - now, 0.0)
    found = Evidence(gap, now, stake, rounding, jnp.asarray(True), best.safe, limit)
    return found, most, _number(spent)


def _ceiling(agent: games.Game, dtype: Any) -> jax.Array:
    """v_i times what a concave payoff of the total comes close to with endless data; 0 if it is not known.

    Where data are few a payoff is the difference of numbers as large as that, and rounded like them.
    """
    if not (agent.payoff.of_total and agent.payoff.concave):
        return jnp.zeros((), dtype)
    much, more = jnp.abs(agent.value * jax.vmap(agent.payoff.curve)(jnp.asarray([1e28, 1e30], dtype)))
    return jnp.where(jnp.abs(more - much) <= 1e-3 * more, _number(more), 0.0)


def nash_gap(game: games.Game, s: jax.Array) -> jax.Array:
    """max_x u_i(x, s_-i) - u_i(s) for every agent, [n], ≥ 0, and to rounding 0 at an equilibrium.

    `s` lies in the box [0, τ]; the gap of the profile is the largest entry. Their sum is the
    Nikaido-Isoda function, which also vanishes at equilibria only.
    """
    return examine(game, s).gap


def certify(game: games.Game, s: jax.Array, tolerance: float = 1e-6) -> tuple[Evidence, jax.Array]:
    """The evidence, and whether s is an equilibrium as `is_equilibrium` says."""
    found = examine(game, s)
    return found, holds(game, s, found, tolerance) & jnp.all(found.told)


def holds(game: games.Game, s: jax.Array, found: Evidence, tolerance: float) -> jax.Array:
    """Whether s is feasible and no gap is larger than allowed, be that told or hidden by rounding."""
    feasible = jnp.all((s >= 0) & (s <= game.capacity))
    small = found.gap <= tolerance * found.stake + found.rounding
    return feasible & jnp.all(small & jnp.isfinite(found.gap))


def is_equilibrium(game: games.Game, s: jax.Array, tolerance: float = 1e-6) -> jax.Array:
    """Whether s is feasible and every Nash gap at most tolerance · stake_i + rounding_i (see `Evidence`).

    False too where rounding hides what decisions move, as beside a fixed cost of 10²⁰: that cannot be told.
    """
    return certify(game, s, tolerance)[1]


def all_best_responses(game: games.Game, s: jax.Array) -> list[list[tuple[float, float]]]:
    """The whole set f_i(s_-i) of every agent, as intervals: utilities equal to the best to rounding.

    A concave utility has one interval, usually a point; Theorem A.2's agents have 0, ½ + ε, or both.
    An interval that is one only by rounding, and grows with what rounding is allowed, is reported as a
    point. Where a supremum is approached at a jump and not attained (`Evidence.limit`), the nearest
    floating point number is reported. Not for use inside jit. Limits as for `best_response`.

    Returns:
      For each agent, ascending disjoint (low, high) in samples.
    """
    s = games.as_profile(s)
    peaks = jax.jit(games.over_agents(lambda agent, own, rest: _peaks(agent, rest, own.dtype)))(game, s)
    tops = np.concatenate([peaks.contribution, peaks.safe], axis=1)
    return [
        _maximisers(
            lambda x, i=i: tuple(float(part) for part in _own_parts(game, s, i, x)),
            np.asarray(tops[i], float),
            float(game.capacity[i]),
            float(np.finfo(s.dtype).eps),
        )
        for i in range(game.n)
    ]


@jax.jit
def _own_parts(game: games.Game, s: jax.Array, i: jax.Array, own: jax.Array) -> tuple[jax.Array, jax.Array]:
    """v_i a_i and c_i if agent i contributes `own` and the others what they do in s."""
    agent = games.agent_of(game, i)
    return _parts(agent, own, games.rest_of(agent, games.statistic(game, s), s[i], i))


def _maximisers(
    parts: Callable[[float], tuple[float, float]], tops: np.ndarray, capacity: float, eps: float
) -> list[tuple[float, float]]:
    """The intervals around the best of `tops`, 0 and the capacity, where utility is as good."""

    def u(x: float) -> float:
        payoff, cost = parts(x)
        return -np.inf if np.isnan(payoff - cost) else payoff - cost

    candidates = sorted({0.0, *tops.tolist(), capacity})
    best = max(candidates, key=u)

    def slack(x: float) -> float:
        return 8 * eps * sum(abs(part) for part in (*parts(x), *parts(best)))

    found: list[tuple[float, float]] = []
    reached = -1.0  # up to where an interval, or what rounding makes of a point, has been seen
    for top in candidates:
        if u(top) < u(best) - slack(top) or top <= reached:
            continue
        left, right = _edges(u, top, u(best) - slack(top), capacity)
        wide_left, wide_right = _edges(u, top, u(best) - 64 * slack(top), capacity)
        reached = right
        if wide_right - wide_left >= 4 * (right - left):
            left, right, reached = top, top, wide_right
        found.append((left, right))
    return found


def _edges(u: Callable[[float], float], top: float, least: float, capacity: float) -> tuple[float, float]:
    """How far to the left and right of `top`, where u ≥ least, that goes on."""

    def edge(step: float, bound: float) -> float:
        inside = outside = top
        while u(outside) >= least:
            if outside == bound:
                return bound
            inside, outside = outside, min(max(outside + step, 0.0), capacity)
        for _ in range(100):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if u(middle) >= least else (inside, middle)
        return inside

    return edge(-capacity / 1024, 0.0), edge(capacity / 1024, capacity)


def _parts(agent: games.Game, own: jax.Array, rest: Any) -> tuple[jax.Array, jax.Array]:
    """v_i a_i and c_i of ONE agent."""
    return agent.value * agent.payoff.value(agent.quality * own, rest), agent.cost.value(own)


def _finite(u: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(u), -jnp.inf, u)  # argmax would take a NaN for the largest


def _best(agent: games.Game, own: jax.Array, rest: Any) -> tuple[Response, jax.Array]:
    """ONE agent's best: 0, a peak, her capacity, or what she does already; and the largest of those but τ."""
    nothing, capacity = jnp.zeros_like(own), jnp.asarray(agent.capacity, own.dtype)
    others = jnp.stack([nothing, capacity, own])
    values = _finite(jax.vmap(lambda x: games.utility(agent, x, rest))(others))
    ends = Response(others, values, others, jnp.zeros_like(others))
    peaks = _peaks(agent, rest, own.dtype)
    every = jax.tree.map(lambda a, b: jnp.concatenate([a[:1], b, a[1:]]), ends, peaks)
    best = jax.tree.map(lambda x: x[jnp.argmax(every.utility)], every)
    reach = jnp.maximum(jnp.max(peaks.contribution), jnp.maximum(own, best.contribution))
    nothing_much = jnp.finfo(own.dtype).eps ** 0.75 * capacity  # where bisection may end for 0
    return best, jnp.where(reach <= nothing_much, 0.0, reach)


def _peaks(agent: games.Game, rest: Any, dtype: Any) -> Response:
    """The local maxima of ONE agent's utility: one between any two kinks, or [_PEAKS]."""
    capacity, kinks = jnp.asarray(agent.capacity, dtype), agent.payoff.kinks(rest)
    if kinks is None or not agent.cost.convex:
        return _grid_peaks(agent, rest, capacity)
    inside = [jnp.clip(x / agent.quality, 0.0, capacity).astype(dtype) for x in kinks]
    ends = [jnp.zeros_like(capacity), *inside, capacity]
    pieces = list(itertools.pairwise(ends))
    if agent.payoff.of_total:  # before, her payoff is 0 whatever she does, and the best is to give nothing
        pieces = pieces[-1:]
    slope = jax.grad(lambda x: games.utility(agent, x, rest))

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        # On a logarithmic scale while the bracket is wide: a capacity may be far more than is wanted.
        middle = jnp.where(high > 4.0 * low, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
        rising = slope(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    def peak(first: jax.Array, last: jax.Array) -> Response:
        start = jnp.maximum(first, 1e-30 * capacity), last
        low, high = jax.lax.fori_loop(0, 64 if dtype == jnp.float64 else 34, halve, start)
        top = (low + high) / 2
        return Response(top, _finite(games.utility(agent, top, rest)), top, jnp.zeros_like(top))

    return jax.tree.map(lambda *x: jnp.stack(x), *(peak(*piece) for piece in pieces))


def _grid_peaks(agent: games.Game, rest: Any, capacity: jax.Array) -> Response:
    """The refined local maxima of the first look, [_PEAKS] each; -∞ at 0 where there are fewer."""

    def u(x: jax.Array) -> jax.Array:
        return _finite(games.utility(agent, x, rest))

    x = capacity * jnp.asarray(_SHARES, capacity.dtype)
    v = jax.lax.map(u, x)  # one point of all agents at a time, to save memory
    outer = jnp.pad(v, 1, constant_values=-jnp.inf)
    left, right = outer[:-2], outer[2:]
    peak = (v > left) & (v >= right) | (v >= left) & (v > right)  # of a level stretch only the ends
    ranked, at = jax.lax.top_k(jnp.where(peak, v, -jnp.inf), _PEAKS)
    count = jnp.sum(ranked > -jnp.inf)

    def refine(carry: tuple) -> tuple:
        k, peaks = carry
        here = at[k]
        around = jnp.clip(here + jnp.arange(-1, 2), 0, POINTS - 1)
        (low, top, high), most = _narrowed(u, x[around], v[around])
        safe, limit = _at_jump(agent, rest, low, top, high)
        one = Response(top, most, safe, limit)
        return k + 1, jax.tree.map(lambda all_, new: all_.at[k].set(new), peaks, one)

    nothing = jnp.zeros(_PEAKS, x.dtype)
    start = jnp.asarray(0), Response(nothing, nothing - jnp.inf, nothing, nothing)
    return jax.lax.while_loop(lambda carry: carry[0] < count, refine, start)[1]


def _narrowed(u: Callable, points: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A closer interval around a maximum, and the largest utility that was evaluated.

    First ever closer looks at all of the interval, which see further peaks in it. Then both sides of the
    best point are halved: until utility is level to rounding, or, at a jump, down to the neighbouring
    floating point numbers.

    Args:
      u: utility of a contribution.
      points: [3] ascending contributions, the second one the best.
      values: [3] their utilities.

    Returns:
      [3] contributions, and utility at the second one.
    """

    def zoom(_: int, interval: tuple) -> tuple:
        (low, top, high), values = interval
        evenly = jnp.clip(low + (high - low) * jnp.linspace(0.0, 1.0, _ZOOM, dtype=low.dtype), low, high)
        x = jnp.append(evenly, jnp.stack([low, top, high]))  # an end may round beyond itself
        heights = jnp.append(jax.lax.map(u, evenly), values)
        # Of equally good points that next to the larger drop: the others lead away from a jump.
        equal = heights == jnp.max(heights)
        at = jnp.where(
            values[0] < values[2],
            jnp.argmin(jnp.where(equal, x, jnp.inf)),
            jnp.argmax(jnp.where(equal, x, -jnp.inf)),
        )
        # Its neighbours, at least `low` and `high`; not the same point once more, which `top` may be.
        apart = 1e-3 * (high - low) / _ZOOM
        left = jnp.argmax(jnp.where(x < x[at] - apart, x, -jnp.inf))
        right = len(x) - 1 - jnp.argmin(jnp.where(x > x[at] + apart, x, jnp.inf)[::-1])
        around = jnp.stack([left, at, right])
        return x[around], heights[around]

    eps = jnp.finfo(points.dtype).eps

    def going(carry: tuple) -> jax.Array:
        points, values, steps = carry
        level = jnp.minimum(values[0], values[2]) >= values[1] - eps * jnp.abs(values[1])
        middles = (points[:-1] + points[1:]) / 2
        return ~level & jnp.any((middles > points[:-1]) & (middles < points[1:])) & (steps < _HALVINGS)

    def halve(carry: tuple) -> tuple:
        points, values, steps = carry
        middles = (points[:-1] + points[1:]) / 2
        # An end once more, which another compiled expression rounds up, would lose the place of a jump.
        new = (middles > points[:-1]) & (middles < points[1:])
        heights = jnp.where(new, jax.vmap(u)(middles), -jnp.inf)
        points = jnp.stack([points[0], middles[0], points[1], middles[1], points[2]])
        values = jnp.stack([values[0], heights[0], values[1], heights[1], values[2]])
        inner = values[1:4]
        best = 1 + jnp.where(values[0] < values[4], jnp.argmax(inner), 2 - jnp.argmax(inner[::-1]))
        window = best + jnp.arange(-1, 2)  # the best point, and its neighbours
        return points[window], values[window], steps + 1

    points, values = jax.lax.fori_loop(0, _LOOKS, zoom, (points, values))
    points, values, _ = jax.lax.while_loop(going, halve, (points, values, jnp.asarray(0)))
    return points, values[1]


def _at_jump(
    agent: games.Game, rest: Any, low: jax.Array, top: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`Response.safe` and `Response.limit` of a maximum between two other contributions.

    No floating point number lies between `top` and a jump next to it, so whether the best is attained is
    asked where the jump is likely to be meant: at the nearest round number of samples, in all if the payoff
    sees the total, or at 0 of her own. A jump at a number that is not round counts as attained.
    """
    of_total, eps = agent.payoff.of_total, jnp.finfo(top.dtype).eps

    def place(x: jax.Array) -> jax.Array:
        return rest + agent.quality * x if of_total else x

    def payoff(place: jax.Array) -> jax.Array:
        if of_total:
            return agent.value * agent.payoff.curve(place)
        return agent.value * agent.payoff.value(agent.quality * place, rest)

    little = 8 * eps * jnp.abs(place(top)) / (agent.quality if of_total else 1.0)
    less, more = jnp.maximum(top - little, 0.0), jnp.minimum(top + little, agent.capacity)
    # `low` and `high` may be next to `top`, or further away than rounding reaches.
    left, right = jnp.minimum(low, less), jnp.maximum(high, more)
    at_0 = top <= _SHARES[1] * agent.capacity  # of the grid's points only 0 was before the jump
    meant = jnp.where(at_0, place(jnp.zeros_like(top)), _rounded(place(top)))
    five = place(jnp.stack([left, less, top, more, right]))
    at_left, at_less, at_top, at_more, at_right, there = jax.vmap(payoff)(jnp.append(five, meant))
    noise = 1e3 * eps * (jnp.abs(at_top) + jnp.abs(at_left))
    rises = (at_top - at_left > noise) & (at_0 | (top - left <= 2 * little))
    falls = (at_top - at_right > noise) & (right - top <= 2 * little)
    rises, falls = rises & ~falls, falls & ~rises
    near = at_0 | (jnp.abs(place(top) - meant) <= 8 * eps * jnp.abs(place(top)))
    # Utility that is level beyond the jump attains what it approaches, a little further away.
    slope = jax.grad(lambda x: games.utility(agent, x, rest))(jnp.where(rises, more, less))
    above = rises & near & (slope < 0) & (at_more - there > (at_more - at_left) / 2)
    below = falls & near & (slope > 0) & (at_less - there > (at_less - at_right) / 2)
    safe = jnp.where(rises, more, jnp.where(falls, less, top))
    return safe, jnp.where(above, 1.0, jnp.where(below, -1.0, 0.0)).astype(top.dtype)


def _rounded(x: jax.Array) -> jax.Array:
    """x ≥ 0 to `_DIGITS` digits, by whole powers of ten: multiples of 0.1 are no floating point numbers."""
    places = _DIGITS[x.dtype.itemsize] - 1 - jnp.floor(jnp.log10(jnp.where(x > 0, x, 1.0)))
    unit = jnp.round(10.0 ** jnp.abs(places))
    return jnp.where(places > 0, jnp.round(x * unit) / unit, jnp.round(x / unit) * unit)
