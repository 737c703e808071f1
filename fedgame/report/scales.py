"""The four p-means of a comparison: on two scales, and of utilities by two kinds of test images.

Files have a row per protocol (and seed) and p, and columns of each p-mean: so no mean, and no pivot table,
mixes two of them. What is computed, printed and drawn has a row for each; files of earlier versions, too.
"""

from collections.abc import Sequence
from typing import Any

COLUMNS = {  # of the p-mean in files, by utilities and scale
    ("own", "mean"): "welfare",
    ("own", "sum"): "welfare_sum",
    ("held_out", "mean"): "held_out_welfare",
    ("held_out", "sum"): "held_out_welfare_sum",
}
_SUFFIXES = {  # what is added to the name of a p-mean for what else is known of it, by column of the long row
    "welfare": "",
    "standard_error": "_error",
    "difference": "_difference",
    "low": "_low",
    "high": "_high",
    "undefined": "_undefined",
}
_TOLD_APART = ("utilities", "scale")


def widened(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts rows that differ only in `utilities`, in `scale` and in what is found there into one row each."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        shared = {
            name: value for name, value in row.items() if name not in _SUFFIXES and name not in _TOLD_APART
        }
        name = COLUMNS[row["utilities"], row["scale"]]
        mine = {f"{name}{_SUFFIXES[column]}": row[column] for column in row if column in _SUFFIXES}
        found.setdefault(tuple(shared.values()), shared).update(mine)
    return list(found.values())


def lengthened(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that `widened` was given, but for their order; rows of earlier versions are theirs already."""
    if not rows or "scale" in rows[0]:
        return list(rows)
    taken = {f"{name}{suffix}" for name in COLUMNS.values() for suffix in _SUFFIXES.values()}
    found = []
    for (utilities, scale), name in COLUMNS.items():
        for row in rows:
            shared = {column: value for column, value in row.items() if column not in taken}
            mine = {
                column: row[f"{name}{suffix}"]
                for column, suffix in _SUFFIXES.items()
                if f"{name}{suffix}" in row
            }
            found.append({**shared, "utilities": utilities, "scale": scale, **mine})
    return found
