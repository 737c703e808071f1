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

_GRID = 64  # rates that are tried first
_HALVINGS = 45  # of the interval between two of them: 2^-45 is 3e-14
Welfare = float | Callable[[jax.Array], jax.Array]


class Design(NamedTuple):
    """The best rates that were found, of those under which an equilibrium is certified."""

    rates: jax.Array  # β, or β_i, [n]
    welfare: jax.Array  # at these rates; NaN if at all rates tried it is undefined or nothing is certified
    slope: jax.Array  # ∂welfare/∂rates at these rates, by implicit differentiation
    equilibrium: solvers.Equilibrium  # under these rates; certified if `converged`
    kinks: jax.Array  # [n] whether the slope is one-sided because she is about to enter, leave or take turns


def welfare_of_rates(game: games.Game, rates: Any, p: Welfare) -> tuple[jax.Array, jax.Array]:
    """W_p at the profile that `solve` finds under rates β_i (or one β); differentiable in the rates.

    Nothing is certified: if there is no equilibrium, this is the welfare of some other profile.

    Args:
      game: n ≥ 2 agents.
      rates: scalar or [n] in [0, 1].
      p: in [-∞, 1], or a function from utilities, [n], to a number.

    Returns:
      Welfare, NaN where it is undefined (see `welfare.p_mean`); and the profile, [n], samples.
    """
    s = implicit.profile(refunds.under_mechanism(game, rates))
    u = refunds.utilities(game, rates, s)
    return (p(u) if callable(p) else welfare.p_mean(u, p)), s


class _Search(NamedTuple):
    """The state of `design_beta`."""

    low: jax.Array  # the maximum is looked for in [low, high]
    high: jax.Array
    best: jax.Array  # the best rate so far
    most: jax.Array  # its welfare, or -∞


def design_beta(game: games.Game, p: Welfare) -> Design:
    """The β in [0, 1], one for all, whose equilibrium has the largest welfare. Works under jit and vmap.

    Tries 64 rates, then halves the interval around the best one by the sign of the slope, which also finds a
    maximum at a kink, and by welfare itself, which can jump where agents take turns. Rates at which no
    equilibrium is certified are ignored. A higher peak between two of the 64 rates can be missed.

    Args:
      game: n ≥ 2 agents.
      p: in [-∞, 1], or a function from utilities, [n], to a number.

    Returns:
      The best rate found. Its welfare is NaN, and the rate 0, if at all rates tried welfare is undefined or
      nothing is certified.

    Raises:
      ValueError: fewer than two agents, or p is out of range.
    """
    _check(game)
    betas = _first_rates(game.n)
    last = len(betas) - 1

    def look(beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Welfare, -∞ if it does not count, and its slope."""
        (value, s), (slope, _) = jax.jvp(
            lambda b: welfare_of_rates(game, b, p), (beta,), (jnp.ones_like(beta),)
        )
        return _counted(game, beta, value, s), slope

    def turn(t: jax.Array, search: _Search) -> _Search:
        """The trial t, of a rate of the grid or of the middle: one loop, so that it is compiled once."""
        low, high, best, most = search
        on_grid = t <= last
        beta = jnp.where(on_grid, betas[jnp.minimum(t, last)], (low + high) / 2)
        value, slope = look(beta)
        size = jnp.where(jnp.isfinite(most), jnp.abs(most), 0.0)
        # When halving, a value that is equal up to rounding counts as better: at a flat top the slope knows
        # the way, and welfare does not.
        rounding = 4.0 * jnp.finfo(value.dtype).eps * size
        better = value > jnp.where(on_grid, most, most - rounding)
        # The maximum is to the right if welfare rises here; if it is lower than the best seen, it may have
        # jumped, and the maximum is on the side of that best one.
        comparable = value >= most - 1e-12 * size
        to_the_right = jnp.where(comparable, slope > 0, beta < best)
        left_neighbour, right_neighbour = betas[jnp.maximum(t - 1, 0)], betas[jnp.minimum(t + 1, last)]
        around_best = jnp.where(better, left_neighbour, low), jnp.where(better, right_neighbour, high)
        half = jnp.where(to_the_right, beta, low), jnp.where(to_the_right, high, beta)
        return _Search(
            low=jnp.where(on_grid, around_best[0], half[0]),
            high=jnp.where(on_grid, around_best[1], half[1]),
            best=jnp.where(better, beta, best),
            most=jnp.maximum(value, most),
        )

    start = _Search(betas[0], betas[1], betas[0], jnp.full_like(betas[0], -jnp.inf))
    found = jax.lax.fori_loop(0, last + 1 + _HALVINGS, turn, start)
    return _result(game, found.best, found.most, p)


def _first_rates(n: int) -> jax.Array:
    """[_GRID] rates in [0, 1], ascending.

    Contributions go with 1/(1 - β): half of the rates are spread evenly, half on the scale of 1 - β.
    """
    half = _GRID // 2
    evenly, close_to_1 = np.linspace(0.0, 1.0, half), 1.0 - np.geomspace(1e-3 / n, 1.0, half - 1)
    return jnp.sort(jnp.asarray(np.concatenate([evenly, close_to_1, [refunds.falkinger_beta(n)]])))


def design_rates(game: games.Game, p: Welfare, start: Any, steps: int = 300, rate: float = 0.03) -> Design:
    """Personal rates β_i by projected gradient ascent (Adam) from `start`. Works under jit and vmap.

    Returns the best rates on the way; those under which no equilibrium is certified are ignored. A local
    method: agents who contribute nothing have a slope of 0, and so do not enter. If welfare is undefined at
    the start, so is its slope, and NaN is returned. Starts worth trying are the rate of `design_beta` and
    those of `personal.personal_rates`.

    Args:
      game: n ≥ 2 agents.
      p: in [-∞, 1], or a function from utilities, [n], to a number.
      start: scalar or [n] in [0, 1].
      steps: of the ascent; each costs a solve and its derivative.
      rate: the maximum change of a rate in the first step; it decays to 0 along a cosine.

    Raises:
      ValueError: fewer than two agents, p is out of range, or `start` outside [0, 1].
    """
    import optax  # imported here: it takes as long as all else that fedgame imports beside JAX

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
    # One step more: it looks at the rates to which the last step has moved.
    (_, best, most, _), _ = jax.lax.scan(climb, carry, length=steps + 1)
    return _result(game, best, most, p)


def _check(game: games.Game) -> None:
    if game.n < 2:
        raise ValueError("payments between agents need at least two of them")


def _counted(game: games.Game, rates: jax.Array, value: jax.Array, s: jax.Array) -> jax.Array:
    """The welfare, or -∞ where it is undefined or the profile is not certified as an equilibrium."""
    certified = certificates.is_equilibrium(refunds.under_mechanism(game, rates), s)
    return jnp.where(certified & ~jnp.isnan(value), value, -jnp.inf)


def _result(game: games.Game, rates: jax.Array, most: jax.Array, p: Welfare) -> Design:
    """The `Design` of the best rates; `most` is -∞ if none of those tried counted."""
    played = refunds.under_mechanism(game, rates)
    (value, s), slope = jax.value_and_grad(lambda r: welfare_of_rates(game, r, p), has_aux=True)(rates)
    value, slope = (jnp.where(most == -jnp.inf, jnp.nan, x) for x in (value, slope))
    return Design(rates, value, slope, solvers.solve(played), implicit.kinks(played, s))
