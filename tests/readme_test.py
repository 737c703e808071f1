"""What the README says is true: its example prints what it shows, and its commands and files exist."""

import contextlib
import io
import pathlib
import re
import shutil
import subprocess

from fedgame.experiments import compare
from fedgame.runs import experiment

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_prints_what_is_shown():
    (code,) = blocks("python")
    shown = README.split(code)[1].split("```text\n")[1].split("```")[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == shown
    assert len(code.strip().splitlines()) <= 14


def test_it_is_short():
    assert len(README.splitlines()) <= 120


def test_results_and_models_are_read_as_pages_say(tmp_path, monkeypatch):
    """On a comparison of the same protocols that takes seconds."""
    settings = compare.Settings(
        agents=3, capacity=(12,), rounds=1, held_out=50, test_images=5, model="linear", sizes=(6, 15, 36),
        curve_seeds=1, seeds=1, steps=5, evaluate_every=5, fit="power", keep_models=True,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    experiment.run(compare.EXPERIMENT, settings, "results/digits", experiment.Resources(workers=1))
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for name in ("library.md", "files.md"):
            page = (ROOT / "docs" / name).read_text(encoding="utf-8")
            for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
                exec(compile(code, name, "exec"), names)
    for word in ("protocol", "FedAvg", "FedBR-BG"):
        assert word in printed.getvalue()
    assert set(names["found"]) == {file.stem for file in (tmp_path / "results" / "digits").glob("*.csv")}
    assert names["model"].predict(names["images"]).shape == (3,)


def test_the_two_commands_are_what_they_say():
    for target, command in (("compare", "-m launch.compare"), ("test", "-m pytest")):
        assert f"make {target}" in README
        make = [shutil.which("make"), "--dry-run", target]
        dry = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
        assert command in dry.stdout
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_file_it_names_exists():
    named = re.findall(
        r"`((?:fedgame|launch|tests|notebooks|benchmarks|docs)/[\w./]*)`|\]\((\w[\w./]*)\)", README
    )
    paths = {a or b for a, b in named}
    assert len(paths) > 10
    assert {path for path in paths if not (ROOT / path).exists()} == set()
