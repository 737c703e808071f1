"""Who carries the messages of a federation: functions of this process, NVFlare's simulator, or its sites.

NVFlare runs in a process of its own (`flare`), and a job of it dies with any of its parts. So jobs are
disposable: `carry` starts them until the ledger says that the run is over.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import jax

from fedgame import registry
from fedgame.federation import conduct, kits, member, processes
from fedgame.federation.ledger import FILE, Ledger
from fedgame.runs.experiment import Resources

PLAN, LOG = "plan.json", "server.log"  # below the folder of a federation
JOB = "job.json"  # likewise: which job of NVFlare runs, in which process of the server, and how it ended
USE = "FEDGAME_USE"  # in the environment: files that processes of NVFlare import, as by --use
_POLL = 0.3  # seconds between looks at the ledger
_PAUSE = 2.0  # seconds between jobs
_VAIN = 3  # jobs in a row that settle nothing, after which nobody is waited for any more

Watch = Callable[[Ledger], None]  # is called every now and then; may raise, and so stop everything


def check(resources: Resources) -> None:
    """Raises a `ValueError` if NVFlare is asked for and not there, or in two ways."""
    asked = [name for name in ("simulate", "poc", "server") if getattr(resources, name)]
    if len(asked) > 1:
        raise ValueError(f"--{asked[0]} and --{asked[1]} exclude each other")
    if asked and importlib.util.find_spec("nvflare") is None:
        raise ValueError(f'--{asked[0]} needs NVFlare: pip install "fedgame[federation]"')


def carry(federation: conduct.Federation, folder: pathlib.Path, resources: Resources, watch: Watch) -> None:
    """Runs a federation to its end, or goes on with it.

    Args:
      federation: before anybody has enrolled.
      folder: of the ledger, with what each member has in `members/site-1.json` and so on.
      resources: says who carries messages, and how long an answer is waited for.
      watch: see `Watch`.

    Raises:
      ValueError: nobody answers, or the run waits in vain, or what members declare makes no game.
    """
    ledger = Ledger(folder / FILE, create=True)
    plan = {"federation": federation.to_dict(), "sites": sites_of(federation)}
    (folder / PLAN).write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    if resources.simulate or resources.poc or resources.server:
        _by_jobs(folder, ledger, plan["sites"], resources, watch)
    else:
        _here(federation, folder, ledger, watch)


def sites_of(federation: conduct.Federation) -> dict[str, str]:
    """What NVFlare calls the site of each member: names of members may be no names of sites."""
    return {name: f"site-{i + 1}" for i, name in enumerate(federation.names)}


def logging_to(file: pathlib.Path) -> Callable[[str], None]:
    """A function that appends sentences to a file, with the time."""

    def tell(sentence: str) -> None:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {sentence}\n")

    return tell


def _here(federation: conduct.Federation, folder: pathlib.Path, ledger: Ledger, watch: Watch) -> None:
    """Members are functions of this process."""
    sites = {}
    for name, site in sites_of(federation).items():
        file = folder / "members" / f"{site}.json"
        sites[name] = member.Site(member.load(file), logging_to(file.with_suffix(".log")))
    events = conduct.Events(
        logging_to(folder / LOG), lambda: watch(ledger), lambda number, lines: watch(ledger)
    )
    try:
        conduct.run(federation, ledger, conduct.InProcess(sites), events)
    except conduct.Missing as missing:
        raise ValueError(f"{missing}; what was settled is kept, and --resume goes on") from None


def _by_jobs(
    folder: pathlib.Path, ledger: Ledger, sites: Mapping[str, str], resources: Resources, watch: Watch
) -> None:
    """Has NVFlare carry messages, in its simulator or between sites."""
    for mark in (processes.marked(folder), processes.marked(folder / "kits")):
        processes.end_all(mark)  # of a run that was killed
    if ledger.finished:
        return
    used = os.pathsep.join(str(pathlib.Path(file).absolute()) for file in registry.used())
    environment = dict(os.environ) | _cache() | {USE: used}
    if resources.simulate:
        _jobs(folder, ledger, ["simulate", str(folder), str(resources.patience)], environment, watch)
        return
    with kits.running(folder, list(sites.values()), environment, resources.server) as made:
        if resources.server is not None:
            for name, site in sites.items():
                logging_to(folder / LOG)(f"the kit of {name} is {made / site}")
        arguments = ["submit", str(folder), str(resources.patience), str(made / kits.ADMIN)]
        # Members on machines of their own come when they come: their server waits until somebody stops it.
        _jobs(folder, ledger, arguments, environment, watch, _VAIN if resources.server is None else None)


def _jobs(
    folder: pathlib.Path,
    ledger: Ledger,
    arguments: list[str],
    environment: dict[str, str],
    watch: Watch,
    most: int | None = _VAIN,
) -> None:
    """Starts jobs of NVFlare until the run is over, or `most` of them in a row have settled nothing."""
    tell, vain, mark = logging_to(folder / LOG), 0, processes.marked(folder)
    command = [sys.executable, "-m", "fedgame.federation.flare", *arguments]
    (folder / JOB).unlink(missing_ok=True)  # of an earlier run
    try:
        while not ledger.finished:
            before = ledger.head
            with (folder / "nvflare.log").open("ab") as log:
                job = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment | mark
                )
            while job.poll() is None:
                watch(ledger)
                time.sleep(_POLL)
            processes.end_all(mark)
            watch(ledger)
            if ledger.finished:
                return
            if wrong := _wrong(folder / JOB):
                raise ValueError(f"{wrong}. What was settled is kept, and --resume goes on")
            vain = vain + 1 if ledger.head == before else 0
            if vain == most:
                raise ValueError(
                    f"{most} jobs in a row have settled nothing: {_last_line(folder / LOG)}; NVFlare's "
                    f"own messages are in {folder / 'nvflare.log'}. If members are only slow to start, as "
                    "many on one machine are, a larger --patience helps. What was settled is kept, and "
                    "--resume goes on"
                )
            if vain == 0:
                tell(f"a job has ended after round {ledger.settled}; another one goes on")
            time.sleep(_PAUSE)
    finally:
        processes.end_all(mark)


def _wrong(job: pathlib.Path) -> str:
    """What was wrong with a job, so that the next one would fail as it did; "" if nothing was."""
    return json.loads(job.read_text(encoding="utf-8")).get("wrong", "") if job.exists() else ""


def _cache() -> dict[str, str]:
    """Has other processes keep compiled programs where this one does."""
    if not jax.config.jax_compilation_cache_dir:
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def _last_line(file: pathlib.Path) -> str:
    """What the server said last, without the time."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return lines[-1].partition("  ")[2] if lines else "it said nothing"
