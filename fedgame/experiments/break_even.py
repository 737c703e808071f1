"""Why nobody shares: for whom a sample is nearest to worth what it costs, and from where on it would be."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.games import game as games
from fedgame.mechanisms import base, refunds

_NEGLIGIBLE = 1e-9  # share of her capacity below which a contribution counts as 0, up to rounding
# Shares of her capacity at which an agent's average gain is evaluated, beside the slope at 0.
_SHARES = np.union1d(np.geomspace(1e-6, 1.0, 241), np.linspace(1 / 256, 1.0, 256))


def nothing(s: Any, capacity: Any) -> Any:
    """Whether contributions are 0 up to rounding; one sample is not, however many more there could be."""
    return s <= np.minimum(_NEGLIGIBLE * capacity, 1.0)


def nobody_shares(
    game: games.Game, s: Any, names: Sequence[Any], mechanism: base.Mechanism | None = None
) -> dict[str, Any] | None:
    """Why sharing pays for nobody at a certified equilibrium.

    Of every agent, what she gains by sharing alone is divided by what that costs her, at the number of
    samples at which this is largest: the first one where gains fall, more where a curve starts flat.

    Args:
      game: n agents.
      s: [n] the equilibrium, samples.
      names: of the agents.
      mechanism: under which it is one; None: without payments.

    Returns:
      JSON values, None if somebody shares. `agent`: her for whom it is nearest to worth it, None if it brings
      nobody anything; `cost` and `brings`, per sample, on average over `samples` (0: of the first one), what
      payments change included; `value`; `break_even_cost` and `break_even_value`, from which it would pay
      (the value is None where payments depend on more than costs); `payments`: whether there are any.
    """
    if not np.all(nothing(np.asarray(s), np.asarray(game.capacity))):
        return None
    paid = mechanism is not None and bool(np.any(_rates(mechanism)))
    played = mechanism.under(game) if paid else game
    brings, cost, samples = (np.asarray(x) for x in _averages(played))
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = np.where(brings > 0, brings / cost, 0.0)
    worth = np.where(np.isfinite(worth), worth, 0.0)
    best = int(np.argmax(worth))
    if not worth[best] > 0:
        return {"agent": None, "payments": paid}
    value = float(np.broadcast_to(game.value, (game.n,))[best])
    only_costs = not paid or isinstance(mechanism, refunds.Refunds)
    return {
        "agent": str(names[best]),
        "cost": float(cost[best]),
        "brings": float(brings[best]),
        "samples": float(samples[best]),
        "value": value,
        "break_even_cost": float(brings[best]),
        "break_even_value": float(value / worth[best]) if only_costs else None,
        "payments": paid,
    }


def _rates(mechanism: base.Mechanism) -> Any:
    """What of a mechanism changes what sharing brings or costs: of refunds the rates alone."""
    return mechanism.rates if isinstance(mechanism, refunds.Refunds) else True


@jax.jit
def _averages(game: games.Game) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a sample brings each agent and what it costs her, [n], and over how many samples on average."""

    def one(agent: games.Game, own: jax.Array, rest: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        def worth(x: jax.Array) -> jax.Array:
            return agent.value * agent.payoff.value(agent.quality * x, rest)

        x = jnp.asarray(agent.capacity, own.dtype) * jnp.asarray(_SHARES, own.dtype)
        gained = (jax.lax.map(worth, x) - worth(own)) / x
        spent = (jax.vmap(agent.cost.value)(x) - agent.cost.value(own)) / x
        brings = jnp.append(jax.grad(worth)(own), gained)
        cost = jnp.append(jax.grad(agent.cost.value)(own), spent)
        ratio = jnp.where(brings > 0, brings / cost, 0.0)
        best = jnp.argmax(jnp.where(jnp.isfinite(ratio), ratio, 0.0))
        return brings[best], cost[best], jnp.append(0.0, x)[best]

    return games.over_agents(one)(game, jnp.zeros_like(game.capacity))
