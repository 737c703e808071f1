"""Karimireddy, Guo and Jordan (2022): accuracy is the reward for data, without payments."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame import registry
from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms import base
from fedgame.registry import option

_curve = jax.jit(lambda payoff, total: jnp.vectorize(payoff.curve)(total))


class DataMaximizing(NamedTuple):
    """The equilibrium of the data-maximising mechanism."""

    alone: np.ndarray  # [n] m_i*, what agent i would collect for herself, samples
    contributions: np.ndarray  # [n] m_i^max, samples
    received: np.ndarray  # [n] accuracy of the model that she is given, at most a(Σ m^max)
    utilities: np.ndarray  # [n] v_i received_i - c_i(m_i^max)
    gap: np.ndarray  # [n] utility she could gain by another contribution, on a grid


@registry.family
class Schedule(base.Mechanism):
    """Accuracy as the reward: nobody pays, but whoever contributes less is given a worse model.

    How much worse, `schedule` says. In its `profile` every agent contributes m_i^max. With ε = 0 agents are
    indifferent between m_i* and m_i^max, so a solver of best responses would not find that equilibrium.
    """

    columns: ClassVar[dict[str, str]] = {"alone": "for herself"}

    alone: Any = option("m_i*, what she would collect for herself, samples", low=0)
    contributions: Any = option("m_i^max, samples", low=0)
    reward: Any = option("(c_i + ε) / v_i, the accuracy of a sample between them", low=0)

    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        return jnp.zeros_like(s)

    def received(self, game: games.Game, s: jax.Array) -> jax.Array:
        curve = jax.vmap(game.payoff.curve)
        line = curve(self.alone) + self.reward * (s - self.alone)
        return jnp.where(s <= self.alone, curve(s), jnp.minimum(line, game.payoff.curve(jnp.sum(s))))

    def profile(self, game: games.Game) -> jax.Array:
        return self.contributions


def schedule_of(game: games.Game, epsilon: float = 0.0) -> Schedule:
    """The data-maximising mechanism of a game; arguments and errors as of `data_maximizing`."""
    found = data_maximizing(game, epsilon)
    reward = (jnp.asarray(game.cost.line()[0]) + epsilon) / game.value
    return Schedule(
        alone=jnp.asarray(found.alone),
        contributions=jnp.asarray(found.contributions),
        reward=jnp.broadcast_to(reward, (game.n,)),
    )


def data_maximizing(game: games.Game, epsilon: float = 0.0) -> DataMaximizing:
    """m_i^max = m_i* + v_i (a(S) - a(m_i*)) / (c_i + ε) for all agents, S = Σ m^max the largest root.

    m_i* is what agent i would collect for herself. One whose capacity is below m_i^max contributes all of it,
    and is given what her schedule says: less than a(S). With ε = 0 every agent is indifferent between m_i*
    and m_i^max.

    Roots in S that are closer than 5 % may be missed.

    Args:
      game: one payoff a for all, non-decreasing in S; linear costs; v_i, c_i and τ_i may differ.
      epsilon: ε ≥ 0, currency per sample: by how much the reward of a sample exceeds its cost.

    Raises:
      ValueError: another game, or ε < 0.
    """
    game = _common(game, epsilon)
    alone = np.asarray(certificates.best_response(game, jnp.zeros(game.n)))
    capacity = np.asarray(game.capacity)
    price, accuracy = (game.cost.line()[0] + epsilon) / game.value, _curve(game.payoff, alone)

    def wanted(total: Any) -> np.ndarray:
        """m^max if the total is `total`, [...]: [..., n]."""
        gain = _curve(game.payoff, np.asarray(total)[..., None]) - accuracy
        return np.asarray(jnp.minimum(alone + gain / price, capacity))

    given = wanted(_largest_root(wanted, np.sum(alone), np.sum(capacity)))
    # For the gap: multiples from 0 to 2 of what each could give, gives, and would collect for herself.
    multiples = np.linspace(0.0, 2.0, 801)[:, None]
    grid = multiples * np.stack([capacity, given, alone])[:, None]
    tried = np.clip(np.concatenate([given[None], *grid]), 0.0, capacity)  # her choice first
    received = schedule(game, alone, given, tried, epsilon)
    utility = np.asarray(game.value * received - jax.vmap(games.incurred_costs, (None, 0))(game, tried))
    return DataMaximizing(alone, given, received[0], utility[0], utility.max(axis=0) - utility[0])


def _largest_root(wanted: Callable[[Any], np.ndarray], least: float, most: float) -> float:
    """The largest S with Σ wanted(S) = S on a logarithmic grid of totals; `least` if there is none above.

    Args:
      wanted: from totals, [...], to contributions, [..., n].
      least: total that agents would collect for themselves, samples.
      most: total of all capacities, samples.
    """
    if not most > 0:
        return least
    totals = np.geomspace(max(least, 1e-12 * most), 2.0 * most, 1025)
    too_small = np.flatnonzero(wanted(totals).sum(axis=1) > totals)
    if not len(too_small):
        return least
    last = too_small[-1]
    # A tolerance in S that is never reached: the relative one of `brentq` ends the search.
    return scipy.optimize.brentq(lambda x: wanted(x).sum() - x, totals[last], totals[last + 1], xtol=1e-300)


def schedule(game: games.Game, alone: Any, profile: Any, own: Any, epsilon: float = 0.0) -> np.ndarray:
    """The accuracy that agent i is given for m = `own` samples if the others keep to `profile`.

    a(m) up to m_i*, then a(m_i*) + (c_i + ε)/v_i (m - m_i*), but never more than all the data allow.

    Args:
      game: as in `data_maximizing`.
      alone: [n] m_i*, samples.
      profile: [n] samples.
      own: [..., n] samples.
      epsilon: ε.

    Returns:
      [..., n].
    """
    game, own = games.check(game), np.asarray(own, float)
    line = _curve(game.payoff, alone) + (game.cost.line()[0] + epsilon) / game.value * (own - alone)
    pooled = _curve(game.payoff, np.sum(profile) - profile + own)
    return np.where(own <= alone, _curve(game.payoff, own), np.minimum(line, pooled))


def check_costs(game: games.Game) -> None:
    """Raises a `ValueError` if costs are not linear with rates above 0."""
    line = game.cost.line()
    if line is None or not np.all(np.asarray(line[0]) > 0):
        raise ValueError("`cost` must be linear with rates above 0")


def _common(game: games.Game, epsilon: float) -> games.Game:
    """The checked game, if agents differ in costs, values and capacities alone; else a `ValueError`."""
    game, payoff = games.check(game), game.payoff
    check_costs(game)
    if not payoff.of_total or 0 in jax.tree.leaves(registry.axes(payoff)):
        raise ValueError("all members must have one and the same accuracy curve, of what they share together")
    if not _curve(payoff, 0.0) >= 0:
        raise ValueError(f"accuracy without samples must be at least 0, and is {_curve(payoff, 0.0):.4g}")
    for name, good, words in (
        ("value", np.all(game.value > 0), "above 0"),
        ("quality", np.all(game.quality == 1), "1"),
        ("held", game.held == 0, "0"),
    ):
        if not good:
            raise ValueError(f"`{name}` must be {words}, got {getattr(game, name)}")
    if not 0 <= epsilon < np.inf:
        raise ValueError(f"`epsilon` must be at least 0, got {epsilon}")
    return game
