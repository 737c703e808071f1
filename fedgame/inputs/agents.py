"""Participants, one row each of a CSV file.

    name       unique
    cost       per sample, at least 0: c of c s^exponent + fixed, in the currency of `value`
    capacity   the maximum number of samples, at least 0
    fixed      optional, paid while enrolled, at least 0; 0 if empty
    exponent   optional, at least 1; 1 if empty
    value      optional, what accuracy 1 is worth to her, at least 0; 1 if empty
    quality    optional, standard samples that one of hers counts as, above 0; 1 if empty

With another cost, or a payoff that is named, their parameters are columns too, instead of `cost`, `fixed` and
`exponent`: with --cost=power the columns `rate`, `exponent` and `fixed`. Where a cost and a payoff have a
parameter of the same name, or another column has it, the columns are called `cost.NAME` and `payoff.NAME`.

`columns` says how files are written.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fedgame.inputs import columns

Columns = Mapping[str, dataclasses.Field]  # parameters that `registry.option` made, by column


class Agents(NamedTuple):
    """Participants; arrays are [n] float64."""

    names: list[str]
    capacity: np.ndarray
    value: np.ndarray
    quality: np.ndarray
    numbers: dict[str, np.ndarray]  # of costs and payoffs, by column


_AGENTS = {
    "capacity": columns.Number("a number, at least 0"),
    "value": columns.Number("a number, at least 0", default=1.0),
    "quality": columns.Number("a number above 0", open_low=True, default=1.0),
}
COST = {
    "cost": columns.Number("a number, at least 0"),
    "fixed": columns.Number("a number, at least 0", default=0.0),
    "exponent": columns.Number("a number, at least 1", low=1.0, default=1.0),
}
NAMES = ("name", *_AGENTS)  # of columns that are no parameters of costs and payoffs


def read(path: str, cost: Columns | None = None, payoff: Columns = MappingProxyType({})) -> Agents:
    """Reads participants.

    Args:
      path: the file.
      cost: the parameters of costs; None: `COST`, those of linear and power costs.
      payoff: the parameters of payoffs.

    Raises:
      ValueError: the file, a column or a cell is not as described; names every bad line, up to ten.
      FileNotFoundError: there is no such file.
    """
    own = COST if cost is None else {name: columns.of_option(field) for name, field in cost.items()}
    more = {**own, **{name: columns.of_option(field) for name, field in payoff.items()}}
    every = {**more, **_AGENTS}
    required = tuple(name for name, column in every.items() if column.default is None)
    rows, problems = columns.read_rows(path, required=("name", *required), optional=tuple(every))
    seen, table = {}, []
    for line, row in rows:
        name = row["name"]
        if not name:
            problems.append((line, "`name` must not be empty"))
        elif name in seen:
            problems.append((line, f"`name` {name!r} is that of line {seen[name]} already"))
        seen.setdefault(name, line)
        table.append(columns.read_numbers(row, every, line, problems))
    columns.complain(path, problems)
    found = {name: np.asarray([numbers[name] for numbers in table]) for name in every}
    there = rows[0][1]
    numbers = {name: found[name] for name in more if name in there or name in COST}
    return Agents([row["name"] for _, row in rows], *(found[name] for name in _AGENTS), numbers)
