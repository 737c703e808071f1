"""Mechanisms designed by gradient: the rates whose equilibrium has the largest welfare.

Welfare is differentiated through the equilibrium (`equilibria.implicit`), for any game and any welfare
function of the utilities. As a function of the rates it is smooth only in pieces, with kinks where
agents enter, leave or take turns, and it may have several maxima."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedgame.equilibria import implicit
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, welfare

_GRID = 64  # rates of the first look
_HALVINGS = 45
Welfare = float | Callable[[jax.Array], jax.Array]


class Design(NamedTuple):
    """The best rates that were found."""

    rates: jax.Array  # β, or β_i, [n]
    welfare: jax.Array  # there
    slope: jax.Array  # ∂welfare/∂rates there, by implicit differentiation
    profile: jax.Array  # [n] the equilibrium, not certified
    kinks: jax.Array  # [n] agents at whose entering, leaving or turns the slope is one-sided


def welfare_of_rates(game: games.Game, rates: Any, p: Welfare) -> tuple[jax.Array, jax.Array]:
    """W_p at the equilibrium under rates β_i (or one β), and that equilibrium; differentiable in both.

    Args:
      game: n ≥ 2 agents.
      rates: scalar or [n] in [0, 1].
      p: in [-∞, 1], or a function from utilities, [n], to a number.

    Returns:
      Welfare, NaN where it is undefined; and the profile, [n].
    """
    s = implicit.profile(budget_balanced.under_mechanism(game, rates))
    u = budget_balanced.utilities(game, rates, s)
    return (p(u) if callable(p) else welfare.p_mean(u, p)), s


def design_beta(game: games.Game, p: Welfare) -> Design:
    """The one β in [0, 1] for all whose equilibrium has the largest welfare. Works under jit and vmap.

    Looks at 64 rates, then halves the interval around the best one by the sign of the slope, which also finds
    a maximum at a kink. A higher peak that lies between two of the 64 can be missed.
    """

    def look(beta: jax.Array) -> jax.Array:
        return _defined(welfare_of_rates(game, beta, p)[0])

    def slope(beta: jax.Array) -> jax.Array:
        return jax.jvp(lambda b: welfare_of_rates(game, b, p)[0], (beta,), (jnp.ones_like(beta),))[1]

    half = _GRID // 2
    # Contributions go with 1/(1 - β): half of the looks are spread evenly, half on the scale of 1 - β.
    spread = [np.linspace(0.0, 1.0, half), 1.0 - np.geomspace(1e-3 / game.n, 1.0, half - 1)]
    betas = jnp.sort(jnp.asarray(np.concatenate([*spread, [budget_balanced.falkinger_beta(game.n)]])))
    values = jax.lax.map(look, betas)
    k = jnp.argmax(values)

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = (low + high) / 2
        rising = slope(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    bracket = betas[jnp.maximum(k - 1, 0)], betas[jnp.minimum(k + 1, len(betas) - 1)]
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, bracket)
    candidates = jnp.stack([betas[k], (low + high) / 2, low, high])
    best = candidates[jnp.argmax(jax.lax.map(look, candidates))]
    return _result(game, best, p, slope(best))


def design_rates(game: games.Game, p: Welfare, start: Any, steps: int = 300, rate: float = 0.03) -> Design:
    """Personal rates β_i by projected gradient ascent (Adam) from `start`; the best on the way is kept.

    A local method: agents who contribute nothing have no slope, and so do not enter. Starts worth trying
    are `design_beta`'s rate and those of `personal.personal_rates`. Works under jit and vmap.

    Args:
      game: n ≥ 2 agents.
      p: in [-∞, 1], or a function from utilities, [n], to a number.
      start: scalar or [n] in [0, 1].
      steps: of the ascent; each costs a solve and its derivative.
      rate: the largest change of a rate in the first step; falls to 0 by a cosine.
    """
    first = jnp.broadcast_to(jnp.asarray(start, float), (game.n,))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    look = jax.value_and_grad(lambda rates: _defined(welfare_of_rates(game, rates, p)[0]))

    def climb(carry: tuple, _: None) -> tuple[tuple, None]:
        rates, best, most, state = carry
        value, slope = look(rates)
        best, most = jnp.where(value > most, rates, best), jnp.maximum(value, most)
        update, state = optimizer.update(-jnp.nan_to_num(slope), state)
        return (jnp.clip(rates + update, 0.0, 1.0), best, most, state), None

    carry = first, first, jnp.asarray(-jnp.inf), optimizer.init(first)
    (last, best, most, _), _ = jax.lax.scan(climb, carry, length=steps)
    best = jnp.where(look(last)[0] > most, last, best)
    return _result(game, best, p, look(best)[1])


def _defined(value: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def _result(game: games.Game, rates: jax.Array, p: Welfare, slope: jax.Array) -> Design:
    value, s = welfare_of_rates(game, rates, p)
    return Design(rates, value, slope, s, implicit.kinks(budget_balanced.under_mechanism(game, rates), s))
