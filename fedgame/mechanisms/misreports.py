"""What the assumption of public costs carries (Remark 2): the gain of an agent who misreports hers.

The server computes rates and pays on *reported* costs; agents then play with their true ones. Who
reports f c_i instead of c_i gets back β_i f c_i, so a sample costs her (1 - β_i f) times its true cost:
with f > 1/β_i she earns by contributing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria
from fedgame.games import game as games
from fedgame.mechanisms import base, outcomes, rules

_ZOOMS, _POINTS = 4, 17  # closer looks around the best report, and points in each


class Manipulation(NamedTuple):
    """Reports f c_i of one agent, and what they bring her."""

    factors: np.ndarray  # [k] f, ascending, 1 among them
    gains: np.ndarray  # [k] her utility less the one of the honest report; NaN where none is certified
    contributions: np.ndarray  # [k] what she contributes, samples
    best: float  # the f that gains most of those with a certified equilibrium; 1 if none gains
    gain: float  # what it gains, ≥ 0; NaN if the honest report, or every other, leads to none certified
    honest: float  # her utility with the honest report
    others: float  # what the best report changes in the sum of the others' utilities
    nash_gap: float  # the largest of all equilibria that were compared, the certified ones
    certified: bool  # whether an equilibrium was certified for the honest report and every other


class _Look(NamedTuple):
    """What one report leads to; NaN where no equilibrium is certified."""

    utility: float  # hers
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

    A grid on a logarithmic scale, then closer looks around its best point: welfare jumps where agents
    take turns, so a higher peak between two points of the grid can be missed.

    Args:
      game: with the true costs.
      rule: from a game, as reported, to what the server announces.
      agent: her number, 0 … n-1.
      low: smallest factor, > 0.
      high: largest.
      fixed: whether the server announced its rates for the true costs before, and only pays on reports;
        else the rule is applied to the reports.
      points: of the grid.

    Raises:
      ValueError: no such agent, or an interval that is none.
    """
    if not 0 <= agent < game.n:
        raise ValueError(f"`agent` must be one of 0 to {game.n - 1}, got {agent}")
    if not 0 < low < high < np.inf:
        raise ValueError(f"the interval must be 0 < low < high, got {low} and {high}")
    announced = rule(game) if fixed else None

    def look(factor: float) -> _Look:
        mechanism = rule(_reported(game, agent, factor)) if announced is None else announced
        if factor == 1.0 and mechanism.profile(game) is not None:  # the one that is announced
            there = outcomes.outcome(game, mechanism, general=False)
            u, found = there.utilities, there.equilibrium
            s, gap, certified = found.profile[agent], jnp.max(found.nash_gap), found.converged
        else:
            u, s, gap, certified = _play(game, mechanism, agent, factor)
        if not certified:  # nobody knows where a report would lead that leads to no equilibrium
            return _Look(np.nan, float(s), np.nan, np.nan)
        return _Look(float(u[agent]), float(s), float(gap), float(jnp.sum(u) - u[agent]))

    seen = {1.0: look(1.0)}
    grid = np.geomspace(low, high, points)
    for _ in range(_ZOOMS + 1):
        seen |= {float(f): look(float(f)) for f in grid if float(f) not in seen}
        ordered = np.asarray(sorted(seen))
        own = np.asarray([seen[f].utility for f in ordered])
        inside = (ordered >= low) & (ordered <= high) & ~np.isnan(own)
        k = int(np.argmax(np.where(inside, own, -np.inf)))
        around = np.clip(ordered[[max(k - 1, 0), min(k + 1, len(ordered) - 1)]], low, high)
        grid = np.linspace(*around, _POINTS)
    u, s, gap, others = (np.asarray(x) for x in zip(*(seen[f] for f in ordered), strict=True))
    honest = seen[1.0]
    gain = u[k] - honest.utility if np.any(inside & (ordered != 1.0)) else np.nan
    best, changed = (float(ordered[k]), float(others[k] - honest.others)) if gain > 0 else (1.0, 0.0)
    return Manipulation(
        factors=ordered,
        gains=u - honest.utility,
        contributions=s,
        best=best,
        gain=float(np.maximum(gain, 0.0)),
        honest=honest.utility,
        others=changed,
        nash_gap=float(np.nanmax(gap)) if np.any(~np.isnan(gap)) else np.nan,
        certified=not np.any(np.isnan(u)),
    )


def _reported(game: games.Game, agent: int, factor: float) -> games.Game:
    scale = jnp.ones(game.n).at[agent].set(factor)
    return games.scale_costs(game, scale)


@jax.jit
def _play(
    game: games.Game, mechanism: base.Mechanism, agent: jax.Array, factor: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Utilities [n], her contribution, the largest Nash gap, and whether it is certified."""
    reported = jnp.ones(game.n).at[agent].set(factor)  # of every true cost
    found = equilibria.solve(mechanism.under_scaled(game, reported))
    u = mechanism.utilities(game, found.profile, games.scale_costs(game, reported))
    return u, found.profile[agent], jnp.max(found.nash_gap), found.converged
