"""What other rates would do: equilibria and welfare of M_β over β, and of the mechanisms that have names."""

from collections.abc import Sequence
from typing import Any

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


def welfare_rows(
    game: games.Game,
    found: outcomes.Participation,
    before: outcomes.Outcome,
    best: optimum.FirstBest,
    powers: Sequence[float],
) -> list[dict[str, Any]]:
    """Normalised p-means with everybody taking part, by mechanism, and of those who stay.

    None where a p-mean is undefined because somebody's utility is negative.

    Args:
      game: n agents.
      found: what comes of the chosen mechanism.
      before: the outcome without payments.
      best: the first best.
      powers: p of the means.
    """
    there = {rules.none.name: before}
    linear = rules.linear_rates(game) is not None
    for rule in (rules.beta_star, rules.falkinger) if linear else (rules.falkinger,):
        there[rule.name] = outcomes.known_or_new(game, rule(game), [found.everybody, *there.values()])
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


def rows_by_beta(
    game: games.Game, names: Sequence[str], outside: np.ndarray, powers: Sequence[float], count: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Equilibria under M_β with everybody taking part, for rates β evenly spread in log(1 - β)."""
    betas = 1.0 - np.geomspace(1.0, 1.0 / (4 * game.n), count)
    # Every call takes as many rates: another number would be another program to compile.
    missing = -len(betas) % _AT_ONCE
    calls = np.append(betas, np.full(missing, betas[-1])).reshape(-1, _AT_ONCE)
    several = []
    with jobs.progress("equilibria over β", len(calls)) as bar:
        for some in calls:
            several.append([np.asarray(x) for x in _solve_all(game, outside, some)])
            bar.update()
    profile, u, leave, gap, total, certified = (np.concatenate(x)[:count] for x in zip(*several, strict=True))
    rows = [
        {"beta": float(beta), "total": float(total[k]), "contributors": int(np.sum(profile[k] > 0))}
        | {"rather_leave": int(np.sum(leave[k])) if certified[k] else None, "nash_gap": float(gap[k])}
        | {"certified": bool(certified[k])}
        | {f"p={p:g}": float(_p_mean(u[k], p)) if certified[k] else None for p in powers}
        for k, beta in enumerate(betas)
    ]
    rows = [{name: None if x != x else x for name, x in row.items()} for row in rows]
    most = np.sort(np.argsort(-profile.max(axis=0), kind="stable")[:_STACKED])
    others = profile.sum(axis=1) - profile[:, most].sum(axis=1)
    contributions = [
        {"beta": float(beta)}
        | {names[i]: float(profile[k, i]) for i in most}
        | ({"others": float(max(others[k], 0.0))} if game.n > _STACKED else {})
        for k, beta in enumerate(betas)
    ]
    return rows, contributions


def _solved(game: games.Game, outside: jax.Array, beta: jax.Array) -> tuple[jax.Array, ...]:
    found = outcomes.outcome(game, refunds.Refunds(beta), general=False)
    leave = outside - found.utilities > outcomes.negligible(game, found, outside)
    s = found.equilibrium.profile
    certified = found.equilibrium.converged
    return s, found.utilities, leave, jnp.max(found.equilibrium.nash_gap), games.total(game, s), certified


# Over rates β [k]: everything of `_solved` with a leading axis of k.
_solve_all = jax.jit(jax.vmap(_solved, in_axes=(None, None, 0)))
_p_mean = jax.jit(mechanisms.p_mean, static_argnums=1)


def marks(
    game: games.Game, power: float, chosen: float | None, designed: outcomes.Outcome | None = None
) -> list[dict[str, Any]]:
    """Rates worth a line in the figure.

    Args:
      game: n agents.
      power: the p whose mean is to be the largest.
      chosen: the rate that was asked for, if one was.
      designed: what the β with the largest p-mean leads to, if it is known.
    """
    found = {rules.falkinger.name: refunds.falkinger_beta(game.n)}
    if designed is None:
        design = jax.jit(mechanisms.design_beta, static_argnums=1)(game, power)
        rate, known = design.rates, np.isfinite(design.welfare)
    else:
        rate = designed.mechanism.rates
        known = designed.equilibrium.converged & np.isfinite(float(_p_mean(designed.utilities, power)))
    if known:
        found[registry.text_of(rules.designed.having(p=power))] = float(rate)
    if (linear := rules.linear_rates(game)) is not None:
        found[rules.beta_star.name] = float(refunds.beta_star(linear))
    if chosen is not None:
        found["chosen"] = chosen
    return [{"name": name, "beta": beta} for name, beta in found.items()]
