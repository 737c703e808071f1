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
      Welfare, NaN where it is undefined (see `welfare.p_mean`); and the profile, [n].
    """
    s = implicit.profile(budget_balanced.under_mechanism(game, rates))
    u = budget_balanced.utilities(game, rates, s)
    return (p(u) if callable(p) else welfare.p_mean(u, p)), s


def design_beta(game: games.Game, p: Welfare) -> Design:
    """The one β in [0, 1] for all whose equilibrium has the largest welfare. Works under jit and vmap.

    Looks at 64 rates, then halves the interval around the best one by the sign of the slope, which also
    finds a maximum at a kink, and by welfare itself, which can jump where agents take turns. A higher peak
    that lies between two of the 64 can be missed. A welfare of NaN says that it is undefined at all of them;
    the rate is 0 then.

    Raises:
      ValueError: fewer than two agents, or p is out of range.
    """
    _check(game)

    half = _GRID // 2
    # Contributions go with 1/(1 - β): half of the looks are spread evenly, half on the scale of 1 - β.
    spread = [np.linspace(0.0, 1.0, half), 1.0 - np.geomspace(1e-3 / game.n, 1.0, half - 1)]
    betas = jnp.sort(jnp.asarray(np.concatenate([*spread, [budget_balanced.falkinger_beta(game.n)]])))
    last = len(betas) - 1

    def look(beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, slope = jax.jvp(lambda b: welfare_of_rates(game, b, p)[0], (beta,), (jnp.ones_like(beta),))
        return _defined(value), slope

    def turn(t: jax.Array, search: tuple) -> tuple:
        """Grid and halvings are turns of one loop, so that the solver in it is compiled once."""
        low, high, best, most = search
        first = t <= last
        beta = jnp.where(first, betas[jnp.minimum(t, last)], (low + high) / 2)
        value, slope = look(beta)
        rounding = 4.0 * jnp.finfo(value.dtype).eps * jnp.maximum(1.0, jnp.abs(most))
        better = value > jnp.where(first, most, most - rounding)  # at a flat top the slope tells, not welfare
        # By welfare itself where it is lower than the best seen: it may have jumped there.
        good = value >= most - 1e-12 * jnp.maximum(1.0, jnp.abs(most))
        rising = jnp.where(good, slope > 0, beta < best)
        around = betas[jnp.maximum(t - 1, 0)], betas[jnp.minimum(t + 1, last)]
        low = jnp.where(first, jnp.where(better, around[0], low), jnp.where(rising, beta, low))
        high = jnp.where(first, jnp.where(better, around[1], high), jnp.where(rising, high, beta))
        return low, high, jnp.where(better, beta, best), jnp.maximum(value, most)

    start = betas[0], betas[1], betas[0], jnp.full_like(betas[0], -jnp.inf)
    _, _, best, _ = jax.lax.fori_loop(0, last + 1 + _HALVINGS, turn, start)
    return _result(game, best, p)


def design_rates(game: games.Game, p: Welfare, start: Any, steps: int = 300, rate: float = 0.03) -> Design:
    """Personal rates β_i by projected gradient ascent (Adam) from `start`; the best on the way is kept.

    A local method: agents who contribute nothing have no slope, and so do not enter. Starts worth trying
    are `design_beta`'s rate and those of `personal.personal_rates`. Where welfare is undefined at the start
    there is no slope either: its welfare, NaN, is returned. Works under jit and vmap.

    Args:
      game: n ≥ 2 agents.
      p: in [-∞, 1], or a function from utilities, [n], to a number.
      start: scalar or [n] in [0, 1].
      steps: of the ascent; each costs a solve and its derivative.
      rate: the largest change of a rate in the first step; falls to 0 by a cosine.

    Raises:
      ValueError: fewer than two agents, p is out of range, or `start` outside [0, 1].
    """
    _check(game)
    budget_balanced.check_beta(start, game.n)
    first = jnp.broadcast_to(jnp.asarray(start, float), (game.n,))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    look = jax.value_and_grad(lambda rates: _defined(welfare_of_rates(game, rates, p)[0]))

    def climb(carry: tuple, _: None) -> tuple[tuple, None]:
        rates, best, most, state = carry
        value, slope = look(rates)
        best, most = jnp.where(value > most, rates, best), jnp.maximum(value, most)
        update, state = optimizer.update(jnp.where(jnp.isfinite(slope), -slope, 0.0), state)
        return (jnp.clip(rates + update, 0.0, 1.0), best, most, state), None

    carry = first, first, jnp.asarray(-jnp.inf), optimizer.init(first)
    (_, best, _, _), _ = jax.lax.scan(climb, carry, length=steps + 1)  # the last look moves nothing
    return _result(game, best, p)


def _check(game: games.Game) -> None:
    if game.n < 2:
        raise ValueError("payments between agents need at least two of them")


def _defined(value: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def _result(game: games.Game, rates: jax.Array, p: Welfare) -> Design:
    (value, s), slope = jax.value_and_grad(lambda r: welfare_of_rates(game, r, p), has_aux=True)(rates)
    return Design(rates, value, slope, s, implicit.kinks(budget_balanced.under_mechanism(game, rates), s))
