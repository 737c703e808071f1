"""Equilibria that can be differentiated: how contributions move when costs, rates or payoffs do.

At an equilibrium agents who are between their bounds have ∂u_i/∂s_i = 0, the others stay at their bound.
So the derivative of the profile solves a linear system (implicit function theorem), and no iteration of
a solver is differentiated. For payoffs of S it is one equation: with g_i = v_i w_i a_i'(S) - c_i'(s_i),
the tangents obey

    h_i + k_i dS - c_i'' ds_i = 0,    k_i = v_i w_i a_i''(S),    h_i the direct change of g_i,

and dS = Σ w_i ds_i + …. Where costs are linear c_i'' = 0 and the agent's equation gives dS itself; the
full Jacobian, which has rank one then, is never formed. An agent at a kink of her cost (`OrderedCost` at
a whole number of records) stays there. Works under `jax.jit`, `vmap`, `grad` and `jvp`.

Where an agent enters or leaves a bound or a kink of her cost, or several with linear costs take turns,
there are only one-sided derivatives: `kinks` names these agents."""

from typing import Any

import jax
import jax.numpy as jnp

from fedgame.equilibria import solvers
from fedgame.games import game as games

_DENSE = 2_048  # most agents for which an n×n system is solved


def profile(game: games.Game) -> jax.Array:
    """The equilibrium that `solvers.find` returns, [n], not certified; differentiable in all of the game.

    Differentiating raises a ValueError beyond 2,048 agents if payoffs are not of S. Agents with linear
    costs who are indifferent share dS as `solve` shares S, in proportion to their capacities.
    """
    return _profile(jax.tree.map(games.as_profile, game))  # whole numbers have derivatives too


@jax.custom_jvp
def _profile(game: games.Game) -> jax.Array:
    return solvers.find(game)[0].profile


@_profile.defjvp
def _profile_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (game,), (change,) = primals, tangents
    s = _profile(game)
    direct = jax.jvp(lambda g: games.own_gradient(g, s), (game,), (change,))[1]
    at_capacity = s >= game.capacity * (1.0 - 16 * jnp.finfo(s.dtype).eps)  # best responses may round
    between = (s > 0) & ~at_capacity & ~_at_turn(game, s)
    direct = jnp.where(between, direct, 0.0)  # elsewhere it need not be a number
    held = jnp.where(at_capacity, change.capacity + jnp.zeros_like(s), 0.0)
    solve = _of_total if game.payoff.of_total else _dense
    return s, solve(game, s, between, direct, held)


def _at_turn(game: games.Game, s: jax.Array) -> jax.Array:
    """[n] whether the marginal cost jumps at s_i."""
    apart = float(jnp.finfo(s.dtype).eps) ** 0.5
    above, below = (
        games.marginal_costs(game, s * (1.0 + apart)),
        games.marginal_costs(game, s * (1.0 - apart)),
    )
    return above - below > 100.0 * apart * above


def _of_total(
    game: games.Game, s: jax.Array, between: jax.Array, direct: jax.Array, held: jax.Array
) -> jax.Array:
    """ds, linear in `direct` and `held`. `change` is Σ w_i ds_i: what S is besides is in `direct`."""
    k, bend = _curvatures(game, s)
    k = jnp.where(between, k, 0.0)
    quality = game.quality + jnp.zeros_like(s)
    straight = between & (bend == 0.0)
    curved = between & ~straight
    bend = jnp.where(curved, bend, 1.0)
    base = jnp.sum(quality * held)
    reaction = jnp.where(curved, quality / bend, 0.0)
    free = (base + jnp.sum(reaction * direct)) / (1.0 - jnp.sum(reaction * k))
    pull = jnp.sum(jnp.where(straight, k, 0.0))
    pinned = -jnp.sum(jnp.where(straight, direct, 0.0)) / jnp.where(pull == 0.0, -1.0, pull)
    change = jnp.where(jnp.any(straight), pinned, free)
    react = jnp.where(curved, (direct + k * change) / bend, 0.0)
    room = jnp.where(straight, game.capacity, 0.0)
    left = change - base - jnp.sum(quality * react)
    share = room / jnp.where(jnp.any(straight), jnp.sum(quality * room), 1.0)
    return held + react + share * left


def _dense(
    game: games.Game, s: jax.Array, between: jax.Array, direct: jax.Array, held: jax.Array
) -> jax.Array:
    if game.n > _DENSE:
        raise ValueError(f"derivatives need a payoff of S or at most {_DENSE} agents, got {game.n}")
    matrix = games.jacobian(game, s)
    right = -direct - jnp.where(between[:, None], matrix, 0.0) @ held
    system = jnp.where(between[:, None] & between[None, :], matrix, jnp.eye(game.n, dtype=s.dtype))
    return jnp.where(between, jnp.linalg.solve(system, right), held)


def _curvatures(game: games.Game, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """k_i and c_i'', [n] each."""
    total = games.statistic(game, s)

    def one(agent: games.Game, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        k = agent.value * agent.quality * jax.grad(jax.grad(agent.payoff.curve))(total)
        return k, jax.grad(jax.grad(agent.cost.value))(own)

    return jax.vmap(one, (games.agent_axes(game), 0))(game, s)


def kinks(game: games.Game, s: jax.Array, tolerance: Any = None) -> jax.Array:
    """[n] agents at whose bounds or turns the derivative of the profile s is only one-sided.

    Those at a bound or a kink of their cost who are indifferent there to giving a little more, or a
    little less, but not to both; and those with linear costs between their bounds, if there are several.
    Indifferent is an own gradient of 0 up to `tolerance` of its terms; None is 10 √ε of the dtype.
    """
    s = games.as_profile(s)
    tolerance = 10.0 * float(jnp.finfo(s.dtype).eps) ** 0.5 if tolerance is None else tolerance
    apart = 0.01 * tolerance
    price = games.own_gradient(game, s) + games.marginal_costs(
        game, s
    )  # what one more sample is worth to her

    def indifferent(marginal: jax.Array) -> jax.Array:
        return jnp.abs(price - marginal) <= tolerance * jnp.maximum(marginal, jnp.abs(price))

    above_0, below_capacity = s > apart * jnp.max(s), s < game.capacity * (1.0 - apart)
    more = indifferent(games.marginal_costs(game, s * (1.0 + apart))) & below_capacity
    less = indifferent(games.marginal_costs(game, s * (1.0 - apart))) & above_0
    if not game.payoff.of_total:
        return more != less
    straight = more & less & (_curvatures(game, s)[1] == 0.0)
    return (more != less) | (straight & (jnp.sum(straight) > 1))
