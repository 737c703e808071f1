"""Sweeps as a user runs them: real processes, one of them killed."""

import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TINY = [
    "-m", "launch.compare", "--agents=3", "--capacity=12", "--rounds=2", "--epochs=1", "--channels=2,3",
    "--units=4", "--held_out=50", "--curve_points=4", "--curve_seeds=1", "--seeds=1", "--steps=20",
    "--protocol=fedavg,fedbr_bg", "--p=0.5,1", "--workers=2", "--cache=",
]  # fmt: skip
SWEEP = [*TINY, "--sweep=learning_rate=0.01,1e30", "--sweep=cost=0.02,0.01+0.02+0.03"]


@pytest.fixture(scope="module")
def begin():
    """Starts a process."""
    options = {"cwd": ROOT, "text": True}
    started = []

    def start(*command):
        command = [sys.executable, *map(str, command)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        started.append(process)
        return process

    yield start
    for process in started:  # a test that fails leaves none behind
        process.kill()


def finish(process, code):
    out, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return out, errors


def everything(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_killed_sweep_with_a_failing_variant_resumes_to_the_same_csv(begin, tmp_path):
    undisturbed, errors = finish(begin(*SWEEP, f"--workdir={tmp_path / 'undisturbed'}"), code=1)
    assert undisturbed.count("| 0.01+0.02+0.03 |") == 2
    assert "2 of 4 variants failed\nlearning_rate=1e30,cost=0.02: curve/" in undisturbed
    assert "training diverged" in undisturbed
    again = errors.strip().splitlines()[-1]
    assert again.startswith("python -m launch.compare --agents=3 ")
    assert again.endswith("/undisturbed --resume")

    run, deadline = tmp_path / "run", time.monotonic() + 120
    first, second = (run / "variants" / f"learning_rate=0.01,cost={c}" for c in ("0.02", "0.01+0.02+0.03"))
    process = begin(*SWEEP, f"--workdir={run}")
    while not list(second.glob("jobs/curve/*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (second / "welfare.csv").exists()
    done = everything(first)

    text, errors = finish(begin(*again.replace("/undisturbed", "/run").split()[1:]), code=1)
    numbers = [line.split(":")[0] for line in errors.splitlines() if " of 4: " in line]
    assert numbers == ["variant 2 of 4", "variant 3 of 4", "variant 4 of 4"]
    assert everything(first) == done
    assert [x for x in text.splitlines() if "|" in x] == [x for x in undisturbed.splitlines() if "|" in x]
    for name in ("welfare.csv", "runs.csv", "sweep.png"):
        assert (run / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()

    before = (second / "welfare.csv").read_bytes()
    text, _ = finish(begin(*TINY, "--cost=0.01,0.02,0.03", f"--workdir={second}", "--resume"), code=0)
    assert "FedBR-BG" in text  # a run like any other
    assert (second / "welfare.csv").read_bytes() == before


def test_a_sweep_that_cannot_run_leaves_nothing_behind(begin, tmp_path):
    _, errors = finish(begin(*TINY, "--sweep=beta=0.5,1.5", f"--workdir={tmp_path / 'run'}"), code=1)
    assert "error: --sweep, variant beta=1.5: --beta must be a number, at least 0 and at most 1" in errors
    assert not (tmp_path / "run").exists()
