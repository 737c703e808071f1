"""The general model of Section 4: agent i keeps b_i of her budget B_i, and has utility u_i(b_i, S).

Under M_β, program (5):

    b_i + (1-β) c_i(s_i) + β/(n-1) Σ_{j≠i} c_j(s_j) = B_i,    b_i ≥ 0,    c_i(s_i) = rate_i s_i + fixed_i.

What others spend decides what agent i can afford, so this is a *generalised* Nash game: the sets of
actions depend on each other. They can be empty: with B_i = 0.1 and β = 0.5, others who spend 1 leave her
nothing that is feasible. The theorem's existence proof has no such agent in mind; here she is named.
Quasi-linear utility u_i = b_i + v_i a_i(S) is the model of Section 2, plus B_i.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import costs
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced


@flax.struct.dataclass
class BudgetGame:
    """n agents with budgets.

    Attributes:
      agents: what distinguishes them, any pytree with leading axis [n].
      rate: [n] c_i > 0, currency per sample.
      fixed: [n] d_i, paid at s_i = 0 too.
      budget: [n] B_i.
      capacity: [n] most samples.
      utility: u(agent, b, S) of ONE agent, concave in (b, S).
    """

    agents: Any
    rate: jax.Array
    fixed: jax.Array
    budget: jax.Array
    capacity: jax.Array
    utility: Callable[[Any, jax.Array, jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    @property
    def n(self) -> int:
        return len(self.budget)


@flax.struct.dataclass
class BudgetEquilibrium:
    """Where best responses under budgets end.

    Attributes:
      profile: [n] contributions, samples.
      unspent: [n] b_i; negative for agents who cannot pay what the others' costs oblige them to.
      nash_gap: [n] what each could gain by a deviation that she can afford; 0 for stranded ones.
      stranded: [n] whether she has no feasible action, given what the others do.
      converged: nobody is stranded and no gap exceeds tolerance · max(1, |u_i|).
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
    """A `BudgetGame` whose numbers are checked; those given once are everybody's.

    Without `capacity` it is what all budgets together can pay for, Σ B_j / c_i: as payments balance,
    nobody can spend more.

    Raises:
      ValueError: a rate that is not positive, a number that is negative or not finite, or shapes that
        do not fit.
    """
    budget = np.atleast_1d(np.asarray(budget, float))
    numbers = {"rate": rate, "fixed": fixed, "budget": budget}
    numbers["capacity"] = budget.sum() / np.asarray(rate, float) if capacity is None else capacity
    for name, x in numbers.items():
        x = np.asarray(x, float)
        if x.shape not in ((), budget.shape):
            raise ValueError(f"`{name}` must be one number or {len(budget)}, got shape {x.shape}")
        if not np.all(np.isfinite(x) & ((x > 0) if name == "rate" else (x >= 0))):
            raise ValueError(
                f"`{name}` must be finite and {'above' if name == 'rate' else 'at least'} 0, got {x}"
            )
        numbers[name] = jnp.broadcast_to(jnp.asarray(x), budget.shape)
    return BudgetGame(agents, utility=utility, **numbers)


def with_budgets(game: games.Game, budget: Any) -> BudgetGame:
    """The quasi-linear special case u_i = b_i + v_i a_i(S), where u_i - B_i is the game's utility.

    Raises:
      ValueError: the payoff is not one of S, costs are not linear, or samples differ in quality.
    """
    if not game.payoff.of_total or not isinstance(game.cost, costs.LinearCost) or np.any(game.quality != 1.0):
        raise ValueError("Section 4's model needs payoffs of S, linear costs, and samples of one quality")
    n = game.n

    def each(x: Any, core_ndim: int) -> jax.Array:
        x = jnp.asarray(x, float)
        return x if x.ndim > core_ndim else jnp.broadcast_to(x, (n, *x.shape))

    payoff = jax.tree.map(lambda x: each(x, game.payoff.core_ndim), game.payoff)
    agents = (payoff, each(game.value, 0), jnp.full(n, game.held, float))
    budget = np.broadcast_to(np.asarray(budget, float), (n,))
    return budget_game(_quasi_linear, agents, game.cost.rate, budget, game.cost.fixed, game.capacity)


def _quasi_linear(agent: Any, unspent: jax.Array, total: jax.Array) -> jax.Array:
    payoff, value, held = agent
    return unspent + value * payoff.curve(held + total)


def unspent(game: BudgetGame, beta: Any, s: jax.Array) -> jax.Array:
    """b_i = B_i - c_i(s_i) + p_i(s), [n]; feasible where it is at least 0."""
    spent = game.rate * s + game.fixed
    return game.budget - spent + budget_balanced.payments(beta, spent)


def utilities(game: BudgetGame, beta: Any, s: jax.Array) -> jax.Array:
    """u_i(b_i, S) under M_β, [n], whether or not b_i ≥ 0."""
    return jax.vmap(game.utility, (0, 0, None))(game.agents, unspent(game, beta, s), jnp.sum(s))


def marginals(game: BudgetGame, beta: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """∂u_i/∂b_i and ∂u_i/∂S, [n] each."""
    slopes = jax.vmap(jax.grad(game.utility, argnums=(1, 2)), (0, 0, None))
    return slopes(game.agents, unspent(game, beta, s), jnp.sum(games.as_profile(s)))


def best_response(game: BudgetGame, beta: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every agent's best feasible contribution, [n], and who has none, [n]: those get 0."""
    s = games.as_profile(s)
    return jax.vmap(lambda i: _respond(game, beta, s, i))(jnp.arange(game.n))


def _respond(game: BudgetGame, beta: Any, s: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Agent i's u along her own contribution is concave: bisection of its slope on what she can afford."""
    agent = jax.tree.map(lambda x: x[i], game.agents)
    price = (1.0 - beta) * game.rate[i]
    idle, others = unspent(game, beta, s)[i] + price * s[i], jnp.sum(s) - s[i]  # idle: b_i at s_i = 0
    affordable = idle / jnp.where(price > 0, price, 1.0)
    top = jnp.maximum(jnp.where(price > 0, jnp.minimum(game.capacity[i], affordable), game.capacity[i]), 0.0)

    def u(x: jax.Array) -> jax.Array:
        return game.utility(agent, jnp.maximum(idle - price * x, 0.0), others + x)

    def halve(_: int, bracket: tuple) -> tuple:
        low, high = bracket
        middle = (low + high) / 2
        rising = jax.grad(u)(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    low, high = jax.lax.fori_loop(0, 100, halve, (jnp.zeros_like(top), top))
    x = jnp.stack([jnp.zeros_like(top), (low + high) / 2, top])
    values = jax.vmap(u)(x)
    best = x[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))]
    return jnp.where(idle < 0, 0.0, best), idle < 0


def nash_gap(game: BudgetGame, beta: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each could gain by a deviation that she can afford, [n], and who has no feasible action, [n].

    An agent who overspends at s although she need not has an infinite gap.
    """
    s = games.as_profile(s)
    best, stranded = best_response(game, beta, s)
    moved = jax.vmap(lambda i, x: utilities(game, beta, s.at[i].set(x))[i])(jnp.arange(game.n), best)
    gain = jnp.maximum(moved - utilities(game, beta, s), 0.0)
    slack = 1e-12 * jnp.maximum(1.0, game.budget)
    return jnp.where(stranded, 0.0, jnp.where(unspent(game, beta, s) < -slack, jnp.inf, gain)), stranded


def solve(
    game: BudgetGame, beta: Any, start: Any = None, sweeps: int = 1_000, tolerance: float = 1e-9
) -> BudgetEquilibrium:
    """Best responses in turn, until nobody moves; then the certificate.

    Args:
      game: n ≥ 2 agents.
      beta: β in [0, 1].
      start: [n] profile; None is nobody contributing.
      sweeps: most rounds. No theorem says that they end here: `converged` tells.
      tolerance: of the certificate.
    """
    first = jnp.zeros(game.n) if start is None else games.as_profile(start)

    def turn(i: int, s: jax.Array) -> jax.Array:
        return s.at[i].set(_respond(game, beta, s, i)[0])

    def body(carry: tuple) -> tuple:
        s, _, k = carry
        new = jax.lax.fori_loop(0, game.n, turn, s)
        return new, jnp.max(jnp.abs(new - s)), k + 1

    def going(carry: tuple) -> jax.Array:
        s, moved, k = carry
        return (moved > 1e-13 * jnp.maximum(jnp.max(s), 1e-300)) & (k < sweeps)

    s, _, k = jax.lax.while_loop(going, body, (first, jnp.asarray(jnp.inf), jnp.asarray(0)))
    gap, stranded = nash_gap(game, beta, s)
    u = utilities(game, beta, s)
    good = jnp.all((gap <= tolerance * jnp.maximum(1.0, jnp.abs(u))) & ~stranded)
    return BudgetEquilibrium(s, unspent(game, beta, s), gap, stranded, good, k)
