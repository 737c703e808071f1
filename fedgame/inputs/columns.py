"""People's own numbers: participants and learning curves from CSV files.

Participants, one row each:

    name       unique
    cost       per sample, at least 0: c of c s^exponent + fixed, in the currency of `value`
    capacity   most samples, at least 0
    fixed      optional, paid while enrolled, at least 0; 0 if empty
    exponent   optional, at least 1; 1 if empty
    value      optional, what accuracy 1 is worth to her, at least 0; 1 if empty
    quality    optional, standard samples that one of hers counts as, above 0; 1 if empty

With another cost, or a payoff that is named, their parameters are columns too, instead of `cost`, `fixed` and
`exponent`: with --cost=power the columns `rate`, `exponent` and `fixed`. Where a cost and a payoff have a
parameter of the same name, or another column has it, the columns are called `cost.NAME` and `payoff.NAME`.

Curve, one row per measurement:

    samples         total, at least 0 (or `size`, as fedgame 0.1 wrote it)
    accuracy        in [0, 1]; several rows with the same samples are repeated measurements
    standard_error  optional, at least 0, of the accuracy; not together with repeated measurements
    agent           optional, name of the participant whose curve it is; without it all share one

Other columns are ignored in a curve. Columns may come in any order, separated by commas, semicolons or tabs;
blank lines and lines that begin with # are skipped.
"""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry

_SHOWN = 10  # bad rows in one message


Columns = Mapping[str, dataclasses.Field]  # parameters that `registry.option` made, by column


class Agents(NamedTuple):
    """Participants; arrays are [n] float64."""

    names: list[str]
    capacity: np.ndarray
    value: np.ndarray
    quality: np.ndarray
    numbers: dict[str, np.ndarray]  # of costs and payoffs, by column


class Measurements(NamedTuple):
    """One learning curve."""

    sizes: np.ndarray  # [k] samples, increasing
    accuracy: np.ndarray  # [repetitions, k], NaN where a size has fewer
    error: np.ndarray | None  # [k] standard errors, if given


class _Number(NamedTuple):
    """A column of numbers: what is allowed, and what an empty cell means (None: not allowed)."""

    words: str
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False
    default: float | None = None
    open_high: bool = False


_AGENTS = {
    "capacity": _Number("a number, at least 0"),
    "value": _Number("a number, at least 0", default=1.0),
    "quality": _Number("a number above 0", open_low=True, default=1.0),
}
COST = {
    "cost": _Number("a number, at least 0"),
    "fixed": _Number("a number, at least 0", default=0.0),
    "exponent": _Number("a number, at least 1", low=1.0, default=1.0),
}
NAMES = ("name", *_AGENTS)  # of columns that are no parameters of costs and payoffs
_CURVE = {
    "samples": _Number("a number, at least 0"),
    "accuracy": _Number("in [0, 1], not a percentage", high=1.0),
    "standard_error": _Number("a number, at least 0", default=math.nan),
}


def read_agents(path: str, cost: Columns | None = None, payoff: Columns = MappingProxyType({})) -> Agents:
    """Reads participants.

    Args:
      path: the file.
      cost: the parameters of costs; None: `COST`, those of linear and power costs.
      payoff: the parameters of payoffs.

    Raises:
      ValueError: the file, a column or a cell is not as described; names every bad line, up to ten.
      FileNotFoundError: there is no such file.
    """
    own = COST if cost is None else {name: _of_option(field) for name, field in cost.items()}
    more = {**own, **{name: _of_option(field) for name, field in payoff.items()}}
    columns = {**more, **_AGENTS}
    required = tuple(name for name, column in columns.items() if column.default is None)
    rows, problems = _rows(path, required=("name", *required), optional=tuple(columns))
    seen, table = {}, []
    for line, row in rows:
        name = row["name"]
        if not name:
            problems.append((line, "`name` must not be empty"))
        elif name in seen:
            problems.append((line, f"`name` {name!r} is that of line {seen[name]} already"))
        seen.setdefault(name, line)
        table.append(_numbers(row, columns, line, problems))
    _complain(path, problems)
    found = {name: np.asarray([numbers[name] for numbers in table]) for name in columns}
    there = rows[0][1]
    numbers = {name: found[name] for name in more if name in there or name in COST}
    return Agents([row["name"] for _, row in rows], *(found[name] for name in _AGENTS), numbers)


def _of_option(field: dataclasses.Field) -> _Number:
    """The column of a parameter that `registry.option` made."""
    limits = field.metadata
    default = None if field.default is dataclasses.MISSING else float(field.default)
    low, open_low = max(limits["low"], limits["above"]), limits["above"] >= limits["low"]
    high, open_high = min(limits["high"], limits["below"]), limits["below"] <= limits["high"]
    return _Number(registry.allowed(field), low, high, open_low, default, open_high)


def read_curve(path: str, names: Sequence[str] | None = None) -> dict[str, Measurements]:
    """Reads one curve, under the key "", or one for each of the participants `names`.

    Raises:
      ValueError: as `read_agents`; a participant without a curve; a curve of nobody.
      FileNotFoundError: there is no such file.
    """
    rows, problems = _rows(
        path, required=("samples", "accuracy"), optional=("standard_error", "agent"), others=True
    )
    known, curves = None if names is None else set(names), {}
    for line, row in rows:
        agent, before = row.get("agent", ""), len(problems)
        numbers = _numbers(row, _CURVE, line, problems)
        if len(problems) == before:  # a bad row would be blamed for its neighbours' repetitions too
            curves.setdefault(agent, []).append((line, numbers))
        if agent and known is not None and agent not in known:
            problems.append((line, f"`agent` {agent!r} is none of the participants"))
    nameless = [line for line, row in rows if not row.get("agent")]
    if len(nameless) < len(rows):
        problems += [(line, "`agent` must not be empty in some rows only") for line in nameless]
    for mine in curves.values():
        problems += _errors_and_repetitions(mine)
    _complain(path, problems)
    if "" not in curves and (missing := [name for name in names or () if name not in curves]):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        shown = ", ".join(missing[:_SHOWN])
        raise ValueError(f"{path}: no curve for {shown}{more}; every participant needs one")
    return {agent: _measurements([numbers for _, numbers in mine]) for agent, mine in curves.items()}


def _errors_and_repetitions(rows: list[tuple[int, dict[str, float]]]) -> list[tuple[int, str]]:
    without = [line for line, numbers in rows if math.isnan(numbers["standard_error"])]
    if len(without) == len(rows):
        return []
    if without:
        return [(x, "`standard_error` must be given in every row of a curve, or in none") for x in without]
    seen: set[float] = set()
    repeated = [line for line, n in rows if n["samples"] in seen or seen.add(n["samples"])]
    return [
        (line, "`samples` of an earlier row: give repeated measurements or `standard_error`, not both")
        for line in repeated
    ]


def _measurements(rows: list[dict[str, float]]) -> Measurements:
    repeated: dict[float, list[float]] = {}
    for row in rows:
        repeated.setdefault(row["samples"], []).append(row["accuracy"])
    sizes = sorted(repeated)
    accuracy = np.full((max(map(len, repeated.values())), len(sizes)), np.nan)
    for k, size in enumerate(sizes):
        accuracy[: len(repeated[size]), k] = repeated[size]
    errors = {row["samples"]: row["standard_error"] for row in rows}
    error = np.asarray([errors[size] for size in sizes])
    return Measurements(np.asarray(sizes), accuracy, None if np.any(np.isnan(error)) else error)


def _rows(
    path: str, required: tuple[str, ...], optional: tuple[str, ...], others: bool = False
) -> tuple[list[tuple[int, dict[str, str]]], list[tuple[int, str]]]:
    """The rows with their line numbers, cells stripped and by column name; and the rows that are none."""
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
    _complain(path, problems)
    if not body:
        raise ValueError(f"{path} has no rows below its first line")
    rows = []
    for line, text in body:
        cells = _cells(line, text, delimiter, problems)
        if len(cells) == len(header):
            rows.append((line, dict(zip(header, cells, strict=True))))
        elif cells:
            point = " (decimals are written with a point)" if len(cells) > len(header) else ""
            told = f"{len(cells)} cells, but the first line names {len(header)} columns{point}"
            problems.append((line, told))
    return rows, problems


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines that say something, numbered as an editor does."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8: save it as CSV UTF-8") from None
    numbered = enumerate(text.split("\n"), 1)  # str.splitlines would also split at form feeds
    return [(n, x) for n, x in numbered if x.strip(" ,;\t") and not x.lstrip().startswith("#")]


def _cells(line: int, text: str, delimiter: str, problems: list[tuple[int, str]]) -> list[str]:
    """The stripped cells of one line; none, and a problem more, if it cannot be read."""
    try:
        (cells,) = csv.reader([text], delimiter=delimiter, strict=True)
    except csv.Error as error:
        cells = []
        problems.append((line, f"quotation marks must enclose one whole cell within the line ({error})"))
    return [cell.strip() for cell in cells]


def _numbers(
    row: dict[str, str], columns: dict[str, _Number], line: int, problems: list[tuple[int, str]]
) -> dict[str, float]:
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


def _complain(path: str, problems: list[tuple[int, Any]]) -> None:
    if problems:
        texts = [f"{path}, line {line}: {problem}" for line, problem in sorted(problems, key=lambda x: x[0])]
        more = [f"... and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
        raise ValueError("\n".join(texts[:_SHOWN] + more))
