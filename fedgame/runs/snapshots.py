"""The state of unfinished training runs on disk, written by orbax, so that a killed run goes on.

A snapshot is a directory named for its round. It is written under another name and renamed when it is whole,
before the last one is deleted: after a kill at any moment there is a whole one. It says which run it belongs
to and holds a digest of every file. Momentum starts at 0 in every round and the order of samples follows
from the number of the round, so the state is the model and what the contribution rule remembers.
"""

import hashlib
import json
import pathlib
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

_MANIFEST = "snapshot.json"
_PARTIAL = ".partial"


class Interrupted(Exception):
    """The user asked to stop; what was done is saved."""


class Snapshots(NamedTuple):
    """How a training run keeps its state between rounds."""

    restore: Callable[[Any], tuple[int, Any]]  # state at the start -> rounds done, state after them
    offer: Callable[[int, Any], None]  # rounds done, state; called after every round


def snapshots(
    folder: pathlib.Path,
    identity: dict[str, Any],
    every: float,
    stop: threading.Event,
    last: int | None = None,
) -> Snapshots:
    """Keeps the last state of one training run in a directory.

    Args:
      folder: belongs to this run alone; made when there is something to keep.
      identity: JSON values that say which run it is; another run's snapshots are not touched.
      every: seconds between snapshots; 0 keeps every round.
      stop: once set, the next round is the last: its state is saved, and `Interrupted` raised.
      last: number of a round that is kept in any case.

    Returns:
      `restore` raises a ValueError where a snapshot cannot be read, or is another run's.
    """
    saved = [time.monotonic()]

    def restore(start: Any) -> tuple[int, Any]:
        saved[0] = time.monotonic()  # runs that wait for their turn have nothing to save yet
        return _read(folder, identity, start) if folder.exists() else (0, start)

    def offer(number: int, state: Any) -> None:
        stopping = _anybody(stop.is_set())
        if stopping or number == last or _anybody(time.monotonic() - saved[0] >= every):
            if jax.process_index() == 0:
                _write(folder, identity, number, state)
            saved[0] = time.monotonic()
        if stopping:
            _anybody(True)  # nobody leaves before it is written
            raise Interrupted

    return Snapshots(restore, offer)


def save_model(folder: pathlib.Path, params: Any) -> None:
    """Writes a trained model, whole or not at all; `load_model` reads it, or orbax's StandardCheckpointer."""
    _save(folder, jax.tree.map(np.asarray, params))


def load_model(folder: pathlib.Path) -> Any:
    """The parameters that `save_model` wrote, as numpy arrays: `model.apply(load_model(...), images)`."""
    ocp, checkpointer = _checkpointer()
    with checkpointer:
        return checkpointer.restore(folder.resolve(), args=ocp.args.StandardRestore())


def _anybody(mine: bool) -> bool:
    """Whether it is so in any process: all of them save, and stop, after the same round."""
    if jax.process_count() == 1:
        return mine
    return bool(np.any(multihost_utils.process_allgather(np.asarray(mine))))


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp  # slow to import, and of no use to short runs

    alone = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:  # one process writes, and each reads for itself, without the others
        mine = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=mine, active_processes={mine})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp, ocp.Checkpointer(handler, multiprocessing_options=alone)


def _save(folder: pathlib.Path, tree: Any) -> None:
    ocp, checkpointer = _checkpointer()
    with checkpointer:
        checkpointer.save(folder.resolve(), args=ocp.args.StandardSave(tree))


def _write(folder: pathlib.Path, identity: dict[str, Any], number: int, state: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"*{_PARTIAL}*"):  # by a process that was killed
        shutil.rmtree(left)
    partial = folder / f"{number}{_PARTIAL}"
    _save(partial / "state", _named(state))
    manifest = {"identity": {**identity, "round": number}, "files": _digests(partial)}
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    partial.rename(folder / str(number))
    for old in _numbers(folder):
        if old != number:
            shutil.rmtree(folder / str(old))


def _read(folder: pathlib.Path, identity: dict[str, Any], start: Any) -> tuple[int, Any]:
    try:
        number = max(_numbers(folder), default=0)
        if number == 0:
            return 0, start  # killed before the first snapshot was whole
        snapshot = folder / str(number)
        manifest = json.loads((snapshot / _MANIFEST).read_text(encoding="utf-8"))
        theirs, files = manifest["identity"], manifest["files"]
        for name in files.keys() ^ (written := _digests(snapshot)).keys():
            raise ValueError(f"{name} is " + ("missing" if name in files else "not part of it"))
        for name in (name for name in files if files[name] != written[name]):
            raise ValueError(f"{name} has changed")
        found = load_model(snapshot / "state") if theirs == {**identity, "round": number} else {}
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        raise ValueError(
            f"the checkpoint {folder} cannot be read ({reason}); it is left as it is: delete it to "
            "begin this training run anew"
        ) from None
    expected = _named(start)
    if _kinds(found) != _kinds(expected):  # the first number of a shape may be one of rounds
        raise ValueError(
            f"the checkpoint {folder} is of another training run; it is left as it is: move it away"
        )
    leaves = [found[name] for name in expected]
    return number, jax.tree.unflatten(jax.tree.structure(start), leaves)


def _named(state: Any) -> dict[str, np.ndarray]:
    """The arrays of a state by where they are in it, in the order of its leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(p, simple=True, separator="."): np.asarray(leaf) for p, leaf in leaves}


def _kinds(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}


def _numbers(folder: pathlib.Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _digests(snapshot: pathlib.Path) -> dict[str, str]:
    files = (path for path in sorted(snapshot.rglob("*")) if path.is_file() and path.name != _MANIFEST)
    return {f.relative_to(snapshot).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
