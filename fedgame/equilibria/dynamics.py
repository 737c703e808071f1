"""Best-response dynamics, Eq. (4): every agent follows her own gradient, kept in [0, τ_i].

The paper's μ is read as the smallest correction that keeps s feasible: s + δ ∂u is projected on the box.
(As printed, the argmin over μ of ‖g(s, μ)‖ is always μ = -∂u, and nothing would move.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedgame.games import game as games


class State(NamedTuple):
    """The state after t steps."""

    profile: jax.Array  # [n] s^t, samples
    gradient: jax.Array  # [n] ∂u_i/∂s_i at s^t, utility per sample
    step_size: jax.Array  # δ^t of the next step
    growth: jax.Array  # δ^t / δ^(t-1)
    residual: jax.Array  # ‖g(s^(t-1), μ)‖₂ of the last step; infinite before the first


def step(game: games.Game, s: jax.Array, step_size: float | jax.Array) -> jax.Array:
    """s^{t+1} of Eq. (4): one step of size δ from the profile s, [n]."""
    return jnp.clip(s + step_size * games.own_gradient(game, s), 0.0, game.capacity)


def theorem_step(strong_concavity: float, bound: float, n: int) -> float:
    """δ = λ / (n² L²), the constant step size of Theorem 3.2; λ, L and errors as in `iteration_bound`."""
    _check(strong_concavity, bound)
    return strong_concavity / (n * bound) ** 2


def iteration_bound(strong_concavity: float, bound: float, n: int, first: float, target: float) -> float:
    """T = (2n² L² / λ²) log(‖g(s⁰, μ⁰)‖ / ε), Theorem 3.2's bound on the number of steps; 0 if ‖g⁰‖ ≤ ε.

    Args:
      strong_concavity: λ > 0 such that G + λI is negative semi-definite wherever the dynamics pass.
      bound: L > 0, at least every |G_ij| there.
      n: number of agents.
      first: ‖g(s⁰, μ⁰)‖₂.
      target: ε, the bound that ‖g(s^T, μ^T)‖₂ must be below.

    Raises:
      ValueError: λ, L, or ε is not positive, L is infinite, or ‖g⁰‖ is negative: the theorem does not
        apply.
    """
    _check(strong_concavity, bound, target, first)
    if first == 0:
        return 0.0
    return 2.0 * (n * bound / strong_concavity) ** 2 * max(math.log(first / target), 0.0)


def _check(strong_concavity: float, bound: float, target: float = 1.0, first: float = 0.0) -> None:
    if not (strong_concavity > 0 and 0 < bound < math.inf and target > 0 and first >= 0):
        raise ValueError(
            "Theorem 3.2 needs λ > 0, finite L > 0, ε > 0 and ‖g⁰‖ ≥ 0, got "
            f"λ={strong_concavity}, L={bound}, ε={target}, ‖g⁰‖={first}"
        )


def start(game: games.Game, s: jax.Array, step_size: float | None = None) -> State:
    """The state at the profile s⁰, before the first step.

    Args:
      game: n agents.
      s: [n] in [0, τ], samples.
      step_size: constant δ, in samples per utility-per-sample. None is an adaptive one: the first step moves
        one agent by 1% of her capacity, and nobody by more.
    """
    s = games.as_profile(s)
    return state_at(s, games.own_gradient(game, s), game.capacity, step_size)


def state_at(s: jax.Array, gradient: jax.Array, capacity: jax.Array, step_size: float | None) -> State:
    """As `start`, from own gradients and capacities, [n] each."""
    if step_size is None:
        moves = (gradient != 0) & jnp.isfinite(gradient) & (capacity > 0) & ~_blocked(s, gradient, capacity)
        least = jnp.min(jnp.where(moves, capacity / jnp.where(moves, jnp.abs(gradient), 1.0), jnp.inf))
        step_size = jnp.where(jnp.isfinite(least), 0.01 * least, 1.0)
    return State(
        profile=s,
        gradient=gradient,
        step_size=jnp.asarray(step_size, s.dtype),
        growth=jnp.ones((), s.dtype),
        residual=jnp.full((), jnp.inf, s.dtype),
    )


def _blocked(s: jax.Array, gradient: jax.Array, capacity: jax.Array) -> jax.Array:
    """Whether each agent is at a bound that her own gradient points beyond, [n]."""
    at_0 = (s <= 0) & (gradient < 0)
    at_capacity = (s >= capacity) & (gradient > 0)
    return at_0 | at_capacity


def residual(s: jax.Array, gradient: jax.Array, step_size: jax.Array, capacity: jax.Array) -> jax.Array:
    """‖g(s, μ)‖₂ of Eq. (4): the speed of a step of size δ along own gradients, kept in [0, τ].

    Computed from gradients, not from (s^(t+1) - s^t) / δ, in which a step much shorter than s is rounded
    away.

    Args:
      s: [n] samples.
      gradient: [n] ∂u_i/∂s_i.
      step_size: δ.
      capacity: [n] τ, samples.
    """
    step_size = jnp.maximum(step_size, jnp.finfo(s.dtype).tiny)
    low, high = -s / step_size, (capacity - s) / step_size
    return jnp.linalg.norm(jnp.clip(gradient, low, high))


def advance(game: games.Game, state: State, adaptive: bool) -> State:
    """The state after one step of Eq. (4), with the size of the next; a constant size stays."""
    new = jnp.clip(state.profile + state.step_size * state.gradient, 0.0, game.capacity)
    return after(state, new, games.own_gradient(game, new), game.capacity, adaptive)


def after(state: State, new: jax.Array, gradient: jax.Array, capacity: jax.Array, adaptive: bool) -> State:
    """The state at the profile that a step has led to, with δ of the next step.

    The adaptive δ is Malitsky and Mishchenko's (2020) for gradient descent: half the inverse of the curvature
    ‖change of gradient‖ / ‖change of s‖ of the last step, but at most √(1 + last growth) times the last δ. It
    needs no constant of the game, only profiles and gradients. Only agents who moved count for the curvature:
    gradients of those who stay at a bound change too, and would make it the larger the more of them there
    are.

    Args:
      state: before the step.
      new: [n] the profile after it.
      gradient: [n] ∂u_i/∂s_i there.
      capacity: [n] τ.
      adaptive: whether δ is adapted.
    """
    change, delta, growth = new - state.profile, state.step_size, state.growth
    moved = jnp.linalg.norm(change)
    speed = residual(state.profile, state.gradient, delta, capacity)
    if adaptive:
        turned = jnp.linalg.norm(jnp.where(change != 0, gradient - state.gradient, 0.0))
        curvature_bound = jnp.where((moved > 0) & (turned > 0), moved / (2.0 * turned), jnp.inf)
        new_delta = jnp.minimum(jnp.sqrt(1.0 + growth) * delta, curvature_bound)
        # If δ is so small that all moves are rounded away, it doubles as long as agents want to move.
        unmoved_delta = jnp.where(speed > 0, 2.0 * delta, delta)
        new_delta = jnp.where(moved > 0, new_delta, unmoved_delta)
        delta, growth = new_delta, new_delta / delta
    return State(new, gradient, delta, growth, speed)


def trace(
    game: games.Game, s: jax.Array, steps: int, step_size: float | None = None
) -> tuple[State, jax.Array]:
    """Takes `steps` steps from s⁰, see `start`; returns the last state and all profiles, [steps+1, n]."""

    def body(state: State, _: None) -> tuple[State, jax.Array]:
        state = advance(game, state, step_size is None)
        return state, state.profile

    first = start(game, s, step_size)
    last, profiles = jax.lax.scan(body, first, length=steps)
    return last, jnp.concatenate([first.profile[None], profiles])


def run(
    game: games.Game, s: jax.Array, steps: int, tolerance: float = 0.0, step_size: float | None = None
) -> tuple[State, jax.Array]:
    """Takes steps from s⁰ until the own gradients that agents can follow are small, at most `steps`.

    Small means at most `tolerance` times the norm of what a sample costs and brings each agent, so that it is
    the same in every currency. `State.residual` would be no measure: a long step that ends at bounds makes it
    small.

    Args:
      game: n agents.
      s: [n] s⁰, samples.
      steps: maximum number of steps.
      tolerance: see above.
      step_size: δ, see `start`.

    Returns:
      The last state and the number of steps taken.
    """

    def going(carry: tuple[State, jax.Array]) -> jax.Array:
        state, taken = carry
        cost = games.marginal_costs(game, state.profile)
        size = jnp.linalg.norm(cost + jnp.abs(state.gradient + cost))
        blocked = _blocked(state.profile, state.gradient, game.capacity)
        slopes = jnp.linalg.norm(jnp.where(blocked, 0.0, state.gradient))
        return ((slopes > tolerance * size) | (taken == 0)) & (taken < steps)

    def body(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state, taken = carry
        return advance(game, state, step_size is None), taken + 1

    return jax.lax.while_loop(going, body, (start(game, s, step_size), jnp.asarray(0)))
