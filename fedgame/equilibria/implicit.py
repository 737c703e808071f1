"""Equilibria that can be differentiated with respect to every number of a game.

At an equilibrium agents between their bounds have ∂u_i/∂s_i = 0, and the others stay at their bound. By the
implicit function theorem the derivative of the profile solves a linear system; no iteration of a solver is
differentiated. Works under `jax.jit`, `vmap`, `grad` and `jvp`.

For payoffs of S that system is one equation. With the own gradient g_i = v_i w_i a_i'(S) - c_i'(s_i), let h_i
be the change of g_i at a fixed profile as the numbers of the game change, S₀ included, and k_i = v_i w_i
a_i''(S). Then agents between their bounds obey

    h_i + k_i dS - c_i'' ds_i = 0,    dS = Σ w_i ds_i.

With linear costs c_i'' = 0, and the agent's equation alone determines dS. An agent at a kink of her cost
(`OrderedCost` at a whole number of records) stays there.

Where an agent enters or leaves a bound or a kink of her cost, or where several with linear costs are between
their bounds, there are only one-sided derivatives: `kinks` names these agents.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedgame.equilibria import pivoting, solvers
from fedgame.games import game as games

_DENSE = 2_048  # maximum number of agents for which an n×n system is solved


def profile(game: games.Game) -> jax.Array:
    """The equilibrium that `solvers.find` returns, not certified; differentiable in every number of the game.

    Inside jit payoffs of effective samples are solved by best responses in turn, not by pivoting: NaN where
    these do not settle.

    Indifferent agents with linear costs share dS as `solve` shares S: in proportion to their capacities.

    Args:
      game: n agents.

    Returns:
      [n] samples.

    Raises:
      ValueError: when differentiated, with more than 2,048 agents and a payoff that is not one of S.
    """
    return _profile(jax.tree.map(games.as_profile, game))  # as floats: integers could not be differentiated


@jax.custom_jvp
def _profile(game: games.Game) -> jax.Array:
    found, method = solvers.find(game)
    if method != "pivoting" and pivoting.applies(game):
        return jnp.where(found.residual <= 1e-9, found.profile, jnp.nan)
    return found.profile


@_profile.defjvp
def _profile_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (game,), (change,) = primals, tangents
    s = _profile(game)
    _, direct = jax.jvp(lambda g: games.own_gradient(g, s), (game,), (change,))
    at_capacity = s >= game.capacity * (1.0 - 16 * jnp.finfo(s.dtype).eps)  # a best response may be rounded
    between = (s > 0) & ~at_capacity & ~_at_turn(game, s)
    direct = jnp.where(between, direct, 0.0)  # at a bound it may be NaN
    held = jnp.where(at_capacity, change.capacity + jnp.zeros_like(s), 0.0)
    solve = _of_total if game.payoff.of_total else _dense
    return s, solve(game, s, between, direct, held)


def _at_turn(game: games.Game, s: jax.Array) -> jax.Array:
    """Whether each agent's marginal cost jumps at s_i, [n].

    A smooth one rises by about 2 √ε c_i'' s_i between s_i (1 - √ε) and s_i (1 + √ε), far less than 100 √ε
    c_i'.
    """
    apart = float(jnp.finfo(s.dtype).eps) ** 0.5
    above = games.marginal_costs(game, s * (1.0 + apart))
    below = games.marginal_costs(game, s * (1.0 - apart))
    return above - below > 100.0 * apart * above


def _of_total(
    game: games.Game, s: jax.Array, between: jax.Array, direct: jax.Array, held: jax.Array
) -> jax.Array:
    """ds, [n], for a payoff of S; linear in `direct` and `held`.

    Args:
      game: n agents.
      s: [n] the equilibrium.
      between: [n] whether an agent is between her bounds and at no kink of her cost.
      direct: [n] h_i, 0 for the other agents. As it includes a change of S₀, dS here is Σ w_i ds_i.
      held: [n] ds_i of agents at their capacity, which is the change of their capacity; else 0.
    """
    k, bend = _curvatures(game, s)
    k = jnp.where(between, k, 0.0)
    quality = game.quality + jnp.zeros_like(s)
    straight = between & (bend == 0.0)  # costs are linear at s_i
    curved = between & ~straight
    bend = jnp.where(curved, bend, 1.0)
    held_total = jnp.sum(quality * held)
    # If no cost is straight, ds_i = (h_i + k_i dS) / c_i'' in dS = Σ w_i ds_i gives dS.
    reaction = jnp.where(curved, quality / bend, 0.0)
    total_of_curved = (held_total + jnp.sum(reaction * direct)) / (1.0 - jnp.sum(reaction * k))
    # Else h_i + k_i dS = 0 does, summed over the agents with straight costs.
    sum_k = jnp.sum(jnp.where(straight, k, 0.0))
    total_of_straight = -jnp.sum(jnp.where(straight, direct, 0.0)) / jnp.where(sum_k == 0.0, -1.0, sum_k)
    change_of_total = jnp.where(jnp.any(straight), total_of_straight, total_of_curved)
    change = jnp.where(curved, (direct + k * change_of_total) / bend, 0.0)
    # Agents with straight costs contribute what dS still lacks, in proportion to their capacities.
    lacking = change_of_total - held_total - jnp.sum(quality * change)
    room = jnp.where(straight, game.capacity, 0.0)
    share = room / jnp.where(jnp.any(straight), jnp.sum(quality * room), 1.0)
    return held + change + share * lacking


def _dense(
    game: games.Game, s: jax.Array, between: jax.Array, direct: jax.Array, held: jax.Array
) -> jax.Array:
    """ds, [n], for any payoff, by solving an n×n system; arguments as `_of_total`."""
    if game.n > _DENSE:
        raise ValueError(f"derivatives need a payoff of S or at most {_DENSE} agents, got {game.n}")
    matrix = games.jacobian(game, s)
    right = -direct - jnp.where(between[:, None], matrix, 0.0) @ held
    system = jnp.where(between[:, None] & between[None, :], matrix, jnp.eye(game.n, dtype=s.dtype))
    return jnp.where(between, jnp.linalg.solve(system, right), held)


def _curvatures(game: games.Game, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """k_i = v_i w_i a_i''(S) and c_i''(s_i), [n] each."""
    total = games.statistic(game, s)

    def one(agent: games.Game, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        k = agent.value * agent.quality * jax.grad(jax.grad(agent.payoff.curve))(total)
        return k, jax.grad(jax.grad(agent.cost.value))(own)

    return jax.vmap(one, (games.agent_axes(game), 0))(game, s)


def kinks(game: games.Game, s: jax.Array, tolerance: Any = None) -> jax.Array:
    """Which agents make the derivative of the equilibrium s one-sided, [n] booleans.

    Agents at a bound or a kink of their cost who are indifferent to giving a little more, or to giving a
    little less, but not to both; and agents with linear costs between their bounds, if there are several.

    Args:
      game: n agents.
      s: [n] an equilibrium.
      tolerance: an agent counts as indifferent if her own gradient is 0 up to this share of its terms; None
        is 10 √ε of the dtype.
    """
    s = games.as_profile(s)
    tolerance = 10.0 * float(jnp.finfo(s.dtype).eps) ** 0.5 if tolerance is None else tolerance
    apart = 0.01 * tolerance  # so close that smooth marginal costs change by less than `tolerance`
    price = games.own_gradient(game, s) + games.marginal_costs(game, s)  # what a sample is worth to her

    def indifferent(marginal: jax.Array) -> jax.Array:
        return jnp.abs(price - marginal) <= tolerance * jnp.maximum(marginal, jnp.abs(price))

    above_0 = s > apart * jnp.max(s)
    below_capacity = s < game.capacity * (1.0 - apart)
    more = indifferent(games.marginal_costs(game, s * (1.0 + apart))) & below_capacity
    less = indifferent(games.marginal_costs(game, s * (1.0 - apart))) & above_0
    if not game.payoff.of_total:
        return more != less
    _, bend = _curvatures(game, s)
    straight = more & less & (bend == 0.0)
    return (more != less) | (straight & (jnp.sum(straight) > 1))
