"""What several experiments write in their rows: curves, what a mechanism announces, the largest Nash gap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms.base import Mechanism

_OWN = (  # columns of agents that are no mechanism's
    *("name", "protocol", "seed", "agent", "contribution", "capacity", "payoff", "cost", "utility"),
    *("nash_gap", "stays", "exact_payment", "payment", "outside", "without_payments", "charged"),
    *("accuracy", "withheld", "held_out_utility"),
)


@jax.jit
def at(game: games.Game, s: jax.Array) -> dict[str, jax.Array]:
    """What agents have at a profile s [n] without payments: [n] each, but for the totals."""
    return {
        "payoff": games.payoff_values(game, s),
        "cost": games.incurred_costs(game, s),
        "utility": games.utilities(game, s),
        "total": games.total(game, s),
        "statistic": games.statistic(game, s),
    }


@jax.jit
def curve_at(game: games.Game, i: int, totals: jax.Array) -> jax.Array:
    """Agent i's accuracy at totals [k], for payoffs of the total."""
    return jax.vmap(games.agent_of(game, i).payoff.curve)(totals)


def curve(
    agent: str, totals: Any, accuracy: Any, band: tuple[Any, Any] | None = None
) -> list[dict[str, Any]]:
    """Rows of `fitted_curve.csv`: `agent` is "" where all share it, `band` its lower and upper ends."""
    low, high = ([None] * len(totals),) * 2 if band is None else band
    return [
        {"agent": agent, "samples": float(s), "accuracy": float(a), "low": low, "high": high}
        for s, a, low, high in zip(totals, accuracy, low, high, strict=True)
    ]


def announced(mechanism: Mechanism, n: int) -> dict[str, Any]:
    """[n] what n agents are told, by column, none of which is another one of the table."""
    return {_column(name): x for name, x in mechanism.announced(n).items()}


def shown(mechanism: Mechanism) -> dict[str, str]:
    """Those of these columns that are printed, and their headers."""
    return {_column(name): header for name, header in mechanism.columns.items()}


def _column(name: str) -> str:
    return f"announced_{name}" if name in _OWN else name


def told(mechanism: Mechanism, n: int) -> str:
    """What n agents are told, in a few characters: β = 0.9, or β_i = 0.85 to 0.95."""
    numbers = mechanism.announced(n)
    return ", ".join(_span(label, numbers[name]) for name, label in mechanism.columns.items())


def _span(label: str, numbers: Any) -> str:
    low, high = float(np.min(numbers)), float(np.max(numbers))
    return f"{label.removesuffix('_i')} = {low:.6g}" if low == high else f"{label} = {low:.6g} to {high:.6g}"


@jax.jit
def largest_gap(game: games.Game, mechanism: Mechanism, s: jax.Array) -> jax.Array:
    """The largest Nash gap of a profile [n] in the game under a mechanism, in the currency of utilities."""
    return jnp.max(certificates.nash_gap(mechanism.under(game), s))
