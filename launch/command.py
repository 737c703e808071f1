"""The one `main` of all experiments: from flags to files, figures and a text; resumed, swept, interrupted."""

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
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from fedgame import registry
from fedgame.runs import settings as all_settings
from fedgame.runs import snapshots, sweep, workdir
from fedgame.runs.experiment import Experiment, Resources, described
from launch import settings_flags

FLAGS = flags.FLAGS
_PROCESSES = ("coordinator", "num_processes", "process_id")  # flags of runs of several processes


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
    if "data_dir" in experiment.resources:
        flags.DEFINE_string("data_dir", None, "where tensorflow-datasets keeps its data")
    if "workers" in experiment.resources:
        flags.DEFINE_integer("workers", None, "training runs at a time; one per processor", 1)
    if "cache" in experiment.resources:
        default = str(settings_flags.CACHE / "curves")
        flags.DEFINE_string("cache", default, "directory of accuracies measured earlier; empty: none")
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
            FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # argv[0] is what absl calls the script


def main(argv: list[str], experiment: Experiment) -> None:
    """Reads the flags, opens --workdir, computes, and prints the text.

    Exits with 1 if something cannot be run or a variant of a sweep fails. After an interrupt, training runs
    save their state, and it exits with 130.

    Args:
      argv: what absl left of the command line.
      experiment: what to run, alone or, with --sweep, at every value of a setting.
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
        plan = _sweep(experiment, given) if FLAGS.sweep else _single(experiment, given)
        work = _open(folder, experiment, plan.about)
        if experiment.resources:
            _stop_gently(work)
            # Not in this thread: while XLA computes in it, signals would wait.
            with futures.ThreadPoolExecutor(1) as background:
                running = background.submit(plan.compute, work)
                while not running.done():  # a signal just before a wait is heard only after it
                    futures.wait([running], timeout=1.0)
                running.result()
        else:
            plan.compute(work)
        if work.stop.is_set():
            raise snapshots.Interrupted
        report = plan.show(work) if jax.process_index() == 0 else ""
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
    """The resources that the flags name."""
    given = {name: FLAGS[name].value for name in Resources._fields if name in FLAGS}
    if "cache" in given:
        given["cache"] = pathlib.Path(given["cache"]).expanduser() if given["cache"] else None
    return Resources(**given)


class _Plan(NamedTuple):
    """How a run, or a sweep, is computed and shown."""

    compute: Callable[[workdir.Workdir], None]
    show: Callable[[workdir.Workdir], str]
    about: dict[str, Any]  # all that decides the results, as JSON values


def _single(experiment: Experiment, given: Any) -> _Plan:
    """The plan of one run with the given settings."""
    resources = _resources()
    prepared = experiment.prepare(given, resources)

    def compute(work: workdir.Workdir) -> None:
        experiment.compute(prepared, work, resources)

    return _Plan(compute, experiment.show, described(prepared))


def _sweep(experiment: Experiment, given: Any) -> _Plan:
    """The plan of a sweep; `given` are the settings before any is swept."""
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

    return _Plan(compute, experiment.show_sweep or _show_sweep, about)


def _show_sweep(work: workdir.Workdir) -> str:
    """Draws the usual figure of a sweep; returns the usual text."""
    from fedgame.report import figures, text

    figures.show_sweep(work)
    return text.sweep(work)


def _again(program: str, folder: str) -> str:
    """The command that goes on with the run of this one."""
    words = [word for word in sys.argv[1:] if word.lstrip("-").split("=")[0] not in ("overwrite", "resume")]
    if not FLAGS.workdir:
        words.append(f"--workdir={folder}")
    return shlex.join(["python", "-m", program, *words, "--resume"])


def _join() -> None:
    """Joins the other processes, if there are any.

    Raises:
      ValueError: some of the flags are missing, or contradict each other.
    """
    given = [FLAGS[name].value for name in _PROCESSES]
    if all(value is None for value in given):
        return
    if None in given:
        raise ValueError("--coordinator, --num_processes and --process_id go together")
    coordinator, processes, number = given
    if number >= processes:
        raise ValueError(f"--process_id must be below --num_processes={processes}, got {number}")
    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=processes,
        process_id=number,
        initialization_timeout=60,
        heartbeat_timeout_seconds=30,
        shutdown_timeout_seconds=30,
    )


def _open(folder: str, experiment: Experiment, about: dict[str, Any]) -> workdir.Workdir:
    """Opens --workdir in the first process; the others wait for it. If it fails there, it fails in all.

    Raises:
      ValueError: as `workdir.open_workdir`, or the processes have different settings or images.
    """
    work, failure = workdir.Workdir(pathlib.Path(folder)), ""
    several = jax.process_count() > 1
    if several:
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
    """Exits with 130 without waiting for threads: what is to be kept is on disk."""
    where = f" --workdir={folder}" if folder else ""
    _say(f"interrupted; go on with{where} --resume")
    os._exit(130)


def _say(text: str) -> None:
    """Prints on the standard error, also from a signal handler."""
    os.write(2, f"\n{text}\n".encode())  # `print` may be what the signal interrupted


def _stop_gently(work: workdir.Workdir) -> None:
    """From now on, the first Ctrl-C lets training runs save their state, and a second one stops at once."""

    def stop(*_: object) -> None:
        if work.stop.is_set():
            _leave(work.path)
        work.stop.set()
        _say("saving; once more stops at once")

    with contextlib.suppress(ValueError):  # outside of the main thread, handlers cannot be set
        signal.signal(signal.SIGINT, stop)
