"""Equilibria, found and certified.

Where payoffs depend on S = ‖s‖₁ alone, an equilibrium is one number: at a total S agent i wants the
contribution at which her marginal cost is v_i a_i'(S), and S must be the sum of what they want.
"""

import flax.struct
import jax
import jax.numpy as jnp

from fedgame.equilibria import certificates, dynamics
from fedgame.games import game as games


@flax.struct.dataclass
class Equilibrium:
    """A profile and what is known about it.

    Attributes:
      profile: [n] contributions, samples.
      nash_gap: [n] what each agent could still gain by deviating, from `certificates`.
      residual: how far the solver's own equation is from holding.
      steps: iterations.
      converged: whether every Nash gap is at most tolerance · max(1, |u_i|).
      unique: False if only S is determined, because several agents are indifferent to their last
        sample: then they contribute the same share of their capacities (a selection of ours). True
        says that no such tie was met, not that no other equilibrium exists.
      method: how it was found, "root in S" or "dynamics".
    """

    profile: jax.Array
    nash_gap: jax.Array
    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    unique: jax.Array
    method: str = flax.struct.field(pytree_node=False)


def solve(
    game: games.Game, start: jax.Array | None = None, steps: int = 10_000, tolerance: float = 1e-6
) -> Equilibrium:
    """An equilibrium of a game with concave payoffs and convex costs (Theorem 3.1), with its proof.

    Payoffs of S alone: bisection for S, whatever the number of agents. Others: the dynamics (4).
    Works under `jax.jit` and `jax.vmap`. Nothing is promised where payoffs are not concave; the
    certificate tells.

    Args:
      game: n agents.
      start: [n] first profile of the dynamics; None is half of every capacity.
      steps: most steps of the dynamics.
      tolerance: of the certificate, relative to max(1, |u_i|).
    """
    capacity = jnp.asarray(game.capacity, float)
    if game.payoff.of_total:
        profile, residual, taken, unique = _root_in_total(game, capacity)
        method = "root in S"
    else:
        state, taken = dynamics.run(game, capacity / 2 if start is None else start, steps, 1e-12)
        profile, residual, unique = state.profile, state.residual, jnp.asarray(True)
        method = "dynamics"
    gap = certificates.nash_gap(game, profile)
    converged = certificates.is_equilibrium(game, profile, tolerance, gap)
    return Equilibrium(profile, gap, residual, taken, converged, unique, method)


def wanted(game: games.Game, total: jax.Array) -> jax.Array:
    """What each agent wants to contribute when the total is S, [n], clipped to her capacity."""

    def one(payoff: object, cost: object, value: jax.Array, own: jax.Array, rest: jax.Array):
        price = value * jax.grad(payoff.value)(own, rest)
        return cost.supply(price)

    own = jnp.zeros_like(jnp.asarray(game.capacity, float))
    supply = games.over_agents(one)(game, own, jnp.full_like(own, total))
    return jnp.clip(supply, 0.0, game.capacity)


def _root_in_total(game: games.Game, capacity: jax.Array) -> tuple:
    """Bisection for the S at which Σ wanted_i(S) falls below S, then one profile that sums to it."""
    most = jnp.sum(capacity)

    # What agents want at either end is carried along: computed anew, it may round to the other side.
    def halve(_: int, bracket: tuple) -> tuple:
        low, high, more, less = bracket
        middle = (low + high) / 2
        now = wanted(game, middle)
        short = jnp.sum(now) < middle
        ends = jnp.where(short, low, middle), jnp.where(short, middle, high)
        return *ends, jnp.where(short, more, now), jnp.where(short, now, less)

    steps = 100 if capacity.dtype == jnp.float64 else 50  # to neighbouring floats, near 0 too
    nothing = jnp.zeros_like(most)
    bracket = nothing, most, wanted(game, nothing), wanted(game, most)
    low, high, more, less = jax.lax.fori_loop(0, steps, halve, bracket)
    # On the two sides of the root only indifferent agents differ: they fill what S still lacks.
    total, spread = (low + high) / 2, jnp.sum(more - less)
    share = jnp.clip((total - jnp.sum(less)) / jnp.where(spread > 0, spread, 1.0), 0.0, 1.0)
    profile = less + share * (more - less)
    ties = jnp.sum(more - less > 1e-3 * capacity)
    residual = jnp.abs(jnp.sum(profile) - total)
    return profile, residual, jnp.asarray(steps), ties <= 1
