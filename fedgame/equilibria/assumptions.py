"""The assumptions of Theorem 3.1: continuous concave payoffs, convex increasing costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import total
from fedgame.games import game as games

_POINTS = 129  # of an agent's interval, to look for convex pieces and jumps
_CONTINUOUS, _CONCAVE = "payoff continuous", "payoff concave in own contribution"
_CONVEX, _INCREASING = "cost convex", "cost increasing"


@dataclasses.dataclass(frozen=True)
class Condition:
    """One assumption of Theorem 3.1.

    Attributes:
      name: what is assumed.
      holds: whether it does, as far as `how` reaches.
      margin: the least value found of what must not be negative.
      agent: where that was.
      contribution: of that agent, samples, the others at a sampled profile.
      how: "formula", or how many points were looked at.
    """

    name: str
    holds: bool
    margin: float
    agent: int
    contribution: float
    how: str


def examine(game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[Condition, ...]:
    """Every agent's payoff and cost along her own interval, the others at each of the points."""

    @jax.jit
    def at(game: games.Game, s: jax.Array, low: jax.Array, high: jax.Array) -> tuple:
        axes = (games.agent_axes(game), 0, 0, None, 0, 0)
        return jax.vmap(_look, axes)(game, s, jnp.arange(game.n), games.statistic(game, s), low, high)

    found = [at(game, s, low, high) for s in points[: max(1, min(64, 2_000_000 // game.n))]]
    worst, noise, step = jax.tree.map(lambda *x: np.stack(x), *found)
    slack = {_CONTINUOUS: 1e3 * noise, _CONCAVE: noise / step**2, _CONVEX: noise / step**2}
    sampled = f"{len(found)} profiles, {_POINTS} contributions of every agent"
    known = _known(game, low)
    conditions = []
    for name, (margin, contribution) in worst.items():
        point, agent = np.unravel_index(np.argmin(margin), margin.shape)
        fails = (margin <= 0) & (high > low) if name == _INCREASING else margin < -slack[name]
        holds = not np.any(fails)
        how = "formula" if name in known and holds else sampled
        numbers = float(margin[point, agent]), int(agent), float(contribution[point, agent])
        conditions.append(Condition(name, holds, *numbers, how))
    return tuple(conditions)


def _look(
    agent: games.Game, own: jax.Array, i: jax.Array, z: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[dict[str, tuple[jax.Array, jax.Array]], jax.Array, jax.Array]:
    """ONE agent's worst margins and where they are, what rounding makes of them, and the spacing."""
    rest = games.rest_of(agent, z, own, i)
    x = low + (high - low) * jnp.linspace(0.0, 1.0, _POINTS)
    step = jnp.where(high > low, (high - low) / (_POINTS - 1), 1.0)

    def payoff(x: jax.Array) -> jax.Array:
        return agent.value * agent.payoff.value(agent.quality * x, rest)

    def closer(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, b = ends
        middle = (a + b) / 2
        first = _change(payoff(a), payoff(middle)) >= _change(payoff(middle), payoff(b))
        return jnp.where(first, a, middle), jnp.where(first, middle, b)

    a, c = jax.vmap(payoff)(x), jax.vmap(agent.cost.value)(x)
    widest = jnp.argmax(_change(a[:-1], a[1:]))
    # Down to neighbouring numbers: a payoff that is merely steep does not change between them.
    left, right = jax.lax.fori_loop(0, 120, closer, (x[widest], x[widest + 1]))
    marginal = jax.vmap(jax.grad(agent.cost.value))(x[:-1] + step / 2)
    margins = {  # and the contributions where they were looked at
        _CONTINUOUS: (-_change(payoff(left), payoff(right))[None], left[None]),
        _CONCAVE: (-_bend(a, step), x[1:-1]),
        _CONVEX: (_bend(c, step), x[1:-1]),
        _INCREASING: (marginal, x[:-1] + step / 2),
    }
    worst = {}
    for name, (margin, at) in margins.items():
        margin = jnp.where(jnp.isnan(margin), -jnp.inf, margin)
        k = jnp.argmin(margin)
        worst[name] = margin[k], at[k]
    noise = 5e3 * jnp.finfo(x.dtype).eps * jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(c)))
    return worst, noise, step


def _known(game: games.Game, low: np.ndarray) -> set[str]:
    """What the families promise on the box, beyond what can be seen at samples."""
    promised = set()
    if game.cost.convex:
        promised |= {_CONVEX, _INCREASING}
    least = float(games.statistic(game, jnp.asarray(low))) if game.payoff.of_total else 0.0
    if game.payoff.concave:
        clipped = game.payoff.of_total and np.any(total.pays_from(game) > least)
        promised |= {_CONTINUOUS} | (set() if clipped else {_CONCAVE})
    if game.payoff.of_total and not np.all(np.isfinite(_at_total(game, least))):
        promised -= {_CONTINUOUS}  # it tends to -∞, as a raw power law does
    return promised


def _change(a: jax.Array, b: jax.Array) -> jax.Array:
    """|b - a|, infinite where one of them is not a number."""
    change = jnp.abs(b - a)
    return jnp.where(jnp.isnan(change), jnp.inf, change)


def _bend(f: jax.Array, step: jax.Array) -> jax.Array:
    """Second difference quotients."""
    return (f[2:] - 2.0 * f[1:-1] + f[:-2]) / step**2


@jax.jit
def _at_total(game: games.Game, total: jax.Array) -> jax.Array:
    return jax.vmap(lambda agent: agent.payoff.curve(total), (games.agent_axes(game),), axis_size=game.n)(
        game
    )
