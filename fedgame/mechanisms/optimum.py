"""The best that could be: three welfare optima, by solvers that share nothing with those of equilibria.

    first_best        the largest Σ u_i; payments that balance cannot change it
    largest_p_mean    the largest W_p without payments
    maximize_welfare  the largest W_p under M_β: programs (7) and (19)

The last two are solved by scipy (L-BFGS-B, or SLSQP where there are constraints, with exact
derivatives). W_p(u(s)) is concave (Lemma 2), so it lies below its tangents: the linear program of the
tangent at the profile found bounds what any feasible profile attains, and its duals are those of the KKT
conditions (20)-(23)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, budgets, welfare

_SAMPLES = 256  # profiles at which utilities are compared with their tangents


class Optimum(NamedTuple):
    """The largest welfare that was found, and a bound on any larger one."""

    profile: np.ndarray  # [n] samples
    utilities: np.ndarray  # [n] with payments
    welfare: float  # W_p, normalised
    bound: float  # no feasible profile has more, if utilities are concave
    concave: bool  # whether utilities were below their tangents at all sampled profiles
    mu: np.ndarray  # [n] μ_i of (20)-(21)
    gamma: np.ndarray  # [n] γ_i ≥ 0 of b_i ≥ 0; 0 without budgets
    at_zero: np.ndarray  # [n] multipliers of s_i ≥ 0

    @property
    def attained(self) -> bool | None:
        """Whether the maximum over s ≥ 0 is one over s > 0 too; None if the multipliers do not tell.

        A positive multiplier of s_i ≥ 0 means that s_i = 0 at every maximiser: then the program over
        s > 0 only has a supremum.
        """
        if np.all(self.profile > 1e-9 * np.max(self.profile)):
            return True
        scale = max(float(np.max(np.abs(self.mu))), 1e-300)
        return False if np.any(self.at_zero > 1e-6 * scale) else None


def largest_p_mean(game: games.Game, p: float) -> Optimum:
    """The largest p-mean without payments; see `maximize_welfare`."""
    return maximize_welfare(game, 0.0, p)


def maximize_welfare(game: games.Game | budgets.BudgetGame, beta: Any, p: float) -> Optimum:
    """The largest W_p over 0 ≤ s ≤ τ under M_β, with b_i ≥ 0 if there are budgets: program (7), (19).

    Meant for some hundred agents. With functions that are not concave it is a local optimum, and its
    bound none: see `Optimum.concave`.

    Args:
      game: with payoffs of any kind and convex costs; or the general model with budgets.
      beta: β in [0, 1], or β_i, [n].
      p: in [-∞, 1].

    Raises:
      ValueError: p out of range; p < 1 and somebody's utility is negative at every feasible profile;
        no profile leaves everybody b_i ≥ 0.
    """
    if not p <= 1:
        raise ValueError(f"`p` must lie in [-inf, 1], got {p}")
    budget_balanced.check_beta(beta, game.n)
    program = _Program(game, jnp.asarray(beta, float))
    s = program.start()
    if p < 1:
        s = program.refine(-np.inf, s)
        worst = program.look(s)[0]
        if np.min(worst) < 0:
            raise ValueError(
                f"the p-mean with p={p} is undefined at every feasible profile: where the worst-off agent "
                f"does best, agent {int(np.argmin(worst))} has utility {np.min(worst):.6g}"
            )
    return program.optimum(p, s if p == -np.inf else program.refine(p, s))


class _Program:
    """max W_p(u(s)) subject to 0 ≤ s ≤ τ and b(s) ≥ 0."""

    def __init__(self, game: Any, beta: jax.Array):
        self.game, self.beta = game, beta
        self.capacity = np.asarray(game.capacity, float)

    def look(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """u [n], ∂u/∂s [n, n], b [m], ∂b/∂s [m, n], with m = n or 0."""
        return tuple(np.asarray(x) for x in _look(self.game, self.beta, jnp.asarray(s)))

    def start(self) -> np.ndarray:
        """Of equal shares of all capacities the best that everybody can afford."""
        shares = [x * self.capacity for x in (0.5, 0.2, 0.05, 1e-2, 1e-3, 1e-4, 1e-6, 0.0)]
        looks = [self.look(s) for s in shares]
        means = [np.mean(u) if np.all(b >= 0) else -np.inf for u, _, b, _ in looks]
        best = int(np.nanargmax(means)) if np.any(np.isfinite(means)) else 4
        return shares[best]

    def refine(self, p: float, s: np.ndarray) -> np.ndarray:
        """Solved again on the scale of its own solution, until the bound is met or nothing improves."""
        best, value = s, self.optimum(p, s)
        for _ in range(6):
            scale = np.maximum(best, 1e-2 * max(np.mean(best), 1e-4 * np.max(self.capacity)))
            new = self._solve(p, best, np.where(scale > 0, scale, 1.0))
            found = self.optimum(p, new)
            feasible = np.all(self.look(new)[2] >= -1e-9 * (1 + np.max(np.abs(new))))
            better = not found.welfare <= value.welfare or found.bound < value.bound
            if not (feasible and better and found.welfare >= value.welfare - 1e-12 * abs(value.welfare)):
                break
            best, value = new, found
            if value.bound - value.welfare <= 1e-12 * max(1.0, abs(value.welfare)):
                break
        return best

    def _solve(self, p: float, s: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """One run of SLSQP on s / scale; for p = -∞ with the minimum itself as one more variable."""
        n, worst = len(s), p == -np.inf
        u = self.look(s)[0]
        size = max(float(np.max(np.abs(u))), 1e-300)
        floor = 1e-6 * np.min(u)

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            if worst:
                return -x[n], np.append(np.zeros(n), -1.0)
            u, slope, _, _ = self.look(x[:n] * scale)
            # A trial step may make a utility negative, where W_p has no value: its tangent goes on there.
            inside = u if p == 1 else np.maximum(u, floor)
            value, weight = _welfare(inside, p)
            return -(value + weight @ (u - inside)) / size, -weight @ slope * scale / size

        def constraint(x: np.ndarray) -> np.ndarray:
            u, _, b, _ = self.look(x[:n] * scale)
            return np.append(u / size - x[n], b) if worst else b

        def slope_of_constraint(x: np.ndarray) -> np.ndarray:
            _, slope, _, b_slope = self.look(x[:n] * scale)
            if not worst:
                return b_slope * scale
            rows = np.vstack([slope * scale / size, b_slope * scale])
            return np.hstack([rows, np.append(-np.ones(n), np.zeros(len(b_slope)))[:, None]])

        bounds = [(0.0, top) for top in self.capacity / scale] + ([(None, None)] if worst else [])
        first = np.append(s / scale, np.min(u) / size) if worst else s / scale
        limits = {"type": "ineq", "fun": constraint, "jac": slope_of_constraint}
        method, options = "SLSQP", {"maxiter": 500, "ftol": 1e-15}
        if not worst and not len(self.look(s)[2]):
            limits, method = None, "L-BFGS-B"
            options = {"maxiter": 2_000, "maxfun": 10_000, "ftol": 0.0, "gtol": 1e-15, "maxcor": 50}
        with np.errstate(all="ignore"):
            more = {"constraints": limits} if limits else {}
            result = optimize.minimize(
                objective, first, jac=True, bounds=bounds, method=method, options=options, **more
            )
        return np.clip(np.where(np.isfinite(result.x[:n]), result.x[:n] * scale, s), 0.0, self.capacity)

    def optimum(self, p: float, s: np.ndarray) -> Optimum:
        """The welfare at s, and the linear program of the tangent there."""
        u, slope, b, b_slope = self.look(s)
        value, weight = _welfare(u, p)
        n, worst = len(s), p == -np.inf
        scale = np.maximum(s, 1e-3 * max(np.mean(s), 1e-3 * np.max(self.capacity)))
        scale = np.where(scale > 0, scale, 1.0)
        # In units of `scale`: rows (s' - s) ≤ room, gain (s' - s) → max. For p = -∞ one variable more, the
        # minimum t, with t ≤ u_i + ∂u_i (s' - s).
        rows, room, gain = -b_slope * scale, b, weight @ slope * scale
        low, high = -s / scale, (self.capacity - s) / scale
        if worst:
            above = np.hstack([-slope * scale, np.ones((n, 1))])
            rows, room = np.vstack([above, np.pad(rows, ((0, 0), (0, 1)))]), np.append(u, b)
            gain = np.append(np.zeros(n), 1.0)
        duals = np.zeros(len(rows))
        if len(rows) and np.all(np.isfinite(gain)):
            moves = [*zip(low, high, strict=True), *[(None, None)] * worst]
            result = optimize.linprog(-gain, A_ub=rows, b_ub=room, bounds=moves, method="highs")
            duals = np.maximum(-result.ineqlin.marginals, 0.0) if result.status == 0 else duals * np.nan
        if worst:
            weight = duals[:n] = duals[:n] / np.sum(duals[:n])
        # By weak duality any duals ≥ 0 bound the program, whatever the solver's own tolerance.
        reduced = (gain - duals @ rows)[:n]
        bound = duals @ room + np.sum(np.maximum(reduced * low, reduced * high)) + (0.0 if worst else value)
        gamma = duals[-len(b) :] if len(b) else np.zeros(n)
        mu = weight * self._marginal_utility(s) + gamma
        bound = np.inf if np.isnan(bound) else float(bound)
        at_zero = np.where(s <= 1e-9 * scale, np.maximum(-reduced, 0.0), 0.0) / scale
        return Optimum(s, u, value, bound, self._below_tangents(s), mu, gamma, at_zero)

    def _marginal_utility(self, s: np.ndarray) -> np.ndarray:
        """∂u_i/∂b_i; 1 in the quasi-linear model of Section 2."""
        if isinstance(self.game, games.Game):
            return np.ones(len(s))
        return np.asarray(budgets.marginals(self.game, self.beta, jnp.asarray(s))[0])

    def _below_tangents(self, s: np.ndarray) -> bool:
        """Whether u(s') ≤ u(s) + ∂u(s) (s' - s) at random profiles s', small ones and large ones."""
        rng = np.random.default_rng(0)
        size = self.capacity * 10.0 ** rng.uniform(-6, 0, (_SAMPLES, 1))
        others = jnp.asarray(size * rng.uniform(0, 1, (_SAMPLES, len(s))))
        return bool(_no_higher(self.game, self.beta, jnp.asarray(s), others))


def _values(game: Any, beta: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    if isinstance(game, budgets.BudgetGame):
        return budgets.utilities(game, beta, s), budgets.unspent(game, beta, s)
    return budget_balanced.utilities(game, beta, s), jnp.zeros(0)


@jax.jit
def _look(game: Any, beta: jax.Array, s: jax.Array) -> tuple:
    (u, b), (slope, b_slope) = _values(game, beta, s), jax.jacfwd(lambda s: _values(game, beta, s))(s)
    return u, slope, b, b_slope


@jax.jit
def _no_higher(game: Any, beta: jax.Array, s: jax.Array, others: jax.Array) -> jax.Array:
    u, slope = _values(game, beta, s)[0], jax.jacfwd(lambda s: _values(game, beta, s)[0])(s)

    def higher(other: jax.Array) -> jax.Array:
        there, b = _values(game, beta, other)
        over = there - (u + slope @ (other - s)) > 1e-9 * jnp.maximum(1.0, jnp.abs(there))
        return jnp.any(over) & jnp.all(b >= 0)

    return ~jnp.any(jax.lax.map(higher, others))


def _welfare(u: np.ndarray, p: float) -> tuple[float, np.ndarray]:
    """W_p and ∂W_p/∂u_i."""
    value, weight = _value_and_slope(jnp.asarray(u), p)
    return float(value), np.asarray(weight)


_value_and_slope = jax.jit(jax.value_and_grad(welfare.p_mean), static_argnums=1)
