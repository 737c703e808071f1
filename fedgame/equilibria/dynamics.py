"""Best-response dynamics, Eq. (4): every agent follows her own gradient, kept in [0, τ_i].

The paper's μ is read as the smallest correction that keeps s feasible: the projection of s + δ ∂u
on the box. (As printed, argmin over μ of ‖g(s, μ)‖ is always μ = -∂u, and nothing would move.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedgame.games import game as games


class State(NamedTuple):
    """Where the dynamics are."""

    profile: jax.Array  # [n] s^t
    gradient: jax.Array  # [n] ∂u_i/∂s_i at s^t
    step_size: jax.Array  # δ^t of the step to come
    growth: jax.Array  # δ^t / δ^(t-1)
    residual: jax.Array  # ‖g(s^(t-1), μ)‖₂, of the last step; infinite before the first


def step(game: games.Game, s: jax.Array, step_size: float | jax.Array) -> jax.Array:
    """s^{t+1} of Eq. (4): one step of size δ from the profile s, [n]."""
    return jnp.clip(s + step_size * games.own_gradient(game, s), 0.0, game.capacity)


def theorem_step(strong_concavity: float, bound: float, n: int) -> float:
    """δ = λ / (n² L²), the constant step size of Theorem 3.2; λ, L and errors as in `iteration_bound`."""
    _check(strong_concavity, bound)
    return strong_concavity / (n * bound) ** 2


def iteration_bound(strong_concavity: float, bound: float, n: int, first: float, target: float) -> float:
    """T = (2n² L² / λ²) log(‖g(s⁰, μ⁰)‖ / ε), the most steps that Theorem 3.2 says are needed.

    Args:
      strong_concavity: λ > 0 such that G + λI is negative semi-definite wherever the dynamics pass.
      bound: L > 0, at least every |G_ij| there.
      n: number of agents.
      first: ‖g(s⁰, μ⁰)‖₂.
      target: ε, what ‖g(s^T, μ^T)‖₂ shall be below.

    Raises:
      ValueError: λ, L, or ε is not positive, L is infinite, or ‖g⁰‖ is negative: the theorem says
        nothing there.
    """
    _check(strong_concavity, bound, target, first)
    return 2.0 * (n * bound / strong_concavity) ** 2 * max(math.log(first / target), 0.0) if first else 0.0


def _check(strong_concavity: float, bound: float, target: float = 1.0, first: float = 0.0) -> None:
    if not (strong_concavity > 0 and 0 < bound < math.inf and target > 0 and first >= 0):
        raise ValueError(
            "Theorem 3.2 needs λ > 0, finite L > 0, ε > 0 and ‖g⁰‖ ≥ 0, got "
            f"λ={strong_concavity}, L={bound}, ε={target}, ‖g⁰‖={first}"
        )


def start(game: games.Game, s: jax.Array, step_size: float | None = None) -> State:
    """The state at the profile s⁰.

    Args:
      game: n agents.
      s: [n] in [0, τ].
      step_size: constant δ, in samples per utility-per-sample. None is an adaptive one whose first
        step moves nobody by more than 1% of her capacity, and somebody by that.
    """
    s = games.as_profile(s)
    return state_at(s, games.own_gradient(game, s), game.capacity, step_size)


def state_at(s: jax.Array, gradient: jax.Array, capacity: jax.Array, step_size: float | None) -> State:
    """As `start`, from slopes and capacities, [n] each."""
    if step_size is None:
        blocked = (s <= 0) & (gradient < 0) | (s >= capacity) & (gradient > 0)
        moves = (gradient != 0) & jnp.isfinite(gradient) & (capacity > 0) & ~blocked
        least = jnp.min(jnp.where(moves, capacity / jnp.where(moves, jnp.abs(gradient), 1.0), jnp.inf))
        step_size = jnp.where(jnp.isfinite(least), 0.01 * least, 1.0)
    return State(
        s, gradient, jnp.asarray(step_size, s.dtype), jnp.ones((), s.dtype), jnp.full((), jnp.inf, s.dtype)
    )


def residual(s: jax.Array, gradient: jax.Array, step_size: jax.Array, capacity: jax.Array) -> jax.Array:
    """‖g(s, μ)‖₂ of Eq. (4): how fast agents move who follow their slopes, kept in [0, τ], [n] each.

    From slopes, not from (s^(t+1) - s^t) / δ: a step that is short beside s is rounded away.
    """
    step_size = jnp.maximum(step_size, jnp.finfo(s.dtype).tiny)
    low, high = -s / step_size, (capacity - s) / step_size
    return jnp.linalg.norm(jnp.clip(gradient, low, high))


def advance(game: games.Game, state: State, adaptive: bool) -> State:
    """One step of Eq. (4), and the size of the next; a constant one stays."""
    new = jnp.clip(state.profile + state.step_size * state.gradient, 0.0, game.capacity)
    return after(state, new, games.own_gradient(game, new), game.capacity, adaptive)


def after(state: State, new: jax.Array, gradient: jax.Array, capacity: jax.Array, adaptive: bool) -> State:
    """The state at the profile that a step has led to: how far it went, and δ of the step to come.

    The adaptive size is Malitsky and Mishchenko's (2020) for gradient descent: half the inverse of the
    curvature just seen, growing at most by √(1 + last growth). It needs no constant of the game, nothing
    but profiles and slopes. The curvature is that among the agents who moved: those who stay at a bound
    would make it look larger than it is for the others, the more of them there are.

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
        # A first step, or a curvature, so far off that all moves are rounded away must not be the end.
        new_delta = jnp.where(moved > 0, new_delta, jnp.where(speed > 0, 2.0 * delta, delta))
        delta, growth = new_delta, new_delta / delta
    return State(new, gradient, delta, growth, speed)


def trace(
    game: games.Game, s: jax.Array, steps: int, step_size: float | None = None
) -> tuple[State, jax.Array]:
    """`steps` steps from s⁰; see `start`. Returns the last state and all profiles, [steps+1, n]."""

    def body(state: State, _: None) -> tuple[State, jax.Array]:
        state = advance(game, state, step_size is None)
        return state, state.profile

    first = start(game, s, step_size)
    last, profiles = jax.lax.scan(body, first, length=steps)
    return last, jnp.concatenate([first.profile[None], profiles])


def run(
    game: games.Game, s: jax.Array, steps: int, tolerance: float = 0.0, step_size: float | None = None
) -> tuple[State, jax.Array]:
    """Steps from s⁰ until the slopes that agents can follow are small, or `steps`; see `start`.

    Small is `tolerance` times the norm of what a sample costs and brings the agents, so that it means the
    same in every currency; and not `State.residual`, which a long step that ends at bounds makes small.

    Returns:
      The last state and the number of steps taken.
    """

    def going(carry: tuple[State, jax.Array]) -> jax.Array:
        state, taken = carry
        cost = games.marginal_costs(game, state.profile)
        size = jnp.linalg.norm(cost + jnp.abs(state.gradient + cost))
        s, gradient = state.profile, state.gradient
        blocked = (s <= 0) & (gradient < 0) | (s >= game.capacity) & (gradient > 0)
        slopes = jnp.linalg.norm(jnp.where(blocked, 0.0, gradient))
        return ((slopes > tolerance * size) | (taken == 0)) & (taken < steps)

    def body(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state, taken = carry
        return advance(game, state, step_size is None), taken + 1

    return jax.lax.while_loop(going, body, (start(game, s, step_size), jnp.asarray(0)))
