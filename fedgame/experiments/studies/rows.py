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
from fedgame.mechanisms import optimum, outcomes
from fedgame.report import tables

RULES = ("none", "beta_star", "falkinger", "personal")
HEADER = {  # what columns are called that do not say it themselves
    "beta": "β (mean β_i)",
    "total": "S, samples",
    "accuracy": "accuracy, mean",
    "nash_gap": "Nash gap",
    "extrapolated": "S not measured",
}
UNTOLD = ("only_total", "rather_nothing", "rather_alone", "certified", "proved")  # in the file alone


class Measured(NamedTuple):
    """A curve as it was measured, and fitted."""

    fit: curves.Fit
    measurements: measurements.Measurements

    @property
    def longest(self) -> float:
        """The largest total that was measured."""
        return float(self.measurements.sizes[-1])


def read_curve(file: str, fit: str) -> Measured:
    """Reads and fits the curve in a file.

    Raises:
      ValueError: the file is not as `inputs.measurements` describes, has several curves, or cannot be fitted.
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
    """[n] costs with this geometric mean and this largest over the smallest, evenly spaced in logarithms."""
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
    """What came of a mechanism, as JSON values.

    Args:
      game: without payments.
      name: of the mechanism.
      found: what comes of it.
      longest: the largest total at which the curve was measured.
      powers: of normalised p-means; None where a negative utility leaves one undefined.
      best: of the game.
      alone: [n] what agents have by training alone, or None where that is not known.
    """
    s, u = np.asarray(found.equilibrium.profile), np.asarray(found.utilities)
    total = float(games.statistic(game, found.equilibrium.profile))
    rate = found.mechanism.announced(game.n).get("rate")
    left = {} if alone is None else {"rather_alone": _worse(game, found, alone)}
    return {
        "mechanism": name,
        "beta": None if rate is None else float(np.mean(rate)),
        "total": total,
        "contributors": int(np.sum(s > 1e-9 * np.asarray(game.capacity))),
        "only_total": bool(found.equilibrium.status == solvers.TOTAL_ONLY),
        "accuracy": float(jnp.mean(found.received)),
        **_means(found.utilities, powers),
        "share_of_first_best": float(np.sum(u)) / best.welfare,
        "rather_nothing": _worse(game, found, np.zeros(game.n)),
        **left,
        "nash_gap": float(np.max(found.equilibrium.nash_gap)),
        "certified": bool(found.equilibrium.converged),
        "extrapolated": total > longest,
        "proved": None,
    }


def bound_row(
    game: games.Game, row: dict[str, Any], longest: float, best: optimum.FirstBest
) -> dict[str, Any]:
    """The first best in the columns of `row`: no budget-balanced mechanism has larger p-means, p ≤ 1.

    `proved` is whether it is known that no profile has a larger sum of utilities.
    """
    total = float(games.statistic(game, best.profile))
    means = {name: best.welfare / game.n for name in row if name.startswith("p=")}
    known = {"mechanism": tables.FIRST_BEST, "total": total, "share_of_first_best": 1.0}
    known |= {"contributors": int(np.sum(np.asarray(best.profile) > 0)), "extrapolated": total > longest}
    known |= {"accuracy": float(jnp.mean(games.payoff_values(game, best.profile))), "proved": best.proved}
    return {name: None for name in row} | means | known


def outcomes_of(game: games.Game, names: Sequence[str] = RULES) -> dict[str, outcomes.Outcome]:
    """What comes of rules, by their texts, when everybody takes part."""
    announced = {name: registry.read("rule", name).announced(game) for name in names}
    return {name: outcomes.of_announcement(game, one) for name, one in announced.items()}


def rows_of(
    game: games.Game,
    found: dict[str, outcomes.Outcome],
    longest: float,
    powers: Sequence[float],
    alone: bool = True,
) -> list[dict[str, Any]]:
    """A row for every mechanism, and the first best; `alone`: also how many have more by training alone."""
    best, outside = mechanisms.first_best(game), mechanisms.alone(game) if alone else None
    table = [outcome_row(game, name, one, longest, powers, best, outside) for name, one in found.items()]
    return [*table, bound_row(game, table[0], longest, best)]


def powers_of(table: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The columns of p-means, and how they are called."""
    names = [name for name in table[0] if name.startswith("p=")]
    known = {"p=1": "mean utility", "p=-inf": "smallest utility"}
    return {name: known.get(name, f"p-mean, {name.replace('=', ' = ')}") for name in names}


def _means(u: Any, powers: Sequence[float]) -> dict[str, float | None]:
    means = {f"p={p:g}": float(mechanisms.p_mean(u, p)) for p in powers}
    return {name: None if np.isnan(mean) else mean for name, mean in means.items()}


def _worse(game: games.Game, found: outcomes.Outcome, outside: Any) -> int:
    outside = jnp.asarray(outside)
    return int(jnp.sum(outside - found.utilities > outcomes.negligible(game, found, outside)))
