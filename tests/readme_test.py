"""What the README says is true: its example prints what it shows, and its commands and files exist."""

import contextlib
import io
import pathlib
import re
import shutil
import subprocess

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
