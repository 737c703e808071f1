"""Table 1: welfare by protocol over seeds, paired differences, and what every agent had in every trial."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special

from fedgame.experiments import rows
from fedgame.games import game as games
from fedgame.mechanisms import outcomes, welfare
from fedgame.report import scales, tables
from fedgame.runs.workdir import Workdir

SCALES = {"mean": True, "sum": False}  # of the p-mean: Section 1.1's with 1/n, Table 1's without
UTILITIES = {"own": "utility", "held_out": "held_out_utility"}  # by whose test images: hers, the server's


def write(work: Workdir, game: games.Game, trials: Sequence[Any], powers: Sequence[float]) -> None:
    """Writes every table of a comparison.

    Args:
      work: the directory.
      game: the game on the fitted curve, without payments.
      trials: the `compare.Trial`s of all protocols, seeds and steps.
      powers: the p of the p-means.
    """
    final = [trial for trial in trials if trial.last]
    agents = [row for trial in final for row in agent_rows(game, trial)]
    steps = [trial_row(game, trial) for trial in trials]
    per_trial = [row for row, trial in zip(steps, trials, strict=True) if trial.last]
    per_seed = welfare_rows(agents, powers)
    over_seeds = scales.widened(table_rows(per_seed))
    work.write_csv("utilities.csv", agents)
    work.write_csv("steps.csv", steps)
    work.write_csv("runs.csv", per_trial)
    work.write_csv("welfare.csv", _with_trials(scales.widened(per_seed), per_trial))
    work.write_csv("table1.csv", over_seeds)
    work.write_json("table1.json", over_seeds)
    work.write_csv("contributions.csv", _contributions(final))
    work.write_csv("seconds.csv", _seconds(trials))
    if differences := difference_rows(per_seed):
        work.write_csv("differences.csv", scales.widened(differences))
    if drawn := _drawn(final):
        work.write_csv("drawn.csv", drawn)
    work.write_csv("timings.csv", work.timings())


def _with_trials(
    per_seed: Sequence[dict[str, Any]], per_trial: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Welfare by protocol and seed, each row with what came of its trial."""
    trial_of = {(row["protocol"], row["seed"]): row for row in per_trial}
    found = []
    for row in per_seed:
        trial = trial_of[row["protocol"], row["seed"]]
        copied = ("charged", "sum_of_payments", "nash_gap", "held_out_accuracy")
        found.append(row | {name: trial[name] for name in copied})
    return found


def agent_rows(game: games.Game, trial: Any) -> list[dict[str, Any]]:
    """One row per agent for a `compare.Trial`: what she contributed, spent, was paid and has.

    `utility` values the accuracy on her own test images, `held_out_utility` that on the server's held-out
    images. `withheld` is by how much a mechanism that degrades models would lower her accuracy; the model
    that was trained is degraded for nobody, so it is subtracted here.
    """
    charged, mechanism = jnp.asarray(trial.training["charged"]), trial.mechanism
    accuracy = np.asarray(trial.training["accuracy"])
    held_out = np.asarray(trial.training["held_out_accuracy"])  # of the server, or [n] of each agent
    withheld = np.asarray(mechanism.withheld(game, charged)) if mechanism.degrades else np.zeros(game.n)
    settled, value = outcomes.settle(game, mechanism, charged), np.asarray(game.value)
    net_payment = np.asarray(settled.payments) - np.asarray(settled.spent)
    columns = {
        **rows.announced(mechanism, game.n),
        "contribution": trial.profile,
        "charged": charged,
        "accuracy": accuracy,
        "withheld": withheld,
        "cost": settled.spent,
        "payment": settled.payments,
        "utility": value * (accuracy - withheld) + net_payment,
        "held_out_utility": value * (held_out - withheld) + net_payment,
    }
    return [
        {"protocol": trial.title, "seed": trial.seed, "agent": i, **row}
        for i, row in enumerate(rows.of_columns(columns, game.n))
    ]


def trial_row(game: games.Game, trial: Any) -> dict[str, Any]:
    """One row for a `compare.Trial`, with means and sums over agents.

    Nash gaps are those of the game on the fitted curve: `nash_gap` at the profile as agents meant it,
    `nash_gap_charged` at the whole samples that were drawn, averaged over rounds.
    """
    agents, mechanism = agent_rows(game, trial), trial.mechanism
    mean = tables.means(agents)
    profile, charged = jnp.asarray(trial.profile), jnp.asarray(trial.training["charged"])
    return {
        "protocol": trial.title,
        "seed": trial.seed,
        "step": trial.step,
        "announced": rows.told(mechanism, game.n),
        "contributed": float(np.sum(trial.profile)),
        "charged": float(np.sum(trial.training["charged"])),
        "agent_accuracy": float(np.mean(trial.training["accuracy"])),
        "held_out_accuracy": float(np.mean(trial.training["held_out_accuracy"])),
        "mean_utility": mean("utility"),
        "held_out_mean_utility": mean("held_out_utility"),
        "withheld": mean("withheld"),
        "sum_of_payments": float(np.sum([row["payment"] for row in agents])),
        "nash_gap": float(rows.largest_gap(game, mechanism, profile)),
        "nash_gap_charged": float(rows.largest_gap(game, mechanism, charged)),
        "ends": trial.ending,
    }


def _contributions(final: Sequence[Any]) -> list[dict[str, Any]]:
    """What agents meant to contribute, over the steps of the game."""
    return [
        {"protocol": trial.title, "seed": trial.seed, "step": step, "agent": i, "contribution": s}
        for trial in final
        for step, profile in enumerate(trial.path.tolist())
        for i, s in enumerate(profile)
    ]


def _drawn(final: Sequence[Any]) -> list[dict[str, Any]]:
    """How many samples agents trained on in each round, for trials whose rounds differ."""
    return [
        {"protocol": trial.title, "seed": trial.seed, "round": number, "agent": i, "drawn": samples}
        for trial in final
        if len(trial.training["drawn"]) > 1
        for number, drawn in enumerate(trial.training["drawn"], 1)
        for i, samples in enumerate(drawn)
    ]


def _seconds(trials: Sequence[Any]) -> list[dict[str, Any]]:
    """Seconds of training; steps of one protocol with the same contributions share a run, and count once."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for trial in trials:
        row = {"protocol": trial.title, "seed": trial.seed, "step": trial.step}
        shared_run = trial.title, trial.seed, *trial.training["charged"]
        found.setdefault(shared_run, row | {"seconds": trial.training["seconds"]})
    return list(found.values())


def welfare_rows(agents: Sequence[dict[str, Any]], powers: Sequence[float]) -> list[dict[str, Any]]:
    """One row per protocol, seed, utilities, scale and p: W_p, or in `undefined` why it has no value.

    Args:
      agents: rows of `agent_rows`.
      powers: the p.
    """
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
    """W_p of the utilities u, or None and the reason."""
    if p == 0 and not normalized:
        return {"welfare": None, "undefined": "(Σ u^p)^(1/p) has no limit at p = 0"}
    negative = welfare.undefined(np.asarray(u), p)
    if negative:
        whose = "every agent" if len(negative) == len(u) else f"agent {', '.join(map(str, negative))}"
        return {"welfare": None, "undefined": f"negative utility of {whose}"}
    value = float(welfare.p_mean(jnp.asarray(u), p, normalized))
    if value == np.inf:  # without 1/n, W_p has the factor n^(1/p), which overflows for p near 0
        logarithm = float(welfare.log_p_mean(jnp.asarray(u), p, normalized))
        reason = f"too large for a number, its logarithm is {logarithm:.6g}"
        return {"welfare": None, "undefined": reason}
    return {"welfare": value, "undefined": ""}


def table_rows(per_seed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Table 1: one row per protocol, utilities, scale and p, with mean and standard error over seeds.

    If the p-mean is undefined at a single seed, so is the mean, and `undefined` names seed and agents: no
    seed is dropped. One seed has no standard error.

    Args:
      per_seed: rows of `welfare_rows`.
    """
    found = []
    for (protocol, utilities, scale, p), mine in _grouped(per_seed).items():
        reasons = _reasons(mine)
        mean, error = (None, None) if reasons else _mean([row["welfare"] for row in mine])
        found.append({
            "protocol": protocol,
            "utilities": utilities,
            "scale": scale,
            "p": p,
            "welfare": mean,
            "standard_error": error,
            "seeds": len(mine),
            "undefined": reasons,
        })  # fmt: skip
    return found


def _reasons(mine: Sequence[dict[str, Any]]) -> str:
    """Why the p-mean is undefined, by seed; or once, if several seeds all have the same reason."""
    undefined = [row for row in mine if row["undefined"]]
    same_reason = len({row["undefined"] for row in undefined}) == 1
    if same_reason and len(undefined) == len(mine) and len(mine) > 1:
        return f"all seeds: {mine[0]['undefined']}"
    return "; ".join(f"seed {row['seed']}: {row['undefined']}" for row in undefined)


def difference_rows(per_seed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences over seeds: every protocol minus each one before it, those of the last first.

    At one seed all protocols share data, initial model and the random start of the game. `low` and
    `high` are Student's confidence interval of the mean difference, None for a single seed.

    Args:
      per_seed: rows of `welfare_rows`.
    """
    groups = _grouped(per_seed)
    names = list(dict.fromkeys(row["protocol"] for row in per_seed))
    found = []
    for k in reversed(range(len(names))):
        for earlier in names[:k]:
            for (protocol, *about), mine in groups.items():
                theirs = groups.get((earlier, *about))
                if protocol == names[k] and theirs is not None:
                    columns = dict(zip(("utilities", "scale", "p"), about, strict=True))
                    found.append(
                        {"protocol": protocol, "minus": earlier, **columns, **_difference(mine, theirs)}
                    )
    return found


def _difference(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of W_p - W_p' over seeds and its interval; None if a W_p is undefined at some seed."""
    pairs = [(one["welfare"], other["welfare"]) for one, other in zip(mine, theirs, strict=True)]
    found = {"difference": None, "low": None, "high": None, "seeds": len(pairs)}
    if any(one is None or other is None for one, other in pairs):
        return found
    mean, error = _mean([one - other for one, other in pairs])
    found["difference"] = mean
    if error is not None:
        # Student's quantile, with one degree of freedom less than seeds.
        half = error * special.stdtrit(len(pairs) - 1, (1 + tables.CONFIDENCE) / 2)
        found |= {"low": float(mean - half), "high": float(mean + half)}
    return found


def _grouped(per_seed: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    return tables.by(per_seed, "protocol", "utilities", "scale", "p")


def _mean(values: list[float]) -> tuple[float, float | None]:
    """The mean of numbers [n] and its standard error; None for a single number."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, None
    return mean, float(np.std(values, ddof=1) / np.sqrt(len(values)))
