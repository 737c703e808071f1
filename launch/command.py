"""What the scripts that train share: their flags, devices and processes, and how they stop."""

import contextlib
import functools
import os
import pathlib
import shlex
import signal
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from fedgame import registry
from fedgame.experiments import checkpoints, storage, sweep, sweep_report, training
from fedgame.experiments import settings as all_settings
from launch import settings_flags

WORKDIR = flags.DEFINE_string("workdir", None, "directory of the results; results/... if not given")
DATA_DIR = flags.DEFINE_string("data_dir", None, "where tensorflow-datasets keeps its data")
SAVE_EVERY = flags.DEFINE_float(
    "save_every", 30.0, "seconds between snapshots of an unfinished training run; 0: every round", 0
)


def define_processes() -> None:
    """Flags of scripts that one training run may share between processes."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process; all processes train one run")
    flags.DEFINE_integer("num_processes", None, "number of processes", 1)
    flags.DEFINE_integer("process_id", None, "number of this process, from 0", 0)


def main(
    argv: list[str],
    program: str,
    settings_type: type,
    results: str,
    run: Callable[[training.Task, storage.Workdir], str],
    swept: Sequence[str] = (),
) -> None:
    """Reads the flags, opens --workdir, runs, prints the report; an interrupt saves and exits with 130.

    Args:
      argv: what absl left of the command line.
      program: its name in `config.json`.
      settings_type: dataclass of the settings.
      results: default of --workdir, with {} for the data set.
      run: computes in an open directory and returns a text.
      swept: settings to run the product of, as `sweep.product` takes them; exits with 1 if a variant fails.
    """
    begin, workdir = time.perf_counter(), WORKDIR.value
    try:
        settings_flags.start(argv)
        _join()
        given = settings_flags.read(settings_type)
        name = pathlib.Path(given.dataset).stem + ("_sweep" if swept else "")
        workdir = WORKDIR.value or results.format(name)
        again = settings_flags.RESUME.value, settings_flags.OVERWRITE.value
        if jax.process_count() == 1:  # of several, the first may have opened it already
            storage.check_workdir(workdir, program, *again)
        compute, described = _sweep(program, given, run, swept) if swept else _single(given, run)
        work = _open(workdir, program, described, again)
        _stop_gently(work)
        with futures.ThreadPoolExecutor(1) as background:  # signals wait while XLA computes in this thread
            report = background.submit(compute, work).result()
        if work.stop.is_set():
            raise checkpoints.Interrupted
    except (checkpoints.Interrupted, KeyboardInterrupt):
        _leave(workdir)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except jax.errors.JaxRuntimeError:
        if jax.process_count() == 1:
            raise
        _say("error: another process of this run is gone; start all of them again with --resume")
        os._exit(1)  # an orderly end would wait for it
    if jax.process_index() == 0:
        print(f"\n{report}\n")
        print(f"{time.perf_counter() - begin:.0f} s; tables and figures are in {workdir}")
    if swept and sweep_report.failed(work):
        sys.exit(f"error: variants failed; run them again, and no others, with\n{_again(program, workdir)}")


def _again(program: str, workdir: str) -> str:
    """The command that goes on with what this one did."""
    words = [word for word in sys.argv[1:] if word.lstrip("-").split("=")[0] not in ("overwrite", "resume")]
    words += [] if WORKDIR.value else [f"--workdir={workdir}"]
    return shlex.join(["python", "-m", program, *words, "--resume"])


def _single(
    given: all_settings.TrainingSettings, run: Callable[[training.Task, storage.Workdir], str]
) -> tuple[Callable[[storage.Workdir], str], dict[str, Any]]:
    """What to run in the directory of one run, and the settings that determine its results."""
    task = training.prepare(given, DATA_DIR.value)
    images = training.digest(task.agents, task.server)
    return functools.partial(run, task), all_settings.described(task.settings) | {"images": images}


def _sweep(
    program: str,
    given: all_settings.TrainingSettings,
    run: Callable[[training.Task, storage.Workdir], str],
    swept: Sequence[str],
) -> tuple[Callable[[storage.Workdir], str], dict[str, Any]]:
    """The same of a sweep."""
    parse = functools.partial(settings_flags.parse, type(given))
    variants = sweep.product(swept, given, parse, DATA_DIR.value)
    compute = functools.partial(sweep.run, variants, program, run, data_dir=DATA_DIR.value)
    described = all_settings.described(given) | {"sweep": swept}
    for variant in variants:
        described["sha256"] |= all_settings.described(variant.settings)["sha256"]
    return compute, described


def _join() -> None:
    """Joins the other processes, if there are any."""
    names = ("coordinator", "num_processes", "process_id")
    if names[0] not in flags.FLAGS:
        return
    given = [flags.FLAGS[name].value for name in names]
    if given == [None] * 3:
        return
    if None in given:
        raise ValueError("--coordinator, --num_processes and --process_id go together")
    if given[2] >= given[1]:
        raise ValueError(f"--process_id must be below --num_processes={given[1]}, got {given[2]}")
    waits = {"initialization_timeout": 60, "heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30}
    jax.distributed.initialize(*given, **waits)


def _open(workdir: str, program: str, settings: dict[str, Any], again: tuple[bool, bool]) -> storage.Workdir:
    """The first process opens the directory, the others wait for it; if that fails, it fails for all."""
    work, failure = storage.Workdir(pathlib.Path(workdir)), ""
    if jax.process_count() > 1:
        text = storage.to_json(settings | {"use": registry.used()}).encode()
        theirs = multihost_utils.process_allgather(np.asarray(zlib.crc32(text)))
        if np.any(theirs != theirs[0]):
            raise ValueError("the processes of a run must have the same settings and images")
    if jax.process_index() == 0:
        try:
            work = storage.open_workdir(workdir, program, settings, *again)
        except (ValueError, OSError) as error:
            failure = str(error)
    failed = bool(failure)
    if jax.process_count() > 1:
        failed = bool(multihost_utils.broadcast_one_to_all(np.asarray(failed)))
    if failed:
        raise ValueError(failure or f"the first process could not open --workdir={workdir}")
    work.save_every = SAVE_EVERY.value
    return work


def _leave(workdir: object) -> None:
    """Exits without waiting for threads: what is to be kept is on disk."""
    _say(f"interrupted; go on with{f' --workdir={workdir}' if workdir else ''} --resume")
    os._exit(130)


def _say(text: str) -> None:
    os.write(2, f"\n{text}\n".encode())  # `print` may be what the signal interrupted


def _stop_gently(work: storage.Workdir) -> None:
    """The first Ctrl-C lets training runs save their state, the second stops at once."""

    def stop(*_: object) -> None:
        if work.stop.is_set():
            _leave(work.path)
        work.stop.set()
        _say("saving; once more stops at once")

    with contextlib.suppress(ValueError):  # not in the main thread, as in a notebook
        signal.signal(signal.SIGINT, stop)
