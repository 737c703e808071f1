"""How every script starts and ends: what goes wrong becomes a sentence, and a signal ends it in order."""

import contextlib
import ctypes
import datetime
import os
import pathlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn

import jax
from absl import app

from fedgame import registry
from fedgame.runs import snapshots, workdir
from launch import CACHE

_OURS = tuple(str(pathlib.Path(__file__).parent.parent / name) + os.sep for name in ("fedgame", "launch"))


class _Stopping:
    """What signals do: they end the script or, once training has begun, let it save its state."""

    number = signal.SIGINT  # of the last one
    folder: str | None = None  # of the results
    stop: threading.Event | None = None  # once there is one, the first signal only sets it
    told: str = ""  # what it then says


def run(main: Callable[[list[str]], Any], parse: Callable[[list[str]], list[str]] | None = None) -> None:
    """Runs a script as `absl.app.run` does.

    Exits with 1 and a sentence if something is wrong, with 128 and the number of a signal after it, as shells
    do. The main thread only waits for signals: they would have to wait themselves while XLA computes in it.

    Args:
      main: takes what absl leaves of the command line.
      parse: reads the flags; None: as absl does.
    """
    signal.signal(signal.SIGINT, _hear)
    signal.signal(signal.SIGTERM, _hear)
    if (
        hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    ):  # not on Windows; `nohup`
        signal.signal(signal.SIGHUP, _hear)
    try:
        with futures.ThreadPoolExecutor(1) as background:
            running = background.submit(app.run, main, flags_parser=parse or app.parse_flags_with_usage)
            while not running.done():  # a signal just before a wait is heard only after it
                futures.wait([running], timeout=1.0)
        running.result()
    except snapshots.Interrupted:
        _leave()
    except Exception as error:
        _fail(error)


def results_in(folder: str) -> None:
    """From now on, who interrupts the script is told that --resume goes on in this folder."""
    _Stopping.folder = folder


def save_at_signals(work: workdir.Workdir) -> None:
    """From now on, the first signal lets training runs save their state, and another one stops at once."""
    stop_at_signals(work.stop, "saving")


def stop_at_signals(stop: threading.Event, told: str) -> None:
    """From now on, the first signal sets `stop` and says what is `told`, and another one stops at once."""
    _Stopping.stop, _Stopping.told = stop, told


def tell_if_jax_aborts() -> None:
    """From now on, if JAX ends the script because another process is gone, a sentence says so.

    JAX (0.10) does so in a thread of its own, by `abort`, which no handler in Python hears. Before
    0.9.2 it exits at once, with 1, and nothing hears that: there its own message is all there is.
    """
    ctypes.CDLL(None).signal(signal.SIGABRT, _ABORTED)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _ABORTED(number: int) -> None:
    _end_alone()


def _end_alone() -> NoReturn:
    """Ends one of several processes; an orderly end would wait for the one that is gone."""
    _say("error: another process of this run is gone; start all of them again with --resume")
    os._exit(1)


def _hear(number: int, *_: object) -> None:
    """What every signal does."""
    _Stopping.number = number
    if _Stopping.stop is None or _Stopping.stop.is_set():
        _leave()
    _Stopping.stop.set()
    _say(f"{_Stopping.told}; once more stops at once")


def _leave() -> NoReturn:
    """Ends the script after a signal, without waiting for threads: what is to be kept is on disk."""
    where = f"; go on with --workdir={_Stopping.folder} --resume" if _Stopping.folder else ""
    _say(f"interrupted{where}")
    os._exit(128 + _Stopping.number)


def _say(text: str) -> None:
    """Prints on the standard error, also from a signal handler."""
    with contextlib.suppress(OSError):  # nobody is there to read it
        os.write(2, f"\n{text}\n".encode())  # `print` may be what the signal interrupted


def _fail(error: Exception) -> NoReturn:
    """Ends the script after an error; keeps the traceback of one that nobody has foreseen."""
    if jax.distributed.is_initialized() and isinstance(error, jax.errors.JaxRuntimeError):
        _end_alone()
    told = sentence(error)
    if not foreseen(error):
        told = f"{told}\nthis was not foreseen; {_keep(error)}"
    sys.exit(f"error: {told}")


def sentence(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "there is not enough memory for this: use smaller numbers, or fewer --workers"
    text = str(error).strip()
    kind = "" if text and foreseen(error) else f"{type(error).__name__}: "
    frames = traceback.extract_tb(error.__traceback__)
    used = [frame for file in registry.used() for frame in frames if frame.filename.endswith(file)]
    return f"{kind}{text}" + (f" (line {used[-1].lineno} of {used[-1].filename})" if used else "")


def foreseen(error: Exception) -> bool:
    """Whether an error is one of the surroundings, or a sentence that fedgame itself has written."""
    if isinstance(error, OSError | MemoryError | FloatingPointError):
        return True
    *_, last = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError) and last.filename.startswith(_OURS)


def _keep(error: Exception) -> str:
    """Writes down where an error came from; says where."""
    about = "".join(traceback.format_exception(error))
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    file = CACHE / "tracebacks" / f"{now}-{os.getpid()}.txt"
    try:
        workdir.write(file, f"{sys.argv}\n\n{about}")
    except OSError:
        return f"where it came from:\n{about}"
    return f"where it came from is in {file}"
