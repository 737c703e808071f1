"""Personal rates: a budget-balanced mechanism whose equilibrium is the utilitarian optimum.

Let s* maximise Σ u_j, and let λ_i = Σ_j v_j ∂a_j/∂s_i be what one more sample of agent i is worth to all
at s*, of which m_i = v_i ∂a_i/∂s_i is hers. Take

    β_i = 1 - m_i / λ_i,

with which she bears the share m_i / λ_i of her costs: her share of what they bring (Lindahl's prices). For
payoffs of S it is v_i a_i'(S*) / Σ_j v_j a_j'(S*), and 1/n if payoffs are identical.

s* is an equilibrium: her utility is concave in s_i, with slope m_i - (1-β_i) c_i'(s*_i) = (m_i/λ_i)(λ_i -
c_i'(s*_i)) at s*, and λ_i - c_i' is 0 at an interior s*_i, ≥ 0 at capacity and ≤ 0 at 0, because s* is
an optimum. So no deviation gains. Payments sum to 0, so Σ u_i = max Σ u_j, and no p-mean with p ≤ 1 of
utilities with this sum exceeds (max Σ u_j)/n: constants t_i that make utilities equal at s* attain that.

Four exceptions:

- Agents with linear costs equal to λ_i are indifferent. Other splits of S* are then equilibria too, at which
  t_i no longer equalises. In `optimum.first_best` such agents contribute in turn, so at most one of them is
  strictly between 0 and her capacity. Those at 0 get β_i = 0 and those at capacity a larger β_i, so that
  they are not indifferent. (For records of equal costs likewise, see `OrderedCost`.)
- If m_i = 0 she is reimbursed in full and indifferent, so no rate makes s*_i her only best response.
- Payoffs (2) and (3), clipped at 0, are not concave: an agent whose payoff at s* is still small may prefer
  to give nothing. `Personal.certified` tells.
- Equal utilities may leave an agent worse off than she is elsewhere, where she has r_i. `TRANSFERS` has two
  other aims: everybody r_i and an equal part of what is gained in all, r_i + (Σ u_j - Σ r_j)/n, which is Nash
  bargaining with transfers; or max(r_i, level), which has the largest p-means of all that give everybody r_i.

What the server must know: every agent's marginal payoff at s* for the rates, and all payoffs and costs for
s* and t_i. Agents can misreport them: see `misreports`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms import optimum, refunds

BARGAINING, EQUAL, P_MEAN = TRANSFERS = ("bargaining", "equal", "p_mean")


class Personal(NamedTuple):
    """Personal rates and transfers, and what they lead to."""

    mechanism: refunds.Refunds
    profile: jax.Array  # [n] s*, an equilibrium under the rates
    utilities: jax.Array  # [n] with all payments
    nash_gap: jax.Array  # [n] what each could still gain by deviating from s*: 0 where utilities are concave
    certified: bool  # whether s* is an equilibrium under the rates, see `certificates.is_equilibrium`
    alone: jax.Array  # [n] what each agent has by training alone, see `alone`
    proved: bool  # whether s* is proved to be the utilitarian optimum


def personal_rates(game: games.Game, outside: Any = None, transfers: str = BARGAINING) -> Personal:
    """Personal rates β_i = 1 - m_i / λ_i, and transfers, with the certificate of s*.

    Args:
      game: n ≥ 2 agents; utilities concave in own contributions.
      outside: r_i, [n] or one number, what agents have elsewhere, currency; None: `alone(game)`.
      transfers: the aim of the transfers, one of `TRANSFERS`, see `divided`.

    Raises:
      ValueError: as `divided`.
    """
    best = optimum.first_best(game)
    mechanism = mechanism_at(game, best, outside, transfers)
    found, certified = _certify(mechanism.under(game), best.profile)
    utilities = mechanism.utilities(game, best.profile)
    return Personal(mechanism, best.profile, utilities, found.gap, bool(certified), alone(game), best.proved)


def mechanism_at(
    game: games.Game, best: optimum.FirstBest, outside: Any = None, transfers: str = BARGAINING
) -> refunds.Refunds:
    """The rates and transfers of `personal_rates`, for a first best that is known.

    Args:
      game: as in `personal_rates`.
      best: its first best.
      outside, transfers: as in `personal_rates`.

    Raises:
      ValueError: as `personal_rates`.
    """
    rates = _rates(game, best.profile)
    refunds.check_beta(rates, game.n)
    before = _utilities(game, rates, best.profile)
    return refunds.Refunds(rates, divided(game, before, best.welfare, outside, transfers))


_utilities = jax.jit(refunds.utilities)


@jax.jit
def _rates(game: games.Game, s: jax.Array) -> jax.Array:
    """β_i = 1 - m_i / price_i, [n], with price_i = λ_i unless agent i would then be indifferent."""
    own = games.over_agents(
        jax.grad(lambda agent, x, rest: agent.value * agent.payoff.value(agent.quality * x, rest), argnums=1)
    )(game, s)
    worth = jax.grad(lambda s: jnp.sum(game.value * games.payoff_values(game, s)))(s)  # λ
    below, above = (games.marginal_costs(game, s * factor) for factor in (1.0 - 1e-9, 1.0 + 1e-9))
    above = jnp.minimum(jnp.where(s >= game.capacity, jnp.inf, above), 3.0 * worth)  # finite at capacity
    # Her utility has slope (m_i / price_i) (price_i - c_i') at s*_i. At her capacity, or between two records,
    # c_i' jumps there: the last sample costs `below`, the next one `above`. If one of the two is λ_i she is
    # indifferent to that sample. A price halfway between them gives the slope a sign on either side.
    next_tied = (above <= worth * (1.0 + 1e-7)) & (below < worth * (1.0 - 1e-6))
    last_tied = (below >= worth * (1.0 - 1e-7)) & (above > worth * (1.0 + 1e-6))
    price = jnp.where(next_tied, (below + worth) / 2, jnp.where(last_tied, (above + worth) / 2, worth))
    rates = 1.0 - own / jnp.where(worth > 0, price, 1.0)
    return jnp.where((s > 0) & (worth > 0), jnp.clip(rates, 0.0, 1.0), 0.0)


def divided(
    game: games.Game, utilities: jax.Array, welfare: float, outside: Any = None, transfers: str = BARGAINING
) -> jax.Array:
    """Transfers that divide the sum of utilities.

    Args:
      game: n agents.
      utilities: [n] without transfers.
      welfare: their sum.
      outside: r_i, [n] or one number, what agents have elsewhere; None: `alone(game)`.
      transfers: "bargaining": everybody has r_i and an equal part of the surplus, also of a negative one;
        "equal": all have the same; "p_mean": all that have more than r_i have the same.

    Returns:
      t_i, [n], currency; they sum to 0.

    Raises:
      ValueError: an r_i is not a finite number; with "p_mean", Σ r_i exceeds `welfare`.
    """
    n = len(utilities)
    if transfers not in TRANSFERS:
        raise ValueError(f"`transfers` must be one of {', '.join(TRANSFERS)}, got {transfers!r}")
    target = np.full(n, welfare / n)
    if transfers != EQUAL:
        least = np.broadcast_to(np.asarray(alone(game) if outside is None else outside, float), (n,))
        if transfers == P_MEAN:
            target = at_least(least, welfare)
        elif not np.all(np.isfinite(least)):
            raise ValueError(f"what agents have outside must be finite, got {least}")
        else:
            target = least + (welfare - np.sum(least)) / n
    amounts = target - utilities
    return amounts - jnp.mean(amounts)


def at_least(outside: np.ndarray, total: float) -> np.ndarray:
    """max(r_i, level), [n], for r = `outside`, [n], with the level that makes the sum `total`.

    Raises:
      ValueError: Σ r_i exceeds `total`, or an r_i is NaN.
    """
    if not outside.sum() - total <= 1e-12 * (np.abs(outside).sum() + abs(total)):
        raise ValueError(
            f"no transfers leave everybody at least what she has outside: that is {outside.sum():.6g} in "
            f"all, and the largest sum of utilities is {total:.6g}"
        )
    ascending = np.sort(outside)
    n = len(ascending)
    sums_from = np.cumsum(ascending[::-1])[::-1]  # [k] the sum of ascending[k:]
    kept_by_others = np.append(sums_from[1:], 0.0)  # if agents 0 … k are lifted to one level
    levels = (total - kept_by_others) / np.arange(1, n + 1)
    # The right k is the first whose level is not above what the next agent has; the last one has no next.
    fits = np.append(levels[:-1] <= ascending[1:], True)
    return np.maximum(outside, levels[np.argmax(fits)])


def alone(game: games.Game) -> jax.Array:
    """[n] max over x of v_i a_i(x, 0) - c_i(x) + c_i(0): what every agent has if she trains alone.

    She has only her own samples, not S₀, and pays no fixed cost c_i(0), which is one of being enrolled.
    """
    return _alone(game.replace(held=jnp.zeros(())))


def outside(game: games.Game, which: str) -> jax.Array:
    """[n] what every agent has if she leaves, currency.

    Args:
      game: n agents.
      which: one of `scenarios.OUTSIDE`. "alone": `alone`, where samples of her own cost her as much as
        shared ones; "own_records": a model of all τ_i records that she owns, at no cost; "nothing": 0.
    """
    if which == "nothing":
        return jnp.zeros(game.n)
    return alone(game) if which == "alone" else _of_own_records(game.replace(held=jnp.zeros(())))


@jax.jit
def _of_own_records(game: games.Game) -> jax.Array:
    """v_i a_i(τ_i, 0), [n]."""

    def one(agent: games.Game, own: jax.Array, rest: Any) -> jax.Array:
        del own
        return agent.value * agent.payoff.value(agent.quality * agent.capacity, rest)

    return games.over_agents(one)(game, jnp.zeros(game.n))


@jax.jit
def _alone(game: games.Game) -> jax.Array:
    nobody = jnp.zeros(game.n)
    return certificates.best_utility(game, nobody) + games.incurred_costs(game, nobody)


_certify = jax.jit(certificates.certify)
