"""Proofs that a profile is an equilibrium, sharing no code with the solvers that find it.

A vanishing gradient proves nothing where utilities are not concave; the Nash gap, how much an agent
could still gain by any deviation of her own, does (Definition 1).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import game as games

_FIRST = 1025  # points of the first look at all of [0, τ_i]
_PEAKS = 4  # the best local maxima of the first look, each looked at more closely
_ZOOM = 33  # points of each closer look; every one narrows the interval 16 times
_LOOKS = 12  # the last interval is τ_i / (512 · 16¹²), below float64 resolution


def best_response(game: games.Game, s: jax.Array) -> jax.Array:
    """f_i(s_-i) for every agent at once: a global maximiser of u_i over [0, τ_i] (Proposition 1).

    Where a_i is known to be 0 first and concave from some contribution on (all of Section 2.1,
    clipped or not, and measured curves): the better of 0 and the root of the own gradient, by
    bisection down to 10⁻³⁰ τ_i. Payoffs given as functions: a grid, then ever closer looks around the
    four best local maxima, which misses only a peak that hides between two of 1,025 points. Costs
    O(n·m·log(1/ε)) time and O(n·m) memory.

    Args:
      game: n agents.
      s: [n] profile.

    Returns:
      [n] contributions; 0 if nothing is better, else where several are equally good, one of them.
    """

    one = games.over_agents(lambda agent, own, rest: _best(agent, rest, own.dtype)[0])
    return one(game, games.as_profile(s))


def examine(game: games.Game, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The Nash gaps and the utilities of all agents, [n] each, for little more than the gaps alone."""

    def one(agent: games.Game, own: jax.Array, rest: Any) -> tuple[jax.Array, jax.Array]:
        now = games.utility(agent, own, rest)
        return jnp.maximum(_best(agent, rest, own.dtype)[1] - now, 0.0), now

    return games.over_agents(one)(game, games.as_profile(s))


def nash_gap(game: games.Game, s: jax.Array) -> jax.Array:
    """max_x u_i(x, s_-i) - u_i(s) for every agent, [n], ≥ 0 up to rounding: 0 at an equilibrium.

    `s` lies in the box [0, τ]; the gap of the profile is the largest entry. Their sum is the
    Nikaido-Isoda function, which also vanishes at equilibria only.
    """
    return examine(game, s)[0]


def certify(game: games.Game, s: jax.Array, tolerance: float = 1e-6) -> tuple[jax.Array, jax.Array]:
    """The Nash gaps [n], and whether s is an equilibrium as `is_equilibrium` says."""
    gap, utility = examine(game, s)
    feasible = jnp.all((s >= 0) & (s <= game.capacity))
    return gap, feasible & jnp.all(gap <= tolerance * jnp.maximum(1.0, jnp.abs(utility)))


def is_equilibrium(game: games.Game, s: jax.Array, tolerance: float = 1e-6) -> jax.Array:
    """Whether every agent's Nash gap is at most tolerance · max(1, |u_i|) and s is feasible."""
    return certify(game, s, tolerance)[1]


def all_best_responses(game: games.Game, s: jax.Array) -> list[list[tuple[float, float]]]:
    """The whole set f_i(s_-i) of every agent, as intervals: utilities equal to the best to rounding.

    A concave utility has one interval, usually a point; Theorem A.2's agents have 0, ½ + ε, or both.
    An interval narrower than 10⁻⁵ τ_i is reported as a point: rounding cannot tell it from one. Not for
    use inside jit. Limits as for `best_response`.

    Returns:
      For each agent, ascending disjoint (low, high) in samples.
    """
    s = games.as_profile(s)
    tops = jax.jit(games.over_agents(lambda agent, own, rest: _peaks(agent, rest, own.dtype)))(game, s)

    return [
        _maximisers(
            lambda x, i=i: float(_own_utility(game, s, i, x)),
            np.asarray(tops[i], float),
            float(game.capacity[i]),
        )
        for i in range(game.n)
    ]


@jax.jit
def _own_utility(game: games.Game, s: jax.Array, i: jax.Array, own: jax.Array) -> jax.Array:
    """u_i if agent i contributes `own` and the others what they do in s."""
    agent = games.agent_of(game, i)
    return games.utility(agent, own, games.rest_of(agent, games.statistic(game, s), s[i], i))


def _maximisers(u: Callable[[float], float], tops: np.ndarray, capacity: float) -> list[tuple[float, float]]:
    """The intervals around the best of `tops`, 0 and the capacity, where u is as good."""
    candidates = sorted({0.0, *tops.tolist(), capacity})
    best = max(u(x) for x in candidates)
    slack = 8 * np.finfo(float).eps * max(1.0, abs(best))

    def edge(inside: float, step: float) -> float:
        outside = inside
        while u(outside) >= best - slack:
            if outside in (0.0, capacity) and step * (outside - capacity / 2) >= 0:
                return outside
            inside, outside = outside, min(max(outside + step, 0.0), capacity)
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if u(middle) >= best - slack else (inside, middle)
        return inside

    found: list[tuple[float, float]] = []
    for top in candidates:
        if u(top) < best - slack or (found and top <= found[-1][1] + 1e-5 * capacity):
            continue
        left, right = edge(top, -capacity / _FIRST), edge(top, capacity / _FIRST)
        if right - left <= 1e-5 * capacity:
            left = right = top
        found.append((left, right))
    return found


def _finite(u: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(u), -jnp.inf, u)  # argmax would take a NaN for the largest


def _best(agent: games.Game, rest: Any, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """ONE agent's best contribution and the utility it brings."""
    capacity = jnp.asarray(agent.capacity, dtype)[None]
    candidates = jnp.concatenate([0.0 * capacity, _peaks(agent, rest, dtype), capacity])
    values = _finite(jax.vmap(lambda x: games.utility(agent, x, rest))(candidates))
    best = jnp.argmax(values)
    return candidates[best], values[best]


def _peaks(agent: games.Game, rest: Any, dtype: Any) -> jax.Array:
    """Where ONE agent's utility has its interior local maxima, [1] or [_PEAKS]."""
    capacity = jnp.asarray(agent.capacity, dtype)
    if not agent.payoff.concave:
        return _grid_peaks(lambda x: games.utility(agent, x, rest), capacity)
    first = jnp.zeros((), dtype)
    if agent.payoff.of_total:  # below, her payoff is 0 whatever she does, and the best is to give nothing
        first = jnp.clip((agent.payoff.pays_from() - rest) / agent.quality, 0.0, capacity).astype(dtype)
    slope = jax.grad(lambda x: games.utility(agent, x, rest))

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        # On a logarithmic scale while the bracket is wide: a capacity may be far more than is wanted.
        middle = jnp.where(high > 4.0 * low, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
        rising = slope(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    start = jnp.maximum(first, 1e-30 * capacity), capacity
    low, high = jax.lax.fori_loop(0, 64 if dtype == jnp.float64 else 34, halve, start)
    return ((low + high) / 2)[None]


def _grid_peaks(u: Callable[[jax.Array], jax.Array], capacity: jax.Array) -> jax.Array:
    def values(points: jax.Array) -> jax.Array:
        return _finite(jax.lax.map(u, points))  # one point of all agents at a time, to save memory

    x = capacity * jnp.linspace(0.0, 1.0, _FIRST, dtype=capacity.dtype)
    v = values(x)
    outer = jnp.pad(v, 1, constant_values=-jnp.inf)
    _, at = jax.lax.top_k(jnp.where((v >= outer[:-2]) & (v >= outer[2:]), v, -jnp.inf), _PEAKS)

    def zoom(_: int, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = interval
        points = low + (high - low) * jnp.linspace(0.0, 1.0, _ZOOM, dtype=x.dtype)
        k = jnp.argmax(values(points))
        return points[jnp.maximum(k - 1, 0)], points[jnp.minimum(k + 1, _ZOOM - 1)]

    around = x[jnp.maximum(at - 1, 0)], x[jnp.minimum(at + 1, _FIRST - 1)]
    low, high = jax.vmap(lambda a, b: jax.lax.fori_loop(0, _LOOKS, zoom, (a, b)))(*around)
    return (low + high) / 2
