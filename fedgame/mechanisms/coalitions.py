"""Coalitions: which members could keep everybody who belongs to them, and who had better leave.

A coalition C has the surplus W*(C) - Σ_{i∈C} r_i: the largest sum of its members' utilities, when only they
contribute, less what they have outside. Payments between members only divide it. So a balanced mechanism can
leave all n agents at least r_i only if the surplus of all is not negative. That several agents could leave
together, to be a federation of their own, is not considered.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import responses
from fedgame.games import game as games
from fedgame.games import payoffs
from fedgame.mechanisms import optimum
from fedgame.registry import option

EXHAUSTIVE = 15  # maximum number of agents of whom all coalitions, 2ⁿ - 1, are examined
MOST = 100  # maximum number of agents for whom any are
_AT_ONCE = 256  # coalitions that are solved in one call
_SWEEPS = 200  # maximum number of sweeps in which agents maximise their common welfare


class Coalition(NamedTuple):
    """The coalition with the largest surplus that was found."""

    members: np.ndarray  # [k] numbers of agents, ascending; none if no coalition has a positive surplus
    surplus: float  # currency
    exhaustive: bool  # whether all coalitions were examined


@registry.family
class _Common(payoffs.Payoff):
    """Σ_j v_j a_j(s) over members. With it as payoff own utility is their welfare, up to a constant."""

    game: games.Game = option("whose payoffs", rank=None)
    members: Any = option("whether each agent is a member, [n]", rank=None)

    concave = True

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, s = rest
        worth = self.game.value * games.payoff_values(self.game, s.at[i].set(own))
        return jnp.sum(jnp.where(self.members, worth, 0.0))


@jax.jit
def _welfare(game: games.Game, members: jax.Array) -> jax.Array:
    """W*(C) of coalitions, [k, n] booleans -> [k], for utilities that are concave in the profile."""

    def one(members: jax.Array) -> jax.Array:
        capacity = jnp.where(members, game.capacity, 0.0)
        common = games.Game(_Common(game, members), game.cost, capacity)
        # Welfare is level at its maximum: it is exact to the square of the tolerance.
        s = responses.run(common, capacity / 2, _SWEEPS, 1e-6).profile
        return jnp.sum(jnp.where(members, games.utilities(game, s), 0.0))

    return jax.lax.map(one, members, batch_size=_AT_ONCE)


def surpluses(game: games.Game, outside: np.ndarray, members: np.ndarray) -> np.ndarray:
    """W*(C) - Σ_{i∈C} r_i of coalitions.

    Args:
      game: n agents.
      outside: r_i, [n], what each has outside, currency.
      members: [k, n] booleans, whether an agent belongs to a coalition.

    Returns:
      [k], currency. As far as was found, where utilities are not concave.
    """
    members = np.asarray(members, bool)
    if _jointly_concave(game):
        padded = np.concatenate([members, np.zeros((-len(members) % _AT_ONCE, game.n), bool)])
        welfare = np.asarray(_welfare(game, jnp.asarray(padded)))[: len(members)]
    else:
        welfare = np.array([_first_best_of(game, mask) for mask in members])
    return welfare - members @ outside


def _jointly_concave(game: games.Game) -> bool:
    """Whether utilities are known to be concave in the whole profile: effective samples, without a kink."""
    payoff = game.payoff
    if not (isinstance(payoff, payoffs.EffectiveSamples) and game.concave):
        return False
    return bool(np.all(np.asarray(payoff.data_to_accuracy.pays_from()) <= np.asarray(payoff.records)))


def _first_best_of(game: games.Game, mask: np.ndarray) -> float:
    """W*(C) of one coalition; 0 of nobody."""
    if not np.any(mask):
        return 0.0
    members = games.subset(game, np.flatnonzero(mask))
    # Where utilities are not concave the search may end at a local maximum, such as where nobody shares.
    all_shared = float(jnp.sum(games.utilities(members, members.capacity)))
    return max(optimum.first_best(members).welfare, all_shared)


def looks(n: int) -> int:
    """How often `best` calls `progress` for n agents, at most."""
    return -(-(2**n - 1) // _AT_ONCE) if n <= EXHAUSTIVE else n


def best(game: games.Game, outside: np.ndarray, progress: Callable = lambda: None) -> Coalition:
    """The coalition with the largest surplus.

    All coalitions are examined for up to 15 agents. With more, agents leave one at a time, always the one
    whose leaving raises the surplus most, as long as it rises: the end of that need not be the best.

    Args:
      game: n ≤ 100 agents.
      outside: r_i, [n], currency.
      progress: called after every 256 coalitions, and after everybody who leaves.

    Raises:
      ValueError: there are more than 100 agents.
    """
    if game.n > MOST:
        raise ValueError(f"coalitions are examined of up to {MOST} agents, got {game.n}")
    if game.n > EXHAUSTIVE:
        return _greedy(game, outside, progress)
    masks = np.array(list(itertools.product([False, True], repeat=game.n)))[1:]
    found = []
    for first in range(0, len(masks), _AT_ONCE):
        found.append(surpluses(game, outside, masks[first : first + _AT_ONCE]))
        progress()
    surplus = np.concatenate(found)
    largest = int(np.argmax(surplus))
    if surplus[largest] <= 0:
        return Coalition(np.zeros(0, int), 0.0, True)
    return Coalition(np.flatnonzero(masks[largest]), float(surplus[largest]), True)


def _greedy(game: games.Game, outside: np.ndarray, progress: Callable) -> Coalition:
    stay = np.ones(game.n, bool)
    surplus = float(surpluses(game, outside, stay[None])[0])
    while np.any(stay):
        who, after = next_to_leave(game, outside, stay)
        if after <= surplus:
            break
        stay[who], surplus = False, after
        progress()
    if surplus <= 0:
        return Coalition(np.zeros(0, int), 0.0, False)
    return Coalition(np.flatnonzero(stay), surplus, False)


def next_to_leave(game: games.Game, outside: np.ndarray, stay: np.ndarray) -> tuple[int, float]:
    """The agent whose leaving raises the surplus most, of equal ones the first; and the surplus after it.

    Args:
      game: n agents.
      outside: r_i, [n], currency.
      stay: [n] booleans, who is there.
    """
    there = np.flatnonzero(stay)
    masks = np.repeat(np.asarray(stay, bool)[None], len(there), axis=0)
    masks[np.arange(len(there)), there] = False
    after = surpluses(game, outside, masks)
    # Surpluses that agree to nine digits of what is at stake count as equal.
    scale = np.max(np.abs(after)) + np.max(np.abs(outside))
    first = int(np.flatnonzero(after >= np.max(after) - 1e-9 * scale)[0])
    return int(there[first]), float(after[first])
