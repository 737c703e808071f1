"""Every directory of a run says which file is what; no file is without a sentence."""

import ast
import fnmatch
import pathlib

import pytest

from fedgame.inputs import exchange_rates, mixtures
from fedgame.runs import digests, files, workdir

ROOT = pathlib.Path(__file__).parent.parent.parent
CONSTANTS = {
    "files.MIXTURES": mixtures.MIXTURES,
    "files.MEASUREMENTS": mixtures.MEASUREMENTS,
    "exchange_rates.FILE": exchange_rates.FILE,
    "VARIANTS": "variants.csv",
    "HEADLINES": "headlines.csv",
}


def written_by(file):
    """The names of files that the calls in a module write, * where a name is made from another."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in ("write_csv", "write_json", "put") and node.args:
            names.add(name_of(node.args[0]))
        elif node.func.attr == "draw" and len(node.args) > 2:
            names.add(f"{name_of(node.args[1])}.png")
    return names


def name_of(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "study_x" for part in node.values)
    return CONSTANTS.get(ast.unparse(node), "study_x")


MODULES = [*(ROOT / "fedgame" / "experiments").rglob("*.py"), ROOT / "fedgame" / "runs" / "sweep.py"]
# Of a file in a folder, the folder is described.
WRITTEN = {"".join(name.partition("/")[:2]) for x in MODULES for name in written_by(x)} - {"study_x"}


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_every_file_that_a_program_writes_is_described(name):
    assert files.described(name) != files.UNKNOWN


def test_what_nobody_writes_is_not_described():
    by_runs = {
        "README.md",
        "SHA256SUMS",
        "config.json",
        "jobs/",
        "checkpoints/",
        "tensorboard/",
        "variants/",
        "federation/",
    }
    by_others = {
        "report.html",
        "report.txt",
        "headlines.csv",
        "study_x.png",
        "sweep.png",
        "model/",
        "model.json",
        "models/",
        "exchange_fits.json",
        "answer.json",
    }
    written = WRITTEN | by_runs | by_others
    unused = {
        name for name in files.DESCRIPTIONS if not any(fnmatch.fnmatchcase(file, name) for file in written)
    }
    assert unused == set()


def open_workdir(path, settings=None, command=""):
    given = settings or {"agents": 3}
    return workdir.open_workdir(str(path), "this", given, path.exists(), False, command=command)


def test_a_directory_says_what_made_it_and_what_is_there(tmp_path):
    with open_workdir(tmp_path / "run", command="python -m launch.train --agents=3") as work:
        work.write_csv("rounds.csv", [{"round": 0, "accuracy": 0.5}])
        work.put("model", lambda path: (path.mkdir(), (path / "weights").write_text("1")))
        work.job("training", lambda: {"x": 1})
        work.write_json("something.json", 1)
        (work.path / "variants").mkdir()
    text = (tmp_path / "run" / "README.md").read_text()
    assert text.startswith("# What this has left here\n\nMade by `python -m launch.train --agents=3`, ")
    lines = [line for line in text.splitlines() if line.startswith("- `")]
    names = [line.split("`")[1] for line in lines]
    assert names == [
        *(
            "README.md",
            "SHA256SUMS",
            "config.json",
            "jobs/",
            "variants/",
            "rounds.csv",
            "model/",
            "something.json",
        )
    ]
    assert lines[-1] == f"- `something.json`: {files.UNKNOWN}"
    assert "README.md" in digests.Digests(tmp_path / "run").names


def test_it_is_the_same_again_and_follows_what_is_there(tmp_path):
    texts = []
    for folder in ("first", "second"):
        with open_workdir(tmp_path / folder) as work:
            work.write_csv("rounds.csv", [{"round": 0}])
        texts.append((tmp_path / folder / "README.md").read_bytes())
    assert texts[0] == texts[1]
    touched = (tmp_path / "first" / "README.md").stat().st_mtime_ns
    open_workdir(tmp_path / "first").close()
    assert (tmp_path / "first" / "README.md").stat().st_mtime_ns == touched
    (tmp_path / "first" / "rounds.csv").unlink()
    open_workdir(tmp_path / "first").close()
    assert "rounds.csv" not in (tmp_path / "first" / "README.md").read_text()


def test_somebody_elses_readme_is_left_alone(tmp_path):
    with open_workdir(tmp_path / "run"):
        (tmp_path / "run" / "README.md").write_text("mine")
    assert (tmp_path / "run" / "README.md").read_text() == "mine"
    assert "README.md" not in digests.Digests(tmp_path / "run").names


@pytest.mark.parametrize("name", ["study_x.csv", "rounds.csv", "jobs/"])
def test_a_name_is_known_by_itself_or_by_its_form(name):
    assert files.described(name) != files.UNKNOWN
