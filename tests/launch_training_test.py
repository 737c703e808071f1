"""Real processes that train, killed and interrupted at all kinds of moments."""

import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fedgame.runs import snapshots

ROOT = pathlib.Path(__file__).parent.parent
TINY = ["--agents=3", "--capacity=12", "--epochs=1", "--channels=2,3", "--units=4", "--held_out=50"]
ROUNDS = 80
TRAIN = ["-m", "launch.train", *TINY, f"--rounds={ROUNDS}"]
COMPARE = [
    "-m", "launch.compare", *TINY, "--rounds=6", "--curve_points=4", "--curve_seeds=1", "--seeds=1",
    "--steps=20", "--workers=2", "--cache=", "--save_every=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def begin():
    """Starts a process."""
    started = []

    def start(*command):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:  # a test that fails leaves none behind
        process.kill()
        process.communicate()


def finish(process, code=0):
    out, errors = process.communicate(timeout=600)  # beside other work
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return out, errors


def wait_for(process, event):
    deadline = time.monotonic() + 600
    while not event():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(process):
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def rounds_kept(folder):
    return max((int(path.name) for path in folder.glob("*") if path.name.isdecimal()), default=0)


def everything(folder):
    """All files, but for the lock of the run and its two lists of them, which are made anew at each end."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name[0] != "."]
    return {f.relative_to(folder): f.read_bytes() for f in files if f.name not in ("README.md", "SHA256SUMS")}


def timeless(text):
    return [line for line in text.splitlines() if not re.match(r"seconds of training|\d+ s; ", line)]


def test_a_training_run_killed_again_and_again_ends_where_it_would_have(begin, tmp_path):
    started = time.monotonic()
    undisturbed, _ = finish(begin(*TRAIN, f"--workdir={tmp_path / 'undisturbed'}"))
    took = time.monotonic() - started
    resume = [*TRAIN, f"--workdir={tmp_path / 'run'}", "--resume"]
    command = [*resume, "--save_every=0"]
    kept = tmp_path / "run" / "checkpoints" / "training"
    rng = np.random.default_rng(0)

    process = begin(*command)
    time.sleep(rng.uniform(0, took / 2))  # at any moment: what the first run compiled, this one need not
    kill(process)
    before, process = rounds_kept(kept), begin(*command)
    wait_for(process, lambda: rounds_kept(kept) > before)
    time.sleep(rng.uniform(0, 0.3))  # while it trains
    kill(process)
    before, process = rounds_kept(kept), begin(*command)
    wait_for(process, lambda: rounds_kept(kept) > before and list(kept.glob("*.partial")))
    kill(process)  # while it writes
    assert rounds_kept(kept) >= before

    (snapshot,) = (path for path in kept.iterdir() if path.name == str(rounds_kept(kept)))
    largest = max((file for file in snapshot.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)
    whole = largest.read_bytes()
    largest.write_bytes(whole[: len(whole) // 2])
    damaged = everything(tmp_path / "run")
    _, errors = finish(begin(*command), code=1)
    assert f"error: the checkpoint {kept} cannot be read" in errors
    assert errors.strip().splitlines()[-1].endswith("delete it to begin this training run anew")
    assert everything(tmp_path / "run") == damaged
    largest.write_bytes(whole)

    before, process = rounds_kept(kept), begin(*command)
    wait_for(process, lambda: rounds_kept(kept) > before)
    process.send_signal(signal.SIGINT)
    _, errors = finish(process, code=130)
    assert f"go on with --workdir={tmp_path / 'run'} --resume" in errors
    assert before < rounds_kept(kept) < ROUNDS

    text, _ = finish(begin(*resume))
    assert text.splitlines()[:-1] == undisturbed.splitlines()[:-1]  # the last one has the time
    for name in ("rounds.csv", "holdings.csv", "rounds.png", "holdings.png"):
        found, expected = ((tmp_path / run / name).read_bytes() for run in ("run", "undisturbed"))
        assert found == expected
    found, expected = (snapshots.load_model(tmp_path / run / "model") for run in ("run", "undisturbed"))
    for layer, arrays in expected["params"].items():
        for name, array in arrays.items():
            assert found["params"][layer][name].tobytes() == array.tobytes()
    assert [path.name for path in kept.iterdir()] == [str(ROUNDS)]


HELD = """
from fedgame.runs import snapshots
from launch import compare, running
make = snapshots.snapshots
def held(folder, identity, every, stop, last=None):
    made = make(folder, identity, every, stop, last)
    def offer(number, state):
        if number == 5 and folder.match("checkpoints/{}"):
            print("holding\\n", end="", flush=True)  # whole: two runs may be held at once
            stop.wait(600)
        made.offer(number, state)
    return made._replace(offer=offer)
snapshots.snapshots = held
running.run(compare.main)
"""


def test_a_comparison_killed_in_the_curve_and_stopped_in_a_protocol_ends_where_it_would_have(begin, tmp_path):
    """A run is held in its fifth round: a signal then comes in time on a fast machine and on a busy one."""
    undisturbed, _ = finish(begin(*COMPARE, "--save_every=1e9", f"--workdir={tmp_path / 'undisturbed'}"))
    command = [*COMPARE, f"--workdir={tmp_path / 'run'}", "--resume"]
    kept = tmp_path / "run" / "checkpoints"

    def begin_and_hold(run):
        process = begin("-c", HELD.format(run), *command[2:])
        assert process.stdout.readline() == "holding\n", process.communicate()
        return process

    process = begin_and_hold("curve/*")
    kill(process)
    assert any(rounds_kept(run) == 4 for run in kept.glob("curve/*"))
    assert not (tmp_path / "run" / "curve.csv").exists()
    process = begin_and_hold("runs/0-MWFed*")
    process.send_signal(signal.SIGINT)
    _, errors = finish(process, code=130)
    assert "saving; once more stops at once" in errors
    assert [rounds_kept(run) for run in kept.glob("runs/0-MWFed*")] == [5]
    assert not (tmp_path / "run" / "runs.csv").exists()

    text, _ = finish(begin(*command))
    assert timeless(text) == timeless(undisturbed)
    tables = {file.name for file in (tmp_path / "undisturbed").glob("*.csv")} - {"timings.csv", "seconds.csv"}
    assert len(tables) > 5
    for name in tables:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not [path for path in kept.rglob("*") if path.is_file()]  # all done


def test_the_curve_by_itself_is_measured_once(begin, tmp_path):
    command = ["-m", "launch.curve", *TINY, "--rounds=2", "--sizes=6,12,36", "--curve_seeds=2"]
    command += [f"--cache={tmp_path / 'cache'}"]
    first, _ = finish(begin(*command, f"--workdir={tmp_path / 'first'}"))
    for words in ("| 36 ", "concave fit: root mean square error", "<- used"):
        assert words in first
    names = {file.name for file in (tmp_path / "first").iterdir()}
    assert {"curve.csv", "band.csv", "fits.json", "fitted_curves.csv", "curve.png", "timings.csv"} < names
    stored = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert len(stored) == 2 * 4
    again, _ = finish(begin(*command, f"--workdir={tmp_path / 'again'}"))
    assert again.splitlines()[:-1] == first.splitlines()[:-1]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()} == stored


SCRIPT = """
import dataclasses
import hashlib
import time
from fedgame.experiments import curve
from launch import command, running
def wait(*_):
    print("waiting", flush=True)
    for _ in range(1000):  # a signal that comes just before a sleep is heard only after it
        time.sleep(0.1)
def compute(*_):
    print("waiting", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # like XLA, hears no signal
def run(task, work, resources):
    print("waiting", flush=True)
    work.stop.wait(100)
prepare = curve.prepare
{}
experiment = dataclasses.replace(curve.EXPERIMENT, prepare=prepare, compute=run)
command.define(experiment)
running.run(lambda argv: command.main(argv, experiment))
"""


@pytest.mark.parametrize(
    ("change", "signals", "says"),
    [
        ("prepare = wait", 1, "interrupted; go on with --workdir="),  # nothing has begun
        ("run = compute", 2, "saving; once more stops at once\n\ninterrupted; go on with --workdir="),
        ("", 1, "saving; once more stops at once\n\ninterrupted; go on with --workdir="),  # as it finishes
    ],
)
def test_an_interrupt_at_any_time_exits_with_130(change, signals, says, begin, tmp_path):
    process = begin("-c", SCRIPT.format(change), f"--workdir={tmp_path / 'run'}")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    heard = ""
    if signals == 2:  # two that come before the first is heard are one
        while "saving; once more stops at once" not in heard:
            heard += process.stderr.readline()
        process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, errors = finish(process, code=130)
    assert time.monotonic() - sent < 20
    assert says + str(tmp_path / "run") in heard + errors
