"""FedBR and FedBR-BG (Algorithms 2 and 1): agents follow best-response dynamics, Eq. (4).

One rule: FedBR-BG is FedBR under the mechanism M_β. Contributions stay continuous in the dynamics
and follow the fitted curve's exact derivative; they are rounded only when samples are drawn. As
printed, with s rounded to multiples of Δs in every step, no agent moves while δ|∂u_i| < Δs/2.
"""

import functools

import jax
import numpy as np

from fedgame.equilibria import dynamics
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced
from fedgame.protocols import base


def protocol(
    game: games.Game, beta: float | None = None, steps: int = 100, step_size: float | None = None
) -> base.Protocol:
    """FedBR (no β) or FedBR-BG on the game that ã and the costs define.

    Args:
      game: without payments.
      beta: of M_β; the paper's is `optimal_beta(rates)`.
      steps: H, contribution updating steps from the random start.
      step_size: δ, constant; None is the adaptive one of `dynamics`.
    """
    name = "FedBR" if beta is None else "FedBR-BG"
    beta = 0.0 if beta is None else float(beta)
    played = budget_balanced.under_mechanism(game, beta)
    play = jax.jit(functools.partial(dynamics.trace, steps=steps, step_size=step_size))

    def start(key: jax.Array) -> base.Plan:
        _, path = play(played, random_start(key, game.capacity))
        return base.Plan(np.asarray(path[-1]), np.asarray(path))

    return base.Protocol(name, start, mechanism=budget_balanced.Mechanism(beta))


def random_start(key: jax.Array, capacity: jax.Array, multiple: int = 10) -> jax.Array:
    """s⁰ of Section 5.2: for every agent a random multiple of 10 in [0, τ_i], [n]."""
    choices = np.floor_divide(np.asarray(capacity), multiple).astype(np.int32) + 1
    return jax.random.randint(key, choices.shape, 0, choices) * float(multiple)
