"""The directory of one run: files are written whole or not at all, and never over those of another run.

`config.json` says which run it is. Finished jobs are JSON files below `jobs/`, and unfinished training runs
have snapshots below `checkpoints/`: so a killed run that is resumed computes only what is missing.
"""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import math
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fedgame import __version__, registry
from fedgame.runs import cells, snapshots

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "tensorflow-datasets")
_UNBORN = r"config\.json\..*\.partial"  # the file of a run that was killed while it wrote its first one


class Workdir:
    """The directory of one run, opened by `open_workdir`."""

    def __init__(self, path: pathlib.Path, save_every: float = 30.0):
        self.path = path
        self.save_every = save_every  # seconds between snapshots of a training run
        self.stop = threading.Event()  # once set, training runs save their state and stop

    def job(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value of a job: the stored one if there is one, else computed and stored.

        Raises:
          ValueError: the stored value cannot be read or belongs to another run; it is left as it is.
        """
        file = self.path / "jobs" / f"{name}.json"
        if not file.exists():
            write(file, to_json({"identity": self._identity(name), "value": compute()}))
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            theirs, value = stored["identity"], stored["value"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{file} cannot be read; it is left as it is: delete it to compute it anew"
            ) from None
        if theirs != self._identity(name):
            raise ValueError(f"{file} is of another run; it is left as it is: move it away")
        shutil.rmtree(self.path / "checkpoints" / name, ignore_errors=True)  # done: no longer needed
        return value

    def snapshots(self, name: str, last: int | None = None) -> snapshots.Snapshots:
        """Keeps the state of the training run that makes the job `name`, in any case after round `last`."""
        folder = self.path / "checkpoints" / name
        return snapshots.snapshots(folder, self._identity(name), self.save_every, self.stop, last)

    def _identity(self, name: str) -> dict[str, str]:
        """Says which run makes the job `name`."""
        file = self.path / "config.json"
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
        return {"job": name, "config.json": digest}

    def timings(self) -> list[dict[str, Any]]:
        """The seconds that each stored job took when it was computed."""
        files = sorted((self.path / "jobs").rglob("*.json"))
        return [
            {"job": file.relative_to(self.path / "jobs").with_suffix("").as_posix()}
            | {"seconds": json.loads(file.read_text(encoding="utf-8"))["value"]["seconds"]}
            for file in files
        ]

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON value; infinite numbers and NaN become texts, which `read_json` turns back."""
        write(self.path / name, to_json(value))

    def write_csv(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Writes a table with the columns of all rows; None and a missing value become an empty cell."""
        columns = dict.fromkeys(column for row in rows for column in row)  # each once, in their order
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: cells.escaped(x) if isinstance(x, str) else x for k, x in row.items()})
        write(self.path / name, text.getvalue())

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read_json(self, name: str) -> Any:
        """The value that `write_json` was given."""
        return _with_numbers(json.loads((self.path / name).read_text(encoding="utf-8")))

    def read_csv(self, name: str, text: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The rows that `write_csv` was given: numbers, True, False, texts, and None for an empty cell.

        Args:
          name: of the file.
          text: columns that stay texts even if they look like numbers, as names of agents may.
        """
        return [
            {column: cell if column in text else _value(cell) for column, cell in row.items()}
            for row in self.read_texts(name)
        ]

    def read_texts(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file, cells as the texts that were written."""
        with (self.path / name).open(encoding="utf-8", newline="") as file:
            return [
                {column: cells.plain(cell) for column, cell in row.items()} for row in csv.DictReader(file)
            ]


def _with_numbers(value: Any) -> Any:
    """The value with "nan", "inf" and "-inf", which `to_json` writes, turned back into numbers."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _value(cell: str) -> Any:
    """The value that the `csv` module writes as this text."""
    known = {"": None, "True": True, "False": False}
    if cell in known:
        return known[cell]
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell


def open_workdir(path: str, program: str, settings: dict[str, Any], resume: bool, overwrite: bool) -> Workdir:
    """Makes or reopens the directory of the run that `settings` describes.

    Args:
      path: the directory; it may be missing or empty.
      program: name of the experiment; runs of others are left alone, whatever the flags.
      settings: JSON values that determine the results, beside the files given to --use; `sha256` has the
        digests of files that were read.
      resume: whether to go on with the run that is there, if it has the same settings.
      overwrite: whether to delete the run that is there.

    Raises:
      ValueError: something is in the way, the run there is one of an earlier version, or a file that was read
        lies in the directory; the message says what, and which flag helps.
    """
    check_workdir(path, program, resume, overwrite)
    root = pathlib.Path(path)
    for file in (*settings.get("sha256", {}), *registry.used()):  # --overwrite would delete these
        if root.resolve() in pathlib.Path(file).resolve().parents:
            raise ValueError(f"{file} lies in --workdir={path}: write the results elsewhere")
    settings = json.loads(to_json(settings | {"use": registry.used()}))
    if _holds_something(root):
        if resume:
            _check_same(path, _stored(root, program), settings)
            return Workdir(root)
        _empty(root)
    versions = {"fedgame": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}
    write(root / "config.json", to_json({"program": program, "settings": settings, "versions": versions}))
    return Workdir(root)


def check_workdir(path: str, program: str, resume: bool, overwrite: bool) -> None:
    """Raises those errors of `open_workdir` that do not depend on the settings, before anything is computed.

    Raises:
      ValueError: something is in the way, or a run to be resumed was begun with other files of --use.
    """
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    root = pathlib.Path(path)
    if root.exists() and not root.is_dir():
        raise ValueError(f"--workdir={path} is a file, not a directory")
    if not _holds_something(root):
        return
    stored = _stored(root, program)
    if not resume and not overwrite:
        raise ValueError(
            f"--workdir={path} holds a run already: go on with it by --resume, "
            "delete it by --overwrite, or name another directory"
        )
    before, now = (stored or {}).get("use", {}), registry.used()
    if resume and before != now:
        theirs, ours = _use_flags(before) or "no --use", _use_flags(now) or "none"
        raise ValueError(
            f"--resume: the run in --workdir={path} was begun with {theirs}, not with "
            f"{ours}; in brackets is how the text of each begins in SHA-256"
        )


def _use_flags(digests: dict[str, str]) -> str:
    """The flags that import files, with the start of each file's digest."""
    return " ".join(f"--use={file} ({digest[:8]})" for file, digest in digests.items())


def _holds_something(root: pathlib.Path) -> bool:
    """Whether the directory exists, and has more than the unfinished first file of a killed run."""
    return root.is_dir() and any(not re.fullmatch(_UNBORN, file.name) for file in root.iterdir())


def _check_same(path: str, stored: dict[str, Any] | None, settings: dict[str, Any]) -> None:
    """Refuses to go on with the run of an earlier version, or of other settings."""
    if stored is None:
        raise ValueError(
            f"--resume: the run in --workdir={path} was begun by an earlier version of fedgame, which can "
            "finish it; --overwrite deletes it"
        )
    changed = []
    for name in {**stored, **settings}:
        theirs, ours = stored.get(name), settings.get(name)
        if theirs != ours:
            changed.append(f"{name}={ours!r} (there: {theirs!r})")
    if changed:
        raise ValueError(f"--resume: the run in --workdir={path} has other settings: " + ", ".join(changed))


def _empty(root: pathlib.Path) -> None:
    """Deletes all but `config.json` in the directory of a run: if interrupted, it still says whose it is."""
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "config.json":
            path.unlink()


def _stored(root: pathlib.Path, program: str) -> dict[str, Any] | None:
    """The settings of the run that is there; None if an earlier version of fedgame began it.

    Raises:
      ValueError: the directory holds no run of this program.
    """
    try:
        stored = json.loads((root / "config.json").read_text(encoding="utf-8"))
        if stored["program"] == program:
            return stored["settings"] if "fedgame" in stored["versions"] else None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"--workdir={root} is not empty and holds no run of this program; it is "
        "left as it is: name another directory"
    )


def cached(folder: pathlib.Path | None, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
    """The JSON value of `compute()`, from a file in `folder` if it is there, else computed and written to it.

    A file that cannot be read, or has another key, is replaced. Failures to write are ignored.

    Args:
      folder: of the cache; None: nothing is read or written.
      key: JSON values; they must hold all that determines the value.
      compute: makes the value.
    """
    if folder is None:
        return compute()
    key = json.loads(to_json(key))
    file = folder / f"{hashlib.sha256(to_json(key).encode()).hexdigest()[:32]}.json"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return stored["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = json.loads(to_json(compute()))
    with contextlib.suppress(OSError):
        write(file, to_json({"key": key, "value": value}))
    return value


def to_json(value: Any) -> str:
    """Strict JSON text: numbers that JSON does not have become the strings "nan", "inf" and "-inf"."""

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: plain(item) for key, item in x.items()}
        if isinstance(x, list | tuple):
            return [plain(item) for item in x]
        return str(x) if isinstance(x, float) and not math.isfinite(x) else x

    return json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write(file: pathlib.Path, text: str) -> None:
    """Writes a file whole: readers see the old one or the new one, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Two threads or processes may write the same file: each has a partial one of its own.
    partial = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)
