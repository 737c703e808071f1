"""Texts as cells of CSV files. Spreadsheets take some for formulas, and people's readers some for comments.

A text that begins with =, +, -, @, #, a tab or a carriage return, and is no number, is written with an
apostrophe in front, as OWASP advises ("CSV Injection"); reading takes it away. Texts that begin with
apostrophes and then one of these get one more, so that every text comes back as it was.
"""

import contextlib
import re

_TAKEN_FOR_MORE = re.compile(r"'*[=+\-@#\t\r]")


def escaped(text: str) -> str:
    """The text as a cell that no spreadsheet evaluates."""
    with contextlib.suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if _TAKEN_FOR_MORE.match(text) else text


def plain(cell: str) -> str:
    """The text of which `escaped` made this cell."""
    return cell[1:] if cell.startswith("'") and _TAKEN_FOR_MORE.match(cell) else cell
