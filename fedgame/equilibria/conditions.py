"""Do Theorems 3.1 and 3.2 apply to a game, by how much, and where was that looked at?

G_ij = ∂²u_i/∂s_j∂s_i. For payoffs of the total G is a matrix of rank one less the diagonal of c_i'':
with y_i = v_i w_i |a_i''(S)| its payoff part is -y wᵀ, and the largest eigenvalue of the symmetric part
of that is (|y||w| - y·w) / 2 ≥ 0, and > 0 unless y is a multiple of w. So λ > 0 needs costs that are
curved more than that; linear costs have λ ≤ 0 whatever the payoff of S.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedgame.equilibria import dynamics, total
from fedgame.games import game as games
from fedgame.games import payoffs

_DENSE = 1024  # most agents for n×n matrices
_CELLS = 512  # the range of S is cut into so many, each bounded by its ends
_POINTS = 129  # of an agent's interval, to look for convex pieces and jumps
_CONTINUOUS, _CONCAVE = "payoff continuous", "payoff concave in own contribution"
_CONVEX, _INCREASING = "cost convex", "cost increasing"


@dataclasses.dataclass(frozen=True)
class Condition:
    """One assumption of Theorem 3.1.

    Attributes:
      name: what is assumed.
      holds: whether it does, as far as `how` reaches.
      margin: the least value found of what must not be negative.
      agent: where that was.
      contribution: of that agent, samples, the others at a sampled profile.
      how: "formula", or how many points were looked at.
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
      strong_concavity: (rigorous lower bound or None, least value met) of λ: no larger λ than the
        second is true, up to `rounding`, and any λ up to the first is.
      rounding: what rounding can make of the least value met, which is an eigenvalue of matrices that may
        have far larger entries.
      derivative_bound: (largest |G_ij| met, rigorous upper bound or None) of L.
      formula: where the rigorous bounds come from, or "" if both are estimates only.
      step: δ = λ/(n²L²), or None where Theorem 3.2 does not apply.
      iterations: its bound on the number of steps from `start` to ‖g‖ < ε, or None.
      needed: steps that the dynamics took with that δ, or None if they did not get there in time.
      needed_adaptive: the same with the adaptive step size.
      inside: whether the dynamics with δ stayed in the box, as the theorem's argument needs.
      flat: whether G is known to have rank one, n ≥ 2: payoffs of S and linear costs.
      low, high, start: [n] samples.
      target: ε.
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
        (least, met), (seen, most) = self.strong_concavity, self.derivative_bound
        largest = seen if most is None else most
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
        return "no λ > 0 is proved on this box" if least is not None else "no λ > 0 was found"

    def __str__(self) -> str:
        lines = [
            f"{'holds' if c.holds else 'FAILS'}: {c.name} (margin {c.margin:.3g} at agent {c.agent}, "
            f"s={c.contribution:.6g}; {c.how})"
            for c in self.assumptions
        ]
        (least, met), (seen, most) = self.strong_concavity, self.derivative_bound
        known = f"{least:.6g} ≤ λ ≤ {met:.6g}" if least is not None else f"λ ≤ {met:.6g} (estimate)"
        known += f" (± {self.rounding:.1g})" if self.rounding > 1e-6 * abs(met) and np.isfinite(met) else ""
        known = known.replace(" ≤ inf", "")  # too many agents to compute G anywhere
        known += f", {seen:.6g} ≤ L ≤ {most:.6g}" if most is not None else f", L ≥ {seen:.6g} (estimate)"
        lines.append(known + (f" by formula: {self.formula}" if self.formula else ""))
        if self.step is None:
            lines.append(f"Theorem 3.2 does not apply: {self.obstacle}; no bound on iterations")
        else:
            lines.append(
                f"Theorem 3.2{'' if self.rigorous else ' (λ and L are estimates)'}: δ = {self.step:.6g}, "
                f"at most {self.iterations:.6g} steps to ‖g‖ < {self.target:g}; needed: {_steps(self.needed)}"
                + ("" if self.inside else "; the path LEFT the box, so the bound is not proved")
            )
        return "\n".join([*lines, f"adaptive step size: {_steps(self.needed_adaptive)} steps"])


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
    """Looks at the assumptions of Theorems 3.1 and 3.2 on a box of profiles. Not for use inside jit.

    λ and L must hold on the whole box. Power laws, measured curves, random coverage, linear payoffs and
    random discovery with linear or power costs have formulas for rigorous bounds (`curvature`). For
    others there are only the values met at sampled profiles and by a local search from the worst of
    them; these are called estimates. Power laws have L = ∞ at S = 0: choose `low` above.

    Args:
      game: n agents.
      low, high: the box, [n] or a number, samples; None is the capacity.
      start: [n] s⁰ in the box; None is its middle.
      target: ε.
      samples: profiles to look at, beside the corners of least and greatest contributions.
      seed: of the samples.
      most_steps: of the dynamics that count the steps needed; None is some seconds' worth.

    Raises:
      ValueError: the box is not one in [0, τ], or n > 1,024 and the family has no formula.
    """
    game = games.check(game)
    low, high = (
        np.broadcast_to(np.asarray(x, float), (game.n,))
        for x in (low, game.capacity if high is None else high)
    )
    start = (low + high) / 2 if start is None else np.asarray(start, float)
    if not (np.all(low >= 0) and np.all(low <= high) and np.all(high <= np.asarray(game.capacity))):
        raise ValueError(f"`low` and `high` must satisfy 0 ≤ low ≤ high ≤ capacity, got {low} and {high}")
    if start.shape != low.shape or not (np.all(start >= low) and np.all(start <= high)):
        raise ValueError(f"`start` must be a profile in the box, got {start}")
    known = bounds(game, jnp.asarray(low), jnp.asarray(high))
    if known is None and game.n > _DENSE:
        raise ValueError(f"{type(game.payoff).__name__} has no formula for λ and L, so n must be ≤ {_DENSE}")
    most_steps = most_steps or int(np.clip(1e8 / game.n, 1e3, 1e6))
    points = _sampled(low, high, samples, seed)
    met, seen = _attained(game, points, low, high) if game.n <= _DENSE else (np.inf, 0.0)
    # Of an eigenvalue of a matrix that was computed in floating point.
    rounding = 16.0 * game.n * float(jnp.finfo(jnp.result_type(float)).eps) * seen
    if known and np.isfinite(rounding):
        known = known._replace(strong_concavity=min(known.strong_concavity, met + rounding))
        met = max(met, known.strong_concavity)  # it is below what is proved by rounding only
    strong, bound = (known.strong_concavity, known.derivative) if known else (met - rounding, seen)
    examined = examine(game, points, low, high)
    concave = all(condition.holds for condition in examined if "concave" in condition.name)
    # A formula's λ is right to a few digits of the largest term in it; alone, nothing is subtracted.
    least = (
        16.0 * game.n * float(jnp.finfo(jnp.result_type(float)).eps) * bound if known and game.n > 1 else 0.0
    )
    step, iterations, needed, inside = None, None, None, True
    if concave and strong > least and 0 < bound < np.inf:
        step, iterations = _promised(game, strong, bound, start, target)
        needed, inside = _count(game, start, step, target, most_steps, low, high)
    adaptive, _ = _count(game, start, None, target, most_steps, low, high)
    return Conditions(
        examined,
        (known.strong_concavity if known else None, met),
        rounding,
        (seen, known.derivative if known else None),
        known.formula if known else "",
        step=step,
        iterations=iterations,
        needed=needed,
        needed_adaptive=adaptive,
        inside=inside,
        flat=game.n > 1 and game.payoff.of_total and game.cost.line() is not None,
        low=low,
        high=high,
        start=start,
        target=target,
    )


def _promised(
    game: games.Game, strong: float, bound: float, start: np.ndarray, target: float
) -> tuple[float, float]:
    """δ of Theorem 3.2, and its bound on the number of steps."""
    step, s = dynamics.theorem_step(strong, bound, game.n), jnp.asarray(start)
    first = float(dynamics.residual(s, games.own_gradient(game, s), jnp.asarray(step), game.capacity))
    return step, dynamics.iteration_bound(strong, bound, game.n, first, target)


def _steps(count: int | None) -> str:
    return "more than were tried" if count is None else str(count)


def _sampled(low: np.ndarray, high: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """The low corner, the high corner, and profiles that are uniform or close to the low corner."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(size=(samples, len(low))) * 10.0 ** rng.choice([0.0, -1.0, -3.0], size=(samples, 1))
    return np.concatenate([[low, high], low + (high - low) * share])


def _attained(game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """The least λ and the largest |G_ij| met at the points and by a local search from the worst."""

    def strong(s: jax.Array, game: games.Game) -> jax.Array:
        g = games.jacobian(game, s)
        return -jnp.linalg.eigvalsh((g + g.T) / 2)[-1]

    def largest(s: jax.Array, game: games.Game) -> jax.Array:
        return -jnp.max(jnp.abs(games.jacobian(game, s)))

    # Not -0.
    return _least(strong, game, points, low, high) + 0.0, -_least(largest, game, points, low, high)


def _least(f: Callable, game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    look = jax.jit(jax.value_and_grad(f))
    looks = [look(s, game) for s in points[: max(3, 40_000_000 // len(low) ** 3)]]
    values = np.asarray([float(value) for value, _ in looks])
    if np.any(values == -np.inf):
        return -np.inf
    values = np.where(np.isfinite(values), values, np.inf)  # G is not defined there
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
    """Steps until ‖g‖ < ε, None if not within `most`; and whether the path stayed in the box."""

    slack = 1e-12 * (high - low)

    @jax.jit
    def follow(game: games.Game, first: dynamics.State, low: jax.Array, high: jax.Array) -> tuple:
        def going(carry: tuple) -> jax.Array:
            state, taken, _ = carry
            return (state.residual >= target) & (taken <= most)

        def body(carry: tuple) -> tuple:
            state, taken, inside = carry
            state = dynamics.advance(game, state, step is None)
            stays = jnp.all((state.profile >= low) & (state.profile <= high))
            return state, taken + 1, inside & stays

        return jax.lax.while_loop(going, body, (first, jnp.asarray(0), jnp.asarray(True)))

    first = dynamics.start(game, jnp.asarray(start), step)
    state, taken, inside = follow(game, first, low - slack, high + slack)
    # The residual of a step is ‖g‖ where the step began.
    return (int(taken) - 1 if float(state.residual) < target else None), bool(inside)


def examine(game: games.Game, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[Condition, ...]:
    """Every agent's payoff and cost along her own interval, the others at each of the points."""

    @jax.jit
    def at(game: games.Game, s: jax.Array, low: jax.Array, high: jax.Array) -> tuple:
        axes = (games.agent_axes(game), 0, 0, None, 0, 0)
        return jax.vmap(_look, axes)(game, s, jnp.arange(game.n), games.statistic(game, s), low, high)

    found = [at(game, s, low, high) for s in points[: max(1, min(64, 2_000_000 // game.n))]]
    worst, noise, step = jax.tree.map(lambda *x: np.stack(x), *found)
    slack = {_CONTINUOUS: 1e3 * noise, _CONCAVE: noise / step**2, _CONVEX: noise / step**2}
    sampled = f"{len(found)} profiles, {_POINTS} contributions of every agent"
    known = _known(game, low)
    conditions = []
    for name, (margin, contribution) in worst.items():
        point, agent = np.unravel_index(np.argmin(margin), margin.shape)
        fails = (margin <= 0) & (high > low) if name == _INCREASING else margin < -slack[name]
        holds = not np.any(fails)
        how = "formula" if name in known and holds else sampled
        numbers = float(margin[point, agent]), int(agent), float(contribution[point, agent])
        conditions.append(Condition(name, holds, *numbers, how))
    return tuple(conditions)


def _look(
    agent: games.Game, own: jax.Array, i: jax.Array, z: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[dict[str, tuple[jax.Array, jax.Array]], jax.Array, jax.Array]:
    """ONE agent's worst margins and where they are, what rounding makes of them, and the spacing."""
    rest = games.rest_of(agent, z, own, i)
    x = low + (high - low) * jnp.linspace(0.0, 1.0, _POINTS)
    step = jnp.where(high > low, (high - low) / (_POINTS - 1), 1.0)

    def payoff(x: jax.Array) -> jax.Array:
        return agent.value * agent.payoff.value(agent.quality * x, rest)

    def closer(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, b = ends
        middle = (a + b) / 2
        first = _change(payoff(a), payoff(middle)) >= _change(payoff(middle), payoff(b))
        return jnp.where(first, a, middle), jnp.where(first, middle, b)

    a, c = jax.vmap(payoff)(x), jax.vmap(agent.cost.value)(x)
    widest = jnp.argmax(_change(a[:-1], a[1:]))
    # Down to neighbouring numbers: a payoff that is merely steep does not change between them.
    left, right = jax.lax.fori_loop(0, 120, closer, (x[widest], x[widest + 1]))
    marginal = jax.vmap(jax.grad(agent.cost.value))(x[:-1] + step / 2)
    margins = {  # and the contributions where they were looked at
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
    """What the families promise on the box, beyond what can be seen at samples."""
    promised = set()
    if game.cost.convex:
        promised |= {_CONVEX, _INCREASING}
    least = float(games.statistic(game, jnp.asarray(low))) if game.payoff.of_total else 0.0
    if game.payoff.concave:
        clipped = game.payoff.of_total and np.any(total.pays_from(game) > least)
        promised |= {_CONTINUOUS} | (set() if clipped else {_CONCAVE})
    if game.payoff.of_total and not np.all(np.isfinite(_at_total(game, least))):
        promised -= {_CONTINUOUS}  # it tends to -∞, as a raw power law does
    return promised


def _change(a: jax.Array, b: jax.Array) -> jax.Array:
    """|b - a|, infinite where one of them is not a number."""
    change = jnp.abs(b - a)
    return jnp.where(jnp.isnan(change), jnp.inf, change)


def _bend(f: jax.Array, step: jax.Array) -> jax.Array:
    """Second difference quotients."""
    return (f[2:] - 2.0 * f[1:-1] + f[:-2]) / step**2


@jax.jit
def _at_total(game: games.Game, total: jax.Array) -> jax.Array:
    return jax.vmap(lambda agent: agent.payoff.curve(total), (games.agent_axes(game),), axis_size=game.n)(
        game
    )


class Bounds(NamedTuple):
    """What holds for every profile in the box."""

    strong_concavity: float  # λ: G + λI is negative semi-definite; ≤ 0 if no λ > 0 is shown to exist
    derivative: float  # L: no |G_ij| is larger
    formula: str  # where it comes from


def bounds(game: games.Game, low: jax.Array, high: jax.Array) -> Bounds | None:
    """Rigorous λ and L on the box [low, high], or None for a family without a formula.

    Args:
      game: checked.
      low, high: [n] samples.
    """
    bends = game.cost.bend(low, high)
    if bends is None:
        return None
    least, most = (np.broadcast_to(x, (game.n,)) for x in bends)
    payoff = game.payoff
    found = _of_total(game, low, high) if payoff.of_total else payoff.curvature(game, low, high)
    if found is None:
        return None
    largest = max(float(np.max(found.own + most)), float(np.max(found.others)))
    return Bounds(float(np.min(least)) - found.eigenvalue, largest, found.formula)


def _of_total(game: games.Game, low: jax.Array, high: jax.Array) -> payoffs.Curvature | None:
    first, last = float(games.statistic(game, low)), float(games.statistic(game, high))
    if game.payoff.bend(first, last) is None or not game.payoff.concave:
        return None
    if np.any(np.asarray(total.pays_from(game)) > first):
        return None  # a convex kink, where the clipped payoff becomes positive, lies in the box
    formula = "payoff of S: G = -y wᵀ - diag(c''), |a''| bounded on cells of S"
    if first <= 0 and np.any(_steepness(game, 0.0, 0.0)[1] == np.inf):
        return payoffs.Curvature(np.inf, np.inf, np.inf, formula)
    edges = np.concatenate(
        [[first], np.geomspace(max(first, 1e-6 * last, 1e-300), max(last, 1e-300), _CELLS)]
    )
    quality = np.broadcast_to(np.asarray(game.quality), (game.n,))
    weight = np.asarray(game.value) * quality
    eigenvalue = 0.0
    for a, b in itertools.pairwise(edges):
        least, most = (weight * y for y in _steepness(game, a, b))
        eigenvalue = max(eigenvalue, _largest_eigenvalue(least, most, quality))
    _, most = _steepness(game, first, last)
    return payoffs.Curvature(eigenvalue, weight * most * quality, np.max(weight * most) * quality, formula)


def _steepness(game: games.Game, a: float, b: float) -> list[np.ndarray]:
    return [np.broadcast_to(np.asarray(y), (game.n,)) for y in game.payoff.bend(a, b)]


def _largest_eigenvalue(least: np.ndarray, most: np.ndarray, w: np.ndarray) -> float:
    """At least (|y||w| - y·w) / 2 for all y between `least` and `most`, [n] each.

    For that is a sublinear function of y, and at most |y||w| / 2 if y ≥ 0. Equal payoffs give 0.
    """
    norm = np.linalg.norm(w)
    along = least @ w / norm
    across = np.linalg.norm(least - along * w / norm)
    size = np.hypot(along, across)
    own = across**2 / (size + along) if size > 0 else 0.0  # |y| - y·w/|w| without cancellation
    return 0.5 * norm * (own + np.linalg.norm(most - least))
