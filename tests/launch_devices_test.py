"""launch.train on several devices, and in several processes on loopback, as a user runs it."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from fedgame.runs import snapshots

ROOT = pathlib.Path(__file__).parent.parent
TINY = [
    "--agents=3", "--capacity=12", "--rounds=6", "--channels=2,3", "--units=4", "--held_out=50", "--epochs=1",
    "--save_every=0",
]  # fmt: skip
PATIENCE = 120  # seconds; a run takes five


class Processes:
    """Runs launch.train in one or more processes, none of which outlives the block."""

    def __init__(self, cache, each):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.running = [
            subprocess.Popen(
                [sys.executable, "-m", "launch.train", *TINY, *map(str, flags)],
                cwd=ROOT,
                env=environment,
                **pipes,
            )
            for flags in each
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.communicate()

    def send(self, number, *to):
        for k in to:
            self.running[k].send_signal(number)

    def finish(self):
        """The exit code, stdout and stderr of each process."""
        texts = [process.communicate(timeout=PATIENCE) for process in self.running]
        return [(process.returncode, *text) for process, text in zip(self.running, texts, strict=True)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def two(cache, *flags):
    """Two processes of one device each, that train the same run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = [f"--coordinator=127.0.0.1:{free.getsockname()[1]}", "--num_processes=2", "--devices=1"]
    return Processes(cache, [[*shared, *flags, f"--process_id={k}"] for k in (0, 1)])


def wait_for_round(workdir, number, processes):
    """Waits until there is a snapshot of this round or a later one."""
    end = time.monotonic() + PATIENCE
    while not any(int(f.name) >= number for f in workdir.glob("checkpoints/training/*") if f.name.isdigit()):
        assert all(process.poll() is None for process in processes.running), processes.finish()
        assert time.monotonic() < end
        time.sleep(0.01)


def results(workdir):
    return (workdir / "rounds.csv").read_bytes(), snapshots.load_model(workdir / "model")


@pytest.fixture(scope="module")
def alone(cache, tmp_path_factory):
    """Directories and reports of undisturbed runs in one process, by its number of devices."""
    folder = tmp_path_factory.mktemp("alone")
    flags = [[f"--devices={n}", f"--workdir={folder / str(n)}"] for n in (1, 2)]
    with Processes(cache, flags) as processes:
        done = processes.finish()
    assert [code for code, _, _ in done] == [0, 0], done
    return {1: folder / "1", 2: folder / "2"}, done[1][1]


@pytest.fixture(scope="module")
def together(cache, tmp_path_factory):
    """The workdir of a run by two processes, killed, resumed, interrupted and resumed, and how it ended."""
    workdir = tmp_path_factory.mktemp("together") / "run"
    with two(cache, f"--workdir={workdir}") as processes:
        wait_for_round(workdir, 1, processes)
        processes.send(signal.SIGKILL, 0)
        killed = processes.finish()
    assert not (workdir / "rounds.csv").exists()
    with two(cache, f"--workdir={workdir}", "--resume") as processes:
        wait_for_round(workdir, 3, processes)
        processes.send(signal.SIGTERM, 1)
        interrupted = processes.finish()
    assert not (workdir / "rounds.csv").exists()
    with two(cache, f"--workdir={workdir}", "--resume") as processes:
        finished = processes.finish()
    return workdir, killed, interrupted, finished


def test_two_devices_train_as_one_does(alone):
    (one_csv, one), (two_csv, two) = (results(alone[0][n]) for n in (1, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, two)
    one_csv, two_csv = (np.genfromtxt(x.decode().splitlines(), delimiter=",") for x in (one_csv, two_csv))
    np.testing.assert_allclose(one_csv[1:], two_csv[1:], atol=1 / 50 + 1e-6)  # an image may fall otherwise


def test_two_processes_train_as_two_devices_do_though_killed_and_interrupted(together, alone):
    workdir, _, _, finished = together
    assert [code for code, _, _ in finished] == [0, 0], finished
    (csv, model), (expected_csv, expected) = results(workdir), results(alone[0][2])
    assert csv == expected_csv
    jax.tree.map(np.testing.assert_array_equal, model, expected)
    assert jax.tree.structure(model) == jax.tree.structure(expected)


def test_the_first_process_alone_reports(together, alone):
    *_, ((_, first, _), (_, second, _)) = together
    tables = [text[text.index("| agent") : text.rindex("\n\n")] for text in (first, alone[1])]
    assert "accuracy on held-out images" in tables[0]
    assert tables[0] == tables[1]
    assert "| agent" not in second


def test_if_the_first_process_is_gone_the_other_ends_with_a_sentence(together):
    _, (_, (code, _, errors)), _, _ = together
    assert code == 1
    ours = errors.rstrip().endswith(
        "\nerror: another process of this run is gone; start all of them again with --resume"
    )
    # An older JAX may end the process first, without a signal: then the sentence is JAX's own.
    its_own = "This most likely indicates that another task died" in errors
    assert ours or (jax.__version_info__ < (0, 9, 2) and its_own)
    assert "most recent call" not in errors


def test_a_signal_to_one_process_saves_and_stops_both(together):
    workdir, _, interrupted, _ = together
    assert [code for code, _, _ in interrupted] == [130, 143]  # the first has had none itself
    for _, _, errors in interrupted:
        assert f"interrupted; go on with --workdir={workdir} --resume" in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2", "--process_id=2"], "--process_id must be below --num_processes=2, got 2"),
        (["--num_processes=2"], "--coordinator, --num_processes and --process_id go together"),
    ],
)
def test_wrong_flags_are_one_sentence(cache, tmp_path, flags, message):
    flags = [f"--workdir={tmp_path / 'run'}", "--coordinator=127.0.0.1:1", *flags]
    with Processes(cache, [flags]) as processes:
        [(code, _, errors)] = processes.finish()
    assert code == 1
    assert errors.strip() == f"error: {message}"
    assert not (tmp_path / "run").exists()


def test_a_directory_in_the_way_stops_both_processes(cache, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with two(cache, f"--workdir={tmp_path}") as processes:
        (code, _, errors), (other_code, _, other_errors) = processes.finish()
    assert (code, other_code) == (1, 1)
    assert "is not empty and holds no run of this program" in errors
    assert f"error: the first process could not open --workdir={tmp_path}" in other_errors
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]
