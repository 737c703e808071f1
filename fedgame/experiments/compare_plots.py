"""The figures of a comparison, drawn from its CSV files alone."""

import numpy as np
from matplotlib import figure

from fedgame.experiments import plots, storage

COLORS = {
    "FedAvg": "C7",
    "MWFed": "C1",
    "FedBR": "C0",
    "FedBR-BG": "C2",
    "FedBR, β = 1 - 1/n": "C8",
    "FedBR, personal rates": "C9",
    "First best": "black",
    "AFL": "C3",
    "q-FFL": "C4",
}


def draw_all(work: storage.Workdir) -> None:
    """Draws `curve.png`, `contributions.png` and `welfare.png` of a comparison."""
    plots.draw(work, "curve", curve, (7, 4))
    plots.draw(work, "contributions", contributions, (9, 4))
    plots.draw(work, "welfare", welfare, (9, 4.5))


def curve(work: storage.Workdir, fig: figure.Figure) -> None:
    """The measured accuracies, the fitted ã, and where the protocols end up on it."""
    measured, fitted = work.read_csv("curve.csv"), work.read_csv("fitted_curve.csv")
    ax = fig.subplots()
    ax.plot(*plots.columns(measured, "size", "accuracy"), ".", color="0.5", label="measured, one run each")
    ax.plot(*plots.columns(fitted, "size", "accuracy"), color="black", label="fitted ã")
    runs = work.read_csv("runs.csv")
    low = min(float(row["accuracy"]) for row in measured)
    for k, (name, rows) in enumerate(plots.by(runs, "protocol").items()):  # one above the other: many meet
        total = np.mean(plots.columns(rows, "charged")[0])
        ax.axvline(total, 0.05 * k, 0.05 * k + 0.045, color=COLORS.get(name), linewidth=4, label=name)
    ax.set(
        xlabel="samples S = ‖s‖₁",
        ylabel="accuracy on held-out images",
        ylim=(max(0.0, low - 0.1), 1.0),
        title="The server's accuracy curve, and what protocols share",
    )
    fig.legend(frameon=False, loc="outside right center")


def contributions(work: storage.Workdir, fig: figure.Figure) -> None:
    """Each agent's contribution over the steps of the game, or over rounds where they change, first seed."""
    rows = [row for row in work.read_csv("contributions.csv") if row["seed"] == "0"]
    panels = plots.by(rows, "protocol")
    moving = {name: mine for name, mine in panels.items() if any(row["step"] != "0" for row in mine)}
    panels = moving or panels
    wide = min(len(panels), 3)
    grid = fig.subplots(-(-len(panels) // wide), wide, sharey=True, squeeze=False)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (name, mine) in zip(grid.flat, panels.items(), strict=False):
        for agent in plots.by(mine, "agent").values():
            ax.plot(*plots.columns(agent, "step", "contribution"), color=COLORS.get(name), linewidth=1)
        ax.set(title=name, xlabel="round" if name == "MWFed" else "step of the game")
    for ax in grid[:, 0]:
        ax.set_ylabel("contribution s_i, samples")
    fig.suptitle("What each agent contributes (seed 0)")


def welfare(work: storage.Workdir, fig: figure.Figure) -> None:
    """The normalised p-means of Table 1 and FedBR-BG's paired differences; undefined ones are left out."""
    differences = work.read_csv("differences.csv") if work.has("differences.csv") else []
    ours = [row for row in differences if row["protocol"] == "FedBR-BG"]
    left, right = fig.subplots(1, 2) if ours else (fig.subplots(), None)
    table = work.read_csv("table1.csv")
    rows, infinite = _shown(table), any(np.isinf(float(row["p"])) for row in table)
    for name, mine in plots.by(rows, "protocol").items():
        known = [row for row in mine if row["welfare"]]
        p, value = plots.columns(known, "p", "welfare")
        error = [float(row["standard_error"] or 0) for row in known]
        left.errorbar(p, value, error, marker="o", capsize=3, color=COLORS.get(name), label=name)
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
            right.errorbar(p + 0.012 * k, value, error, marker="o", capsize=3, color=COLORS.get(name))
        right.axhline(0, color="black", linewidth=0.5)
        right.set(xlabel="p", ylabel="FedBR-BG less the other protocol", title="Paired, 95% intervals")
    fig.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)


def _shown(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Normalised, by the agents' own test images, at finite p."""
    return [
        row
        for row in rows
        if row["scale"] == "mean" and row["utilities"] == "own" and np.isfinite(float(row["p"]))
    ]
