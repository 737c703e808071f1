"""Equilibria of games of effective samples by complementary pivoting, where best responses do not settle.

Agent i stops where v_i f_i'(z_i) = c_i'(s_i): where her effective samples z_i = (W s)_i are as many as she
wants at her marginal cost, g_i(c_i'(s_i)) with g_i the inverse of v_i f_i'. So with H(s) = W s - g(c'(s)) an
equilibrium has, for every i,

    H_i ≥ 0 where s_i = 0,    H_i = 0 where 0 < s_i < τ_i,    H_i ≤ 0 where s_i = τ_i.

With linear costs g is constant and this a linear complementarity problem in a box. Lemke's method (1965)
solves it: with H + θ e, e > 0, nobody shares anything for a large θ; from there a path of solutions, linear
between the points at which some agent meets a bound or leaves it, is followed until θ = 0, also where θ rises
for a while. The path cannot end elsewhere, as in a box it can only return to where nobody shares. With other
costs H is linearised, by Newton's method (Josephy 1979).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import responses
from fedgame.games import game as games
from fedgame.games import payoffs

_NEWTON = 60  # maximum number of linearisations
_PRECISION = 1e-13  # of the profile, relative to its largest entry
_TRUST = 4.0  # factor by which a contribution may change in a linearisation
_PATHS = 8  # paths that are tried
_PIVOTS = 20  # maximum number of pivots per agent on one path; most paths need one
_RENEW = 20  # pivots after which the inverse is made exact again
_AT_0, _BETWEEN, _AT_CAPACITY = range(3)


class Solution(NamedTuple):
    """Where the search ended."""

    profile: np.ndarray  # [n] samples
    change: float  # of the profile in the last linearisation, relative to its largest entry
    pivots: int


def applies(game: games.Game) -> bool:
    """Whether the game is one of effective samples with concave curves, in which own samples count."""
    payoff = game.payoff
    return isinstance(payoff, payoffs.EffectiveSamples) and game.concave and not payoff.separable


def find(game: games.Game) -> Solution:
    """An equilibrium; not for use inside jit.

    H is linearised first where everybody contributes what she would alone, which is more than she does beside
    others. No contribution changes by more than a factor of `_TRUST` in one step of Newton's method, because
    with costs such as c s^x, g(c'(s)) is infinite at 0.

    Args:
      game: n agents, one for which `applies` is true, checked.

    Raises:
      ArithmeticError: as `solve_linear`.
    """
    rates, capacity = np.asarray(game.payoff.rates), np.asarray(game.capacity, float)
    s, pivots, change = np.asarray(_alone(game)), 0, np.inf
    for _ in range(_NEWTON):
        wanted, slope = (np.asarray(x) for x in _wanted(game, jnp.asarray(s)))
        # H near s is W x - wanted - slope (x - s), with slope ≤ 0.
        new, steps = solve_linear(rates - np.diag(slope), slope * s - wanted, capacity)
        pivots += steps
        if not np.any(slope):
            return Solution(new, 0.0, pivots)
        change = float(np.max(np.abs(new - s)) / max(np.max(new), np.finfo(float).tiny))
        if change <= _PRECISION:
            break
        s = np.clip(new, s / _TRUST, s * _TRUST)
    return Solution(new, change, pivots)


@jax.jit
def _alone(game: games.Game) -> jax.Array:
    """[n] what each would contribute if nobody else did."""
    return games.over_agents(responses.respond)(game, jnp.zeros_like(game.capacity))


@jax.jit
def _wanted(game: games.Game, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """g_i(c_i'(s_i)) of every agent, [n] effective samples, and its derivative in s_i."""
    most = 2.0 * jnp.max(game.payoff.rates @ game.capacity) + 1.0  # more than anybody can have

    def one(agent: games.Game, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        curve, marginal = agent.payoff.data_to_accuracy, jax.grad(agent.cost.value)
        slope = jax.grad(lambda z: agent.value * curve.curve(z))
        start = jnp.clip(curve.pays_from() * (1.0 + 1e-12), 0.0, most)

        def at(own: jax.Array) -> jax.Array:
            price = marginal(own)

            def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                low, high = ends
                middle = (low + high) / 2
                more = slope(middle) > price
                return jnp.where(more, middle, low), jnp.where(more, high, middle)

            low, high = jax.lax.fori_loop(0, 100, halve, (start, most))
            return (low + high) / 2

        worth_it = slope(start) > marginal(own)
        wanted = jnp.where(worth_it, at(own), 0.0)
        # By the implicit function theorem g' = c'' / (v f''); 0 where she wants nothing, or all there is.
        bend, cost_bend = jax.grad(slope)(wanted), jax.grad(marginal)(own)
        inside = (
            worth_it & (wanted > start) & (wanted < most * (1 - 1e-9)) & (bend < 0) & jnp.isfinite(cost_bend)
        )
        return wanted, jnp.where(inside, cost_bend / jnp.where(inside, bend, -1.0), 0.0)

    return jax.vmap(one, (games.agent_axes(game), 0))(game, s)


def solve_linear(matrix: np.ndarray, offset: np.ndarray, capacity: np.ndarray) -> tuple[np.ndarray, int]:
    """The solution of a linear complementarity problem in a box at the end of Lemke's path.

    Args:
      matrix: M [n, n].
      offset: q [n].
      capacity: [n].

    Returns:
      s in [0, capacity] such that H = M s + q is ≥ 0 where s_i = 0, ≤ 0 where s_i = capacity_i, and 0 in
      between; and the number of pivots.

    Raises:
      ArithmeticError: of several paths none has ended: each took too many pivots, or rounding hid where it
        goes on.
    """
    movable = np.flatnonzero(capacity > 0)
    s = np.zeros(len(capacity))
    if not len(movable):
        return s, 0
    part = matrix[np.ix_(movable, movable)], offset[movable], capacity[movable]
    pivots = 0
    for number in range(_PATHS):
        path = _Path(*part, number)
        found = path.end()
        pivots += path.pivots
        if found is not None:
            s[movable] = found
            return s, pivots
    raise ArithmeticError("the path of solutions is too long, or lost by rounding")


class _Path:
    """The path of solutions of H + θ e for positive capacities, from a large θ on."""

    def __init__(self, matrix: np.ndarray, offset: np.ndarray, capacity: np.ndarray, number: int):
        n = len(offset)
        self.matrix, self.capacity = matrix, capacity
        self.columns = np.ascontiguousarray(matrix.T)  # a few columns are read in every step
        self.constant = np.array(offset)  # q, and what agents at capacity add to H
        # On the first path e is 1, as if everybody had θ effective samples already, but for a little, so that
        # no two agents meet a bound at the same θ. How long a path is, is chance: others have another e.
        spread = 1e-9 if number == 0 else 0.3
        self.rise = 1.0 + spread * np.random.default_rng(number).random(n)
        self.state = np.full(n, _AT_0)
        self.between: list[int] = []  # agents between bounds, in the order of the inverse
        self.inverse = np.zeros((0, 0))  # of M, rows and columns of `between`
        self.pivots = 0

    def end(self) -> np.ndarray | None:
        """The solution at θ = 0; None if the path is too long, or rounding hides where it goes on."""
        theta, direction = np.inf, -1.0
        at_0, rate = self.line()
        while self.pivots < _PIVOTS * len(self.capacity) + 1000:
            meets, up = self.meetings(at_0, rate, theta, direction)
            who = int(np.argmax(-direction * meets))
            if direction < 0 and meets[who] <= 0:
                s = np.where(self.state == _BETWEEN, at_0, np.where(self.state == _AT_0, 0.0, self.capacity))
                return np.clip(s, 0.0, self.capacity)
            if not np.isfinite(meets[who]):
                return None
            theta = meets[who]
            try:
                rises = self.pivot(who, bool(up[who]))
            except ZeroDivisionError:
                return None
            at_0, rate = self.line()
            # θ goes where agent `who` is then on the right side of the bound.
            direction = 1.0 if (rate[who] > 0) == rises else -1.0
        return None

    def line(self) -> tuple[np.ndarray, np.ndarray]:
        """At θ = 0, and per θ: contributions of agents between bounds, and H of the others, [n] each."""
        both = np.stack([self.constant, self.rise])
        moving = -both[:, self.between] @ self.inverse.T
        with np.errstate(over="ignore", invalid="ignore"):  # rates may be huge: then the path ends
            both += moving @ self.columns[self.between]
        both[:, self.between] = moving
        return both[0], both[1]

    def meetings(
        self, at_0: np.ndarray, rate: np.ndarray, theta: float, direction: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The θ at which each agent meets the bound that she moves to, and whether that is above her."""
        low = np.where(self.state == _AT_CAPACITY, -np.inf, 0.0)
        above = np.where(self.state == _AT_CAPACITY, 0.0, np.inf)
        high = np.where(self.state == _BETWEEN, self.capacity, above)
        up = direction * rate > 0
        bound = np.where(up, high, low)
        some = np.isfinite(bound) & (rate != 0)
        meets = (np.where(some, bound, 0.0) - at_0) / np.where(some, rate, 1.0)
        # Where rounding puts a meeting behind θ, it is now.
        meets = np.minimum(meets, theta) if direction < 0 else np.maximum(meets, theta)
        return np.where(some, meets, direction * np.inf), up

    def pivot(self, who: int, up: bool) -> bool:
        """Moves an agent who has met an upper or a lower bound to her next state.

        Returns:
          Whether her contribution, or her H if she is at a bound now, must rise from there on.
        """
        before, self.pivots = self.state[who], self.pivots + 1
        if before == _BETWEEN:  # at capacity her H must fall below 0, at 0 rise above it
            self.state[who] = _AT_CAPACITY if up else _AT_0
            if up:
                self.constant += self.capacity[who] * self.columns[who]
            self.drop(who)
            return not up
        self.state[who] = _BETWEEN
        if before == _AT_CAPACITY:
            self.constant -= self.capacity[who] * self.columns[who]
        self.add(who)
        return before == _AT_0

    def add(self, who: int) -> None:
        """Adds an agent to those between bounds, and her row and column to the inverse."""
        here, k = self.between, len(self.between)
        right = self.inverse @ self.matrix[here, who]
        left = self.matrix[who, here] @ self.inverse
        pivot = self.matrix[who, who] - self.matrix[who, here] @ right
        if pivot == 0.0:
            raise ZeroDivisionError
        new = np.empty((k + 1, k + 1))
        new[:k, :k] = self.inverse + np.outer(right, left) / pivot
        new[:k, k], new[k, :k], new[k, k] = -right / pivot, -left / pivot, 1.0 / pivot
        self.between = [*here, who]
        self.inverse = self.renewed(new)

    def drop(self, who: int) -> None:
        """Takes an agent out of those between bounds, and her row and column out of the inverse."""
        at = self.between.index(who)
        column, row = np.delete(self.inverse[:, at], at), np.delete(self.inverse[at], at)
        rest = np.delete(np.delete(self.inverse, at, axis=0), at, axis=1)
        pivot = self.inverse[at, at]
        self.between = [i for i in self.between if i != who]
        if pivot == 0.0:
            raise ZeroDivisionError
        self.inverse = self.renewed(rest - np.outer(column, row) / pivot)

    def renewed(self, inverse: np.ndarray) -> np.ndarray:
        """The inverse, with one step of Newton's method now and then: updates add up rounding errors."""
        if self.pivots % _RENEW:
            return inverse
        part = self.matrix[np.ix_(self.between, self.between)]
        return inverse @ (2.0 * np.eye(len(part)) - part @ inverse)
