"""The one `main` of all experiments: from flags to files, figures and a text; resumed and swept."""

import gc
import os
import pathlib
import shlex
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from fedgame import registry
from fedgame.runs import settings as all_settings
from fedgame.runs import snapshots, sweep, workdir
from fedgame.runs.experiment import Experiment, Resources, described
from launch import CACHE, running, settings_flags

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
        default = str(CACHE / "curves")
        flags.DEFINE_string("cache", default, "directory of accuracies measured earlier; empty: none")
    if "tensorboard" in experiment.resources:
        about = "write the accuracy by round to WORKDIR/tensorboard; needs pip install 'fedgame[tensorboard]'"
        flags.DEFINE_bool("tensorboard", False, about)
    if "simulate" in experiment.resources:
        about = "members are processes of NVFlare's simulator; needs pip install 'fedgame[federation]'"
        flags.DEFINE_bool("simulate", False, about)
        about = "members are sites of NVFlare on this machine, with a server and certificates"
        flags.DEFINE_bool("poc", False, about)
        about = (
            "how members on machines of their own reach this one, whose server it is: makes their kits, and "
            "waits for them; they take part by launch.member. Needs --like and --scenario, and no data"
        )
        flags.DEFINE_string("server", None, about)
        about = "seconds until a member's answer counts as missing"
        flags.DEFINE_float("patience", Resources().patience, about, 1.0)
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

    Exits with 1 if a variant of a sweep fails; `running.run` turns other errors into sentences.

    Args:
      argv: what absl left of the command line.
      experiment: what to run, alone or, with --sweep, at every value of a setting.
    """
    begin = time.perf_counter()
    settings_flags.start(argv)
    if experiment.processes:
        settings_flags.use_processors(FLAGS.devices)
        _join()
    settings_flags.check_devices()
    given = settings_flags.read(experiment.settings)
    folder = FLAGS.workdir or experiment.results(given) + ("_sweep" if FLAGS.sweep else "")
    folder = os.path.expanduser(folder)
    running.results_in(folder)
    if jax.process_count() == 1:  # of several, the first may have opened it already
        workdir.check_workdir(folder, experiment.program, FLAGS.resume, FLAGS.overwrite)
    plan = _sweep(experiment, given) if FLAGS.sweep else _single(experiment, given)
    with _open(folder, experiment, plan) as work:
        if experiment.resources:
            work.save_every = FLAGS.save_every
            running.save_at_signals(work)
        plan.compute(work)
        if work.stop.is_set():
            raise snapshots.Interrupted
        report = plan.show(work) if jax.process_index() == 0 else ""
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
    if given.get("data_dir"):
        given["data_dir"] = os.path.expanduser(given["data_dir"])
    return Resources(**given)


class _Plan(NamedTuple):
    """How a run, or a sweep, is computed and shown."""

    compute: Callable[[workdir.Workdir], None]
    show: Callable[[workdir.Workdir], str]
    about: dict[str, Any]  # all that decides the results, as JSON values
    reads: list[pathlib.Path]  # files and folders that are read


def _single(experiment: Experiment, given: Any) -> _Plan:
    """The plan of one run with the given settings."""
    resources = _resources()
    prepared = experiment.prepare(given, resources)

    def compute(work: workdir.Workdir) -> None:
        experiment.compute(prepared, work, resources)

    return _Plan(compute, experiment.show, described(prepared), all_settings.reads(prepared.settings))


def _sweep(experiment: Experiment, given: Any) -> _Plan:
    """The plan of a sweep; `given` are the settings before any is swept."""
    if jax.process_count() > 1:
        raise ValueError("--sweep runs in one process")
    resources = _resources()

    def parse(name: str, text: str) -> Any:
        return settings_flags.parse(experiment.settings, name, text)

    variants = sweep.product(FLAGS.sweep, experiment, given, parse, resources)
    about = all_settings.described(given) | {"sweep": FLAGS.sweep}
    reads = all_settings.reads(given)
    for variant in variants:
        about["sha256"] |= all_settings.described(variant.settings)["sha256"]
        reads += all_settings.reads(variant.settings)

    def compute(work: workdir.Workdir) -> None:
        sweep.run(variants, experiment, work, resources)

    return _Plan(compute, experiment.show_sweep or _show_sweep, about, reads)


def _show_sweep(work: workdir.Workdir) -> str:
    """Draws the usual figure of a sweep; returns the usual text."""
    from fedgame.report import figures, page, text

    figures.show_sweep(work)
    return page.write(work, text.sweep(work))


def _again(program: str, folder: str) -> str:
    """The command that goes on with the run of this one."""
    where = [] if FLAGS.workdir else [f"--workdir={folder}"]
    return shlex.join(["python", "-m", program, *_words("overwrite", "resume"), *where, "--resume"])


def _words(*without: str) -> list[str]:
    """The flags as they were given, but for some of them."""
    return [word for word in sys.argv[1:] if word.lstrip("-").split("=")[0] not in without]


def _command(program: str) -> str:
    """The command that makes the same results, wherever it writes them."""
    kept, words = [], iter(_words("overwrite", "resume"))
    for word in words:
        if word.lstrip("-").split("=")[0] != "workdir":
            kept.append(word)
        elif "=" not in word:
            next(words, None)  # the folder is a word of its own
    return shlex.join(["python", "-m", program, *kept])


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
    running.tell_if_jax_aborts()
    # JAX's own handler of SIGTERM would keep ours from being told.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=processes,
        process_id=number,
        initialization_timeout=60,
        heartbeat_timeout_seconds=30,
        shutdown_timeout_seconds=30,
    )


def _open(folder: str, experiment: Experiment, plan: _Plan) -> workdir.Workdir:
    """Opens --workdir in the first process; the others wait for it. If it fails there, it fails in all.

    Raises:
      ValueError: as `workdir.open_workdir`, or the processes have different settings or images.
    """

    def opened() -> workdir.Workdir:
        given = plan.about, FLAGS.resume, FLAGS.overwrite, plan.reads, _command(experiment.program)
        return workdir.open_workdir(folder, experiment.program, *given)

    if jax.process_count() == 1:
        return opened()
    from jax.experimental import multihost_utils

    text = workdir.to_json(plan.about | {"use": registry.used()}).encode()
    theirs = multihost_utils.process_allgather(np.asarray(zlib.crc32(text)))
    if np.any(theirs != theirs[0]):
        raise ValueError("the processes of a run must have the same settings and images")
    work, failure = None, ""
    if jax.process_index() == 0:
        try:
            work = opened()
        except (ValueError, OSError) as error:
            failure = running.sentence(error)
    if bool(multihost_utils.broadcast_one_to_all(np.asarray(bool(failure)))):
        raise ValueError(failure or f"the first process could not open --workdir={folder}")
    return work or workdir.Workdir(pathlib.Path(folder))
