"""Numbers over rounds for TensorBoard, in files that tensorboardX writes while a run trains.

They hold the time and the name of the machine, so they are no results: `SHA256SUMS` does not list them, and
nothing reads them back. Their ending says whose they are, and --overwrite deletes these alone.
"""

import contextlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

FOLDER = "tensorboard"
_ENDING = ".fedgame"
_OURS = f"events.out.tfevents.*{_ENDING}"
_SECONDS = 5  # between writes to the disk: who watches a run wants to see it

Add = Callable[[np.ndarray, Mapping[str, np.ndarray]], None]  # numbers of all rounds so far [k]; by tag, [k]


def check() -> None:
    """Raises a `ValueError` if tensorboardX is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError('--tensorboard needs tensorboardX: pip install "fedgame[tensorboard]"')


@contextlib.contextmanager
def opened(folder: pathlib.Path | None) -> Iterator[Add]:
    """Gives a function that writes the rounds that are not written yet.

    It is given all rounds so far, also those before an interrupt: then they are written anew, and files that
    an earlier process left are deleted. So no round is there twice, and none is missing.

    Args:
      folder: where the files go; None: nothing is written.
    """
    if folder is None:
        yield lambda rounds, values: None
        return
    import tensorboardX  # an extra

    delete(folder)
    with tensorboardX.SummaryWriter(str(folder), filename_suffix=_ENDING, flush_secs=_SECONDS) as writer:
        written = 0

        def add(rounds: np.ndarray, values: Mapping[str, Any]) -> None:
            nonlocal written
            for k in range(written, len(rounds)):
                for tag, numbers in values.items():
                    writer.add_scalar(tag, float(numbers[k]), int(rounds[k]))
            written = len(rounds)

        yield add


def delete(folder: pathlib.Path) -> None:
    """Deletes the files that runs have written into a folder, and the folder if nothing else is in it."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for file in folder.glob(_OURS):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else is in it
        folder.rmdir()
