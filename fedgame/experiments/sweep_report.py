"""What a sweep found: a table of all its variants and a figure, from its CSV files alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import figure

from fedgame.experiments import compare_plots, plots, storage, table1, tables

VARIANTS = "variants.csv"
_ABOUT = ("variant", "status", "message", "seconds")  # its columns that are no settings


def write(work: storage.Workdir) -> str:
    """Draws `sweep.png` if one numeric setting was swept; returns the table, and which variants failed."""
    variants = work.read_csv(VARIANTS)
    blocks = []
    if work.has("welfare.csv"):
        found = _found(work, variants)
        blocks.append(_table(work, found))
        if _numeric(variants):
            plots.draw(work, "sweep", welfare, (8, 4.5))
    if bad := failed(work):
        lines = [f"{row['variant']}: {row['message']}" for row in bad]
        blocks.append(f"{len(bad)} of {len(variants)} variants failed\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def failed(work: storage.Workdir) -> list[dict[str, str]]:
    """The rows of `variants.csv` of variants that failed."""
    return [row for row in work.read_csv(VARIANTS) if row["status"] == "failed"]


def _found(work: storage.Workdir, variants: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """One row per variant, protocol and p: normalised p-mean of own utilities, mean ± error over seeds."""
    shown = [r for r in work.read_csv("welfare.csv") if (r["utilities"], r["scale"]) == ("own", "mean")]
    rows = [r | {"p": float(r["p"]), "welfare": float(r["welfare"]) if r["welfare"] else None} for r in shown]
    mine, settings = plots.by(rows, "variant"), {row["variant"]: row for row in variants}
    return [
        {"variant": variant, "settings": {k: v for k, v in settings[variant].items() if k not in _ABOUT}}
        | row
        for variant, per_seed in mine.items()
        for row in table1.table_rows(per_seed)
    ]


def _table(work: storage.Workdir, found: Sequence[dict[str, Any]]) -> str:
    """One row per variant and protocol, as Markdown: means over seeds."""
    powers = sorted({row["p"] for row in found})
    runs = work.read_csv("runs.csv")
    header = [f"--{name}" for name in found[0]["settings"]]
    header += ["protocol", "mean utility", "Σ samples", *(f"p = {p:g}" for p in powers)]
    body: dict[tuple[str, str], list[str]] = {}
    for row in found:
        key = row["variant"], row["protocol"]
        if key not in body:
            mine = [run for run in runs if (run["variant"], run["protocol"]) == key]
            utility, charged = (np.mean(x) for x in plots.columns(mine, "mean_utility", "charged"))
            body[key] = [*row["settings"].values(), key[1], f"{utility:.4f}", f"{charged:.1f}"]
            body[key] += [""] * len(powers)  # of a p that only other variants have
        body[key][powers.index(row["p"]) - len(powers)] = table1.cell(row)
    title = "variants of the sweep; p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds"
    return f"{title}\n\n" + tables.markdown(header, list(body.values()))


def _numeric(variants: Sequence[dict[str, str]]) -> str | None:
    """The one swept setting that is a number in every variant, if it is one alone and not p."""

    def is_number(text: str) -> bool:
        try:
            return bool(np.isfinite(float(text)))
        except ValueError:
            return False

    names = [name for name in variants[0] if name not in (*_ABOUT, "p")]
    numeric = [name for name in names if all(is_number(row[name]) for row in variants)]
    return numeric[0] if len(numeric) == 1 else None


def welfare(work: storage.Workdir, fig: figure.Figure) -> None:
    """Welfare at p = 1, or the largest p there is, over the numeric setting; undefined ones are left out."""
    variants = work.read_csv(VARIANTS)
    found, setting = _found(work, variants), _numeric(variants)
    largest = max(row["p"] for row in found)
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in (row for row in found if row["p"] == largest and row["welfare"] is not None):
        others = [f"{k}={v}" for k, v in row["settings"].items() if k not in (setting, "protocol")]
        point = float(row["settings"][setting]), row["welfare"], row["standard_error"] or 0.0
        lines.setdefault(", ".join([row["protocol"], *others]), []).append(point)
    ax, color = fig.subplots(), compare_plots.colors(work)
    for label, points in lines.items():
        x, value, error = np.transpose(sorted(points))
        ax.errorbar(x, value, error, marker="o", capsize=3, label=label, color=color.get(label))
    x = [point[0] for points in lines.values() for point in points]
    if x and min(x) > 0 and max(x) > 20 * min(x):
        ax.set_xscale("log")
        ax.set_xticks(ticks := sorted(set(x)), [f"{tick:g}" for tick in ticks])  # its own would overlap
        ax.minorticks_off()
    ax.set(xlabel=setting, ylabel=f"p-mean of utilities, p = {largest:g}", title="Welfare by protocol")
    fig.legend(frameon=False, loc="outside right center")
