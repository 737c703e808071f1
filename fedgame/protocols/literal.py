"""FedBR and FedBR-BG as Algorithms 2 and 1 print them: raw ã, forward differences, rounding in every step.

It is here for comparison. Rounding makes a dead zone: an agent stays where she is while δ|∂u_i| < Δs/2, so
contributions that start high under a large β never come down. And since all agents respond to the same
number with the same δ, many of them overshoot together. `ending` says how a path ends.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import refunds, rules
from fedgame.mechanisms.base import Announcement, Mechanism, Rule
from fedgame.protocols import base, fedbr
from fedgame.registry import option

NO_PAYMENTS = refunds.Refunds()


class Printed(NamedTuple):
    """The numbers that the printed update uses."""

    sizes: np.ndarray  # [k] totals at which ã was measured, in samples
    accuracy: np.ndarray  # [k] mean accuracy there
    interval: float  # Δs, in samples
    rates: np.ndarray  # [n] (1 - β_i) c_i, per sample
    capacity: np.ndarray  # [n] τ_i
    step_size: float  # δ


class Ending(NamedTuple):
    """How a path of H steps ends."""

    period: int  # 1: it has stopped; k > 1: it repeats every k steps; 0: neither within H steps
    since: int  # the step from which it does; H if period is 0
    dead: int  # number of agents who would move at the end but for the rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Literal(base.Protocol):
    """Algorithms 1 and 2; the `Ending` of the path is in the plan's memory."""

    aims: ClassVar[bool] = True

    sizes: np.ndarray = option("totals at which ã was measured, samples, increasing, [k]", rank=1)
    accuracy: np.ndarray = option("means of what was measured there, [k]", rank=1)
    interval: float = option("Δs, samples", above=0)
    rule: Rule = option("refunds of costs: none, or at one rate or personal ones", rules.none, of="rule")
    steps: int = option("H, contribution updating steps from the random start", 100, low=1)
    step_size: float | None = option("δ; not given: Δs/c̄", None, above=0, kind=float)

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        """The path of the printed updates from a random start; errors as `prepare`."""
        measured = self.sizes, self.accuracy, self.interval
        printed = prepare(game, *measured, announced.mechanism, self.step_size)
        path = trace(printed, np.asarray(fedbr.random_start(key, printed.capacity)), self.steps)
        return base.Plan(path[-1], path, ending(printed, path))

    def ending(self, plan: base.Plan) -> str:
        return describe(plan.memory)

    @property
    def title(self) -> str:
        hidden = "rule", "sizes", "accuracy", "interval"
        return registry.title(self, fedbr.label_of(self.rule), hidden)


def prepare(
    game: games.Game,
    sizes: np.ndarray,
    accuracy: np.ndarray,
    interval: float,
    mechanism: Mechanism = NO_PAYMENTS,
    step_size: float | None = None,
) -> Printed:
    """Checks all that the printed update uses, and collects it.

    Args:
      game: without payments, linear costs. Its costs and capacities are used, its payoff is ignored.
      sizes: [k] totals at which ã was measured, in samples, increasing.
      accuracy: [k] means of what was measured there.
      interval: Δs, in samples.
      mechanism: one rate β, or [n] personal ones.
      step_size: δ, in samples per utility-per-sample; None is Δs/c̄, with the mean c̄ of costs per sample
        before payments.

    Raises:
      ValueError: payments are no refunds of costs; costs are not linear and above 0; sizes do not increase or
        have not one finite accuracy each; Δs or δ is not above 0; a quality or value is not 1, or the server
        holds samples, which the algorithms do not provide for; or as `refunds.under_mechanism`.
    """
    if not isinstance(mechanism, refunds.Refunds):
        kind = type(mechanism).__name__
        raise ValueError(f"Algorithms 1 and 2 are printed for refunds of costs only, not for {kind}")
    refunds.check_beta(mechanism.rates, game.n)
    costs = rules.linear_rates(game)
    if costs is None:
        raise ValueError("Algorithms 1 and 2 are printed for linear costs above 0; here some are not")
    if np.any(np.asarray(game.quality) != 1) or np.any(np.asarray(game.value) != 1) or game.held != 0:
        raise ValueError("Algorithms 1 and 2 know no quality, value or samples of the server's own")
    sizes, accuracy = np.asarray(sizes, float), np.asarray(accuracy, float)
    increasing = sizes.ndim == 1 and np.all(np.diff(sizes) > 0)
    if not (increasing and sizes.shape == accuracy.shape and np.all(np.isfinite(accuracy))):
        raise ValueError(f"`sizes` must increase, with one accuracy each, got {sizes} and {accuracy}")
    step_size = interval / float(np.mean(costs)) if step_size is None else step_size
    if not (0 < interval < np.inf and 0 < step_size < np.inf):
        raise ValueError(f"Δs and δ must be numbers above 0, got {interval} and {step_size}")
    rates, capacity = (1.0 - np.asarray(mechanism.rates)) * costs, np.asarray(game.capacity, float)
    return Printed(sizes, accuracy, float(interval), rates, capacity, float(step_size))


def measured(printed: Printed, total: float) -> float:
    """Raw ã(S): linear between sizes that were measured, constant below the first and beyond the last."""
    return np.interp(total, printed.sizes, printed.accuracy)


def slopes(printed: Printed, total: float) -> np.ndarray:
    """∂u_i/∂s_i by the forward difference, lines 14 and 13: (ã(S+Δs) - ã(S))/Δs - (1-β_i) c_i, [n]."""
    rise = measured(printed, total + printed.interval) - measured(printed, total)
    return rise / printed.interval - printed.rates


def step(printed: Printed, s: np.ndarray) -> np.ndarray:
    """s^{h+1}, [n]. Each agent uses the announced S, her own s_i, rate and capacity.

    Agents exactly at a bound who want beyond it stay, as printed. Others move by δ ∂u_i, to the nearest
    multiple of Δs (of two, the even one), and are then kept in [0, τ_i], which Eq. (4) asks for and the
    print forgets.
    """
    slope = slopes(printed, np.sum(s))
    below_0, beyond_capacity = (s == 0) & (slope < 0), (s == printed.capacity) & (slope > 0)
    moved = np.rint((s + printed.step_size * slope) / printed.interval) * printed.interval
    return np.where(below_0 | beyond_capacity, s, np.clip(moved, 0.0, printed.capacity))


def trace(printed: Printed, s: np.ndarray, steps: int) -> np.ndarray:
    """The path from s⁰, [n], to s^H: [H+1, n]."""
    path = [np.asarray(s, float)]
    for _ in range(steps):
        path.append(step(printed, path[-1]))
    return np.stack(path)


def ending(printed: Printed, path: np.ndarray) -> Ending:
    """How a path of `trace`, [H+1, n], ends: if a profile comes back once, it does so for ever."""
    last, s = len(path) - 1, path[-1]
    before = np.flatnonzero(np.all(path[:-1] == s, axis=1))
    slope = slopes(printed, np.sum(s))
    wants_more, wants_less = (slope > 0) & (s < printed.capacity), (slope < 0) & (s > 0)
    rounded_away = printed.step_size * np.abs(slope) < printed.interval / 2
    dead = int(np.sum((wants_more | wants_less) & rounded_away))
    if not len(before):
        return Ending(0, last, dead)
    period = last - int(before[-1])
    returns = np.all(path[period:] == path[:-period], axis=1)
    return Ending(period, int(np.argmax(returns)), dead)


def describe(found: Ending) -> str:
    """An ending in words."""
    if found.period == 0:
        return "neither stops nor comes back to where it was"
    if found.period > 1:
        return f"goes round in {found.period} steps from step {found.since} on"
    stuck = f", {found.dead} agents held by the rounding" if found.dead else ""
    return f"stops at step {found.since}{stuck}"
