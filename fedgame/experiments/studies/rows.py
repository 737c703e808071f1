"""What studies share: games on a measured curve, and a row of a table for what comes of a mechanism."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fedgame import mechanisms, registry
from fedgame.equilibria import solvers
from fedgame.games import curves
from fedgame.games import game as games
from fedgame.inputs import measurements
from fedgame.mechanisms import base, optimum, outcomes, personal
from fedgame.report import tables

RULES = ("none", "beta_star", "falkinger", "personal")  # the rules that studies compare
HEADER = {  # the headers of columns whose names do not say enough
    "beta": "β (mean β_i)",
    "total": "S, samples",
    "accuracy": "accuracy, mean",
    "nash_gap": "Nash gap",
    "extrapolated": "S not measured",
}
UNTOLD = ("only_total", "rather_nothing", "rather_alone", "certified", "proved")  # not printed by default


class Measured(NamedTuple):
    """A learning curve, as it was measured and as it was fitted."""

    fit: curves.Fit
    measurements: measurements.Measurements

    @property
    def longest(self) -> float:
        """The largest total that was measured, in samples."""
        return float(self.measurements.sizes[-1])


def read_curve(file: str, fit: str) -> Measured:
    """Reads and fits the curve in a file.

    Args:
      file: a CSV file as `inputs.measurements` describes, with one curve.
      fit: name of a payoff family.

    Raises:
      ValueError: the file is not as described, has several curves, or cannot be fitted.
      FileNotFoundError: there is no such file.
    """
    measured = measurements.read(file)
    if list(measured) != [""]:
        raise ValueError(f"{file} has a curve for each agent: a study needs one for all")
    (one,) = measured.values()
    try:
        return Measured(curves.fit(fit, one.sizes, one.accuracy), one)
    except ValueError as error:
        raise ValueError(f"{file}: --fit={fit}: {error}") from None


def spaced(cost: float, ratio: float, n: int) -> np.ndarray:
    """[n] costs, ascending and evenly spaced in logarithms.

    Args:
      cost: their geometric mean.
      ratio: the largest divided by the smallest.
      n: how many, at least 2.
    """
    return cost * ratio ** (np.arange(n) / (n - 1) - 0.5)


def outcome_row(
    game: games.Game,
    name: str,
    found: outcomes.Outcome,
    longest: float,
    powers: Sequence[float],
    best: optimum.FirstBest,
    alone: Any = None,
) -> dict[str, Any]:
    """The outcome under a mechanism, as one row of JSON values.

    Args:
      game: n agents without payments, with a payoff of the total.
      name: of the mechanism.
      found: the outcome under it.
      longest: the largest total at which the curve was measured, in samples.
      powers: the p of normalised p-means. A p-mean that a negative utility leaves undefined is None.
      best: the first best of the game.
      alone: [n] utilities of agents who train alone; None: the row has no column `rather_alone`.
    """
    s, u = np.asarray(found.equilibrium.profile), np.asarray(found.utilities)
    total = float(games.statistic(game, found.equilibrium.profile))
    rate = found.mechanism.announced(game.n).get("rate")
    row = {
        "mechanism": name,
        "beta": None if rate is None else float(np.mean(rate)),
        "total": total,
        "contributors": int(np.sum(s > 1e-9 * np.asarray(game.capacity))),  # 1e-9: up to rounding
        "only_total": bool(found.equilibrium.status == solvers.TOTAL_ONLY),
        "accuracy": float(jnp.mean(found.received)),
        **_means(found.utilities, powers),
        "share_of_first_best": float(np.sum(u)) / best.welfare,
        "rather_nothing": _prefer(game, found, np.zeros(game.n)),
    }
    if alone is not None:
        row["rather_alone"] = _prefer(game, found, alone)
    return row | {
        "nash_gap": float(np.max(found.equilibrium.nash_gap)),
        "certified": bool(found.equilibrium.converged),
        "extrapolated": total > longest,
        "proved": None,
    }


def bound_row(
    game: games.Game, row: dict[str, Any], longest: float, best: optimum.FirstBest
) -> dict[str, Any]:
    """The first best, as a row with the columns of `row`; None where a column does not apply.

    No budget-balanced mechanism has larger p-means, for p ≤ 1. `proved` is whether it is known that no
    profile has a larger sum of utilities.
    """
    total = float(games.statistic(game, best.profile))
    found = dict.fromkeys(row)
    for name in row:
        if name.startswith("p="):
            found[name] = best.welfare / game.n
    found["mechanism"] = tables.FIRST_BEST
    found["total"] = total
    found["contributors"] = int(np.sum(np.asarray(best.profile) > 0))
    found["accuracy"] = float(jnp.mean(games.payoff_values(game, best.profile)))
    found["share_of_first_best"] = 1.0
    found["extrapolated"] = total > longest
    found["proved"] = best.proved
    return found


def shares(where: str, mine: Sequence[dict[str, Any]]) -> str:
    """A sentence on the share of the first best that each mechanism reaches, `where` it does."""
    told = []
    for row in mine:
        if row["mechanism"] == tables.FIRST_BEST or row["share_of_first_best"] is None:
            continue
        doubt = "" if row["certified"] is not False else " (NO certified equilibrium)"
        told.append(f"{row['share_of_first_best']:.1%} under {tables.title(row['mechanism'])}{doubt}")
    if not told:
        return f"With {where} no mechanism has a share of the first best."
    return f"With {where} members have, of the utility of the first best, {', '.join(told)}."


def rule_of(text: str) -> base.Rule:
    """The rule of a text; that of "personal" makes utilities equal, as studies compare p-means."""
    rule = registry.read("rule", text)
    return rule.having(transfers=personal.EQUAL) if text == "personal" else rule


def outcomes_of(game: games.Game, names: Sequence[str] = RULES) -> dict[str, outcomes.Outcome]:
    """The outcomes under rules, by their texts (see `rule_of`), if all agents take part."""
    announced = {name: rule_of(name).announced(game) for name in names}
    return {name: outcomes.of_announcement(game, one) for name, one in announced.items()}


def rows_of(
    game: games.Game,
    found: dict[str, outcomes.Outcome],
    longest: float,
    powers: Sequence[float],
    alone: bool = True,
) -> list[dict[str, Any]]:
    """A row for every mechanism, and one for the first best.

    Args:
      game: n agents without payments, with a payoff of the total.
      found: the outcomes, by name of the mechanism.
      longest: the largest total at which the curve was measured, in samples.
      powers: the p of normalised p-means.
      alone: whether to count the agents who have more by training alone.
    """
    best = mechanisms.first_best(game)
    outside = mechanisms.alone(game) if alone else None
    table = [outcome_row(game, name, one, longest, powers, best, outside) for name, one in found.items()]
    return [*table, bound_row(game, table[0], longest, best)]


def powers_of(table: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The columns of p-means in a table, and their headers."""
    names = [name for name in table[0] if name.startswith("p=")]
    known = {"p=1": "mean utility", "p=-inf": "smallest utility"}
    return {name: known.get(name, f"p-mean, {name.replace('=', ' = ')}") for name in names}


def first_power(table: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The first column of p-means in a table and its header; {} if there is none."""
    return dict(list(powers_of(table).items())[:1])


def _means(u: Any, powers: Sequence[float]) -> dict[str, float | None]:
    """The p-means of utilities u [n] by column; None for one that is undefined."""
    found = {}
    for p in powers:
        mean = float(mechanisms.p_mean(u, p))
        found[f"p={p:g}"] = None if np.isnan(mean) else mean
    return found


def _prefer(game: games.Game, found: outcomes.Outcome, outside: Any) -> int:
    """The number of agents whose utility is less than `outside` [n], by more than rounding."""
    outside = jnp.asarray(outside)
    return int(jnp.sum(outside - found.utilities > outcomes.negligible(game, found, outside)))
