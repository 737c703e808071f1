"""What a command has left in a directory, as data: `fg.results.load("results/digits")`.

    found = fg.results.load("results/digits")
    found["welfare"].pivot_table("welfare", "protocol", "p")  # or found.welfare
    found.settings["agents"], found.summary["game"]["equilibria"]

Tables are pandas frames, which are read when they are asked for. Names stay texts, whatever they look like; a
column of numbers is one of numbers, with NaN where a cell is empty. What has changed since it was written is
refused, not believed.
"""

import collections.abc
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fedgame.runs import digests, workdir

if TYPE_CHECKING:
    import pandas as pd

_CONFIG = "config.json"
_NO_SUMMARIES = (_CONFIG, "scenario.json")  # the second is `fedgame.load_scenario`'s, with names as they are
_TEXTS = {  # columns of names and of words, in every table
    *("name", "member", "of", "mechanism", "protocol", "minus", "variant", "mixture", "job", "folder"),
    *("status", "message", "ends", "announced", "undefined", "metric", "curves", "partition"),
    *("server_knows", "why_not", "worst_off", "misreport_by"),
}
_TOLD = 10  # folders in an error
_WHOLE = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?|nan|-?inf")  # as Python writes them
_NUMBERED = ("utilities", "contributions", "drawn", "by_agent")  # tables whose `agent` is a number


class Results(collections.abc.Mapping):
    """The tables of one run, or of one sweep, by the names of their files without ".csv".

    Attributes:
      folder: the directory.
      program: which left it, such as "launch.compare".
      settings: what the user chose, with every default filled in; and `sha256`, digests of what was read.
      summary: what the JSON files say, by their names without ".json".
    """

    def __init__(self, folder: pathlib.Path, program: str, settings: dict[str, Any]):
        self.folder, self.program, self.settings = folder, program, settings
        self._work = workdir.Workdir(folder)
        self._frames: dict[str, pd.DataFrame] = {}
        names = digests.Digests(folder).names  # what people have put there beside is theirs
        names = names or [file.name for file in sorted(folder.iterdir())]  # 0.1 kept no list
        there = [name for name in names if "/" not in name and (folder / name).is_file()]
        self._tables = {name.removesuffix(".csv"): name for name in there if name.endswith(".csv")}
        summaries = [name for name in there if name.endswith(".json") and name not in _NO_SUMMARIES]
        for name in [*self._tables.values(), *summaries]:
            self._work.has(name)  # checks its digest
        self.summary = {name.removesuffix(".json"): self._work.read_json(name) for name in summaries}

    def __getitem__(self, name: str) -> "pd.DataFrame":
        """The table of this name, read once. A `KeyError` says which there are.

        Raises:
          ValueError: the file has changed since the directory was loaded.
        """
        if name not in self._tables:
            raise KeyError(f"{self.folder} has no table {name!r}; there are {', '.join(self) or 'none'}")
        if name not in self._frames:
            self._frames[name] = _frame(self._work.read_texts(self._tables[name]), self._texts_of(name))
        return self._frames[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __getattr__(self, name: str) -> "pd.DataFrame":
        """A table by its name: `found.welfare` is `found["welfare"]`."""
        if name.startswith("_"):  # also asked for while the object is copied, before it has any tables
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        return f"<results of {self.program} in {self.folder}: {', '.join(self)}>"

    def _texts_of(self, name: str) -> set[str]:
        """The columns of a table that are texts even if all of them look like numbers."""
        numbered = name in _NUMBERED or (name == "holdings" and not self.settings.get("federation"))
        return _TEXTS if numbered else _TEXTS | {"agent"}


def load(folder: str | os.PathLike) -> Results:
    """Reads what a command has left in a directory, alone or as a sweep.

    Args:
      folder: what --workdir named; that of a sweep has the tables of all its variants together.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no run, or a table or a summary has changed since it was written.
    """
    path = pathlib.Path(os.path.expanduser(folder))
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if not (path / _CONFIG).is_file():
        raise ValueError(f"{path} holds no run: it has no {_CONFIG}{_runs_below(path)}")
    workdir.Workdir(path).has(_CONFIG)
    try:
        about = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        program, settings = about["program"], about.get("settings", about.get("config"))  # 0.1: config
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path} holds no run: its {_CONFIG} is not one of fedgame's") from None
    return Results(path, program, settings)


def _runs_below(path: pathlib.Path) -> str:
    """Where to look instead, in words; "" if no folder in this one holds a run."""
    found = sorted(file.parent.name for file in path.glob(f"*/{_CONFIG}"))
    more = f", … ({len(found)} in all)" if len(found) > _TOLD else ""
    return f"; there are runs in {', '.join(found[:_TOLD])}{more}" if found else ""


def _frame(rows: list[dict[str, str]], texts: set[str]) -> "pd.DataFrame":
    """Rows of texts as a frame whose columns are of one kind each."""
    import pandas as pd  # takes half a second to import

    columns = list(rows[0]) if rows else []
    cells = {column: [row[column] for row in rows] for column in columns}
    return pd.DataFrame({column: _column(column, mine, texts) for column, mine in cells.items()})


def _column(name: str, cells: list[str], texts: set[str]) -> "pd.Series":
    """A column of booleans, of whole numbers, of numbers or of texts; empty cells are missing values."""
    import pandas as pd

    known = [cell for cell in cells if cell != ""]
    if not known or name in texts or name.endswith("_undefined"):
        return pd.Series([cell or None for cell in cells], dtype=None if known else object)
    if set(known) <= {"True", "False"}:
        values = [cell == "True" if cell else None for cell in cells]
        return pd.Series(values, dtype=bool if len(known) == len(cells) else "boolean")
    if all(map(_WHOLE.fullmatch, cells)):
        return pd.Series([int(cell) for cell in cells])
    if all(map(_NUMBER.fullmatch, known)):
        return pd.Series([float(cell or "nan") for cell in cells])
    return pd.Series([cell or None for cell in cells])
