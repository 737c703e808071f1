"""The one `main` of all experiments: flags in; files, a text and figures out; resumed, swept, interrupted."""

import contextlib
import gc
import os
import pathlib
import shlex
import signal
import sys
import time
import zlib
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import flags

from fedgame import registry
from fedgame.runs import settings as all_settings
from fedgame.runs import snapshots, sweep, workdir
from fedgame.runs.experiment import Experiment, Resources, described
from launch import settings_flags

FLAGS = flags.FLAGS
_RESOURCES = {
    "data_dir": (flags.DEFINE_string, None, "where tensorflow-datasets keeps its data"),
    "workers": (flags.DEFINE_integer, None, "training runs at a time; one per processor", 1),
    "cache": (
        flags.DEFINE_string,
        str(settings_flags.CACHE / "curves"),
        "directory of accuracies measured earlier; empty: none",
    ),
}
_PROCESSES = ("coordinator", "num_processes", "process_id")


def define(experiment: Experiment) -> None:
    """Defines the flags of an experiment; --helpshort of the script that calls it shows them."""
    flags.DEFINE_string("workdir", None, "directory of the results; results/... if not given")
    flags.DEFINE_bool("resume", False, "go on with the run in --workdir")
    flags.DEFINE_bool("overwrite", False, "delete what an earlier run left in --workdir")
    flags.DEFINE_multi_string(
        "sweep",
        [],
        "NAME=VALUE,VALUE,...: run at each of these values of a setting, and at all combinations if given "
        "several times; a value that is itself a list is written with +, as in "
        "--sweep=cost=0.01,0.005+0.01+0.02 for 3 agents. Failed variants are run again, alone, by --resume",
    )
    if not experiment.resources:
        settings_flags.compile_quickly()
    settings_flags.define(experiment.settings)
    for name in experiment.resources:
        make, *about = _RESOURCES[name]
        make(name, *about)
    if experiment.resources:
        about = "seconds between snapshots of an unfinished training run; 0: every round"
        flags.DEFINE_float("save_every", 30.0, about, 0)
    if experiment.processes:
        flags.DEFINE_string(
            "coordinator", None, "HOST:PORT of the first process; all processes train one run"
        )
        flags.DEFINE_integer("num_processes", None, "number of processes", 1)
        flags.DEFINE_integer("process_id", None, "number of this process, from 0", 0)
        flags.DEFINE_integer("devices", None, "processors to train on; all if not given (CPU only)", 1)
    for module in ("launch.settings_flags", "launch.command"):
        for flag in FLAGS.get_flags_for_module(module):
            FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # as absl calls the script


def main(argv: list[str], experiment: Experiment) -> None:
    """Reads the flags, opens --workdir, computes, prints the text; an interrupt saves and exits with 130.

    Args:
      argv: what absl left of the command line.
      experiment: what to run, alone or, with --sweep, at every value; exits with 1 if a variant fails.
    """
    begin, folder = time.perf_counter(), FLAGS.workdir
    try:
        settings_flags.start(argv)
        if experiment.processes:
            settings_flags.use_processors(FLAGS.devices)
            _join()
        given = settings_flags.read(experiment.settings)
        folder = FLAGS.workdir or experiment.results(given) + ("_sweep" if FLAGS.sweep else "")
        if jax.process_count() == 1:  # of several, the first may have opened it already
            workdir.check_workdir(folder, experiment.program, FLAGS.resume, FLAGS.overwrite)
        compute, show, about = (_sweep if FLAGS.sweep else _single)(experiment, given)
        work = _open(folder, experiment, about)
        if experiment.resources:
            _stop_gently(work)
            with futures.ThreadPoolExecutor(
                1
            ) as background:  # signals wait while XLA computes in this thread
                background.submit(compute, work).result()
        else:
            compute(work)
        if work.stop.is_set():
            raise snapshots.Interrupted
        report = show(work) if jax.process_index() == 0 else ""
    except (snapshots.Interrupted, KeyboardInterrupt):
        _leave(folder)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except jax.errors.JaxRuntimeError:
        if jax.process_count() == 1:
            raise
        _say("error: another process of this run is gone; start all of them again with --resume")
        os._exit(1)  # an orderly end would wait for it
    if jax.process_index() == 0:
        print(f"\n{report}\n")
        print(f"{time.perf_counter() - begin:.0f} s; tables and figures are in {folder}")
    gc.freeze()  # or the interpreter looks for garbage before it ends, for 0.3 s
    if FLAGS.sweep and sweep.failed(work):
        again = _again(experiment.program, folder)
        sys.exit(f"error: variants failed; run them again, and no others, with\n{again}")


def _resources() -> Resources:
    given = {name: FLAGS[name].value for name in Resources._fields if name in FLAGS}
    if "cache" in given:
        given["cache"] = pathlib.Path(given["cache"]).expanduser() if given["cache"] else None
    return Resources(**given)


_Plan = tuple[Callable[[workdir.Workdir], None], Callable[[workdir.Workdir], str], dict[str, Any]]


def _single(experiment: Experiment, given: Any) -> _Plan:
    """How one run is computed and shown, and all that decides its results."""
    resources = _resources()
    prepared = experiment.prepare(given, resources)

    def compute(work: workdir.Workdir) -> None:
        experiment.compute(prepared, work, resources)

    return compute, experiment.show, described(prepared)


def _sweep(experiment: Experiment, given: Any) -> _Plan:
    """The same of a sweep."""
    if jax.process_count() > 1:
        raise ValueError("--sweep runs in one process")
    resources = _resources()

    def parse(name: str, text: str) -> Any:
        return settings_flags.parse(experiment.settings, name, text)

    variants = sweep.product(FLAGS.sweep, experiment, given, parse, resources)
    about = all_settings.described(given) | {"sweep": FLAGS.sweep}
    for variant in variants:
        about["sha256"] |= all_settings.described(variant.settings)["sha256"]

    def compute(work: workdir.Workdir) -> None:
        sweep.run(variants, experiment, work, resources)

    return compute, experiment.show_sweep or _show_sweep, about


def _show_sweep(work: workdir.Workdir) -> str:
    from fedgame.report import figures, text

    figures.show_sweep(work)
    return text.sweep(work)


def _again(program: str, folder: str) -> str:
    """The command that goes on with what this one did."""
    words = [word for word in sys.argv[1:] if word.lstrip("-").split("=")[0] not in ("overwrite", "resume")]
    words += [] if FLAGS.workdir else [f"--workdir={folder}"]
    return shlex.join(["python", "-m", program, *words, "--resume"])


def _join() -> None:
    """Joins the other processes, if there are any."""
    given = [FLAGS[name].value for name in _PROCESSES]
    if given == [None] * 3:
        return
    if None in given:
        raise ValueError("--coordinator, --num_processes and --process_id go together")
    if given[2] >= given[1]:
        raise ValueError(f"--process_id must be below --num_processes={given[1]}, got {given[2]}")
    waits = {"initialization_timeout": 60, "heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30}
    jax.distributed.initialize(*given, **waits)


def _open(folder: str, experiment: Experiment, about: dict[str, Any]) -> workdir.Workdir:
    """The first process opens the directory, the others wait for it; if that fails, it fails for all."""
    work, failure = workdir.Workdir(pathlib.Path(folder)), ""
    if several := jax.process_count() > 1:
        from jax.experimental import multihost_utils

        text = workdir.to_json(about | {"use": registry.used()}).encode()
        theirs = multihost_utils.process_allgather(np.asarray(zlib.crc32(text)))
        if np.any(theirs != theirs[0]):
            raise ValueError("the processes of a run must have the same settings and images")
    if jax.process_index() == 0:
        try:
            work = workdir.open_workdir(folder, experiment.program, about, FLAGS.resume, FLAGS.overwrite)
        except (ValueError, OSError) as error:
            failure = str(error)
    failed = bool(failure)
    if several:
        failed = bool(multihost_utils.broadcast_one_to_all(np.asarray(failed)))
    if failed:
        raise ValueError(failure or f"the first process could not open --workdir={folder}")
    if experiment.resources:
        work.save_every = FLAGS.save_every
    return work


def _leave(folder: object) -> None:
    """Exits without waiting for threads: what is to be kept is on disk."""
    _say(f"interrupted; go on with{f' --workdir={folder}' if folder else ''} --resume")
    os._exit(130)


def _say(text: str) -> None:
    os.write(2, f"\n{text}\n".encode())  # `print` may be what the signal interrupted


def _stop_gently(work: workdir.Workdir) -> None:
    """The first Ctrl-C lets training runs save their state, the second stops at once."""

    def stop(*_: object) -> None:
        if work.stop.is_set():
            _leave(work.path)
        work.stop.set()
        _say("saving; once more stops at once")

    with contextlib.suppress(ValueError):  # not in the main thread, as in a notebook
        signal.signal(signal.SIGINT, stop)
