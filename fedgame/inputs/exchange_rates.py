"""Exchange rates, one row for each pair of members of a CSV file, as commands write them.

    member   whose own samples the rate is counted in
    of       whose samples are worth that
    rate     w_ij, how many of her own samples one of theirs is worth to `member`, at least 0
    low      optional, ends of an interval; ignored here
    high

Every pair of two members has one row. A row of a member and herself may be there, with rate 1.

`columns` says how files are written.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedgame.inputs import columns

FILE = "exchange_rates.csv"
_RATE = {"rate": columns.Number("a number, at least 0")}


def read(path: str, names: Sequence[str], notes: list[str] | None = None) -> np.ndarray:
    """Reads w_ij, [n, n], of the members `names`, in their order.

    A sentence on what was read, and what was skipped, is added to `notes`.

    Raises:
      ValueError: the file, a column or a cell is not as described; a pair is missing or there twice.
      FileNotFoundError: there is no such file.
    """
    table = columns.read_rows(path, required=("member", "of", "rate"), optional=("low", "high"))
    rows, problems, _ = table
    number = {name: i for i, name in enumerate(names)}
    rates = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(rates, 1.0)
    seen: dict[tuple[str, str], int] = {}  # pairs -> the line where each is first
    for line, row in rows:
        pair = row["member"], row["of"]
        unknown = [(column, row[column]) for column in ("member", "of") if row[column] not in number]
        for column, name in unknown:
            problems.append((line, f"`{column}` {name!r} is none of the participants"))
        if pair in seen:
            problems.append(
                (line, f"the rate of {pair[1]!r} for {pair[0]!r} is in line {seen[pair]} already")
            )
        seen.setdefault(pair, line)
        rate = columns.read_numbers(row, _RATE, line, problems)["rate"]
        if unknown:
            continue
        if pair[0] == pair[1] and rate != 1.0 and not math.isnan(rate):
            problems.append((line, f"the `rate` of a member's own samples is 1, got {rate:g}"))
        rates[number[pair[0]], number[pair[1]]] = rate
    columns.complain(path, problems)
    missing = [f"{names[j]!r} for {names[i]!r}" for i, j in np.argwhere(np.isnan(rates))]
    if missing:
        more = f" and {len(missing) - columns.SHOWN} more" if len(missing) > columns.SHOWN else ""
        raise ValueError(f"{path}: no rate of {', '.join(missing[: columns.SHOWN])}{more}")
    if notes is not None:
        notes.append(columns.told_of(columns.counted(len(rows), "exchange rate"), path, table))
    return rates


def rows(names: Sequence[str], rates: np.ndarray, low: Any = None, high: Any = None) -> list[dict[str, Any]]:
    """The rows of such a file.

    Args:
      names: of the members.
      rates: w_ij, [n, n].
      low, high: ends of intervals, [n, n], NaN where there is none; None: no intervals at all.
    """
    table = []
    for i, member in enumerate(names):
        for j, of in enumerate(names):
            row = {"member": member, "of": of, "rate": float(rates[i, j])}
            for name, ends in (("low", low), ("high", high)):
                if ends is not None and i != j and np.isfinite(ends[i, j]):
                    row[name] = float(ends[i, j])
                else:
                    row[name] = None
            table.append(row)
    return table
