"""What an agent gains by misreporting her cost, which the paper assumes to be public (Remark 2).

The server computes rates and pays on *reported* costs; agents then play with their true ones. An agent who
reports f c_i instead of c_i gets back β_i f c_i, so a sample costs her (1 - β_i f) times its true cost: with
f > 1/β_i she earns by contributing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria
from fedgame.games import game as games
from fedgame.mechanisms import base, outcomes, rules

FACTORS = (0.5, 0.9, 1.1, 2.0)  # reports that `largest_gain` tries, as multiples of the true cost
_ZOOMS, _POINTS = 4, 17  # closer looks around the best report, and points in each


class Manipulation(NamedTuple):
    """Reports f c_i of one agent, and what they bring her."""

    factors: np.ndarray  # [k] f, ascending; 1 is among them
    gains: np.ndarray  # [k] utility gained over the honest report; NaN without a certified equilibrium
    contributions: np.ndarray  # [k] what she contributes, samples
    best: float  # the f with the largest gain, of those with a certified equilibrium; 1 if none gains
    gain: float  # at `best`, ≥ 0; NaN if no equilibrium is certified for f = 1, or for no other f
    honest: float  # her utility with the honest report
    others: float  # change in the sum of the others' utilities from f = 1 to `best`
    nash_gap: float  # the largest of all certified equilibria
    certified: bool  # whether an equilibrium was certified for every report


class _Look(NamedTuple):
    """What one report leads to; NaN where no equilibrium is certified."""

    utility: float  # of the agent who reports
    contribution: float
    nash_gap: float
    others: float  # the sum of the others' utilities


def manipulation(
    game: games.Game,
    rule: rules.Rule,
    agent: int,
    low: float = 0.1,
    high: float = 10.0,
    fixed: bool = False,
    points: int = 65,
) -> Manipulation:
    """The best report f c_i with f in [low, high] of one agent, the others being honest.

    Searches on a logarithmic grid, then on ever closer ones around the best point. Utility jumps where
    agents take turns, so a higher peak between two points of the grid can be missed.

    Args:
      game: with the true costs.
      rule: from a game, as reported, to what the server announces.
      agent: her number, 0 … n-1.
      low: smallest factor, > 0.
      high: largest factor.
      fixed: whether the server has announced rates for the true costs and only pays on reports; otherwise
        the rule is applied to the reports.
      points: of the first grid.

    Raises:
      ValueError: there is no such agent, or not 0 < low < high.
    """
    if not 0 <= agent < game.n:
        raise ValueError(f"`agent` must be one of 0 to {game.n - 1}, got {agent}")
    if not 0 < low < high < np.inf:
        raise ValueError(f"the interval must be 0 < low < high, got {low} and {high}")
    announced = rule(game) if fixed else None

    def look(factor: float) -> _Look:
        mechanism = rule(_reported(game, agent, factor)) if announced is None else announced
        if factor == 1.0 and mechanism.profile(game) is not None:  # the equilibrium that is announced
            there = outcomes.outcome(game, mechanism, general=False)
            u, found = there.utilities, there.equilibrium
            s, gap, certified = found.profile[agent], jnp.max(found.nash_gap), found.converged
        else:
            u, s, gap, certified = _play(game, mechanism, agent, factor)
        if not certified:  # it is not known where this report would lead
            return _Look(np.nan, float(s), np.nan, np.nan)
        return _Look(float(u[agent]), float(s), float(gap), float(jnp.sum(u) - u[agent]))

    seen = {1.0: look(1.0)}
    grid = np.geomspace(low, high, points)
    for _ in range(_ZOOMS + 1):
        seen |= {float(f): look(float(f)) for f in grid if float(f) not in seen}
        factors = np.asarray(sorted(seen))
        own = np.asarray([seen[f].utility for f in factors])
        allowed = (factors >= low) & (factors <= high) & ~np.isnan(own)
        k = int(np.argmax(np.where(allowed, own, -np.inf)))
        before, after = factors[max(k - 1, 0)], factors[min(k + 1, len(factors) - 1)]
        grid = np.linspace(np.clip(before, low, high), np.clip(after, low, high), _POINTS)
    return _manipulation(factors, [seen[f] for f in factors], allowed, k)


class Gain(NamedTuple):
    """The largest gain of a misreport among those that were tried."""

    agent: int  # whose; -1 if nobody gains
    factor: float  # f of the report f c_i; 1 if nobody gains
    gain: float  # currency, ≥ 0
    untold: int = 0  # reports to which the rule does not apply, or under which no equilibrium is certified


def largest_gain(
    game: games.Game, announce: Callable[[games.Game], base.Mechanism], honest: outcomes.Outcome
) -> Gain:
    """The largest gain of any agent who reports one of `FACTORS` times her cost, the others being honest.

    A lower bound on what misreports gain: `manipulation` looks at more reports, of one agent.

    Args:
      game: with the true costs.
      announce: from a game, as reported, to what the server announces.
      honest: what comes of it if all are honest.

    Returns:
      Gains that are `outcomes.negligible` count as none.
    """
    untold = 0
    largest, before = Gain(-1, 1.0, 0.0), np.asarray(honest.utilities)
    rounding = np.asarray(outcomes.negligible(game, honest, honest.utilities))
    for agent in range(game.n):
        for factor in FACTORS:
            try:
                mechanism = outcomes.spread(announce(_reported(game, agent, factor)), game.n)
            except (ValueError, FloatingPointError):
                untold += 1
                continue
            u, _, _, certified = _play(game, mechanism, agent, factor)
            if not certified:
                untold += 1
                continue
            gain = float(u[agent]) - before[agent]
            if gain > max(largest.gain, rounding[agent]):
                largest = Gain(agent, factor, float(gain))
    return largest._replace(untold=untold)


def _manipulation(factors: np.ndarray, looks: list[_Look], allowed: np.ndarray, k: int) -> Manipulation:
    """The best report k of all, and its gain over the honest one.

    Args:
      factors: [m] f, ascending.
      looks: what each leads to.
      allowed: [m] whether a factor is in the interval and its equilibrium certified.
      k: index of the allowed factor with the largest utility.
    """
    utilities = np.asarray([one.utility for one in looks])
    gaps = np.asarray([one.nash_gap for one in looks])
    honest = looks[int(np.flatnonzero(factors == 1.0)[0])]
    gain = utilities[k] - honest.utility if np.any(allowed & (factors != 1.0)) else np.nan
    best, change = 1.0, 0.0
    if gain > 0:
        best, change = float(factors[k]), float(looks[k].others - honest.others)
    return Manipulation(
        factors=factors,
        gains=utilities - honest.utility,
        contributions=np.asarray([one.contribution for one in looks]),
        best=best,
        gain=float(np.maximum(gain, 0.0)),
        honest=honest.utility,
        others=change,
        nash_gap=float(np.nanmax(gaps)) if np.any(~np.isnan(gaps)) else np.nan,
        certified=not np.any(np.isnan(utilities)),
    )


def _reported(game: games.Game, agent: int, factor: float) -> games.Game:
    """The game as it is reported if the agent reports `factor` times her cost."""
    scale = jnp.ones(game.n).at[agent].set(factor)
    return games.scale_costs(game, scale)


@jax.jit
def _play(
    game: games.Game, mechanism: base.Mechanism, agent: jax.Array, factor: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Utilities, [n], the agent's contribution, the largest Nash gap, and whether it is an equilibrium."""
    reported = jnp.ones(game.n).at[agent].set(factor)  # of every true cost
    found = equilibria.solve(mechanism.under_scaled(game, reported))
    u = mechanism.utilities(game, found.profile, games.scale_costs(game, reported))
    return u, found.profile[agent], jnp.max(found.nash_gap), found.converged
