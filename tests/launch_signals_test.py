"""Scripts that are told to stop, or fail, at any moment: a sentence, and the exit code that shells expect."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launch import running

ROOT = pathlib.Path(__file__).parent.parent
PATIENCE = 300  # seconds, beside other work
EQUILIBRIUM = ["launch.equilibrium", "--agents=examples/agents.csv", "--curve=examples/curve.csv"]


HEAR_HANG_UPS = """import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # there may be a `nohup` around the tests
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Script:
    """A script, and what it prints on its standard error."""

    def __init__(self, folder, *words):
        self.errors = folder / "errors.txt"
        with self.errors.open("w") as file:
            command = [sys.executable, "-c", HEAR_HANG_UPS, "-m", *map(str, words)]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file)

    def wait_for(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.errors.read_text():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)

    def ends(self, number, *said):
        self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        errors = self.errors.read_text()
        assert self.process.returncode == 128 + number, errors
        assert "Traceback" not in errors
        for words in said:
            assert words in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_a_script_is_imported(number, tmp_path):
    script = Script(tmp_path, *EQUILIBRIUM, f"--workdir={tmp_path / 'run'}")
    time.sleep(0.4)
    script.ends(number, "interrupted\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_while_games_are_solved(number, tmp_path):
    run = tmp_path / "run"
    script = Script(tmp_path, *EQUILIBRIUM, "--bootstrap=1000000", f"--workdir={run}")
    script.wait_for("resampling the curve")
    script.ends(number, f"interrupted; go on with --workdir={run} --resume")
    assert sorted(file.name for file in run.iterdir() if file.name[0] != ".") == ["SHA256SUMS", "config.json"]


def test_while_examples_are_made_twice(tmp_path):
    script = Script(tmp_path, "launch.example", f"--workdir={tmp_path / 'examples'}")
    script.wait_for("measuring the accuracy curve")
    script.process.send_signal(signal.SIGINT)
    script.ends(signal.SIGINT, "interrupted\n")
    assert not (tmp_path / "examples").exists()


def raised(error, folder, monkeypatch):
    """The sentence that a script ends with after an error."""
    monkeypatch.setattr(running, "CACHE", folder)
    with pytest.raises(SystemExit) as ended:
        running._fail(error)
    return ended.value.code


def error_of(program, file):
    """The error that a program raises, as if a file held it."""
    try:
        exec(compile(program, file, "exec"), {})
    except Exception as error:
        return error


OURS = str(ROOT / "fedgame" / "games" / "game.py")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (error_of("raise ValueError('`beta` must lie in [0, 1]')", OURS), "`beta` must lie in [0, 1]"),
        (OSError(28, "No space left on device", "a.csv"), "No space left on device: a.csv"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (FileNotFoundError("there is no file a.csv"), "there is no file a.csv"),
        (FloatingPointError("training diverged"), "training diverged"),
        (MemoryError(), "there is not enough memory for this: use smaller numbers, or fewer --workers"),
    ],
)
def test_what_can_be_expected_is_a_sentence(error, sentence, tmp_path, monkeypatch):
    assert raised(error, tmp_path, monkeypatch) == f"error: {sentence}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "words"),
    [("[][1]", "IndexError: list index out of range"), ("raise ValueError('shapes')", "ValueError: shapes")],
)
def test_what_cannot_be_expected_is_a_sentence_and_a_file(program, words, tmp_path, monkeypatch):
    told = raised(error_of(program, "/elsewhere/numpy.py"), tmp_path, monkeypatch)
    (file,) = (tmp_path / "tracebacks").iterdir()
    assert told == f"error: {words}\nthis was not foreseen; where it came from is in {file}"
    assert 'File "/elsewhere/numpy.py", line 1' in file.read_text()


def test_where_no_file_can_be_written_the_traceback_is_printed(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    told = raised(error_of("1 / 0", "/elsewhere/a.py"), tmp_path / "cache", monkeypatch)
    assert "ZeroDivisionError: division by zero\nthis was not foreseen; where it came from:\n" in told
    assert 'File "/elsewhere/a.py", line 1' in told


def test_the_line_of_a_users_own_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(running.registry, "used", lambda: {"mine.py": "digest"})
    told = raised(error_of("\n\n1 / 0", "/home/me/mine.py"), tmp_path, monkeypatch)
    assert told.startswith("error: ZeroDivisionError: division by zero (line 3 of /home/me/mine.py)\n")


def run(*words, environment=None):
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )


def test_devices_that_are_not_there_are_one_sentence(tmp_path):
    done = run(*EQUILIBRIUM, f"--workdir={tmp_path / 'run'}", environment={"JAX_PLATFORMS": "cuda"})
    assert (done.returncode, done.stderr) == (
        1,
        "error: JAX finds no devices (JAX_PLATFORMS=cuda): there are none of this kind\n",
    )
    assert not (tmp_path / "run").exists()
