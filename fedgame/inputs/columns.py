"""Tables that people make: CSV files with named columns of numbers, and complaints by line.

Columns may come in any order, separated by commas, semicolons or tabs. Blank lines and lines that begin
with # are skipped.
"""

import csv
import dataclasses
import math
import pathlib
from typing import NamedTuple

from fedgame import registry
from fedgame.runs import cells as escapes

SHOWN = 10  # bad rows in one message


class Number(NamedTuple):
    """The numbers that a column may hold."""

    words: str  # what is allowed, for messages
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False  # whether numbers must be greater than `low`, not just at least `low`
    default: float | None = None  # what an empty cell means; None: a cell must not be empty
    open_high: bool = False  # likewise less than `high`


def of_option(field: dataclasses.Field) -> Number:
    """The column of a parameter that `registry.option` made."""
    limits = field.metadata
    default = None if field.default is dataclasses.MISSING else float(field.default)
    low, open_low = max(limits["low"], limits["above"]), limits["above"] >= limits["low"]
    high, open_high = min(limits["high"], limits["below"]), limits["below"] <= limits["high"]
    return Number(registry.allowed(field), low, high, open_low, default, open_high)


def read_rows(
    path: str, required: tuple[str, ...], optional: tuple[str, ...], others: bool = False
) -> tuple[list[tuple[int, dict[str, str]]], list[tuple[int, str]]]:
    """Reads the rows of a file as texts.

    Args:
      path: the file.
      required: names of columns that must be there.
      optional: names of columns that may be there.
      others: whether other columns may be there too.

    Returns:
      The rows with their line numbers: stripped cells by column. And complaints by line about those rows that
      cannot be read.

    Raises:
      ValueError: the file is empty or no text, or its first line is not as described.
      FileNotFoundError: there is no such file.
    """
    lines = _lines(path)
    if not lines:
        raise ValueError(f"{path} is empty: its first line must name the columns {', '.join(required)}")
    (first, text), *body = lines
    delimiter = max(",;\t", key=text.count)
    problems: list[tuple[int, str]] = []
    columns = tuple(dict.fromkeys((*required, *optional)))
    found = [x if x in columns else x.lower() for x in _cells(first, text, delimiter, problems)]
    header = ["samples" if others and cell == "size" else cell for cell in found]
    there = f"the first line has {', '.join(found)}"
    problems += [(first, f"column `{c}` is missing; {there}") for c in required if c not in header]
    problems += [(first, f"column `{c}` is there twice") for c in columns if header.count(c) > 1]
    unknown = [] if others else [c for c in header if c not in columns]
    problems += [(first, f"unknown column `{c}`; allowed are {', '.join(columns)}") for c in unknown]
    complain(path, problems)
    if not body:
        raise ValueError(f"{path} has no rows below its first line")
    rows = []
    for line, text in body:
        cells = _cells(line, text, delimiter, problems)
        if len(cells) == len(header):
            rows.append((line, dict(zip(header, map(escapes.plain, cells), strict=True))))
        elif cells:
            point = " (decimals are written with a point)" if len(cells) > len(header) else ""
            told = f"{len(cells)} cells, but the first line names {len(header)} columns{point}"
            problems.append((line, told))
    return rows, problems


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines that are neither blank nor comments, with their numbers as an editor shows them."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8: save it as CSV UTF-8") from None
    numbered = enumerate(text.split("\n"), 1)  # str.splitlines would also split at form feeds
    return [(n, x) for n, x in numbered if x.strip(" ,;\t") and not x.lstrip().startswith("#")]


def _cells(line: int, text: str, delimiter: str, problems: list[tuple[int, str]]) -> list[str]:
    """The stripped cells of one line; if it cannot be read, none, and a complaint is added to `problems`."""
    try:
        (cells,) = csv.reader([text], delimiter=delimiter, strict=True)
    except csv.Error as error:
        cells = []
        problems.append((line, f"quotation marks must enclose one whole cell within the line ({error})"))
    return [cell.strip() for cell in cells]


def read_numbers(
    row: dict[str, str], columns: dict[str, Number], line: int, problems: list[tuple[int, str]]
) -> dict[str, float]:
    """The numbers of one row by column; complaints about cells are added to `problems`.

    A cell that is empty, or not as described, counts as the default of its column; NaN if it has none.
    """
    numbers = {}
    for name, column in columns.items():
        text = row.get(name, "")
        numbers[name] = math.nan if column.default is None else column.default
        if not text and column.default is not None:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        above = value > column.low if column.open_low else value >= column.low
        below = value < column.high if column.open_high else value <= column.high
        if math.isfinite(value) and above and below:
            numbers[name] = value
        else:
            comma = " (decimals are written with a point)" if "," in text else ""
            problems.append((line, f"`{name}` must be {column.words}, got {text!r}{comma}"))
    return numbers


def complain(path: str, problems: list[tuple[int, str]]) -> None:
    """Raises a `ValueError` with the first complaints, by line, if there are any."""
    if not problems:
        return
    in_order = sorted(problems, key=lambda problem: problem[0])
    texts = [f"{path}, line {line}: {told}" for line, told in in_order]
    if len(texts) > SHOWN:
        texts = [*texts[:SHOWN], f"... and {len(texts) - SHOWN} more"]
    raise ValueError("\n".join(texts))
