"""The launch scripts as a user runs them."""

import csv
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from fedgame.experiments import config

ROOT = pathlib.Path(__file__).parent.parent
TINY = [
    "--agents=3", "--capacity=12", "--rounds=2", "--epochs=1", "--channels=2,3", "--units=4",
    "--curve_points=4", "--curve_seeds=2", "--seeds=2", "--held_out=50", "--workers=2",
]  # fmt: skip
RESULTS = ["agents", "contributions", "curve", "fitted_curve", "runs", "table1"]


def command(*flags):
    return [sys.executable, "-m", "launch.compare", *TINY, *map(str, flags)]


def compare(*flags):
    return subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True, check=False)


def bytes_of(workdir):
    return {name: (workdir / f"{name}.csv").read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("compare") / "run"
    done = compare(f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_the_main_job_prints_table_1_and_leaves_tables_and_figures(finished):
    workdir, done = finished
    for word in ("FedAvg", "MWFed", "FedBR", "FedBR-BG", "p = 0.2", "p = 1", "Nash gap", "Σ payments"):
        assert word in done.stdout
    assert "Unable to initialize" not in done.stderr  # nor any other library's talk
    for stage in ("measuring the accuracy curve", "best-response dynamics", "training", "tables and figures"):
        assert stage in done.stderr
    table = json.loads((workdir / "table1.json").read_text())
    assert len(table) == 4 * 5 * 2
    runs = list(csv.DictReader((workdir / "runs.csv").read_text().splitlines()))
    assert len(runs) == 4 * 2
    for run in runs:
        assert abs(float(run["sum_of_payments"])) < 1e-15
        assert float(run["charged"]) <= 3 * 12
        assert float(run["nash_gap"]) >= 0
        assert run["protocol"] not in ("FedBR", "FedBR-BG") or float(run["nash_gap"]) < 1e-6
    assert {float(row["charged"]) for row in runs if row["protocol"] == "FedAvg"} == {36.0}
    for name in ("curve", "contributions", "welfare"):
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(workdir.rglob("*.partial"))


def test_killed_and_resumed_gives_the_bytes_of_an_undisturbed_run(finished, tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command(f"--workdir={workdir}"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(workdir.glob("pieces/curve/*.json")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {file: file.stat().st_mtime_ns for file in workdir.glob("pieces/**/*.json")}
    resumed = compare(f"--workdir={workdir}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert bytes_of(workdir) == bytes_of(finished[0])


def test_an_interrupt_exits_with_130_and_says_how_to_go_on(tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command(f"--workdir={workdir}", "--rounds=50", "--curve_seeds=200"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(workdir.glob("pieces/curve/*.json")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"go on with --workdir={workdir} --resume" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beta=1.3"], "error: --beta must be a number, at least 0 and at most 1, got 1.3"),
        (["--cost=1,x,2"], "error: --cost must be numbers separated by commas, got 1,x,2"),
        (["--dataset=mnist", "--data_dir=/nowhere"], "error: mnist is not prepared under /nowhere"),
        (["--agents=ten"], "flag --agents=ten"),
        (["beta=1"], "error: not a flag: 'beta=1'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(flags, message, tmp_path):
    failed = compare(f"--workdir={tmp_path / 'run'}", *flags)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "run").exists()


def test_results_in_the_way_are_left_alone(finished):
    workdir, _ = finished
    before = bytes_of(workdir)
    failed = compare(f"--workdir={workdir}")
    assert failed.returncode == 1
    assert "--resume" in failed.stderr
    assert "--overwrite" in failed.stderr
    assert bytes_of(workdir) == before


def test_help_shows_every_setting():
    text = compare("--helpshort").stdout
    for field in dataclasses.fields(config.Config):
        assert f"--{field.name}: {field.metadata['help'][:20]}" in text
