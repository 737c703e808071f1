"""The pages on extending fedgame: their code is extracted, and their commands run in an empty directory."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "extend").glob("*.md"))
TINY = (
    "--agents=3 --rounds=1 --epochs=1 --channels=2,3 --units=4 --curve_points=4 --curve_seeds=1 --held_out=50"
)
MORE = {  # so that commands take seconds; what they compute is the page's
    "launch.curve": f"{TINY} --capacity=12 --workers=1 --cache=",
    "launch.compare": f"{TINY} --capacity=12 --seeds=1 --steps=5 --test_images=5 --workers=1",
    "launch.mechanism": "--over_beta=3",
}
CERTIFIED = re.compile(r"^(Certified equilibrium|Equilibrium, certified)", re.MULTILINE)
HELP = {  # by page, a command whose help has what it adds
    "cost": "equilibrium",
    "mechanism": "mechanism",
    "payoff": "equilibrium",
    "protocol": "compare",
    "study": "study",
}


class Page:
    """A page, its file in a directory of its own, and the commands in it."""

    def __init__(self, file, folder):
        text = file.read_text(encoding="utf-8")
        self.codes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        self.files = re.findall(r"Save it as `(\w+\.py)`", text)
        self.commands = [
            x for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for x in block.splitlines()
        ]
        self.names = re.findall(r'@fg\.register\("(\w+)"', "".join(self.codes))
        self.folder = folder
        for name, code in zip(self.files, self.codes, strict=True):
            (folder / name).write_text(code, encoding="utf-8")

    def run(self, command):
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        words = [sys.executable, *words[1:], *shlex.split(MORE.get(words[2], ""))]
        return subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=600
        )


def test_there_is_a_page_for_everything_that_has_a_name():
    assert [page.stem for page in PAGES] == ["cost", "mechanism", "payoff", "protocol", "study"]


class OfAPage:
    """Tests of one page. Each page has a class, so that pages run side by side."""

    page = ""

    def test_a_page_does_what_it_says(self, tmp_path):
        """Its code is short; its commands solve, certify, write, read again, compare and check."""
        told = Page(ROOT / "docs" / "extend" / f"{self.page}.md", tmp_path)
        assert all(len(code.splitlines()) <= 30 for code in told.codes)
        ran = {command: told.run(command) for command in told.commands}
        assert {command: done.stderr[-500:] for command, done in ran.items() if done.returncode} == {}
        for command, done in ran.items():
            program = command.split()[2]
            if program in ("launch.equilibrium", "launch.mechanism"):
                assert CERTIFIED.search(done.stdout), command
            if program == "launch.check":
                assert f"{told.names[0]}(" in done.stdout
            if "--use" in command:
                assert any(file in command for file in told.files)
        results = tmp_path / "results"
        configs = [json.loads(file.read_text()) for file in results.rglob("config.json")]
        assert {tuple(one["settings"]["use"]) for one in configs} >= {(file,) for file in told.files}
        programs = {command.split()[2].removeprefix("launch.") for command in told.commands}
        assert programs & {"compare", "study"}
        if "scenario" in " ".join(told.commands):
            assert len(list(results.rglob("scenario.json"))) >= 2

    def test_its_name_is_in_the_help_and_a_mistake_is_one_sentence(self, tmp_path):
        told = Page(ROOT / "docs" / "extend" / f"{self.page}.md", tmp_path)
        program = f"launch.{HELP[self.page]}"
        shown = told.run(f"python -m {program} --use={told.files[0]} --helpshort")
        assert f"{told.names[0]}(" in shown.stdout
        (tmp_path / told.files[0]).write_text(told.codes[0] + "\nraise KeyError('broken')\n")
        failed = told.run(f"python -m {program} --use={told.files[0]}")
        assert failed.returncode == 1
        line = len(told.codes[0].splitlines()) + 2
        assert failed.stderr.strip() == f"error: --use={told.files[0]}, line {line}: KeyError: 'broken'"


class TestCost(OfAPage):
    page = "cost"


class TestMechanism(OfAPage):
    page = "mechanism"


class TestPayoff(OfAPage):
    page = "payoff"


class TestProtocol(OfAPage):
    page = "protocol"


class TestStudy(OfAPage):
    page = "study"
