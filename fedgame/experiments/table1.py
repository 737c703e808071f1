"""Table 1: welfare by protocol over seeds, paired differences, and what every agent had in every trial."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special

from fedgame.experiments import rows
from fedgame.games import game as games
from fedgame.mechanisms import outcomes, welfare
from fedgame.report import tables
from fedgame.runs.workdir import Workdir

SCALES = {"mean": True, "sum": False}  # of the p-mean: Section 1.1's with 1/n, Table 1's without
UTILITIES = {"own": "utility", "held_out": "held_out_utility"}  # by whose test images: hers, the server's


def write(work: Workdir, game: games.Game, trials: Sequence[Any], powers: Sequence[float]) -> None:
    """Writes every table of a comparison.

    Args:
      work: the directory.
      game: on the fitted curve.
      trials: `compare.Trial`s.
      powers: p of the p-means.
    """
    final = [trial for trial in trials if trial.last]
    agents = [row for trial in final for row in agent_rows(game, trial)]
    steps = [trial_row(game, trial) for trial in trials]
    per_trial = [row for row, trial in zip(steps, trials, strict=True) if trial.last]
    per_seed = welfare_rows(agents, powers)
    known = {(row["protocol"], row["seed"]): row for row in per_trial}
    about = ("charged", "sum_of_payments", "nash_gap", "held_out_accuracy")
    tidy = [row | {x: known[row["protocol"], row["seed"]][x] for x in about} for row in per_seed]
    over_seeds, differences = table_rows(per_seed), difference_rows(per_seed)
    named = {"utilities": agents, "steps": steps, "runs": per_trial, "welfare": tidy, "table1": over_seeds}
    seconds, drawn = _seconds(trials), _drawn(final)
    named |= {"contributions": _contributions(final), "seconds": seconds}
    named |= {"differences": differences} if differences else {}
    named |= {"drawn": drawn} if drawn else {}
    for name, table in named.items():
        work.write_csv(f"{name}.csv", table)
    work.write_json("table1.json", over_seeds)
    work.write_csv("timings.csv", work.timings())


def agent_rows(game: games.Game, trial: Any) -> list[dict[str, Any]]:
    """One row per agent for a `compare.Trial`: what she shared, paid, received and got.

    `utility` is by the accuracy on her own test images, `held_out_utility` by that on the server's.
    `withheld` is by how much accuracy her model would be worse if the mechanism gave her what it says.
    """
    charged, mechanism = jnp.asarray(trial.training["charged"]), trial.mechanism
    accuracy, held_out = jnp.asarray(trial.training["accuracy"]), trial.training["held_out_accuracy"]
    withheld = mechanism.withheld(game, charged) if mechanism.degrades else jnp.zeros_like(charged, float)
    settled = outcomes.settle(game, mechanism, charged)
    net = settled.payments - settled.spent
    columns = {
        **rows.announced(mechanism, game.n),
        "contribution": trial.profile,
        "charged": charged,
        "accuracy": accuracy,
        "withheld": withheld,
        "cost": settled.spent,
        "payment": settled.payments,
        "utility": game.value * (accuracy - withheld) + net,
        "held_out_utility": game.value * (held_out - withheld) + net,
    }
    numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
    named = {"protocol": trial.title, "seed": trial.seed}
    return [
        named | {"agent": i} | {name: column[i] for name, column in numbers.items()} for i in range(game.n)
    ]


def trial_row(game: games.Game, trial: Any) -> dict[str, Any]:
    """One row for a `compare.Trial`; Nash gaps on the fitted game, before and after rounding."""
    agents, mechanism = agent_rows(game, trial), trial.mechanism
    profile, charged = jnp.asarray(trial.profile), jnp.asarray(trial.training["charged"])
    return {
        "protocol": trial.title,
        "seed": trial.seed,
        "step": trial.step,
        "announced": rows.told(mechanism, game.n),
        "contributed": float(np.sum(trial.profile)),
        "charged": float(np.sum(trial.training["charged"])),
        "agent_accuracy": float(np.mean(trial.training["accuracy"])),
        "held_out_accuracy": trial.training["held_out_accuracy"],
        "mean_utility": float(np.mean([r["utility"] for r in agents])),
        "held_out_mean_utility": float(np.mean([r["held_out_utility"] for r in agents])),
        "withheld": float(np.mean([r["withheld"] for r in agents])),
        "sum_of_payments": float(np.sum([r["payment"] for r in agents])),
        "nash_gap": float(rows.largest_gap(game, mechanism, profile)),
        "nash_gap_charged": float(rows.largest_gap(game, mechanism, charged)),
        "ends": trial.ending,
    }


def _contributions(final: Sequence[Any]) -> list[dict[str, Any]]:
    """What agents meant to contribute, over the steps of the game."""
    return [
        {"protocol": trial.title, "seed": trial.seed, "step": t, "agent": i, "contribution": s}
        for trial in final
        for t, row in enumerate(trial.path.tolist())
        for i, s in enumerate(row)
    ]


def _drawn(final: Sequence[Any]) -> list[dict[str, Any]]:
    """What agents trained on, over rounds, where rounds differ."""
    return [
        {"protocol": trial.title, "seed": trial.seed, "round": t + 1, "agent": i, "drawn": s}
        for trial in final
        if len(trial.training["drawn"]) > 1
        for t, row in enumerate(trial.training["drawn"])
        for i, s in enumerate(row)
    ]


def _seconds(trials: Sequence[Any]) -> list[dict[str, Any]]:
    """Seconds of training, once for steps that lead to the same contributions and so share a run."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for trial in trials:
        row = {"protocol": trial.title, "seed": trial.seed, "step": trial.step}
        same = row["protocol"], trial.seed, *trial.training["charged"]
        found.setdefault(same, row | {"seconds": trial.training["seconds"]})
    return list(found.values())


def welfare_rows(agents: Sequence[dict[str, Any]], powers: Sequence[float]) -> list[dict[str, Any]]:
    """One row per protocol, seed, utilities, scale and p; `undefined` says why W_p has no value."""
    found = tables.by(agents, "protocol", "seed")
    return [
        {"protocol": protocol, "seed": seed, "utilities": kind, "scale": scale, "p": p}
        | _welfare([row[column] for row in mine], p, normalized)
        for (protocol, seed), mine in found.items()
        for kind, column in UTILITIES.items()
        for scale, normalized in SCALES.items()
        for p in powers
    ]


def _welfare(u: list[float], p: float, normalized: bool) -> dict[str, Any]:
    negative = welfare.undefined(np.asarray(u), p)
    whose = "every agent" if len(negative) == len(u) else f"agent {', '.join(map(str, negative))}"
    reason = f"negative utility of {whose}" if negative else ""
    if p == 0 and not normalized:
        reason = "(Σ u^p)^(1/p) has no limit at p = 0"
    value = None if reason else float(welfare.p_mean(jnp.asarray(u), p, normalized))
    if value == np.inf:  # n^(1/p) without 1/n, for p near 0
        logarithm = float(welfare.log_p_mean(jnp.asarray(u), p, normalized))
        value, reason = None, f"too large for a number, its logarithm is {logarithm:.6g}"
    return {"welfare": value, "undefined": reason}


def table_rows(per_seed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Table 1: one row per protocol, utilities, scale and p, mean ± standard error over seeds.

    Where the p-mean of a single seed is undefined, so is the mean, and `undefined` names seed and
    agents: no seed is dropped. One seed has no standard error.
    """
    found = []
    for key, mine in _grouped(per_seed).items():
        values = [row["welfare"] for row in mine]
        reasons = _reasons(mine)
        mean, error = (None, None) if reasons else _mean(values)
        named = dict(zip(("protocol", "utilities", "scale", "p"), key, strict=True))
        found.append(
            named | {"welfare": mean, "standard_error": error, "seeds": len(mine), "undefined": reasons}
        )
    return found


def _reasons(mine: Sequence[dict[str, Any]]) -> str:
    """Why the p-mean of which seeds is undefined; none named if it is one reason for all of several."""
    found = dict.fromkeys((row["seed"], row["undefined"]) for row in mine if row["undefined"])
    if 1 < len(found) == len(mine) and len({reason for _, reason in found}) == 1:
        return "all seeds: " + mine[0]["undefined"]
    return "; ".join(f"seed {seed}: {reason}" for seed, reason in found)


def difference_rows(per_seed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences over seeds: every protocol less those before it, the last one's first.

    At one seed all protocols share data, initial model and the random start of the game. `low` and
    `high` are Student's confidence interval of the mean difference, None for a single seed.
    """
    groups = _grouped(per_seed)
    names = list(dict.fromkeys(row["protocol"] for row in per_seed))
    pairs = [(late, early) for k, late in reversed(list(enumerate(names))) for early in names[:k]]
    found = []
    for first, second in pairs:
        for key in (key for key in groups if key[0] == first and (second, *key[1:]) in groups):
            ours, theirs = groups[key], groups[(second, *key[1:])]
            both = [(a["welfare"], b["welfare"]) for a, b in zip(ours, theirs, strict=True)]
            defined = all(x is not None for pair in both for x in pair)
            mean, error = _mean([a - b for a, b in both]) if defined else (None, None)
            low, high = None, None
            if error is not None:  # Student's quantile, with one degree of freedom less than seeds
                half = error * special.stdtrit(len(both) - 1, (1 + tables.CONFIDENCE) / 2)
                low, high = float(mean - half), float(mean + half)
            named = dict(zip(("utilities", "scale", "p"), key[1:], strict=True))
            numbers = {"difference": mean, "low": low, "high": high, "seeds": len(both)}
            found.append({"protocol": first, "minus": second} | named | numbers)
    return found


def _grouped(per_seed: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    return tables.by(per_seed, "protocol", "utilities", "scale", "p")


def _mean(values: list[float]) -> tuple[float, float | None]:
    """The mean and its standard error, None for a single value."""
    mean, n = float(np.mean(values)), len(values)
    return mean, float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
