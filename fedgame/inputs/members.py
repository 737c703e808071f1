"""A federation as a folder: each member's own records, as a table or as images.

    FOLDER/MEMBER.csv           a row per record, columns with names; or MEMBER.parquet (needs pyarrow)
    FOLDER/MEMBER/CLASS/*.png   images in a folder per class (see `learning.data.folders`)
    FOLDER/MEMBER.npz           images and labels (see `learning.data.arrays`)

Members are called as the files are; %2F in a file's name stands for /, and so on as in addresses of pages.
Files of other endings are ignored, which is told, and so are README, LICENSE, agents.csv, curve.csv,
mixtures.csv, measurements.csv and exchange_rates.csv, which other commands read and write.

Tables: cells are separated by commas, semicolons or tabs. One column is the target, whose values are the
classes. The others are features: numbers, or texts, which are categories. Empty cells are allowed, `?` and NA
count as empty. A column may be missing from a member's table; it is then empty for her, which is told.
"""

import pathlib
import unicodedata
import urllib.parse
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame.learning import data, members, tables

_NOT_MEMBERS = ("agents.csv", "curve.csv", "mixtures.csv", "measurements.csv", "exchange_rates.csv")
_TABLES = (".csv", ".parquet")
_CATEGORIES = 100  # different texts in a column: more are no categories
_CLASSES = 100
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
      ValueError: there are fewer than two members, or a member's records cannot be used; names the member.
      FileNotFoundError: there is no such folder.
    """
    path = pathlib.Path(folder).expanduser()
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
        is_member = entry.is_dir() or (entry.is_file() and entry.suffix.lower() in (*_TABLES, ".npz"))
        if not is_member:
            ignored.append(entry.name)
            continue
        stem = entry.name if entry.is_dir() else entry.stem
        name = unicodedata.normalize("NFC", urllib.parse.unquote(stem)).strip()
        if name in files:
            raise ValueError(f"{files[name]} and {entry} are of one member, {name}")
        if not name or not name.isprintable():
            raise ValueError(f"{entry}: a member's name must be printable text, not {name!r}")
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
    first = next(iter(frames))
    if target is None:
        target = frames[first].columns[-1]
        remarks.append(f"the target is `{target}`, the last column of {first}")
    frames = {name: frame.drop(columns=list(without), errors="ignore") for name, frame in frames.items()}
    _complain_of_columns(frames, target, categorical, without, first)
    features = list(dict.fromkeys(c for frame in frames.values() for c in frame.columns if c != target))
    labels, classes = _labels(frames, target)
    schema, columns = _columns(frames, features, categorical)
    remarks += _empty_columns(frames, features)
    remarks += _shared_records(frames, features, target)
    federation = members.Federation(tuple(frames), classes, tuple(columns), tuple(labels), schema)
    return federation, remarks


def _frame(name: str, file: pathlib.Path) -> tuple[Any, list[str]]:
    """One member's table as a data frame with texts as column names, and remarks on it.

    Raises:
      ValueError: it cannot be read, has no rows, or two columns of one name.
    """
    import pandas as pd  # takes half a second to import

    try:
        if file.suffix.lower() == ".parquet":
            frame, header = pd.read_parquet(file), None
        else:
            with file.open(encoding="utf-8-sig") as text:
                first = text.readline()
            separator = max(",;\t", key=first.count)
            form = {"sep": separator, "encoding": "utf-8-sig", "skipinitialspace": True, "na_values": ["?"]}
            header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False, **form).iloc[0]
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than columns
                frame = pd.read_csv(file, index_col=False, low_memory=False, **form)
            if separator != ",":
                frame = frame.apply(_with_decimal_commas)
    except ImportError:
        raise ValueError(
            f"{file}: tables of this kind need pyarrow: pip install 'fedgame[parquet]'"
        ) from None
    except (ValueError, OSError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"the table of {name}, {file}, cannot be read: {reason}") from None
    names = [str(column).strip() for column in (frame.columns if header is None else header)]
    frame.columns = names
    remarks = []
    if names[0] == "" or names[0].startswith("Unnamed"):  # pandas writes the numbers of rows so
        frame = frame.iloc[:, 1:]
        remarks.append(f"{name}: the first column has no name and is ignored")
    twice = [column for column in frame.columns if list(frame.columns).count(column) > 1]
    if twice or "" in frame.columns:
        raise ValueError(
            f"{file}: two columns are called `{twice[0]}`" if twice else f"{file}: a column has no name"
        )
    if not len(frame):
        raise ValueError(f"{name} has no records: {file} has no rows below its first line")
    return frame, remarks


def _with_decimal_commas(column: Any) -> Any:
    """A column of texts such as 1,5 as numbers; any other as it is."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column
    numbers = pd.to_numeric(column.astype("string").str.replace(",", ".", regex=False), errors="coerce")
    return numbers.astype(float) if bool((numbers.isna() == column.isna()).all()) else column


def _complain_of_columns(
    frames: dict[str, Any], target: str, categorical: tuple[str, ...], without: tuple[str, ...], first: str
) -> None:
    """Raises a ValueError if a member lacks the target or all features, or a flag names no column."""
    everywhere = {column for frame in frames.values() for column in frame.columns}
    for flag, names in (("categorical", categorical), ("without", without)):
        if unknown := [name for name in names if name not in everywhere and flag == "categorical"]:
            raise ValueError(f"--{flag}: no member has a column `{unknown[0]}`")
    if target in without or target in categorical:
        raise ValueError(f"--target={target} is no feature")
    for name, frame in frames.items():
        if target not in frame.columns:
            raise ValueError(
                f"{name} has no column `{target}` (--target): there are {', '.join(frame.columns)}"
            )
        others = {c for other, columns in frames.items() if other != name for c in columns.columns}
        if not set(frame.columns) & others - {target}:
            raise ValueError(
                f"{name} has no feature in common with the others: {', '.join(frame.columns)}; {first} has "
                f"{', '.join(frames[first].columns)}"
            )


def _labels(frames: dict[str, Any], target: str) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Each member's labels [m] int32, and the names of the classes.

    Raises:
      ValueError: a cell is empty, there is one class only, too many, or one that no other member has.
    """
    values = {}
    for name, frame in frames.items():
        empty = int(frame[target].isna().sum())
        if empty:
            raise ValueError(f"{name}: {empty} of {len(frame)} records have no `{target}`")
        values[name] = [_class_name(value) for value in frame[target].tolist()]
    owners: dict[str, list[str]] = {}
    for name, texts in values.items():
        own = sorted(set(texts))
        if len(own) < 2:
            raise ValueError(f"all records of {name} have `{target}` {own[0]}: there is nothing to learn")
        for text in own:
            owners.setdefault(text, []).append(name)
    if len(owners) > _CLASSES:
        raise ValueError(
            f"`{target}` has {len(owners)} different values: at most {_CLASSES} classes are possible"
        )
    for text, names in owners.items():
        if len(names) == 1:
            other = next(name for name in values if name != names[0])
            raise ValueError(
                f"only {names[0]} has `{target}` {text}; {other} has "
                f"{', '.join(sorted(set(values[other])))}: it must be coded alike everywhere"
            )
    classes = _in_order(owners)
    return [np.array([classes.index(text) for text in texts], np.int32) for texts in values.values()], classes


def _class_name(value: Any) -> str:
    """1 and 1.0 are one class."""
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_whole else str(value).strip()


def _in_order(texts: Any) -> tuple[str, ...]:
    """Names of classes by number, if all are numbers, else by text."""
    try:
        return tuple(sorted(texts, key=float))
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
    import pandas as pd

    numbers, texts = [], []
    for column in features:
        kinds = {}
        for name, frame in frames.items():
            if column in frame.columns and not frame[column].isna().all():
                is_bool = pd.api.types.is_bool_dtype(frame[column])
                kinds[name] = pd.api.types.is_numeric_dtype(frame[column]) and not is_bool
        if column in categorical or (kinds and not any(kinds.values())):
            texts.append(column)
            continue
        if not all(kinds.values()):
            a, b = (next(name for name in kinds if kinds[name] == kind) for kind in (True, False))
            is_text = pd.to_numeric(frames[b][column], errors="coerce").isna() & frames[b][column].notna()
            example = frames[b][column][is_text].iloc[0]
            raise ValueError(
                f"`{column}` has numbers in the table of {a} and texts in that of {b}, {example!r} for "
                "example: leave cells empty if nothing is known, or use --categorical"
            )
        numbers.append(column)
    found, categories = [], {}
    for name, frame in frames.items():
        whole = frame.reindex(columns=[*numbers, *texts])
        own = whole[numbers].to_numpy(float)
        if np.any(np.abs(own) > _LARGEST):
            column = numbers[int(np.argmax(np.any(np.abs(own) > _LARGEST, axis=0)))]
            raise ValueError(f"`{column}` of {name} has numbers beyond {_LARGEST:g}")
        cells = [[_class_name(x) for x in whole[c].where(whole[c].notna(), "").tolist()] for c in texts]
        by_record = np.array(cells, object).reshape(len(texts), len(frame)).T
        found.append(tables.Columns(own, by_record))
    for k, column in enumerate(texts):
        known = {text for own in found for text in own.texts[:, k]} - {""}
        if len(known) > _CATEGORIES:
            raise ValueError(
                f"`{column}` has {len(known)} different texts, more than {_CATEGORIES}, so it is no "
                f"category: ignore it with --without={column}"
            )
        categories[column] = tuple(sorted(known))
    gaps = tuple(np.any([np.isnan(own.numbers).any(axis=0) for own in found], axis=0).tolist())
    return tables.Schema(tuple(numbers), categories, gaps), found


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


def _shared_records(frames: dict[str, Any], features: Sequence[str], target: str) -> list[str]:
    """Sentences on records that are, in all columns, also another member's, or twice in one table."""
    import pandas as pd

    told: list[str] = []
    seen: dict[str, set[int]] = {}
    for name, frame in frames.items():
        whole = frame.reindex(columns=[*features, target]).astype(object)
        whole = whole.map(lambda cell: "" if pd.isna(cell) else _class_name(cell))
        keys = pd.util.hash_pandas_object(whole, index=False).tolist()
        if len(set(keys)) < len(keys):
            told.append(f"{len(keys) - len(set(keys))} of {name}'s records are repetitions of others of hers")
        for other, theirs in seen.items():
            if common := sum(key in theirs for key in keys):
                told.append(f"{common} of {name}'s records are also {other}'s")
        seen[name] = set(keys)
    return told


def _images(files: dict[str, pathlib.Path]) -> tuple[members.Federation, list[str]]:
    """The members' images, and remarks on them.

    Raises:
      ValueError: images cannot be read or differ in shape, or a member has one class only.
    """
    found = {name: data.everything(file) for name, file in files.items()}
    classes = _in_order({name for *_, names in found.values() for name in names})
    labels, shapes = [], {}
    for name, (pixels, numbers, names) in found.items():
        shapes[name] = pixels.shape[1:]
        if len(np.unique(numbers)) < 2:
            raise ValueError(f"all images of {name} are of one class: there is nothing to learn")
        places = np.array([classes.index(k) for k in names], np.int32)
        labels.append(places[numbers])
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise ValueError(f"images of {name} are {shape}, those of {first} {shapes[first]}")
    pixels = tuple(pixels for pixels, *_ in found.values())
    return members.Federation(tuple(files), classes, pixels, tuple(labels)), _shared_images(files, pixels)


def _shared_images(names: Any, pixels: Sequence[np.ndarray]) -> list[str]:
    """Sentences on images that are also another member's."""
    told: list[str] = []
    seen: dict[str, set[bytes]] = {}
    for name, own in zip(names, pixels, strict=True):
        keys = [image.tobytes() for image in own]
        for other, theirs in seen.items():
            if common := sum(key in theirs for key in keys):
                told.append(f"{common} of {name}'s images are also {other}'s")
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
