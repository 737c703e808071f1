"""Games that the measurements could have given as well, and intervals of what comes of them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.experiments import memory
from fedgame.experiments import rows as all_rows
from fedgame.games import curves, scenarios
from fedgame.inputs import fits
from fedgame.inputs import read as inputs
from fedgame.registry import option
from fedgame.runs import jobs

_ARRAYS = 50  # numbers of every agent that the solver and the certificate of one resampled game take
_AGENTS = 50  # up to whom games of resampled exchange rates are solved if nobody says how many
_GAMES = 50  # how many, then


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of those commands that solve resampled games."""

    bootstrap: int | None = option(
        f"games of resampled measurements, for intervals; not given: {_GAMES} with --measurements of up to "
        f"{_AGENTS} agents, else none",
        None,
        low=0,
        kind=int,
    )
    confidence: float = option("of the intervals", 0.95, above=0, high=1)
    seed: int = option("of the resampling", 0, low=0, high=2**31 - 1)


def check(settings: Any) -> None:
    """Raises a `ValueError` for --bootstrap without measurements to resample.

    Args:
      settings: of a scenario, with those above.
    """
    if settings.bootstrap and settings.exchange_rates:
        raise ValueError(
            "--bootstrap has no use with --exchange_rates, which have an uncertainty of their own"
        )
    if settings.bootstrap and not (settings.curve or settings.measurements):
        raise ValueError("--bootstrap resamples measurements: it needs --curve or --measurements")


def check_number(settings: Any, scenario: scenarios.Scenario) -> None:
    """Raises a `ValueError` if there are not so many games, or they are too many to be solved together."""
    asked = settings.bootstrap or 0
    exchange = scenario.origin.exchange
    if exchange is not None and asked > len(exchange.resampled):
        raise ValueError(f"--bootstrap={asked}: mixtures are resampled {len(exchange.resampled)} times only")
    together = 8.0 * _ARRAYS * asked * scenario.game.n
    memory.check("resampled games, solved together,", {f"--bootstrap={asked}": together})


def of_curve(settings: Any, scenario: scenarios.Scenario) -> tuple[Any, bool]:
    """Payoffs of resampled measurements of the curve.

    Returns:
      The payoff with a leading axis of games, and whether all agents share one curve.
    """
    stacked = {}
    with jobs.progress("resampling the curve", settings.bootstrap * len(scenario.origin.measured)) as bar:

        def counted(items: Iterable) -> Iterable:
            for item in items:
                yield item
                bar.update()

        for agent, measured in scenario.origin.measured.items():
            stacked[agent] = curves.bootstrap(
                settings.fit, *measured, samples=settings.bootstrap, seed=settings.seed, progress=counted
            )
    payoff = inputs.payoff_of(stacked, scenario.names)
    if "" in stacked:
        return payoff, True
    # Each agent's numbers are [games, …], so those of all agents were stacked to [n, games, …].
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), payoff), False


def of_rates(settings: Any, scenario: scenarios.Scenario) -> list[Any]:
    """Payoffs of resampled mixtures, one for each game; [] if none were measured or none are wanted."""
    exchange, game = scenario.origin.exchange, scenario.game
    wanted = settings.bootstrap
    if wanted is None:
        wanted = _GAMES if game.n <= _AGENTS else 0
    if exchange is None or not wanted:
        return []
    return [
        fits.payoff_of(exchange._replace(fit=fit), settings.own, np.asarray(game.capacity))
        for fit in exchange.resampled[:wanted]
    ]


def payoffs(settings: Any, scenario: scenarios.Scenario) -> list[Any]:
    """Payoffs of resampled measurements, one for each game; [] if none are wanted."""
    if not (settings.bootstrap and scenario.origin.measured):
        return of_rates(settings, scenario)
    stacked, _ = of_curve(settings, scenario)
    return [jax.tree.map(lambda x, k=k: x[k], stacked) for k in range(settings.bootstrap)]


def intervals(settings: Any, numbers: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """A row per agent with the columns NAME_low and NAME_high, from what [k, n] games say by NAME."""
    ends = {}
    for name, found in numbers.items():
        ends[f"{name}_low"], ends[f"{name}_high"] = np.percentile(found, percentiles(settings), axis=0)
    return all_rows.of_columns(ends, len(next(iter(ends.values()))))


def percentiles(settings: Any) -> tuple[float, float]:
    """The percentiles at which intervals end."""
    return 50 * (1 - settings.confidence), 50 * (1 + settings.confidence)


def summary(settings: Any, profiles: np.ndarray, asked: int) -> dict[str, Any]:
    """How many games were solved, and the interval of what all share; profiles [k, n] of those certified."""
    found = {"resamples": asked, "certified": len(profiles), "confidence": settings.confidence}
    if len(profiles):
        low, high = np.percentile(np.sum(profiles, axis=1), percentiles(settings))
        found |= {"shared_low": float(low), "shared_high": float(high)}
    return found
