"""The game of Section 2: agents, their utilities u_i(s) = v_i a_i(s) - c_i(s_i), own gradients.

Everything is written for one agent and mapped over all of them, so nothing here costs O(n²) except
`jacobian`, which is an n×n matrix by definition.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Game:
    """n agents who choose contributions s_i in [0, capacity_i].

    Attributes:
      payoff: a family of `fedgame.games.payoffs`.
      cost: a family of `fedgame.games.costs`.
      capacity: [n] τ_i, the most samples agent i can contribute.
      value: v_i, what one unit of payoff is worth to agent i in the currency of her costs; scalar or
        [n].

    Nothing is checked here, because JAX rebuilds this object from tracers; `check` does that.
    """

    payoff: Any
    cost: Any
    capacity: Any
    value: Any = 1.0

    @property
    def n(self) -> int:
        return len(self.capacity)


def check(game: Game) -> Game:
    """The same game with every number an array, or a `ValueError` that names what is wrong.

    Raises:
      ValueError: a parameter is NaN or infinite, has neither one value nor one per agent, or lies
        outside the range its family allows.
    """
    capacity = jnp.asarray(game.capacity, float)
    if capacity.ndim != 1 or len(capacity) == 0:
        raise ValueError(f"`capacity` must be a vector with one entry per agent, got {capacity!r}")
    n = len(capacity)

    def field(name: str, number: Any, core_ndim: int) -> jax.Array:
        array = jnp.asarray(number, float)
        per_agent = array.ndim == core_ndim + 1 and len(array) == n
        if not per_agent and array.ndim != core_ndim:
            raise ValueError(
                f"`{name}` must be shared or have one entry for each of {n} agents, got shape {array.shape}"
            )
        if not np.all(np.isfinite(array)):
            raise ValueError(f"`{name}` must be finite, got {np.asarray(array)}")
        if name not in _ANY_SIGN and np.any(np.asarray(array) < 0):
            raise ValueError(f"`{name}` must not be negative, got {np.asarray(array)}")
        return array

    def fields(family: Any) -> Any:
        numbers = {name: number for name, number in vars(family).items() if _is_number(number)}
        arrays = {k: field(k, v, family.core_ndim) for k, v in numbers.items()}
        for name, limit in getattr(family, "above", {}).items():
            if np.any(np.asarray(arrays[name]) <= limit):
                raise ValueError(f"`{name}` must be above {limit:g}, got {np.asarray(arrays[name])}")
        for name, limit in getattr(family, "below", {}).items():
            if np.any(np.asarray(arrays[name]) >= limit):
                raise ValueError(f"`{name}` must be below {limit:g}, got {np.asarray(arrays[name])}")
        return family.replace(**arrays)

    return Game(
        fields(game.payoff), fields(game.cost), field("capacity", capacity, 0), field("value", game.value, 0)
    )


_ANY_SIGN = ("w", "best", "accuracy")


def _is_number(x: Any) -> bool:
    return not isinstance(x, bool) and not callable(x)


def as_profile(s: Any) -> jax.Array:
    """Contributions as floating point numbers, so that whole ones can be differentiated too."""
    return jnp.asarray(s) + 0.0


def agent_axes(family: Any) -> Any:
    """`in_axes` for `jax.vmap` over agents: 0 for parameters per agent, None for shared ones."""
    return jax.tree.map(lambda x: 0 if jnp.ndim(x) > family.core_ndim else None, family)


def over_agents(fn: Callable) -> Callable:
    """Maps `fn(payoff, cost, value, own, rest)`, written for one agent, over the agents of a game."""

    def mapped(game: Game, own: jax.Array, rest: Any) -> Any:
        value_axis = 0 if jnp.ndim(game.value) else None
        axes = (agent_axes(game.payoff), agent_axes(game.cost), value_axis, 0, 0)
        return jax.vmap(fn, axes)(game.payoff, game.cost, game.value, own, rest)

    return mapped


def utility(payoff: Any, cost: Any, value: jax.Array, own: jax.Array, rest: Any) -> jax.Array:
    """u_i of ONE agent who contributes `own` while the others are `rest`."""
    return value * payoff.value(own, rest) - cost.value(own)


def payoff_values(game: Game, s: jax.Array) -> jax.Array:
    """a_i(s), [n], in units of accuracy."""
    one = over_agents(lambda payoff, cost, value, own, rest: payoff.value(own, rest))
    return one(game, s, game.payoff.rest(s))


def incurred_costs(game: Game, s: jax.Array) -> jax.Array:
    """c_i(s_i), [n]."""
    one = jax.vmap(lambda cost, own: cost.value(own), (agent_axes(game.cost), 0))
    return one(game.cost, s)


def utilities(game: Game, s: jax.Array) -> jax.Array:
    """u_i(s) = v_i a_i(s) - c_i(s_i), [n], at the profile s, [n] in samples."""
    return over_agents(utility)(game, s, game.payoff.rest(s))


def own_gradient(game: Game, s: jax.Array) -> jax.Array:
    """∂u_i/∂s_i, [n], utility per sample, by automatic differentiation."""
    s = as_profile(s)
    return over_agents(jax.grad(utility, argnums=3))(game, s, game.payoff.rest(s))


def jacobian(game: Game, s: jax.Array) -> jax.Array:
    """G of Theorem 3.2, [n, n]: G_ij = ∂²u_i / ∂s_j ∂s_i."""
    return jax.jacfwd(lambda x: own_gradient(game, x))(as_profile(s))
