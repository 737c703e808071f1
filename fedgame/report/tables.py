"""Rows of the files of a run, grouped, as columns of numbers, and as Markdown."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry

FIRST_BEST = "first_best"
CONFIDENCE = 0.95  # of the intervals of paired differences
TITLES = {  # of what the column `mechanism` holds beside the texts of rules
    "chosen": "chosen",
    "chosen_who_stay": "chosen, those who stay",
    FIRST_BEST: "first best",
}


class Table(NamedTuple):
    """A table as it is shown."""

    header: list[str]
    cells: list[list[str]]


def title(name: str) -> str:
    """The title of a cell of the column `mechanism`: of a rule, by its text, or of an entry of `TITLES`.

    Any other text is its own title: a study may compare things that are not rules.
    """
    if name in TITLES:
        return TITLES[name]
    try:
        return registry.title(registry.read("rule", name))
    except (ValueError, FileNotFoundError):
        return name


def columns(rows: Sequence[dict[str, Any]], *names: str) -> list[np.ndarray]:
    """The columns of these names, [k] numbers each."""
    return [np.asarray([float(row[name]) for row in rows]) for name in names]


def numeric(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a column holds nothing but numbers and empty cells, and at least one number."""
    values = [row[name] for row in rows if row[name] is not None]
    return bool(values) and all(type(value) in (int, float) for value in values)


def by(rows: Sequence[dict[str, Any]], *names: str) -> dict[Any, list[dict[str, Any]]]:
    """Rows by the value of one column, or by the tuple of the values of several."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        key = row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)
        groups.setdefault(key, []).append(row)
    return groups


def most_concerned(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The rows of the members who share, pay or receive the most, in the order in which they stand.

    Args:
      rows: of `outcome.csv`; without payments there is no column `exact_payment`.
      most: the number of rows that are returned, if there are so many.
    """
    concern = np.zeros(len(rows))
    for name in ("contribution", "exact_payment"):
        sizes = np.abs([float(row.get(name) or 0.0) for row in rows])
        if sizes.max() > 0:
            concern = np.maximum(concern, sizes / sizes.max())
    largest = np.argsort(-concern, kind="stable")[:most]
    return [rows[i] for i in np.sort(largest)]


def means(rows: Sequence[dict[str, Any]]) -> Callable[[str], float]:
    """Returns a function from the name of a column to its mean."""

    def mean(name: str) -> float:
        return float(np.mean([row[name] for row in rows]))

    return mean


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; a bar in a cell does not end it."""
    rows = [[str(text).replace("|", "\\|") for text in row] for row in (header, *body)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = []
    for row in rows:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def read_markdown(text: str) -> list[tuple[str, Table]]:
    """The tables that `markdown` has written in a text, each with the last line above it, or "".

    That is what a table shows; of a table right below another one, or at the beginning, there is none.
    """
    found: list[tuple[str, Table]] = []
    above, rows = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            rows.append(_cells(line))
        elif rows and not line.startswith("|-"):
            found.append((above, Table(rows[0], rows[1:])))
            above, rows = "", []
        if line and not line.startswith("|"):
            above = line
    return found


def _cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table; a bar in a cell has a backslash before it."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(header: dict[str, str], rows: Sequence[dict[str, Any]]) -> str:
    """Some columns of rows as Markdown, with numbers to five digits; `header` is their titles by name."""
    body = [[cell(name, row) for name in header] for row in rows]
    return markdown(list(header.values()), body)


def cell(name: str, row: dict[str, Any]) -> str:
    """The value of a row in a column, as it is printed."""
    value = row[name]
    if value is None:
        return ""
    if name == "mechanism":
        return f"{title(value)}, not proved" if row.get("proved") is False else title(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "nash_gap":
        return f"{value:.1e}"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def first_agents(rows: Sequence[dict[str, Any]], most: int = 20) -> str:
    """All columns of the first `most` rows, which are agents, as Markdown."""
    text = markdown(list(rows[0]), [[str(value) for value in row.values()] for row in rows[:most]])
    return text if len(rows) <= most else f"{text}\n... and {len(rows) - most} more agents"
