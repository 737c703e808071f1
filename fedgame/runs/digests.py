"""What a run wrote into its directory: a SHA-256 digest of every file, in the form `sha256sum -c` reads.

A line is added before its file is put in place. So no complete file is without one, however the run ends, and
a file may agree with an earlier line than its last.
"""

import hashlib
import os
import pathlib
import re
import threading

FILE = "SHA256SUMS"
_LINE = re.compile("([0-9a-f]{64})  (.+)")


def of(file: pathlib.Path) -> str:
    """The digest of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def of_all(path: pathlib.Path, name: str = "") -> dict[str, str]:
    """The digest of a file that is called `name`, or of all files in a folder that is, by their names."""
    return {pathlib.PurePosixPath(name, file.relative_to(path)).as_posix(): of(file) for file in _files(path)}


def sync(path: pathlib.Path) -> None:
    """Has the system write a file, or all files of a folder, to the disk."""
    for file in _files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    """The file itself, or all files in a folder."""
    return [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]


class Digests:
    """The digests of the files in one directory."""

    def __init__(self, root: pathlib.Path):
        self._root, self._lock = root, threading.Lock()
        self._known: dict[str, list[str]] = {}  # by the path below `root`, the last one last
        if (root / FILE).exists():
            text = (root / FILE).read_text(encoding="utf-8", errors="replace")
            for line in text.split("\n")[:-1]:  # what follows the last line end was cut by a kill
                if match := _LINE.fullmatch(line):
                    self._known.setdefault(match[2], []).append(match[1])

    @property
    def names(self) -> list[str]:
        """The paths below the directory of all files that were written."""
        return sorted(self._known)

    def add(self, found: dict[str, str]) -> None:
        """Adds digests, by paths below the directory, of files that are about to be put in place."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in found.items())
        with self._lock, (self._root / FILE).open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                lines = lines if file.read(1) == b"\n" else f"\n{lines}"
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
            for name, digest in found.items():
                self._known.setdefault(name, []).append(digest)

    def check(self, name: str) -> None:
        """Raises a `ValueError` if a file, or a file below a folder, is not as it was written.

        Files of which nothing is known are not looked at.
        """
        written = [name]
        if name not in self._known:  # a folder, or nothing is known
            written = [known for known in self.names if known.startswith(f"{name}/")]
        for known in written:
            self._check_one(known, self._root / name)

    def check_all(self) -> None:
        """Raises a `ValueError` if any file that is still there is not as it was written."""
        for name in self.names:
            if (self._root / name).exists():
                self._check_one(name, self._root / name)

    def _check_one(self, name: str, made: pathlib.Path) -> None:
        """Checks one file; `made` is it, or the folder that was made together with it."""
        file = self._root / name
        if not file.is_file() or of(file) not in self._known[name]:
            raise ValueError(
                f"{file} is not as it was written; it is left as it is: restore it, or delete {made} to have "
                "it made anew"
            )

    def forget_what_is_gone(self) -> None:
        """Rewrites the list, sorted, with the last digest of every file that is still there."""
        with self._lock:
            there = {name: known for name, known in self._known.items() if (self._root / name).is_file()}
            self._known = {name: [there[name][-1]] for name in sorted(there)}
            lines = [f"{digests[-1]}  {name}\n" for name, digests in self._known.items()]
            partial = self._root / f"{FILE}.{os.getpid()}-0.partial"
            partial.write_text("".join(lines), encoding="utf-8")
            sync(partial)
            partial.replace(self._root / FILE)
