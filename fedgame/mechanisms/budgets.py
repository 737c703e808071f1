"""The general model of Section 4: agent i keeps b_i of her budget B_i, and has utility u_i(b_i, S).

Under M_β, program (5):

    b_i + (1-β) c_i(s_i) + β/(n-1) Σ_{j≠i} c_j(s_j) = B_i,    b_i ≥ 0,    c_i(s_i) = rate_i s_i + fixed_i.

What others spend decides what agent i can afford, so this is a *generalised* Nash game: an agent's feasible
actions depend on those of the others. There may be none: with B_i = 0.1 and β = 0.5, others who spend 1 leave
agent i without a feasible action. The theorem's existence proof overlooks such agents; here they are called
stranded. Quasi-linear utility u_i = b_i + v_i a_i(S) is the model of Section 2, plus B_i.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import refunds
from fedgame.registry import option

_ROUNDING = 1e-13  # share of all money involved, up to which b_i counts as 0
_EPS = float(np.finfo(float).eps)


@registry.family
class BudgetGame:
    """n agents with budgets.

    Attributes:
      agents: what distinguishes them, any pytree with leading axis [n].
      rate: [n] c_i > 0, currency per sample.
      fixed: [n] d_i, paid at s_i = 0 too.
      budget: [n] B_i.
      capacity: [n] τ_i, maximum of samples.
      utility: u(agent, b, S) of ONE agent, concave in (b, S).
    """

    agents: Any
    rate: jax.Array
    fixed: jax.Array
    budget: jax.Array
    capacity: jax.Array
    utility: Callable[[Any, jax.Array, jax.Array], jax.Array] = option(
        "u_i of her numbers, her samples and the total", static=True
    )

    @property
    def n(self) -> int:
        return len(self.budget)


@registry.family
class BudgetEquilibrium:
    """Where best responses under budgets end, and whether it is an equilibrium.

    Attributes:
      profile: [n] contributions, samples.
      unspent: [n] b_i, currency; negative for agents who cannot pay their part of the others' costs.
      nash_gap: [n] utility each could gain by a deviation that she can afford; 0 for stranded agents.
      stranded: [n] whether the agent has no feasible action, given what the others do.
      converged: whether nobody is stranded and no gap exceeds the tolerance, see `certify`.
      sweeps: rounds of best responses.
    """

    profile: jax.Array
    unspent: jax.Array
    nash_gap: jax.Array
    stranded: jax.Array
    converged: jax.Array
    sweeps: jax.Array


def budget_game(
    utility: Callable, agents: Any, rate: Any, budget: Any, fixed: Any = 0.0, capacity: Any = None
) -> BudgetGame:
    """A `BudgetGame` with checked numbers.

    Args:
      utility: u(agent, b, S) of ONE agent, concave in (b, S).
      agents: what distinguishes them, any pytree with leading axis [n].
      rate: c_i > 0, one or [n], currency per sample.
      budget: B_i, one or [n], currency.
      fixed: d_i, one or [n], currency.
      capacity: τ_i, one or [n], samples. None: Σ B_j / c_i, as payments balance, so that nobody can spend
        more than all budgets.

    Raises:
      ValueError: a rate that is not positive, a number that is negative or not finite, or shapes that
        do not fit.
    """
    numbers = {"rate": rate, "fixed": fixed, "budget": budget}
    numbers["capacity"] = 0.0 if capacity is None else capacity
    leaves = jax.tree.leaves(agents)
    n = len(leaves[0]) if leaves else max(map(np.size, numbers.values()))
    for name, x in numbers.items():
        x = np.asarray(x, float)
        if x.shape not in ((), (n,)):
            raise ValueError(f"`{name}` must be one number or one for each of {n} agents, got {x}")
        if name == "rate":
            large_enough, limit = x > 0, "above 0"
        else:
            large_enough, limit = x >= 0, "at least 0"
        if not np.all(np.isfinite(x) & large_enough):
            raise ValueError(f"`{name}` must be finite and {limit}, got {x}")
        numbers[name] = jnp.broadcast_to(jnp.asarray(x), (n,))
    if capacity is None:
        numbers["capacity"] = jnp.sum(numbers["budget"]) / numbers["rate"]
    return BudgetGame(jax.tree.map(jnp.asarray, agents), utility=utility, **numbers)


def with_budgets(game: games.Game, budget: Any) -> BudgetGame:
    """The quasi-linear special case u_i = b_i + v_i a_i(S), in which u_i - B_i is the utility of `game`.

    Args:
      game: payoffs of S, linear costs, w_i = 1.
      budget: B_i, one or [n], currency.

    Raises:
      ValueError: the payoff is not one of S, costs are not linear, or samples differ in quality.
    """
    line = game.cost.line()
    if not game.payoff.of_total or line is None or np.any(game.quality != 1.0):
        raise ValueError("Section 4's model needs payoffs of S, linear costs, and samples of one quality")
    n = game.n
    value, held = jnp.broadcast_to(jnp.asarray(game.value, float), (n,)), jnp.full(n, game.held, float)
    agents = (registry.per_agent(game.payoff, n), value, held)
    rate, fixed = line
    return budget_game(_quasi_linear, agents, rate, budget, fixed, game.capacity)


def _quasi_linear(agent: Any, unspent: jax.Array, total: jax.Array) -> jax.Array:
    payoff, value, held = agent
    return unspent + value * payoff.curve(held + total)


def unspent(game: BudgetGame, beta: Any, s: jax.Array) -> jax.Array:
    """b_i = B_i - c_i(s_i) + p_i(s), [n]: feasible if at least 0. Values that are just rounding become 0."""
    spent = game.rate * s + game.fixed
    b = game.budget - spent + refunds.payments(beta, spent)
    rounding = jnp.abs(b) <= _ROUNDING * (game.budget + jnp.sum(jnp.abs(spent)))
    return b - jax.lax.stop_gradient(jnp.where(rounding, b, 0.0))


def utilities(game: BudgetGame, beta: Any, s: jax.Array) -> jax.Array:
    """u_i(b_i, S) under M_β, [n], also where b_i < 0."""
    return jax.vmap(game.utility, (0, 0, None))(game.agents, unspent(game, beta, s), jnp.sum(s))


def marginals(game: BudgetGame, beta: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """∂u_i/∂b_i and ∂u_i/∂S, [n] each."""
    slopes = jax.vmap(jax.grad(game.utility, argnums=(1, 2)), (0, 0, None))
    return slopes(game.agents, unspent(game, beta, s), jnp.sum(games.as_profile(s)))


def best_response(game: BudgetGame, beta: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every agent's best feasible contribution, [n], and whether she is stranded, [n]; if so it is 0."""
    refunds.check_beta(beta, game.n)
    s = games.as_profile(s)
    return jax.vmap(lambda i: _respond(game, beta, s, i))(jnp.arange(game.n))


def _own(
    game: BudgetGame, beta: Any, s: jax.Array, i: jax.Array
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array, jax.Array]:
    """Agent i's u as a function of her contribution, the most she can afford, and whether she is stranded."""
    agent, price = jax.tree.map(lambda x: x[i], game.agents), ((1.0 - beta) * game.rate)[i]
    idle, others = unspent(game, beta, s)[i] + price * s[i], jnp.sum(s) - s[i]  # idle: b_i at s_i = 0
    slack = _ROUNDING * (game.budget[i] + jnp.sum(game.rate * s + game.fixed))
    affordable = jnp.where(price > 0, jnp.maximum(idle, 0.0) / jnp.where(price > 0, price, 1.0), jnp.inf)

    def u(x: jax.Array) -> jax.Array:
        return game.utility(agent, jnp.maximum(idle - price * x, 0.0), others + x)

    return u, jnp.minimum(game.capacity[i], affordable), idle < -slack


def _respond(game: BudgetGame, beta: Any, s: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Agent i's best feasible contribution, and whether she is stranded.

    The best of 65 points, then bisection of the slope of u between the neighbours of that point.
    """
    u, top, stranded = _own(game, beta, s, i)
    grid = top * jnp.linspace(0.0, 1.0, 65)
    k = jnp.argmax(_finite(jax.vmap(u)(grid)))

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = (low + high) / 2
        rising = jax.grad(u)(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    bracket = grid[jnp.maximum(k - 1, 0)], grid[jnp.minimum(k + 1, len(grid) - 1)]
    low, high = jax.lax.fori_loop(0, 100, halve, bracket)
    candidates = jnp.stack([grid[k], (low + high) / 2])
    best = candidates[jnp.argmax(_finite(jax.vmap(u)(candidates)))]
    return jnp.where(stranded, 0.0, best), stranded


def _finite(u: jax.Array) -> jax.Array:
    """u, and -∞ where it is NaN, so that a maximum ignores it."""
    return jnp.where(jnp.isnan(u), -jnp.inf, u)


def nash_gap(game: BudgetGame, beta: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each could gain by a deviation that she can afford, [n], and whether she is stranded, [n].

    See `certify`.
    """
    return certify(game, beta, s, 0.0)[:2]


def certify(
    game: BudgetGame, beta: Any, s: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Nash gaps of a profile, and whether it is an equilibrium.

    It is one if nobody is stranded, and no gap exceeds `tolerance` times what is at stake for the agent, plus
    the rounding of utilities. At stake is the larger of what her data bring her and what their costs take
    from her, at s_i or at her best response.

    Deviations are searched on a grid of two scales, then on ever smaller ones around the best point, without
    assuming concavity. An agent who overspends at s although she need not, or is outside [0, τ_i], has an
    infinite gap.

    Args:
      game: n agents.
      beta: β in [0, 1], or β_i, [n].
      s: [n] samples.
      tolerance: relative to what is at stake.

    Returns:
      Gaps, [n]; whether each is stranded, [n]; whether s is an equilibrium.
    """
    refunds.check_beta(beta, game.n)
    s = games.as_profile(s)
    grid = jnp.sort(jnp.concatenate([jnp.linspace(0.0, 1.0, 500), jnp.logspace(-14, 0, 500)]))

    def gain(i: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        u, top, stranded = _own(game, beta, s, i)
        agent, others = jax.tree.map(lambda x: x[i], game.agents), jnp.sum(s) - s[i]
        idle = jnp.maximum(unspent(game, beta, s)[i] + ((1.0 - beta) * game.rate)[i] * s[i], 0.0)

        def at_stake(x: jax.Array) -> jax.Array:
            with_data = game.utility(agent, idle, others + x)  # as if her data were free
            brought = with_data - game.utility(agent, idle, others)
            return jnp.maximum(jnp.abs(brought), jnp.abs(with_data - u(x)))

        def zoom(_: int, interval: tuple) -> tuple:
            low, high, best, at = interval
            x = low + (high - low) * grid
            values = _finite(jax.vmap(u)(x))
            k = jnp.argmax(values)
            inner = x[jnp.maximum(k - 1, 0)], x[jnp.minimum(k + 1, len(x) - 1)]
            better = values[k] > best
            return *inner, jnp.where(better, values[k], best), jnp.where(better, x[k], at)

        start = jnp.zeros_like(top), top, jnp.full_like(top, -jnp.inf), s[i]
        now = _finite(u(s[i]))
        _, _, best, at = jax.lax.fori_loop(0, 6, zoom, start)
        stake = jnp.maximum(at_stake(at), at_stake(s[i]))
        allowed = tolerance * jnp.where(jnp.isfinite(stake), stake, 0.0) + 8 * _EPS * jnp.abs(now)
        # If what all spend, or she might, is below a thousand rounding errors of what she keeps, gaps mean
        # nothing, and with -1 none is allowed: s is not certified.
        price = (1.0 - beta) * game.rate
        spends = jnp.maximum(price[i] * at, jnp.sum(price * s))
        lost = (spends > 0) & (8 * _EPS * idle > 1e-3 * spends)
        return jnp.where(best > now, best - now, 0.0), stranded, jnp.where(lost, -1.0, allowed)

    gains, stranded, allowed = jax.vmap(gain)(jnp.arange(game.n))
    outside = (unspent(game, beta, s) < 0) | ~(s >= 0) | (s > game.capacity * (1 + 1e-12))
    gaps = jnp.where(stranded, 0.0, jnp.where(outside, jnp.inf, gains))
    return gaps, stranded, jnp.all((gaps <= allowed) & ~stranded)


def solve(
    game: BudgetGame, beta: Any, start: Any = None, sweeps: int = 1_000, tolerance: float = 1e-9
) -> BudgetEquilibrium:
    """Best responses in turn, until nobody moves; then the certificate.

    Args:
      game: n ≥ 2 agents.
      beta: β in [0, 1], or β_i, [n].
      start: [n] profile; None: from 0 a hundred steps, each 1/n of the way to all best responses, so that
        agents who are alike contribute alike.
      sweeps: maximum of rounds. No theorem says that they converge: see `converged`.
      tolerance: of the certificate.
    """
    refunds.check_beta(beta, game.n)
    if start is None:

        def closer(_: int, s: jax.Array) -> jax.Array:
            return s + (best_response(game, beta, s)[0] - s) / game.n

        start = jax.lax.fori_loop(0, 100, closer, jnp.zeros(game.n))

    def turn(i: int, s: jax.Array) -> jax.Array:
        return s.at[i].set(_respond(game, beta, s, i)[0])

    def body(carry: tuple) -> tuple:
        s, _, k = carry
        new = jax.lax.fori_loop(0, game.n, turn, s)
        return new, jnp.max(jnp.abs(new - s)), k + 1

    def going(carry: tuple) -> jax.Array:
        s, moved, k = carry
        return (moved > 1e-13 * jnp.maximum(jnp.max(s), 1e-300)) & (k < sweeps)

    s, _, k = jax.lax.while_loop(going, body, (games.as_profile(start), jnp.asarray(jnp.inf), jnp.asarray(0)))
    gap, stranded, good = certify(game, beta, s, tolerance)
    return BudgetEquilibrium(s, unspent(game, beta, s), gap, stranded, good, k)
