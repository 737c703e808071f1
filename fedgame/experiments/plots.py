"""Figures of a comparison, drawn from its CSV files alone."""

import matplotlib
import numpy as np
from matplotlib import figure

from fedgame.experiments import storage

_COLORS = {"FedAvg": "C7", "MWFed": "C1", "FedBR": "C0", "FedBR-BG": "C2"}


def draw_all(work: storage.Workdir) -> None:
    """Draws `curve.png`, `contributions.png` and `welfare.png`."""
    for name, draw in (("curve", curve), ("contributions", contributions), ("welfare", welfare)):
        with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
            fig = figure.Figure(figsize=(7, 4), layout="constrained")
            draw(work, fig)
            partial = work.path / f"{name}.png.partial"
            fig.savefig(partial, format="png", dpi=150, metadata={"Software": None})
            partial.replace(work.path / f"{name}.png")


def curve(work: storage.Workdir, fig: figure.Figure) -> None:
    """The measured accuracies, the fitted ã, and where the protocols end up on it."""
    measured, fitted = work.read_csv("curve.csv"), work.read_csv("fitted_curve.csv")
    ax = fig.subplots()
    ax.plot(*_columns(measured, "size", "accuracy"), ".", color="0.5", label="measured, one run each")
    ax.plot(*_columns(fitted, "size", "accuracy"), color="black", label="fitted ã")
    runs = work.read_csv("runs.csv")
    low = min(float(row["accuracy"]) for row in measured)
    for name, rows in _by(runs, "protocol").items():
        total = np.mean(_columns(rows, "charged")[0])
        ax.axvline(total, ymax=0.08, color=_COLORS.get(name), linewidth=3, label=name)
    ax.set(
        xlabel="samples S = ‖s‖₁",
        ylabel="accuracy on held-out images",
        ylim=(max(0.0, low - 0.1), 1.0),
        title="The server's accuracy curve, and what protocols share",
    )
    ax.legend(frameon=False, loc="lower right")


def contributions(work: storage.Workdir, fig: figure.Figure) -> None:
    """Each agent's contribution over the steps of the game (MWFed: rounds), first seed."""
    rows = [row for row in work.read_csv("contributions.csv") if row["seed"] == "0"]
    panels = {name: mine for name, mine in _by(rows, "protocol").items() if name != "FedAvg"}
    axes = fig.subplots(1, len(panels), sharey=True)
    for ax, (name, mine) in zip(axes, panels.items(), strict=True):
        for agent in _by(mine, "agent").values():
            ax.plot(*_columns(agent, "step", "contribution"), color=_COLORS.get(name), linewidth=1)
        ax.set(title=name, xlabel="round" if name == "MWFed" else "step of the game")
    axes[0].set_ylabel("contribution s_i, samples")
    fig.suptitle("What each agent contributes (seed 0)")


def welfare(work: storage.Workdir, fig: figure.Figure) -> None:
    """The normalised p-means of Table 1 with standard errors; undefined ones are left out."""
    rows = [row for row in work.read_csv("table1.csv") if row["scale"] == "mean"]
    ax = fig.subplots()
    for name, mine in _by(rows, "protocol").items():
        known = [row for row in mine if row["welfare"] and np.isfinite(float(row["p"]))]
        p, value = _columns(known, "p", "welfare")
        error = [float(row["standard_error"] or 0) for row in known]
        ax.errorbar(p, value, error, marker="o", capsize=3, color=_COLORS.get(name), label=name)
        if len(known) < len(mine):
            ax.plot([], [], " ", label=f"({name}: {len(mine) - len(known)} not shown)")
    ax.set(xlabel="p", ylabel="p-mean of utilities, (1/n Σ u^p)^(1/p)", title="Welfare by protocol")
    fig.legend(frameon=False, loc="outside right center")


def _columns(rows: list[dict[str, str]], *names: str) -> list[np.ndarray]:
    return [np.asarray([float(row[name]) for row in rows]) for name in names]


def _by(rows: list[dict[str, str]], name: str) -> dict[str, list[dict[str, str]]]:
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups
