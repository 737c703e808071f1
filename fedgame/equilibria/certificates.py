"""Proofs that a profile is an equilibrium, sharing no code with the solvers that find it.

A vanishing gradient proves nothing where utilities are not concave; the Nash gap, how much an agent
could still gain by any deviation of her own, does (Definition 1).
"""

import jax
import jax.numpy as jnp

from fedgame.games import game as games

_FIRST = 1025  # points of the first look at all of [0, τ_i]
_ZOOM = 33  # points of each closer look; every one narrows the interval 16 times
_LOOKS = 12  # the last interval is τ_i / (512 · 16¹²), below float64 resolution


def best_response(game: games.Game, s: jax.Array) -> jax.Array:
    """f_i(s_-i) for every agent at once: a global maximiser of u_i over [0, τ_i] (Proposition 1).

    A grid over the whole interval, then ever closer looks around the best point. Where u_i is
    concave the maximum is found to rounding; elsewhere unless a peak hides between two of the first
    1,025 points. Costs O(n·m·log(1/ε)) time and O(n·m) memory.

    Args:
      game: n agents.
      s: [n] profile.

    Returns:
      [n] contributions; the smallest of several equally good ones on the grid.
    """
    s = games.as_profile(s)
    rest = game.payoff.rest(s)
    utility = games.over_agents(games.utility)

    def look(low: jax.Array, high: jax.Array, points: int) -> tuple[jax.Array, jax.Array]:
        def try_point(best: tuple[jax.Array, jax.Array], k: jax.Array) -> tuple:
            best_x, best_u = best
            x = low + (high - low) * (k / (points - 1))
            u = utility(game, x, rest)
            better = u > best_u
            return (jnp.where(better, x, best_x), jnp.where(better, u, best_u)), None

        start = low, jnp.full_like(low, -jnp.inf)
        (x, _), _ = jax.lax.scan(try_point, start, jnp.arange(points))
        width = (high - low) / (points - 1)
        return jnp.maximum(x - width, low), jnp.minimum(x + width, high)

    capacity = jnp.asarray(game.capacity, s.dtype)
    interval = look(jnp.zeros_like(capacity), capacity, _FIRST)
    low, high = jax.lax.fori_loop(0, _LOOKS, lambda _, i: look(*i, _ZOOM), interval)
    # The ends of the range are exact candidates: the answer is often 0 or τ_i itself.
    candidates = jnp.stack([jnp.zeros_like(capacity), (low + high) / 2, capacity])
    values = jax.vmap(lambda x: utility(game, x, rest))(candidates)
    return jnp.take_along_axis(candidates, jnp.argmax(values, axis=0)[None], axis=0)[0]


def nash_gap(game: games.Game, s: jax.Array) -> jax.Array:
    """max_x u_i(x, s_-i) - u_i(s) for every agent, [n], ≥ 0 up to rounding: 0 at an equilibrium.

    `s` lies in the box [0, τ]; the gap of the profile is the largest entry.
    """
    s = games.as_profile(s)
    rest = game.payoff.rest(s)
    utility = games.over_agents(games.utility)
    best = utility(game, best_response(game, s), rest)
    return jnp.maximum(best - utility(game, s, rest), 0.0)


def is_equilibrium(
    game: games.Game, s: jax.Array, tolerance: float = 1e-6, gap: jax.Array | None = None
) -> jax.Array:
    """Whether every agent's Nash gap is at most tolerance · max(1, |u_i|) and s is feasible.

    `gap` is `nash_gap(game, s)` where it is known already; it is most of the work.
    """
    gap = nash_gap(game, s) if gap is None else gap
    feasible = jnp.all((s >= 0) & (s <= game.capacity))
    scale = jnp.maximum(1.0, jnp.abs(games.utilities(game, s)))
    return feasible & jnp.all(gap <= tolerance * scale)
