"""Results as files: written whole or not at all, never over somebody else's, resumable.

A run owns one directory. `config.json` there says what it is; finished pieces of work are JSON files
below `pieces/`, so a killed run that is resumed computes only what is missing.
"""

import csv
import importlib.metadata
import io
import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "tensorflow-datasets")


class Workdir:
    """The directory of one run, opened by `open_workdir`."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def piece(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value of a piece of work: as stored if it is there, else computed and stored."""
        file = self.path / "pieces" / f"{name}.json"
        if not file.exists():
            write(file, to_json(compute()))
        return json.loads(file.read_text(encoding="utf-8"))

    def timings(self) -> list[dict[str, Any]]:
        """The seconds that each stored piece took when it was computed."""
        files = sorted((self.path / "pieces").rglob("*.json"))
        return [
            {"piece": file.relative_to(self.path / "pieces").with_suffix("").as_posix()}
            | {"seconds": json.loads(file.read_text(encoding="utf-8"))["seconds"]}
            for file in files
        ]

    def write_json(self, name: str, value: Any) -> None:
        write(self.path / name, to_json(value))

    def write_csv(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Rows with the same keys; None becomes an empty cell."""
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write(self.path / name, text.getvalue())

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read_csv(self, name: str) -> list[dict[str, str]]:
        with (self.path / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def open_workdir(path: str, program: str, config: dict[str, Any], resume: bool, overwrite: bool) -> Workdir:
    """Makes or reopens the directory of the run that `config` describes.

    Args:
      path: the directory; may be missing or empty.
      program: whose run it is; the runs of others are left alone, whatever the flags.
      config: JSON values that determine the results.
      resume: go on with the run that is there, if it has the same configuration.
      overwrite: delete the run that is there.

    Raises:
      ValueError: there is something in the way; the message says what and which flag helps.
    """
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    root = pathlib.Path(path)
    config = json.loads(to_json(config))
    if root.exists() and not root.is_dir():
        raise ValueError(f"--workdir={path} is a file, not a directory")
    if root.is_dir() and any(root.iterdir()):
        stored = _stored_config(root, program)
        if overwrite:
            shutil.rmtree(root)
        elif not resume:
            raise ValueError(
                f"--workdir={path} holds a run already: go on with it by --resume, "
                "delete it by --overwrite, or name another directory"
            )
        else:
            changed = [
                f"{k}={config.get(k)!r} (there: {stored.get(k)!r})"
                for k in {**stored, **config}
                if stored.get(k) != config.get(k)
            ]
            if changed:
                raise ValueError(
                    f"--resume: the run in --workdir={path} has other settings: " + ", ".join(changed)
                )
            return Workdir(root)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    write(root / "config.json", to_json({"program": program, "config": config, "versions": versions}))
    return Workdir(root)


def _stored_config(root: pathlib.Path, program: str) -> dict[str, Any]:
    try:
        stored = json.loads((root / "config.json").read_text(encoding="utf-8"))
        return {program: stored["config"]}[stored["program"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"--workdir={root} is not empty and holds no run of this program; it is "
            "left as it is: name another directory"
        ) from None


def to_json(value: Any) -> str:
    """Strict JSON: numbers that it lacks become the strings "nan", "inf", "-inf"."""

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
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)
