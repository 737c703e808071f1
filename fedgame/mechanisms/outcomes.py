"""Individual rationality: who would rather leave than take part, and what then becomes of the others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedgame import equilibria
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, personal, rules


class Outcome(NamedTuple):
    """An equilibrium under a mechanism, for n agents."""

    mechanism: budget_balanced.Mechanism
    equilibrium: equilibria.Equilibrium  # of the game with costs scaled by 1 - β_i
    spent: jax.Array  # [n] c_i(s_i)
    payments: jax.Array  # [n] p_i, received
    utilities: jax.Array  # [n] u_i + p_i


class Participation(NamedTuple):
    """Who stays, who left, and where it ends."""

    stay: np.ndarray  # [k] numbers of the agents who stay, ascending
    left: list[int]  # those who left, in that order
    shortfall: list[float]  # by how much each was worse off than outside when she left
    outcome: Outcome | None  # of those who stay; None if fewer than two are left
    outside: np.ndarray  # [n] what every agent has outside
    everybody: Outcome  # the equilibrium in which all take part, from which it began


_solve = jax.jit(equilibria.solve)


@jax.jit
def _settle(
    game: games.Game, mechanism: budget_balanced.Mechanism, s: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    spent = games.incurred_costs(game, s)
    paid = budget_balanced.payments(mechanism.rates, spent, mechanism.transfers)
    return spent, paid, games.utilities(game, s) + paid


def outcome(game: games.Game, mechanism: budget_balanced.Mechanism) -> Outcome:
    """The certified equilibrium under a mechanism, and what everybody pays and has there."""
    found = _solve(budget_balanced.under_mechanism(game, mechanism.rates))
    return Outcome(mechanism, found, *_settle(game, mechanism, found.profile))


def participation(
    game: games.Game, rule: rules.Rule, outside: Any = None, progress: Callable = lambda: None
) -> Participation:
    """Agents leave, one at a time, the one first who is worst off compared with what she has outside.

    After each one the rule is applied to those who are left, and their equilibrium found anew. Nobody
    comes back. Ends when nobody would rather leave, or when fewer than two are left.

    Args:
      game: n agents.
      rule: what the server announces.
      outside: [n] what each has outside; None is training alone (`personal.alone`), 0 is having no
        model. A difference below 1e-9 · max(1, |outside|) keeps nobody from staying.
      progress: called once for everybody who leaves.

    Raises:
      ValueError: what somebody has outside is not a finite number, or what the rule raises.
    """
    alternative = np.asarray(personal.alone(game) if outside is None else outside, float)
    alternative = np.broadcast_to(alternative, (game.n,))
    if not np.all(np.isfinite(alternative)):
        raise ValueError(f"`outside` must be finite, got {alternative}")
    stay, left, shortfall = np.arange(game.n), [], []
    first = now = outcome(game, rule(game))
    while True:
        short = alternative[stay] - np.asarray(now.utilities)
        worst = int(np.argmax(short))
        if not short[worst] > 1e-9 * max(1.0, abs(alternative[stay][worst])):
            return Participation(stay, left, shortfall, now, alternative, first)
        left.append(int(stay[worst]))
        shortfall.append(float(short[worst]))
        stay = np.delete(stay, worst)
        progress()
        if len(stay) < 2:
            return Participation(stay, left, shortfall, None, alternative, first)
        rest = games.subset(game, stay)
        now = outcome(rest, rule(rest))
