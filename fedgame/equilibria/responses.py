"""Equilibria by best responses, one agent after the other (Gauss-Seidel), sped up by Newton's method.

For payoffs of a linear statistic of m numbers a sweep costs O(n·m) time, and no n×n array is formed
unless there are few enough agents for Newton's method.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import game as games

# Shares of τ_i at which a payoff that may have several peaks is evaluated: evenly spaced ones, and, as a
# capacity may be far more than is wanted, some on a logarithmic scale.
_SHARES = np.union1d(np.linspace(0.0, 1.0, 257), np.geomspace(1e-15, 1e-3, 49))
_PEAKS = 8  # number of local maxima on that grid, the best ones, that are refined
_PATIENCE = 20  # sweeps before the first jump, where payoffs may have several peaks: see `run`
NEWTON = 256  # maximum number of agents for a Newton step, which solves n equations: 5 ms at 256
# How the start of a sweep is chosen: the end of the last sweep, or a jump from there. See `run`.
_PLAIN, _NEWTON, _ALONG, _SETTLED = range(4)


class _Sweeps(NamedTuple):
    """The state between two sweeps."""

    profile: jax.Array  # [n]
    change: jax.Array  # [n] of the profile in the last sweep
    before: jax.Array  # [n] change in the sweep before it; 0 unless the last sweep was plain
    residual: jax.Array  # of the last sweep, see `_residual`
    mode: jax.Array  # of the next sweep: _PLAIN, _NEWTON, _ALONG or _SETTLED
    kind: jax.Array  # mode of the next jump
    reach: jax.Array  # share of its way that a jump along the last change goes, see `_further`
    steps: jax.Array  # number of sweeps so far


class Result(NamedTuple):
    """Where the sweeps ended."""

    profile: jax.Array  # [n]
    residual: jax.Array  # largest change of a contribution in the last sweep, relative to it: `_residual`
    steps: jax.Array  # number of sweeps


def respond(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """ONE agent's best contribution, samples.

    If her utility is known to be concave from where her payoff is positive: the better of 0 and the root of
    her own gradient. Else the best of the local maxima on a grid, refined by own gradient and by utility.

    Args:
      agent: a game of which every number is hers.
      own: her present contribution, samples.
      rest: what she sees of the others, see `games.rest_of`.
    """
    return _of_concave(agent, own, rest) if agent.concave else _of_any(agent, own, rest)


def _terms(agent: games.Game, own: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ONE agent's utility v_i a_i - c_i, -∞ where it is NaN; and |v_i a_i| + c_i, the scale of rounding."""
    payoff, cost = agent.value * agent.payoff.value(agent.quality * own, rest), agent.cost.value(own)
    value = payoff - cost
    return jnp.where(jnp.isnan(value), -jnp.inf, value), jnp.abs(payoff) + cost


def _of_concave(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """`respond` where utility is concave from where the payoff is positive."""
    first, capacity = jnp.zeros_like(own), jnp.asarray(agent.capacity, own.dtype)
    for kink in agent.payoff.kinks(rest):
        # A little beyond the kink, where the slope is that of its right side.
        data = jnp.abs(kink) + sum(jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(rest))
        beyond = kink + 1e3 * jnp.finfo(own.dtype).eps * data
        first = jnp.clip(beyond / agent.quality, 0.0, capacity).astype(own.dtype)
    x = _root(agent, own, rest, first, capacity)
    (nothing, much), _ = jax.vmap(lambda x: _terms(agent, x, rest))(jnp.stack([jnp.zeros_like(x), x]))
    # If 0 and x are equally good, an agent who contributes goes on, and one who does not stays at 0.
    worse = jnp.where(own > 0, much < nothing, much <= nothing)
    return jnp.where((first > 0) & worse, 0.0, x)


def _root(agent: games.Game, own: jax.Array, rest: jax.Array, least: jax.Array, most: jax.Array) -> jax.Array:
    """Root of ONE agent's own gradient, which falls, in [least, most], by Newton's method kept in a bracket.

    The end that is better if there is no root.
    """
    slope = jax.grad(lambda x: games.utility(agent, x, rest))
    eps = jnp.finfo(own.dtype).eps

    def narrow(carry: tuple) -> tuple:
        low, high, x, _, steps = carry
        value, bend = jax.jvp(slope, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
        newton = x - value / bend
        # Every fourth step halves the bracket, as Newton's steps may all be tiny where the slope is badly
        # scaled.
        good = (newton >= low) & (newton <= high) & (steps % 4 < 3)
        # A wide bracket is halved on a logarithmic scale, unless it begins at 0.
        wide = (high > 4.0 * low) & (low > 0)
        middle = jnp.where(wide, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
        new = jnp.where(good, newton, middle)
        return low, high, new, jnp.abs(new - x), steps + 1

    def going(carry: tuple) -> jax.Array:
        low, high, x, moved, steps = carry
        return (moved > 4 * eps * x) & (high - low > 4 * eps * high) & (steps < 200)

    first, last = jax.vmap(slope)(jnp.stack([least, most]))
    at_least, at_most = first <= 0, last >= 0
    low, high = jnp.where(at_most, most, least), jnp.where(at_least, least, most)
    inside = jnp.where((own > least) & (own < most), own, (least + most) / 2)
    start = low, jnp.maximum(high, low), inside, jnp.full_like(own, jnp.inf), jnp.asarray(0)
    _, _, x, _, _ = jax.lax.while_loop(going, narrow, start)
    return jnp.where(at_least, least, jnp.where(at_most, most, jnp.clip(x, least, most)))


def _of_any(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """`respond` where utility may be anything: the best of a grid's local maxima, each refined.

    Comparing utilities finds the place of a jump; the root of the own gradient has all digits of a smooth
    peak, where utility is level to rounding.
    """
    look_at = jax.vmap(lambda x: _terms(agent, x, rest))
    x, values = _grid(agent, rest, own.dtype)
    before, after = jnp.append(-jnp.inf, values[:-1]), jnp.append(values[1:], -jnp.inf)
    left_end = (values > before) & (values >= after)  # a peak, or the left end of a level stretch
    right_end = (values >= before) & (values > after)
    ranked, at = jax.lax.top_k(jnp.where(left_end | right_end, values, -jnp.inf), _PEAKS)

    def look(carry: tuple) -> tuple:
        k, best, most = carry
        around = jnp.clip(at[k] + jnp.arange(-1, 2), 0, len(x) - 1)
        low, _, high = x[around]
        by_utility = _climbed(lambda x: look_at(x)[0], x[around], values[around])
        by_slope = _root(agent, by_utility, rest, low, high)
        (of_utility, of_slope), (terms, _) = look_at(jnp.stack([by_utility, by_slope]))
        # The root of the slope is preferred unless it is worse by more than rounding: it has twice the
        # digits.
        slope_counts = of_slope >= of_utility - 4 * jnp.finfo(x.dtype).eps * terms
        top = jnp.where(slope_counts, by_slope, by_utility)
        height = jnp.where(slope_counts, of_slope, of_utility)
        return k + 1, jnp.where(height > most, top, best), jnp.maximum(height, most)

    count = jnp.sum(ranked > -jnp.inf)
    start = jnp.asarray(0), x[0], values[0]
    _, best, most = jax.lax.while_loop(lambda carry: carry[0] < count, look, start)
    # If only rounding makes a contribution better than 0, she gives 0: else sweeps would never come to rest.
    slope = jax.grad(lambda x: games.utility(agent, x, rest))(x[0])
    _, terms_at_best = _terms(agent, best, rest)
    rounding = 8 * jnp.finfo(x.dtype).eps * terms_at_best
    noise = (slope <= 0) & (-slope * best <= rounding) & (values[0] >= most - rounding)
    best, most = jnp.where(noise, 0.0, best), jnp.where(noise, values[0], most)
    return _beside_jump(agent, own, rest, best, most)


def _beside_jump(
    agent: games.Game, own: jax.Array, rest: jax.Array, best: jax.Array, most: jax.Array
) -> jax.Array:
    """`best`, of utility `most`, moved to the safe side of a jump; or `own` if nothing is better than that.

    Next to a jump she goes a few roundings further on its better side: for others the same total may round to
    the other side, and they would see a model that she does not.
    """
    eps = jnp.finfo(best.dtype).eps
    little = 8 * eps * best
    if agent.payoff.of_total:
        little = 8 * eps * (jnp.abs(rest) / agent.quality + best)
    less = jnp.maximum(best - little, 0.0)
    more = jnp.minimum(best + little, jnp.asarray(agent.capacity, best.dtype))
    look_at = jax.vmap(lambda x: _terms(agent, x, rest))
    heights, terms = look_at(jnp.stack([less, best, more, own]))
    at_less, at_best, at_more, at_own = heights
    drop = 1e3 * eps * terms[1]  # within `little`, a smooth utility changes by far less
    rises = (at_best - at_less > drop) & (less < best)
    falls = (at_best - at_more > drop) & (more > best)
    best = jnp.where(rises & ~falls, more, jnp.where(falls & ~rises, less, best))
    # She stays where she is if nothing is better. But close to `best`, where utility is level to rounding,
    # she moves there, as `best` has the digits of the slope.
    close = jnp.abs(own - best) <= eps**0.375 * best
    return jnp.where((at_own >= most) & ~close, own, best)


def _grid(agent: games.Game, rest: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Contributions that ONE agent could make, [len(_SHARES)] ascending, and her utilities there."""
    x = jnp.asarray(agent.capacity, dtype) * jnp.asarray(_SHARES, dtype)
    return x, jax.lax.map(lambda x: _terms(agent, x, rest)[0], x)  # `map`, not `vmap`, to save memory


def _climbed(u: Callable, x: jax.Array, values: jax.Array) -> jax.Array:
    """The best contribution found between x[0] and x[2] by halving both sides of the best one so far.

    Ends when utility is level to rounding, or, at a jump, when no floating point number is left between the
    points.

    Args:
      u: utilities of contributions, [k] -> [k].
      x: [3] ascending contributions, the second one the best.
      values: [3] their utilities.
    """

    def going(carry: tuple) -> jax.Array:
        x, values, steps = carry
        middles = (x[:-1] + x[1:]) / 2
        level = jnp.min(values) >= values[1] - jnp.finfo(x.dtype).eps * jnp.abs(values[1])
        return jnp.any((middles > x[:-1]) & (middles < x[1:])) & ~level & (steps < 200)

    def halve(carry: tuple) -> tuple:
        x, values, steps = carry
        middles = (x[:-1] + x[1:]) / 2
        # A middle that equals an end is ignored: compiled in another expression, its utility may round
        # higher, and the place of a jump would be lost.
        heights = jnp.where((middles > x[:-1]) & (middles < x[1:]), u(middles), -jnp.inf)
        points = jnp.stack([x[0], middles[0], x[1], middles[1], x[2]])
        heights = jnp.stack([values[0], heights[0], values[1], heights[1], values[2]])
        k = jnp.where(jnp.max(heights[1:4]) > values[1], jnp.argmax(heights[1:4]), 1)
        around = k + jnp.arange(3)
        return points[around], heights[around], steps + 1

    (_, best, _), _, _ = jax.lax.while_loop(going, halve, (x, values, jnp.asarray(0)))
    return best


def turns(game: games.Game) -> jax.Array:
    """Numbers of the agents in the order of their turns, [n]: the lowest marginal cost per value first.

    The order decides which of several equilibria sweeps end in, so it must not depend on how agents are
    numbered. Of agents with equal marginal costs, to ten digits, the one with the largest capacity comes
    first.
    """

    def alone(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
        x, values = _grid(agent, rest, own.dtype)
        return agent.quality * x[jnp.argmax(values)]

    # Marginal costs are compared at the same number of standard samples for all, about the maximum that
    # anybody would give alone. Capacities would be no measure, as they may be far more than is wanted.
    same = jnp.max(games.over_agents(alone)(game, jnp.zeros_like(game.capacity)))
    same = jnp.where(same > 0, same, jnp.min(game.quality * game.capacity) / 2) / game.quality
    price = games.marginal_costs(game, jnp.minimum(same, game.capacity)) / (game.value * game.quality)
    lowest = jnp.min(jnp.where(price > 0, price, jnp.inf))
    return jnp.lexsort((-game.capacity, jnp.round(1e10 * jnp.log(price / lowest))))


def sweep(game: games.Game, s: jax.Array, order: jax.Array | None = None) -> jax.Array:
    """The profile after every agent in turn has responded to what the others do by then, [n].

    Args:
      game: n agents.
      s: [n] samples.
      order: [n] numbers of agents; None is 0, 1, …
    """

    def turn(carry: tuple[jax.Array, jax.Array], i: jax.Array) -> tuple:
        s, z = carry
        agent = games.agent_of(game, i)
        new = respond(agent, s[i], games.rest_of(agent, z, s[i], i))
        z = agent.payoff.moved(z, agent.quality * (new - s[i]), i)
        return (s.at[i].set(new), z), None

    order = jnp.arange(game.n) if order is None else order
    (s, _), _ = jax.lax.scan(turn, (s, games.statistic(game, s)), order)
    return s


def newton_step(game: games.Game, s: jax.Array) -> jax.Array:
    """The profile that solves ∂u_i/∂s_i = 0, linearised at s, for the agents between their bounds, [n]."""
    gradient, matrix = games.own_gradient(game, s), games.jacobian(game, s)
    free = (s > 0) & (s < game.capacity)
    both = free[:, None] & free[None, :]
    matrix = jnp.where(both, matrix, jnp.eye(game.n, dtype=s.dtype))
    step = jnp.linalg.solve(matrix, jnp.where(free, -gradient, 0.0))
    return jnp.clip(s + step, 0.0, game.capacity)


def run(
    game: games.Game,
    start: jax.Array,
    sweeps: int,
    tolerance: float = 1e-12,
    settle: Callable[[games.Game, jax.Array], jax.Array] | None = None,
) -> Result:
    """Sweeps until the largest relative change, see `_residual`, is at most `tolerance`.

    A plain sweep starts where the last one ended. In between, a sweep starts from a jump of one of three
    kinds:

    - Newton's method, with at most `NEWTON` agents: near an equilibrium the number of correct digits doubles
      with every sweep.
    - Along the last change, if sweeps creep: where one of two agents with nearly equal costs per value yields
      to the other by the same little in every sweep, this ends it at once.
    - To `settle(game, profile)`, if the caller knows where agents might end close to a profile.

    A jump after which agents move more than before (along a change: half as much again) is undone, and the
    next kind has its turn. Where payoffs may have several peaks there is no jump in the first `_PATIENCE`
    sweeps: it could lead past the nearest equilibrium.

    Args:
      game: n agents.
      start: [n] first profile, samples.
      sweeps: maximum number of sweeps.
      tolerance: of the relative change; at least 8 ε of the dtype is used.
      settle: from a game and a profile to a profile, or NaN.
    """
    s = jnp.clip(games.as_profile(start), 0.0, game.capacity)
    tolerance = max(tolerance, 8 * float(jnp.finfo(s.dtype).eps))
    order, patience = (None, 0) if game.concave else (turns(game), _PATIENCE)
    kinds = [_ALONG]
    if game.n <= NEWTON:
        kinds.insert(0, _NEWTON)
    if settle is not None:
        kinds.append(_SETTLED)
    next_kind = np.arange(4)  # of a kind of jump: the one that follows it, in turn
    next_kind[kinds] = np.roll(kinds, -1)
    next_kind = jnp.asarray(next_kind)

    def going(carry: _Sweeps) -> jax.Array:
        return (carry.residual > tolerance) & (carry.steps < sweeps)

    def body(carry: _Sweeps) -> _Sweeps:
        s, mode = carry.profile, carry.mode
        base = jnp.where(mode == _ALONG, _further(game, carry), s)
        if game.n <= NEWTON:
            base = jnp.where(mode == _NEWTON, newton_step(game, s), base)
        if settle is not None:
            base = jnp.where(mode == _SETTLED, settle(game, s), base)
        base = jnp.where(jnp.all(jnp.isfinite(base)), base, s)
        new = sweep(game, base, order)
        return _judged(carry, base, new, next_kind, patience)

    still = jnp.zeros_like(s)
    first = _Sweeps(
        profile=s,
        change=still,
        before=still,
        residual=jnp.full((), jnp.inf, s.dtype),
        mode=jnp.asarray(_PLAIN),
        kind=jnp.asarray(kinds[0]),
        reach=jnp.ones((), s.dtype),
        steps=jnp.asarray(0),
    )
    found = jax.lax.while_loop(going, body, first)
    return Result(found.profile, found.residual, found.steps)


def _judged(carry: _Sweeps, base: jax.Array, new: jax.Array, next_kind: jax.Array, patience: int) -> _Sweeps:
    """The state after a sweep from `base` to `new`; after a bad jump the one before it, another kind next."""
    mode, moved = carry.mode, _residual(base, new)
    # A jump that leads nowhere counts as plain: Newton's method leaves a profile whose equations are
    # singular.
    plain = (mode == _PLAIN) | jnp.all(base == carry.profile)
    kind = jnp.where(plain & (mode != _PLAIN), next_kind[carry.kind], carry.kind)
    # An agent who creeps towards 0 by equal steps moves more and more relative to what she contributes.
    good = plain | (moved < jnp.where(mode == _ALONG, 1.5, 1.0) * carry.residual)
    # Where plain sweeps shrink the residual by 3% or more each, a jump along them only disturbs.
    goes_well = (kind == _ALONG) & (moved < 0.97 * carry.residual)
    jump = jnp.where((carry.steps < patience) | goes_well, _PLAIN, kind)
    # After a Newton step that was good comes another. After other jumps a plain sweep, as going along a
    # change needs the changes of two.
    after_jump = jnp.where(good & (mode == _NEWTON), _NEWTON, _PLAIN)
    after = jnp.where(plain, jump, after_jump)
    kept = _Sweeps(
        profile=new,
        change=new - base,
        before=jnp.where(plain, carry.change, jnp.zeros_like(new)),
        residual=moved,
        mode=after,
        kind=kind,
        reach=jnp.where(mode == _ALONG, jnp.minimum(4.0 * carry.reach, 1.0), carry.reach),
        steps=carry.steps,
    )
    # A bad jump along the change goes a sixteenth as far next time, a good one four times as far, see `kept`.
    shorter = jnp.where(mode == _ALONG, jnp.maximum(carry.reach / 16.0, 1e-9), carry.reach)
    undone = carry._replace(mode=after, kind=next_kind[carry.kind], reach=shorter)
    chosen = jax.tree.map(lambda kept, undone: jnp.where(good, kept, undone), kept, undone)
    return chosen._replace(steps=carry.steps + 1)


def _residual(before: jax.Array, after: jax.Array) -> jax.Array:
    """The largest change of a contribution relative to it, or to 10⁻⁶ of the largest one if that is more."""
    change = jnp.abs(after - before)
    size = jnp.maximum(jnp.abs(after), 1e-6 * jnp.max(jnp.abs(after)))
    return jnp.max(jnp.where(change > 0, change / size, 0.0))


def _further(game: games.Game, carry: _Sweeps) -> jax.Array:
    """Where changes that go on as a geometric series lead, [n]; at most to where somebody meets a bound.

    With the ratio r of the last two changes, the changes to come are r + r² + … = r / (1 - r) times the last.
    """
    s, change, before = carry.profile, carry.change, carry.before
    size = jnp.sum(before * before)
    ratio = jnp.where(size > 0, jnp.sum(change * before) / jnp.where(size > 0, size, 1.0), 0.0)
    times = jnp.where(ratio < 1.0, ratio / jnp.where(ratio < 1.0, 1.0 - ratio, 1.0), jnp.inf)
    # Agents who move by less than 1/1000 of the fastest one do not stop the others at their own bound.
    moving = jnp.abs(change) > 1e-3 * jnp.max(jnp.abs(change))
    room = jnp.where(change > 0, game.capacity - s, s)
    until_bound = jnp.min(jnp.where(moving, room / jnp.where(moving, jnp.abs(change), 1.0), jnp.inf))
    # Only a part of the way if going further has failed: the changes of some agents may not be a series yet.
    return jnp.clip(s + carry.reach * jnp.minimum(times, until_bound) * change, 0.0, game.capacity)
