"""The state of unfinished training runs on disk, written by orbax, so that a killed run can go on.

A snapshot is a directory named for its round. It is written under another name, renamed when it is complete,
and only then is the previous one deleted: so a kill at any moment leaves a complete one. It says which run it
belongs to and holds a digest of every file. Momentum starts at 0 in every round and the order of samples
follows from the number of the round, so the state is the model and what the contribution rule carries.
"""

import contextlib
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

from fedgame.runs import digests

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
    """Keeps the latest state of one training run in a directory.

    Args:
      folder: belongs to this run alone; made when there is something to keep.
      identity: JSON values that say which run it is; another run's snapshots are not touched.
      every: seconds between snapshots; 0 keeps every round.
      stop: once set, the next round is the last: its state is saved, and `Interrupted` raised.
      last: number of a round that is kept in any case.

    Returns:
      Functions that restore and keep the state. `restore` raises a ValueError if a snapshot cannot be read or
      belongs to another run.
    """
    saved = time.monotonic()  # when the state was last on disk, or not yet worth saving

    def restore(start: Any) -> tuple[int, Any]:
        nonlocal saved
        saved = time.monotonic()  # a run that waited for its turn has nothing to save yet
        return _read(folder, identity, start) if folder.exists() else (0, start)

    def offer(number: int, state: Any) -> None:
        nonlocal saved
        stopping = _any_process(stop.is_set())
        if stopping or number == last or _any_process(time.monotonic() - saved >= every):
            if jax.process_index() == 0:
                _write(folder, identity, number, state)
            saved = time.monotonic()
        if stopping:
            _any_process(True)  # no process leaves before the state is written
            raise Interrupted

    return Snapshots(restore, offer)


def save_model(folder: pathlib.Path, params: Any) -> None:
    """Writes a trained model, whole or not at all, for `load_model` or orbax's StandardCheckpointer."""
    _save(folder, jax.tree.map(np.asarray, params))


def load_model(folder: pathlib.Path) -> Any:
    """The parameters that `save_model` wrote, as numpy arrays: `model.apply(load_model(...), images)`.

    Raises:
      ValueError: the model is that of a run, and its files are not as they were written.
    """
    digests.Digests(folder.parent).check(folder.name)
    ocp, checkpointer = _checkpointer()
    with checkpointer:
        return checkpointer.restore(folder.resolve(), args=ocp.args.StandardRestore())


def _any_process(mine: bool) -> bool:
    """Whether it is so in any process. All wait for each other, and save and stop after the same round."""
    if jax.process_count() == 1:
        return mine
    return bool(np.any(multihost_utils.process_allgather(np.asarray(mine))))


def _checkpointer() -> Any:
    """The module `orbax.checkpoint`, and a checkpointer that does not wait for other processes."""
    import orbax.checkpoint as ocp  # slow to import, and short runs do not need it

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
    """Replaces the snapshot in a directory by one of the state after round `number`."""
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(f"*{_PARTIAL}*"):  # left by a process that was killed
        shutil.rmtree(unfinished)
    partial = folder / f"{number}{_PARTIAL}"
    _save(partial / "state", _named(state))
    manifest = {"identity": {**identity, "round": number}, "files": digests.of_all(partial)}
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    digests.sync(partial)
    partial.rename(folder / str(number))
    for old in _numbers(folder):
        if old != number:
            shutil.rmtree(folder / str(old))


def _read(folder: pathlib.Path, identity: dict[str, Any], start: Any) -> tuple[int, Any]:
    """The number of the latest snapshot's round and its state; (0, start) if there is no snapshot.

    Raises:
      ValueError: the snapshot cannot be read, or belongs to another run.
    """
    try:
        number = max(_numbers(folder), default=0)
        if number == 0:
            return 0, start  # killed before the first snapshot was complete
        snapshot = folder / str(number)
        manifest = json.loads((snapshot / _MANIFEST).read_text(encoding="utf-8"))
        theirs, files = manifest["identity"], manifest["files"]
        there = digests.of_all(snapshot)
        del there[_MANIFEST]
        _check_files(files, there)
        is_mine = theirs == {**identity, "round": number}
        found = load_model(snapshot / "state") if is_mine else {}
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        raise ValueError(
            f"the checkpoint {folder} cannot be read ({reason}); it is left as it is: delete it to "
            "begin this training run anew"
        ) from None
    expected = _named(start)
    if _kinds(found) != _kinds(expected):
        raise ValueError(
            f"the checkpoint {folder} is of another training run; it is left as it is: move it away"
        )
    leaves = [found[name] for name in expected]
    return number, jax.tree.unflatten(jax.tree.structure(start), leaves)


def _check_files(expected: dict[str, str], found: dict[str, str]) -> None:
    """Raises a `ValueError` that names a file which is missing, new or changed, from digests by name."""
    for name in expected:
        if name not in found:
            raise ValueError(f"{name} is missing")
    for name, digest in found.items():
        if name not in expected:
            raise ValueError(f"{name} is not part of it")
        if digest != expected[name]:
            raise ValueError(f"{name} has changed")


def _named(state: Any) -> dict[str, np.ndarray]:
    """The arrays of a state by their paths in it, in the order of its leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def _kinds(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Types and shapes, without the first axis: it may be one of rounds, which grows."""
    return {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}


def _numbers(folder: pathlib.Path) -> list[int]:
    """The rounds of which there are complete snapshots."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def delete(folder: pathlib.Path) -> None:
    """Deletes all snapshots in a folder and in those below it, whole or not, and leaves everything else."""
    if folder.is_symlink():
        return
    snapshots = [manifest.parent for manifest in folder.rglob(_MANIFEST)]
    for path in (*snapshots, *folder.rglob(f"*{_PARTIAL}")):
        shutil.rmtree(path, ignore_errors=True)
    for path in sorted(folder.rglob("*"), reverse=True):  # those in a folder before it
        with contextlib.suppress(OSError):  # something else is in it
            path.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
