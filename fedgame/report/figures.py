"""Figures, drawn from the CSV files of a run alone."""

from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib import axes, figure, lines, patches

from fedgame.experiments import storage, tables

_SHARES = {"part": "C0", "all she has": "C2", "nothing": "C7"}


def draw(
    work: storage.Workdir,
    name: str,
    function: Callable[[storage.Workdir, figure.Figure], None],
    size: tuple[float, float],
) -> None:
    """Draws one figure, of a size in inches, and writes it whole or not at all."""
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        fig = figure.Figure(figsize=size, layout="constrained")
        function(work, fig)
        partial = work.path / f"{name}.png.partial"
        fig.savefig(partial, format="png", dpi=150, metadata={"Software": None})
        partial.replace(work.path / f"{name}.png")


def measured_curve(work: storage.Workdir, fig: figure.Figure) -> None:
    """What every training run reached, the mean with its seed-to-seed band, and the fits."""
    ax = fig.subplots()
    ax.plot(*columns(work.read_csv("curve.csv"), "samples", "accuracy"), ".", color="0.6", label="one run")
    band = work.read_csv("band.csv")
    x, mean = columns(band, "samples", "accuracy")
    ax.plot(x, mean, "o", color="black", markersize=4, label="mean")
    if all(row["deviation"] for row in band):
        (sd,) = columns(band, "deviation")
        label = "± one deviation between seeds"
        ax.fill_between(x, mean - sd, mean + sd, color="0.5", alpha=0.25, linewidth=0, label=label)
    fits = work.read_csv("fitted_curves.csv")
    for name in (name for name in fits[0] if name != "samples"):
        ax.plot(*columns(fits, "samples", name), linewidth=1, label=f"{name} fit")
    ax.set(xlabel="samples S = ‖s‖₁", ylabel="accuracy on held-out images", ylim=(0, 1))
    ax.set_title("The server's accuracy curve ã")
    ax.legend(frameon=False, loc="lower right")


def holdings(work: storage.Workdir, fig: figure.Figure) -> None:
    """How many images of each class every agent holds."""
    rows = work.read_csv("holdings.csv")
    names = [name for name in rows[0] if name not in ("agent", "holds", "contributes")]
    held = np.asarray(columns(rows, *names))
    ax = fig.subplots()
    image = ax.imshow(held, aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    ax.set(xlabel="agent", ylabel="class", title="Images that agents hold")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len(names) <= 30:
        ax.set_yticks(range(len(names)), [name[:16] for name in names])
    if held.size <= 200:
        for (k, i), number in np.ndenumerate(held):
            color = "white" if number > held.max() / 2 else "black"
            ax.text(i, k, f"{number:.0f}", ha="center", va="center", color=color, fontsize="small")
    fig.colorbar(image, label="images")


def rounds(work: storage.Workdir, fig: figure.Figure) -> None:
    """Accuracy on held-out images after the rounds of one training run."""
    ax = fig.subplots()
    ax.plot(*columns(work.read_csv("rounds.csv"), "round", "accuracy"), marker=".")
    ax.set(xlabel="round", ylabel="accuracy on held-out images", ylim=(0, 1))
    ax.set_title("Federated averaging")


def equilibrium(work: storage.Workdir, fig: figure.Figure) -> None:
    """The curve with its measurements and where the equilibrium is on it; what every agent contributes."""
    agents = work.read_csv("outcome.csv")
    left, right = fig.subplots(1, 2) if work.has("fitted_curve.csv") else (None, fig.subplots())
    if left is not None:
        _curve_with_equilibria(work, left)
    most = sorted(agents, key=lambda row: -float(row["contribution"]))[:40]
    colors = [_SHARES[row["shares"]] for row in most]
    s, capacity = columns(most, "contribution", "capacity")
    places = np.arange(len(most))
    right.barh(places, s, color=colors)
    if "contribution_low" in agents[0]:
        low, high = columns(most, "contribution_low", "contribution_high")
        right.hlines(places, low, high, color="black", linewidth=1)
    right.set(xlabel="contribution s_i, samples", ylim=(len(most) - 0.4, -0.6))
    right.set_title("What agents contribute" + (f" (the most of {len(agents)})" if len(agents) > 40 else ""))
    right.set_yticks(places, [row["name"][:24] for row in most])
    limit = 1.15 * max(right.dataLim.x1, 1e-12)
    right.set_xlim(0, limit)
    shown = capacity <= limit
    right.plot(capacity[shown], places[shown], "|", color="black", markersize=9)
    keys = [
        patches.Patch(color=_SHARES[x], label=f"shares {x}") for x in dict.fromkeys(r["shares"] for r in most)
    ]
    keys.append(
        lines.Line2D([], [], color="black", marker="|", linestyle="", label="capacity, if in the picture")
    )
    fig.legend(handles=keys, loc="outside lower right", ncols=len(keys), frameon=False)


def _curve_with_equilibria(work: storage.Workdir, ax: axes.Axes) -> None:
    for name, rows in by(work.read_csv("fitted_curve.csv"), "agent").items():
        x, accuracy = columns(rows, "samples", "accuracy")
        (line,) = ax.plot(x, accuracy, color=None if name else "black", label=name or "fitted curve")
        if rows[0]["low"]:
            ax.fill_between(x, *columns(rows, "low", "high"), color=line.get_color(), alpha=0.15, linewidth=0)
    if work.has("measurements.csv"):
        measured = work.read_csv("measurements.csv")
        ax.plot(*columns(measured, "samples", "accuracy"), ".", color="0.5", label="measured", zorder=1)
    for k, row in enumerate(work.read_csv("equilibria.csv")):
        style = {"linestyle": "-" if k == 0 else ":", "color": "C3"}
        ax.axvline(
            float(row["total"]), **style, linewidth=1, label="equilibrium" if k == 0 else "another one"
        )
    ax.set(xlabel="samples S", ylabel="accuracy", title="Accuracy, and where agents end up")
    ax.legend(frameon=False, loc="lower right")


def mechanism(work: storage.Workdir, fig: figure.Figure) -> None:
    """Contributions and welfare over β, with the rates that have names."""
    left, right = fig.subplots(1, 2, sharex=True)
    contributions, swept = work.read_csv("over_beta_contributions.csv"), work.read_csv("over_beta.csv")
    (beta,) = columns(swept, "beta")
    names = [name for name in contributions[0] if name != "beta"]
    left.stackplot(beta, columns(contributions, *names), labels=[name[:24] for name in names], alpha=0.8)
    left.set(ylabel="contributions, samples", title="Who contributes what under M_β")
    left.legend(frameon=False, loc="upper left", fontsize="small")
    for name in swept[0]:
        if name.startswith("p="):
            known = [row for row in swept if row[name]]
            if known:
                right.plot(*columns(known, "beta", name), label=name.replace("=", " = "))
    (bound,) = (row for row in work.read_csv("p_means.csv") if row["mechanism"] == tables.FIRST_BEST)
    first = next(name for name in bound if name.startswith("p="))
    right.axhline(float(bound[first]), color="black", linestyle=":", linewidth=1, label="largest Σ u / n")
    right.set(ylabel="p-mean of utilities", title="Welfare of everybody under M_β")
    marked: dict[str, list[str]] = {}
    for mark in work.read_csv("marks.csv"):
        marked.setdefault(f"{float(mark['beta']):.4g}", []).append(tables.title(mark["name"]))
    for k, (where, names) in enumerate(marked.items()):
        for ax in (left, right):
            ax.axvline(float(where), color=f"C{k + 5}", linestyle="--", linewidth=1)
        text = f"β = {where}: " + ",\n".join(names)
        right.plot([], [], color=f"C{k + 5}", linestyle="--", label=text)
    ticks = [x for x in (0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999) if x <= beta.max()]
    for ax in (left, right):
        ax.set_xscale(
            "function", functions=(lambda x: -np.log1p(-np.minimum(x, 1 - 1e-15)), lambda y: -np.expm1(-y))
        )
        ax.set(xlabel="β", xlim=(0, beta.max()))
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    fig.legend(
        *right.get_legend_handles_labels(), frameon=False, loc="outside right center", fontsize="small"
    )


def columns(rows: list[dict[str, str]], *names: str) -> list[np.ndarray]:
    """Columns of numbers."""
    return [np.asarray([float(row[name]) for row in rows]) for name in names]


def numeric(rows: list[dict[str, str]], name: str) -> bool:
    """Whether a column holds numbers, and empty cells, alone."""
    try:
        return bool([float(row[name]) for row in rows if row[name]])
    except ValueError:
        return False


def by(rows: list[dict[str, str]], name: str) -> dict[str, list[dict[str, str]]]:
    """Rows by what stands in one column."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups
