"""Rows of the files of a run, grouped, as columns of numbers, and as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedgame import registry

FIRST_BEST = "first_best"
CONFIDENCE = 0.95  # of the intervals of paired differences
TITLES = {  # of what the column `mechanism` holds beside the texts of rules
    "chosen": "chosen",
    "chosen_who_stay": "chosen, those who stay",
    FIRST_BEST: "first best",
}


def title(name: str) -> str:
    """What the column `mechanism` holds, the text of a rule or one of `TITLES`, as people read it.

    What is neither is its own title: somebody's study may compare things that are no rules.
    """
    if name in TITLES:
        return TITLES[name]
    try:
        return registry.title(registry.read("rule", name))
    except (ValueError, FileNotFoundError):
        return name


def columns(rows: Sequence[dict[str, Any]], *names: str) -> list[np.ndarray]:
    """Columns of numbers."""
    return [np.asarray([float(row[name]) for row in rows]) for name in names]


def numeric(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a column holds numbers, and empty cells, alone."""
    values = [row[name] for row in rows if row[name] is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def by(rows: Sequence[dict[str, Any]], *names: str) -> dict[Any, list[dict[str, Any]]]:
    """Rows grouped by what stands in one column, or in several: then by tuples."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        key = row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)
        groups.setdefault(key, []).append(row)
    return groups


def means(rows: Sequence[dict[str, Any]]) -> Callable[[str], float]:
    """Returns a function: name of a column -> its mean."""

    def mean(name: str) -> float:
        return float(np.mean([row[name] for row in rows]))

    return mean


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    rows = [header, *body]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def table(header: dict[str, str], rows: Sequence[dict[str, Any]]) -> str:
    """Markdown of some columns: name of the column -> how it is called, numbers with four or five digits."""
    body = [[cell(name, row) for name in header] for row in rows]
    return markdown(list(header.values()), body)


def cell(name: str, row: dict[str, Any]) -> str:
    """What a row has in a column, as people read it."""
    value = row[name]
    if value is None:
        return ""
    if name == "mechanism":
        return title(value) + (", not proved" if row.get("proved") is False else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "nash_gap":
        return f"{value:.1e}"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def first_agents(rows: Sequence[dict[str, Any]], most: int = 20) -> str:
    """All columns of the first rows, one agent each, as Markdown."""
    text = markdown(list(rows[0]), [[str(x) for x in row.values()] for row in rows[:most]])
    return text if len(rows) <= most else f"{text}\n... and {len(rows) - most} more agents"
