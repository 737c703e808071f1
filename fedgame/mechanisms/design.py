"""Mechanisms designed by gradient: the rates whose equilibrium has the largest welfare.

Welfare is differentiated through the equilibrium (`equilibria.implicit`), for any game and any welfare
function of the utilities. As a function of the rates it is smooth only in pieces, with kinks where
agents enter, leave or take turns, and it may have several maxima."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import certificates, implicit, solvers
from fedgame.games import game as games
from fedgame.mechanisms import refunds, welfare

_GRID = 64  # rates of the first look
_HALVINGS = 45
Welfare = float | Callable[[jax.Array], jax.Array]


class Design(NamedTuple):
    """The best rates that were found, of those under which an equilibrium is certified."""

    rates: jax.Array  # β, or β_i, [n]
    welfare: jax.Array  # there; NaN if it is undefined, or no equilibrium certified, wherever was looked
    slope: jax.Array  # ∂welfare/∂rates there, by implicit differentiation
    equilibrium: solvers.Equilibrium  # under these rates, certified: see its `converged`
    kinks: jax.Array  # [n] agents at whose entering, leaving or turns the slope is one-sided


def welfare_of_rates(game: games.Game, rates: Any, p: Welfare) -> tuple[jax.Array, jax.Array]:
    """W_p at `solve`'s profile under rates β_i (or one β), and that profile; differentiable in both.

    Not certified: where there is no equilibrium this is the welfare of a profile that is none.

    Args:
      game: n ≥ 2 agents.
      rates: scalar or [n] in [0, 1].
      p: in [-∞, 1], or a function from utilities, [n], to a number.

    Returns:
      Welfare, NaN where it is undefined (see `welfare.p_mean`); and the profile, [n].
    """
    s = implicit.profile(refunds.under_mechanism(game, rates))
    u = refunds.utilities(game, rates, s)
    return (p(u) if callable(p) else welfare.p_mean(u, p)), s


def design_beta(game: games.Game, p: Welfare) -> Design:
    """The one β in [0, 1] for all whose equilibrium has the largest welfare. Works under jit and vmap.

    Looks at 64 rates, then halves the interval around the best one by the sign of the slope, which also
    finds a maximum at a kink, and by welfare itself, which can jump where agents take turns. Every look is
    certified, and one at what is no equilibrium does not count. A higher peak that lies between two of the 64
    can be missed. A welfare of NaN says that it is undefined, or nothing certified, at all of them; the rate
    is 0 then.

    Raises:
      ValueError: fewer than two agents, or p is out of range.
    """
    _check(game)

    half = _GRID // 2
    # Contributions go with 1/(1 - β): half of the looks are spread evenly, half on the scale of 1 - β.
    spread = [np.linspace(0.0, 1.0, half), 1.0 - np.geomspace(1e-3 / game.n, 1.0, half - 1)]
    betas = jnp.sort(jnp.asarray(np.concatenate([*spread, [refunds.falkinger_beta(game.n)]])))
    last = len(betas) - 1

    def look(beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        (value, s), (slope, _) = jax.jvp(
            lambda b: welfare_of_rates(game, b, p), (beta,), (jnp.ones_like(beta),)
        )
        return _counted(game, beta, value, s), slope

    def turn(t: jax.Array, search: tuple) -> tuple:
        """Grid and halvings are turns of one loop, so that the solver in it is compiled once."""
        low, high, best, most = search
        first = t <= last
        beta = jnp.where(first, betas[jnp.minimum(t, last)], (low + high) / 2)
        value, slope = look(beta)
        size = jnp.where(jnp.isfinite(most), jnp.abs(most), 0.0)
        # At a flat top the slope tells, not welfare.
        better = value > jnp.where(first, most, most - 4.0 * jnp.finfo(value.dtype).eps * size)
        # By welfare itself where it is lower than the best seen: it may have jumped there.
        good = value >= most - 1e-12 * size
        rising = jnp.where(good, slope > 0, beta < best)
        around = betas[jnp.maximum(t - 1, 0)], betas[jnp.minimum(t + 1, last)]
        low = jnp.where(first, jnp.where(better, around[0], low), jnp.where(rising, beta, low))
        high = jnp.where(first, jnp.where(better, around[1], high), jnp.where(rising, high, beta))
        return low, high, jnp.where(better, beta, best), jnp.maximum(value, most)

    start = betas[0], betas[1], betas[0], jnp.full_like(betas[0], -jnp.inf)
    _, _, best, most = jax.lax.fori_loop(0, last + 1 + _HALVINGS, turn, start)
    return _result(game, best, most, p)


def design_rates(game: games.Game, p: Welfare, start: Any, steps: int = 300, rate: float = 0.03) -> Design:
    """Personal rates β_i by projected gradient ascent (Adam) from `start`; the best on the way is kept.

    A local method: agents who contribute nothing have no slope, and so do not enter. Starts worth trying
    are `design_beta`'s rate and those of `personal.personal_rates`. Where welfare is undefined at the start
    there is no slope either: its welfare, NaN, is returned. Rates under which no equilibrium is certified are
    passed through, and not kept. Works under jit and vmap.

    Args:
      game: n ≥ 2 agents.
      p: in [-∞, 1], or a function from utilities, [n], to a number.
      start: scalar or [n] in [0, 1].
      steps: of the ascent; each costs a solve and its derivative.
      rate: the largest change of a rate in the first step; falls to 0 by a cosine.

    Raises:
      ValueError: fewer than two agents, p is out of range, or `start` outside [0, 1].
    """
    import optax  # takes as long as all else that fedgame imports beside JAX

    _check(game)
    refunds.check_beta(start, game.n)
    first = jnp.broadcast_to(jnp.asarray(start, float), (game.n,))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    look = jax.value_and_grad(lambda rates: welfare_of_rates(game, rates, p), has_aux=True)

    def climb(carry: tuple, _: None) -> tuple[tuple, None]:
        rates, best, most, state = carry
        (value, s), slope = look(rates)
        value = _counted(game, rates, value, s)
        best, most = jnp.where(value > most, rates, best), jnp.maximum(value, most)
        update, state = optimizer.update(jnp.where(jnp.isfinite(slope), -slope, 0.0), state)
        return (jnp.clip(rates + update, 0.0, 1.0), best, most, state), None

    carry = first, first, jnp.asarray(-jnp.inf), optimizer.init(first)
    (_, best, most, _), _ = jax.lax.scan(climb, carry, length=steps + 1)  # the last look moves nothing
    return _result(game, best, most, p)


def _check(game: games.Game) -> None:
    if game.n < 2:
        raise ValueError("payments between agents need at least two of them")


def _counted(game: games.Game, rates: jax.Array, value: jax.Array, s: jax.Array) -> jax.Array:
    """The welfare, or -∞ where it is undefined or the profile is not certified as an equilibrium."""
    certified = certificates.is_equilibrium(refunds.under_mechanism(game, rates), s)
    return jnp.where(certified & ~jnp.isnan(value), value, -jnp.inf)


def _result(game: games.Game, rates: jax.Array, most: jax.Array, p: Welfare) -> Design:
    played = refunds.under_mechanism(game, rates)
    (value, s), slope = jax.value_and_grad(lambda r: welfare_of_rates(game, r, p), has_aux=True)(rates)
    value, slope = (jnp.where(most == -jnp.inf, jnp.nan, x) for x in (value, slope))
    return Design(rates, value, slope, solvers.solve(played), implicit.kinks(played, s))
