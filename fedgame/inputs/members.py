"""A federation as a folder: each member's own records, as a table or as images.

    FOLDER/MEMBER.csv           a row per record, columns with names; or MEMBER.parquet (needs pyarrow)
    FOLDER/MEMBER/CLASS/*.png   images in a folder per class (see `learning.data.folders`)
    FOLDER/MEMBER.npz           images and labels (see `learning.data.arrays`)

Members are called as the files are; %2F in a file's name stands for /, and so on as in addresses of pages.
Files of other endings are ignored, which is told, and so are README, LICENSE, agents.csv, curve.csv,
mixtures.csv, measurements.csv and exchange_rates.csv, which other commands read and write.

Pipes and the like are never opened. What is odd about images, or ignored among them, is told.

Tables: cells are separated by commas, semicolons or tabs. One column is the target, whose values are the
classes. The others are features: numbers, or texts, which are categories. Empty cells are allowed; `?`, NA,
N/A, NaN and NULL count as empty, None does not. A column may be missing from a member's table; it is then
empty for her, which is told. So is a column of numbers and texts: all its cells are categories. Names of
columns that differ in case or spaces only, in tables of two members, are refused.
"""

import csv
import io
import os
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame.games import scenarios
from fedgame.inputs import columns as csv_files
from fedgame.learning import data, image_files, members, tables

_NOT_MEMBERS = ("agents.csv", "curve.csv", "mixtures.csv", "measurements.csv", "exchange_rates.csv")
_TABLES = (".csv", ".parquet")
_CATEGORIES = 100  # different texts in a column: more are no categories
_CLASSES = 100
_EMPTY = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null")
_SHOWN = 8  # columns in a message
_LARGEST = 1e30  # numbers that single precision holds, with room for their squares


class Read(NamedTuple):
    """What a folder holds."""

    federation: members.Federation
    remarks: list[str]  # sentences on what is odd but allowed


def read(
    folder: str, target: str | None = None, categorical: Sequence[str] = (), without: Sequence[str] = ()
) -> Read:
    """Reads every member's records.

    Args:
      folder: has a file or a folder for each member.
      target: of tables: the column of the class; None: the last column of the first member's.
      categorical: of tables: columns of numbers that are categories.
      without: of tables: columns that are ignored.

    Returns:
      The members, in the order of their names, and remarks.

    Raises:
      ValueError: there are fewer than two members, or a member's records cannot be used; names the member. Or
        it is no folder.
      FileNotFoundError: there is no such folder.
    """
    path = pathlib.Path(os.path.expanduser(folder))
    if path.is_file():
        raise ValueError(f"{folder} is a file: name the folder that holds all members' tables")
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files, remarks = _files(path)
    if len(files) < 2:
        found = f"only {next(iter(files))}" if files else "none"
        raise ValueError(f"{folder} must hold at least two members (FOLDER/MEMBER.csv, for example): {found}")
    is_table = {name: file.suffix.lower() in _TABLES for name, file in files.items()}
    if any(is_table.values()):
        if not all(is_table.values()):
            a, b = (next(name for name in files if is_table[name] == kind) for kind in (True, False))
            raise ValueError(f"{folder} holds tables and images, {a} and {b}: give each a folder of its own")
        federation, more = _tables(files, target, tuple(categorical), tuple(without))
    else:
        given = {"target": target, "categorical": categorical, "without": without}
        if odd := [name for name, value in given.items() if value]:
            raise ValueError(f"--{odd[0]} is for tables, and {folder} holds images")
        federation, more = _images(files)
    return Read(federation, [*remarks, *more, *_classes_that_lack(federation)])


def _files(path: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[str]]:
    """The file or folder of each member, by name, and what is ignored."""
    files: dict[str, pathlib.Path] = {}
    ignored = []
    for entry in sorted(path.iterdir()):
        about = entry.name.upper().startswith(("README", "LICENSE", "LICENCE"))
        if entry.name.startswith(".") or entry.name in _NOT_MEMBERS or about:
            continue
        if image_files.holds_a_run(entry):  # what a command left there
            ignored.append(entry.name)
            continue
        has_ending = entry.suffix.lower() in (*_TABLES, ".npz")  # a folder may have one, too: in parts
        if not (entry.is_dir() or (entry.is_file() and has_ending)):
            ignored.append(entry.name)
            continue
        stem = entry.stem if has_ending else entry.name
        name = unicodedata.normalize("NFC", urllib.parse.unquote(stem)).strip()
        if name in files:
            raise ValueError(f"{files[name]} and {entry} are of one member, {name}")
        if fault := scenarios.fault_of(name):
            raise ValueError(f"{str(entry)!r}: a member's name {fault}")
        files[name] = entry
    told = [f"ignored, as no table and no images: {', '.join(ignored)}"] if ignored else []
    return dict(sorted(files.items())), told


def _tables(
    files: dict[str, pathlib.Path], target: str | None, categorical: tuple[str, ...], without: tuple[str, ...]
) -> tuple[members.Federation, list[str]]:
    """The members' tables, and remarks on them."""
    frames, remarks = {}, []
    for name, file in files.items():
        frames[name], told = _frame(name, file)
        remarks += told
    _complain_of_flags(frames, target, categorical, without)
    frames = {name: frame.drop(columns=list(without), errors="ignore") for name, frame in frames.items()}
    complain_of_spellings({files[name]: frame.columns for name, frame in frames.items()})
    first, guessed = next(iter(frames)), target is None
    if guessed and len(frames[first].columns):
        target = frames[first].columns[-1]
        remarks.append(f"the target is `{target}`, the last column of {first}")
    _complain_of_columns(frames, target)
    features = list(dict.fromkeys(c for frame in frames.values() for c in frame.columns if c != target))
    try:
        labels, classes = _labels(frames, target)
    except ValueError as error:
        if not guessed:
            raise
        *others, _ = frames[first].columns
        shown = [*others[:_SHOWN], "…"] if len(others) > _SHOWN else others
        raise ValueError(
            f"{error}. The class is taken from the last column of {first}, `{target}`: name another one with "
            f"--target=COLUMN ({', '.join(shown)})"
        ) from None
    schema, columns = _columns(frames, features, categorical)
    remarks += _empty_columns(frames, features)
    remarks += _mixed_columns(schema, categorical)
    remarks += _shared_records(tuple(frames), columns, labels)
    federation = members.Federation(tuple(frames), classes, tuple(columns), tuple(labels), schema)
    return federation, remarks


def _frame(name: str, file: pathlib.Path) -> tuple[Any, list[str]]:
    """One member's table, numbers or texts, NaN where it is empty, and remarks on it.

    Raises:
      ValueError: it cannot be read, has no rows, or two columns of one name.
    """
    try:
        header, frame = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
    except ImportError:
        raise ValueError(
            f"{file}: tables of this kind need pyarrow: pip install 'fedgame[parquet]'"
        ) from None
    except (ValueError, OSError, csv.Error) as error:
        reason = str(error).strip().split("\n")[0].removeprefix(f"{file}, ")
        raise ValueError(f"the table of {name}, {file}, cannot be read: {reason}") from None
    remarks = []
    if header and (not header[0] or header[0].startswith("Unnamed")):  # pandas' numbers of rows
        header, frame = header[1:], frame.iloc[:, 1:]
        remarks.append(f"{name}: the first column has no name and is ignored")
    # A spreadsheet writes commas at the end of all lines for cells that were once used.
    used = [k for k, column in enumerate(header) if column or (frame.iloc[:, k] != "").any()]
    header, frame = [header[k] for k in used], frame.iloc[:, used]
    if not header or "" in header:
        raise ValueError(f"{file}: a column has no name")
    if twice := [column for column in header if header.count(column) > 1]:
        raise ValueError(f"{file}: two columns are called `{twice[0]}`")
    if not len(frame):
        raise ValueError(f"{name} has no records: {file} has no rows below its first line")
    frame.columns = header
    return frame.apply(_plain), remarks


def _parquet(file: pathlib.Path) -> tuple[list[str], Any]:
    """The names of the columns, and the cells as they are."""
    import pandas as pd  # takes half a second to import

    frame = pd.read_parquet(file)
    return [str(column).strip() for column in frame.columns], frame


def _csv(file: pathlib.Path) -> tuple[list[str], Any]:
    """The names of the columns, and the cells as texts; a ValueError or csv.Error if it cannot be read."""
    import pandas as pd

    text = csv_files.read_text(str(file))
    separator = csv_files.delimiter_of(text.lstrip(" \n").split("\n", 1)[0])
    rows = []
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"{len(row)} cells, but the first line names {len(rows[0])} columns")
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    if not rows:
        raise ValueError("it is empty")
    frame = pd.DataFrame(rows[1:], columns=range(len(rows[0])), dtype=object)
    return rows[0], frame if separator == "," else frame.apply(_with_decimal_points)


def _with_decimal_points(column: Any) -> Any:
    """A column of numbers such as 1,5 with points; any other as it is."""
    import pandas as pd

    pointed = column.str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(pointed, errors="coerce")
    return pointed if bool((numbers.notna() | column.isin(_EMPTY)).all()) else column


def _plain(column: Any) -> Any:
    """A column of numbers as it is; any other as texts, NaN where it is empty."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column
    there = column.notna()
    texts = [_class_name(x) if known else "" for x, known in zip(column.tolist(), there, strict=True)]
    return pd.Series([np.nan if text in _EMPTY else text for text in texts], column.index, object)


def _numbers(column: Any) -> np.ndarray | None:
    """The numbers of a column, NaN where it is empty; None if there are texts in it."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(float, na_value=np.nan)
    found = pd.to_numeric(column, errors="coerce")
    return found.to_numpy(float) if bool((found.isna() == column.isna()).all()) else None


def _complain_of_flags(
    frames: dict[str, Any], target: str | None, categorical: tuple[str, ...], without: tuple[str, ...]
) -> None:
    """Raises a ValueError if a flag names no column, or one that another flag excludes."""
    everywhere = {column for frame in frames.values() for column in frame.columns}
    for flag, names in (("categorical", categorical), ("without", without)):
        if unknown := [name for name in names if name not in everywhere]:
            raise ValueError(f"--{flag}: no member has a column `{unknown[0]}`")
    if target in without or target in categorical:
        raise ValueError(f"--target={target} is no feature")


def complain_of_spellings(columns: Mapping[Any, Collection[str]]) -> None:
    """Raises a ValueError if two members' files seem to have the same column, spelt in two ways."""
    seen: dict[str, tuple[Any, str]] = {}  # file and column, by what all spellings have in common
    for file, own in columns.items():
        for column in own:
            key = "".join(unicodedata.normalize("NFKC", column).casefold().split())
            other, theirs = seen.setdefault(key, (file, column))
            if theirs != column and theirs not in own and column not in columns[other]:
                raise ValueError(
                    f"{other} has a column `{theirs}`, and {file} `{column}`: columns are "
                    "compared letter by letter, so rename one; or, if they are not the same, leave one out "
                    f"(--without={column!r})"
                )


def _complain_of_columns(frames: dict[str, Any], target: str | None) -> None:
    """Raises a ValueError if a member lacks the target, or has no feature that another has."""
    for name, frame in frames.items():
        if target not in frame.columns:
            raise ValueError(
                f"{name} has no column `{target}` (--target): there are {', '.join(frame.columns)}"
                if target is not None
                else f"{name} has no columns but those of --without"
            )
        others = {other: columns for other, columns in frames.items() if other != name}
        if not set(frame.columns) & {c for columns in others.values() for c in columns} - {target}:
            other = next(iter(others))
            raise ValueError(
                f"{name} has no feature in common with the others: {', '.join(frame.columns)}; {other} has "
                f"{', '.join(frames[other].columns)}"
            )


def _labels(frames: dict[str, Any], target: str) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Each member's labels [m] int32, and the names of the classes; a ValueError as `classes_of` raises."""
    values = {name: _class_names(name, frame, target) for name, frame in frames.items()}
    classes = classes_of(values, target)
    return [np.array([classes.index(text) for text in texts], np.int32) for texts in values.values()], classes


def _class_names(name: str, frame: Any, target: str) -> list[str]:
    """The class of every record of a member; a ValueError if a cell is empty."""
    empty = int(frame[target].isna().sum())
    if empty:
        raise ValueError(f"{name}: {empty} of {len(frame)} records have no `{target}`")
    return [_class_name(value) for value in frame[target].tolist()]


def classes_of(values: Mapping[str, Sequence[str]], target: str) -> tuple[str, ...]:
    """The names of all classes, in their order.

    Args:
      values: the classes that each member has, by her name; they may repeat.
      target: their column.

    Raises:
      ValueError: a member has one class only, or fewer than two in common with the others; or there are too
        many.
    """
    for name, texts in values.items():
        if len(set(texts)) < 2:
            raise ValueError(f"all records of {name} have `{target}` {texts[0]}: there is nothing to learn")
    everywhere = {text for texts in values.values() for text in texts}
    if len(everywhere) > _CLASSES:
        raise ValueError(
            f"`{target}` has {len(everywhere)} different values: at most {_CLASSES} classes are possible"
        )
    for name, texts in values.items():
        others = {text for other in values if other != name for text in values[other]}
        if len(set(texts) & others) < 2:
            raise ValueError(
                f"{name} has `{target}` {', '.join(sorted(set(texts)))}, of which the others have "
                f"{', '.join(sorted(set(texts) & others)) or 'none'}; they have {', '.join(sorted(others))}: "
                "it must be coded alike everywhere"
            )
    return _in_order(everywhere)


def _class_name(value: Any) -> str:
    """1 and 1.0 are one class, and so are true and TRUE; 01 is another one than 1."""
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.capitalize()
    return re.sub(r"^([-+]?\d+)\.0+$", r"\1", text)


def _in_order(texts: Any) -> tuple[str, ...]:
    """Names of classes by number, if all are numbers, else by text."""
    try:
        return tuple(sorted(texts, key=lambda text: (float(text), text)))
    except ValueError:
        return tuple(sorted(texts))


def _columns(
    frames: dict[str, Any], features: Sequence[str], categorical: Sequence[str]
) -> tuple[tables.Schema, list[tables.Columns]]:
    """Which columns are numbers and which are texts, and each member's cells.

    Raises:
      ValueError: a column has texts in one table and numbers in another, too many different texts, or numbers
        that are too large.
    """
    numbers, texts = {}, []  # numbers: by column, by member
    for column in features:
        there = [name for name in frames if column in frames[name].columns]
        known = {name: _numbers(frames[name][column]) for name in there if frames[name][column].notna().any()}
        with_texts = [name for name in known if known[name] is None]
        if known and (column in categorical or len(with_texts) == len(known)):
            texts.append(column)
        elif with_texts:
            _complain_of_texts(frames, column, with_texts[0], next(x for x in known if x not in with_texts))
        else:
            numbers[column] = known
    found, categories = [], {}
    for name, frame in frames.items():
        own = np.full((len(frame), len(numbers)), np.nan)
        for k, (column, known) in enumerate(numbers.items()):
            own[:, k] = known.get(name, np.nan)
            if np.any(np.abs(own[:, k]) > _LARGEST):
                raise ValueError(f"`{column}` of {name} has numbers beyond {_LARGEST:g}")
        whole = frame.reindex(columns=texts).astype(object)
        cells = whole.where(whole.notna(), "").map(_class_name).to_numpy(object)
        found.append(tables.Columns(own, cells))
    for k, column in enumerate(texts):
        categories[column] = categories_of(column, (text for own in found for text in own.texts[:, k]))
    gaps = tuple(np.any([np.isnan(own.numbers).any(axis=0) for own in found], axis=0).tolist())
    return tables.Schema(tuple(numbers), categories, gaps), found


def categories_of(column: str, texts: Iterable[str]) -> tuple[str, ...]:
    """The different texts of a column, without the empty one; a ValueError if there are too many."""
    different = {*texts} - {""}
    if len(different) > _CATEGORIES:
        raise ValueError(
            f"`{column}` has {len(different)} different texts, more than {_CATEGORIES}, so it is no "
            f"category: ignore it with --without={column}"
        )
    return tuple(sorted(different))


def columns_of(frame: Any, schema: tables.Schema) -> tables.Columns:
    """The cells of a pandas frame of records, read as those of a member's table; other columns are ignored.

    Raises:
      ValueError: a column is missing or there twice, or one of numbers has a text or too large a number.
    """
    names = [str(column) for column in frame.columns]
    for column in (*schema.numbers, *schema.categories):
        if names.count(column) != 1:
            what = "no column" if column not in names else "two columns called"
            raise ValueError(f"the table has {what} `{column}`; leave its cells empty if nothing is known")
    frame = frame.set_axis(names, axis=1)
    numbers = np.full((len(frame), len(schema.numbers)), np.nan)
    for k, column in enumerate(schema.numbers):
        found = _numbers(_plain(frame[column]))
        if found is None:
            raise ValueError(f"`{column}` has texts, and is a column of numbers where the model was trained")
        if np.any(np.abs(found) > _LARGEST):
            raise ValueError(f"`{column}` has numbers beyond {_LARGEST:g}")
        numbers[:, k] = found
    texts = np.full((len(frame), len(schema.categories)), "", object)
    for k, column in enumerate(schema.categories):
        plain = _plain(frame[column]).astype(object)
        texts[:, k] = plain.where(plain.notna(), "").map(_class_name)
    return tables.Columns(numbers, texts)


def _complain_of_texts(frames: dict[str, Any], column: str, with_texts: str, with_numbers: str) -> None:
    """Raises the ValueError of a column that has texts in one member's table and numbers in another's."""
    import pandas as pd

    cells = frames[with_texts][column].dropna()
    example = cells[pd.to_numeric(cells, errors="coerce").isna()].iloc[0]
    raise ValueError(
        f"`{column}` has numbers in the table of {with_numbers} and texts in that of {with_texts}, "
        f"{example!r} for example: leave cells empty if nothing is known, or use --categorical"
    )


def _empty_columns(frames: dict[str, Any], features: Sequence[str]) -> list[str]:
    """Sentences on columns that a member lacks or has empty."""
    told = []
    for name, frame in frames.items():
        lacking = [f"`{c}`" for c in features if c not in frame.columns]
        empty = [f"`{c}`" for c in features if c in frame.columns and frame[c].isna().all()]
        if lacking:
            told.append(f"{name} has no column {', '.join(lacking)}: counted as empty")
        if empty:
            told.append(f"{name} has nothing in the column {', '.join(empty)}")
    return told


def _mixed_columns(schema: tables.Schema, categorical: Sequence[str]) -> list[str]:
    """Sentences on columns of texts in which there are numbers, too."""
    told = []
    for column in [name for name in schema.categories if name not in categorical]:
        numbers = [text for text in schema.categories[column] if re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+", text)]
        others = [text for text in schema.categories[column] if text not in numbers]
        if numbers and others:
            told.append(
                f"`{column}` has numbers and texts, {numbers[0]!r} and {others[0]!r} for example: "
                "all of them are categories"
            )
    return told


def _shared_records(
    names: Sequence[str], records: Sequence[tables.Columns], labels: Sequence[np.ndarray]
) -> list[str]:
    """Sentences on records that are, in all columns, also another member's, or twice in one table."""
    told: list[str] = []
    seen: dict[str, set[Any]] = {}
    for name, own, targets in zip(names, records, labels, strict=True):
        numbers = np.where(np.isnan(own.numbers), np.nan, own.numbers + 0.0)  # + 0.0: -0.0 is 0.0
        rows = zip(numbers, own.texts.tolist(), targets.tolist(), strict=True)
        keys = [(cells.tobytes(), *texts, label) for cells, texts, label in rows]
        if len(set(keys)) < len(keys):
            again = len(keys) - len(set(keys))
            told.append(f"{name}: {_records(again)} there twice")
        for other, theirs in seen.items():
            if common := sum(key in theirs for key in keys):
                told.append(f"{name}: {_records(common)} also {other}'s")
        seen[name] = set(keys)
    return told


def _records(number: int, what: str = "record") -> str:
    """1 record is, 2 records are."""
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"


def _images(files: dict[str, pathlib.Path]) -> tuple[members.Federation, list[str]]:
    """The members' images, and remarks on them.

    Raises:
      ValueError: images cannot be read or differ in shape, or a member has one class only.
    """
    found = {name: data.everything(file) for name, file in files.items()}
    classes = _in_order({k for own in found.values() for k in own.classes})
    labels, shapes, remarks = [], {}, []
    for name, own in found.items():
        shapes[name] = own.pixels.shape[1:]
        if len(np.unique(own.labels)) < 2:
            raise ValueError(f"all images of {name} are of one class: there is nothing to learn")
        places = np.array([classes.index(k) for k in own.classes], np.int32)
        labels.append(places[own.labels])
        remarks += [f"{name}: {told}" for told in own.remarks]
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise ValueError(f"images of {name} are {shape}, those of {first} {shapes[first]}")
    pixels = tuple(own.pixels for own in found.values())
    remarks += _shared_images(files, pixels)
    return members.Federation(tuple(files), classes, pixels, tuple(labels)), remarks


def _shared_images(names: Any, pixels: Sequence[np.ndarray]) -> list[str]:
    """Sentences on images that are also another member's."""
    told: list[str] = []
    seen: dict[str, set[bytes]] = {}
    for name, own in zip(names, pixels, strict=True):
        keys = [image.tobytes() for image in own]
        for other, theirs in seen.items():
            if common := sum(key in theirs for key in keys):
                told.append(f"{name}: {_records(common, 'image')} also {other}'s")
        seen[name] = set(keys)
    return told


def _classes_that_lack(federation: members.Federation) -> list[str]:
    """Sentences on members who have no records of some classes."""
    told = []
    for name, labels in zip(federation.names, federation.labels, strict=True):
        lacking = [k for i, k in enumerate(federation.classes) if not np.any(labels == i)]
        if lacking:
            told.append(f"{name} has no records of class {', '.join(lacking)}")
    return told


def own_table(
    file: pathlib.Path, target: str | None, schema: tables.Schema, classes: Sequence[str]
) -> tuple[tables.Columns, np.ndarray, list[str]]:
    """One member's table by itself, read as an agreed schema says.

    Args:
      file: her table.
      target: the column of the class; None: the last one.
      schema: of all members' tables.
      classes: their names, in the order of the labels.

    Returns:
      Her columns, her labels [m] int32, and remarks.

    Raises:
      ValueError: the table cannot be read, has a class that was not agreed, or none of the columns that were.
    """
    frame, target, remarks = _own_frame(file, target)
    known = {name: k for k, name in enumerate(classes)}
    texts = [_class_name(value) for value in frame[target].tolist()]
    if unknown := sorted({text for text in texts if text not in known}):
        raise ValueError(f"{file}: `{target}` is {unknown[0]}; agreed classes are {', '.join(classes)}")
    agreed = [*schema.numbers, *schema.categories]
    complain_of_spellings({"what was agreed": agreed, file: frame.columns})
    lacking = [column for column in agreed if column not in frame.columns]
    if len(lacking) == len(agreed):
        raise ValueError(f"{file} has none of the agreed columns: {', '.join(agreed)}")
    if lacking:
        remarks.append(f"{file.stem} has no column {', '.join(f'`{c}`' for c in lacking)}: counted as empty")
    try:
        columns = columns_of(frame.reindex(columns=[*frame.columns, *lacking]), schema)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return columns, np.array([known[text] for text in texts], np.int32), remarks


def _own_frame(file: pathlib.Path, target: str | None) -> tuple[Any, str, list[str]]:
    """One member's table, the column of its class, and remarks."""
    frame, remarks = _frame(file.stem, file)
    target = target or frame.columns[-1]
    if target not in frame.columns:
        raise ValueError(f"{file} has no column `{target}`; it has {', '.join(frame.columns)}")
    return frame, target, remarks


class Alone(NamedTuple):
    """One member's table by itself, before anything has been agreed."""

    names: tuple[str, ...]  # of the columns, as they stand in the table, without that of the class
    target: str  # the column of the class
    labels: tuple[str, ...]  # class of every record
    schema: tables.Schema
    columns: tables.Columns
    remarks: list[str]


def read_alone(
    file: pathlib.Path, target: str | None, categorical: Sequence[str], without: Sequence[str]
) -> Alone:
    """Reads one member's table by itself; arguments as `read`.

    Raises:
      ValueError: the table cannot be read or has no features, or a column that is named is not there.
    """
    frame, target, remarks = _own_frame(file, target)
    _complain_of_flags({file.stem: frame}, target, tuple(categorical), tuple(without))
    frame = frame.drop(columns=list(without))
    names = [column for column in frame.columns if column != target]
    if not names:
        raise ValueError(f"{file} has no columns but `{target}`")
    schema, (columns,) = _columns({file.stem: frame}, names, categorical)
    labels = _class_names(file.stem, frame, target)
    remarks += _mixed_columns(schema, categorical)
    return Alone(tuple(names), target, tuple(labels), schema, columns, remarks)
