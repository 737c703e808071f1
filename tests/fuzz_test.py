"""Some of what benchmarks/fuzz.py does to files: what cannot be read ends in a sentence that names it."""

import pathlib
import sys

import pytest

from fedgame.experiments import equilibrium
from fedgame.inputs import members
from fedgame.runs.experiment import Resources

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
import fuzz
import fuzz_cases

FILES = fuzz_cases.files()
CSV = {"agents": "agents.csv", "curve": "curve.csv"}


@pytest.fixture
def spoilt(tmp_path, monkeypatch):
    """A function that writes the files, one of them changed, where relative paths begin."""
    monkeypatch.chdir(tmp_path)

    def write(change, *drawn):
        fuzz.write(change(fuzz_cases.Case((), FILES, {}), *drawn), tmp_path)

    return write


def problem(read):
    """The sentence that reading ends in."""
    with pytest.raises((ValueError, OSError)) as failed:
        read()
    return str(failed.value)


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        *((fuzz_cases.cell, (1, 1, text, False)) for text in ("60 €", "nan", "1e400")),
        (fuzz_cases.cell, (2, 0, "clinic 1", False)),
        (fuzz_cases.cell, (2, 2, 'a"b', False)),
        (fuzz_cases.column, (1, "drop", "")),
        (fuzz_cases.column, (1, "rename", "")),
        (fuzz_cases.row, (0, "all", "")),
        (fuzz_cases.row, (2, "insert", '"')),
        *((fuzz_cases.spoil, (how, 30)) for how in ("insert NUL", "insert 0xff", "zipped", "decimal commas")),
        *((fuzz_cases.become, (kind,)) for kind in ("directory", "dangling", "loop", "binary", "empty")),
    ],
)
def test_agents_that_cannot_be_read_are_named(spoilt, change, drawn):
    spoilt(change, "agents.csv", *drawn)
    told = problem(lambda: equilibrium.EXPERIMENT.prepare(equilibrium.Settings(**CSV), Resources()))
    assert "agents.csv" in told
    assert len(told.split("\n")) <= 15


@pytest.mark.parametrize("how", ["texts", "not finite", "floats", "one number", "fewer", "alike"])
def test_arrays_that_cannot_be_read_are_named(spoilt, how):
    spoilt(fuzz_cases.array, "arrays/a.npz", "labels", how)
    told = problem(lambda: members.read("arrays"))
    assert "arrays/a.npz" in told or "of a " in told


@pytest.mark.parametrize("how", ["flip a bit", "insert 0xff", "zipped"])
def test_tables_that_cannot_be_read_are_named(spoilt, how):
    spoilt(fuzz_cases.spoil, "tables/Zurich.csv", how, 300)
    assert "table of Zurich, tables/Zurich.csv, cannot be read: " in problem(lambda: members.read("tables"))


@pytest.mark.parametrize(
    ("code", "errors", "kinds"),
    [
        (0, "fitting 100%", []),
        (1, "error: agents.csv is empty", []),
        (1, "FATAL Flags parsing error:\n  Unknown command line flag 'x'\nPass --helpshort", []),
        (1, "killed", ["no sentence"]),
        (2, "error: x", ["exit code"]),
        (-11, "", ["exit code"]),
        (1, "error: x" + "\nline" * 15, ["long message"]),
        (0, "/x/curves.py:3: RuntimeWarning: overflow", ["warning"]),
        (
            1,
            'Traceback (most recent call last):\n  File "/x/fedgame/a.py", line 1, in f\nKeyError: 3',
            ["traceback"],
        ),
    ],
)
def test_how_a_command_may_end(code, errors, kinds):
    assert [x.kind for x in fuzz.of_end(fuzz.Ended(code, "", errors, ""))] == kinds


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"contribution": "3.0", "capacity": "3.0", "nash_gap": "0.0"}, ""),
        ({"contribution": "3.1", "capacity": "3.0"}, "contribution beyond capacity: 3.1 of 3.0"),
        ({"contribution": "-1", "capacity": "3.0"}, "contribution beyond capacity: -1.0 of 3.0"),
        ({"nash_gap": "nan"}, "nash_gap not finite: nan"),
        ({"certified": "True", "p=1": "inf"}, "certified with p=1 not finite: inf"),
        ({"certified": "False", "p=1": "inf"}, ""),
    ],
)
def test_what_results_may_hold(row, wrong):
    assert fuzz.wrong(row, "outcome.csv") == wrong


def test_what_files_may_be_left(tmp_path):
    (tmp_path / "x.csv.1-2.partial").write_text("")
    (tmp_path / "a.json").write_text('{"x": NaN}')
    (tmp_path / "b.json").write_text('{"y": {"converged": true, "total": "inf"}}')
    (tmp_path / "c.json").write_text('{"converged": true, "total": 3.0}')
    found = {x.about: x.kind for x in fuzz.of_files(tmp_path, True, set())}
    assert found == {
        "a.json: NaN is no JSON": "unreadable",
        "b.json: certified with total not finite: inf": "result",
        "x.csv.1-2.partial": "partial",
    }


@pytest.mark.parametrize(("word", "count"), [("--workdir=out", 1), ("--workdir=x", 0), ("--cache=x/y", 0)])
def test_files_elsewhere_must_stay(word, count):
    before, after = {"agents.csv": "1"}, {"agents.csv": "1", "x/y/a.csv": "2"}
    assert len(list(fuzz.of_others(("equilibrium", word), before, after))) == count
