"""What members tell about their tables so that all scale alike: means and deviations, and no records.

Federated statistics: every member sums up her own columns (`of_table`), and from these follow the columns,
the classes, and the means and deviations (`agreed`) that somebody who had all tables would have learnt
(`tables.learnt`). Means of few cells are not told, nor texts that few records have; that hides what is rare,
and is not anonymity: of a column of 0 and 1, for example, the mean tells how many are 1.
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame.games import scenarios
from fedgame.inputs import members as inputs
from fedgame.learning import tables

_LARGEST = 1e30  # a mean or a deviation
_SHOWN = 4  # texts in a sentence
_FAR = 3.0  # deviations between the means of two members that are odd


class Numbers(NamedTuple):
    """What is told of a column of numbers."""

    cells: int  # that are not empty; 0: too few to tell more
    mean: float = 0.0  # of these
    deviation: float = 0.0  # of these, √(Σ(x - mean)² / cells)


class Texts(NamedTuple):
    """What is told of a column of texts."""

    known: tuple[str, ...]  # the different ones


class Statistics(NamedTuple):
    """What one member tells about her table.

    Attributes:
      records: m, rows of her table.
      target: the column of the class.
      classes: that occur in it.
      columns: by name, in the order of her table; None of a column that is empty throughout.
    """

    records: int
    target: str
    classes: tuple[str, ...]
    columns: dict[str, Numbers | Texts | None]


class Agreed(NamedTuple):
    """What follows from the statistics of all members."""

    preparation: tables.Preparation
    classes: tuple[str, ...]
    target: str
    remarks: list[str]  # sentences on what is odd but allowed


def of_table(
    file: pathlib.Path,
    target: str | None = None,
    categorical: Sequence[str] = (),
    without: Sequence[str] = (),
    fewest: int = 5,
) -> tuple[Statistics, list[str]]:
    """What a member tells about her table, and sentences on what is odd or is not told.

    Args:
      file: her table, as `inputs.members` describes it.
      target: the column of the class; None: the last one.
      categorical: columns of numbers that are categories.
      without: columns that are ignored.
      fewest: numbers of fewer records are not told, nor a text that fewer records have.

    Raises:
      ValueError: the table cannot be read or has no features, or a column that is named is not there.
    """
    own = inputs.read_alone(file, target, categorical, without)
    columns: dict[str, Numbers | Texts | None] = dict.fromkeys(own.names)
    remarks = own.remarks
    for column, cells in zip(own.schema.numbers, own.columns.numbers.T, strict=True):
        there = cells[~np.isnan(cells)]
        if len(there) >= fewest:
            columns[column] = Numbers(len(there), float(there.mean()), float(there.std()))
        elif len(there):
            columns[column] = Numbers(0)
            remarks.append(f"`{column}` has numbers in {len(there)} records: too few to tell their mean")
    for column, cells in zip(own.schema.categories, own.columns.texts.T, strict=True):
        texts, counts = np.unique(cells[cells != ""].astype(str), return_counts=True)
        columns[column] = Texts(tuple(texts[counts >= fewest].tolist()))
        if rare := texts[counts < fewest].tolist():
            more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
            remarks.append(f"`{column}`: {', '.join(rare[:_SHOWN])}{more} in so few records is not told")
    return Statistics(len(own.labels), own.target, tuple(sorted({*own.labels})), columns), remarks


def agreed(told: Mapping[str, Statistics]) -> Agreed:
    """The columns, the classes and the scaling of all members' tables, from what they tell.

    What `tables.learnt` finds in all their records, up to rounding, except for what was too rare to be told.

    Args:
      told: by member's name.

    Raises:
      ValueError: there are fewer than two members, or what they tell does not fit together.
    """
    if len(told) < 2:
        raise ValueError(f"at least two members must tell something, got {len(told)}")
    first = next(iter(told))
    for name, own in told.items():
        if own.target != told[first].target:
            raise ValueError(
                f"{first} tells the class by `{told[first].target}`, and {name} by `{own.target}` (--target)"
            )
    target = told[first].target
    classes = inputs.classes_of({name: own.classes for name, own in told.items()}, target)
    inputs.complain_of_spellings({name: own.columns for name, own in told.items()})
    numbers, texts = _by_kind(told)
    remarks = [*_lacking(told), *_far_apart(told, numbers)]
    for column in [c for c, parts in numbers.items() if not any(part.cells for part in parts)]:
        del numbers[column]
        remarks.append(f"nobody tells numbers of `{column}`: left out")
    for column in [c for c, known in texts.items() if not known]:
        del texts[column]
        remarks.append(f"nobody tells texts of `{column}`: left out")
    if not numbers and not texts:
        raise ValueError("no column is left of which anybody tells something")
    return Agreed(_scaled(numbers, texts, [own.records for own in told.values()]), classes, target, remarks)


def _by_kind(told: Mapping[str, Statistics]) -> tuple[dict[str, list[Numbers]], dict[str, tuple[str, ...]]]:
    """Of each column of numbers what every member tells, `Numbers(0)` if nothing; of one of texts, all texts.

    Raises:
      ValueError: a column has texts in one member's table and numbers in another's, or too many texts.
    """
    numbers, texts = {}, {}
    for column in dict.fromkeys(c for own in told.values() for c in own.columns):
        parts = {name: own.columns.get(column) for name, own in told.items()}
        with_numbers = [name for name, part in parts.items() if isinstance(part, Numbers)]
        with_texts = [name for name, part in parts.items() if isinstance(part, Texts)]
        if with_numbers and with_texts:
            raise ValueError(
                f"`{column}` has numbers in the table of {with_numbers[0]} and texts in that of "
                f"{with_texts[0]}: leave cells empty if nothing is known, or all use --categorical={column}"
            )
        if with_texts:
            known = (text for name in with_texts for text in parts[name].known)
            texts[column] = inputs.categories_of(column, known)
        else:
            numbers[column] = [part or Numbers(0) for part in parts.values()]
    return numbers, texts


def _scaled(
    numbers: Mapping[str, Sequence[Numbers]], texts: dict[str, tuple[str, ...]], records: Sequence[int]
) -> tables.Preparation:
    """The scaling of columns of numbers, of which every member tells something, by her number of records."""
    records = np.asarray(records, float)
    shape = len(numbers), len(records)
    cells, means, deviations = (
        np.array([[getattr(part, field) for part in parts] for parts in numbers.values()]).reshape(shape)
        for field in Numbers._fields
    )
    share = cells / cells.sum(axis=1, keepdims=True)
    mean = np.sum(share * means, axis=1)
    # Empty cells are filled with the mean, which makes the deviation smaller.
    filled = cells.sum(axis=1) / records.sum()
    deviation = np.sqrt(filled * np.sum(share * (deviations**2 + (means - mean[:, None]) ** 2), axis=1))
    constant = deviation <= 1e-12 * np.abs(mean)  # up to rounding
    gaps = np.any(cells < records, axis=1)
    empty = 1.0 - filled[gaps]
    return tables.Preparation(
        schema=tables.Schema(tuple(numbers), texts, tuple(gaps.tolist())),
        fill=mean,
        mean=np.concatenate([mean, empty]),
        deviation=np.concatenate([np.where(constant, 1.0, deviation), np.sqrt(empty * (1.0 - empty))]),
    )


def _lacking(told: Mapping[str, Statistics]) -> list[str]:
    """Sentences on columns that a member lacks or has empty."""
    everywhere = dict.fromkeys(c for own in told.values() for c in own.columns)
    remarks = []
    for name, own in told.items():
        if lacking := [f"`{column}`" for column in everywhere if own.columns.get(column) is None]:
            remarks.append(f"{name} has nothing in the column {', '.join(lacking)}")
    return remarks


def _far_apart(told: Mapping[str, Statistics], numbers: Mapping[str, Sequence[Numbers]]) -> list[str]:
    """Sentences on columns that a member may have in another unit than the others."""
    remarks = []
    for column, parts in numbers.items():
        there = {name: part for name, part in zip(told, parts, strict=True) if part.cells}
        spread = max((part.deviation for part in there.values()), default=0.0)
        far = 0.0
        for name, hers in there.items():
            others = [part for other, part in there.items() if other != name]
            if not others:
                break
            mean = np.average([part.mean for part in others], weights=[part.cells for part in others])
            if abs(hers.mean - mean) > max(far, _FAR * spread):
                far = abs(hers.mean - mean)
                odd = (
                    f"`{column}` has the mean {hers.mean:.4g} in the table of {name}, and {mean:.4g} with "
                    "the others: does she count in the same unit?"
                )
        if far:
            remarks.append(odd)
    return remarks


def to_dict(own: Statistics) -> dict[str, Any]:
    """What a member tells as JSON values, which `load` reads."""
    columns = {name: {} if part is None else part._asdict() for name, part in own.columns.items()}
    return own._asdict() | {"columns": columns}


def load(file: str | os.PathLike) -> Statistics:
    """Reads what a member tells, from the file that `launch.member --statistics` wrote.

    Raises:
      ValueError: it holds no such statistics, or numbers that cannot be.
      FileNotFoundError: there is no such file.
    """
    data = scenarios.read_bytes(file)
    try:
        values = json.loads(data.decode("utf-8-sig"))
        columns = {str(name): _column(about) for name, about in values["columns"].items()}
        classes = tuple(str(text) for text in values["classes"])
        own = Statistics(int(values["records"]), str(values["target"]), classes, columns)
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{file} holds no statistics of launch.member --statistics") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{file}: {error}") from None
    if not own.classes or not 1 <= own.records < 2**53:
        raise ValueError(f"{file}: there must be records, and classes of them")
    for name, part in own.columns.items():
        if isinstance(part, Numbers) and not _possible(part, own.records):
            raise ValueError(f"{file}: `{name}` cannot have {part} in {own.records} records")
    return own


def _column(about: dict[str, Any]) -> Numbers | Texts | None:
    """The column of which `to_dict` made this."""
    if not about:
        return None
    if "known" in about:
        return Texts(tuple(str(text) for text in about["known"]))
    return Numbers(int(about["cells"]), float(about["mean"]), float(about["deviation"]))


def _possible(part: Numbers, records: int) -> bool:
    """Whether a column of a table can have these."""
    return 0 <= part.cells <= records and abs(part.mean) <= _LARGEST and 0 <= part.deviation <= _LARGEST
