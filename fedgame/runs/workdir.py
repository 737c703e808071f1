"""The directory of one run: files are written whole or not at all, and never over those of another run.

`config.json` says which run it is, and `SHA256SUMS` what the run has written: nothing that has changed since
is believed, and nothing else is deleted. Finished jobs are JSON files below `jobs/`, and unfinished training
runs have snapshots below `checkpoints/`: so a killed run that is resumed computes only what is missing. One
process at a time has the directory.
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
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import filelock

from fedgame import __version__, registry
from fedgame.runs import cells, digests, files, scalars, snapshots

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "tensorflow-datasets")
_CONFIG = "config.json"
_LOCK, _HOLDER = ".lock", ".running"  # held while a run is open; which process that is
_PARTIAL = re.compile(r".+\.\d+-\d+\.partial")  # what `put` and `write` call what is not yet complete
_NOT_FINITE = re.compile("'*(nan|inf|-inf)")  # texts that stand for numbers, and others like them
RUNS_OF_SWEEP = "variants"  # their folder
LEDGER = "federation"  # folder of the ledger of a federation; it is never deleted
_LIVE = (RUNS_OF_SWEEP, "checkpoints", scalars.FOLDER, LEDGER)  # whose files have no line in SHA256SUMS


class Workdir:
    """The directory of one run, opened by `open_workdir`."""

    def __init__(self, path: pathlib.Path, lock: filelock.BaseFileLock | None = None):
        self.path = path
        self.save_every = 30.0  # seconds between snapshots of a training run
        self.stop = threading.Event()  # once set, training runs save their state and stop
        self._written = digests.Digests(path)
        self._putting = threading.Lock()
        config = path / _CONFIG  # read once: if somebody puts another there, this stays the run that it is
        self._config = digests.of(config) if config.is_file() else ""  # a pipe may never end
        self._lock = lock  # of the directory, until it is closed

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes which file is what, and lets other processes have the directory."""
        if self._lock is not None:
            try:
                # A full disk, or a config.json that was spoilt.
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    self._write_readme()
                self._written.forget_what_is_gone()
                (self.path / _HOLDER).unlink(missing_ok=True)
            finally:
                self._lock.release()
                self._lock = None

    def _write_readme(self) -> None:
        """Writes `README.md`, if it would not be the same again."""
        about = json.loads((self.path / _CONFIG).read_text(encoding="utf-8"))
        written = [name for name in self._written.names if (self.path / name).is_file()]
        readme = self.path / files.README
        if readme.exists() and files.README not in written:
            return  # somebody else's
        text = files.readme(about, [*written, *(f"{name}/" for name in _LIVE if (self.path / name).is_dir())])
        if not readme.exists() or readme.read_text(encoding="utf-8") != text:
            self._put_text(files.README, text)

    def job(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value of a job: the stored one if there is one, else computed and stored.

        Raises:
          ValueError: the stored value cannot be read or belongs to another run; it is left as it is.
        """
        stored = f"jobs/{name}.json"
        if not self.has(stored):
            self._put_text(stored, to_json({"identity": self._identity(name), "value": compute()}))
        job = self._read_job(stored)
        if job["identity"] != self._identity(name):
            raise ValueError(f"{self.path / stored} is of another run; it is left as it is: move it away")
        shutil.rmtree(self.path / "checkpoints" / name, ignore_errors=True)  # done: no longer needed
        return job["value"]

    def _read_job(self, name: str) -> dict[str, Any]:
        """What is stored of a job: its identity and its value."""
        self._written.check(name)
        try:
            job = json.loads((self.path / name).read_text(encoding="utf-8"))
            return {"identity": job["identity"], "value": job["value"]}
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self.path / name} cannot be read; it is left as it is: delete it to compute it anew"
            ) from None

    def snapshots(self, name: str, last: int | None = None) -> snapshots.Snapshots:
        """Keeps the state of the training run that makes the job `name`, in any case after round `last`."""
        folder = self.path / "checkpoints" / name
        return snapshots.snapshots(folder, self._identity(name), self.save_every, self.stop, last)

    def _identity(self, name: str) -> dict[str, str]:
        """Says which run makes the job `name`."""
        return {"job": name, _CONFIG: self._config}

    def timings(self) -> list[dict[str, Any]]:
        """The seconds that each stored job took when it was computed."""
        rows = []
        for file in sorted((self.path / "jobs").rglob("*.json")):
            name = file.relative_to(self.path).as_posix()
            job = name.removeprefix("jobs/").removesuffix(".json")
            rows.append({"job": job, "seconds": self._read_job(name)["value"]["seconds"]})
        return rows

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON value; infinite numbers and NaN become texts, which `read_json` turns back."""
        self._put_text(name, to_json(_marked(value)))

    def write_csv(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Writes a table with the columns of all rows; None and a missing value become an empty cell."""
        self._put_text(name, to_csv(rows))

    def put(self, name: str, save: Callable[[pathlib.Path], Any]) -> None:
        """Puts a file or a folder in place, whole or not at all.

        Args:
          name: its path below the directory of the run.
          save: writes it to the path that it is given.
        """
        target = self.path / name
        self.path.mkdir(parents=True, exist_ok=True)
        # One thread at a time: rewriting the list would drop a file that is listed but not yet in place.
        with self._putting, _put_in_place(target) as partial:
            save(partial)
            digests.sync(partial)
            if partial.is_dir():  # files of an earlier one may have had other names
                self._written.forget_what_is_gone()
            self._written.add(digests.of_all(partial, name))

    def _put_text(self, name: str, text: str) -> None:
        self.put(name, lambda path: path.write_text(text, encoding="utf-8"))

    def wrote(self, name: str) -> bool:
        """Whether a file is there that the run has written; a `ValueError` if it has changed since."""
        return name in self._written.names and self.has(name)

    def has(self, name: str) -> bool:
        """Whether a file or a folder is there; a `ValueError` if it has changed since the run wrote it."""
        there = (self.path / name).exists()
        if there:
            self._written.check(name)
        return there

    def check(self) -> None:
        """Raises a `ValueError` if a file that the run wrote, and that is still there, has changed."""
        self._written.check_all()

    def read_json(self, name: str) -> Any:
        """The value that `write_json` was given; a `ValueError` if the file has changed since."""
        self._written.check(name)
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
        self._written.check(name)
        with (self.path / name).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
            columns = [cells.plain(column) for column in header]
            return [dict(zip(columns, map(cells.plain, row), strict=True)) for row in rows]


def _marked(value: Any) -> Any:
    """The value with an apostrophe before texts, as names, that would be read as what `to_json` writes."""
    if isinstance(value, str):
        return f"'{value}" if _NOT_FINITE.fullmatch(value) else value
    return _each(_marked, value)


def _with_numbers(value: Any) -> Any:
    """The value with "nan", "inf" and "-inf", which `to_json` writes, turned back into numbers."""
    if isinstance(value, str) and _NOT_FINITE.fullmatch(value):
        return value[1:] if value.startswith("'") else float(value)
    return _each(_with_numbers, value)


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """A JSON value whose members have changed."""
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    return [change(item) for item in value] if isinstance(value, list | tuple) else value


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


def open_workdir(
    path: str,
    program: str,
    settings: dict[str, Any],
    resume: bool,
    overwrite: bool,
    reads: Iterable[pathlib.Path] = (),
    command: str = "",
) -> Workdir:
    """Makes or reopens the directory of the run that `settings` describes, and holds it until it is closed.

    Args:
      path: the directory; it may be missing or empty.
      program: name of the experiment; runs of others are left alone, whatever the flags.
      settings: JSON values that determine the results, beside the files given to --use.
      resume: whether to go on with the run that is there, if it has the same settings.
      overwrite: whether to delete what the run that is there has written.
      reads: files and folders that the run reads.
      command: that begins the run, as it may be written again, for people who read the results.

    Raises:
      ValueError: something is in the way, another process has the directory, the run there is one of an
        earlier version, or something that is read lies in the directory; the message says which flag helps.
    """
    check_workdir(path, program, resume, overwrite)
    root = pathlib.Path(path)
    used = [pathlib.Path(os.path.expanduser(file)) for file in registry.used()]
    for read in (*reads, *used):  # --overwrite must not take it for the run's
        if root.resolve() in (read.resolve(), *read.resolve().parents):
            raise ValueError(f"{read} lies in --workdir={path}: write the results elsewhere")
    settings = json.loads(to_json(settings | {"use": registry.used()}))
    lock = _hold(root)
    try:
        new = not _holds_something(root)
        if overwrite and not new:
            _delete_run(root)
        for left in [file for file in root.rglob("*.partial") if _PARTIAL.fullmatch(file.name)]:
            remove(left)  # of a process that was killed
        if new or overwrite:
            versions = {"fedgame": __version__}
            versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
            about = {"program": program, "settings": settings, "versions": versions}
            about |= {"command": command} if command else {}
            Workdir(root)._put_text(_CONFIG, to_json(about))
        _check_same(path, _stored(root, program), settings)  # another process may have come first
        return Workdir(root, lock=lock)
    except BaseException:
        lock.release()
        raise


def hold(root: pathlib.Path) -> Workdir:
    """Holds the directory of a run that is there, whichever it is, so that more is written from its files.

    Raises:
      ValueError: another process has the directory.
    """
    return Workdir(root, lock=_hold(root))


def _hold(root: pathlib.Path) -> filelock.BaseFileLock:
    """Takes the lock of a directory; the system gives it back when the process ends, however that happens.

    Raises:
      ValueError: another process has it, or another run in this one.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(root / _LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        holder = "another process"
        with contextlib.suppress(OSError):
            holder = (root / _HOLDER).read_text(encoding="utf-8")
        raise ValueError(
            f"--workdir={root} is in use by {holder}: wait for it to end, or name another directory"
        ) from None
    write(root / _HOLDER, f"process {os.getpid()} on {socket.gethostname()}")
    return lock


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
    if overwrite and not (root / digests.FILE).exists():
        raise ValueError(
            f"--overwrite: the run in --workdir={path} was begun by an earlier version of fedgame, which "
            "kept no list of what it wrote: delete the directory yourself, or name another one"
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
    """Whether the directory exists, and has more than a run leaves that is killed before it has begun."""
    unborn = (_LOCK, _HOLDER, digests.FILE)
    return root.is_dir() and any(
        file.name not in unborn and not _PARTIAL.fullmatch(file.name) for file in root.iterdir()
    )


def _check_same(path: str, stored: dict[str, Any] | None, settings: dict[str, Any]) -> None:
    """Refuses to go on with the run of an earlier version, or of other settings."""
    if stored is None:
        raise ValueError(
            f"--resume: the run in --workdir={path} was begun by an earlier version of fedgame, which can "
            "finish it"
        )
    changed = []
    for name in {**stored, **settings}:
        theirs, ours = stored.get(name), settings.get(name)
        if theirs != ours:
            changed.append(f"{name}={ours!r} (there: {theirs!r})")
    if changed:
        raise ValueError(f"--resume: the run in --workdir={path} has other settings: " + ", ".join(changed))


def _delete_run(root: pathlib.Path) -> None:
    """Deletes what a run, or a sweep and its runs, wrote; `config.json` last, which says whose it is."""
    for variant in root.glob(f"{RUNS_OF_SWEEP}/*"):
        if not variant.is_symlink():
            _delete_written(variant)
            (variant / _LOCK).unlink(missing_ok=True)
            _delete_if_empty(variant)
    _delete_if_empty(root / RUNS_OF_SWEEP)
    _delete_written(root)


def _delete_written(root: pathlib.Path) -> None:
    """Deletes the files that one run wrote, and its folders that are empty then."""
    snapshots.delete(root / "checkpoints")
    scalars.delete(root / scalars.FOLDER)
    folders = set()
    for name in sorted(digests.Digests(root).names, key=lambda name: name == _CONFIG):
        above = [folder for folder in (root / name).parents if root in folder.parents]
        if not any(folder.is_symlink() for folder in above):
            (root / name).unlink(missing_ok=True)
            folders.update(above)
    (root / digests.FILE).unlink(missing_ok=True)
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        _delete_if_empty(folder)


def _delete_if_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # something is in it, or it is not there
        folder.rmdir()


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

    A file that cannot be read, has another key or was changed is replaced. Failures to write are ignored.

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
        if stored["key"] == key and stored["sha256"] == _digest_of(stored["value"]):
            return stored["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = json.loads(to_json(compute()))
    with contextlib.suppress(OSError):
        write(file, to_json({"key": key, "value": value, "sha256": _digest_of(value)}))
    return value


def _digest_of(value: Any) -> str:
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def to_json(value: Any) -> str:
    """Strict JSON text: numbers that JSON does not have become the strings "nan", "inf" and "-inf"."""

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: plain(item) for key, item in x.items()}
        if isinstance(x, list | tuple):
            return [plain(item) for item in x]
        return str(x) if isinstance(x, float) and not math.isfinite(x) else x

    return json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """A CSV text with the columns of all rows; None and a missing value become an empty cell."""
    columns = list(dict.fromkeys(column for row in rows for column in row))  # each once, in their order
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for values in (columns, *([row.get(column) for column in columns] for row in rows)):
        writer.writerow([cells.escaped(value) if isinstance(value, str) else value for value in values])
    return text.getvalue()


def write(file: pathlib.Path, text: str) -> None:
    """Writes a file whole: readers see the old one or the new one, never a part, even after a crash.

    Raises:
      ValueError: the path is empty, so that it names no file.
    """
    if not file.name:
        raise ValueError(f"{str(file)!r} names no file")
    with _put_in_place(file) as partial:
        partial.write_text(text, encoding="utf-8")
        digests.sync(partial)


@contextlib.contextmanager
def _put_in_place(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to, and renames what is there; if anything fails, it is deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two threads or processes may write the same file: each has a partial one of its own.
    partial = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    except OSError as error:
        remove(partial)
        if error.errno is None or error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None  # which file it is about
    except BaseException:
        remove(partial)
        raise


def shortened(name: str) -> str:
    """A name in ASCII as that of a folder, which may have 255 bytes: long ones are cut, and told apart."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= 200 else f"{name[:190]}~{digest}"


def remove(path: pathlib.Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
