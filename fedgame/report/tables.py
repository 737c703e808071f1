"""From finished runs to tables: tidy rows for files, and text for people."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms.base import Mechanism

FIRST_BEST = "first_best"
TITLES = {  # of what is no rule
    "chosen": "chosen",
    "chosen_who_stay": "chosen, those who stay",
    FIRST_BEST: "first best",
}


def agent_rows(game: games.Game, trial: Any) -> list[dict[str, Any]]:
    """One row per agent for a `compare.Trial`: what she shared, paid, received and got.

    `utility` is by the accuracy on her own test images, `held_out_utility` by that on the server's.
    `withheld` is by how much accuracy her model would be worse if the mechanism gave her what it says.
    """
    charged, mechanism = jnp.asarray(trial.training["charged"]), trial.mechanism
    cost, payment, withheld = _settled(game, mechanism, charged)
    accuracy, held_out = jnp.asarray(trial.training["accuracy"]), trial.training["held_out_accuracy"]
    columns = {
        **announced(mechanism, game.n),
        "contribution": trial.profile,
        "charged": charged,
        "accuracy": accuracy,
        "withheld": withheld,
        "cost": cost,
        "payment": payment,
        "utility": accuracy - withheld - cost + payment,
        "held_out_utility": held_out - withheld - cost + payment,
    }
    numbers = {name: np.asarray(column, float).tolist() for name, column in columns.items()}
    named = {"protocol": trial.title, "seed": trial.seed}
    return [
        named | {"agent": i} | {name: column[i] for name, column in numbers.items()} for i in range(game.n)
    ]


@jax.jit
def _settled(game: games.Game, mechanism: Mechanism, s: jax.Array) -> tuple[jax.Array, ...]:
    withheld = mechanism.withheld(game, s) if mechanism.degrades else jnp.zeros_like(s)
    return games.incurred_costs(game, s), mechanism.payments(game, s), withheld


@jax.jit
def _largest_gap(game: games.Game, mechanism: Mechanism, s: jax.Array) -> jax.Array:
    return jnp.max(certificates.nash_gap(mechanism.under(game), s))


def trial_row(game: games.Game, trial: Any) -> dict[str, Any]:
    """One row for a `compare.Trial`; Nash gaps on the fitted game, before and after rounding."""
    agents, mechanism = agent_rows(game, trial), trial.mechanism
    profile, charged = jnp.asarray(trial.profile), jnp.asarray(trial.training["charged"])
    return {
        "protocol": trial.title,
        "seed": trial.seed,
        "step": trial.step,
        "announced": told(mechanism, game.n),
        "contributed": float(np.sum(trial.profile)),
        "charged": float(np.sum(trial.training["charged"])),
        "agent_accuracy": float(np.mean(trial.training["accuracy"])),
        "held_out_accuracy": trial.training["held_out_accuracy"],
        "mean_utility": float(np.mean([r["utility"] for r in agents])),
        "held_out_mean_utility": float(np.mean([r["held_out_utility"] for r in agents])),
        "withheld": float(np.mean([r["withheld"] for r in agents])),
        "sum_of_payments": float(np.sum([r["payment"] for r in agents])),
        "nash_gap": float(_largest_gap(game, mechanism, profile)),
        "nash_gap_charged": float(_largest_gap(game, mechanism, charged)),
        "ends": trial.ending,
    }


_OWN = (  # columns of agents that are no mechanism's
    *("name", "protocol", "seed", "agent", "contribution", "capacity", "payoff", "cost", "utility"),
    *("nash_gap", "stays", "exact_payment", "payment", "outside", "without_payments", "charged"),
    *("accuracy", "withheld", "held_out_utility"),
)


def announced(mechanism: Mechanism, n: int) -> dict[str, Any]:
    """[n] what n agents are told, by column, none of which is another one of the table."""
    return {_column(name): x for name, x in mechanism.announced(n).items()}


def shown(mechanism: Mechanism) -> dict[str, str]:
    """Those of these columns that are printed, and their headers."""
    return {_column(name): header for name, header in mechanism.columns.items()}


def _column(name: str) -> str:
    return f"announced_{name}" if name in _OWN else name


def title(name: str) -> str:
    """What the column `mechanism` holds, the text of a rule or one of `TITLES`, as people read it.

    What is neither is its own title: somebody's study may tell apart what is no rule.
    """
    try:
        return TITLES.get(name) or registry.title(registry.read("rule", name))
    except (ValueError, FileNotFoundError):
        return name


def told(mechanism: Mechanism, n: int) -> str:
    """What n agents are told, in a few characters: β = 0.9, or β_i = 0.85 to 0.95."""
    numbers = mechanism.announced(n)
    return ", ".join(_span(label, numbers[name]) for name, label in mechanism.columns.items())


def _span(label: str, numbers: Any) -> str:
    low, high = float(np.min(numbers)), float(np.max(numbers))
    return f"{label.removesuffix('_i')} = {low:.6g}" if low == high else f"{label} = {low:.6g} to {high:.6g}"


def game_text(summary: dict[str, Any]) -> str:
    """The fit of ã and the equilibria on it, a line each."""
    between = summary["deviation_between_seeds"]
    lines = [
        f"ã: {summary['fit']} fit, root mean square error {summary['rmse']:.4f}, largest "
        f"{summary['largest_residual']:.4f}"
        + (f"; one training run deviates by {between:.4f}" if between is not None else "")
    ]
    for name, e in summary["equilibria"].items():
        if e is None:
            lines.append(f"{name}: aims at no equilibrium")
            continue
        said = f"{e['told']}, " if e["told"] else ""
        kind = "equilibrium" if e["converged"] else "NO equilibrium found, profile"
        lines.append(
            f"{name}: {said}{kind} with Σ s = {e['contributed']:.2f}, Nash gap {e['nash_gap']:.1e}"
            + ("" if e["unique"] else ", only Σ s is determined")
        )
    return "\n".join(lines)


def trials_text(rows: Sequence[dict[str, Any]]) -> str:
    """The means over seeds as Markdown; the Nash gap is the largest over seeds."""
    header = [
        "protocol",
        "announced",
        "Σ samples",
        "accuracy, held out",
        "mean utility",
        "by held out",
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
                mine[0]["announced"],
                f"{mean('charged'):.1f}",
                f"{mean('held_out_accuracy'):.3f}",
                f"{mean('mean_utility'):.4f}",
                f"{mean('held_out_mean_utility'):.4f}",
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
            str(row["samples"]),
            f"{row['accuracy']:.4f}",
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


def curve_rows(
    agent: str, totals: Any, accuracy: Any, band: tuple[Any, Any] | None = None
) -> list[dict[str, Any]]:
    """Rows of `fitted_curve.csv`: `agent` is "" where all share it, `band` its lower and upper ends."""
    low, high = ([None] * len(totals),) * 2 if band is None else band
    return [
        {"agent": agent, "samples": float(s), "accuracy": float(a), "low": low, "high": high}
        for s, a, low, high in zip(totals, accuracy, low, high, strict=True)
    ]


def total(game: games.Game, s: jax.Array) -> jax.Array:
    """S = S₀ + Σ w_i s_i, whatever the payoff."""
    return game.held + jnp.sum(game.quality * s)


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    rows = [header, *body]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
