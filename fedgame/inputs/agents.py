"""Participants, one row each of a CSV file.

    name       unique, printable text
    cost       per sample, at least 0: c of c s^exponent + fixed, in the currency of `value`
    capacity   the maximum number of samples, at least 0
    fixed      optional, paid while enrolled, at least 0; 0 if empty
    exponent   optional, at least 1; 1 if empty
    value      optional, what accuracy 1 is worth to her, at least 0; 1 if empty
    quality    optional, standard samples that one of hers counts as, above 0; 1 if empty
    outside    optional, what she has if she leaves, in the currency of `value`; in all rows or in none

If a cost is named, its parameters are columns instead of `cost`, `fixed` and `exponent`: with --cost=power
the columns `rate`, `exponent` and `fixed`. If a payoff is named, its parameters are columns too. Where cost
and payoff have a parameter of the same name, or another column has it, the columns are called `cost.NAME` and
`payoff.NAME`.

`columns` says how files are written.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fedgame.games import scenarios
from fedgame.inputs import columns

Columns = Mapping[str, dataclasses.Field]  # parameters, as `registry.option` made them, by column


class Agents(NamedTuple):
    """Participants; arrays are [n] float64."""

    names: list[str]
    capacity: np.ndarray
    value: np.ndarray
    quality: np.ndarray
    outside: np.ndarray  # NaN if not given
    numbers: dict[str, np.ndarray]  # parameters of costs and payoffs, by column


_AGENTS = {
    "capacity": columns.Number("a number, at least 0"),
    "value": columns.Number("a number, at least 0", default=1.0),
    "quality": columns.Number("a number above 0", open_low=True, default=1.0),
    "outside": columns.Number("a number", low=-math.inf, default=math.nan),
}
COST = {
    "cost": columns.Number("a number, at least 0"),
    "fixed": columns.Number("a number, at least 0", default=0.0),
    "exponent": columns.Number("a number, at least 1", low=1.0, default=1.0),
}
NAMES = ("name", *_AGENTS)  # columns other than parameters of costs and payoffs


def read(
    path: str,
    cost: Columns | None = None,
    payoff: Columns = MappingProxyType({}),
    notes: list[str] | None = None,
) -> Agents:
    """Reads participants.

    Args:
      path: the file.
      cost: the parameters of costs; None: `COST`, those of linear and power costs.
      payoff: the parameters of payoffs.
      notes: sentences on what was read, and what was skipped, are added to it.

    Raises:
      ValueError: the file, a column or a cell is not as described; names the bad lines, ten at most.
      FileNotFoundError: there is no such file.
    """
    parameters = dict(COST)
    if cost is not None:
        parameters = {name: columns.of_option(field) for name, field in cost.items()}
    parameters |= {name: columns.of_option(field) for name, field in payoff.items()}
    every = {**parameters, **_AGENTS}
    required = tuple(name for name, column in every.items() if column.default is None)
    table = columns.read_rows(path, required=("name", *required), optional=tuple(every))
    rows, problems, _ = table
    agents = [columns.read_numbers(row, every, line, problems) for line, row in rows]
    problems += _faults_of_names(rows)
    without = [line for line, row in rows if not row.get("outside")]
    if len(without) < len(rows):
        problems += [(line, "`outside` must not be empty in some rows only") for line in without]
    columns.complain(path, problems)
    if notes is not None:
        notes.append(columns.told_of(columns.counted(len(rows), "participant"), path, table))
        capacities = [(f" of {row['name']}", row["capacity"]) for _, row in rows]
        notes += columns.doubtful_samples("capacity", capacities)
    found = {name: np.asarray([numbers[name] for numbers in agents]) for name in every}
    _, first = rows[0]
    return Agents(
        names=[row["name"] for _, row in rows],
        capacity=found["capacity"],
        value=found["value"],
        quality=found["quality"],
        outside=found["outside"],
        numbers={name: found[name] for name in parameters if name in first or name in COST},
    )


def _faults_of_names(rows: list[tuple[int, dict[str, str]]]) -> columns.Problems:
    """Complaints about names that cannot be printed, or are there twice."""
    seen: dict[str, int] = {}  # names -> the line where each is first
    problems = []
    for line, row in rows:
        name = row["name"]
        if fault := scenarios.fault_of(name):
            problems.append((line, f"`name` {fault}"))
        elif name in seen:
            problems.append((line, f"`name` {name!r} is that of line {seen[name]} already"))
        seen.setdefault(name, line)
    return problems
