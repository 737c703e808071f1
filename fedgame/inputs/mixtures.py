"""Accuracies of models that were trained on mixtures of the members' samples: a folder with two CSV files.

mixtures.csv, one row per mixture and member:

    mixture   any text
    member    name; a member that a mixture does not name has 0 samples in it
    samples   that it gives, at least 0

measurements.csv, one row per mixture, split and member whose model was tested on that member's own held-out
records; combinations may be missing:

    mixture   as in mixtures.csv
    split     any text: which records were held out; the same text is the same split in every mixture
    member    name
    accuracy  in [0, 1]

measurements.csv may have a column `metric` that says what the accuracies are, such as auc, the same in all
rows. All other columns are ignored, which is told. `columns` says how files are written.
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from fedgame.games import exchange_rates, scenarios
from fedgame.inputs import columns

MIXTURES, MEASUREMENTS = "mixtures.csv", "measurements.csv"
MEMBERS = "members.json"  # what launch.measure tells of the records
_SAMPLES = {"samples": columns.Number("a number, at least 0")}
_ACCURACY = {"accuracy": columns.Number("in [0, 1], not a percentage", high=1.0)}

# The number in each row, by the texts that say what it is of, with the line.
_Rows = dict[tuple[str, ...], tuple[int, float]]


def read(
    folder: str, names: Sequence[str] | None = None, notes: list[str] | None = None
) -> exchange_rates.Mixtures:
    """Reads the mixtures and what was measured on them.

    Args:
      folder: has both files.
      names: of the members, in order; None: all that are named, in order of first appearance.
      notes: sentences on what was read, and what was skipped, are added to it.

    Returns:
      The mixtures, in order of first appearance, and the splits likewise.

    Raises:
      ValueError: a file, a column or a cell is not as described, a row is there twice, a member is unknown,
        or a mixture is named in one file only; tells file and line.
      FileNotFoundError: there is no such folder, or it lacks a file.
    """
    path = pathlib.Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: launch.measure makes it")
    mixtures, measurements = str(path / MIXTURES), str(path / MEASUREMENTS)
    samples, of_samples = _read_rows(mixtures, ("mixture", "member"), _SAMPLES, names)
    accuracy, of_accuracy = _read_rows(measurements, ("mixture", "split", "member"), _ACCURACY, names)
    _complain_of_one_file_only(
        mixtures, samples, 0, accuracy, 0, f"`mixture` {{}} has no row in {MEASUREMENTS}"
    )
    _complain_of_one_file_only(
        measurements, accuracy, 0, samples, 0, f"`mixture` {{}} has no row in {MIXTURES}"
    )
    if names is None:
        told = f"`member` {{}} has no row in {MIXTURES}"
        _complain_of_one_file_only(measurements, accuracy, 2, samples, 1, told)
        names = _places(samples, 1)
    mixture, split = _places(samples, 0), _places(accuracy, 1)
    member = {name: i for i, name in enumerate(names)}
    given = np.zeros((len(mixture), len(member)))
    for (m, i), (_, number) in samples.items():
        given[mixture[m], member[i]] = number
    measured = np.full((len(mixture), len(split), len(member)), np.nan)
    for (m, k, i), (_, number) in accuracy.items():
        measured[mixture[m], split[k], member[i]] = number
    if notes is not None:
        notes.append(columns.told_of(columns.counted(len(mixture), "mixture"), mixtures, of_samples))
        notes.append(
            columns.told_of(columns.counted(len(accuracy), "measurement"), measurements, of_accuracy)
        )
        notes += columns.doubtful_samples("samples", [("", row["samples"]) for _, row in of_samples.rows])
    return exchange_rates.Mixtures(tuple(member), given, measured)


def metric(folder: str) -> str:
    """What the accuracies are: the `metric` of measurements.csv; "accuracy" without one.

    Raises:
      ValueError: rows differ in it.
    """
    path = str(pathlib.Path(folder) / MEASUREMENTS)
    rows = columns.read_rows(path, required=("accuracy",), optional=("metric",), others=True).rows
    first_line, first = rows[0]
    for line, row in rows:
        if row.get("metric") != first.get("metric"):
            told = f"{row['metric']!r}, but {first['metric']!r} in line {first_line}"
            columns.complain(path, [(line, f"`metric` is {told}: give each metric a folder of its own")])
    return first.get("metric") or "accuracy"


def owned(folder: str) -> dict[str, int]:
    """How many records each member owns, as launch.measure wrote it; {} if others made the folder."""
    try:
        found = json.loads((pathlib.Path(folder) / MEMBERS).read_text(encoding="utf-8"))["records"]
        return {name: int(number) for name, number in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read_rows(
    path: str, texts: tuple[str, ...], number: dict[str, columns.Number], names: Sequence[str] | None
) -> tuple[_Rows, columns.Table]:
    """The rows of one file, also as texts.

    Args:
      path: the file.
      texts: names of the columns that say what a number is of, `member` last.
      number: the column of numbers.
      names: of the members; None: any.
    """
    (name,) = number
    table = columns.read_rows(path, required=(*texts, name), optional=("metric",), others=True)
    rows, problems, _ = table
    found: _Rows = {}
    for line, row in rows:
        key = tuple(row[text] for text in texts)
        value = columns.read_numbers(row, number, line, problems)[name]
        faults = [f"`{text}` {fault}" for text in texts if (fault := scenarios.fault_of(row[text]))]
        problems += [(line, fault) for fault in faults]
        if names is not None and row["member"] and row["member"] not in names:
            problems.append((line, f"`member` {row['member']!r} is none of {', '.join(names)}"))
        if key in found and not faults:
            same = ", ".join(f"`{text}`" for text in texts)
            problems.append((line, f"{same} are those of line {found[key][0]} already"))
        found.setdefault(key, (line, value))
    columns.complain(path, problems)
    return found, table


def _complain_of_one_file_only(
    path: str, rows: _Rows, column: int, others: _Rows, column_there: int, told: str
) -> None:
    """Raises a ValueError if a text in a column of `path` is in no row of the other file."""
    there = {key[column_there] for key in others}
    lines: dict[str, int] = {}
    for key, (line, _) in rows.items():
        lines.setdefault(key[column], line)
    problems = [(line, told.format(repr(text))) for text, line in lines.items() if text not in there]
    columns.complain(path, problems)


def _places(rows: _Rows, column: int) -> dict[str, int]:
    """The texts of a column in order of first appearance, with their places in that order."""
    return {text: place for place, text in enumerate(dict.fromkeys(key[column] for key in rows))}
