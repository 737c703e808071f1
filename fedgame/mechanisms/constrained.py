"""The constrained model of Blum et al. (2021): agent i contributes the least s_i with a_i(s) ≥ μ_i.

constrained_equilibrium  where everybody does
optimal_collaboration    the least total with every target met; `price_of_stability` compares the two
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame.games import game as games

_payoffs = jax.jit(games.payoff_values)
_slopes = jax.jit(jax.jacfwd(games.payoff_values, argnums=1))  # [n, n] ∂a_i/∂s_j


class ConstrainedEquilibrium(NamedTuple):
    """A profile, and whether it is an equilibrium of the constrained model."""

    profile: np.ndarray  # [n] s, samples
    excess: np.ndarray  # [n] by how much each could contribute less and still reach her target, samples
    shortfall: np.ndarray  # [n] max(μ_i - a_i(s), 0)
    converged: bool  # whether both are 0 up to the tolerance
    exhaustive: bool  # whether it is proved that no equilibrium has a smaller total, or none exists
    infeasible: tuple[int, ...]  # agents whose targets are out of reach even if all give everything


class Collaboration(NamedTuple):
    """The least total found with every target met, and a lower bound on any."""

    profile: np.ndarray  # [n] samples
    total: float  # Σ s_i
    lower_bound: float  # on the total of every profile that meets the targets; 0 where none is known
    gap: float  # 1 - lower_bound / total
    prices: np.ndarray  # [n] ≥ 0, dual of target i: samples per accuracy, or per standard sample of S


def least_contribution(game: games.Game, targets: Any, s: Any) -> np.ndarray:
    """The least x in [0, τ_i] with a_i(x, s_-i) ≥ μ_i for every agent, by bisection.

    a_i must not fall with s_i. Costs and values are ignored.

    Args:
      game: n agents.
      targets: μ, one or [n].
      s: [n] contributions, samples.

    Returns:
      [n] samples; `inf` where τ_i is not enough.

    Raises:
      ValueError: targets are not finite, or neither one nor n.
    """
    return np.asarray(_leasts(_aiming(game, targets), games.as_profile(s)))


def _aiming(game: games.Game, targets: Any) -> games.Game:
    """The checked game with μ_i in the place of v_i, which the constrained model ignores."""
    game, targets = games.check(game), jnp.asarray(targets, float)
    if targets.shape not in ((), (game.n,)) or not np.all(np.isfinite(targets)):
        raise ValueError(f"`targets` must be finite, one or one for each of {game.n} agents, got {targets}")
    return game.replace(value=jnp.broadcast_to(targets, game.n))


def _least(agent: games.Game, own: jax.Array, rest: Any) -> jax.Array:
    """The least contribution of ONE agent that reaches her target, `agent.value`; `inf` if τ_i does not."""

    def reaches(x: jax.Array) -> jax.Array:
        return agent.payoff.value(agent.quality * x, rest) >= agent.value

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        # Halves on a logarithmic scale while the bracket is wide: τ_i may be far more than is wanted.
        wide = high > 4.0 * low
        middle = jnp.where(wide, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
        enough = reaches(middle)
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    capacity = jnp.asarray(agent.capacity, own.dtype)
    _, high = jax.lax.fori_loop(0, 64, halve, (1e-30 * capacity, capacity))
    return jnp.where(reaches(0.0 * own), 0.0, jnp.where(reaches(capacity), high, jnp.inf))


_leasts = jax.jit(games.over_agents(_least))


@jax.jit
def _in_turn(game: games.Game, s: jax.Array, step: float) -> jax.Array:
    """[n] after every agent in turn has gone the share `step` of the way to her best response."""

    def turn(i: int, s: jax.Array) -> jax.Array:
        agent = games.agent_of(game, i)
        need = _least(agent, s[i], games.rest_of(agent, games.statistic(game, s), s[i], i))
        return s.at[i].add(step * (jnp.minimum(need, agent.capacity) - s[i]))

    return jax.lax.fori_loop(0, game.n, turn, s)


def constrained_equilibrium(game: games.Game, targets: Any, starts: int = 6) -> ConstrainedEquilibrium:
    """A profile at which everybody gives the least that reaches her target, certified by bisection.

    One exists if a_i is continuous, rises strictly with s_i and reaches μ_i without the others. Otherwise
    perhaps none does: an agent may need the help of others who have enough already.

    For payoffs of the total, and for linear ones with a symmetric positive semi-definite W, the result has
    the least total of all equilibria. For other payoffs, agents play best responses in turn from `starts`
    profiles, in ever shorter steps, and the result has the least total of the equilibria that were found.

    Args:
      game: n agents.
      targets: μ, one or [n].
      starts: number of profiles to start from: 0, and random ones.

    Raises:
      ValueError: as `least_contribution`.
    """
    game = _aiming(game, targets)
    (w, b), capacity = _linear(game), np.asarray(game.capacity)
    needs = np.minimum(_leasts(game, 0.0 * capacity), capacity)
    most = _payoffs(game, capacity) if w is None else w.clip(0) @ (game.quality * capacity)
    infeasible = tuple(np.flatnonzero(~(most >= b - 1e-12 * np.abs(b))).tolist())
    # `solved`: whether the least equilibrium was searched for exactly; `exact` is it, None if none exists.
    solved, exact = (False, None) if w is None else _least_equilibrium(game, w, b)
    if exact is not None:
        found = [_examined(game, exact, infeasible)]
    else:
        # If none exists, one path is enough: it shows a profile that is none.
        found = [_examined(game, _path(game, needs, k), infeasible) for k in range(1 if solved else starts)]
    best = min(found, key=lambda e: (not e.converged, np.sum(e.profile)))
    return best._replace(exhaustive=solved and best.converged == (exact is not None))


def _path(game: games.Game, needs: np.ndarray, seed: int) -> np.ndarray:
    """[n] where best responses in turn end, from 0 if the seed is 0, else from random shares of `needs`."""
    s = needs * np.random.default_rng(seed).random(game.n) if seed > 0 else 0.0 * needs
    for step in np.repeat([1.0, 0.5, 0.25, 0.125], 100):
        before, s = s, _in_turn(game, s, step)
        if np.max(np.abs(s - before)) <= 1e-10 * step * np.max(s):
            break
    return s


def _examined(game: games.Game, s: Any, infeasible: tuple[int, ...]) -> ConstrainedEquilibrium:
    """The profile s, [n], with its certificate."""
    goal, reached = np.asarray(game.value), np.asarray(_payoffs(game, s))
    shortfall, allowed = np.maximum(goal - reached, 0.0), 1e-6 * (np.abs(goal) + np.abs(reached))
    # If targets are missed by no more than is allowed, they are lowered by twice as much: otherwise an agent
    # who needs to give nothing, but for rounding, would count as one who has to.
    slack = 2.0 * np.max(shortfall * (shortfall <= allowed))
    excess = np.maximum(s - _leasts(game.replace(value=goal - slack), s), 0.0)
    converged = (
        np.all(np.isfinite(reached)) and np.all(shortfall <= allowed) and np.all(excess <= 1e-6 * np.max(s))
    )
    return ConstrainedEquilibrium(np.asarray(s), excess, shortfall, bool(converged), False, infeasible)


def _linear(game: games.Game) -> tuple[np.ndarray | None, np.ndarray]:
    """W, [n, n], and b, [n], with a_i(s) ≥ μ_i ⟺ (Wt)_i ≥ b_i in standard samples t_i = w_i s_i.

    For payoffs of the total W = 11ᵀ, and b_i is the total that reaches μ_i. W is None, and b is μ, if
    targets are not linear in s.
    """
    zero, standard = jnp.zeros(game.n), game.replace(quality=jnp.ones(()))
    if game.payoff.of_total:
        everything = jnp.full(game.n, game.held + jnp.sum(game.quality * game.capacity))
        enough = _leasts(standard.replace(capacity=everything, held=jnp.zeros(())), zero)
        out_of_reach = jnp.where(everything > 0, 2.0 * everything, 1.0)  # finite, and more than there is
        return np.ones((game.n, game.n)), np.asarray(jnp.minimum(enough, out_of_reach) - game.held)
    if not game.payoff.linear:
        return None, np.asarray(game.value)
    return np.asarray(_slopes(standard, zero)), np.asarray(game.value)


def _least_equilibrium(game: games.Game, w: np.ndarray, b: np.ndarray) -> tuple[bool, np.ndarray | None]:
    """The equilibrium with the least Σ s_i if W = AᵀA for some A.

    Equilibria are the t in the box with Wt ≥ b and t_i (Wt - b)_i = 0. All of them share y = At, the
    shortest y with Aᵀy ≥ b: least distance programming, by non-negative least squares (Lawson, Hanson).

    Returns:
      Whether there is such an A; and s, [n], or None if there is no equilibrium.
    """
    size, goal = np.max(np.abs(w)) or 1.0, np.max(np.abs(b)) or 1.0
    w, b, unit = w / size, b / goal, np.asarray(goal / size / game.quality) + np.zeros(game.n)
    values, vectors = np.linalg.eigh(w)
    if not np.allclose(w, w.T, rtol=1e-9, atol=1e-12) or values[0] < -1e-10:
        return False, None
    kept = values > 1e-12
    a = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    u = scipy.optimize.nnls(np.vstack([a, b]), np.append(np.zeros(len(a)), 1.0))[0]
    left = 1.0 - b @ u
    if not left > 1e-12:  # no t ≥ 0 at all meets the targets
        return True, None
    y = a @ u / left
    active = a.T @ a @ u / left - b <= 1e-9
    box = np.stack([0.0 * b, active * game.capacity / unit], axis=1)
    found = scipy.optimize.linprog(unit, A_eq=a, b_eq=y, bounds=box)
    return True, np.clip(found.x * unit, 0.0, game.capacity) if found.success else None


def optimal_collaboration(game: games.Game, targets: Any) -> Collaboration:
    """min Σ s_i with a_i(s) ≥ μ_i and 0 ≤ s ≤ τ, and a lower bound by linear programming duality.

    For linear payoffs and payoffs of the total this is a linear program. For others it is solved by SLSQP,
    and the bound is that of the tangents at the solution, which concave payoffs do not exceed.

    Args:
      game: n agents.
      targets: μ, one or [n].

    Raises:
      ValueError: as `least_contribution`; no profile was found that meets all targets.
    """
    game = _aiming(game, targets)
    (w, b), box = _linear(game), np.stack([np.zeros(game.n), game.capacity], axis=1)
    if w is None:
        s = _least_total(game, b, box)
        box[:, 1] = np.minimum(box[:, 1], 2.0 * np.sum(s))  # where the optimum is, for a tighter bound
        b = np.asarray(b + _slopes(game, s) @ s - _payoffs(game, s))
        matrix = np.asarray(_slopes(game, s))
    else:
        matrix = np.asarray(w * game.quality)
    rows = np.max(np.abs(matrix), axis=1) + 1e-300  # HiGHS allows an absolute error in each constraint
    program = scipy.optimize.linprog(np.ones(game.n), -matrix / rows[:, None], -b / rows, bounds=box)
    if w is not None:
        s = program.x
    _check_reached(game, targets, s)
    known = program.success and (w is not None or game.concave)
    prices = np.maximum(-program.ineqlin.marginals, 0.0) / rows if known else np.zeros(game.n)
    bound = float(prices @ b + box[:, 1] @ np.minimum(1.0 - prices @ matrix, 0.0))  # for any prices ≥ 0
    total = float(np.sum(s))
    gap = 1.0 - bound / total if total else 0.0
    return Collaboration(s, total, bound, gap, prices)


def _least_total(game: games.Game, goal: np.ndarray, box: np.ndarray) -> np.ndarray:
    """[n] the s in the box, [n, 2], with the least Σ s_i at which a(s) ≥ `goal`, by SLSQP."""
    start = np.minimum(_leasts(game, box[:, 0]), box[:, 1])
    unit = np.max(start) or 1.0
    met = scipy.optimize.NonlinearConstraint(
        lambda x: _payoffs(game, x * unit), goal, np.inf, lambda x: _slopes(game, x * unit) * unit
    )
    x = scipy.optimize.minimize(
        np.sum,
        start / unit,
        method="SLSQP",
        jac=np.ones_like,
        bounds=box / unit,
        constraints=met,
        options={"ftol": 1e-13},
    ).x
    return np.clip(x * unit, *box.T)


def _check_reached(game: games.Game, targets: Any, s: np.ndarray | None) -> None:
    """Raises the `ValueError` of `optimal_collaboration` unless s is a profile that meets all targets."""
    if s is not None:
        reached = np.asarray(_payoffs(game, s))
        missing = game.value - reached > 1e-6 * (np.abs(game.value) + np.abs(reached))
        if np.all(np.isfinite(reached)) and not np.any(missing):
            return
    raise ValueError(f"`targets` must be within reach together, and no profile meets {targets}")


def price_of_stability(equilibrium: ConstrainedEquilibrium, optimum: Collaboration) -> float:
    """Σ s_i at the equilibrium over the least Σ s_i that meets all targets; `inf` if it is no equilibrium.

    That is the price of stability if the equilibrium is `exhaustive`, else an upper bound on it.
    """
    total = float(np.sum(equilibrium.profile)) if equilibrium.converged else np.inf
    return total / optimum.total if total > 0 else 1.0
