"""Proofs that a profile is an equilibrium, sharing no code with the solvers that find it.

A vanishing gradient proves nothing where utilities are not concave. The Nash gap does (Definition 1): the
maximum that an agent gains by any deviation of her own.

A gap is small or not relative to how much the agent's own decision changes (`Evidence.stake`). So a verdict
does not depend on the currency, the unit of samples, fixed costs, or agents who could give far more than
anybody wants. There is one exception: whether a supremum at a jump is attained (`Response.limit`) is
evaluated at a round number of samples, and another unit has other round numbers.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import game as games

# Shares of τ_i at which a payoff that may be anything is first evaluated: evenly spaced ones, and, as a
# capacity may be far more than is wanted, some on a logarithmic scale.
_SHARES = np.union1d(np.linspace(0.0, 1.0, 1025), np.geomspace(1e-30, 1e-3, 361))
POINTS = len(_SHARES)
_PEAKS = 64  # number of local maxima on that grid, the best ones, that are refined
_ZOOM = 33  # points of a closer grid around a maximum: each such grid narrows the interval 16 times
_LOOKS = 3  # such grids; then the interval is halved, if need be down to neighbouring floating point numbers
_HALVINGS = 200  # maximum number of these halvings
_DIGITS = {8: 8, 4: 3}  # digits of a number that counts as round, by its bytes
_UNRESOLVED = 1e-3  # with rounding errors above this share of what decisions change, there is no verdict


class Response(NamedTuple):
    """Maximisers of utility: of ONE agent, scalars, or all her local ones, [k]; of all agents, [n]."""

    contribution: jax.Array  # samples
    utility: jax.Array  # at `contribution`, the maximum of all values that were computed
    # `contribution`, or next to a jump a few roundings further on its better side, so that everybody who
    # computes the total, in whatever order, is on that side.
    safe: jax.Array
    # +1 (-1) if utility approaches its supremum only just above (below) a jump, and no contribution attains
    # it; 0 if it is attained.
    limit: jax.Array


class Evidence(NamedTuple):
    """What is known of a profile s; all [n]. Utilities, gaps, stakes and rounding in the agents' currency."""

    gap: jax.Array  # max_x u_i(x, s_-i) - u_i(s), ≥ 0
    utility: jax.Array  # u_i(s)
    # Maximum change that her own decision makes: the larger of |v_i (a_i(x) - a_i(0))| and |c_i(x) - c_i(0)|,
    # at x = s_i and at her best response.
    stake: jax.Array
    rounding: jax.Array  # at least 8 ε (|v_i a_i(s)| + |c_i(s_i)|): a smaller gap may be rounding
    told: jax.Array  # whether `rounding` is small relative to what decisions can change
    response: jax.Array  # a best contribution, samples
    limit: jax.Array  # see `Response`


@jax.jit
def best_response(game: games.Game, s: jax.Array) -> jax.Array:
    """f_i(s_-i) for every agent: a global maximiser of u_i over [0, τ_i] (Proposition 1).

    Where a_i is known to be 0 up to some contribution and concave from there on (all of Section 2.1,
    clipped or not, and measured curves): the better of 0 and the root of the own gradient, by
    bisection on a logarithmic scale. Payoffs given as functions: a grid of 1,386 contributions, refined
    around its 64 best local maxima, down to the two neighbouring floating point numbers between which a
    payoff jumps. Only a peak that hides between two points of the grid is missed. Returns the best of all
    points that were evaluated, at a jump a few roundings further on its better side. Takes
    O(n·m·log(1/ε)) time and O(n·m) memory for a statistic of m numbers.

    Args:
      game: n agents.
      s: [n] profile, samples.

    Returns:
      [n] contributions, samples; 0 if nothing is better, else one of the best. Its derivatives are not those
      of f_i; for derivatives of equilibria see `implicit`.
    """
    return games.over_agents(lambda agent, own, rest: _best(agent, own, rest)[0].safe)(
        game, games.as_profile(s)
    )


@jax.jit
def best_utility(game: games.Game, s: jax.Array) -> jax.Array:
    """max_x u_i(x, s_-i), [n], in the agents' currency; see `best_response`."""
    return games.over_agents(lambda agent, own, rest: _best(agent, own, rest)[0].utility)(
        game, games.as_profile(s)
    )


@jax.jit
def examine(game: games.Game, s: jax.Array) -> Evidence:
    """Nash gaps of all agents at the profile s, [n] samples, and the scales by which they are judged.

    Gaps can be differentiated in both modes: best responses count as fixed (the envelope theorem).
    """
    s = games.as_profile(s)
    found, reach, reach_cost = games.over_agents(_examine_one)(game, s)
    # How much all decisions together change for her, from nobody sharing anything to all giving what they
    # might. Not only her own decision: that somebody gives next to nothing is no reason for doubt.
    nothing = games.payoff_values(game, jnp.zeros_like(s))

    def gained(s: jax.Array) -> jax.Array:
        return _finite_or_0(game.value * jnp.abs(games.payoff_values(game, s) - nothing))

    changed = jnp.maximum(jnp.maximum(gained(s), gained(reach)), jnp.maximum(reach_cost, found.stake))
    hidden = (changed > 0) & (found.rounding > _UNRESOLVED * changed)
    # What agents might give is not known of payoffs that are not concave, nor if nobody gives or wants to
    # give anything. So what their capacities change counts too, with a smaller share.
    unknown = jnp.all((s == 0) & (reach == 0)) | (not game.payoff.concave)
    everything = jnp.broadcast_to(jnp.asarray(game.capacity, s.dtype), s.shape)
    cost = games.incurred_costs(game, everything) - games.incurred_costs(game, jnp.zeros_like(s))
    least = max(1e-6, 64.0 * float(jnp.finfo(s.dtype).eps))
    large = found.rounding > least * jnp.maximum(gained(everything), _finite_or_0(cost))
    hidden &= large | ~unknown
    return found._replace(told=~(hidden & (game.capacity > 0)))


def _finite_or_0(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, 0.0)


def _examine_one(agent: games.Game, own: jax.Array, rest: Any) -> tuple[Evidence, jax.Array, jax.Array]:
    """ONE agent's evidence, the largest contribution that she might make, and what that might cost."""
    best, reach = _best(*jax.lax.stop_gradient((agent, own, rest)))
    points = jnp.stack([jnp.zeros_like(own), own, best.contribution])
    payoffs, costs = jax.vmap(lambda x: _parts(agent, x, rest))(points)
    now, again = payoffs[1] - costs[1], payoffs[2] - costs[2]
    # The value computed when the maximum was found, with the derivative of the value computed here.
    utility = best.utility + jnp.where(jnp.isfinite(again), again - jax.lax.stop_gradient(again), 0.0)
    gained, spent = jnp.abs(payoffs - payoffs[0]), jnp.abs(costs - costs[0])
    stake = jnp.max(jnp.maximum(_finite_or_0(gained), spent))
    ceiling = _ceiling(agent, own.dtype)
    size = jnp.maximum(jnp.abs(payoffs[1]), ceiling) + jnp.abs(costs[1])
    rounding = 8.0 * jnp.finfo(own.dtype).eps * size
    # If her payoff is bounded, she might give her capacity, else what she might want. The cost of that is
    # taken as marginal cost times samples, as a large fixed cost would hide differences of costs by rounding;
    # and it counts at most as much as there is to gain.
    most = jnp.where(ceiling > 0, jnp.asarray(agent.capacity, own.dtype), reach)
    spent = jnp.abs(jax.grad(agent.cost.value)(most)) * most
    spent = jnp.where(ceiling > 0, jnp.minimum(spent, ceiling), spent)
    # If her present contribution is as good as a supremum elsewhere, it does not matter that none attains
    # that.
    tie = (now >= best.utility) & (jnp.abs(own - best.contribution) > 1e-6 * best.contribution)
    limit = jnp.where(tie, 0.0, best.limit)
    found = Evidence(
        gap=jnp.maximum(utility - now, 0.0),
        utility=now,
        stake=stake,
        rounding=rounding,
        told=jnp.asarray(True),
        response=best.safe,
        limit=limit,
    )
    return found, most, _finite_or_0(spent)


def _ceiling(agent: games.Game, dtype: Any) -> jax.Array:
    """v_i times the limit of a concave payoff with endless data; 0 if unknown or infinite.

    With few data a payoff is the difference of numbers as large as that limit, and has their rounding error.
    """
    endless = jnp.asarray([1e28, 1e30], dtype)
    if not agent.payoff.concave or agent.payoff.ceiling(endless[0]) is None:
        return jnp.zeros((), dtype)
    much, more = jnp.abs(agent.value * jax.vmap(agent.payoff.ceiling)(endless))
    return jnp.where(jnp.abs(more - much) <= 1e-3 * more, _finite_or_0(more), 0.0)


def nash_gap(game: games.Game, s: jax.Array) -> jax.Array:
    """max_x u_i(x, s_-i) - u_i(s) for every agent: the maximum gain of deviating alone (Definition 1).

    The gap of the profile is the largest entry. The sum is the Nikaido-Isoda function, which also vanishes at
    equilibria only.

    Args:
      game: n agents.
      s: [n] in the box [0, τ], samples.

    Returns:
      [n] ≥ 0, in the agents' currency; 0 to rounding at an equilibrium.
    """
    return examine(game, s).gap


def certify(game: games.Game, s: jax.Array, tolerance: float = 1e-6) -> tuple[Evidence, jax.Array]:
    """The evidence about s, and whether it is an equilibrium; arguments as `is_equilibrium`."""
    found = examine(game, s)
    return found, holds(game, s, found, tolerance) & jnp.all(found.told)


def holds(game: games.Game, s: jax.Array, found: Evidence, tolerance: float) -> jax.Array:
    """Whether s is feasible and every gap at most tolerance · stake_i + rounding_i; ignores `found.told`.

    False if one of these numbers is not finite, or a utility is not: every gap is small beside an infinite
    stake.
    """
    feasible = jnp.all((s >= 0) & (s <= game.capacity))
    allowed = tolerance * found.stake + found.rounding
    return feasible & jnp.all((found.gap <= allowed) & finite(found))


def finite(found: Evidence) -> jax.Array:
    """Whether an agent's utility, and all by which it is judged, are finite numbers, [n]."""
    judged = found.gap, found.utility, found.stake, found.rounding
    return jnp.all(jnp.isfinite(jnp.stack(judged)), axis=0)


def is_equilibrium(game: games.Game, s: jax.Array, tolerance: float = 1e-6) -> jax.Array:
    """Whether s is feasible and every Nash gap is at most tolerance · stake_i + rounding_i (see `Evidence`).

    Also False where rounding hides what decisions change, as with a fixed cost of 10²⁰: then there is no
    verdict.

    Args:
      game: n agents.
      s: [n] profile, samples.
      tolerance: relative to the change that each agent's own decision makes.
    """
    _, verdict = certify(game, s, tolerance)
    return verdict


def all_best_responses(game: games.Game, s: jax.Array) -> list[list[tuple[float, float]]]:
    """The whole set f_i(s_-i) of every agent, as intervals in which utility equals the maximum to rounding.

    A concave utility has one interval, usually a point; Theorem A.2's agents have 0, ½ + ε, or both.
    An interval whose width is due to rounding is reported as a point. Where a supremum is approached at a
    jump but not attained (`Evidence.limit`), the nearest floating point number is reported. Not for use
    inside jit. May miss what `best_response` may miss.

    Args:
      game: n agents.
      s: [n] profile, samples.

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
    """v_i a_i and c_i if agent i contributes `own` and the others as in s."""
    agent = games.agent_of(game, i)
    return _parts(agent, own, games.rest_of(agent, games.statistic(game, s), s[i], i))


def _maximisers(
    parts: Callable[[float], tuple[float, float]], tops: np.ndarray, capacity: float, eps: float
) -> list[tuple[float, float]]:
    """The intervals around the best of `tops`, 0 and the capacity, in which utility is as good.

    Args:
      parts: from ONE agent's contribution to v_i a_i and c_i.
      tops: [k] local maximisers, samples.
      capacity: τ_i.
      eps: ε of the dtype in which `parts` computes.
    """

    def u(x: float) -> float:
        payoff, cost = parts(x)
        return -np.inf if np.isnan(payoff - cost) else payoff - cost

    candidates = sorted({0.0, *tops.tolist(), capacity})
    best = max(candidates, key=u)

    def slack(x: float) -> float:
        return 8 * eps * sum(abs(part) for part in (*parts(x), *parts(best)))

    found: list[tuple[float, float]] = []
    reached = -1.0  # candidates up to here are in an interval already found, or a rounded point of it
    for top in candidates:
        if u(top) < u(best) - slack(top) or top <= reached:
            continue
        left, right = _edges(u, top, u(best) - slack(top), capacity)
        wide_left, wide_right = _edges(u, top, u(best) - 64 * slack(top), capacity)
        reached = right
        if wide_right - wide_left >= 4 * (right - left):  # its width follows the slack: it is a rounded point
            left, right, reached = top, top, wide_right
        found.append((left, right))
    return found


def _edges(u: Callable[[float], float], top: float, least: float, capacity: float) -> tuple[float, float]:
    """Ends of the interval around `top` in which u ≥ least, within [0, capacity]."""

    def edge(step: float, bound: float) -> float:
        inside = outside = top
        while u(outside) >= least:
            if outside == bound:
                return bound
            inside, outside = outside, min(max(outside + step, 0.0), capacity)
        for _ in range(100):
            middle = (inside + outside) / 2
            if u(middle) >= least:
                inside = middle
            else:
                outside = middle
        return inside

    return edge(-capacity / 1024, 0.0), edge(capacity / 1024, capacity)


def _parts(agent: games.Game, own: jax.Array, rest: Any) -> tuple[jax.Array, jax.Array]:
    """v_i a_i and c_i of ONE agent."""
    return agent.value * agent.payoff.value(agent.quality * own, rest), agent.cost.value(own)


def _nan_is_worst(u: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(u), -jnp.inf, u)  # `argmax` would take NaN for the maximum


def _best(agent: games.Game, own: jax.Array, rest: Any) -> tuple[Response, jax.Array]:
    """ONE agent's best of 0, her local maxima, her capacity and `own`; and the largest but for capacity."""
    nothing, capacity = jnp.zeros_like(own), jnp.asarray(agent.capacity, own.dtype)
    others = jnp.stack([nothing, capacity, own])
    values = _nan_is_worst(jax.vmap(lambda x: games.utility(agent, x, rest))(others))
    fixed = Response(contribution=others, utility=values, safe=others, limit=jnp.zeros_like(others))
    peaks = _peaks(agent, rest, own.dtype)
    # 0 comes first: of equally good ones `argmax` takes the first.
    every = jax.tree.map(lambda fixed, peaks: jnp.concatenate([fixed[:1], peaks, fixed[1:]]), fixed, peaks)
    best = jax.tree.map(lambda x: x[jnp.argmax(every.utility)], every)
    reach = jnp.maximum(jnp.max(peaks.contribution), jnp.maximum(own, best.contribution))
    nearly_0 = jnp.finfo(own.dtype).eps ** 0.75 * capacity  # where bisection may end if the maximiser is 0
    return best, jnp.where(reach <= nearly_0, 0.0, reach)


def _peaks(agent: games.Game, rest: Any, dtype: Any) -> Response:
    """The local maxima of ONE agent's utility: one between any two kinks, or [_PEAKS] of a grid."""
    capacity, kinks = jnp.asarray(agent.capacity, dtype), agent.payoff.kinks(rest)
    if kinks is None or not agent.cost.convex:
        return _grid_peaks(agent, rest, capacity)
    inside = [jnp.clip(x / agent.quality, 0.0, capacity).astype(dtype) for x in kinks]
    ends = [jnp.zeros_like(capacity), *inside, capacity]
    pieces = list(itertools.pairwise(ends))
    if agent.payoff.concave:  # below the kink her payoff is 0 whatever she gives, so 0 is best there
        pieces = pieces[-1:]
    slope = jax.grad(lambda x: games.utility(agent, x, rest))
    smallest = jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        # A wide bracket is halved on a logarithmic scale: a capacity may be far more than is wanted.
        middle = jnp.where(high > 4.0 * low, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
        rising = slope(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    def peak(first: jax.Array, last: jax.Array) -> Response:
        least = 1e-30 * capacity
        # If utility falls there, the maximiser is smaller still: a capacity may be anything.
        least = jnp.where(slope(least) > 0, least, jnp.minimum(least, smallest))
        start = jnp.maximum(first, least), last
        halvings = 64 if dtype == jnp.float64 else 34  # from the smallest number and τ to neighbouring ones
        low, high = jax.lax.fori_loop(0, halvings, halve, start)
        top = (low + high) / 2
        utility = _nan_is_worst(games.utility(agent, top, rest))
        return Response(contribution=top, utility=utility, safe=top, limit=jnp.zeros_like(top))

    return jax.tree.map(lambda *x: jnp.stack(x), *(peak(*piece) for piece in pieces))


def _grid_peaks(agent: games.Game, rest: Any, capacity: jax.Array) -> Response:
    """The best local maxima on the grid, refined, [_PEAKS]; if there are fewer, then 0 with utility -∞."""

    def u(x: jax.Array) -> jax.Array:
        return _nan_is_worst(games.utility(agent, x, rest))

    x = capacity * jnp.asarray(_SHARES, capacity.dtype)
    v = jax.lax.map(u, x)  # one point of all agents at a time, to save memory
    outer = jnp.pad(v, 1, constant_values=-jnp.inf)
    before, after = outer[:-2], outer[2:]
    left_end = (v > before) & (v >= after)  # a peak, or the left end of a level stretch
    right_end = (v >= before) & (v > after)
    ranked, at = jax.lax.top_k(jnp.where(left_end | right_end, v, -jnp.inf), _PEAKS)
    count = jnp.sum(ranked > -jnp.inf)

    def refine(carry: tuple) -> tuple:
        k, peaks = carry
        here = at[k]
        around = jnp.clip(here + jnp.arange(-1, 2), 0, POINTS - 1)
        (low, top, high), most = _narrowed(u, x[around], v[around])
        safe, limit = _at_jump(agent, rest, low, top, high)
        one = Response(contribution=top, utility=most, safe=safe, limit=limit)
        return k + 1, jax.tree.map(lambda all_, new: all_.at[k].set(new), peaks, one)

    nothing = jnp.zeros(_PEAKS, x.dtype)
    none = Response(contribution=nothing, utility=nothing - jnp.inf, safe=nothing, limit=nothing)
    _, peaks = jax.lax.while_loop(lambda carry: carry[0] < count, refine, (jnp.asarray(0), none))
    return peaks


def _narrowed(u: Callable, points: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A smaller interval around a maximum, and the maximum utility that was evaluated.

    First, ever finer grids on the whole interval, which find further peaks in it. Then both sides of the best
    point are halved, until utility is level to rounding, or, at a jump, down to neighbouring floating point
    numbers.

    Args:
      u: utility of a contribution.
      points: [3] ascending contributions, the second one the best.
      values: [3] their utilities.

    Returns:
      [3] ascending contributions, the second one the best, and its utility.
    """

    def zoom(_: int, interval: tuple) -> tuple:
        (low, top, high), values = interval
        evenly = jnp.clip(low + (high - low) * jnp.linspace(0.0, 1.0, _ZOOM, dtype=low.dtype), low, high)
        x = jnp.append(evenly, jnp.stack([low, top, high]))  # the ends of `evenly` may be rounded
        heights = jnp.append(jax.lax.map(u, evenly), values)
        # Of equally good points the one next to the lower end: a jump, if there is one, is on that side.
        equal = heights == jnp.max(heights)
        leftmost = jnp.argmin(jnp.where(equal, x, jnp.inf))
        rightmost = jnp.argmax(jnp.where(equal, x, -jnp.inf))
        at = jnp.where(values[0] < values[2], leftmost, rightmost)
        # Its neighbours, in the extreme `low` and `high`. Points closer than `apart` are the same point
        # again.
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
        # A middle that equals an end is ignored: compiled in another expression, its utility may round
        # higher, and the place of a jump would be lost.
        new = (middles > points[:-1]) & (middles < points[1:])
        heights = jnp.where(new, jax.vmap(u)(middles), -jnp.inf)
        points = jnp.stack([points[0], middles[0], points[1], middles[1], points[2]])
        values = jnp.stack([values[0], heights[0], values[1], heights[1], values[2]])
        inner = values[1:4]
        leftmost, rightmost = 1 + jnp.argmax(inner), 3 - jnp.argmax(inner[::-1])  # of equally good points
        best = jnp.where(values[0] < values[4], leftmost, rightmost)
        window = best + jnp.arange(-1, 2)  # the best point and its neighbours
        return points[window], values[window], steps + 1

    points, values = jax.lax.fori_loop(0, _LOOKS, zoom, (points, values))
    points, values, _ = jax.lax.while_loop(going, halve, (points, values, jnp.asarray(0)))
    return points, values[1]


def _at_jump(
    agent: games.Game, rest: Any, low: jax.Array, top: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`Response.safe` and `Response.limit` of the maximum `top` between the contributions `low` and `high`.

    No floating point number lies between `top` and a jump next to it. So whether the supremum is attained is
    evaluated at the number that the jump is likely to be meant at: the nearest round number of samples (the
    total if the payoff sees the total, else her own contribution), or her own 0. At a jump next to no round
    number the supremum counts as attained.
    """
    of_total, eps = agent.payoff.of_total, jnp.finfo(top.dtype).eps

    def place(x: jax.Array) -> jax.Array:
        return rest + agent.quality * x if of_total else x

    def payoff(place: jax.Array) -> jax.Array:
        if of_total:
            return agent.value * agent.payoff.curve(place)
        return agent.value * agent.payoff.value(agent.quality * place, rest)

    little = 8 * eps * jnp.abs(place(top)) / (agent.quality if of_total else 1.0)  # of her own samples
    less, more = jnp.maximum(top - little, 0.0), jnp.minimum(top + little, agent.capacity)
    # `low` and `high` may be closer to `top` than rounding of the total lets tell apart.
    left, right = jnp.minimum(low, less), jnp.maximum(high, more)
    at_0 = top <= _SHARES[1] * agent.capacity  # only the grid's first point, 0, was before the jump
    meant = jnp.where(at_0, place(jnp.zeros_like(top)), _rounded(place(top)))
    five = place(jnp.stack([left, less, top, more, right]))
    at_left, at_less, at_top, at_more, at_right, there = jax.vmap(payoff)(jnp.append(five, meant))
    noise = 1e3 * eps * (jnp.abs(at_top) + jnp.abs(at_left))
    rises = (at_top - at_left > noise) & (at_0 | (top - left <= 2 * little))
    falls = (at_top - at_right > noise) & (right - top <= 2 * little)
    rises, falls = rises & ~falls, falls & ~rises
    near = at_0 | (jnp.abs(place(top) - meant) <= 8 * eps * jnp.abs(place(top)))
    # The supremum is not attained if `meant` is on the low side of the jump and utility falls with the
    # distance from the jump. Where it is level, it is attained a little further away.
    slope = jax.grad(lambda x: games.utility(agent, x, rest))(jnp.where(rises, more, less))
    above = rises & near & (slope < 0) & (at_more - there > (at_more - at_left) / 2)
    below = falls & near & (slope > 0) & (at_less - there > (at_less - at_right) / 2)
    safe = jnp.where(rises, more, jnp.where(falls, less, top))
    limit = jnp.where(above, 1.0, jnp.where(below, -1.0, 0.0))
    return safe, limit.astype(top.dtype)


def _rounded(x: jax.Array) -> jax.Array:
    """x ≥ 0 rounded to `_DIGITS` digits.

    Multiplies or divides by whole powers of ten only: 0.1 and its multiples are no floating point numbers.
    """
    places = _DIGITS[x.dtype.itemsize] - 1 - jnp.floor(jnp.log10(jnp.where(x > 0, x, 1.0)))
    unit = jnp.round(10.0 ** jnp.abs(places))
    return jnp.where(places > 0, jnp.round(x * unit) / unit, jnp.round(x / unit) * unit)
