"""Equilibria of payoffs of the total: one number, whatever the number of agents.

At a total S agent i wants the contribution at which her marginal cost is v_i w_i a_i'(S), and S must be
S₀ plus what they want. Where payoffs are concave, what is wanted falls with S, so there is one such S.
Where payoffs are 0 up to a total z_i (clipped (2) and (3)) what is wanted jumps up at every z_i: between
two neighbouring z_i there is at most one such S, and S₀, nobody sharing anything, can be another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games

# Shares of all samples, and of all that anybody wants, at which `root_of_any` looks; more than all at last.
_ANYWHERE = np.append(0.0, np.geomspace(1e-18, 1.0, 1024))
_CLOSELY = np.union1d(np.linspace(0.0, 1.0 + 1e-9, 1025), np.geomspace(1e-9, 1e-3, 256))


class Root(NamedTuple):
    """A profile that is consistent with its own total."""

    profile: jax.Array  # [n]
    total: jax.Array  # S
    residual: jax.Array  # |S - S₀ - Σ w_i s_i|, samples
    steps: jax.Array  # evaluations of what everybody wants
    ties: jax.Array  # how many agents are indifferent to their last samples, at this total
    flat: jax.Array  # whether somebody is so at smaller totals too, so that S is not the only one


class _Search(NamedTuple):
    """The bracket of the root, and the last two evaluations."""

    low: jax.Array  # what is wanted here is at least the total
    high: jax.Array  # and here at most
    at: jax.Array  # [2] logarithms of the totals last looked at
    excess: jax.Array  # [2] log(wanted / total) there
    slow: jax.Array  # steps since the bracket was last halved, on a logarithmic scale
    steps: jax.Array


def wanted(
    game: games.Game, total: jax.Array, starts: jax.Array | None = None, less: float | jax.Array = 0.0
) -> jax.Array:
    """What each agent wants to contribute when the total is S, [n], between 0 and her capacity.

    `starts` are `pays_from(game)`, if known already. From z_i on the unclipped payoff counts, at z_i
    itself too: there the clipped one has no derivative. `less` > 0 lowers prices by that share: then
    indifferent agents contribute the least, not the most, that they want.
    """
    starts = pays_from(game) if starts is None else starts

    def one(agent: games.Game, start: jax.Array, total: jax.Array) -> jax.Array:
        payoff = agent.payoff.replace(clip=False) if getattr(agent.payoff, "clip", False) else agent.payoff
        slope = jnp.where(total >= start, jax.grad(payoff.curve)(total), 0.0)
        price = agent.value * agent.quality * slope
        price = price - less * (price + jnp.finfo(price.dtype).tiny / jnp.finfo(price.dtype).eps)
        return jnp.clip(agent.cost.supply(price), 0.0, agent.capacity)

    return jax.vmap(one, (games.agent_axes(game), 0, None))(game, starts, jnp.asarray(total, float))


def pays_from(game: games.Game) -> jax.Array:
    """[n] z_i, the total from which agent i's payoff is positive and concave."""
    payoff = game.payoff
    axes = registry.axes(payoff)
    if not any(axis == 0 for axis in jax.tree.leaves(axes)):
        return jnp.broadcast_to(payoff.pays_from(), (game.n,))
    return jax.vmap(type(payoff).pays_from, (axes,), axis_size=game.n)(payoff)


def largest_root(game: games.Game) -> Root:
    """The consistent profile with the largest total at which nobody would rather do something else.

    Not only those who contribute are asked whether they would rather give nothing, also those to whom the
    model is worth nothing at this total whether they would rather give much. If there is no such profile:
    nobody contributes (that may be no equilibrium either; the certificate tells).
    """
    starts = pays_from(game)

    def look(carry: tuple) -> tuple:
        upper, best, found, steps = carry
        lower = jnp.max(jnp.where(starts < upper, starts, game.held), initial=game.held)
        root = root_between(game, lower, upper, starts)
        found = jnp.isfinite(root.total) & jnp.all(stays(game, root.profile))
        found &= ~_somebody_jumps(game, root, starts, found)
        best = jax.tree.map(lambda a, b: jnp.where(found, a, b), root, best)
        return jnp.where(lower > game.held, lower, -jnp.inf), best, found, steps + root.steps

    start = most(game), _nobody(game), jnp.asarray(False), jnp.asarray(0)
    _, root, _, steps = jax.lax.while_loop(lambda x: ~x[2] & (x[0] > -jnp.inf), look, start)
    return root._replace(steps=steps)


def root_of_any(game: games.Game) -> Root:
    """For payoffs that may be any function of S: the largest total at which what is wanted falls through it.

    That total is looked for between two of some thousand, because what is wanted may rise with S as well:
    up to the most that is wanted at any total, so that it does not matter how much agents have whom nobody
    asks. Nobody contributes if there is none. The slopes of agents vanish there; whether anybody would rather
    do something quite different is not asked.
    """
    starts, dtype = pays_from(game), jnp.result_type(float)

    def all_want(totals: jax.Array) -> jax.Array:
        return jax.lax.map(lambda total: _sum(game, wanted(game, total, starts)), totals)

    anywhere = game.held + (most(game) - game.held) * jnp.asarray(_ANYWHERE, dtype)
    room = jnp.nanmax(all_want(anywhere)) - game.held
    totals = game.held + room * jnp.asarray(_CLOSELY, dtype)
    enough = (all_want(totals) >= totals).at[-1].set(False)  # in float32 a little more than all is all
    falls = enough[:-1] & ~enough[1:]
    k = len(falls) - 1 - jnp.argmax(falls[::-1])
    root = root_between(game, totals[k], totals[k + 1], starts)
    found = jnp.any(falls) & jnp.isfinite(root.total)
    return jax.tree.map(lambda a, b: jnp.where(found, a, b), root, _nobody(game))


def settled(game: games.Game, s: jax.Array) -> jax.Array:
    """[n] what agents want at a total within 1% of that of s, at which just that is wanted; NaN if none.

    Where agents with nearly equal costs per value yield to each other little by little, they end there. None
    where some are tied: another split of the same total than theirs would be as good, and not better.
    """
    total = games.statistic(game, s)
    root = root_between(game, jnp.maximum(0.99 * total, game.held), jnp.minimum(1.01 * total, most(game)))
    return jnp.where(jnp.isfinite(root.total) & (root.ties < 2), root.profile, jnp.nan)


def _somebody_jumps(game: games.Game, root: Root, starts: jax.Array, asked: jax.Array) -> jax.Array:
    """Whether an agent to whom S is worth nothing would rather give enough for a model that is.

    A loop of at most one turn, because under vmap it is not computed when no game asks for it.
    """

    def one(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
        slope = jax.grad(lambda x: games.utility(agent, x, rest))

        def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bracket
            wide = high > 4.0 * low  # a capacity may be far more than is wanted
            middle = jnp.where(wide, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
            rises = slope(middle) > 0
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        capacity = jnp.asarray(agent.capacity, own.dtype)
        first = jnp.clip((agent.payoff.pays_from() - rest) / agent.quality, 0.0, capacity).astype(own.dtype)
        # To 10⁻⁴ or so, where utility misses 10⁻⁸ of its maximum: a certificate would not mind more.
        _, much = jax.lax.fori_loop(0, 22, halve, (first, capacity))
        now, then = jax.vmap(lambda x: games.utility(agent, x, rest))(jnp.stack([own, much]))
        return (rest + agent.quality * own < agent.payoff.pays_from()) & (
            then - now > _slack(agent, much, rest)
        )

    def look(_: tuple) -> tuple:
        return jnp.asarray(False), jnp.any(games.over_agents(one)(game, root.profile))

    asked &= jnp.any((starts > root.total) & jnp.isfinite(starts))
    return jax.lax.while_loop(lambda carry: carry[0], look, (asked, jnp.asarray(False)))[1]


def _slack(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """Differences of ONE agent's utilities up to this are rounding."""
    total = agent.quality * own + rest
    # A payoff just above 0 is the difference of larger numbers: at more data one sees how large.
    more = jnp.abs(agent.payoff.curve(16.0 * total))
    payoff = jnp.maximum(jnp.abs(agent.payoff.curve(total)), jnp.where(jnp.isfinite(more), more, 0.0))
    return 64 * jnp.finfo(own.dtype).eps * (agent.value * payoff + jnp.abs(agent.cost.value(own)))


def _nobody(game: games.Game) -> Root:
    nothing = jnp.zeros(game.n, jnp.result_type(float))
    held = jnp.asarray(game.held, nothing.dtype)
    return Root(nothing, held, jnp.zeros_like(held), *2 * [jnp.asarray(0)], jnp.asarray(False))


def stays(game: games.Game, profile: jax.Array) -> jax.Array:
    """[n] whether an agent prefers her contribution to 0, the other candidate where payoffs are clipped."""

    def one(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
        now, nothing = games.utility(agent, own, rest), games.utility(agent, 0.0 * own, rest)
        # Written so that an undefined payoff of giving nothing, as in the raw (2), is no temptation.
        return ~(now < nothing - _slack(agent, own, rest))

    return games.over_agents(one)(game, profile)


def root_between(
    game: games.Game, lower: jax.Array, upper: jax.Array, starts: jax.Array | None = None
) -> Root:
    """The S in (lower, upper) that is S₀ plus what agents want at S; total NaN if there is none.

    Every look at a total T, where agents want W in all, brackets the root between T and W, for W falls
    with T. The next T is the secant's through the last two looks, on logarithmic scales, where power
    laws are straight lines; or the middle of the bracket if the secant leaves it or is slow.
    """
    starts = pays_from(game) if starts is None else starts
    dtype = jnp.result_type(float)
    precise = dtype == jnp.float64
    tolerance, margin, apart, wide = (1e-14, 1e-13, 1e-6, 1e-6) if precise else (1e-6, 1e-5, 1e-2, 1e-3)
    inside = jnp.maximum(lower * (1.0 + margin), 1e-30 * upper)  # on a logarithmic scale 0 is far away
    top = jnp.maximum(upper * (1.0 - margin), inside)

    def narrow(search: _Search) -> _Search:
        total = _next_total(search)
        sum_wanted = _sum(game, wanted(game, total, starts))
        low = jnp.maximum(search.low, jnp.minimum(total, sum_wanted))
        high = jnp.maximum(low, jnp.minimum(search.high, jnp.maximum(total, sum_wanted)))
        halved = jnp.log(high / low) <= 0.5 * jnp.log(search.high / search.low)
        slow = jnp.where(halved | (search.slow >= 3), 0, search.slow + 1)
        at = jnp.stack([search.at[1], jnp.log(total)])
        excess = jnp.stack([search.excess[1], jnp.log(sum_wanted / total)])
        return _Search(low, high, at, excess, slow, search.steps + 1)

    def going(search: _Search) -> jax.Array:
        return (search.high - search.low > tolerance * search.high) & (search.steps < 300)

    nowhere = jnp.zeros(2, dtype)
    start = _Search(inside, top, nowhere, nowhere, *2 * [jnp.asarray(0)])
    search = jax.lax.while_loop(going, narrow, start)
    # On the two sides of the root only indifferent agents differ: they fill what S still lacks. A
    # margin, because what is wanted may round differently from one compiled expression to another.
    total = (search.low + search.high) / 2
    below = total * (1.0 - apart)
    sides = jnp.maximum(search.low * (1.0 - margin), lower), search.high * (1.0 + margin), below, below
    more, less, most_below, least_below = jax.vmap(lambda total, less: wanted(game, total, starts, less))(
        jnp.stack(sides), margin * jnp.asarray([0.0, 0.0, 0.0, 1.0], dtype)
    )
    profile = less + _shared_out(game, total, less, more - less)
    # At an end what is wanted is on the wrong side: then only S₀ or everything can be the total.
    missing = (search.high <= inside) & (lower > game.held) | (search.low >= top) & (upper < most(game))
    return Root(
        profile,
        jnp.where(missing, jnp.nan, total),
        jnp.abs(_sum(game, profile) - total),
        search.steps + 2,
        jnp.sum(more - less > wide * more),
        (total > 1e-2 * margin * jnp.sum(game.quality * (more - less)))
        & jnp.any(most_below - least_below > wide * most_below),
    )


def _next_total(search: _Search) -> jax.Array:
    """The total to look at next: the secant's root, or the middle of the bracket."""
    (a, b), (y, z) = search.at, search.excess
    low, high = search.low, search.high
    secant = jnp.exp(b - z * (b - a) / (z - y))
    middle = jnp.where(high > 4.0 * low, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
    inner = jnp.where((secant > low) & (secant < high) & (search.slow < 3), secant, middle)
    return jnp.where(search.steps == 0, low, jnp.where(search.steps == 1, high, inner))


def _shared_out(game: games.Game, total: jax.Array, given: jax.Array, extra: jax.Array) -> jax.Array:
    """[n] the same share for everybody of what she could give besides, so that all give S in all.

    Nobody is asked for more than her payoff at S is worth to her, as long as that suffices: else, where
    payoffs are 0 without her, she would rather give nothing.
    """

    def one(agent: games.Game, total: jax.Array) -> jax.Array:
        worth = agent.value * agent.payoff.curve(total)
        return agent.cost.inverse(worth + agent.cost.value(jnp.zeros_like(total)))

    limit = jax.vmap(one, (games.agent_axes(game), None))(game, total)
    lacking = total - _sum(game, given)

    def shares(extra: jax.Array) -> jax.Array:
        spread = jnp.sum(game.quality * extra)
        return extra * jnp.clip(lacking / jnp.where(spread > 0, spread, 1.0), 0.0, 1.0)

    equal = shares(extra)
    bearable = jnp.where(limit - given < extra, jnp.maximum(limit - given, 0.0), extra)
    too_much = jnp.any(given + equal > limit) & (jnp.sum(game.quality * bearable) >= lacking)
    return jnp.where(too_much, shares(bearable), equal)


def most(game: games.Game) -> jax.Array:
    """S if everybody contributes her capacity."""
    return _sum(game, game.capacity)


def _sum(game: games.Game, s: jax.Array) -> jax.Array:
    return game.held + jnp.sum(game.quality * s)
