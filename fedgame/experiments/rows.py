"""What several experiments write in their rows: curves, what a mechanism announces, the largest Nash gap."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms.base import Mechanism

# Columns that `outcome.csv` of launch.mechanism and `utilities.csv` of launch.compare have in any case.
_OF_OUTCOME = (
    "name, contribution, capacity, payoff, cost, utility, nash_gap, stays, exact_payment, payment, outside, "
    "without_payments"
)
_OF_UTILITIES = (
    "protocol, seed, agent, contribution, charged, accuracy, withheld, cost, payment, utility, "
    "held_out_utility"
)
_TAKEN = {*_OF_OUTCOME.split(", "), *_OF_UTILITIES.split(", ")}


@jax.jit
def at(game: games.Game, s: jax.Array) -> dict[str, jax.Array]:
    """What agents have at a profile s [n] without payments.

    Returns:
      By column: `payoff` a_i(s), `cost` c_i(s_i) and `utility` u_i(s), [n] each; `total`, S; and `statistic`,
      what payoffs see of s, which is S for payoffs of the total.
    """
    return {
        "payoff": games.payoff_values(game, s),
        "cost": games.incurred_costs(game, s),
        "utility": games.utilities(game, s),
        "total": games.total(game, s),
        "statistic": games.statistic(game, s),
    }


@jax.jit
def curve_at(game: games.Game, i: int, totals: jax.Array) -> jax.Array:
    """Agent i's accuracy at totals [k], in samples; only for payoffs that depend on s through the total."""
    return jax.vmap(games.agent_of(game, i).payoff.curve)(totals)


def of_columns(columns: Mapping[str, Any], n: int) -> list[dict[str, float]]:
    """Returns n rows of plain numbers from columns [n], by name."""
    numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
    return [{name: column[i] for name, column in numbers.items()} for i in range(n)]


def curve(
    agent: str, totals: Any, accuracy: Any, band: tuple[Any, Any] | None = None
) -> list[dict[str, Any]]:
    """Rows of `fitted_curve.csv`, one for each total.

    Args:
      agent: whose curve it is; "" if all agents share it.
      totals: [k] samples.
      accuracy: [k] at these totals.
      band: lower and upper ends, [k] each, of the interval around the curve; None: the cells stay empty.
    """
    nothing = [None] * len(totals)
    lower, upper = (nothing, nothing) if band is None else band
    return [
        {"agent": agent, "samples": float(total), "accuracy": float(a), "low": low, "high": high}
        for total, a, low, high in zip(totals, accuracy, lower, upper, strict=True)
    ]


def announced(mechanism: Mechanism, n: int) -> dict[str, Any]:
    """What each of n agents is told, [n] by column; no column has the name of another one of the table."""
    return {_column(name): numbers for name, numbers in mechanism.announced(n).items()}


def shown(mechanism: Mechanism) -> dict[str, str]:
    """The headers of those columns of `announced` that are printed, by column."""
    return {_column(name): header for name, header in mechanism.columns.items()}


def _column(name: str) -> str:
    return f"announced_{name}" if name in _TAKEN else name


def told(mechanism: Mechanism, n: int) -> str:
    """What n agents are told, in a few characters: β = 0.9, or β_i = 0.85 to 0.95."""
    numbers = mechanism.announced(n)
    return ", ".join(_span(label, numbers[name]) for name, label in mechanism.columns.items())


def _span(label: str, numbers: Any) -> str:
    numbers = np.asarray(numbers)
    low, high = float(np.min(numbers)), float(np.max(numbers))
    if low == high:
        return f"{label.removesuffix('_i')} = {low:.6g}"
    return f"{label} = {low:.6g} to {high:.6g}"


@jax.jit
def largest_gap(game: games.Game, mechanism: Mechanism, s: jax.Array) -> jax.Array:
    """The largest Nash gap of a profile s [n] in the game under a mechanism, in the currency of utilities."""
    return jnp.max(certificates.nash_gap(mechanism.under(game), s))
