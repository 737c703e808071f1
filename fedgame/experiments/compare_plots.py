"""The figures of a comparison, drawn from its CSV files alone."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib import figure

from fedgame.experiments import plots, storage


def draw_all(work: storage.Workdir) -> None:
    """Draws `curve.png`, `contributions.png` and `welfare.png` of a comparison."""
    plots.draw(work, "curve", curve, (7, 4))
    plots.draw(work, "contributions", contributions, (9, 4))
    plots.draw(work, "welfare", welfare, (9, 4.5))


def curve(work: storage.Workdir, fig: figure.Figure) -> None:
    """The measured accuracies, the fitted ã, and where the protocols end up on it."""
    measured, fitted = work.read_csv("curve.csv"), work.read_csv("fitted_curve.csv")
    ax = fig.subplots()
    ax.plot(*plots.columns(measured, "samples", "accuracy"), ".", color="0.5", label="measured, one run each")
    ax.plot(*plots.columns(fitted, "samples", "accuracy"), color="black", label="fitted ã")
    runs = work.read_csv("runs.csv")
    low = min(float(row["accuracy"]) for row in measured)
    color = colors(work)
    for k, (name, rows) in enumerate(plots.by(runs, "protocol").items()):  # one above the other: many meet
        total = np.mean(plots.columns(rows, "charged")[0])
        ax.axvline(total, 0.05 * k, 0.05 * k + 0.045, color=color[name], linewidth=4, label=name)
    ax.set(
        xlabel="samples S = ‖s‖₁",
        ylabel="accuracy on held-out images",
        ylim=(max(0.0, low - 0.1), 1.0),
        title="The server's accuracy curve, and what protocols share",
    )
    fig.legend(frameon=False, loc="outside right center")


def contributions(work: storage.Workdir, fig: figure.Figure) -> None:
    """Each agent's contribution over the steps of the game, or over rounds where they change, first seed."""
    panels, color = _moving(work), colors(work)
    wide = min(len(panels), 3)
    axes = fig.subplots(-(-len(panels) // wide), wide, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (name, (label, *columns, mine)) in zip(axes.flat, panels.items(), strict=False):
        for agent in plots.by(mine, "agent").values():
            ax.plot(*plots.columns(agent, *columns), color=color[name], linewidth=1)
        ax.set(title=name, xlabel=label)
    for ax in axes[:, 0]:
        ax.set_ylabel("contribution s_i, samples")
    fig.suptitle("What each agent contributes (seed 0)")


def _moving(work: storage.Workdir) -> dict[str, tuple[Any, ...]]:
    """By protocol, what to draw: label, columns and rows of those who move, or of all if nobody does."""
    steps = plots.by(_first(work.read_csv("contributions.csv")), "protocol")
    rounds = plots.by(_first(work.read_csv("drawn.csv")) if work.has("drawn.csv") else [], "protocol")
    of_rounds = {name: ("round", "round", "drawn", mine) for name, mine in rounds.items()}
    of_steps = {name: ("step of the game", "step", "contribution", mine) for name, mine in steps.items()}
    moved = {name: of_steps[name] for name, mine in steps.items() if any(row["step"] != "0" for row in mine)}
    shown = of_rounds | moved or of_steps
    return {name: shown[name] for name in steps if name in shown}


def _first(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row["seed"] == "0"]


def colors(work: storage.Workdir) -> dict[str, Any]:
    """A colour of its own for every protocol, in the order of the tables."""
    names = list(plots.by(work.read_csv("runs.csv"), "protocol"))
    few, many = matplotlib.colormaps["tab10"].colors, matplotlib.colormaps["tab20"].colors
    palette = few if len(names) <= len(few) else many
    return {name: palette[k % len(palette)] for k, name in enumerate(names)}


def welfare(work: storage.Workdir, fig: figure.Figure) -> None:
    """The normalised p-means of Table 1, and paired differences of the last protocol from the others.

    Undefined ones are left out.
    """
    color = colors(work)
    differences = work.read_csv("differences.csv") if work.has("differences.csv") else []
    last = list(color)[-1]
    ours = [row for row in differences if row["protocol"] == last]
    left, right = fig.subplots(1, 2) if ours else (fig.subplots(), None)
    table = work.read_csv("table1.csv")
    rows, infinite = _shown(table), any(np.isinf(float(row["p"])) for row in table)
    for name, mine in plots.by(rows, "protocol").items():
        known = [row for row in mine if row["welfare"]]
        p, value = plots.columns(known, "p", "welfare")
        error = [float(row["standard_error"] or 0) for row in known]
        left.errorbar(p, value, error, marker="o", capsize=3, color=color[name], label=name)
        if len(known) < len(mine):
            left.plot([], [], " ", label=f"({name}: {len(mine) - len(known)} not shown)")
    label = "p (-∞ is in the tables only)" if infinite else "p"
    left.set(xlabel=label, ylabel="p-mean of utilities, (1/n Σ u^p)^(1/p)", title="Welfare by protocol")
    if right is not None:
        for k, (name, mine) in enumerate(plots.by(_shown(ours), "minus").items()):
            known = [row for row in mine if row["difference"]]
            p, value = plots.columns(known, "p", "difference")
            ends = [[row[end] or row["difference"] for row in known] for end in ("low", "high")]
            error = np.abs(np.asarray(ends, float) - value)
            right.errorbar(p + 0.012 * k, value, error, marker="o", capsize=3, color=color[name])
        right.axhline(0, color="black", linewidth=0.5)
        right.set(xlabel="p", ylabel="difference of p-means, paired, 95% interval")
        right.set_title(f"{last}\nless the other protocol", fontsize="medium")
    fig.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)


def _shown(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Normalised, by the agents' own test images, at finite p."""
    return [
        row
        for row in rows
        if row["scale"] == "mean" and row["utilities"] == "own" and np.isfinite(float(row["p"]))
    ]
