"""Measured learning curves, one row per measurement of a CSV file.

    samples         total, at least 0 (or `size`, as fedgame 0.1 wrote it)
    accuracy        in [0, 1]; several rows with the same samples are repeated measurements
    seed            optional, numbers repetitions, and so do run, repeat, repetition and fold
    standard_error  optional, at least 0, of the accuracy; not together with repeated measurements
    agent           optional, name of the participant whose curve it is; without it all share one curve

Other columns are ignored, which is told. They must not differ in rows of a curve with the same samples: one
that does may say whose curve it is. `columns` says how files are written.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedgame.games import scenarios
from fedgame.inputs import columns


class Measurements(NamedTuple):
    """One learning curve."""

    sizes: np.ndarray  # [k] samples, increasing
    accuracy: np.ndarray  # [repetitions, k], NaN where a size has fewer
    error: np.ndarray | None  # [k] standard errors, if given


_CURVE = {
    "samples": columns.Number("a number, at least 0"),
    "accuracy": columns.Number("in [0, 1], not a percentage", high=1.0),
    "standard_error": columns.Number("a number, at least 0", default=math.nan),
}


REPETITIONS = ("seed", "run", "repeat", "repetition", "fold")

_WHAT_TO_DO = (
    "If it says whose curve it is, call the column `agent`; if it numbers repetitions, call it "
    f"{' or '.join(REPETITIONS)}; if not, delete the column, or the rows that are not meant"
)

_Row = tuple[int, dict[str, str], dict[str, float]]  # line, texts and numbers


def read(
    path: str, names: Sequence[str] | None = None, notes: list[str] | None = None
) -> dict[str, Measurements]:
    """Reads one curve that all share, or one for each participant.

    Args:
      path: the file.
      names: of the participants; None: a curve may have any name.
      notes: sentences on what was read, and what was skipped, are added to it.

    Returns:
      Curves by name of the participant; under "" if all share it.

    Raises:
      ValueError: the file, a column or a cell is not as described; a participant has no curve, or a curve no
        participant.
      FileNotFoundError: there is no such file.
    """
    optional = ("standard_error", "agent", *REPETITIONS)
    table = columns.read_rows(path, required=("samples", "accuracy"), optional=optional, others=True)
    rows, problems, _ = table
    known = None if names is None else set(names)
    curves: dict[str, list[_Row]] = {}
    for line, row in rows:
        agent, before = row.get("agent", ""), len(problems)
        numbers = columns.read_numbers(row, _CURVE, line, problems)
        if len(problems) == before:  # a bad row has one complaint, not one about repetitions too
            curves.setdefault(agent, []).append((line, row, numbers))
        if agent and known is not None and agent not in known:
            problems.append((line, f"`agent` {agent!r} is none of the participants"))
        elif agent and (fault := scenarios.fault_of(agent)):
            problems.append((line, f"`agent` {fault}"))
    nameless = [line for line, row in rows if not row.get("agent")]
    if len(nameless) < len(rows):
        problems += [(line, "`agent` must not be empty in some rows only") for line in nameless]
    for mine in curves.values():
        problems += [*_errors_and_repetitions(mine), *_duplicates(mine), *_other_columns(mine)]
    columns.complain(path, problems)
    missing = [name for name in names or () if name not in curves]
    if missing and "" not in curves:
        more = f" and {len(missing) - columns.SHOWN} more" if len(missing) > columns.SHOWN else ""
        shown = ", ".join(missing[: columns.SHOWN])
        raise ValueError(f"{path}: no curve for {shown}{more}; every participant needs one")
    found = {agent: _measurements([numbers for *_, numbers in mine]) for agent, mine in curves.items()}
    if notes is not None:
        notes.append(columns.told_of(_number(found), path, table))
        notes += columns.doubtful_samples("samples", [("", row["samples"]) for _, row in rows])
    return found


def _number(curves: dict[str, Measurements]) -> str:
    """How many measurements there are, in words."""
    counts = np.concatenate([np.sum(~np.isnan(one.accuracy), axis=0) for one in curves.values()])
    told = columns.counted(int(np.sum(counts)), "measurement")
    if len(curves) > 1:
        return f"{told} in {len(curves)} curves"
    told += f" at {columns.counted(len(counts), 'size')}"
    if np.max(counts) == 1:
        return told
    return (
        f"{told}, {counts[0]} repetitions each," if np.all(counts == counts[0]) else f"{told}, some repeated,"
    )


def _duplicates(rows: list[_Row]) -> columns.Problems:
    """Complaints about rows that have samples and the number of the repetition of an earlier row."""
    numbers = [column for column in REPETITIONS if column in rows[0][1]]
    if not numbers:  # then equal rows may well be repetitions
        return []
    seen: dict[tuple, int] = {}
    problems = []
    for line, row, found in rows:
        first = seen.setdefault((found["samples"], *(row[column] for column in numbers)), line)
        if first != line:
            same = " and ".join(f"`{column}`" for column in ("samples", *numbers))
            problems.append(
                (line, f"{same} are those of line {first} already: delete one, or number them differently")
            )
    return problems


def _other_columns(rows: list[_Row]) -> columns.Problems:
    """A complaint about each column that is none of this module's and differs where samples are equal."""
    known = {*_CURVE, "agent", *REPETITIONS}
    problems = []
    for column in [name for name in rows[0][1] if name not in known]:
        first: dict[float, tuple[int, str]] = {}  # by samples
        for line, row, numbers in rows:
            before, text = first.setdefault(numbers["samples"], (line, row[column]))
            if text != row[column]:
                told = f"`{column}` is {row[column]!r}, but {text!r} in line {before} with the same samples"
                problems.append((line, f"{told}. {_WHAT_TO_DO}"))
                break
    return problems


def _errors_and_repetitions(rows: list[_Row]) -> columns.Problems:
    """Complaints about one curve: standard errors in some rows only, or beside repetitions."""
    without = [line for line, _, numbers in rows if math.isnan(numbers["standard_error"])]
    if len(without) == len(rows):
        return []
    if without:
        told = "`standard_error` must be given in every row of a curve, or in none"
        return [(line, told) for line in without]
    told = "`samples` of an earlier row: give repeated measurements or `standard_error`, not both"
    seen: set[float] = set()
    problems = []
    for line, _, numbers in rows:
        if numbers["samples"] in seen:
            problems.append((line, told))
        seen.add(numbers["samples"])
    return problems


def _measurements(rows: list[dict[str, float]]) -> Measurements:
    """One curve from its rows, in any order."""
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
