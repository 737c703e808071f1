"""Training runs that survive: their state between rounds on disk, by orbax.

A snapshot is written beside the last one and takes its place by a rename, so that there is a whole one
after a kill at any moment. Momentum starts at 0 in every round and the order of samples follows from the
number of the round, so the state is the model and what the contribution rule remembers.
"""

import pathlib
import threading
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fedgame.learning import federated


class Interrupted(Exception):
    """The user asked to stop; what was done is saved."""


def snapshots(
    folder: pathlib.Path, identity: dict[str, Any], every: float, stop: threading.Event
) -> federated.Snapshots:
    """Keeps the last state of one training run in a directory.

    Args:
      folder: belongs to this run alone; made when there is something to keep.
      identity: JSON values that say which run it is; another run's snapshots are not touched.
      every: seconds between snapshots; 0 keeps every round.
      stop: once set, the next round is the last: its state is saved, and `Interrupted` raised.

    Returns:
      `restore` raises a ValueError where a snapshot cannot be read, or is another run's.
    """
    saved = [time.monotonic()]

    def restore(start: Any) -> tuple[int, Any]:
        return _read(folder, identity, start) if folder.exists() else (0, start)

    def offer(number: int, state: Any) -> None:
        stopping = _anybody(stop.is_set())
        if stopping or _anybody(time.monotonic() - saved[0] >= every):
            if jax.process_index() == 0:
                _write(folder, identity, number, federated.local_copy(state))
            saved[0] = time.monotonic()
        if stopping:
            raise Interrupted

    return federated.Snapshots(restore, offer)


def save_model(folder: pathlib.Path, params: Any) -> None:
    """Writes a trained model; `load_model` reads it, and so does orbax's StandardCheckpointer."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer(multiprocessing_options=_alone(ocp)) as checkpointer:
        checkpointer.save(folder.resolve(), jax.tree.map(np.asarray, params), force=True)


def load_model(folder: pathlib.Path) -> Any:
    """The parameters that `save_model` wrote, as numpy arrays: `model.apply(load_model(...), images)`."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.resolve())


def _anybody(mine: bool) -> bool:
    """Whether it is so in any process: all of them save, and stop, after the same round."""
    if jax.process_count() == 1:
        return mine
    return bool(np.any(multihost_utils.process_allgather(np.asarray(mine))))


def _alone(ocp: Any) -> Any:
    """One process writes, and each reads for itself: orbax is not to wait for the others."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    mine = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=mine, active_processes={mine})


def _manager(folder: pathlib.Path) -> Any:
    import orbax.checkpoint as ocp  # slow to import, and of no use to short runs

    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, create=False, enable_async_checkpointing=False, multiprocessing_options=_alone(ocp)
    )
    return ocp, ocp.CheckpointManager(folder.resolve(), options=options)


def _write(folder: pathlib.Path, identity: dict[str, Any], number: int, state: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ocp, manager = _manager(folder)
    leaves = {str(k): np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
    arguments = {"state": ocp.args.StandardSave(leaves), "identity": ocp.args.JsonSave(identity)}
    with manager:
        manager.save(number, args=ocp.args.Composite(**arguments))


def _read(folder: pathlib.Path, identity: dict[str, Any], start: Any) -> tuple[int, Any]:
    ocp, manager = _manager(folder)
    arguments = {"state": ocp.args.StandardRestore(), "identity": ocp.args.JsonRestore()}
    with manager:
        number = manager.latest_step()
        if number is None:
            return 0, start  # killed before the first snapshot was whole
        try:
            found = manager.restore(number, args=ocp.args.Composite(**arguments))
            leaves = [found["state"][str(k)] for k in range(len(found["state"]))]
            state = jax.tree.unflatten(jax.tree.structure(start), leaves)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"the checkpoint {folder} cannot be read ({reason}); it is left as it is: delete it to "
                "begin this training run anew"
            ) from None
    if found["identity"] != identity:
        raise ValueError(
            f"the checkpoint {folder} is of another training run; it is left as it is: move it away"
        )
    return number, state
