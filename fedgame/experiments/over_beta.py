"""What other rates would do: equilibria and welfare of M_β over β, and of the mechanisms that have names."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import mechanisms, registry
from fedgame.games import game as games
from fedgame.mechanisms import optimum, outcomes, refunds, rules
from fedgame.report import tables
from fedgame.runs import jobs

_STACKED = 8  # agents whose contributions the figure tells apart
_AT_ONCE = 8  # rates β that are solved in one call
_ZOOMS = 12  # each leaves at most 2/9 of the interval: (2/9)^12 of one in the figure is 1e-9


def welfare_rows(
    game: games.Game,
    found: outcomes.Participation,
    before: outcomes.Outcome,
    best: optimum.FirstBest,
    powers: Sequence[float],
    known: Sequence[outcomes.Outcome] = (),
) -> list[dict[str, Any]]:
    """Normalised p-means with everybody taking part, by mechanism, and of those who stay.

    None where a p-mean is undefined because somebody's utility is negative.

    Args:
      game: n agents.
      found: what comes of the chosen mechanism.
      before: the outcome without payments.
      best: the first best.
      powers: p of the means.
      known: outcomes with everybody taking part, which are not found again.
    """
    there = {rules.none.name: before}
    linear = rules.linear_rates(game) is not None
    refunding = (rules.beta_star, rules.falkinger) if linear else (rules.falkinger,)
    for rule in refunding if game.payoff.own_gain else ():
        there[rule.name] = outcomes.known_or_new(game, rule(game), [found.everybody, *there.values(), *known])
    there["chosen"] = found.everybody
    if found.left and found.outcome is not None:
        there["chosen_who_stay"] = found.outcome
    rows = [
        {"mechanism": name, "certified": bool(one.equilibrium.converged)}
        | {f"p={p:g}": None if np.isnan(x := float(_p_mean(one.utilities, p))) else x for p in powers}
        for name, one in there.items()
    ]
    most = {"mechanism": tables.FIRST_BEST, "certified": None}  # a bound, also for all p-means with p ≤ 1
    return [*rows, most | {f"p={p:g}": best.welfare / game.n for p in powers}]


class _Solved(NamedTuple):
    """What comes of M_β with everybody taking part; over several β with a leading axis [k]."""

    profile: Any  # [n] samples
    payments: Any  # [n] received
    utilities: Any  # [n]
    leave: Any  # [n] whether she would rather leave
    nash_gap: Any  # the largest
    total: Any  # S
    certified: Any


def rows_by_beta(
    game: games.Game, names: Sequence[str], outside: np.ndarray, powers: Sequence[float], count: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Equilibria under M_β with everybody taking part, for rates β evenly spread in log(1 - β).

    Returns:
      A row for each rate; and one for each rate and each agent of those who contribute most. What the others
      contribute and receive together has no name.
    """
    betas = 1.0 - np.geomspace(1.0, 1.0 / (4 * game.n), count)
    with jobs.progress("equilibria over β", count) as bar:
        found = _at_rates(game, outside, betas, bar.update)
    rows = []
    for k, beta in enumerate(betas):
        certified = bool(found.certified[k])
        leave = int(np.sum(found.leave[k])) if certified else None
        row = {"beta": float(beta), "total": float(found.total[k])}
        row |= {"contributors": int(np.sum(found.profile[k] > 0)), "rather_leave": leave}
        row |= {"nash_gap": float(found.nash_gap[k]), "certified": certified}
        row["mean_utility"] = float(np.mean(found.utilities[k])) if certified else None
        for p in powers:
            mean = float(_p_mean(found.utilities[k], p)) if certified else np.nan
            row[f"p={p:g}"] = None if np.isnan(mean) else mean
        rows.append(row)
    return rows, _contributions(betas, names, found)


def _contributions(betas: np.ndarray, names: Sequence[str], found: _Solved) -> list[dict[str, Any]]:
    """The rows by rate and agent of `rows_by_beta`."""
    profile, payments = found.profile, found.payments
    largest = np.sort(np.argsort(-profile.max(axis=0), kind="stable")[:_STACKED])
    others = profile.sum(axis=1) - profile[:, largest].sum(axis=1)
    paid_to_others = payments.sum(axis=1) - payments[:, largest].sum(axis=1)
    rows = []
    for k, beta in enumerate(betas):
        shown = [(names[i], float(profile[k, i]), float(payments[k, i])) for i in largest]
        if len(names) > _STACKED:
            shown.append(("", float(max(others[k], 0.0)), float(paid_to_others[k])))
        rows += [
            {"beta": float(beta), "name": name, "contribution": s, "payment": payment}
            for name, s, payment in shown
        ]
    return rows


def _at_rates(
    game: games.Game, outside: np.ndarray, betas: np.ndarray, done: Callable[[int], Any] = lambda number: None
) -> _Solved:
    """`_Solved` at rates [k]; `done` is told how many more of them are solved.

    Every call of the compiled function takes as many rates: another number would be another program.
    """
    missing = -len(betas) % _AT_ONCE
    calls = np.append(betas, np.full(missing, betas[-1])).reshape(-1, _AT_ONCE)
    found = []
    for number, some in enumerate(calls, 1):
        found.append(jax.tree.map(np.asarray, _solve_all(game, outside, some)))
        done(min(_AT_ONCE, len(betas) - (number - 1) * _AT_ONCE))
    return _Solved(*(np.concatenate(x)[: len(betas)] for x in zip(*found, strict=True)))


def _solve(game: games.Game, outside: jax.Array, beta: jax.Array) -> _Solved:
    found = outcomes.outcome(game, refunds.Refunds(beta), general=False)
    s = found.equilibrium.profile
    return _Solved(
        profile=s,
        payments=found.payments,
        utilities=found.utilities,
        leave=outside - found.utilities > outcomes.negligible(game, found, outside),
        nash_gap=jnp.max(found.equilibrium.nash_gap),
        total=games.total(game, s),
        certified=found.equilibrium.converged,
    )


_solve_all = jax.jit(jax.vmap(_solve, in_axes=(None, None, 0)))


def compile_for(game: games.Game) -> None:
    """Has ready what `rows_by_beta` and `best_rate` run for games of this kind and number of agents."""
    _solve_all(game, np.zeros(game.n), np.zeros(_AT_ONCE))


_p_mean = jax.jit(mechanisms.p_mean, static_argnums=1)


def best_rate(
    game: games.Game, outside: np.ndarray, power: float, rates: Sequence[dict[str, Any]]
) -> float | None:
    """The β with the largest p-mean, to about six digits; None if it is undefined at all rates.

    As `mechanisms.design_beta`, with the program that is compiled already for the rates in the figure: eight
    rates between the neighbours of the best one, again and again. Of equally good rates it is the smallest. A
    higher peak between two of `rates` can be missed.

    Args:
      game: n agents.
      outside: [n] what every agent has if she leaves.
      power: p of the mean.
      rates: from `rows_by_beta`.
    """
    betas = np.asarray([row["beta"] for row in rates])
    means = [row[f"p={power:g}"] for row in rates]
    welfare = np.asarray([-np.inf if mean is None else mean for mean in means])
    equal = refunds.falkinger_beta(game.n)  # the best rate for equal payoffs
    more = np.asarray([equal])
    for _ in range(1 + _ZOOMS):
        found = _at_rates(game, outside, more)
        means = np.asarray([float(_p_mean(u, power)) for u in found.utilities])
        counted = np.where(found.certified & np.isfinite(means), means, -np.inf)
        betas, welfare = np.append(betas, more), np.append(welfare, counted)
        largest = np.max(welfare)
        if largest == -np.inf:
            return None
        tied = betas[welfare >= largest - 4 * np.finfo(float).eps * abs(largest)]
        best = np.min(tied)  # where welfare is level, the rate from which it is
        low = np.max(betas[betas < best], initial=0.0)
        high = np.min(betas[betas > best], initial=1.0)
        more = np.linspace(low, high, _AT_ONCE + 2)[1:-1]
    # A smooth peak is level up to rounding for about 1e-7 on each side of its top.
    return equal if equal in tied and equal - best < 1e-5 else float(best)


def marks(game: games.Game, power: float, chosen: float | None, best: float | None) -> list[dict[str, Any]]:
    """Rates worth a line in the figure.

    Args:
      game: n agents.
      power: the p whose mean is to be the largest.
      chosen: the rate that was asked for, if one was.
      best: the β with the largest p-mean, if it is known.
    """
    found = {rules.falkinger.name: refunds.falkinger_beta(game.n)}
    if best is not None:
        found[registry.text_of(rules.designed.having(p=power))] = best
    if (linear := rules.linear_rates(game)) is not None:
        found[rules.beta_star.name] = float(refunds.beta_star(linear))
    if chosen is not None:
        found["chosen"] = chosen
    return [{"name": name, "beta": beta} for name, beta in found.items()]
