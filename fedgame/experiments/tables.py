"""From finished runs to tables: tidy rows for files, and text for people."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, welfare

SCALES = {"mean": True, "sum": False}  # of the p-mean: Section 1.1's with 1/n, Table 1's without


def agent_rows(game: games.Game, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per protocol, seed and agent: what she shared, paid, received and got."""
    rows = []
    for run in runs:
        charged = jnp.asarray(run["charged"])
        cost = games.incurred_costs(game, charged)
        payment = budget_balanced.payments(run["beta"], cost)
        utility = jnp.asarray(run["accuracy"]) - cost + payment
        columns = {
            "contribution": run["profile"],
            "charged": charged,
            "accuracy": run["accuracy"],
            "cost": cost,
            "payment": payment,
            "utility": utility,
        }
        numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
        rows += [
            {"protocol": run["protocol"], "seed": run["seed"], "agent": i}
            | {name: column[i] for name, column in numbers.items()}
            for i in range(game.n)
        ]
    return rows


def run_rows(
    game: games.Game, runs: Sequence[dict[str, Any]], agents: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row per protocol and seed; Nash gaps on the fitted game, before and after rounding."""
    largest_gap = jax.jit(lambda game, s: jnp.max(certificates.nash_gap(game, s)))
    rows = []
    for run in runs:
        played = budget_balanced.under_mechanism(game, run["beta"])
        mine = [r for r in agents if (r["protocol"], r["seed"]) == (run["protocol"], run["seed"])]
        gaps = {
            name: float(largest_gap(played, jnp.asarray(run[key])))
            for name, key in (("nash_gap", "profile"), ("nash_gap_charged", "charged"))
        }
        rows.append(
            {
                "protocol": run["protocol"],
                "seed": run["seed"],
                "beta": run["beta"],
                "contributed": float(np.sum(run["profile"])),
                "charged": float(np.sum(run["charged"])),
                "agent_accuracy": float(np.mean(run["accuracy"])),
                "held_out_accuracy": run["held_out_accuracy"],
                "mean_utility": float(np.mean([r["utility"] for r in mine])),
                "sum_of_payments": float(np.sum([r["payment"] for r in mine])),
                **gaps,
            }
        )
    return rows


def welfare_rows(agents: Sequence[dict[str, Any]], powers: Sequence[float]) -> list[dict[str, Any]]:
    """Table 1: one row per protocol, p and scale, mean ± standard error over seeds.

    Where the p-mean of a single seed is undefined, so is the mean, and `undefined` names seed and
    agents: no seed is dropped. One seed has no standard error.
    """
    utilities: dict[str, dict[int, list[float]]] = {}
    for row in agents:
        by_seed = utilities.setdefault(row["protocol"], {})
        by_seed.setdefault(row["seed"], []).append(row["utility"])
    return [
        {"protocol": protocol, "p": p, "scale": scale} | _over_seeds(by_seed, p, normalized)
        for scale, normalized in SCALES.items()
        for protocol, by_seed in utilities.items()
        for p in powers
    ]


def _over_seeds(by_seed: dict[int, list[float]], p: float, normalized: bool) -> dict[str, Any]:
    reasons = [
        f"seed {seed}: negative utility of agent {', '.join(map(str, names))}"
        for seed, u in by_seed.items()
        if (names := welfare.undefined(np.asarray(u), p))
    ]
    if p == 0 and not normalized:
        reasons = ["(Σ u^p)^(1/p) has no limit at p = 0"]
    values = [float(welfare.p_mean(jnp.asarray(u), p, normalized)) for u in by_seed.values()]
    seeds, mean, error = len(values), None, None
    if not reasons:
        mean = float(np.mean(values))
        error = float(np.std(values, ddof=1) / np.sqrt(seeds)) if seeds > 1 else None
    return {"welfare": mean, "standard_error": error, "seeds": seeds, "undefined": "; ".join(reasons)}


def welfare_text(rows: Sequence[dict[str, Any]]) -> str:
    """Table 1 as Markdown, one block per scale, and what is undefined below."""
    powers = list(dict.fromkeys(row["p"] for row in rows))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    titles = {
        "mean": "p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds",
        "sum": "p-mean welfare (Σ u^p)^(1/p), the scale of the paper's Table 1",
    }
    cells = {(row["scale"], row["protocol"], row["p"]): _cell(row) for row in rows}
    blocks = []
    for scale, title in titles.items():
        body = [[name, *(cells[scale, name, p] for p in powers)] for name in protocols]
        blocks.append(f"{title}\n\n" + markdown(["protocol", *(f"p = {p:g}" for p in powers)], body))
    notes = dict.fromkeys(
        f"{row['protocol']}, p = {row['p']:g}: {row['undefined']}" for row in rows if row["undefined"]
    )
    return "\n\n".join(blocks + (["undefined:\n" + "\n".join(notes)] if notes else []))


def _cell(row: dict[str, Any]) -> str:
    if row["welfare"] is None:
        return "undefined"
    error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2g}"
    return f"{row['welfare']:.5g}{error}"


def game_text(summary: dict[str, Any]) -> str:
    """The fit of ã and the equilibria on it, a line each."""
    between = summary["deviation_between_seeds"]
    lines = [
        f"ã: {summary['fit']} fit, root mean square error {summary['rmse']:.4f}, largest "
        f"{summary['largest_residual']:.4f}"
        + (f"; one training run deviates by {between:.4f}" if between is not None else "")
    ]
    for name, e in summary["equilibria"].items():
        kind = "equilibrium" if e["converged"] else "NO equilibrium found, profile"
        lines.append(
            f"{name}: β = {e['beta']:.6g}, {kind} with Σ s = {e['total']:.2f}, Nash gap "
            f"{e['nash_gap']:.1e}" + ("" if e["unique"] else ", only Σ s is determined")
        )
    return "\n".join(lines)


def run_text(rows: Sequence[dict[str, Any]]) -> str:
    """The means over seeds as Markdown; the Nash gap is the largest over seeds."""
    header = [
        "protocol",
        "β",
        "Σ samples",
        "accuracy, held out",
        "mean utility",
        "Nash gap",
        "Nash gap, whole samples",
        "Σ payments",
    ]
    body = []
    for name in dict.fromkeys(row["protocol"] for row in rows):
        mine = [row for row in rows if row["protocol"] == name]

        def mean(key: str, mine: list = mine) -> float:
            return float(np.mean([row[key] for row in mine]))

        body.append(
            [
                name,
                f"{mine[0]['beta']:.4g}",
                f"{mean('charged'):.1f}",
                f"{mean('held_out_accuracy'):.3f}",
                f"{mean('mean_utility'):.4f}",
                f"{max(row['nash_gap'] for row in mine):.1e}",
                f"{max(row['nash_gap_charged'] for row in mine):.1e}",
                f"{max((row['sum_of_payments'] for row in mine), key=abs):.1e}",
            ]
        )
    return markdown(header, body)


def holdings_text(rows: Sequence[dict[str, Any]], most: int = 20) -> str:
    """How many images of each class the first agents hold, as Markdown."""
    text = markdown(list(rows[0]), [[str(x) for x in row.values()] for row in rows[:most]])
    return text if len(rows) <= most else f"{text}\n... and {len(rows) - most} more agents"


def rounds_text(rows: Sequence[dict[str, Any]]) -> str:
    """The best and the last accuracy of a training run."""
    best, last = max(rows, key=lambda row: row["accuracy"]), rows[-1]
    return (
        f"accuracy on held-out images: {last['accuracy']:.4f} after {last['round']} rounds; "
        f"the best, {best['accuracy']:.4f}, after {best['round']}"
    )


def band_text(rows: Sequence[dict[str, Any]]) -> str:
    """The measured accuracies of every size over seeds, as Markdown."""
    body = [
        [
            str(row["size"]),
            f"{row['mean']:.4f}",
            "" if row["deviation"] is None else f"{row['deviation']:.4f}",
            f"{row['low']:.4f}",
            f"{row['high']:.4f}",
        ]
        for row in rows
    ]
    return markdown(["S", "accuracy, mean", "deviation of a run", "lowest", "highest"], body)


def fits_text(fits: Sequence[dict[str, Any]]) -> str:
    """The error of every fit, a line each."""
    return "\n".join(
        f"{fit['fit']} fit: root mean square error {fit['rmse']:.4f}, largest {fit['largest_residual']:.4f}"
        + ("  <- used" if fit["used"] else "")
        for fit in fits
    )


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    rows = [header, *body]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
