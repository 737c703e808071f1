"""Whether the conditions of Theorems 3.1 and 3.2 hold for a game, by which margin, and where it was checked.

Theorem 3.1 assumes continuous concave payoffs and convex increasing costs. Theorem 3.2 needs λ > 0 with G +
λI negative semi-definite, and L with |G_ij| ≤ L, on a box of profiles, where G_ij = ∂²u_i/∂s_j∂s_i.

For payoffs of the total, G = -y wᵀ - diag(c_i'') with y_i = v_i w_i |a_i''(S)|. The largest eigenvalue of the
symmetric part of -y wᵀ is (‖y‖‖w‖ - y·w) / 2 ≥ 0, which is 0 only if y is a multiple of w. So λ > 0
needs curved costs, and is proved where every c_i'' exceeds that eigenvalue; with linear costs λ ≤ 0 whatever
the payoff of S.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame.equilibria import dynamics, total
from fedgame.games import game as games
from fedgame.games import payoffs

_DENSE = 1024  # maximum number of agents for which n×n matrices are computed
_CELLS = 512  # cells into which the range of S is cut; |a''| is bounded on each from its ends
_POINTS = 129  # contributions of an agent at which convex pieces and jumps are looked for
_ROUNDINGS = 16.0  # eigenvalues of an n×n matrix with entries up to L count as exact up to 16 n ε L
_CONTINUOUS, _CONCAVE = "payoff continuous", "payoff concave in own contribution"
_CONVEX, _INCREASING = "cost convex", "cost increasing"


@dataclasses.dataclass(frozen=True)
class Condition:
    """One assumption of Theorem 3.1.

    Attributes:
      name: what is assumed.
      holds: whether it was found to hold, by formula or at the sampled points; see `how`.
      margin: the minimum found of a quantity that must not be negative, such as a second difference of a
        cost.
      agent: the agent with that minimum.
      contribution: hers, in samples, where the minimum was found; the others were at a sampled profile.
      how: "formula", or how many profiles and contributions were checked.
    """

    name: str
    holds: bool
    margin: float
    agent: int
    contribution: float
    how: str


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What `check_conditions` found on the box [low, high].

    Attributes:
      assumptions: those of Theorem 3.1.
      strong_concavity: (proved, met): the theorem's assumption holds with every λ ≤ proved, and with no
        λ > met + `rounding`. `proved` is None if there is no formula; `met` is the minimum over sampled
        profiles.
      rounding: error of `met`, an eigenvalue of matrices whose entries may be far larger than it.
      derivative_bound: (met, proved): the largest |G_ij| at sampled profiles, and an upper bound on the whole
        box, None if there is no formula.
      formula: the formula of the proved bounds, or "" if both are estimates only.
      step: δ = λ/(n²L²), or None where Theorem 3.2 does not apply.
      iterations: the theorem's bound on the number of steps from `start` to ‖g‖ < ε, or None.
      needed: steps that the dynamics took with that δ, or None if `most_steps` were not enough.
      needed_adaptive: the same with the adaptive step size.
      inside: whether the dynamics with δ stayed in the box, as the theorem's proof needs.
      flat: whether G is known to have rank one with n ≥ 2, as for payoffs of S with linear costs.
      low, high, start: [n] samples.
      target: ε, bound on ‖g‖.
    """

    assumptions: tuple[Condition, ...]
    strong_concavity: tuple[float | None, float]
    rounding: float
    derivative_bound: tuple[float, float | None]
    formula: str
    step: float | None
    iterations: float | None
    needed: int | None
    needed_adaptive: int | None
    inside: bool
    flat: bool
    low: np.ndarray
    high: np.ndarray
    start: np.ndarray
    target: float

    @property
    def rigorous(self) -> bool:
        """Whether λ and L are proved for the whole box."""
        return bool(self.formula)

    @property
    def obstacle(self) -> str:
        """Why Theorem 3.2 does not apply, or "" if it does."""
        (proved, met), (largest_met, largest_proved) = self.strong_concavity, self.derivative_bound
        largest = largest_met if largest_proved is None else largest_proved
        if self.step is not None:
            return ""
        if not all(c.holds for c in self.assumptions if "concave" in c.name):
            return "payoffs are not concave on this box"
        if not largest < np.inf:
            return "L is infinite on this box"
        if met < -self.rounding:
            return "no λ > 0 exists on this box (λ ≤ 0)"
        if self.flat:
            return "no λ > 0 exists on this box (λ ≤ 0), as payoffs see S alone and costs are linear"
        if met <= self.rounding:
            return f"no λ > {met + self.rounding:.2g} exists on this box; below, rounding does not tell"
        return "no λ > 0 is proved on this box" if proved is not None else "no λ > 0 was found"

    def __str__(self) -> str:
        lines = [
            f"{'holds' if c.holds else 'FAILS'}: {c.name} (margin {c.margin:.3g} at agent {c.agent}, "
            f"s={c.contribution:.6g}; {c.how})"
            for c in self.assumptions
        ]
        lines.append(self._bounds_in_words())
        if self.step is None:
            lines.append(f"Theorem 3.2 does not apply: {self.obstacle}; no bound on iterations")
        else:
            lines.append(
                f"Theorem 3.2{'' if self.rigorous else ' (λ and L are estimates)'}: δ = {self.step:.6g}, "
                f"at most {self.iterations:.6g} steps to ‖g‖ < {self.target:g}; needed: {_steps(self.needed)}"
                + ("" if self.inside else "; the path LEFT the box, so the bound is not proved")
            )
        return "\n".join([*lines, f"adaptive step size: {_steps(self.needed_adaptive)} steps"])

    def _bounds_in_words(self) -> str:
        """One line: between which numbers λ and L lie, and by which formula."""
        (proved, met), (largest_met, largest_proved) = self.strong_concavity, self.derivative_bound
        strong = f"λ ≤ {met:.6g} (estimate)" if proved is None else f"{proved:.6g} ≤ λ ≤ {met:.6g}"
        if np.isfinite(met) and self.rounding > 1e-6 * abs(met):  # else no printed digit is in doubt
            strong += f" (± {self.rounding:.1g})"
        strong = strong.replace(" ≤ inf", "")  # with too many agents G is computed nowhere
        if largest_proved is None:
            largest = f"L ≥ {largest_met:.6g} (estimate)"
        else:
            largest = f"{largest_met:.6g} ≤ L ≤ {largest_proved:.6g}"
        return f"{strong}, {largest}" + (f" by formula: {self.formula}" if self.formula else "")


def check_conditions(
    game: games.Game,
    low: jax.Array | float = 0.0,
    high: jax.Array | None = None,
    start: jax.Array | None = None,
    target: float = 1e-6,
    samples: int = 256,
    seed: int = 0,
    most_steps: int | None = None,
) -> Conditions:
    """Checks the assumptions of Theorems 3.1 and 3.2 on a box of profiles. Not for use inside jit.

    λ and L must hold on the whole box. Power laws, measured curves, random coverage, linear payoffs and
    random discovery with linear or power costs have formulas that prove bounds (see `bounds`). For others,
    λ and L are evaluated at sampled profiles and by a local search from the worst of them, and called
    estimates. Power laws have L = ∞ at S = 0: choose `low` above.

    Args:
      game: n agents.
      low: the low corner of the box, [n] or one number, samples.
      high: its high corner, likewise; None is the capacity.
      start: [n] s⁰ in the box, samples; None is the middle of the box.
      target: ε, bound on ‖g‖, utility per sample.
      samples: number of random profiles to check, beside the low and the high corner.
      seed: of the random profiles.
      most_steps: maximum number of steps of the dynamics; None depends on n, so that they take some seconds.

    Raises:
      ValueError: the box is not one in [0, τ], or n > 1,024 and the family has no formula.
    """
    game = games.check(game)
    low, high, start = _box(game, low, high, start)
    known = bounds(game, jnp.asarray(low), jnp.asarray(high))
    if known is None and game.n > _DENSE:
        raise ValueError(f"{type(game.payoff).__name__} has no formula for λ and L, so n must be ≤ {_DENSE}")
    most_steps = most_steps or int(np.clip(1e8 / game.n, 1e3, 1e6))
    points = _sampled(low, high, samples, seed)
    met, seen = _attained(game, points, low, high) if game.n <= _DENSE else (np.inf, 0.0)
    unit = _ROUNDINGS * game.n * float(jnp.finfo(jnp.result_type(float)).eps)
    rounding = unit * seen
    if known and np.isfinite(rounding):
        known = known._replace(strong_concavity=min(known.strong_concavity, met + rounding))
        met = max(met, known.strong_concavity)  # only rounding can put it below what is proved
    strong, bound = (known.strong_concavity, known.derivative) if known else (met - rounding, seen)
    examined = examine(game, points, low, high)
    concave = all(condition.holds for condition in examined if "concave" in condition.name)
    # The proved λ is the difference of c'' and an eigenvalue, exact to a few ε of the larger; with one agent
    # there is no eigenvalue. An estimate has its rounding subtracted already.
    least = unit * bound if known and game.n > 1 else 0.0
    step, iterations, needed, inside = None, None, None, True
    if concave and strong > least and 0 < bound < np.inf:
        step, iterations = _promised(game, strong, bound, start, target)
        needed, inside = _count(game, start, step, target, most_steps, low, high)
    needed_adaptive, _ = _count(game, start, None, target, most_steps, low, high)
    return Conditions(
        assumptions=examined,
        strong_concavity=(known.strong_concavity if known else None, met),
        rounding=rounding,
        derivative_bound=(seen, known.derivative if known else None),
        formula=known.formula if known else "",
        step=step,
        iterations=iterations,
        needed=needed,
        needed_adaptive=needed_adaptive,
        inside=inside,
        flat=game.n > 1 and game.payoff.of_total and game.cost.line() is not None,
        low=low,
        high=high,
        start=start,
        target=target,
    )


def _box(game: games.Game, low: Any, high: Any, start: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The box and s⁰ as arrays, [n] each, defaults filled in; errors as `check_conditions`."""
    high = game.capacity if high is None else high
    low, high = (np.broadcast_to(np.asarray(x, float), (game.n,)) for x in (low, high))
    start = (low + high) / 2 if start is None else np.asarray(start, float)
    if not (np.all(low >= 0) and np.all(low <= high) and np.all(high <= np.asarray(game.capacity))):
        raise ValueError(f"`low` and `high` must satisfy 0 ≤ low ≤ high ≤ capacity, got {low} and {high}")
    if start.shape != low.shape or not (np.all(start >= low) and np.all(start <= high)):
        raise ValueError(f"`start` must be a profile in the box, got {start}")
    return low, high, start


def _promised(
    game: games.Game, strong: float, bound: float, start: np.ndarray, target: float
) -> tuple[float, float]:
    """δ of Theorem 3.2, and its bound on the number of steps from `start` to ‖g‖ < `target`."""
    step, s = dynamics.theorem_step(strong, bound, game.n), jnp.asarray(start)
    first = float(dynamics.residual(s, games.own_gradient(game, s), jnp.asarray(step), game.capacity))
    return step, dynamics.iteration_bound(strong, bound, game.n, first, target)


def _steps(count: int | None) -> str:
    return "more than were tried" if count is None else str(count)


def _sampled(low: np.ndarray, high: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """The low and the high corner, and random profiles: uniform in the box, or closer to `low`.

    Near `low` there are few samples, and there payoffs are usually curved most.
    """
    rng = np.random.default_rng(seed)
    uniform = rng.uniform(size=(samples, len(low)))
    share = uniform * 10.0 ** rng.choice([0.0, -1.0, -3.0], size=(samples, 1))
    return np.concatenate([[low, high], low + (high - low) * share])


def _attained(game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Minimum of λ and maximum of |G_ij| at the points and on a local search from the worst of them."""
    least = _least(_strong_concavity, game, points, low, high) + 0.0  # turns -0 into 0, which is printed
    return least, -_least(_minus_largest, game, points, low, high)


@jax.jit
@jax.value_and_grad
def _strong_concavity(s: jax.Array, game: games.Game) -> jax.Array:
    """λ at the profile s, [n], and its gradient."""
    g = games.jacobian(game, s)
    return -jnp.linalg.eigvalsh((g + g.T) / 2)[-1]


@jax.jit
@jax.value_and_grad
def _minus_largest(s: jax.Array, game: games.Game) -> jax.Array:
    """-max |G_ij| at the profile s, [n], and its gradient."""
    return -jnp.max(jnp.abs(games.jacobian(game, s)))


def _least(look: Callable, game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The minimum of f(s, game) at the points and on a local search in the box from the best of them.

    With many agents there are fewer points, as each costs n³, and no search beyond 64. `look` returns f and
    its gradient.
    """
    looks = [look(s, game) for s in points[: max(3, 40_000_000 // len(low) ** 3)]]
    values = np.asarray([float(value) for value, _ in looks])
    if np.any(values == -np.inf):
        return -np.inf
    values = np.where(np.isfinite(values), values, np.inf)  # ignores points at which G is not defined
    best = np.argmin(values)
    if len(low) > 64 or not np.all(np.isfinite(looks[best][1])):
        return float(values[best])
    found = scipy.optimize.minimize(
        lambda s: tuple(np.asarray(x, float) for x in look(s, game)),
        points[best],
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 50},
    )
    return float(min(values[best], found.fun if np.isfinite(found.fun) else np.inf))


def _count(
    game: games.Game,
    start: np.ndarray,
    step: float | None,
    target: float,
    most: int,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[int | None, bool]:
    """Steps of the dynamics until ‖g‖ < ε, None if more than `most`; and whether the path stayed in the box.

    `step` is δ; None is the adaptive one.
    """
    slack = 1e-12 * (high - low)  # a step to the edge of the box may round beyond it
    first = dynamics.start(game, jnp.asarray(start), step)
    state, taken, inside = _follow(game, first, target, most, low - slack, high + slack, step is None)
    reached = float(state.residual) < target
    # The residual of a step is ‖g‖ where the step began: one step earlier.
    return (int(taken) - 1 if reached else None), bool(inside)


@functools.partial(jax.jit, static_argnames="adaptive")
def _follow(
    game: games.Game,
    first: dynamics.State,
    target: float,
    most: int,
    low: jax.Array,
    high: jax.Array,
    adaptive: bool,
) -> tuple[dynamics.State, jax.Array, jax.Array]:
    """The dynamics until ‖g‖ < `target`, or until `most` steps are over: state, steps, whether in the box."""

    def going(carry: tuple) -> jax.Array:
        state, taken, _ = carry
        return (state.residual >= target) & (taken <= most)

    def body(carry: tuple) -> tuple:
        state, taken, inside = carry
        state = dynamics.advance(game, state, adaptive)
        stays = jnp.all((state.profile >= low) & (state.profile <= high))
        return state, taken + 1, inside & stays

    return jax.lax.while_loop(going, body, (first, jnp.asarray(0), jnp.asarray(True)))


def examine(game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[Condition, ...]:
    """Checks Theorem 3.1's assumptions along every agent's own interval, the others at each of the points.

    Args:
      game: n agents.
      points: [k, n] profiles; at most 64 of them are used, fewer with very many agents.
      low, high: [n] ends of the agents' intervals, samples.
    """
    found = [_look_at_all(game, s, low, high) for s in points[: max(1, min(64, 2_000_000 // game.n))]]
    worst, noise, step = jax.tree.map(lambda *x: np.stack(x), *found)
    # How far rounding, and for a jump the steepness of a continuous payoff, may put a margin below 0.
    slack = {_CONTINUOUS: 1e3 * noise, _CONCAVE: noise / step**2, _CONVEX: noise / step**2}
    sampled = f"{len(found)} profiles, {_POINTS} contributions of every agent"
    known = _known(game, low)
    conditions = []
    for name, (margin, contribution) in worst.items():
        point, agent = np.unravel_index(np.argmin(margin), margin.shape)
        fails = (margin <= 0) & (high > low) if name == _INCREASING else margin < -slack[name]
        holds = not np.any(fails)
        condition = Condition(
            name=name,
            holds=holds,
            margin=float(margin[point, agent]),
            agent=int(agent),
            contribution=float(contribution[point, agent]),
            how="formula" if name in known and holds else sampled,
        )
        conditions.append(condition)
    return tuple(conditions)


@jax.jit
def _look_at_all(game: games.Game, s: jax.Array, low: jax.Array, high: jax.Array) -> tuple:
    """`_look` for every agent at the profile s, [n]."""
    axes = (games.agent_axes(game), 0, 0, None, 0, 0)
    return jax.vmap(_look, axes)(game, s, jnp.arange(game.n), games.statistic(game, s), low, high)


def _look(
    agent: games.Game, own: jax.Array, i: jax.Array, z: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[dict[str, tuple[jax.Array, jax.Array]], jax.Array, jax.Array]:
    """ONE agent's smallest margins, by assumption, with the contributions where they are.

    Also returns the rounding error of second differences of her payoff or cost, and the spacing of the
    points.
    """
    rest = games.rest_of(agent, z, own, i)
    x = low + (high - low) * jnp.linspace(0.0, 1.0, _POINTS)
    step = jnp.where(high > low, (high - low) / (_POINTS - 1), 1.0)

    def payoff(x: jax.Array) -> jax.Array:
        return agent.value * agent.payoff.value(agent.quality * x, rest)

    def closer(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """The half of an interval in which the payoff changes more."""
        left, right = ends
        middle = (left + right) / 2
        in_left = _change(payoff(left), payoff(middle)) >= _change(payoff(middle), payoff(right))
        return jnp.where(in_left, left, middle), jnp.where(in_left, middle, right)

    a, c = jax.vmap(payoff)(x), jax.vmap(agent.cost.value)(x)
    widest = jnp.argmax(_change(a[:-1], a[1:]))
    # 120 halvings end at neighbouring floating point numbers, between which only a payoff that jumps changes
    # by more than rounding, however steep it is.
    left, right = jax.lax.fori_loop(0, 120, closer, (x[widest], x[widest + 1]))
    marginal = jax.vmap(jax.grad(agent.cost.value))(x[:-1] + step / 2)
    margins = {  # with the contributions at which they were evaluated
        _CONTINUOUS: (-_change(payoff(left), payoff(right))[None], left[None]),
        _CONCAVE: (-_bend(a, step), x[1:-1]),
        _CONVEX: (_bend(c, step), x[1:-1]),
        _INCREASING: (marginal, x[:-1] + step / 2),
    }
    worst = {}
    for name, (margin, at) in margins.items():
        margin = jnp.where(jnp.isnan(margin), -jnp.inf, margin)
        k = jnp.argmin(margin)
        worst[name] = margin[k], at[k]
    noise = 5e3 * jnp.finfo(x.dtype).eps * jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(c)))
    return worst, noise, step


def _known(game: games.Game, low: np.ndarray) -> set[str]:
    """The assumptions that hold on the whole box because the payoff and the cost promise them."""
    promised = set()
    if game.cost.convex:
        promised |= {_CONVEX, _INCREASING}
    least = float(games.statistic(game, jnp.asarray(low))) if game.payoff.of_total else 0.0
    if game.payoff.concave:
        promised.add(_CONTINUOUS)
        clipped = game.payoff.of_total and np.any(total.pays_from(game) > least)
        if not clipped:
            promised.add(_CONCAVE)
    if game.payoff.of_total and not np.all(np.isfinite(_at_total(game, least))):
        promised.discard(_CONTINUOUS)  # the payoff tends to -∞ there, as a raw power law does at 0
    return promised


def _change(a: jax.Array, b: jax.Array) -> jax.Array:
    """|b - a|, infinite where a or b is NaN."""
    change = jnp.abs(b - a)
    return jnp.where(jnp.isnan(change), jnp.inf, change)


def _bend(f: jax.Array, step: jax.Array) -> jax.Array:
    """Second difference quotients of values at equally spaced points, [k] -> [k - 2]."""
    return (f[2:] - 2.0 * f[1:-1] + f[:-2]) / step**2


@jax.jit
def _at_total(game: games.Game, total: jax.Array) -> jax.Array:
    """a_i(S) of every agent, [n]."""
    axes = (games.agent_axes(game),)
    return jax.vmap(lambda agent: agent.payoff.curve(total), axes, axis_size=game.n)(game)


class Bounds(NamedTuple):
    """λ and L of Theorem 3.2, proved for every profile in the box."""

    strong_concavity: float  # λ: G + λI is negative semi-definite; ≤ 0 if no λ > 0 is proved
    derivative: float  # L: every |G_ij| ≤ L
    formula: str  # in words


def bounds(game: games.Game, low: jax.Array, high: jax.Array) -> Bounds | None:
    """λ and L, proved on the box [low, high]; None if the payoff or the cost has no formula.

    Args:
      game: n agents, checked by `games.check`.
      low, high: [n] samples.
    """
    cost_bounds = game.cost.bend(low, high)
    if cost_bounds is None:
        return None
    least_bend, largest_bend = (np.broadcast_to(x, (game.n,)) for x in cost_bounds)
    payoff = game.payoff
    found = _of_total(game, low, high) if payoff.of_total else payoff.curvature(game, low, high)
    if found is None:
        return None
    largest = max(float(np.max(found.own + largest_bend)), float(np.max(found.others)))
    return Bounds(float(np.min(least_bend)) - found.eigenvalue, largest, found.formula)


def _of_total(game: games.Game, low: jax.Array, high: jax.Array) -> payoffs.Curvature | None:
    """What payoffs of the total add to G on the box: bounds on -y wᵀ, from |a''| on cells of S."""
    first, last = float(games.statistic(game, low)), float(games.statistic(game, high))
    if game.payoff.bend(first, last) is None or not game.payoff.concave:
        return None
    if np.any(np.asarray(total.pays_from(game)) > first):
        return None  # at z_i in the box the clipped payoff becomes positive: a convex kink
    formula = "payoff of S: G = -y wᵀ - diag(c''), |a''| bounded on cells of S"
    if first <= 0 and np.any(_steepness(game, 0.0, 0.0)[1] == np.inf):
        return payoffs.Curvature(np.inf, np.inf, np.inf, formula)
    # On a logarithmic scale, as |a''| falls like a power of S. The first cell may reach down to S = 0.
    scale = np.geomspace(max(first, 1e-6 * last, 1e-300), max(last, 1e-300), _CELLS)
    edges = np.concatenate([[first], scale])
    quality = np.broadcast_to(np.asarray(game.quality), (game.n,))
    weight = np.asarray(game.value) * quality
    eigenvalue = 0.0
    for left, right in itertools.pairwise(edges):
        least, most = (weight * y for y in _steepness(game, left, right))
        eigenvalue = max(eigenvalue, _largest_eigenvalue(least, most, quality))
    _, most = _steepness(game, first, last)
    return payoffs.Curvature(
        eigenvalue=eigenvalue,
        own=weight * most * quality,
        others=np.max(weight * most) * quality,
        formula=formula,
    )


def _steepness(game: games.Game, a: float, b: float) -> list[np.ndarray]:
    """Least and largest |a_i''| for totals between a and b, [n] each."""
    return [np.broadcast_to(np.asarray(y), (game.n,)) for y in game.payoff.bend(a, b)]


def _largest_eigenvalue(least: np.ndarray, most: np.ndarray, w: np.ndarray) -> float:
    """An upper bound of f(y) = (‖y‖‖w‖ - y·w) / 2 for all y between `least` and `most`, [n] each.

    f is sublinear, so f(y) ≤ f(least) + f(y - least), and f(x) ≤ ‖x‖‖w‖ / 2 for x ≥ 0. Equal payoffs give 0.
    """
    norm = np.linalg.norm(w)
    along = least @ w / norm
    across = np.linalg.norm(least - along * w / norm)
    size = np.hypot(along, across)
    own = across**2 / (size + along) if size > 0 else 0.0  # ‖y‖ - y·w/‖w‖ without cancellation
    return 0.5 * norm * (own + np.linalg.norm(most - least))
