"""Table 1: welfare by protocol over seeds, paired differences, and the paper's rows beside ours."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.stats

from fedgame.experiments import paper, storage, tables
from fedgame.experiments import settings as all_settings
from fedgame.games import game as games
from fedgame.mechanisms import welfare

SCALES = {"mean": True, "sum": False}  # of the p-mean: Section 1.1's with 1/n, Table 1's without
UTILITIES = {"own": "utility", "held_out": "held_out_utility"}  # by whose test images: hers, the server's
_WITHHELD = "accuracy that is withheld is accounted, as on ã; nobody's model is degraded"
_CONFIDENCE = 0.95  # of the intervals of paired differences


def write(
    work: storage.Workdir, game: games.Game, trials: Sequence[Any], settings: all_settings.CompareSettings
) -> str:
    """Writes every table of a comparison as CSV, and returns their text.

    Args:
      work: the directory.
      game: on the fitted curve.
      trials: `compare.Trial`s.
      settings: settled.
    """
    final = [trial for trial in trials if trial.last]
    agents = _filled([row for trial in final for row in tables.agent_rows(game, trial)])
    steps = [tables.trial_row(game, trial) for trial in trials]
    per_trial = [row for row, trial in zip(steps, trials, strict=True) if trial.last]
    per_seed = welfare_rows(agents, settings.p)
    known = {(row["protocol"], row["seed"]): row for row in per_trial}
    about = ("charged", "sum_of_payments", "nash_gap", "held_out_accuracy")
    tidy = [row | {x: known[row["protocol"], row["seed"]][x] for x in about} for row in per_seed]
    over_seeds, differences = table_rows(per_seed), difference_rows(per_seed)
    named = {"utilities": agents, "steps": steps, "runs": per_trial, "welfare": tidy, "table1": over_seeds}
    seconds, drawn = _seconds(trials), _drawn(final)
    named |= {"contributions": _contributions(final), "seconds": seconds}
    named |= {"differences": differences} if differences else {}
    named |= {"drawn": drawn} if drawn else {}
    for name, rows in named.items():
        work.write_csv(f"{name}.csv", rows)
    work.write_json("table1.json", over_seeds)
    work.write_csv("timings.csv", work.timings())
    literal = [f"{row['protocol']}, seed {row['seed']}: {row['ends']}" for row in per_trial if row["ends"]]
    text = [tables.trials_text(per_trial)]
    text += ["rounded contributions, step by step:\n" + "\n".join(literal)] if literal else []
    degraded = list(dict.fromkeys(row["protocol"] for row in per_trial if row["withheld"]))
    text += [f"{_WITHHELD}: {', '.join(degraded)}"] if degraded else []
    text += [table_text(over_seeds, settings.dataset)]
    text += [difference_text(differences)] if differences else []
    text += paper.remarks(settings.dataset, over_seeds)
    return "\n\n".join([*text, _seconds_text(seconds)])


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


def _filled(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the columns of all: mechanisms do not announce the same."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def welfare_rows(agents: Sequence[dict[str, Any]], powers: Sequence[float]) -> list[dict[str, Any]]:
    """One row per protocol, seed, utilities, scale and p; `undefined` says why W_p has no value."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in agents:
        found.setdefault((row["protocol"], row["seed"]), []).append(row)
    return [
        {"protocol": protocol, "seed": seed, "utilities": kind, "scale": scale, "p": p}
        | _welfare([row[column] for row in rows], p, normalized)
        for (protocol, seed), rows in found.items()
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
    rows = []
    for key, mine in _grouped(per_seed).items():
        values = [row["welfare"] for row in mine]
        reasons = _reasons(mine)
        mean, error = (None, None) if reasons else _mean(values)
        named = dict(zip(("protocol", "utilities", "scale", "p"), key, strict=True))
        rows.append(
            named | {"welfare": mean, "standard_error": error, "seeds": len(mine), "undefined": reasons}
        )
    return rows


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
    rows = []
    for first, second in pairs:
        for key in (key for key in groups if key[0] == first and (second, *key[1:]) in groups):
            ours, theirs = groups[key], groups[(second, *key[1:])]
            both = [(a["welfare"], b["welfare"]) for a, b in zip(ours, theirs, strict=True)]
            defined = all(x is not None for pair in both for x in pair)
            mean, error = _mean([a - b for a, b in both]) if defined else (None, None)
            named = dict(zip(("utilities", "scale", "p"), key[1:], strict=True))
            half = None if error is None else error * scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, len(both) - 1)
            ends = (None, None) if half is None else (float(mean - half), float(mean + half))
            numbers = {"difference": mean, "low": ends[0], "high": ends[1], "seeds": len(both)}
            rows.append({"protocol": first, "minus": second} | named | numbers)
    return rows


def _grouped(per_seed: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in per_seed:
        groups.setdefault((row["protocol"], row["utilities"], row["scale"], row["p"]), []).append(row)
    return groups


def _mean(values: list[float]) -> tuple[float, float | None]:
    several = len(values) > 1
    return float(np.mean(values)), float(scipy.stats.sem(values)) if several else None


def table_text(rows: Sequence[dict[str, Any]], dataset: str = "") -> str:
    """Table 1 as Markdown on both scales, the paper's rows below ours, and what is undefined."""
    powers = list(dict.fromkeys(row["p"] for row in rows))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    cells = {(row["utilities"], row["scale"], row["protocol"], row["p"]): cell(row) for row in rows}
    titles = {
        ("own", "mean"): "p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds",
        ("held_out", "mean"): "the same, utilities by the accuracy on the server's held-out images",
        ("own", "sum"): "p-mean welfare (Σ u^p)^(1/p), the scale of the paper's Table 1",
    }
    blocks = []
    for (kind, scale), title in titles.items():
        body = []
        for name in protocols:
            body.append([name, *(cells[kind, scale, name, p] for p in powers)])
            body += [row] if scale == "sum" and (row := paper.cells(dataset, name, powers)) else []
        header = ["protocol", *(f"p = {p:g}" for p in powers)]
        blocks.append(f"{title}\n\n" + tables.markdown(header, body))
    return "\n\n".join(blocks + _undefined(rows))


def _undefined(rows: Sequence[dict[str, Any]]) -> list[str]:
    powers: dict[tuple[str, str], dict[str, None]] = {}
    for row in (row for row in rows if row["undefined"]):
        who = f"{row['protocol']} by {row['utilities'].replace('_', ' ')} images"
        powers.setdefault((who, row["undefined"]), {})[f"{row['p']:g}"] = None
    alike: dict[tuple[str, str], list[str]] = {}
    for (who, reason), at in powers.items():
        alike.setdefault((reason, ", ".join(at)), []).append(who)
    lines = [f"{'; '.join(who)}, {reason} (p = {at})" for (reason, at), who in alike.items()]
    return ["undefined:\n" + "\n".join(lines)] if lines else []


def cell(row: dict[str, Any]) -> str:
    """A p-mean with its standard error."""
    if row["welfare"] is None:
        return "undefined"
    error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2g}"
    return f"{row['welfare']:.5g}{error}"


def difference_text(rows: Sequence[dict[str, Any]]) -> str:
    """Paired differences of normalised p-means as Markdown, both kinds of utilities."""
    blocks = []
    for kind, title in (("own", "own test images"), ("held_out", "held-out images")):
        mine = [row for row in rows if (row["utilities"], row["scale"]) == (kind, "mean")]
        powers = list(dict.fromkeys(row["p"] for row in mine))
        pairs: dict[str, list[str]] = {}
        for row in mine:
            pairs.setdefault(f"{row['protocol']} - {row['minus']}", []).append(_interval(row))
        header = ["difference", *(f"p = {p:g}" for p in powers)]
        head = f"paired differences over seeds [{_CONFIDENCE:.0%} interval], utilities by {title}\n\n"
        blocks.append(head + tables.markdown(header, [[name, *row] for name, row in pairs.items()]))
    return "\n\n".join(blocks)


def _interval(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "undefined"
    ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['difference']:+.4f}{ends}"


def _seconds_text(rows: Sequence[dict[str, Any]]) -> str:
    total: dict[str, float] = {}
    for row in rows:
        total[row["protocol"]] = total.get(row["protocol"], 0.0) + row["seconds"]
    return "seconds of training: " + ", ".join(f"{name} {x:.1f}" for name, x in total.items())
