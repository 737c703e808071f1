"""Equilibria by best responses, one agent after the other (Gauss-Seidel), sped up by Newton's method.

For payoffs of a linear statistic of m numbers a sweep costs O(n·m) time, and no n×n array is formed
unless there are few enough agents for Newton's method.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedgame.games import game as games

_GRID = 129  # points of an interval, where there may be several peaks
NEWTON = 256  # most agents for a Newton step, which solves n equations: 5 ms at 256


class Result(NamedTuple):
    """Where the sweeps ended."""

    profile: jax.Array  # [n]
    residual: jax.Array  # largest change of a contribution in the last sweep, relative to capacities
    steps: jax.Array  # sweeps


def respond(agent: games.Game, own: jax.Array, rest: jax.Array) -> jax.Array:
    """ONE agent's best contribution: Newton's method kept in a bracket.

    The bracket is all of [0, τ] where her payoff is known to be concave, else two cells around the best
    point of a grid.
    """
    slope = jax.grad(lambda x: games.utility(agent, x, rest))
    least, capacity = jnp.zeros_like(own), jnp.asarray(agent.capacity, own.dtype)
    if not agent.payoff.concave:
        x = capacity * jnp.linspace(0.0, 1.0, _GRID, dtype=own.dtype)
        values = jax.lax.map(lambda x: games.utility(agent, x, rest), x)
        k = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
        least, capacity = x[jnp.maximum(k - 1, 0)], x[jnp.minimum(k + 1, _GRID - 1)]
    tolerance = 4 * jnp.finfo(own.dtype).eps * capacity

    def narrow(carry: tuple) -> tuple:
        low, high, x, _, steps = carry
        value, bend = jax.jvp(slope, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
        newton = x - value / bend
        # Halving every fourth time keeps a badly scaled Newton step from crawling.
        good = (newton >= low) & (newton <= high) & (steps % 4 < 3)
        new = jnp.where(good, newton, (low + high) / 2)
        return low, high, new, jnp.abs(new - x), steps + 1

    def going(carry: tuple) -> jax.Array:
        low, high, _, moved, steps = carry
        return (moved > tolerance) & (high - low > tolerance) & (steps < 100)

    at_least, at_most = slope(least) <= 0, slope(capacity) >= 0
    low, high = jnp.where(at_most, capacity, least), jnp.where(at_least, least, capacity)
    inside = jnp.where((own > least) & (own < capacity), own, (least + capacity) / 2)
    start = low, jnp.maximum(high, low), inside, jnp.full_like(own, jnp.inf), jnp.asarray(0)
    _, _, x, _, _ = jax.lax.while_loop(going, narrow, start)
    return jnp.where(at_least, least, jnp.where(at_most, capacity, jnp.clip(x, least, capacity)))


def sweep(game: games.Game, s: jax.Array) -> jax.Array:
    """Every agent in turn responds to what the others do by then. [n] -> [n]."""

    def turn(carry: tuple[jax.Array, jax.Array], i: jax.Array) -> tuple:
        s, z = carry
        agent = games.agent_of(game, i)
        new = respond(agent, s[i], games.rest_of(agent, z, s[i], i))
        z = agent.payoff.moved(z, agent.quality * (new - s[i]), i)
        return (s.at[i].set(new), z), None

    (s, _), _ = jax.lax.scan(turn, (s, games.statistic(game, s)), jnp.arange(game.n))
    return s


def newton_step(game: games.Game, s: jax.Array) -> jax.Array:
    """The solution of ∂u_i/∂s_i = 0 to first order, for the agents between their bounds; [n] -> [n]."""
    gradient, matrix = games.own_gradient(game, s), games.jacobian(game, s)
    free = (s > 0) & (s < game.capacity)
    both = free[:, None] & free[None, :]
    matrix = jnp.where(both, matrix, jnp.eye(game.n, dtype=s.dtype))
    step = jnp.linalg.solve(matrix, jnp.where(free, -gradient, 0.0))
    return jnp.clip(s + step, 0.0, game.capacity)


def run(game: games.Game, start: jax.Array, sweeps: int, tolerance: float = 1e-12) -> Result:
    """Sweeps until no contribution moves by more than `tolerance` of the largest capacity.

    With few agents every sweep starts from a Newton step, unless the last such sweep moved more than
    the one before: near an equilibrium the number of right digits then doubles with every sweep.
    """
    s = jnp.clip(games.as_profile(start), 0.0, game.capacity)
    scale = jnp.maximum(jnp.max(game.capacity), jnp.finfo(s.dtype).tiny)
    tolerance = max(tolerance, 8 * float(jnp.finfo(s.dtype).eps))

    def going(carry: tuple) -> jax.Array:
        _, residual, _, steps = carry
        return (residual > tolerance) & (steps < sweeps)

    def body(carry: tuple) -> tuple:
        s, residual, jump, steps = carry
        base = jnp.where(jump, newton_step(game, s), s) if game.n <= NEWTON else s
        new = sweep(game, base)
        moved = jnp.max(jnp.abs(new - base)) / scale
        good = ~jump | (moved < residual)
        return jnp.where(good, new, s), jnp.where(good, moved, residual), good, steps + 1

    first = s, jnp.full((), jnp.inf, s.dtype), jnp.asarray(False), jnp.asarray(0)
    s, residual, _, steps = jax.lax.while_loop(going, body, first)
    return Result(s, residual, steps)
