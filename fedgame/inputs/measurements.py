"""Measured learning curves, one row per measurement of a CSV file.

    samples         total, at least 0 (or `size`, as fedgame 0.1 wrote it)
    accuracy        in [0, 1]; several rows with the same samples are repeated measurements
    standard_error  optional, at least 0, of the accuracy; not together with repeated measurements
    agent           optional, name of the participant whose curve it is; without it all share one curve

Other columns are ignored. `columns` says how files are written.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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


def read(path: str, names: Sequence[str] | None = None) -> dict[str, Measurements]:
    """Reads one curve that all share, or one for each participant.

    Args:
      path: the file.
      names: of the participants; None: a curve may have any name.

    Returns:
      Curves by name of the participant; under "" if all share it.

    Raises:
      ValueError: the file, a column or a cell is not as described; a participant has no curve, or a curve no
        participant.
      FileNotFoundError: there is no such file.
    """
    rows, problems = columns.read_rows(
        path, required=("samples", "accuracy"), optional=("standard_error", "agent"), others=True
    )
    known = None if names is None else set(names)
    curves: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for line, row in rows:
        agent, before = row.get("agent", ""), len(problems)
        numbers = columns.read_numbers(row, _CURVE, line, problems)
        if len(problems) == before:  # a bad row has one complaint, not one about repetitions too
            curves.setdefault(agent, []).append((line, numbers))
        if agent and known is not None and agent not in known:
            problems.append((line, f"`agent` {agent!r} is none of the participants"))
    nameless = [line for line, row in rows if not row.get("agent")]
    if len(nameless) < len(rows):
        problems += [(line, "`agent` must not be empty in some rows only") for line in nameless]
    for mine in curves.values():
        problems += _errors_and_repetitions(mine)
    columns.complain(path, problems)
    missing = [name for name in names or () if name not in curves]
    if missing and "" not in curves:
        more = f" and {len(missing) - columns.SHOWN} more" if len(missing) > columns.SHOWN else ""
        shown = ", ".join(missing[: columns.SHOWN])
        raise ValueError(f"{path}: no curve for {shown}{more}; every participant needs one")
    return {agent: _measurements([numbers for _, numbers in mine]) for agent, mine in curves.items()}


def _errors_and_repetitions(rows: list[tuple[int, dict[str, float]]]) -> list[tuple[int, str]]:
    """Complaints, by line, about one curve: standard errors in some rows only, or beside repetitions.

    Args:
      rows: line and numbers of each.
    """
    without = [line for line, numbers in rows if math.isnan(numbers["standard_error"])]
    if len(without) == len(rows):
        return []
    if without:
        told = "`standard_error` must be given in every row of a curve, or in none"
        return [(line, told) for line in without]
    told = "`samples` of an earlier row: give repeated measurements or `standard_error`, not both"
    seen: set[float] = set()
    problems = []
    for line, numbers in rows:
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
