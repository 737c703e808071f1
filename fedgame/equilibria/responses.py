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

# Shares of an interval in which there may be several peaks, evenly spaced and on a logarithmic scale.
_SHARES = np.union1d(np.linspace(0.0, 1.0, 257), np.geomspace(1e-15, 1e-3, 49))
_PEAKS = 8  # the best of them are looked at more closely
_PATIENCE = 20  # sweeps
NEWTON = 256  # most agents for a Newton step, which solves n equations: 5 ms at 256
_PLAIN, _NEWTON, _ALONG, _SETTLED = range(4)  # where a sweep starts: where the last one ended, or from a jump


class _Sweeps(NamedTuple):
    """What a sweep leaves to the next one."""

    profile: jax.Array  # [n]
    change: jax.Array  # [n] of the last sweep
    before: jax.Array  # [n] of the plain one before it; 0 if that was none
    residual: jax.Array  # of the last sweep, see `_residual`
    mode: jax.Array  # of the next sweep: _PLAIN, _NEWTON, _ALONG or _SETTLED
    kind: jax.Array  # of the next jump
    reach: jax.Array  # share of the way that a jump along the last change goes, see `_further`
    steps: jax.Array  # sweeps so far


class Result(NamedTuple):
    """Where the sweeps ended."""

    profile: jax.Array  # [n]
    residual: jax.Array  # largest change in the last sweep, relative to contributions
    steps: jax.Array  # sweeps


def respond(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """ONE agent's best contribution.

    Where her payoff is known to be 0 first and concave from some contribution on: the better of 0 and the
    root of her slope. Else the best of a grid's peaks, each looked at by slope and by utility.
    """
    return _of_concave(agent, own, rest) if agent.concave else _of_any(agent, own, rest)


def _terms(agent: games.Game, own: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ONE agent's utility, -∞ where it is none, and the size of the terms of which it is the difference."""
    payoff, cost = agent.value * agent.payoff.value(agent.quality * own, rest), agent.cost.value(own)
    value = payoff - cost
    return jnp.where(jnp.isnan(value), -jnp.inf, value), jnp.abs(payoff) + cost


def _of_concave(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    first, capacity = jnp.zeros_like(own), jnp.asarray(agent.capacity, own.dtype)
    if agent.payoff.of_total:  # a little more, for at the kink itself the slope is that of either side
        kink = agent.payoff.pays_from() * (1.0 + 1e3 * jnp.finfo(own.dtype).eps)
        first = jnp.clip((kink - rest) / agent.quality, 0.0, capacity).astype(own.dtype)
    x = _root(agent, own, rest, first, capacity)
    (nothing, much), _ = jax.vmap(lambda x: _terms(agent, x, rest))(jnp.stack([jnp.zeros_like(x), x]))
    # Where both are equally good she stays on the side where she is.
    worse = jnp.where(own > 0, much < nothing, much <= nothing)
    return jnp.where((first > 0) & worse, 0.0, x)


def _root(agent: games.Game, own: jax.Array, rest: jax.Array, least: jax.Array, most: jax.Array) -> jax.Array:
    """Where her slope falls through 0 between two contributions, by Newton's method kept in a bracket."""
    slope = jax.grad(lambda x: games.utility(agent, x, rest))
    eps = jnp.finfo(own.dtype).eps

    def narrow(carry: tuple) -> tuple:
        low, high, x, _, steps = carry
        value, bend = jax.jvp(slope, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
        newton = x - value / bend
        # Halving every fourth time keeps a badly scaled Newton step from crawling.
        good = (newton >= low) & (newton <= high) & (steps % 4 < 3)
        # On a logarithmic scale where the bracket is wide and does not begin at 0.
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
    """The best of a grid's peaks. Utility finds the place of a jump, slope the digits of a smooth peak."""
    look_at = jax.vmap(lambda x: _terms(agent, x, rest))
    x, values = _grid(agent, rest, own.dtype)
    before, after = jnp.append(-jnp.inf, values[:-1]), jnp.append(values[1:], -jnp.inf)
    peak = (values > before) & (values >= after) | (values >= before) & (values > after)
    ranked, at = jax.lax.top_k(jnp.where(peak, values, -jnp.inf), _PEAKS)

    def look(carry: tuple) -> tuple:
        k, best, most = carry
        around = jnp.clip(at[k] + jnp.arange(-1, 2), 0, len(x) - 1)
        low, _, high = x[around]
        by_utility = _climbed(lambda x: look_at(x)[0], x[around], values[around])
        by_slope = _root(agent, by_utility, rest, low, high)
        (first, second), (terms, _) = look_at(jnp.stack([by_utility, by_slope]))
        # A root of the slope counts unless it is worse by more than rounding: it has twice the digits.
        slope = second >= first - 4 * jnp.finfo(x.dtype).eps * terms
        top, height = jnp.where(slope, by_slope, by_utility), jnp.where(slope, second, first)
        return k + 1, jnp.where(height > most, top, best), jnp.maximum(height, most)

    count = jnp.sum(ranked > -jnp.inf)
    start = jnp.asarray(0), x[0], values[0]
    _, best, most = jax.lax.while_loop(lambda carry: carry[0] < count, look, start)
    # What only rounding makes better than nothing is nothing, or nobody would ever come to rest.
    slope = jax.grad(lambda x: games.utility(agent, x, rest))(x[0])
    rounding = 8 * jnp.finfo(x.dtype).eps * _terms(agent, best, rest)[1]
    noise = (slope <= 0) & (-slope * best <= rounding) & (values[0] >= most - rounding)
    best, most = jnp.where(noise, 0.0, best), jnp.where(noise, values[0], most)
    little = 8 * jnp.finfo(x.dtype).eps * best
    if agent.payoff.of_total:
        little = 8 * jnp.finfo(x.dtype).eps * (jnp.abs(rest) / agent.quality + best)
    # Next to a jump she goes a little further, on its better side: to others the same total may round to the
    # other side, so that they would see a model she does not.
    less, more = jnp.maximum(best - little, 0.0), jnp.minimum(best + little, x[-1])
    heights, terms = look_at(jnp.stack([less, best, more, own]))
    drop = 1e3 * jnp.finfo(x.dtype).eps * terms[1]  # of what is merely smooth, so little makes far less
    rises, falls = (
        (heights[1] - heights[0] > drop) & (less < best),
        (heights[1] - heights[2] > drop) & (more > best),
    )
    best = jnp.where(rises & ~falls, more, jnp.where(falls & ~rises, less, best))
    # She stays where she is if nothing is better; close by, where utility is level to rounding, `best` has
    # the digits of the slope.
    close = jnp.abs(own - best) <= jnp.finfo(x.dtype).eps ** 0.375 * best
    return jnp.where((heights[3] >= most) & ~close, own, best)


def _grid(agent: games.Game, rest: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Contributions that ONE agent could make, ascending, and her utilities."""
    x = jnp.asarray(agent.capacity, dtype) * jnp.asarray(_SHARES, dtype)
    return x, jax.lax.map(lambda x: _terms(agent, x, rest)[0], x)  # one by one, to save memory


def _climbed(u: Callable, x: jax.Array, values: jax.Array) -> jax.Array:
    """The best point found between x[0] and x[2] by halving both sides of the best one so far, x[1] at first.

    Until no number is left between them, as at a jump, or utility is level to rounding.

    Args:
      u: utilities of contributions, [k] -> [k].
      x: [3] ascending contributions.
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
        # An end once more, which another compiled expression rounds up, would lose the place of a jump.
        heights = jnp.where((middles > x[:-1]) & (middles < x[1:]), u(middles), -jnp.inf)
        points = jnp.stack([x[0], middles[0], x[1], middles[1], x[2]])
        heights = jnp.stack([values[0], heights[0], values[1], heights[1], values[2]])
        k = jnp.where(jnp.max(heights[1:4]) > values[1], jnp.argmax(heights[1:4]), 1)
        around = k + jnp.arange(3)
        return points[around], heights[around], steps + 1

    return jax.lax.while_loop(going, halve, (x, values, jnp.asarray(0)))[0][1]


def turns(game: games.Game) -> jax.Array:
    """[n] agents in the order of their turns: by what a sample costs them per value, the cheapest first.

    Which of several equilibria they end in depends on that order, and is not to depend on how agents are
    numbered. Of equal costs, to ten digits, the agent with the most samples comes first.
    """

    def alone(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
        x, values = _grid(agent, rest, own.dtype)
        return agent.quality * x[jnp.argmax(values)]

    # At the same number of standard samples for all, about the most that anybody would give alone: capacities
    # are no measure, as they may be far more than is wanted.
    same = jnp.max(games.over_agents(alone)(game, jnp.zeros_like(game.capacity)))
    same = jnp.where(same > 0, same, jnp.min(game.quality * game.capacity) / 2) / game.quality
    price = games.marginal_costs(game, jnp.minimum(same, game.capacity)) / (game.value * game.quality)
    dearer = jnp.log(price / jnp.min(jnp.where(price > 0, price, jnp.inf)))
    return jnp.lexsort((-game.capacity, jnp.round(1e10 * dearer)))


def sweep(game: games.Game, s: jax.Array, order: jax.Array | None = None) -> jax.Array:
    """Every agent in turn, [n] `order` or as numbered, responds to what the others do by then. [n] -> [n]."""

    def turn(carry: tuple[jax.Array, jax.Array], i: jax.Array) -> tuple:
        s, z = carry
        agent = games.agent_of(game, i)
        new = respond(agent, s[i], games.rest_of(agent, z, s[i], i))
        z = agent.payoff.moved(z, agent.quality * (new - s[i]), i)
        return (s.at[i].set(new), z), None

    (s, _), _ = jax.lax.scan(
        turn, (s, games.statistic(game, s)), jnp.arange(game.n) if order is None else order
    )
    return s


def newton_step(game: games.Game, s: jax.Array) -> jax.Array:
    """The solution of ∂u_i/∂s_i = 0 to first order, for the agents between their bounds; [n] -> [n]."""
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
    """Sweeps until no contribution moves by more than `tolerance` of itself, or of 10⁻⁶ of the largest.

    In between a sweep starts not from where the last one ended but from a jump, of one of three kinds. With
    few agents Newton's method: near an equilibrium the number of right digits then doubles with every
    sweep. If sweeps creep, on along the last change: two agents with nearly equal costs per value, of whom
    one yields to the other by the same little in every sweep, are so through at once. And `settle`, from a
    profile to where agents might end close to it, if the caller knows. A jump after which agents move more
    than before (along a change: half as much again) is taken back, and the next kind has its turn. Where
    payoffs may have several peaks nobody jumps before sweeps have proved to be slow: it could lead past the
    nearest equilibrium.
    """
    s = jnp.clip(games.as_profile(start), 0.0, game.capacity)
    tolerance = max(tolerance, 8 * float(jnp.finfo(s.dtype).eps))
    order, patience = (None, 0) if game.concave else (turns(game), _PATIENCE)
    kinds = [_NEWTON] * (game.n <= NEWTON) + [_ALONG] + [_SETTLED] * (settle is not None)
    next_kind = jnp.asarray([kinds[(kinds.index(k) + 1) % len(kinds)] if k in kinds else k for k in range(4)])

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
    """What a sweep from `base` to `new` leaves to the next: itself, or after a bad jump what was before."""
    mode, moved = carry.mode, _residual(base, new)
    # A jump to where they are, as Newton's method leaves profiles whose equations are singular, is none.
    plain = (mode == _PLAIN) | jnp.all(base == carry.profile)
    kind = jnp.where(plain & (mode != _PLAIN), next_kind[carry.kind], carry.kind)
    # Who creeps to her bound moves by a little more, relative to what is left, the closer she comes.
    good = plain | (moved < jnp.where(mode == _ALONG, 1.5, 1.0) * carry.residual)
    # Newton's steps follow each other; a change to go along is known after two plain sweeps only.
    # Where plain sweeps shrink what is left by 3% and more, a jump along them only disturbs.
    early = (carry.steps < patience) | (kind == _ALONG) & (moved < 0.97 * carry.residual)
    jump = jnp.where(early, _PLAIN, kind)
    after = jnp.where(plain, jump, jnp.where(good & (mode == _NEWTON), _NEWTON, _PLAIN))
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
    shorter = jnp.where(mode == _ALONG, jnp.maximum(carry.reach / 16.0, 1e-9), carry.reach)
    undone = carry._replace(mode=after, kind=next_kind[carry.kind], reach=shorter)
    chosen = jax.tree.map(lambda a, b: jnp.where(good, a, b), kept, undone)
    return chosen._replace(steps=carry.steps + 1)


def _residual(before: jax.Array, after: jax.Array) -> jax.Array:
    """The largest change of a contribution, relative to it, or to 10⁻⁶ of the largest one."""
    change = jnp.abs(after - before)
    size = jnp.maximum(jnp.abs(after), 1e-6 * jnp.max(jnp.abs(after)))
    return jnp.max(jnp.where(change > 0, change / size, 0.0))


def _further(game: games.Game, carry: _Sweeps) -> jax.Array:
    """Where the last change ends if it goes on shrinking as before; at most where somebody is at a bound."""
    s, change, before = carry.profile, carry.change, carry.before
    size = jnp.sum(before * before)
    ratio = jnp.where(size > 0, jnp.sum(change * before) / jnp.where(size > 0, size, 1.0), 0.0)
    times = jnp.where(ratio < 1.0, ratio / jnp.where(ratio < 1.0, 1.0 - ratio, 1.0), jnp.inf)
    moving = jnp.abs(change) > 1e-3 * jnp.max(jnp.abs(change))
    room = jnp.where(change > 0, game.capacity - s, s)
    until_bound = jnp.min(jnp.where(moving, room / jnp.where(moving, jnp.abs(change), 1.0), jnp.inf))
    # A part of the way if more has failed: some agents may not have settled on their way yet.
    return jnp.clip(s + carry.reach * jnp.minimum(times, until_bound) * change, 0.0, game.capacity)
