"""Tables that people make: CSV files with named columns of numbers, and complaints by line.

Columns may come in any order, separated by commas, semicolons or tabs; texts are UTF-8, or UTF-16 as Excel's
"Unicode text" is. Lines that begin with # are comments. One that has as many cells as there are columns may
be meant as a row, and is refused; one that names all columns, above a table without names, is taken for its
first line, as numpy.savetxt writes it. Blank lines, and empty columns without a name, are skipped, and so are
the numbers of rows that pandas and R write into a first column without a name. What else is skipped is told.
"""

import csv
import dataclasses
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fedgame import registry
from fedgame.games import scenarios
from fedgame.runs import cells as escapes

SHOWN = 10  # bad rows in one message
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:([.,'’_\s])[0-9]{3})(?:\1[0-9]{3})*")
_ROW_NUMBERS = re.compile(r"(unnamed: 0(\.\d+)?)?")  # what pandas calls such a column when it reads it again

Problems = list[tuple[int, str]]  # complaints by line


class Number(NamedTuple):
    """The numbers that a column may hold, beside that they are below 1e100."""

    words: str  # what is allowed, for messages
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False  # whether numbers must be greater than `low`, not just at least `low`
    default: float | None = None  # what an empty cell means; None: a cell must not be empty
    open_high: bool = False  # likewise less than `high`


class Table(NamedTuple):
    """The rows of a file, as texts."""

    rows: list[tuple[int, dict[str, str]]]  # stripped cells by column, with the line
    problems: Problems  # about those rows that cannot be read
    notes: list[str]  # on what was skipped


def of_option(field: dataclasses.Field) -> Number:
    """The column of a parameter that `registry.option` made."""
    limits = field.metadata
    default = None if field.default is dataclasses.MISSING else float(field.default)
    low, open_low = max(limits["low"], limits["above"]), limits["above"] >= limits["low"]
    high, open_high = min(limits["high"], limits["below"]), limits["below"] <= limits["high"]
    return Number(registry.allowed(field), low, high, open_low, default, open_high)


def read_rows(path: str, required: Sequence[str], optional: Sequence[str], others: bool = False) -> Table:
    """Reads the rows of a file as texts.

    Args:
      path: the file.
      required: names of columns that must be there.
      optional: names of columns that may be there.
      others: whether other columns may be there too.

    Raises:
      ValueError: the file is empty or no text, or its first line is not as described.
      FileNotFoundError: there is no such file.
    """
    known = tuple(dict.fromkeys((*required, *optional)))
    (first, text), body, comments = _lines(path, required, known, others)
    header_problems: Problems = []
    problems: Problems = []
    delimiter = delimiter_of(text)
    header = [_column(cell, known, others) for cell in _cells(first, text, delimiter, header_problems)]
    rows = _rows(body, len(header), delimiter, problems)
    numbered = _first_columns_of_row_numbers(header, rows)
    header[:numbered] = [""] * numbered
    header_problems += _faults_of_header(first, header, required, known, others)
    complain(path, header_problems)
    if not body:
        raise ValueError(f"{path} has no rows below its first line")
    nameless = [k for k in range(numbered, len(header)) if not header[k]]
    point = "" if 0 in nameless else " (decimals are written with a point)"
    for line, cells in rows:
        stray = [cells[k] for k in nameless if cells[k]]
        problems += [(line, f"{cell!r} is in a column without a name{point}") for cell in stray[:1]]
    below = [(line, text) for line, text in comments if line > first]
    problems += _rows_that_look_like_comments(below, len(header), delimiter)
    named = [k for k, column in enumerate(header) if column]
    found = [(line, {header[k]: cells[k] for k in named}) for line, cells in rows]
    ignored = [header[k] for k in named if header[k] not in known]
    return Table(found, problems, _notes(len(comments), numbered, ignored))


def _notes(comments: int, numbered: int, ignored: Sequence[str]) -> list[str]:
    """Notes on what was skipped: how many comments and columns of row numbers, and which columns."""
    notes = [f"{counted(comments, 'comment line')} skipped"] if comments else []
    if numbered:
        notes.append("a first column of row numbers ignored")
    if ignored:
        more = f" and {len(ignored) - SHOWN} more" if len(ignored) > SHOWN else ""
        shown = ", ".join(map(_short, ignored[:SHOWN]))
        notes.append(f"column{'s' if len(ignored) > 1 else ''} {shown}{more} ignored")
    return notes


def counted(number: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def told_of(what: str, path: str, table: Table) -> str:
    """A note on what was read from a file, and in brackets on what was skipped."""
    return f"{what} from {path}" + (f" ({', '.join(table.notes)})" if table.notes else "")


def read_text(path: str) -> str:
    """The text of a file that somebody made, with \\n at the end of lines.

    Raises:
      ValueError: it is no regular file, or no text in UTF-8 or UTF-16; tells the line.
      FileNotFoundError: there is no such file.
    """
    data = scenarios.read_bytes(path)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", data[: error.start])) + 1
        raise ValueError(f"{path}, line {line}: not a text file in UTF-8: save it as CSV UTF-8") from None
    text = re.sub(r"\r\n?", "\n", text)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}, line {line}: NUL, which no text has: save it as CSV UTF-8")
    return text


def delimiter_of(line: str) -> str:
    """What separates cells: the most frequent of comma, semicolon and tab outside quotation marks."""
    return max(",;\t", key=re.sub('"[^"]*"', "", line).count)


def _lines(
    path: str, required: Sequence[str], known: Sequence[str], others: bool
) -> tuple[tuple[int, str], list[tuple[int, str]], list[tuple[int, str]]]:
    """The line that names the columns, the lines below it, and all comments, with their numbers.

    Raises as `read_text`; also a ValueError if there is no line that could name columns.
    """

    def names_all(text: str) -> bool:
        cells = text.split(delimiter_of(text))
        return {_column(cell.strip(' "'), known, others) for cell in cells}.issuperset(required)

    numbered = enumerate(read_text(path).split("\n"), 1)  # str.splitlines would also split at form feeds
    lines = [(line, text) for line, text in numbered if text.replace(",", " ").replace(";", " ").strip()]
    comments = [(line, text) for line, text in lines if text.lstrip().startswith("#")]
    body = [(line, text) for line, text in lines if not text.lstrip().startswith("#")]
    above = [(line, text) for line, text in comments if not body or line < body[0][0]]
    headers = [(line, text.lstrip(" \t#")) for line, text in above if names_all(text.lstrip(" \t#"))]
    if headers and not (body and names_all(body[0][1])):
        first = headers[-1]
        return first, body, [one for one in comments if one[0] != first[0]]
    if not body:
        raise ValueError(f"{path} is empty: its first line must name the columns {', '.join(required)}")
    return body[0], body[1:], comments


def _column(cell: str, known: Sequence[str], others: bool) -> str:
    """The column that a cell of the first line names; version 0.1 called samples `size`."""
    name = cell if cell in known else cell.lower()
    return "samples" if others and name == "size" else name


def _rows(
    lines: Iterable[tuple[int, str]], width: int, delimiter: str, problems: Problems
) -> list[tuple[int, list[str]]]:
    """The lines as `width` cells each; about others there are complaints."""
    rows = []
    for line, text in lines:
        cells = _cells(line, text, delimiter, problems)
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if len(cells) == width:
            rows.append((line, [escapes.plain(cell) for cell in cells]))
        elif cells:
            point = " (decimals are written with a point)" if len(cells) > width else ""
            problems.append((line, f"{len(cells)} cells, but the first line names {width} columns{point}"))
    return rows


def _cells(line: int, text: str, delimiter: str, problems: Problems) -> list[str]:
    """The stripped cells of one line, NFC; if it cannot be read, none, and a complaint is added."""
    try:
        (cells,) = csv.reader([text], delimiter=delimiter, strict=True)
    except csv.Error as error:
        cells = []
        problems.append((line, f"quotation marks must enclose one whole cell within the line ({error})"))
    return [unicodedata.normalize("NFC", cell.strip()) for cell in cells]


def _first_columns_of_row_numbers(header: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> int:
    """How many of the first columns have no name, and a different whole number in each row."""
    for k, column in enumerate(header):
        found = {cells[k] for _, cells in rows}
        whole = all(re.fullmatch("[0-9]+", cell) for cell in found)
        if not (_ROW_NUMBERS.fullmatch(column) and rows and whole and len(found) == len(rows)):
            return k
    return len(header)


def _faults_of_header(
    line: int, header: Sequence[str], required: Sequence[str], known: Sequence[str], others: bool
) -> Problems:
    """Complaints about columns that are missing, there twice or unknown."""
    there = f"the first line has {', '.join(header)}"
    if len(header) == 1:
        there += "; cells are separated by commas, semicolons or tabs"
    told = [f"column `{column}` is missing; {there}" for column in required if column not in header]
    different = dict.fromkeys(column for column in header if column)
    told += [f"column `{column}` is there twice" for column in different if header.count(column) > 1]
    unknown = [] if others else [column for column in different if column not in known]
    told += [f"unknown column `{column}`; allowed are {', '.join(known)}" for column in unknown]
    return [(line, one) for one in told]


def _rows_that_look_like_comments(
    comments: Sequence[tuple[int, str]], width: int, delimiter: str
) -> Problems:
    """Complaints about comments that have `width` cells, as rows have: somebody may be called #1."""
    problems = []
    for line, text in comments:
        cells = _cells(line, text.strip(), delimiter, [])
        if len(cells) == width and sum(map(bool, cells)) > 1:  # spreadsheets add commas to comments
            written = f'"{cells[0]}", or as \'{cells[0]}'
            told = (
                f"a comment, or a row? It begins with # and has {width} cells: if it is a row, write the "
                f"first in quotation marks, {written}; if it is to be left out, delete it"
            )
            problems.append((line, told))
    return problems


def read_numbers(
    row: dict[str, str], columns: dict[str, Number], line: int, problems: Problems
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
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        above = value > column.low if column.open_low else value >= column.low
        below = value < column.high if column.open_high else value <= column.high
        if abs(value) >= registry.LARGEST:
            problems.append((line, f"`{name}` must be {column.words}, below 1e100, got {_short(text)}"))
        elif above and below:
            numbers[name] = value
        else:
            advice = _advice(text, column)
            problems.append((line, f"`{name}` must be {column.words}, got {_short(text)}{advice}"))
    return numbers


def _short(text: str) -> str:
    """A cell in quotation marks, the beginning of a long one."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _advice(text: str, column: Number) -> str:
    """How to write the number that a text may mean, in brackets; "" if that is not known."""
    told = ""
    thousands = _THOUSANDS.fullmatch(text)
    if thousands and thousands[1] not in ",.":
        told = "thousands are written without a separator"
    elif "%" in text:
        told = "a percentage is written as a fraction, 5% as 0.05"
    elif any(x in text for x in "\u2212\u2013\u2014"):  # minus, and the dashes that word processors make
        told = "the minus sign is written -"
    elif any(x.isdigit() and not x.isascii() for x in text):
        told = "digits are written 0 to 9"
    elif text.lower().lstrip("+-") in ("inf", "infinity", "∞"):
        told = "it must be finite"
    elif text.lower() in ("nan", "na", "n/a", "null", "none", "-", "?"):
        told = "if it is not known, " + ("leave the row out" if column.default is None else "leave it empty")
    elif re.search(r"[0-9]", text) and any(x.isalpha() or unicodedata.category(x) == "Sc" for x in text):
        told = "a number is written alone, without a unit"
    elif "," in text:
        told = "decimals are written with a point" + (", thousands without a separator" if thousands else "")
    elif re.search(r"[0-9][\s_'’.]+[0-9]", text) and not _NUMBER.fullmatch(text):
        told = "digits are written without a separator"
    return f" ({told})" if told else ""


def doubtful_samples(column: str, texts: Iterable[tuple[str, str]]) -> list[str]:
    """Notes on numbers of samples that are not whole, or look like thousands with a point.

    Args:
      column: that holds them.
      texts: what each is of, with a space in front, or ""; and the cell, which is a number.
    """
    told = []
    for whose, text in texts:
        if not float(text).is_integer() or _THOUSANDS.fullmatch(text):
            told.append(f"{column}{whose} is {float(text):g} (written {text})")
    if not told:
        return []
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return [f"{', '.join(told[:3])}{more}; thousands are written without a separator"]


def complain(path: str, problems: Problems) -> None:
    """Raises a `ValueError` with the first complaints, by line, if there are any."""
    if not problems:
        return
    in_order = sorted(problems, key=lambda problem: problem[0])
    texts = [f"{path}, line {line}: {told}" for line, told in in_order]
    if len(texts) > SHOWN:
        texts = [*texts[:SHOWN], f"... and {len(texts) - SHOWN} more"]
    raise ValueError("\n".join(texts))
