"""The best that could be: three welfare optima, by solvers that share nothing with those of equilibria.

    first_best        the largest Σ u_i; payments that balance cannot change it
    largest_p_mean    the largest W_p without payments
    maximize_welfare  the largest W_p under M_β: programs (7) and (19)

The last two are solved by scipy (L-BFGS-B, or SLSQP where there are constraints), with exact derivatives.
W_p(u(s)) is concave (Lemma 2), so it lies below its tangents: the linear program of the tangent at the
profile found bounds what any feasible profile attains, and its duals are those of (20)-(23)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame import registry
from fedgame.equilibria import total
from fedgame.games import game as games
from fedgame.games import payoffs
from fedgame.mechanisms import budgets, refunds, welfare
from fedgame.registry import option


class FirstBest(NamedTuple):
    """The largest Σ u_i; payments that balance cannot change it."""

    profile: jax.Array  # [n] s*, samples
    welfare: float  # Σ u_i, fixed costs included
    proved: bool  # whether no other profile has more, to rounding; see `first_best`


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
        """Whether the maximum over s ≥ 0 is one over s > 0 too, or just a supremum; None if it is open.

        By weak duality every maximiser has s_i ≤ (bound - welfare) / (multiplier of s_i ≥ 0).
        """
        most = np.max(self.profile)
        if np.all(self.profile > 1e-9 * most):
            return True
        slack = max(self.bound - self.welfare, 1e-13 * float(np.max(np.abs(self.utilities))))
        least = 1e6 * slack / most if most > 0 else 0.0
        return False if self.concave and np.any(self.at_zero > least) else None


@registry.family
class _Pooled(payoffs.OfTotal):
    """Σ_j v_j a_j(S), what all agents together gain."""

    game: games.Game = option("whose payoffs", rank=None)  # under vmap it is computed once for all

    def curve(self, total: jax.Array) -> jax.Array:
        def one(agent: games.Game) -> jax.Array:
            return agent.value * agent.payoff.curve(total)

        return jnp.sum(jax.vmap(one, (games.agent_axes(self.game),))(self.game))


_between = jax.jit(total.root_between)
_gained = jax.jit(lambda game, total: _Pooled(game).curve(total))
_sum_of_utilities = jax.jit(lambda game, s: jnp.sum(games.utilities(game, s)))


def first_best(game: games.Game) -> FirstBest:
    """The profile with the largest Σ u_i.

    Payoffs of S that are known to be concave where they are not 0: what one more sample is worth to all
    falls with S between two neighbouring z_i (see `equilibria.total`), so there is one candidate in each
    such interval, and S₀. From the largest S down, until payoffs at the upper end, for free, would not be
    more: that proves it. A million agents take a second. Other payoffs: `maximize_welfare`,
    proved by its bound where payoffs are known to be concave. Not for use inside jit.
    """
    if not (game.payoff.of_total and game.concave):
        found = maximize_welfare(game, 0.0, 1.0)
        idle = float(_sum_of_utilities(game, jnp.zeros(game.n))) / game.n
        moved = found.welfare - idle if np.isfinite(idle) else abs(found.welfare)
        close = found.bound - found.welfare <= 1e-6 * moved + 1e-14 * float(np.mean(np.abs(found.utilities)))
        proved = game.concave and found.concave and close
        return FirstBest(jnp.asarray(found.profile), game.n * found.welfare, proved)
    pooled = game.replace(payoff=_Pooled(game), value=1.0, capacity=jnp.asarray(game.capacity, float))
    starts = np.unique(np.asarray(total.pays_from(game)))
    # A little more than all there is: in another compiled expression the same sum may round up.
    upper, held = float(total.most(pooled)) * (1.0 + 1e-12), float(game.held)
    best = jnp.zeros(game.n)
    fixed = float(jnp.sum(games.incurred_costs(game, best)))
    most = float(_sum_of_utilities(game, best))
    for lower in [*starts[(starts > held) & (starts < upper)][::-1], held]:
        if float(_gained(game, upper)) - fixed <= most:
            break
        root = _between(pooled, jnp.asarray(lower, float), jnp.asarray(upper, float))
        if np.isfinite(root.total) and (sum_ := float(_sum_of_utilities(game, root.profile))) > most:
            best, most = _in_turn(pooled, root), sum_
        upper = lower
    return FirstBest(best, most, True)


def _in_turn(pooled: games.Game, root: total.Root) -> jax.Array:
    """The profile of the root if agents who are indifferent contribute in turn, not all the same share."""
    return _fill(pooled, root.total) if root.ties > 1 else root.profile


@jax.jit
def _fill(pooled: games.Game, at: jax.Array) -> jax.Array:
    """Those to whom the model is worth the most come first: they are the last to rather give nothing."""
    margin = 1e-13 if at.dtype == jnp.float64 else 1e-5
    more, less = (total.wanted(pooled, at, less=x) for x in (-margin, margin))
    room = pooled.quality * (more - less)
    game = pooled.payoff.game
    worth = jax.vmap(lambda agent: agent.value * agent.payoff.curve(at), (games.agent_axes(game),))(game)
    first = jnp.argsort(-worth)
    before = jnp.zeros_like(room).at[first].set(jnp.cumsum(room[first]) - room[first])
    lacking = at - pooled.held - jnp.sum(pooled.quality * less)
    part = jnp.clip(lacking - before, 0.0, room)
    return jnp.where(part < room, less + part / pooled.quality, more)  # a capacity without rounding


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
    refunds.check_beta(beta, game.n)
    program = _Program(game, jnp.asarray(beta, float))
    s = program.start(p)
    if p < 1 and not np.min(program.look(s)[0]) > 0:
        s = program.refine(-np.inf, s)
        found = program.optimum(-np.inf, s)
        if not found.welfare >= 0:
            where = "every feasible profile" if found.concave and found.bound < 0 else "all that were tried"
            agent = f"agent {int(np.argmin(found.utilities))} has utility {found.welfare:.6g}"
            raise ValueError(
                f"W_p with p={p} is undefined at {where}: where the worst-off does best, {agent}"
            )
    return program.optimum(p, program.refine(p, s))


class _Program:
    """max W_p(u(s)) subject to 0 ≤ s ≤ τ and b(s) ≥ 0."""

    def __init__(self, game: Any, beta: jax.Array):
        self.game, self.beta, self.capacity = game, beta, np.asarray(game.capacity, float)
        self.idle = self.look(np.zeros_like(self.capacity))[2]  # b(0), the most that anybody can have
        if np.any(self.idle < 0):
            i = int(np.argmin(self.idle))
            raise ValueError(f"no profile is feasible: agent {i} has b = {self.idle[i]:.6g} at s = 0 already")
        self.money = max(np.max(self.idle, initial=0.0), 1e-300)
        self.most = self.affordable(self.capacity)
        # W_p ≤ W_1, whose tangent far out bounds what that at an optimum, never quite level, cannot.
        u, slope, _, _ = self.look(self.most / 2)
        usable, mean = self._below_tangents(self.most / 2), np.nan_to_num(np.mean(slope, 0))
        self.far = np.nan_to_num(np.mean(u)) - mean @ self.most / 2, mean
        self.shares = np.append(0.0, np.logspace(-16, -1, 31) * usable)[:, None]

    def look(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """u [n], ∂u/∂s [n, n], b [m], ∂b/∂s [m, n], with m = n or 0."""
        return tuple(np.asarray(x) for x in _look(self.game, self.beta, s))

    def start(self, p: float) -> np.ndarray:
        """The best of equal shares of what everybody can afford, and of shares of what one agent can."""
        shares = np.array([0.5, 0.2, 0.05, 1e-2, 1e-3, 1e-4, 1e-6, 0.0])
        profiles = np.vstack([np.multiply.outer(shares, x) for x in (self.most, *np.diag(self.most))])
        u = np.asarray(_utilities(self.game, self.beta, profiles))
        values = np.mean(u, 1) if p == 1 else np.min(u, 1)
        return profiles[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]

    def affordable(self, s: np.ndarray) -> np.ndarray:
        """The largest multiple of s, but no more than s, that leaves b ≥ 0; b is affine, and falls in s."""
        b = self.look(s)[2]
        over = b < -1e-14 * self.money
        return s * np.min(self.idle[over] / (self.idle[over] - b[over]), initial=1.0)

    def refine(self, p: float, s: np.ndarray) -> np.ndarray:
        """Solved again on the scale of its own solution, until the bound is met or nothing improves."""
        best, value = s, self.optimum(p, s)
        # At b_i = 0 a utility may have no slope: at first everybody keeps a share of what she has.
        for kept in [1e-2, 1e-4, 1e-6, 1e-9] * bool(len(self.idle)) + [0.0] * 8:
            scale = np.maximum(best, 1e-2 * max(np.mean(best), 1e-4 * np.max(self.capacity)) or 1.0)
            found = self.optimum(p, self._solve(p, best, scale, kept))
            gain = found.welfare - value.welfare
            closer = gain >= -1e-12 * abs(value.welfare) and found.bound < value.bound
            if gain > 0 or closer or np.isnan(value.welfare):
                best, value = found.profile, found
            elif kept == 0:
                break
            if value.bound - value.welfare <= 1e-12 * np.max(np.abs(value.utilities)):
                break
        return best

    def _solve(self, p: float, s: np.ndarray, scale: np.ndarray, kept: float) -> np.ndarray:
        """One run of scipy on s / scale; for p = -∞ with the minimum itself as one more variable."""
        n, worst, u = len(s), p == -np.inf, self.look(s)[0]
        size, floor = np.max(np.abs(u)) or 1.0, 1e-6 * np.min(u)

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            if worst:
                return -x[n], np.append(np.zeros(n), -1.0)
            u, slope = self.look(x * scale)[:2]
            # A trial step may make a utility negative, where W_p has no value: its tangent goes on there.
            inside = u if p == 1 else np.maximum(u, floor)
            value, weight = map(np.asarray, _welfare(inside, p))
            return -(value + weight @ (u - inside)) / size, -weight @ slope * scale / size

        def constraint(x: np.ndarray) -> np.ndarray:
            u, b = self.look(x[:n] * scale)[::2]
            return np.append(u / size - x[-1], (b - kept * self.idle) / self.money)[n * (not worst) :]

        def slope_of_constraint(x: np.ndarray) -> np.ndarray:
            slope, b_slope = self.look(x[:n] * scale)[1::2]
            rows = np.vstack([slope / size, b_slope / self.money]) * scale
            least = -np.append(np.ones(n), np.zeros(len(b_slope)))  # the derivative by the minimum
            return np.column_stack([rows, least]) if worst else rows[n:]

        more = {"bounds": [*zip(np.zeros(n), self.capacity / scale, strict=True), *[(None, None)] * worst]}
        if worst or len(self.idle):
            more["constraints"] = {"type": "ineq", "fun": constraint, "jac": slope_of_constraint}
            method, options = "SLSQP", {"maxiter": 300, "ftol": 1e-15}
        else:
            method, options = "L-BFGS-B", {"maxiter": 2_000, "ftol": 0.0, "gtol": 1e-15, "maxcor": 50}
        with np.errstate(all="ignore"):
            first = np.append(s / scale, [np.min(u) / size] * worst)
            more |= {"method": method, "options": options}
            x = scipy.optimize.minimize(objective, first, jac=True, **more).x[:n]
        x = np.where(x > 1e-15 * np.max(x), x * scale, 0.0) if np.all(np.isfinite(x)) else s
        return self.affordable(np.clip(x, 0.0, self.capacity))

    def optimum(self, p: float, s: np.ndarray) -> Optimum:
        """The welfare at s, and the linear program of the tangent there."""
        u, slope, b, _ = self.look(s)
        value, weight = (np.min(u), 1.0) if p == -np.inf else map(np.asarray, _welfare(u, p))
        heights, slopes = (u, slope) if p == -np.inf else (value[None], (weight @ slope)[None])
        bound, duals, at_zero = self._bound(s, heights, slopes)
        gamma, by_money = np.zeros(len(s)), 1.0  # ∂u_i/∂b_i of the quasi-linear model of Section 2
        if len(b):
            gamma, by_money = duals[-len(b) :], budgets.marginals(self.game, self.beta, jnp.asarray(s))[0]
        mu = weight * duals[: len(heights)] * np.asarray(by_money) + gamma
        concave = self._below_tangents(s)
        return Optimum(s, u, float(value), float(max(bound, value)), concave, mu, gamma, at_zero)

    def _bound(self, s: np.ndarray, heights: np.ndarray, slopes: np.ndarray) -> tuple:
        """max t subject to t ≤ heights + slopes (s' - s) and b(s') ≥ 0; its duals; those of s' ≥ 0."""
        b, b_slope = self.look(s)[2:]
        n, k, size = len(s), len(heights), np.max(np.abs(heights)) or 1.0
        scale = np.maximum(s, 1e-3 * max(np.mean(s), 1e-3 * np.max(self.capacity)) or 1.0)
        unit = np.append(np.full(k, size), np.full(len(b), self.money))
        rows = -np.vstack([slopes, b_slope]) * scale / unit[:, None]
        room, low, high = np.append(heights, b) / unit, -s / scale, (self.capacity - s) / scale
        if not np.all(np.isfinite(np.column_stack([rows, room]))):
            return np.inf, np.full(len(rows), np.nan), np.zeros(n)
        duals = np.ones(1)
        if len(rows) > 1:
            above, cost = np.append(np.ones(k), np.zeros(len(b))), np.append(np.zeros(n), -1.0)
            ends = np.column_stack([np.append(low, -np.inf), np.append(high, np.inf)])
            found = scipy.optimize.linprog(cost, np.column_stack([rows, above]), room, bounds=ends)
            duals = np.maximum(-found.ineqlin.marginals, 0.0) if found.status == 0 else np.nan * room
            duals[:k] /= np.sum(duals[:k])
        # By weak duality any duals ≥ 0 bound the program, whatever the solver's own tolerance.
        reduced, (offset, far) = -duals @ rows, self.far
        mixed = (1 - self.shares) * reduced + self.shares * far * scale / size
        level = (1 - self.shares) * (duals @ room) + self.shares * (offset + far @ s) / size
        bound = np.min(np.sum(np.maximum(mixed * low, mixed * high), 1) + level[:, 0])
        at_zero = np.where(s <= 1e-9 * scale, np.maximum(-reduced, 0.0), 0.0)
        return np.inf if np.isnan(bound) else size * bound, duals * size / unit, at_zero * size / scale

    def _below_tangents(self, s: np.ndarray) -> bool:
        """Whether u(s') ≤ u(s) + ∂u(s) (s' - s) at 0 and 256 random feasible s', small and large."""
        rng, most = np.random.default_rng(0), max(np.max(self.capacity), 1e-300)
        least = np.log10(np.clip(1e-4 * np.max(s) / most, 1e-30, 1e-6))
        size = 10.0 ** rng.uniform(least, 0, (256, 1)) * rng.uniform(0, 1, (256, len(s)))
        return bool(_no_higher(self.game, self.beta, s, np.vstack([0.0 * s, size * self.capacity])))


def _values(game: Any, beta: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    if isinstance(game, budgets.BudgetGame):
        return budgets.utilities(game, beta, s), budgets.unspent(game, beta, s)
    return refunds.utilities(game, beta, s), jnp.zeros(0)


@jax.jit
def _utilities(game: Any, beta: jax.Array, profiles: jax.Array) -> jax.Array:
    return jax.lax.map(lambda s: _values(game, beta, s)[0], profiles)


@jax.jit
def _look(game: Any, beta: jax.Array, s: jax.Array) -> tuple:
    (u, b), (slope, b_slope) = _values(game, beta, s), jax.jacfwd(lambda s: _values(game, beta, s))(s)
    return u, slope, b, b_slope


@jax.jit
def _no_higher(game: Any, beta: jax.Array, s: jax.Array, others: jax.Array) -> jax.Array:
    u, slope = _values(game, beta, s)[0], jax.jacfwd(lambda s: _values(game, beta, s)[0])(s)
    idle = _values(game, beta, 0.0 * s)[1]

    def higher(other: jax.Array) -> jax.Array:
        b = _values(game, beta, other)[1]
        other = other * jnp.min(jnp.where(b < 0, idle / (idle - b), 1.0), initial=1.0)
        there, change = _values(game, beta, other)[0], slope @ (other - s)
        return jnp.any(there - (u + change) > 1e-9 * (jnp.abs(there) + jnp.abs(u) + jnp.abs(change)))

    return jnp.all(jnp.isfinite(slope)) & ~jnp.any(jax.lax.map(higher, others))


_welfare = jax.jit(jax.value_and_grad(welfare.p_mean), static_argnums=1)  # W_p and ∂W_p/∂u_i
