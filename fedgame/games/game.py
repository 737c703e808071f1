"""The game of Section 2: agents, their utilities u_i(s) = v_i a_i(s) - c_i(s_i), own gradients.

Everything is written for one agent and mapped over all of them, so nothing here costs O(n²) except
`jacobian`, which is an n×n matrix by definition.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import costs, payoffs
from fedgame.registry import option

# Ranges of the numbers of a game that belong to no family.
_AMOUNT, _ABOVE_0 = option("an amount", low=0), option("an amount", above=0)
_LEAST = 1e-100  # value: utilities from smaller ones would lose digits, or be 0


@registry.family
class Game:
    """n agents who choose contributions s_i in [0, capacity_i].

    Attributes:
      payoff: a family of `fedgame.games.payoffs`, or a `Payoff` of your own.
      cost: a family of `fedgame.games.costs`, or a `Cost` of your own.
      capacity: [n] τ_i, the maximum that agent i can contribute, samples.
      value: v_i, what one unit of payoff is worth to agent i in the currency of her costs; scalar or
        [n].
      quality: w_i > 0, number of standard samples that one sample of agent i counts as in every payoff (not
        in her cost); scalar or [n].
      held: S₀, standard samples that the server holds already, for payoffs of S = S₀ + Σ w_i s_i.

    The constructor checks nothing, because JAX also calls it with tracers; call `check`.
    """

    payoff: payoffs.Payoff
    cost: costs.Cost
    capacity: Any
    value: Any = 1.0
    quality: Any = 1.0
    held: Any = 0.0

    @property
    def n(self) -> int:
        return len(self.capacity)

    @property
    def concave(self) -> bool:
        """Whether u_i is known to be concave in s_i; if a_i is of the total, from where it is positive on."""
        return self.payoff.concave and self.cost.convex


def check(game: Game) -> Game:
    """Checks a game; returns it with every number as a floating point array.

    Raises:
      ValueError: a parameter is NaN or infinite, or too large or too small to compute with; has neither one
        value nor one per agent; or lies outside the range that its family allows. The message names it.
    """
    capacity = jnp.asarray(game.capacity, float)
    if capacity.ndim != 1 or len(capacity) == 0:
        raise ValueError(f"`capacity` must be a vector with one entry per agent, got {capacity!r}")
    n = len(capacity)

    def number(name: str, x: Any, rank: int = 0, field: Any = _AMOUNT) -> jax.Array:
        array = jnp.asarray(x, float)
        per_agent = array.ndim == rank + 1 and len(array) == n
        if not per_agent and array.ndim != rank:
            raise ValueError(
                f"`{name}` must be shared or have one entry for each of {n} agents, got shape {array.shape}"
            )
        registry.check_number(f"`{name}`", np.asarray(array), field)
        return array

    def numbers(family: Any) -> Any:
        new = {}
        for field in registry.numbers(family):
            x, rank = getattr(family, field.name), field.metadata.get("rank", 0)
            if rank is not None:  # parameters of any shape are the family's to check, see `complaint`
                family_inside = dataclasses.is_dataclass(x)
                new[field.name] = numbers(x) if family_inside else number(field.name, x, rank, field)
        checked = family.replace(**new)
        if complaint := checked.complaint():
            raise ValueError(complaint)
        return checked

    checked = Game(
        payoff=numbers(game.payoff),
        cost=numbers(game.cost),
        capacity=number("capacity", capacity),
        value=number("value", game.value),
        quality=number("quality", game.quality, field=_ABOVE_0),
        held=number("held", game.held),
    )
    value = np.asarray(checked.value, float)
    if small := value[(value > 0) & (value < _LEAST)].tolist():
        raise ValueError(
            f"`value` must be 0 or at least {_LEAST:g}, got {small[0]}: use a smaller unit of money"
        )
    if np.any(np.asarray(capacity) > np.asarray(checked.cost.most())):  # by numpy, which compiles nothing
        raise ValueError(f"`capacity` must be at most the {checked.cost.most()} records, got {capacity}")
    if not game.payoff.qualities and np.any(np.asarray(checked.quality) != 1.0):
        name = registry.name_of(type(game.payoff)) or type(game.payoff).__name__
        raise ValueError(f"`quality` has no use with {name}, whose rates say what samples are worth")
    if checked.held.ndim or (float(checked.held) > 0 and not game.payoff.of_total):
        raise ValueError(f"`held` must be one number, and needs a payoff of the total; got {game.held}")
    return checked


def as_profile(s: Any) -> jax.Array:
    """Contributions as floating point numbers: integers could not be differentiated."""
    return jnp.asarray(s) + 0.0


def agent_axes(game: Game) -> Game:
    """`in_axes` of a game for `jax.vmap`: in the mapped function every number of the game is ONE agent's."""

    def axis(x: Any) -> int | None:
        return 0 if jnp.ndim(x) else None

    return Game(
        payoff=registry.axes(game.payoff),
        cost=registry.axes(game.cost),
        capacity=0,
        value=axis(game.value),
        quality=axis(game.quality),
        held=None,
    )


def agent_of(game: Game, i: jax.Array) -> Game:
    """The game with only the numbers of agent i, without the leading dimension of n."""

    def hers(x: Any) -> Any:
        return x[i] if jnp.ndim(x) else x

    return Game(
        payoff=registry.of_agents(game.payoff, i),
        cost=registry.of_agents(game.cost, i),
        capacity=game.capacity[i],
        value=hers(game.value),
        quality=hers(game.quality),
        held=game.held,
    )


def subset(game: Game, keep: Any) -> Game:
    """The game of the agents `keep` when the others have left and contribute nothing.

    Args:
      game: n agents.
      keep: [k] numbers of agents, in the order of the new game.

    Raises:
      ValueError: `keep` holds something else than numbers from 0 to n - 1.
    """
    if not isinstance(keep, jax.core.Tracer):
        numbers = np.asarray(keep)
        whole = numbers.ndim == 1 and numbers.dtype.kind in "iu"
        if not (whole and np.all((numbers >= 0) & (numbers < game.n))):
            raise ValueError(f"`keep` must be numbers of agents from 0 to {game.n - 1}, got {keep}")
    keep = jnp.asarray(keep)

    def theirs(x: Any) -> Any:
        return jnp.asarray(x)[keep] if jnp.ndim(x) else x

    return Game(
        payoff=game.payoff.kept(keep, game.n),
        cost=registry.of_agents(game.cost, keep),
        capacity=jnp.asarray(game.capacity)[keep],
        value=theirs(game.value),
        quality=theirs(game.quality),
        held=game.held,
    )


def statistic(game: Game, s: jax.Array) -> jax.Array:
    """z, what payoffs see of the profile s, [n] samples; for payoffs of the total S = S₀ + Σ w_i s_i."""
    return game.payoff.statistic(game.quality * s) + game.held


def total(game: Game, s: jax.Array) -> jax.Array:
    """S = S₀ + Σ w_i s_i, in standard samples, whatever the payoff sees."""
    return game.held + jnp.sum(game.quality * s)


def rest_of(agent: Game, z: jax.Array, own: jax.Array, i: jax.Array) -> Any:
    """What ONE agent, i, sees of the others if she contributes `own` samples of a profile of statistic z."""
    return agent.payoff.rest(z, agent.quality * own, i)


def over_agents(fn: Callable) -> Callable:
    """A function of a game and a profile that maps `fn(agent, own, rest)`, written for ONE agent, over all.

    `agent` is a game with only her numbers, `own` her contribution, `rest` what she sees of the others.
    """

    def mapped(game: Game, s: jax.Array) -> Any:
        def one(agent: Game, own: jax.Array, i: jax.Array, z: jax.Array) -> Any:
            return fn(agent, own, rest_of(agent, z, own, i))

        z = statistic(game, s)
        return jax.vmap(one, (agent_axes(game), 0, 0, None))(game, s, jnp.arange(len(s)), z)

    return mapped


def utility(agent: Game, own: jax.Array, rest: Any) -> jax.Array:
    """u_i = v_i a_i - c_i of ONE agent who contributes `own` samples while she sees `rest` of the others."""
    return agent.value * agent.payoff.value(agent.quality * own, rest) - agent.cost.value(own)


def payoff_values(game: Game, s: jax.Array) -> jax.Array:
    """a_i(s), [n], in units of accuracy."""
    return over_agents(lambda agent, own, rest: agent.payoff.value(agent.quality * own, rest))(game, s)


def incurred_costs(game: Game, s: jax.Array) -> jax.Array:
    """c_i(s_i), [n], in the agents' currency."""
    one = jax.vmap(lambda cost, own: cost.value(own), (registry.axes(game.cost), 0))
    return one(game.cost, s)


def marginal_costs(game: Game, s: jax.Array) -> jax.Array:
    """c_i'(s_i), [n], in the agents' currency per sample."""
    one = jax.vmap(lambda cost, own: jax.grad(cost.value)(own), (registry.axes(game.cost), 0))
    return one(game.cost, s)


def utilities(game: Game, s: jax.Array) -> jax.Array:
    """u_i(s) = v_i a_i(s) - c_i(s_i), [n], at the profile s, [n] in samples."""
    return over_agents(utility)(game, s)


def own_gradient(game: Game, s: jax.Array) -> jax.Array:
    """∂u_i/∂s_i, [n], utility per sample, by automatic differentiation."""
    return over_agents(jax.grad(utility, argnums=1))(game, as_profile(s))


def jacobian(game: Game, s: jax.Array) -> jax.Array:
    """G of Theorem 3.2, [n, n]: G_ij = ∂²u_i / ∂s_j ∂s_i.

    -∞ on the diagonal where c_i'' is infinite, as that of s_i^1.5 is at 0. Costs are differentiated apart, as
    they matter on the diagonal only: off it they would give 0 · ∞ = NaN.
    """

    def worth(agent: Game, own: jax.Array, rest: Any) -> jax.Array:
        return agent.value * agent.payoff.value(agent.quality * own, rest)

    s = as_profile(s)
    marginal_worth = over_agents(jax.grad(worth, argnums=1))
    bend = jax.vmap(lambda cost, own: jax.grad(jax.grad(cost.value))(own), (registry.axes(game.cost), 0))
    return jax.jacfwd(lambda x: marginal_worth(game, x))(s) - jnp.diag(bend(game.cost, s))


@jax.jit
def scale_costs(game: Game, factor: Any) -> Game:
    """The game with costs c_i times `factor` ≥ 0, one number or [n]."""
    factor = jnp.asarray(factor)
    if not factor.ndim:
        return game.replace(cost=game.cost.scaled(factor))
    shape_of_scaled = jax.eval_shape(lambda cost: cost.scaled(1.0), game.cost)
    in_axes, out_axes = (registry.axes(game.cost), 0), registry.shared(shape_of_scaled)
    scaled = jax.vmap(lambda cost, factor: cost.scaled(factor), in_axes, out_axes)
    return game.replace(cost=scaled(game.cost, factor))


def capacity_from_bound(cost: Any, bound: Any) -> jax.Array:
    """τ_i = c_i⁻¹(A_i) (Section 2): contributing more than this can only bring negative utility.

    Args:
      cost: a family of `costs`.
      bound: A_i = v_i sup a_i, the supremum of what the payoff is worth to agent i; scalar or [n].

    Returns:
      [n] samples, or a scalar if neither costs nor bounds are given per agent.

    Raises:
      ValueError: an agent's costs never reach the bound, as where samples cost her nothing.
    """
    given = {field.name: getattr(cost, field.name) for field in registry.numbers(cost)}
    arrays = {name: jnp.asarray(x, float) for name, x in given.items() if not dataclasses.is_dataclass(x)}
    cost, bound = cost.replace(**arrays), jnp.asarray(bound, float)
    axes = registry.axes(cost)
    inverse = type(cost).inverse
    if bound.ndim or 0 in jax.tree.leaves(axes):
        inverse = jax.vmap(inverse, (axes, 0 if bound.ndim else None))
    capacity = inverse(cost, bound)
    if not np.all(np.isfinite(capacity)):
        free = np.flatnonzero(~np.isfinite(np.atleast_1d(capacity)))
        most = np.broadcast_to(bound, capacity.shape).ravel()[free[0]]
        raise ValueError(
            f"costs of agent {free[0]} never reach the bound, {most:g}, however many samples she gives: she "
            "needs a capacity of her own, such as the number of samples that she has"
        )
    return capacity
