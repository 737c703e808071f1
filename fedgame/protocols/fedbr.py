"""FedBR and FedBR-BG (Algorithms 2 and 1): agents follow best-response dynamics, Eq. (4).

One rule: FedBR-BG is FedBR under payments. Contributions stay continuous in the dynamics and follow the
fitted curve's exact derivative; they are rounded only when samples are drawn. As printed is `literal`.

Nobody acts on what she would not know. An agent has her own game (ã, what a sample costs her after her
share β_i is paid back, τ_i) and her s_i, and hears two numbers in a step: ‖s‖₁, on which she reports her
slope ∂u_i/∂s_i, and δ. `slope` and `move` are written for her alone. The server sees contributions and
slopes, nothing else, and from them makes the two numbers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import dynamics
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced
from fedgame.protocols import base


def protocol(
    game: games.Game,
    mechanism: budget_balanced.Refunds = base.NO_PAYMENTS,
    name: str = "FedBR",
    steps: int = 100,
    step_size: float | None = None,
) -> base.Protocol:
    """FedBR on the game that ã and the costs define, under the payments of `mechanism`.

    Args:
      game: without payments; its payoff sees S alone.
      mechanism: one rate β, or [n] personal ones. Transfers move nobody, and are settled afterwards.
      name: "FedBR-BG" is the paper's under β*.
      steps: H, contribution updating steps from the random start.
      step_size: δ, constant; None is the adaptive one of `dynamics`.

    Raises:
      ValueError: the payoff depends on more than S, so that announcing S is not enough; or rates are not
        what `under_mechanism` takes.
    """
    if not game.payoff.of_total:
        raise ValueError(f"FedBR announces ‖s‖₁ alone; {type(game.payoff).__name__} depends on more")
    played = budget_balanced.under_mechanism(game, mechanism.rates)
    play = jax.jit(functools.partial(trace, steps=steps, step_size=step_size))

    def start(key: jax.Array) -> base.Plan:
        path = np.asarray(play(played, random_start(key, game.capacity)))
        return base.Plan(path[-1], path)

    return base.Protocol(name, start, mechanism=mechanism)


def slope(agent: games.Game, own: jax.Array, announced: jax.Array) -> jax.Array:
    """∂u_i/∂s_i, as ONE agent computes and reports it.

    Args:
      agent: her own game, with costs as they are after payments.
      own: s_i.
      announced: ‖s‖₁, her own samples included.
    """
    others = announced - agent.quality * own
    return jax.grad(games.utility, argnums=1)(agent, own, others)


def move(agent: games.Game, own: jax.Array, reported: jax.Array, step_size: jax.Array) -> jax.Array:
    """s_i of the next step, Eq. (4), as ONE agent chooses it who has reported her slope and hears δ."""
    return jnp.clip(own + step_size * reported, 0.0, agent.capacity)


def trace(game: games.Game, s: jax.Array, steps: int, step_size: float | None = None) -> jax.Array:
    """The path from s⁰, [n], to s^H, [H+1, n]: what agents and server do in turn. As `dynamics.trace`.

    The server's part is `dynamics.state_at` and `dynamics.after`, which see profiles and slopes alone,
    and capacities; a constant δ needs no slopes.

    Args:
      game: with costs as they are after payments; payoffs of S.
      s: [n] in [0, τ].
      steps: H.
      step_size: constant δ, in samples per utility-per-sample, or None.
    """
    agents = games.agent_axes(game)
    ask, tell = jax.vmap(slope, (agents, 0, None)), jax.vmap(move, (agents, 0, 0, None))

    def reports(s: jax.Array) -> jax.Array:
        return ask(game, s, games.statistic(game, s))

    def body(state: dynamics.State, _: None) -> tuple[dynamics.State, jax.Array]:
        new = tell(game, state.profile, state.gradient, state.step_size)
        state = dynamics.after(state, new, reports(new), game.capacity, step_size is None)
        return state, state.profile

    s = games.as_profile(s)
    first = dynamics.state_at(s, reports(s), game.capacity, step_size)
    _, path = jax.lax.scan(body, first, length=steps)
    return jnp.concatenate([s[None], path])


def random_start(key: jax.Array, capacity: jax.Array, multiple: int = 10) -> jax.Array:
    """s⁰ of Section 5.2: for every agent a random multiple of 10 in [0, τ_i], [n]."""
    choices = np.floor_divide(np.asarray(capacity), multiple).astype(np.int32) + 1
    return jax.random.randint(key, choices.shape, 0, choices) * float(multiple)
