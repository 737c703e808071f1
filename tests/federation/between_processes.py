"""A federation between real processes, with a kill: `make test-federation`, which installs NVFlare."""

import csv
import pathlib
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
FLAGS = ["--rounds=6", "--model=linear", "--protocol=fedbr(falkinger, steps=10)"]


def settled(folder):
    with (folder / "settled.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    line = [sys.executable, "-m", "launch.federation", f"--workdir={folder}", *FLAGS]
    subprocess.run(line, cwd=ROOT, check=True)
    return settled(folder)


def test_the_simulator_settles_the_same_as_one_process(in_one_process, tmp_path):
    line = [sys.executable, "-m", "launch.federation", f"--workdir={tmp_path / 'run'}", *FLAGS, "--simulate"]
    subprocess.run(line, cwd=ROOT, check=True)
    assert settled(tmp_path / "run") == in_one_process


def test_sites_with_certificates_survive_the_death_of_a_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    faults = runpy.run_path(str(ROOT / "benchmarks" / "federation_faults.py"))
    faults["FLAGS"][:] = ["--poc", "--patience=30", *FLAGS]
    code = faults["run"](tmp_path / "run", "worker", 2, "site-2", 0.1)
    monkeypatch.setitem(faults["faults_of"].__globals__, "ROUNDS", 6)
    assert faults["faults_of"](tmp_path / "run" / "federation", code) == []
    assert faults["jobs_of"](tmp_path / "run" / "federation") == 2
    rounds = {row["name"]: int(row["rounds"]) for row in settled(tmp_path / "run")}
    assert rounds.pop("2") >= 5  # she misses at most the round in which she died
    assert set(rounds.values()) == {6}
