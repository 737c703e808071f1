"""The budget-balanced mechanism M_β of Section 4, its β* (Definition 2) and Falkinger's β.

Agent i receives p_i(s) = β (c_i(s_i) - 1/(n-1) Σ_{j≠i} c_j(s_j)). She controls only the first term,
so the equilibria of M_β are those of the game with every cost scaled by 1 - β.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import game as games


def payments(beta: Any, spent: jax.Array) -> jax.Array:
    """p_i, [n], what each agent receives (negative: pays); they sum to 0.

    Args:
      beta: β in [0, 1].
      spent: [n] incurred costs c_i(s_i), n ≥ 2.
    """
    others = (jnp.sum(spent) - spent) / max(len(spent) - 1, 1)  # one agent alone gets β = 0 only
    return beta * (spent - others)


def optimal_beta(rates: Any) -> Any:
    """β* of Definition 2, the root of (6), for linear costs c_i s_i.

    With equal costs the discriminant in (14) is exactly 0 and rounds below 0, so the textbook
    formula loses half its digits or is NaN. Here it is written through q = C/A - n², computed without
    cancellation from the deviations e_i = c_i / mean(c) - 1.

    β* maximises welfare as Theorem 4.1 says where costs are equal (β* = 1 - 1/n); see the README
    for where it does not.

    Args:
      rates: [n] costs per sample, all > 0, n ≥ 2.

    Raises:
      ValueError: fewer than two agents, or a rate that is not positive and finite.
    """
    xp = jnp if isinstance(rates, jax.Array) else np  # numpy in, numpy out: nothing to compile
    rates = xp.asarray(rates)
    if rates.ndim != 1 or len(rates) < 2:
        raise ValueError(f"`rates` must be a vector of at least two costs, got shape {rates.shape}")
    if not isinstance(rates, jax.core.Tracer):
        bad = np.asarray(rates)[~(np.isfinite(rates) & (np.asarray(rates) > 0))]
        if len(bad):
            raise ValueError(f"`rates` must be positive and finite, got {bad[0]}")
    n = len(rates)
    relative = rates / xp.mean(rates)
    q = n * xp.sum((relative - 1.0) ** 2 / relative)
    return 2.0 * (n - 1) ** 2 / (n * (n - 2) + n**2 + q + xp.sqrt(q * (q + 4.0 * (n - 1))))


def falkinger_beta(n: int) -> float:
    """1 - 1/n (Falkinger et al. 2000): every agent then bears the average cost of all."""
    return 1.0 - 1.0 / n


def under_mechanism(game: games.Game, beta: Any) -> games.Game:
    """The game whose equilibria are those of M_β: every cost times 1 - β.

    Its utilities are those of M_β up to what an agent cannot influence; `utilities` has them whole.

    Raises:
      ValueError: β outside [0, 1], or payments asked for with a single agent.
    """
    if not isinstance(beta, jax.core.Tracer):
        if not 0.0 <= beta <= 1.0:
            raise ValueError(f"`beta` must lie in [0, 1], got {beta}")
        if beta > 0.0 and game.n < 2:
            raise ValueError("payments between agents need at least two of them")
    return game.replace(cost=game.cost.scaled(1.0 - beta))


def utilities(game: games.Game, beta: Any, s: jax.Array) -> jax.Array:
    """u_i(s) + p_i(s), [n]: what agents get under M_β."""
    return games.utilities(game, s) + payments(beta, games.incurred_costs(game, s))
