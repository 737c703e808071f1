"""Runs the real commands on spoilt files and flags for some minutes, and checks what must always hold.

  python benchmarks/fuzz.py --minutes=5                   # make fuzz MINUTES=5
  python benchmarks/fuzz.py --minutes=5 --seed=N          # the same cases again; N is printed at the start
  python benchmarks/fuzz.py --minutes=5 --only=equilibrium   # bases whose command has this in it

A case is a base, a command that works, with up to three changes. It must end with exit code 0 or 1 in time,
without a traceback, and with a sentence if it fails. What it leaves must be complete JSON, finite where it is
called certified, within capacities and below --workdir; --resume must change nothing. Each way to fail is
shown once, with as few of its changes as still fail in that way, and kept with its files in a folder.
Milder, shown but no failure: warnings of libraries, waiting for a named pipe, long work that was asked for.

Commands run in processes forked from one that has imported everything and computed nothing: 1 s instead of 8.
"""

import argparse
import collections
import contextlib
import csv
import ctypes
import functools
import gc
import hashlib
import importlib
import io
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import pkgutil
import re
import resource
import runpy
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import tqdm

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported: threads would not survive a fork
import fuzz_cases as cases

ROOT = pathlib.Path(__file__).parent.parent
SECONDS = 60  # of its processor time that a command may take
ASLEEP = 10  # seconds that it may wait for something
MEMORY = 4e9  # bytes that it may hold
LINES = 15  # of a message
MILD = ("warning", "asked for much", "waits for a pipe")
TIMES = r"(?:timings|config)\.|/jobs/|seconds"  # files that --resume may write anew
LIBRARIES = (
    *("pandas", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "sklearn.datasets", "scipy.stats"),
    *("PIL.Image", "orbax.checkpoint", "tensorflow_datasets", "jax.experimental.multihost_utils"),
)


class Ended(NamedTuple):
    """How a command ended."""

    code: int  # negative: the signal that killed it
    output: str
    errors: str
    stopped: str  # "hangs" or "memory" if the limit was passed, else ""


class Finding(NamedTuple):
    """One way to fail."""

    kind: str
    where: str  # what tells it from others of the kind
    about: str


# One command


def ready(scratch: pathlib.Path) -> None:
    """Imports all that commands import, computes nothing, and has caches of results below a folder."""
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_of_fuzz"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1",
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "HOME": str(scratch),
    }
    sys.path.insert(0, str(ROOT))
    import fedgame

    for module in pkgutil.walk_packages(fedgame.__path__, "fedgame."):
        if module.name != "fedgame.federation.flare":  # needs NVFlare
            importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # what is there already is never garbage in the processes to come


def write(case: cases.Case, folder: pathlib.Path) -> None:
    """Writes the files of a case."""
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for name, kind in case.special.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "directory":
            file.mkdir()
        elif kind == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("missing" if kind == "dangling" else file.name)


def run(words: tuple[str, ...], folder: pathlib.Path, platform: str = "cpu") -> Ended:
    """Runs a command in a process forked from this one, with a folder as its working directory."""
    captured = [folder.with_name(f"{folder.name}.{name}") for name in ("stdout", "stderr")]
    child = os.fork()
    if not child:
        _be(words, folder, platform, captured)
    stopped, worked, awake = "", 0.0, time.monotonic()
    try:
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and not stopped:
            time.sleep(0.05)
            seconds, memory = _used(child)
            if seconds > worked + 0.1:
                worked, awake = seconds, time.monotonic()
            if seconds > SECONDS or time.monotonic() - awake > ASLEEP:
                stopped = "hangs"
            elif memory > MEMORY:
                stopped = "memory"
    finally:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # and what it started
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    output, errors = (file.read_text(encoding="utf-8", errors="replace") for file in captured)
    return Ended(os.waitstatus_to_exitcode(status), output, errors, stopped)


def _be(words: tuple[str, ...], folder: pathlib.Path, platform: str, captured: list[pathlib.Path]) -> None:
    """Is the command from here on: runs it as `python -m` does, and ends the process."""
    code = 1
    try:
        end_with_parent()
        os.setsid()
        for number, file in enumerate([os.devnull, *map(str, captured)]):
            os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        if platform != "cpu":
            os.environ["JAX_PLATFORMS"] = platform
            sys.modules["jax"].config.update("jax_platforms", platform)
        sys.argv = [f"launch.{words[0]}", *words[1:]]
        runpy.run_module(f"launch.{words[0]}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _used(process: int) -> tuple[float, float]:
    """Seconds of processor time that a process has taken, and bytes that it holds in memory."""
    try:
        words = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    ticks, pages = int(words[11]) + int(words[12]), int(words[21])  # utime, stime and rss of proc(5)
    return ticks / os.sysconf("SC_CLK_TCK"), pages * float(os.sysconf("SC_PAGE_SIZE"))


def end_with_parent() -> None:
    """Has this process killed when the one that started it is."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# What must hold


def findings(case: cases.Case, much: bool, folder: pathlib.Path, again: bool) -> tuple[int, list[Finding]]:
    """Runs a case in an empty folder; returns its exit code, and what does not hold.

    Args:
      case: what to run.
      much: whether its changes may have asked for a long computation.
      folder: does not exist yet.
      again: whether to run a command that succeeds once more, with --resume.
    """
    folder.mkdir(parents=True)
    write(case, folder)
    before = digests(folder)
    ended = run(case.words, folder, case.platform)
    if ended.stopped:
        kind = "asked for much" if much else ended.stopped
        kind = "waits for a pipe" if "pipe" in case.special.values() else kind
        found = [Finding(kind, case.words[0], f"{ended.stopped}: {ended.errors[-200:]}")]
    else:
        found = list(of_end(ended))
    found += of_others(case.words, before, digests(folder))
    if not ended.stopped:
        found += of_files(folder, ended.code == 0, set(before))
    if again and ended.code == 0 and not found and (folder / "out" / "config.json").exists():
        found += of_resume(case, folder)
    return ended.code, found


def of_end(ended: Ended) -> Iterator[Finding]:
    """What does not hold of how a command ended and what it printed."""
    lines = [line.split("\r")[-1] for line in ended.errors.strip().split("\n")]
    if kept := re.search(r"this was not foreseen; where it came from is in (\S+)", ended.errors):
        yield Finding("traceback", *_frame(pathlib.Path(kept[1]).read_text(encoding="utf-8")))
        return
    if "Traceback (most recent call last)" in ended.errors + ended.output:
        yield Finding("traceback", *_frame(ended.errors + ended.output))
        return
    if ended.code not in (0, 1):
        yield Finding("exit code", str(ended.code), " ".join(lines[-2:])[-300:])
    starts = [i for i, line in enumerate(lines) if re.search(r"^\s*(error: |FATAL Flags)", line)]
    if ended.code == 1 and not starts:
        yield Finding("no sentence", _plain(lines[-1]), lines[-1][:300])
    if starts and len(lines) - starts[-1] > LINES:
        yield Finding(
            "long message",
            _plain(lines[starts[-1]]),
            f"{len(lines) - starts[-1]} lines: {lines[starts[-1]]}"[:300],
        )
    for found in re.finditer(r"([^\s:]+\.py):\d+: (\w*Warning): (.*)", ended.errors):
        yield Finding(
            "warning", f"{pathlib.Path(found[1]).name} {found[2]} {_plain(found[3])}", found[0][-300:]
        )


def of_others(words: tuple[str, ...], before: dict[str, str], after: dict[str, str]) -> Iterator[Finding]:
    """Whether files have changed, by their digests, that a command was not told to write."""
    told = re.findall(
        r"^--?(?:workdir|out|export|statistics|data_dir|cache)[=\n]([^\n/]*)", "\n".join(words), re.MULTILINE
    )
    told += [x.replace(".json", ".npz") for x in told]  # of launch.member, beside the first
    own = {
        *told,
        "member.json",
        "member.npz",
        "results",
        "docs",
        "examples",
        *(words[1:] if words[0] == "report" else ()),
    }
    changed = [x for x in before | after if before.get(x) != after.get(x) and x.split("/")[0] not in own]
    if changed and not {"~", ".", ""} & own:
        yield Finding("outside", pathlib.PurePath(changed[0]).suffix, f"changed {changed[0]!a}")


def _frame(text: str) -> tuple[str, str]:
    """The last frame of fedgame in a traceback, with the error, and the error's line."""
    frames = re.findall(r'File "[^"]*/((?:fedgame|launch)/[^"]+)", line (\d+), in (\w+)', text)
    errors = re.findall(r"^(\w[\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b.*)", text, re.MULTILINE)
    error = errors[-1] if errors else text.strip().split("\n")[-1]
    file, line, function = frames[-1] if frames else ("?", "?", "?")
    return f"{file} {function} {error.split(':')[0]}", f"{file}:{line} in {function}: {error[:300]}"


def _plain(line: str) -> str:
    """A line without what differs from case to case: numbers and quoted names."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|[\d.]+|\S*/\S*", "_", line)[:60]


def of_files(folder: pathlib.Path, finished: bool, given: set[str]) -> Iterator[Finding]:
    """What does not hold of the files that a command left."""
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if name in given or not file.is_file() or "prepared" in name:
            continue
        if name.endswith(".partial"):
            yield Finding("partial", _plain(file.name), name)
        objects: list[Any] = []
        try:
            if finished and file.suffix == ".json":
                objects = list(_objects(json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)))
            elif finished and file.suffix == ".csv":
                objects = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
        except (ValueError, csv.Error) as error:
            yield Finding("unreadable", file.name, f"{name}: {error}")
        for one in objects:
            if what := wrong(one, file.name):
                yield Finding("result", f"{file.name} {what.split(':')[0]}", f"{name}: {what}")
                break


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(part)


def wrong(one: dict[str, Any], file: str) -> str:
    """What is wrong with an object or a row of the results; "" if nothing is."""
    flat = {key: x for key, x in one.items() if isinstance(x, str | int | float)}
    lists = {key: x for key, value in one.items() if isinstance(value, list) for x in value}
    if any(str(one.get(key)).lower() == "true" for key in ("converged", "certified")):
        for key, value in (flat | lists).items():
            if str(value).lower() in ("nan", "inf", "-inf") and key not in ("name", "agent"):
                return f"certified with {key} not finite: {value}"
    if not math.isfinite(_number(one.get("nash_gap"))):
        return f"nash_gap not finite: {one['nash_gap']}"
    if file == "outcome.csv" and "contribution" in one:
        contribution, capacity = _number(one["contribution"]), _number(one["capacity"])
        if not -1e-12 * capacity <= contribution <= capacity * (1 + 1e-12):
            return f"contribution beyond capacity: {contribution} of {capacity}"
    return ""


def _number(value: Any) -> float:
    """The number of a cell; 0 if it is empty or no number."""
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def of_resume(case: cases.Case, folder: pathlib.Path) -> list[Finding]:
    """What does not hold of the same command with --resume."""
    before = digests(folder)
    words = tuple(word for word in case.words if word.split("=")[0] not in ("--overwrite", "--resume"))
    ended = run((words[0], "--resume", *words[1:]), folder, case.platform)  # nothing after -- is a flag
    if ended.code or ended.stopped:
        return [Finding("resume", f"exit code {ended.code}", ended.errors.strip()[-300:])]
    after = digests(folder)
    for name in sorted(before | after):
        compared = name.endswith((".csv", ".json")) and not re.search(TIMES, name)
        if compared and before.get(name) != after.get(name):
            return [Finding("resume", pathlib.PurePath(name).name, f"{name} has changed")]
    return []


def digests(folder: pathlib.Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path; of what is no file, "other"."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        if file.is_file()
        else "other"
        for file in folder.rglob("*")
        if not file.is_dir() or file.is_symlink()
    }


# Many cases


class Worker:
    """Draws and runs cases until the time is up, and tells the first process of them by a queue."""

    def __init__(self, given: argparse.Namespace, number: int, bases: list[cases.Case], queue: Any):
        self.given, self.number, self.bases, self.queue = given, number, bases, queue
        self.scratch = given.scratch / str(number)
        self.end = time.monotonic() + 60 * given.minutes
        self.seen: set[str] = set()

    def work(self) -> None:
        """Runs cases until the time is up."""
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends, and this one with it
        import hypothesis
        from hypothesis import strategies as st

        drawn = st.sampled_from(self.bases).flatmap(lambda of: st.tuples(st.just(of), cases.changes(of)))
        kept = {"database": None, "deadline": None, "phases": [hypothesis.Phase.generate], "max_examples": 20}
        kept["suppress_health_check"] = list(hypothesis.HealthCheck)
        try:
            for turn in itertools.count():
                if time.monotonic() > self.end:
                    break
                seed = f"{self.given.seed}-{self.number}-{turn}"
                draw = hypothesis.settings(**kept)(hypothesis.given(drawn)(self.try_one))
                hypothesis.seed(seed)(draw)()
        finally:
            self.queue.put(None)

    def try_one(self, drawn: tuple[cases.Case, list[cases.Change]]) -> None:
        """Runs a case, and what it finds that is new again, with fewer changes."""
        of, changes = drawn
        told = " ".join([*of.words, *map(str, changes)])
        if told in self.seen or time.monotonic() > self.end:
            return
        self.seen.add(told)
        begin = time.monotonic()
        code, found = self.run(of, changes)
        seconds = time.monotonic() - begin
        for one in found:
            place = self.given.out / _slug(one)
            with contextlib.suppress(FileExistsError):  # the other worker has it, or an earlier case
                place.mkdir(parents=True)
                self.keep(one, of, self.reduced(one, of, changes), place)
        with (self.given.out / f"cases_{self.number}.txt").open("a", encoding="ascii") as file:
            print(code, f"{seconds:.1f} s", ascii(told), file=file)
        self.queue.put(code)

    def run(self, of: cases.Case, changes: list[cases.Change]) -> tuple[int, list[Finding]]:
        """The exit code of a base with its changes, and what is found."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        case = functools.reduce(lambda case, change: change.apply(case), changes, of)
        _, amounts = cases.names_of_flags(of.words[0])
        long = of.words[0] in ("curve", "train", "compare", "measure", "example", "study")  # by default
        flags = [change for change in changes if change.function in (cases.flag, cases.without)]
        much = any(long or change.drawn[0] in amounts for change in flags)
        return findings(case, much, self.scratch / "case", len(self.seen) % 10 == 0)

    def reduced(self, one: Finding, of: cases.Case, changes: list[cases.Change]) -> list[cases.Change]:
        """As few of the changes as have the same finding."""
        for size in range(1, len(changes)):
            for some in itertools.combinations(changes, size):
                if any(_slug(x) == _slug(one) for x in self.run(of, list(some))[1]):
                    return list(some)
        return changes

    def keep(self, one: Finding, of: cases.Case, changes: list[cases.Change], place: pathlib.Path) -> None:
        """Writes a finding with all that repeats it, and tells of it."""
        case = functools.reduce(lambda case, change: change.apply(case), changes, of)
        _, found = self.run(of, changes)
        about = next((x.about for x in found if _slug(x) == _slug(one)), one.about + " (not always)")
        write(case, place / "files")
        platform = f"JAX_PLATFORMS={case.platform} " if case.platform != "cpu" else ""
        words = shlex.join(["python", "-m", f"launch.{case.words[0]}", *case.words[1:]])
        command = f"cd {place / 'files'} && PYTHONPATH={ROOT} {platform}{words}"
        told = [f"{one.kind}: {one.where}", about, *map(str, changes), command]
        (place / "finding.txt").write_text("\n".join(told) + "\n", encoding="utf-8", errors="surrogateescape")
        for name in ("stdout", "stderr"):
            shutil.copy(self.scratch / f"case.{name}", place / name)
        self.queue.put((one.kind, "\n  ".join(told).encode("ascii", "backslashreplace").decode()))


def _slug(one: Finding) -> str:
    """The name of a finding's folder, the same for all of its like."""
    return re.sub(r"\W+", "-", f"{one.kind} {one.where}").strip("-")[:100]


def made(scratch: pathlib.Path) -> dict[str, bytes]:
    """The files of the bases, with those that commands make."""
    found = cases.files()
    for folder, words in cases.MADE.items():
        place = scratch / "made" / folder
        place.mkdir(parents=True)
        write(cases.base(words, found), place)
        ended = run(tuple(shlex.split(words)), place)
        if ended.code:
            sys.exit(f"error: {words} ends with {ended.code}: {ended.errors[-2000:]}")
        files = [file for file in (place / folder).rglob("*") if file.is_file()]
        found |= {str(file.relative_to(place)): file.read_bytes() for file in files}
    found["scenario.json"] = found["scenario/scenario.json"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="bases whose command has this in it")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results" / "fuzz", help="for findings")
    given = parser.parse_args()
    given.out = given.out.resolve() / f"seed_{given.seed}"
    print(f"--seed={given.seed}; findings are kept in {given.out}", flush=True)
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    codes: collections.Counter[int] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        given.scratch = pathlib.Path(temporary)
        ready(given.scratch)
        found = made(given.scratch)
        bases = [cases.base(words, found) for words in cases.BASES if given.only in words]
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        workers = [context.Process(target=Worker(given, k, bases, queue).work) for k in range(2)]
        for worker in workers:
            worker.start()
        try:
            watch(queue, len(workers), codes, kinds)
        except KeyboardInterrupt:
            print("\ninterrupted")
            for worker in workers:
                worker.kill()
        for worker in workers:
            worker.join()
    ran = sum(codes.values())
    print(f"{ran} cases, {ran / given.minutes:.0f} a minute; by exit code: {dict(codes)}")
    print(f"found: {dict(kinds) or 'nothing'}")
    sys.exit(1 if set(kinds) - set(MILD) or any(worker.exitcode for worker in workers) else 0)


def watch(queue: Any, workers: int, codes: collections.Counter[int], kinds: collections.Counter[str]) -> None:
    """Shows what workers tell until all are done; counts cases by exit code, and findings by kind."""
    with tqdm.tqdm(desc="cases", unit="") as bar:
        while workers:
            told = queue.get()
            if told is None:
                workers -= 1
            elif isinstance(told, int):
                codes[told] += 1
                bar.update()
            else:
                kinds[told[0]] += 1
                bar.write(told[1] + "\n")


if __name__ == "__main__":
    main()
