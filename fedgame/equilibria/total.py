"""Equilibria of payoffs of the total: one number, whatever the number of agents.

At the total S, agent i's best contribution s_i(S) equates her marginal cost with v_i w_i a_i'(S). An
equilibrium total is a root of S = S₀ + Σ w_i s_i(S). Where payoffs are concave, s_i(S) falls with S, so there
is one root. Where payoffs are 0 up to a total z_i (clipped (2) and (3)), s_i(S) jumps up at z_i: between two
neighbouring z_i there is at most one root, and S₀, nobody sharing anything, can be another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games

# Where `root_of_any` evaluates what agents want. First at shares of all samples, on a logarithmic scale, as
# agents may have far more than anybody wants. Then at shares of the most that was wanted there, evenly spaced
# and, near 0, on a logarithmic scale; the last share is above 1, so that what is wanted ends below the total.
_ANYWHERE = np.append(0.0, np.geomspace(1e-18, 1.0, 1024))
_CLOSELY = np.union1d(np.linspace(0.0, 1.0 + 1e-9, 1025), np.geomspace(1e-9, 1e-3, 256))
_MOST_LOOKS = 300  # of one search: a guard against a loop without end, ten are usual


class Root(NamedTuple):
    """A profile that is consistent with its own total."""

    profile: jax.Array  # [n]
    total: jax.Array  # S
    residual: jax.Array  # |S - S₀ - Σ w_i s_i|, samples
    steps: jax.Array  # totals at which the agents' best contributions were evaluated
    ties: jax.Array  # number of agents who are indifferent to their last samples at this total
    flat: jax.Array  # whether somebody is indifferent at smaller totals too: then S is not the only root


class _Search(NamedTuple):
    """The bracket of the root, and the last two evaluations."""

    low: jax.Array  # at this total agents want at least the total
    high: jax.Array  # at this total agents want at most the total
    at: jax.Array  # [2] logarithms of the last two totals
    excess: jax.Array  # [2] log(wanted / total) at them
    slow: jax.Array  # steps since the bracket was last halved, on a logarithmic scale
    steps: jax.Array  # totals evaluated so far


class _Descent(NamedTuple):
    """How far `largest_root` has come on its way down through the intervals between the z_i."""

    upper: jax.Array  # end of the next interval; -∞ if there is none
    root: Root  # the last one accepted, at first nobody's contribution
    found: jax.Array  # whether the last interval has a root at which nobody wants something else
    steps: jax.Array  # totals evaluated so far


def wanted(
    game: games.Game, total: jax.Array, starts: jax.Array | None = None, less: float | jax.Array = 0.0
) -> jax.Array:
    """s_i(S): what each agent wants to contribute when the total is S.

    From z_i on the derivative is that of the unclipped payoff, because at z_i itself the clipped one has
    none.

    Args:
      game: n agents with a payoff of the total.
      total: S, standard samples.
      starts: [n] z_i as `pays_from` returns them; None computes them.
      less: share by which v_i w_i a_i'(S) is lowered. With 0 indifferent agents contribute the largest of
        their best contributions, with a small positive share the smallest.

    Returns:
      [n] samples, between 0 and capacities.
    """
    starts = pays_from(game) if starts is None else starts

    def one(agent: games.Game, start: jax.Array, total: jax.Array) -> jax.Array:
        payoff = agent.payoff.replace(clip=False) if getattr(agent.payoff, "clip", False) else agent.payoff
        slope = jnp.where(total >= start, jax.grad(payoff.curve)(total), 0.0)
        price = agent.value * agent.quality * slope
        # Also a price of 0 is lowered, below 0. Divided by ε, as `less` times `tiny` would be rounded to 0.
        price = price - less * (price + jnp.finfo(price.dtype).tiny / jnp.finfo(price.dtype).eps)
        return jnp.clip(agent.cost.supply(price), 0.0, agent.capacity)

    return jax.vmap(one, (games.agent_axes(game), 0, None))(game, starts, jnp.asarray(total, float))


def pays_from(game: games.Game) -> jax.Array:
    """z_i, the totals from which each agent's payoff is positive and concave, [n] standard samples."""
    payoff = game.payoff
    axes = registry.axes(payoff)
    if not any(axis == 0 for axis in jax.tree.leaves(axes)):
        return jnp.broadcast_to(payoff.pays_from(), (game.n,))
    return jax.vmap(type(payoff).pays_from, (axes,), axis_size=game.n)(payoff)


def largest_root(game: games.Game) -> Root:
    """The root with the largest total at which nobody would rather contribute something quite different.

    Asks those who contribute whether they prefer 0, and those to whom the model is worth nothing at this
    total (S < z_i) whether they prefer to contribute much more. If no root passes, returns the profile in
    which nobody contributes; whether that is an equilibrium the certificate says.

    Args:
      game: n agents with a payoff of the total; `game.concave`.
    """
    starts = pays_from(game)

    def look(descent: _Descent) -> _Descent:
        lower = jnp.max(jnp.where(starts < descent.upper, starts, game.held), initial=game.held)
        root = root_between(game, lower, descent.upper, starts)
        found = jnp.isfinite(root.total) & jnp.all(stays(game, root.profile))
        found &= ~_somebody_jumps(game, root, starts, found)
        accepted = jax.tree.map(lambda new, old: jnp.where(found, new, old), root, descent.root)
        upper = jnp.where(lower > game.held, lower, -jnp.inf)
        return _Descent(upper, accepted, found, descent.steps + root.steps)

    def going(descent: _Descent) -> jax.Array:
        return ~descent.found & (descent.upper > -jnp.inf)

    start = _Descent(most(game), _nobody(game), found=jnp.asarray(False), steps=jnp.asarray(0))
    end = jax.lax.while_loop(going, look, start)
    return end.root._replace(steps=end.steps)


def root_of_any(game: games.Game) -> Root:
    """For payoffs that may be any function of S: the largest root at which what is wanted falls through S.

    What is wanted may rise with S as well, so the sign of S₀ + Σ w_i s_i(S) - S is evaluated at some thousand
    totals, up to the most that is wanted at any of them: samples that nobody wants make no difference. If the
    sign never falls, returns the profile in which nobody contributes. At a root own gradients vanish; whether
    somebody would rather contribute something quite different is not checked.

    Args:
      game: n agents with a payoff of the total.
    """
    starts, dtype = pays_from(game), jnp.result_type(float)

    def all_want(totals: jax.Array) -> jax.Array:
        return jax.lax.map(lambda total: _total_of(game, wanted(game, total, starts)), totals)

    anywhere = game.held + (most(game) - game.held) * jnp.asarray(_ANYWHERE, dtype)
    room = jnp.nanmax(all_want(anywhere)) - game.held
    totals = game.held + room * jnp.asarray(_CLOSELY, dtype)
    enough = (all_want(totals) >= totals).at[-1].set(False)  # in float32 a little more than all is all
    falls = enough[:-1] & ~enough[1:]
    last_fall = len(falls) - 1 - jnp.argmax(falls[::-1])
    root = root_between(game, totals[last_fall], totals[last_fall + 1], starts)
    found = jnp.any(falls) & jnp.isfinite(root.total)
    return jax.tree.map(lambda root, nobody: jnp.where(found, root, nobody), root, _nobody(game))


def settled(game: games.Game, s: jax.Array) -> jax.Array:
    """The root whose total is within 1% of that of the profile s: where slow sweeps from s will end.

    Agents with nearly equal costs per value yield to each other little by little in best-response sweeps; the
    root is where that ends. If agents are tied there, the split of the total in s is as good as any other, so
    none is returned.

    Args:
      game: n agents with a payoff of the total.
      s: [n] samples.

    Returns:
      [n] samples; NaN if there is no root, or agents are tied.
    """
    total = games.statistic(game, s)
    root = root_between(game, jnp.maximum(0.99 * total, game.held), jnp.minimum(1.01 * total, most(game)))
    return jnp.where(jnp.isfinite(root.total) & (root.ties < 2), root.profile, jnp.nan)


def _somebody_jumps(game: games.Game, root: Root, starts: jax.Array, asked: jax.Array) -> jax.Array:
    """Whether an agent to whom the total S is worth nothing prefers to contribute enough beyond z_i.

    `asked` says whether it matters. A loop of at most one turn rather than `cond`, because under vmap a loop
    is skipped if no game needs it, while `cond` would always be computed.
    """

    def one(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
        slope = jax.grad(lambda x: games.utility(agent, x, rest))

        def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bracket
            middle = _middle(low, high)
            rises = slope(middle) > 0
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        capacity = jnp.asarray(agent.capacity, own.dtype)
        first = jnp.clip((agent.payoff.pays_from() - rest) / agent.quality, 0.0, capacity).astype(own.dtype)
        # 22 halvings find the maximiser to about 10⁻⁴, and so the maximum to about 10⁻⁸: certificates, whose
        # tolerance is 10⁻⁶, would accept more.
        _, much = jax.lax.fori_loop(0, 22, halve, (first, capacity))
        now, then = jax.vmap(lambda x: games.utility(agent, x, rest))(jnp.stack([own, much]))
        worthless = rest + agent.quality * own < agent.payoff.pays_from()
        return worthless & (then - now > _slack(agent, much, rest))

    def look(_: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(False), jnp.any(games.over_agents(one)(game, root.profile))

    asked &= jnp.any((starts > root.total) & jnp.isfinite(starts))
    _, jumps = jax.lax.while_loop(lambda carry: carry[0], look, (asked, jnp.asarray(False)))
    return jumps


def _slack(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """The largest difference of ONE agent's utilities that rounding may explain: 64 ε of their terms."""
    total = agent.quality * own + rest
    # A payoff just above 0 is the difference of larger numbers. 16 times as much data shows how large.
    more = jnp.abs(agent.payoff.curve(16.0 * total))
    payoff = jnp.maximum(jnp.abs(agent.payoff.curve(total)), jnp.where(jnp.isfinite(more), more, 0.0))
    return 64 * jnp.finfo(own.dtype).eps * (agent.value * payoff + jnp.abs(agent.cost.value(own)))


def _nobody(game: games.Game) -> Root:
    """The profile in which nobody contributes, as a `Root`."""
    nothing = jnp.zeros(game.n, jnp.result_type(float))
    held = jnp.asarray(game.held, nothing.dtype)
    return Root(
        profile=nothing,
        total=held,
        residual=jnp.zeros_like(held),
        steps=jnp.asarray(0),
        ties=jnp.asarray(0),
        flat=jnp.asarray(False),
    )


def stays(game: games.Game, profile: jax.Array) -> jax.Array:
    """Whether each agent prefers her contribution in `profile` to 0, or is indifferent, [n].

    Where payoffs are clipped, 0 is the other candidate for a best response.
    """

    def one(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
        now, nothing = games.utility(agent, own, rest), games.utility(agent, 0.0 * own, rest)
        # Not `now >= …`: a payoff that is NaN at 0, as in the raw (2), must not make her leave.
        return ~(now < nothing - _slack(agent, own, rest))

    return games.over_agents(one)(game, profile)


def root_between(
    game: games.Game, lower: jax.Array, upper: jax.Array, starts: jax.Array | None = None
) -> Root:
    """The root S = S₀ + Σ w_i s_i(S) in (lower, upper); its total is NaN if there is none.

    Σ w_i s_i(S) falls with S. So if agents want W in all at a total T, the root lies between T and W, and
    every evaluation narrows the bracket from one side or both. The next T is the secant's through the last
    two evaluations, on logarithmic scales, where power laws are straight lines; or the middle of the bracket
    if the secant leaves it or has been slow.

    Args:
      game: n agents with a payoff of the total; no z_i lies strictly between the ends.
      lower, upper: ends of the interval, standard samples.
      starts: [n] z_i as `pays_from` returns them; None computes them.
    """
    starts = pays_from(game) if starts is None else starts
    dtype = jnp.result_type(float)
    tolerance, margin = _precision(dtype)
    least = jnp.asarray(1e-30 * upper, dtype)  # on a logarithmic scale 0 is far away
    # If less than that is wanted there, the root is smaller still: capacities may be anything.
    smallest = jnp.minimum(least, jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps)
    least = jnp.where(_total_of(game, wanted(game, least, starts)) < least, smallest, least)
    inside = jnp.maximum(lower * (1.0 + margin), least)
    top = jnp.maximum(upper * (1.0 - margin), inside)

    def narrow(search: _Search) -> _Search:
        total = _next_total(search)
        sum_wanted = _total_of(game, wanted(game, total, starts))
        low = jnp.maximum(search.low, jnp.minimum(total, sum_wanted))
        high = jnp.maximum(low, jnp.minimum(search.high, jnp.maximum(total, sum_wanted)))
        halved = jnp.log(high / low) <= 0.5 * jnp.log(search.high / search.low)
        slow = jnp.where(halved | (search.slow >= 3), 0, search.slow + 1)
        at = jnp.stack([search.at[1], jnp.log(total)])
        excess = jnp.stack([search.excess[1], jnp.log(sum_wanted / total)])
        return _Search(low, high, at, excess, slow, search.steps + 1)

    def going(search: _Search) -> jax.Array:
        return (search.high - search.low > tolerance * search.high) & (search.steps < _MOST_LOOKS)

    nowhere = jnp.zeros(2, dtype)
    start = _Search(inside, top, at=nowhere, excess=nowhere, slow=jnp.asarray(0), steps=jnp.asarray(0))
    search = jax.lax.while_loop(going, narrow, start)
    # A bracket that has shrunk to one end has no root in it, unless the end is S₀ or all there is.
    none_above_lower = (search.high <= inside) & (lower > game.held)
    none_below_upper = (search.low >= top) & (upper < most(game))
    root = _split(game, search, lower, starts)
    return root._replace(total=jnp.where(none_above_lower | none_below_upper, jnp.nan, root.total))


def _precision(dtype: jnp.dtype) -> tuple[float, float]:
    """`tolerance` and `margin` of `root_between`, relative to totals.

    The search ends when the bracket is `tolerance` wide: 45 ε in float64, 8 ε in float32. `margin` is ten
    times that: what is wanted may round differently from one compiled expression to another, and `margin`
    away from the root that does not matter.
    """
    return (1e-14, 1e-13) if dtype == jnp.float64 else (1e-6, 1e-5)


def _split(game: games.Game, search: _Search, lower: jax.Array, starts: jax.Array) -> Root:
    """The profile at the root that a search has bracketed, and who is indifferent there.

    On the two sides of the root only indifferent agents want different contributions. They fill what S lacks.
    """
    dtype = jnp.result_type(float)
    _, margin = _precision(dtype)
    # How far below the root `flat` looks, and from which share of her contribution on an agent counts as
    # indifferent: far above `margin`, since what is wanted moves with the total.
    apart, wide = (1e-6, 1e-6) if dtype == jnp.float64 else (1e-2, 1e-3)
    total = (search.low + search.high) / 2
    left, right = jnp.maximum(search.low * (1.0 - margin), lower), search.high * (1.0 + margin)
    below = total * (1.0 - apart)
    # Largest best contributions left of the root, largest right of it; largest and smallest further below.
    more, less, most_below, least_below = jax.vmap(lambda total, less: wanted(game, total, starts, less))(
        jnp.stack([left, right, below, below]), margin * jnp.asarray([0.0, 0.0, 0.0, 1.0], dtype)
    )
    profile = less + _shared_out(game, total, less, more - less)
    # A total that is only rounding of what indifferent agents might give counts as 0: no total is smaller.
    positive = total > 1e-2 * margin * jnp.sum(game.quality * (more - less))
    return Root(
        profile=profile,
        total=total,
        residual=jnp.abs(_total_of(game, profile) - total),
        steps=search.steps + 2,
        ties=jnp.sum(more - less > wide * more),
        flat=positive & jnp.any(most_below - least_below > wide * most_below),
    )


def _next_total(search: _Search) -> jax.Array:
    """The next total to evaluate: first both ends, then the secant's root or the middle of the bracket."""
    (log_before, log_last), (excess_before, excess_last) = search.at, search.excess
    low, high = search.low, search.high
    secant = jnp.exp(log_last - excess_last * (log_last - log_before) / (excess_last - excess_before))
    good = (secant > low) & (secant < high) & (search.slow < 3)
    later = jnp.where(good, secant, _middle(low, high))
    return jnp.where(search.steps == 0, low, jnp.where(search.steps == 1, high, later))


def _middle(low: jax.Array, high: jax.Array) -> jax.Array:
    """The middle of a bracket, on a logarithmic scale while it spans more than a factor of 4.

    A capacity may be larger than what is wanted by many orders of magnitude.
    """
    return jnp.where(high > 4.0 * low, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)


def _shared_out(game: games.Game, total: jax.Array, given: jax.Array, extra: jax.Array) -> jax.Array:
    """What agents add to `given` so that the total is S: the same share of `extra` for all, [n] samples.

    Where payoffs are 0 without her, an agent whose contribution costs more than her payoff at S is worth
    would rather give nothing. So nobody is asked for more than that, if the total is reached all the same.
    """

    def one(agent: games.Game, total: jax.Array) -> jax.Array:
        worth = agent.value * agent.payoff.curve(total)
        return agent.cost.inverse(worth + agent.cost.value(jnp.zeros_like(total)))

    limit = jax.vmap(one, (games.agent_axes(game), None))(game, total)
    lacking = total - _total_of(game, given)

    def shares(extra: jax.Array) -> jax.Array:
        spread = jnp.sum(game.quality * extra)
        return extra * jnp.clip(lacking / jnp.where(spread > 0, spread, 1.0), 0.0, 1.0)

    equal = shares(extra)
    bearable = jnp.where(limit - given < extra, jnp.maximum(limit - given, 0.0), extra)
    too_much = jnp.any(given + equal > limit) & (jnp.sum(game.quality * bearable) >= lacking)
    return jnp.where(too_much, shares(bearable), equal)


def most(game: games.Game) -> jax.Array:
    """The total S if everybody contributes her capacity, standard samples."""
    return _total_of(game, game.capacity)


def _total_of(game: games.Game, s: jax.Array) -> jax.Array:
    """S = S₀ + Σ w_i s_i."""
    return game.held + jnp.sum(game.quality * s)
