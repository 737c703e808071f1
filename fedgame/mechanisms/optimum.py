"""Welfare optima: the best that a profile can do, as the measure of every equilibrium.

    first_best        the largest Σ u_i; payments that balance cannot change it
    largest_p_mean    the largest W_p without payments
    maximize_welfare  the largest W_p under M_β: programs (7) and (19)

For payoffs of the total S, `first_best` solves one equation in S. All else is solved by scipy (L-BFGS-B, or
SLSQP where there are constraints) with exact derivatives, and without the solvers of equilibria.

W_p(u(s)) is concave (Lemma 2), so it lies below its tangents. The linear program that maximises the tangent
at the profile found therefore bounds the W_p of every feasible profile, and its duals are the multipliers of
(20)-(23).
"""

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

# Tolerances beyond reach: scipy stops where it cannot improve any more.
_SLSQP = {"maxiter": 300, "ftol": 1e-15}
_LBFGS = {"maxiter": 2_000, "ftol": 0.0, "gtol": 1e-15, "maxcor": 50}


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
        """Whether the maximum over s ≥ 0 is attained by s > 0, or is only a supremum there; None: not known.

        By weak duality every maximiser has s_i ≤ (bound - welfare) / (multiplier of s_i ≥ 0). If that is
        below 1e-6 of the largest contribution for some agent, it counts as 0, and the maximum as a supremum.
        """
        largest = np.max(self.profile)
        if np.all(self.profile > 1e-9 * largest):
            return True
        slack = max(self.bound - self.welfare, 1e-13 * float(np.max(np.abs(self.utilities))))  # or rounding
        threshold = 1e6 * slack / largest if largest > 0 else 0.0
        if self.concave and np.any(self.at_zero > threshold):
            return False
        return None


@registry.family
class _Pooled(payoffs.OfTotal):
    """Σ_j v_j a_j(S), what all agents together gain: with it as payoff, own utility is Σ u_j."""

    game: games.Game = option("whose payoffs", rank=None)  # under vmap it is computed once for all

    def curve(self, total: jax.Array) -> jax.Array:
        def one(agent: games.Game) -> jax.Array:
            return agent.value * agent.payoff.curve(total)

        return jnp.sum(jax.vmap(one, (games.agent_axes(self.game),))(self.game))


_between = jax.jit(total.root_between)
# All there is; from which totals payoffs are above 0; what agents spend who contribute nothing.
_ends = jax.jit(lambda game, pooled: (total.most(pooled), total.pays_from(game)))
_spent_idle = jax.jit(lambda game: jnp.sum(games.incurred_costs(game, jnp.zeros(game.n))))
_gained = jax.jit(lambda game, total: _Pooled(game).curve(total))
_sum_of_utilities = jax.jit(lambda game, s: jnp.sum(games.utilities(game, s)))


def first_best(game: games.Game) -> FirstBest:
    """The profile with the largest Σ u_i.

    For payoffs of S that are concave wherever they are not 0: let z_i be the total from which agent i's
    payoff is above 0 (see `equilibria.total`). Between two neighbouring z_i, what one more sample is worth
    to all falls with S, so each such interval has one candidate; S₀ is one too. The intervals are searched
    from the largest S down. The search ends when even the payoffs at the upper end of an interval, if they
    cost nothing, would not be more than the best candidate: that proves it. A million agents take a second.

    For other payoffs it is found by `maximize_welfare`, and proved by its bound if payoffs are known to be
    concave.

    Not for use inside jit.
    """
    if not (game.payoff.of_total and game.concave):
        return _first_best_of_any_payoff(game)
    pooled = game.replace(payoff=_Pooled(game), value=1.0, capacity=jnp.asarray(game.capacity, float))
    # A little more than all there is: in another compiled expression the same sum may round up.
    most, starts = _ends(game, pooled)
    upper, held = float(most) * (1.0 + 1e-12), float(game.held)
    starts = np.unique(np.asarray(starts))
    inner = starts[(starts > held) & (starts < upper)]
    best = jnp.zeros(game.n)
    fixed = float(_spent_idle(game))
    welfare_of_best = float(_sum_of_utilities(game, best))
    for lower in [*inner[::-1], held]:
        if float(_gained(game, upper)) - fixed <= welfare_of_best:
            break
        root = _between(pooled, jnp.asarray(lower, float), jnp.asarray(upper, float))
        if np.isfinite(root.total):
            welfare_at_root = float(_sum_of_utilities(game, root.profile))
            if welfare_at_root > welfare_of_best:
                best, welfare_of_best = _in_turn(pooled, root), welfare_at_root
        upper = lower
    return FirstBest(best, welfare_of_best, True)


def _first_best_of_any_payoff(game: games.Game) -> FirstBest:
    """By scipy: Σ u_i is n times W_1 without payments."""
    found = maximize_welfare(game, 0.0, 1.0)
    idle = float(_sum_of_utilities(game, jnp.zeros(game.n))) / game.n
    moved = found.welfare - idle if np.isfinite(idle) else abs(found.welfare)
    rounding = 1e-14 * float(np.mean(np.abs(found.utilities)))
    tight = found.bound - found.welfare <= 1e-6 * moved + rounding
    proved = game.concave and found.concave and tight
    return FirstBest(jnp.asarray(found.profile), game.n * found.welfare, proved)


def _in_turn(pooled: games.Game, root: total.Root) -> jax.Array:
    """[n] the profile of the root, in which agents who are indifferent contribute one after the other.

    `root.profile` lets them contribute equal shares. In turn, at most one of them is strictly between 0 and
    her capacity, so that `personal` can give all others rates at which they are not indifferent.
    """
    return _fill(pooled, root.total) if root.ties > 1 else root.profile


@jax.jit
def _fill(pooled: games.Game, at: jax.Array) -> jax.Array:
    """[n] contributions with total `at`; those who are indifferent come in turn.

    Agents to whom the model is worth the most come first: they are the last who would rather give nothing.
    """
    margin = 1e-13 if at.dtype == jnp.float64 else 1e-5  # share of a price; closer ones tie
    more, less = (total.wanted(pooled, at, less=x) for x in (-margin, margin))
    room = pooled.quality * (more - less)
    game = pooled.payoff.game
    worth = jax.vmap(lambda agent: agent.value * agent.payoff.curve(at), (games.agent_axes(game),))(game)
    order = jnp.argsort(-worth)
    before = jnp.zeros_like(room).at[order].set(jnp.cumsum(room[order]) - room[order])
    lacking = at - pooled.held - jnp.sum(pooled.quality * less)
    part = jnp.clip(lacking - before, 0.0, room)
    return jnp.where(part < room, less + part / pooled.quality, more)  # a capacity without rounding


def largest_p_mean(game: games.Game, p: float) -> Optimum:
    """The largest p-mean without payments; arguments and errors as of `maximize_welfare`."""
    return maximize_welfare(game, 0.0, p)


def maximize_welfare(
    game: games.Game | budgets.BudgetGame, beta: Any, p: float, start: Any = None
) -> Optimum:
    """max W_p(u(s)) over 0 ≤ s ≤ τ under M_β, and over b_i ≥ 0 if there are budgets: programs (7), (19).

    Meant for some hundred agents. If utilities are not concave, the profile is a local optimum and `bound`
    is none: see `Optimum.concave`.

    Args:
      game: with payoffs of any kind and convex costs; or the general model with budgets.
      beta: β in [0, 1], or β_i, [n].
      p: in [-∞, 1].
      start: [n] where to begin, and at least as good as which to end; None: where W_1 is large.

    Raises:
      ValueError: p out of range; p < 1 and somebody's utility is negative at every feasible profile;
        no profile leaves everybody b_i ≥ 0.
    """
    if not p <= 1:
        raise ValueError(f"`p` must lie in [-inf, 1], got {p}")
    refunds.check_beta(beta, game.n)
    program = _Program(game, jnp.asarray(beta, float))
    s = program.start(p) if start is None else program.affordable(np.asarray(start, float))
    if p < 1 and not np.min(program.look(s).u) > 0:
        # W_p needs utilities of at least 0: starts where the worst-off agent does best.
        s = program.refine(-np.inf, s)
        found = program.optimum(-np.inf, s)
        if not found.welfare >= 0:
            where = "every feasible profile" if found.concave and found.bound < 0 else "all that were tried"
            agent = f"agent {int(np.argmin(found.utilities))} has utility {found.welfare:.6g}"
            raise ValueError(
                f"W_p with p={p} is undefined at {where}: where the worst-off does best, {agent}"
            )
    with np.errstate(all="ignore"):  # a utility of 0 has an infinite weight if p < 1
        found = program.optimum(p, program.refine(p, s))
        if start is None:
            return found
        begun = program.optimum(p, s)
        return found if found.welfare >= begun.welfare else begun


class _Values(NamedTuple):
    """What a profile s leads to, and its derivatives; m = n with budgets, 0 without."""

    u: np.ndarray  # [n] utilities
    u_slope: np.ndarray  # [n, n] ∂u_i/∂s_j
    b: np.ndarray  # [m] unspent budgets
    b_slope: np.ndarray  # [m, n] ∂b_i/∂s_j


class _Program:
    """max W_p(u(s)) subject to 0 ≤ s ≤ τ and b(s) ≥ 0.

    Attributes:
      idle: [m] b(0), the most that anybody can have; b is affine in s and falls.
      money: the largest of them, the unit of b; never 0.
      affordable_capacity: [n] the largest multiple of τ, but at most τ, with b ≥ 0.
      distant: the tangent of W_1 at half of that profile: its height at s = 0, and its slope, [n].
      shares: [k, 1] of the distant tangent in the mixtures that `_bound` tries.
    """

    def __init__(self, game: Any, beta: jax.Array):
        self.game, self.beta, self.capacity = game, beta, np.asarray(game.capacity, float)
        self.idle = self.look(np.zeros_like(self.capacity)).b
        if np.any(self.idle < 0):
            i = int(np.argmin(self.idle))
            raise ValueError(f"no profile is feasible: agent {i} has b = {self.idle[i]:.6g} at s = 0 already")
        self.money = max(np.max(self.idle, initial=0.0), 1e-300)
        self.affordable_capacity = self.affordable(self.capacity)
        # At a numerical optimum the tangent of W_p is never exactly flat, so its bound is loose on a large
        # box. W_p ≤ W_1, so the tangent of W_1 at a distant profile is a bound too, as are mixtures of both.
        middle = self.affordable_capacity / 2
        there = self.look(middle)
        slope = np.nan_to_num(np.mean(there.u_slope, 0))
        self.distant = np.nan_to_num(np.mean(there.u)) - slope @ middle, slope
        shares = np.logspace(-16, -1, 31) if self._below_tangents(middle) else np.zeros(0)
        self.shares = np.append(0.0, shares)[:, None]

    def look(self, s: np.ndarray) -> _Values:
        """Utilities and unspent budgets at s, with their derivatives, as numpy arrays."""
        return _Values(*(np.asarray(x) for x in _look(self.game, self.beta, s)))

    def start(self, p: float) -> np.ndarray:
        """[n] the best of a few profiles, by the mean utility if p = 1, else by the smallest.

        All agents contribute the same share of `affordable_capacity`, or one agent a share of hers, the
        others nothing.
        """
        shares = np.array([0.5, 0.2, 0.05, 1e-2, 1e-3, 1e-4, 1e-6, 0.0])
        together, one_by_one = self.affordable_capacity, np.diag(self.affordable_capacity)
        profiles = np.vstack([np.multiply.outer(shares, x) for x in (together, *one_by_one)])
        u = np.asarray(_utilities(self.game, self.beta, profiles))
        values = np.mean(u, 1) if p == 1 else np.min(u, 1)
        return profiles[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]

    def affordable(self, s: np.ndarray) -> np.ndarray:
        """[n] the largest multiple of s, but at most s, with b ≥ 0."""
        b = self.look(s).b
        over = b < -1e-14 * self.money  # below 0 by more than rounding
        return s * np.min(self.idle[over] / (self.idle[over] - b[over]), initial=1.0)

    def refine(self, p: float, s: np.ndarray) -> np.ndarray:
        """[n] a better profile than s.

        Solves again in units of the last solution, until the bound is met or nothing improves.
        """
        best, value = s, self.optimum(p, s)
        kept_shares = [0.0] * 8
        if len(self.idle):
            # At b_i = 0 a utility may have no slope: at first everybody keeps a share of b_i(0).
            kept_shares = [1e-2, 1e-4, 1e-6, 1e-9, *kept_shares]
        for kept in kept_shares:
            scale = self._units(best, 1e-2, 1e-4)
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

    def _units(self, s: np.ndarray, share: float, share_of_capacity: float) -> np.ndarray:
        """[n] > 0, the units in which s is given to a solver: s_i itself, but not much less than the mean.

        Args:
          s: [n] profile.
          share: the smallest unit as a share of the mean of s.
          share_of_capacity: what counts as that mean at least, as a share of the largest capacity.
        """
        smallest = share * max(np.mean(s), share_of_capacity * np.max(self.capacity))
        return np.maximum(s, smallest if smallest > 0 else 1.0)

    def _solve(self, p: float, s: np.ndarray, scale: np.ndarray, kept: float) -> np.ndarray:
        """[n] one run of scipy from s, on x = s / scale, with b_i ≥ kept · b_i(0); s if that fails."""
        with np.errstate(all="ignore"):
            if p == -np.inf:
                x = self._maximise_least(s, scale, kept)
            else:
                x = self._maximise_mean(p, s, scale, kept)
        if not np.all(np.isfinite(x)):
            return self.affordable(np.clip(s, 0.0, self.capacity))
        s = np.where(x > 1e-15 * np.max(x), x * scale, 0.0)
        return self.affordable(np.clip(s, 0.0, self.capacity))

    def _maximise_mean(self, p: float, s: np.ndarray, scale: np.ndarray, kept: float) -> np.ndarray:
        """[n] the x that maximises W_p(u(x · scale)), p finite."""
        u = self.look(s).u
        size, floor = np.max(np.abs(u)) or 1.0, 1e-6 * np.min(u)

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            there = self.look(x * scale)
            # A trial step may make a utility negative, where W_p has no value: its tangent goes on there.
            inside = there.u if p == 1 else np.maximum(there.u, floor)
            value, weight = map(np.asarray, _welfare(inside, p))
            return -(value + weight @ (there.u - inside)) / size, -weight @ there.u_slope * scale / size

        def constraint(x: np.ndarray) -> np.ndarray:
            return (self.look(x * scale).b - kept * self.idle) / self.money

        def slope_of_constraint(x: np.ndarray) -> np.ndarray:
            return self.look(x * scale).b_slope / self.money * scale

        box = list(zip(np.zeros(len(s)), self.capacity / scale, strict=True))
        if len(self.idle):
            constraints = {"type": "ineq", "fun": constraint, "jac": slope_of_constraint}
            more = {"method": "SLSQP", "constraints": constraints, "options": _SLSQP}
        else:
            more = {"method": "L-BFGS-B", "options": _LBFGS}
        return scipy.optimize.minimize(objective, s / scale, jac=True, bounds=box, **more).x

    def _maximise_least(self, s: np.ndarray, scale: np.ndarray, kept: float) -> np.ndarray:
        """[n] the x of max t subject to u_i(x · scale) ≥ t: p = -∞. scipy's variables are (x, t / size)."""
        n, u = len(s), self.look(s).u
        size = np.max(np.abs(u)) or 1.0

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            return -x[n], np.append(np.zeros(n), -1.0)

        def constraint(x: np.ndarray) -> np.ndarray:
            there = self.look(x[:n] * scale)
            return np.append(there.u / size - x[n], (there.b - kept * self.idle) / self.money)

        def slope_of_constraint(x: np.ndarray) -> np.ndarray:
            there = self.look(x[:n] * scale)
            by_x = np.vstack([there.u_slope / size, there.b_slope / self.money]) * scale
            by_t = -np.append(np.ones(n), np.zeros(len(there.b)))
            return np.column_stack([by_x, by_t])

        return scipy.optimize.minimize(
            objective,
            np.append(s / scale, np.min(u) / size),
            jac=True,
            method="SLSQP",
            bounds=[*zip(np.zeros(n), self.capacity / scale, strict=True), (None, None)],
            constraints={"type": "ineq", "fun": constraint, "jac": slope_of_constraint},
            options=_SLSQP,
        ).x[:n]

    def optimum(self, p: float, s: np.ndarray) -> Optimum:
        """The welfare at s, and what the linear program of the tangent there says."""
        u, slope, b, _ = self.look(s)
        if p == -np.inf:  # W_p is the smallest u_i: below the tangents of all
            value, weight = np.min(u), 1.0
            heights, slopes = u, slope
        else:
            value, weight = map(np.asarray, _welfare(u, p))
            heights, slopes = value[None], (weight @ slope)[None]
        bound, duals, at_zero = self._bound(s, heights, slopes)
        gamma, by_money = np.zeros(len(s)), 1.0  # ∂u_i/∂b_i of the quasi-linear model of Section 2
        if len(b):
            gamma, by_money = duals[-len(b) :], budgets.marginals(self.game, self.beta, jnp.asarray(s))[0]
        mu = weight * duals[: len(heights)] * np.asarray(by_money) + gamma
        return Optimum(
            profile=s,
            utilities=u,
            welfare=float(value),
            bound=float(max(bound, value)),
            concave=self._below_tangents(s),
            mu=mu,
            gamma=gamma,
            at_zero=at_zero,
        )

    def _bound(
        self, s: np.ndarray, heights: np.ndarray, slopes: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """max t over 0 ≤ s' ≤ τ subject to t ≤ heights + slopes (s' - s) and b(s') ≥ 0.

        Args:
          s: [n] profile.
          heights: [k] of the tangents at s.
          slopes: [k, n] of the tangents.

        Returns:
          An upper bound on the maximum; duals, [k + m], NaN if the program is not solved; multipliers of
          s' ≥ 0, [n].
        """
        _, _, b, b_slope = self.look(s)
        k, size = len(heights), np.max(np.abs(heights)) or 1.0
        scale = self._units(s, 1e-3, 1e-3)
        unit = np.append(np.full(k, size), np.full(len(b), self.money))
        # In the variables y = (s' - s) / scale: rows y + t (of the first k) ≤ room, and low ≤ y ≤ high.
        rows = -np.vstack([slopes, b_slope]) * scale / unit[:, None]
        room, low, high = np.append(heights, b) / unit, -s / scale, (self.capacity - s) / scale
        if not np.all(np.isfinite(np.column_stack([rows, room]))):
            return np.inf, np.full(len(rows), np.nan), np.zeros(len(s))
        duals = _duals(rows, room, low, high, k)
        # By weak duality any duals ≥ 0 bound the program, whatever the solver's own tolerance.
        reduced, (distant_height, distant_slope) = -duals @ rows, self.distant
        mixed = (1 - self.shares) * reduced + self.shares * distant_slope * scale / size
        distant_at_s = distant_height + distant_slope @ s
        level = (1 - self.shares) * (duals @ room) + self.shares * distant_at_s / size
        bound = np.min(np.sum(np.maximum(mixed * low, mixed * high), 1) + level[:, 0])
        at_zero = np.where(s <= 1e-9 * scale, np.maximum(-reduced, 0.0), 0.0)
        return np.inf if np.isnan(bound) else size * bound, duals * size / unit, at_zero * size / scale

    def _below_tangents(self, s: np.ndarray) -> bool:
        """Whether u(s') ≤ u(s) + ∂u(s) (s' - s) at 0 and at 256 random feasible s', small and large."""
        rng, largest = np.random.default_rng(0), max(np.max(self.capacity), 1e-300)
        # Sizes are spread on a logarithmic scale, from well below s (but not below 1e-30 of τ) up to τ.
        smallest = np.log10(np.clip(1e-4 * np.max(s) / largest, 1e-30, 1e-6))
        size = 10.0 ** rng.uniform(smallest, 0, (256, 1)) * rng.uniform(0, 1, (256, len(s)))
        return bool(_no_higher(self.game, self.beta, s, np.vstack([0.0 * s, size * self.capacity])))


def _duals(rows: np.ndarray, room: np.ndarray, low: np.ndarray, high: np.ndarray, k: int) -> np.ndarray:
    """[rows] ≥ 0, duals of max t subject to rows y + t ≤ room (t in the first k rows only), low ≤ y ≤ high.

    Those of the first k sum to 1, as they do at the optimum. NaN if the program is not solved.
    """
    if len(rows) == 1:
        return np.ones(1)
    n = len(low)
    has_t = np.append(np.ones(k), np.zeros(len(rows) - k))
    cost = np.append(np.zeros(n), -1.0)
    ends = np.column_stack([np.append(low, -np.inf), np.append(high, np.inf)])
    found = scipy.optimize.linprog(cost, np.column_stack([rows, has_t]), room, bounds=ends)
    if found.status != 0:
        return np.nan * room
    duals = np.maximum(-found.ineqlin.marginals, 0.0)
    duals[:k] /= np.sum(duals[:k])
    return duals


def _values(game: Any, beta: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """u, [n], and b, [m], under M_β."""
    if isinstance(game, budgets.BudgetGame):
        return budgets.utilities(game, beta, s), budgets.unspent(game, beta, s)
    return refunds.utilities(game, beta, s), jnp.zeros(0)


@jax.jit
def _utilities(game: Any, beta: jax.Array, profiles: jax.Array) -> jax.Array:
    """u at each of the profiles, [k, n]."""
    return jax.lax.map(lambda s: _values(game, beta, s)[0], profiles)


@jax.jit
def _look(game: Any, beta: jax.Array, s: jax.Array) -> _Values:
    (u, b), (u_slope, b_slope) = _values(game, beta, s), jax.jacfwd(lambda s: _values(game, beta, s))(s)
    return _Values(u, u_slope, b, b_slope)


@jax.jit
def _no_higher(game: Any, beta: jax.Array, s: jax.Array, others: jax.Array) -> jax.Array:
    """Whether u is below its tangent at s in all `others`, [k, n], shrunk to what all can afford."""
    u, slope = _values(game, beta, s)[0], jax.jacfwd(lambda s: _values(game, beta, s)[0])(s)
    idle = _values(game, beta, 0.0 * s)[1]

    def higher(other: jax.Array) -> jax.Array:
        b = _values(game, beta, other)[1]
        other = other * jnp.min(jnp.where(b < 0, idle / (idle - b), 1.0), initial=1.0)
        there, change = _values(game, beta, other)[0], slope @ (other - s)
        rounding = 1e-9 * (jnp.abs(there) + jnp.abs(u) + jnp.abs(change))
        return jnp.any(there - (u + change) > rounding)

    return jnp.all(jnp.isfinite(slope)) & ~jnp.any(jax.lax.map(higher, others))


_welfare = jax.jit(jax.value_and_grad(welfare.p_mean), static_argnums=1)  # W_p and ∂W_p/∂u_i
