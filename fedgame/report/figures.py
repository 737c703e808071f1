"""Figures, drawn from the files of a run alone.

matplotlib is imported when the first figure is drawn: that takes half a second, and many commands draw none.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedgame.report import answers, money, scales, tables
from fedgame.runs import sweep as sweeps
from fedgame.runs.workdir import Workdir

if TYPE_CHECKING:
    from matplotlib import axes, figure

_ALL_SHE_HAS = "all she has"
_SHARES = {"part": "C0", _ALL_SHE_HAS: "C2", "nothing": "C7"}  # colours by how much of her data one shares
_CELLS = 12  # members whose names and exchange rates are written into the heat map
_RECEIVES, _PAYS, _ALL = "C2", "C3", "0.6"
_LABELLED = 20  # agents up to whom bars have their numbers beside them
_TITLE = 80  # characters of a title, which may be a text such as 'fedbr(price(price=0.004), steps=50)'
_BARS = 40  # agents in a figure with a bar for each
_BAR = 0.2  # inches that a bar with a name beside it needs
_DIRECT = 9  # lines that are labelled at their ends; more have a legend
_APART = 0.055  # of an axis' height, between labels
_KNOWN = {  # colours of mechanisms and of the paper's protocols, the same in all figures
    "none": "C7",
    "beta_star": "C1",
    "falkinger": "C0",
    "personal": "C2",
    tables.FIRST_BEST: "black",
    "FedAvg": "C0",
    "MWFed": "C1",
    "FedBR": "C2",
    "FedBR-BG": "C3",
}
_ON_LIGHT = "#111111"  # of texts on pale cells: a page in the dark turns black, and no other colour, white
_DASHES = ("-", "--", ":", "-.")  # of lines of one colour
_ROUNDING = 1e-9  # relative difference below which numbers count as equal
_P_EXPLAINED = "p = 1: the ordinary mean; the smaller p is, the more those count who have the least"


def draw(
    work: Workdir, name: str, function: Callable[[Workdir, figure.Figure], None], size: tuple[float, float]
) -> None:
    """Draws one figure and writes it as NAME.png and NAME.svg, each whole or not at all.

    Args:
      work: the directory, whose files the function reads and where the figure is written.
      name: of the figure.
      function: draws on an empty figure.
      size: width and height, inches.
    """
    import matplotlib
    from matplotlib import figure

    style = {"axes.spines.top": False, "axes.spines.right": False}
    # Texts stay texts, which a browser can search and scale; ids do not change from run to run.
    style |= {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        fig = figure.Figure(figsize=size, layout="constrained")
        function(work, fig)
        save = functools.partial(fig.savefig, format="png", dpi=150, metadata={"Software": None})
        work.put(f"{name}.png", save)
        fig.set_layout_engine("none")  # everything has its place: to find it took as long as drawing
        about = {"Date": None, "Creator": None}
        work.put(
            f"{name}.svg", functools.partial(fig.savefig, format="svg", transparent=True, metadata=about)
        )


def colors(names: Sequence[str]) -> dict[str, Any]:
    """A colour for every name: the usual one of what is known; the others get theirs in order."""
    import matplotlib

    known = {name: _KNOWN[name] for name in names if name in _KNOWN}
    others = [name for name in dict.fromkeys(names) if name not in known]
    few, many = matplotlib.colormaps["tab10"].colors, matplotlib.colormaps["tab20"].colors
    if known:  # the others are not drawn in the colour of a known one
        few = [color for k, color in enumerate(few) if f"C{k}" not in known.values()]
    palette = few if len(others) <= len(few) else many
    return known | {name: palette[k % len(palette)] for k, name in enumerate(others)}


def literal(text: str, most: int = 24) -> str:
    """A text as it stands in a figure: its beginning, character by character.

    matplotlib takes what is between two $ for a formula, and leaves a legend's labels out that begin with _.
    """
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def label_ends(ax: axes.Axes, ends: Sequence[tuple[str, float, Any, float]]) -> None:
    """Writes labels beside the right end of what was drawn, each at its height or as near as there is room.

    The limits of the axes must not change any more.

    Args:
      ax: where lines, or bands, end at the right.
      ends: of each the label, see `literal`, the height in units of the y axis, colour and opacity.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [to_axes.transform((ax.get_xlim()[0], height))[1] for _, height, _, _ in ends]
    for (label, _, color, alpha), place in zip(ends, _apart(heights), strict=True):
        beside = (1.015, place)
        ax.annotate(label, beside, xycoords="axes fraction", va="center", color=color, alpha=alpha)


def _apart(places: Sequence[float]) -> list[float]:
    """Places from 0 to 1, moved so that neighbours are `_APART` apart: up, and down again from the top."""
    order = np.argsort(places, kind="stable")
    moved = np.clip(np.asarray(places, float)[order], 0.0, 1.0)
    for k in range(1, len(moved)):
        moved[k] = max(moved[k], moved[k - 1] + _APART)
    highest = 1.0
    for k in reversed(range(len(moved))):
        moved[k] = min(moved[k], highest)
        highest = moved[k] - _APART
    found = np.empty(len(moved))
    found[order] = moved
    return found.tolist()


def _label_lines(ax: axes.Axes, **legend: Any) -> None:
    """Labels lines where they end, if they are few enough; else adds a legend with these options."""
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > _DIRECT:
        ax.legend(frameon=False, **legend)
        return
    ax.set_ylim(*ax.get_ylim())  # labels are placed by it
    ends = []
    for handle, label in zip(handles, labels, strict=True):
        drawn = handle.lines[0] if hasattr(handle, "lines") else handle  # of one with error bars, the line
        x, y = drawn.get_data()
        if len(x):
            ends.append((label, y[np.argmax(x)], drawn.get_color(), 1.0))
    label_ends(ax, ends)


def line(ax: axes.Axes, x: str, y: str, name: str, rows: Sequence[dict[str, Any]], color: Any) -> None:
    """Draws the column `y` over the column `x`, for one mechanism; empty cells are left out.

    Args:
      ax: where to draw.
      x: name of a column.
      y: name of a column.
      name: of the mechanism; "" if there is none, so that the line has no label.
      rows: of the mechanism.
      color: of the line.
    """
    known = [row for row in rows if row[y] is not None]
    if not known:
        return
    style: dict[str, Any] = {"linestyle": "-", "marker": "o", "ms": 4, "color": color}
    if name:
        style["label"] = literal(tables.title(name), _TITLE)
    if name == "personal":
        style["linestyle"] = "--"
    if name == tables.FIRST_BEST:
        style["linestyle"] = ":"
    if name == "falkinger":  # wide and pale: other lines often lie upon it
        style |= {"linewidth": 5, "alpha": 0.35}
    ax.plot(*tables.columns(known, x, y), **style)


def measured_curve(work: Workdir, fig: figure.Figure) -> None:
    """Draws the accuracy of every training run, their mean with its deviation over seeds, and the fits."""
    ax = fig.subplots()
    ax.plot(
        *tables.columns(work.read_csv("curve.csv"), "samples", "accuracy"), ".", color="0.6", label="one run"
    )
    band = work.read_csv("band.csv")
    x, mean = tables.columns(band, "samples", "accuracy")
    ax.plot(x, mean, "o", color="black", markersize=4, label="mean")
    if all(row["deviation"] is not None for row in band):
        (sd,) = tables.columns(band, "deviation")
        label = "± one deviation between seeds"
        ax.fill_between(x, mean - sd, mean + sd, color="0.5", alpha=0.25, linewidth=0, label=label)
    fits, ends = work.read_csv("fitted_curves.csv"), []
    for name in fits[0]:
        if name != "samples":
            (drawn,) = ax.plot(*tables.columns(fits, "samples", name), linewidth=1)
            ends.append((f"{name} fit", drawn.get_ydata()[-1], drawn.get_color(), 1.0))
    ax.set(xlabel="total data S, samples", ylabel="accuracy on held-out data", ylim=(0, 1))
    ax.set_title("The server's accuracy curve ã")
    ax.legend(frameon=False, loc="lower right")
    label_ends(ax, ends)


def exchange_rates(work: Workdir, fig: figure.Figure) -> None:
    """Draws what one record of each member is worth to each other as a heat map, with its number."""
    rows = work.read_csv("exchange_rates.csv", text=("member", "of"))
    names = list(dict.fromkeys(row["member"] for row in rows))
    rates = np.array([row["rate"] for row in rows]).reshape(len(names), -1)
    ax = fig.subplots()
    image = ax.imshow(np.minimum(rates, 1.0), cmap="Blues", vmin=0, vmax=1)
    fig.colorbar(image, ax=ax, label="own records that one is worth (1 or more: darkest)")
    ticks = np.arange(len(names))
    few = len(names) <= _CELLS
    if few and any(row["low"] is not None for row in rows):
        ax.set_title("What a record is worth [90% interval]")
    shown = [literal(name) if few else "" for name in names]
    ax.set_xticks(ticks, shown, rotation=30, ha="right")
    ax.set_yticks(ticks, shown)
    ax.set(xlabel="one record of", ylabel="to the model of")
    ax.spines[:].set_visible(False)
    for row, (i, j) in zip(rows, np.ndindex(rates.shape), strict=True) if few else ():
        interval = "" if row["low"] is None else f"\n[{row['low']:.2g}, {row['high']:.2g}]"
        color = "white" if rates[i, j] > 0.6 else _ON_LIGHT
        ax.text(j, i, f"{rates[i, j]:.2g}{interval}", ha="center", va="center", color=color, fontsize=9)


def holdings(work: Workdir, fig: figure.Figure) -> None:
    """Draws how many images of each class every agent holds."""
    rows = work.read_csv("holdings.csv")
    names = [name for name in rows[0] if name not in ("agent", "holds", "contributes")]
    held = np.asarray(tables.columns(rows, *names))
    ax = fig.subplots()
    image = ax.imshow(held, aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    ax.set(xlabel="agent", ylabel="class", title="Images that agents hold")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len(names) <= 30:  # of more classes names would overlap
        ax.set_yticks(range(len(names)), [literal(name, 16) for name in names])
    if held.size <= 200:  # in more cells numbers would not fit
        for (k, i), number in np.ndenumerate(held):
            color = "white" if number > held.max() / 2 else _ON_LIGHT
            ax.text(i, k, f"{number:.0f}", ha="center", va="center", color=color, fontsize="small")
    fig.colorbar(image, label="images")


def rounds(work: Workdir, fig: figure.Figure) -> None:
    """Draws the accuracy on held-out images over the rounds of one training run."""
    ax = fig.subplots()
    ax.plot(*tables.columns(work.read_csv("rounds.csv"), "round", "accuracy"), marker=".")
    ax.set(xlabel="round", ylabel="accuracy on held-out data", ylim=(0, 1))
    ax.set_title("Federated averaging")


def equilibrium(work: Workdir, fig: figure.Figure) -> None:
    """Draws what every agent contributes; and the curve, if there is one, with the equilibrium on it."""
    from matplotlib import lines, patches

    agents = work.read_csv("outcome.csv", text=("name",))
    summary = work.read_json("equilibrium.json")
    resampled = summary.get("bootstrap")
    # The legend is one line.
    everything, has = ("all", "can be trained on") if answers.trainable(summary) else (_ALL_SHE_HAS,) * 2
    if work.has("fitted_curve.csv"):
        left, ax = fig.subplots(1, 2)
        marks = []
        certified = work.read_csv("equilibria.csv") if work.has("equilibria.csv") else []
        for number, row in enumerate(certified):
            marks.append(("another" if number else "equilibrium", float(row["total"])))
        _curve(work, left, marks, resampled)
    else:
        ax = fig.subplots()
    most = sorted(agents, key=lambda row: -float(row["contribution"]))[:_BARS]
    s, capacity = tables.columns(most, "contribution", "capacity")
    places = np.arange(len(most))
    ax.barh(places, s, color=[_SHARES[row["shares"]] for row in most])
    keys = {row["shares"]: patches.Patch(color=_SHARES[row["shares"]]) for row in most}
    entries = {f"shares {share.replace(_ALL_SHE_HAS, everything)}": key for share, key in keys.items()}
    if "contribution_low" in agents[0]:
        low, high = tables.columns(most, "contribution_low", "contribution_high")
        entries[_interval(resampled)] = ax.hlines(places, low, high, color="black", linewidth=1)
    _name_bars(fig, ax, [row["name"] for row in most])
    ax.set(xlabel="contribution, samples")
    title = "What agents contribute"
    ax.set_title(f"{title} (the most of {len(agents)})" if len(agents) > _BARS else title)
    limit = 1.15 * ax.dataLim.x1
    if not limit > 0:  # nobody contributes: what they could
        limit = 1.15 * max(capacity[np.isfinite(capacity)], default=1.0)
    ax.set_xlim(0, limit)
    shown = capacity <= limit
    if shown.any():
        ax.plot(capacity[shown], places[shown], "|", color="black", markersize=9)
        mark = lines.Line2D([], [], color="black", marker="|", linestyle="")
        entries[has if shown.all() else f"{has}, if in the picture"] = mark
    fig.legend(entries.values(), entries, loc="outside lower right", ncols=len(entries), frameon=False)


def _interval(resampled: dict[str, Any] | None) -> str:
    """What an interval, or a band, says; files of earlier versions do not tell."""
    if resampled is None:
        return "interval"
    return f"{resampled['confidence']:.0%} interval, from {resampled['certified']} resampled games"


def _name_bars(fig: figure.Figure, ax: axes.Axes, names: Sequence[str]) -> None:
    """Writes names beside horizontal bars at 0, 1, …, the first at the top; of many, the figure grows."""
    fig.set_figheight(max(fig.get_figheight(), 1.5 + _BAR * len(names)))
    ax.set_yticks(np.arange(len(names)), [literal(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)


def curve_under_mechanism(work: Workdir, fig: figure.Figure) -> None:
    """Draws the curve, and the totals that are shared with and without payments."""
    summary, first = work.read_json("mechanism.json"), work.read_csv("over_beta.csv")[0]
    marks = [(f"with payments ({literal(tables.title(summary['mechanism']))})", float(summary["total"]))]
    if first["certified"]:
        marks.append(("without payments", float(first["total"])))
    _curve(work, fig.subplots(), marks)


def _curve(
    work: Workdir, ax: axes.Axes, marks: Sequence[tuple[str, float]], resampled: dict[str, Any] | None = None
) -> None:
    """Draws the fitted curves with their bands, the measurements, and a line at each marked total.

    Args:
      work: the directory.
      ax: where to draw.
      marks: labels and totals, the first one solid.
      resampled: what is known of the bands; see `_interval`.
    """
    for name, rows in tables.by(work.read_csv("fitted_curve.csv", text=("agent",)), "agent").items():
        x, accuracy = tables.columns(rows, "samples", "accuracy")
        (line,) = ax.plot(x, accuracy, color=None if name else "black", label=literal(name) or "fitted curve")
        if rows[0]["low"] is not None:
            low, high = tables.columns(rows, "low", "high")
            band = ax.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            band.set_label(_interval(resampled))
    if work.has("curve.csv"):
        x, accuracy = tables.columns(work.read_csv("curve.csv"), "samples", "accuracy")
        ax.plot(x, accuracy, ".", color="0.5", label="measured", zorder=1)
    for number, (label, total) in enumerate(marks):
        ax.axvline(total, color="C3", linewidth=1, linestyle=":" if number else "-")
        label = f"{label}, S = {money.samples(total)}"
        _write_beside(ax, total, 0.05 + 0.08 * (number % 4), label, "C3")  # of more the labels may meet
    ax.set(xlabel="total data S, samples", ylabel="accuracy", title="Accuracy, and where agents end up")
    if ax.get_legend_handles_labels()[1] != ["fitted curve"]:  # one line needs no legend
        ax.legend(frameon=False, loc="center right")


def _write_beside(ax: axes.Axes, x: float, height: float, label: str, color: Any) -> None:
    """Writes a label to the right of x, or to the left where there is more room; height from 0 to 1."""
    left = x > sum(ax.get_xlim()) / 2
    ax.annotate(
        label,
        (x, height),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color=color,
    )


def mechanism(work: Workdir, fig: figure.Figure) -> None:
    """Draws what each agent shares, and pays or receives, under the mechanism of the run."""
    rows = work.read_csv("outcome.csv", text=("name", "payment"))
    summary = work.read_json("mechanism.json")
    shown = tables.most_concerned(rows, _BARS)
    left, right = fig.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))
    s, capacity, paid = tables.columns(shown, "contribution", "capacity", "payment")
    most = max(s.max(), 1e-12)
    has = np.minimum(capacity, 2 * most if s.max() > 0 else np.inf)  # a capacity may be far out, or infinite
    left.barh(places, has, color="none", edgecolor=_ALL, linewidth=0.8)
    left.barh(places, s, color=_SHARES["part"])
    right.barh(places, paid, color=[_RECEIVES if x > 0 else _PAYS for x in paid])
    right.axvline(0, color="black", linewidth=0.5)
    right.spines.left.set_visible(False)
    right.tick_params(left=False)
    names = [row["name"] + ("" if row["stays"] else " (left)") for row in shown]
    _name_bars(fig, left, names)
    if len(shown) <= _LABELLED:
        _label_members(work, left, right, shown, has)
    what = summary.get("data", "samples")
    frame = "frame: what can be trained on" if answers.trainable(summary) else "the frame is all she has"
    left.set(xlabel=f"{what} shared ({frame})", title="Who shares")
    right.set(xlabel="← pays · receives →", title="Who pays and who receives")
    few = "" if len(shown) == len(rows) else f"; {len(shown)} of {len(rows)}, who share, pay or receive most"
    fig.suptitle(f"{literal(tables.title(summary['mechanism']), _TITLE)}{few}")


def _label_members(
    work: Workdir, left: axes.Axes, right: axes.Axes, rows: list[dict[str, Any]], has: np.ndarray
) -> None:
    """Writes beside bars what members share and pay; `has` [k] is where the frames of the left axes end."""
    used = money.currency(answers.about(work)["settings"].get("currency", ""))
    low, high = 0.0, 0.0
    for place, (row, end) in enumerate(zip(rows, has, strict=True)):
        s, x = row["contribution"], float(row["payment"])
        left.annotate(f" {money.samples(s)} of {money.samples(row['capacity'])}", (end, place), va="center")
        amount = used.exact(abs(x)) if used.code else row["payment"].removeprefix("-")
        label = f"receives {amount}" if x > 0 else f"pays {amount}" if x < 0 else "nothing"
        right.annotate(literal(f" {label} "), (x, place), va="center", ha="right" if x < 0 else "left")
        low, high = min(low, x), max(high, x)
    left.set_xlim(0, 1.45 * max(has))
    room = 0.5 * ((high - low) or 1.0)  # for the texts
    right.set_xlim(low - (room if low < 0 else 0.02 * room), high + room)


def over_beta(work: Workdir, fig: figure.Figure) -> None:
    """Draws contributions and welfare over β, with a line at each rate that has a name."""
    left, right = fig.subplots(1, 2, sharex=True)
    over_beta = work.read_csv("over_beta.csv")
    (beta,) = tables.columns(over_beta, "beta")
    agents = tables.by(work.read_csv("over_beta_contributions.csv", text=("name",)), "name")
    contributions = [tables.columns(rows, "contribution")[0] for rows in agents.values()]
    bands = left.stackplot(beta, contributions, alpha=0.8)
    left.set(ylabel="samples shared, by member", ylim=(0, None))
    welfare = _welfare_over_beta(work, right, over_beta)
    ticks = [x for x in (0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999) if x <= beta.max()]
    for ax in (left, right):
        ax.set_xscale("function", functions=(_from_beta, _to_beta))
        ax.set(xlabel="β, spaced evenly in log(1 - β)", xlim=(0, beta.max()))
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.set_ylim(*ax.get_ylim())  # labels are placed by it
    _mark_rates(work, left, right)
    tops = np.cumsum([one[-1] for one in contributions])
    middles = tops - np.asarray([one[-1] for one in contributions]) / 2
    names = [literal(name) if name else "all others" for name in agents]
    colors = [band.get_facecolor()[0] for band in bands]
    label_ends(left, [(*one, 1.0) for one in zip(names, middles, colors, strict=True)])
    label_ends(right, welfare)
    fig.suptitle("If everybody gets back the share β of her costs, which the others pay in equal parts")
    fig.supxlabel(_P_EXPLAINED, fontsize="small")


def _welfare_over_beta(
    work: Workdir, ax: axes.Axes, rows: list[dict[str, Any]]
) -> list[tuple[str, float, Any, float]]:
    """Draws p-means over β, the later ones fainter, and the largest mean; returns the labels of the ends."""
    ends, faint = [], iter(np.geomspace(1.0, 0.35, sum(name.startswith("p=") for name in rows[0])))
    for name in rows[0]:
        if not name.startswith("p="):
            continue
        alpha, known = float(next(faint)), [row for row in rows if row[name] is not None]
        if len(known) > 1:  # a single point has no line that a label could stand beside
            x, y = tables.columns(known, "beta", name)
            ax.plot(x, y, color="black", alpha=alpha)
            ends.append((name.replace("=", " = "), y[-1], "black", max(alpha, 0.6)))
    (bound,) = (row for row in work.read_csv("p_means.csv") if row["mechanism"] == tables.FIRST_BEST)
    largest = float(bound[next(name for name in bound if name.startswith("p="))])
    ax.axhline(largest, color=_RECEIVES, linestyle=":", linewidth=1)
    ax.set_ylabel("p-mean of utilities")
    return [*ends, ("largest mean", largest, _RECEIVES, 1.0)]


def _mark_rates(work: Workdir, *several: axes.Axes) -> None:
    """Draws a line at each rate that has a name, which stands above it; equal rates share one."""
    marks = work.read_csv("marks.csv")
    color = colors([mark["name"] for mark in marks])
    for rate, same in tables.by(marks, "beta").items():
        of = color[same[0]["name"]]
        titles = ", ".join(literal(tables.title(mark["name"]), _TITLE) for mark in same)
        text = f"{titles} ({float(rate):.3g})"
        for ax in several:
            ax.axvline(float(rate), color=of, linestyle="--", linewidth=1)
            above = (float(rate), 1.01)
            ax.annotate(
                text, above, xycoords=("data", "axes fraction"), rotation=20, color=of, fontsize="small"
            )


def _from_beta(beta: np.ndarray) -> np.ndarray:
    """-log(1 - β), which spreads out the rates near 1. It is infinite at 1: takes a rate just below."""
    return -np.log1p(-np.minimum(beta, 1 - 1e-15))


def _to_beta(place: np.ndarray) -> np.ndarray:
    """The inverse of `_from_beta`."""
    return -np.expm1(-place)


def comparison_curve(work: Workdir, fig: figure.Figure) -> None:
    """Draws the measured accuracies, the fitted ã, and the total data under each protocol."""
    measured, fitted = work.read_csv("curve.csv"), work.read_csv("fitted_curve.csv")
    ax = fig.subplots()
    x, accuracy = tables.columns(measured, "samples", "accuracy")
    ax.plot(x, accuracy, ".", color="0.5", label="measured, one run each")
    ax.plot(*tables.columns(fitted, "samples", "accuracy"), color="black", label="fitted ã")
    ax.set(
        xlabel="total data S, samples",
        ylabel="accuracy on held-out data",
        ylim=(max(0.0, accuracy.min() - 0.1), 1.0),
        title="The server's accuracy curve, and what protocols share",
    )
    protocols, color = tables.by(work.read_csv("runs.csv"), "protocol"), _protocols(work)
    for k, (name, rows) in enumerate(protocols.items()):  # one above the other, for many totals are equal
        total, low = np.mean(tables.columns(rows, "charged")[0]), 0.05 * k
        ax.axvline(total, low, low + 0.045, color=color[name], linewidth=4)
        _write_beside(ax, float(total), low + 0.0225, literal(name, _TITLE), color[name])
    ax.legend(frameon=False, loc="center right")


def comparison_contributions(work: Workdir, fig: figure.Figure) -> None:
    """Draws what each agent contributes over the steps of the game, or over rounds, for the first seed."""
    panels, color = _moving(work), _protocols(work)
    wide = min(len(panels), 3)
    axes = fig.subplots(math.ceil(len(panels) / wide), wide, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (name, panel) in zip(axes.flat, panels.items(), strict=False):
        for agent in tables.by(panel.rows, "agent").values():
            ax.plot(*tables.columns(agent, panel.x, panel.y), color=color[name], linewidth=1)
        ax.set(title=literal(name, _TITLE), xlabel=panel.label)
    for ax in axes[:, 0]:
        ax.set_ylabel("contribution s_i, samples")
    fig.suptitle("What each agent contributes (seed 0)")


class _Panel(NamedTuple):
    """What to draw of one protocol."""

    label: str  # of the x axis
    x: str  # a column
    y: str
    rows: list[dict[str, Any]]


def _moving(work: Workdir) -> dict[str, _Panel]:
    """The panels of the protocols whose contributions change; of all protocols if none do.

    Over the steps of the game if it has any, else over the rounds of training.
    """
    steps = tables.by(_first_seed(work.read_csv("contributions.csv")), "protocol")
    drawn = _first_seed(work.read_csv("drawn.csv")) if work.has("drawn.csv") else []
    rounds = tables.by(drawn, "protocol")
    found = {}
    for name, mine in steps.items():
        if any(row["step"] != 0 for row in mine):
            found[name] = _Panel("step of the game", "step", "contribution", mine)
        elif name in rounds:
            found[name] = _Panel("round", "round", "drawn", rounds[name])
    if found:
        return found
    return {name: _Panel("step of the game", "step", "contribution", mine) for name, mine in steps.items()}


def _first_seed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["seed"] == 0]


def _protocols(work: Workdir) -> dict[str, Any]:
    """The colour of every protocol of a comparison, in the order of the tables."""
    return colors([row["protocol"] for row in work.read_csv("runs.csv")])


def comparison_welfare(work: Workdir, fig: figure.Figure) -> None:
    """Draws the normalised p-means of Table 1, and paired differences of the last protocol from the others.

    Undefined ones are left out.
    """
    color = _protocols(work)
    differences = scales.lengthened(work.read_csv("differences.csv")) if work.has("differences.csv") else []
    last = list(color)[-1]
    of_last = [row for row in differences if row["protocol"] == last]
    if of_last:
        left, right = fig.subplots(1, 2)
        _differences(right, of_last, last, color)
    else:
        left = fig.subplots()
    table = scales.lengthened(work.read_csv("table1.csv"))
    for name, mine in tables.by(_shown(table), "protocol").items():
        known = [row for row in mine if row["welfare"] is not None]
        label, missing = literal(name, _TITLE), len(mine) - len(known)
        if missing:
            label += f" ({missing} undefined)"
        p, value = tables.columns(known, "p", "welfare")
        error = [row["standard_error"] or 0.0 for row in known]
        left.errorbar(p, value, error, marker="o", capsize=3, color=color[name], label=label)
    infinite = any(np.isinf(float(row["p"])) for row in table)
    spread = any(row["standard_error"] for row in table)
    left.set(
        xlabel="p (-∞ is in the tables only)" if infinite else "p",
        ylabel="p-mean of utilities, (1/n Σ u^p)^(1/p)",
        title="Welfare ± one standard error over seeds" if spread else "Welfare",
    )
    _label_lines(left, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    fig.supxlabel(_P_EXPLAINED, fontsize="small")


def _differences(ax: axes.Axes, rows: list[dict[str, Any]], last: str, color: dict[str, Any]) -> None:
    """Draws the paired differences of the last protocol from each other one, with their intervals, over p."""
    for k, (name, mine) in enumerate(tables.by(_shown(rows), "minus").items()):
        known = [row for row in mine if row["difference"] is not None]
        p, value = tables.columns(known, "p", "difference")
        error = np.zeros((2, len(known)))  # one seed has no interval
        for j, row in enumerate(known):
            if row["low"] is not None:
                error[:, j] = row["difference"] - row["low"], row["high"] - row["difference"]
        apart = 0.012 * k  # so that intervals at one p do not hide each other
        label = f"less {literal(name, _TITLE)}"
        ax.errorbar(p + apart, value, error, marker="o", capsize=3, color=color[name], label=label)
    ax.axhline(0, color="black", linewidth=0.5)
    ax.set(xlabel="p", ylabel="difference of p-means, paired, 95% interval")
    ax.set_title(f"{literal(last, _TITLE)} less each other protocol", fontsize="medium")
    _label_lines(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of normalised p-means by the agents' own test images, at finite p."""
    own = [row for row in rows if row["scale"] == "mean" and row["utilities"] == "own"]
    return [row for row in own if np.isfinite(float(row["p"]))]


def sweep(work: Workdir, fig: figure.Figure) -> None:
    """Draws columns of the headlines over the one numeric setting that was swept: the first four that vary.

    There is a line for each combination of the other swept settings and the columns of texts.
    """
    settings = sweeps.settings_of(work)
    rows = work.read_csv(sweeps.HEADLINES, text=tuple(settings))
    setting = numeric_setting(work)
    (x,) = (column for column, name in settings.items() if name == setting)
    names = [name for name in rows[0] if name not in ("variant", *settings)]
    shown = [name for name in names if tables.numeric(rows, name) and _varies(rows, name)][:4]
    groups = [name for name in rows[0] if name in settings and name != x]
    groups += [name for name in names if all(isinstance(row[name], str) for row in rows)]
    lines = tables.by(rows, *groups) if groups else {"": rows}
    axes, color = fig.subplots(1, max(len(shown), 1), squeeze=False)[0], colors(lines)
    for ax, name in zip(axes, shown, strict=False):
        for key, mine in lines.items():
            known = sorted((float(row[x]), row[name]) for row in mine if row[name] is not None)
            texts = ", ".join(tables.title(str(x)) for x in (key if isinstance(key, tuple) else (key,)))
            ax.plot(*np.transpose(known), marker="o", color=color[key], label=literal(texts, _TITLE))
        ax.set(xlabel=setting, title=name.replace("_", " "))
    if groups:
        fullest = max(axes, key=lambda ax: len(ax.lines))  # some lines may have no numbers in a column
        entries = fullest.get_legend_handles_labels()
        fig.legend(*entries, frameon=False, loc="outside lower center", ncols=4)


def _varies(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether the numbers in a column differ by more than rounding does."""
    known = np.asarray([float(row[name]) for row in rows if row[name] is not None])
    finite = known[np.isfinite(known)]
    if len(finite) < len(rows):
        return len({row[name] for row in rows}) > 1
    return bool(np.ptp(finite) > _ROUNDING * np.max(np.abs(finite)))


def comparisons(work: Workdir, fig: figure.Figure) -> None:
    """Draws welfare at the largest p over the swept setting; undefined p-means are left out."""
    settings = sweeps.settings_of(work)
    rows = work.read_csv(sweeps.HEADLINES, text=tuple(settings))
    setting = numeric_setting(work)
    largest = max(row["p"] for row in rows)
    lines: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for row in rows:
        if row["p"] != largest or row["welfare"] is None:
            continue
        given = {name: row[column] for column, name in settings.items()}
        others = [f"{name}={x}" for name, x in given.items() if name not in (setting, "protocol")]
        point = float(given[setting]), row["welfare"], row["standard_error"] or 0.0
        lines.setdefault((row["protocol"], ", ".join(others)), []).append(point)
    ax, color = fig.subplots(), _protocols(work)
    dashes = dict(zip(dict.fromkeys(others for _, others in lines), itertools.cycle(_DASHES), strict=False))
    for (protocol, others), points in lines.items():
        x, value, error = np.transpose(sorted(points))
        label = literal(", ".join(filter(None, (protocol, others))), _TITLE)
        style = {"marker": "o", "capsize": 3, "color": color[protocol], "linestyle": dashes[others]}
        ax.errorbar(x, value, error, label=label, **style)
    x = [point[0] for points in lines.values() for point in points]
    if x and min(x) > 0 and max(x) > 20 * min(x):
        ax.set_xscale("log")
        ticks = sorted(set(x))  # matplotlib's own would overlap
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    mean = "mean utility" if largest == 1 else f"p-mean of utilities, p = {largest:g}"
    spread = any(error for points in lines.values() for _, _, error in points)
    title = "Welfare by protocol, ± one standard error over seeds" if spread else "Welfare by protocol"
    ax.set(xlabel=setting, ylabel=mean, title=title)
    _label_lines(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def numeric_setting(work: Workdir) -> str | None:
    """The one swept setting that is a number in every variant, if it is one alone and not p."""

    def is_number(text: str) -> bool:
        try:
            return bool(np.isfinite(float(text)))
        except ValueError:
            return False

    variants = sweeps.variants_of(work)
    names = [name for name in variants[0] if name not in (*sweeps.ABOUT, "p")]
    found = [name for name in names if all(is_number(row[name]) for row in variants)]
    return found[0] if len(found) == 1 else None


def show_sweep(work: Workdir, function: Callable[[Workdir, figure.Figure], None] = sweep) -> None:
    """Draws `sweep.png` if there is one numeric setting to draw over, and a variant is done."""
    if work.has(sweeps.HEADLINES) and numeric_setting(work):
        draw(work, "sweep", function, (8, 4.5))
