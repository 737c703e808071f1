"""Some of what benchmarks/fuzz.py does to files: what cannot be read ends in a sentence that names the file."""

import pathlib
import runpy

import pytest

from fedgame.experiments import equilibrium
from fedgame.inputs import members
from fedgame.runs.experiment import Resources

CASES = runpy.run_path(str(pathlib.Path(__file__).parent.parent / "benchmarks" / "fuzz_cases.py"))
FILES = CASES["files"]()
CSV = {"agents": "agents.csv", "curve": "curve.csv"}


@pytest.fixture
def spoilt(tmp_path, monkeypatch):
    """A function that writes the files, one of them changed, where relative paths begin."""
    monkeypatch.chdir(tmp_path)

    def write(change, *drawn):
        case = CASES[change](CASES["Case"]((), FILES, {}), *drawn)
        for name, data in case.files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        for name, kind in case.special.items():
            if kind == "directory":
                (tmp_path / name).mkdir()
            else:
                (tmp_path / name).symlink_to("missing" if kind == "dangling" else pathlib.Path(name).name)

    return write


def problem(read):
    """The sentence that reading ends in."""
    with pytest.raises((ValueError, OSError)) as failed:
        read()
    return str(failed.value)


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        *(("cell", (1, 1, text, False)) for text in ("60 €", "nan", "1e400")),
        ("cell", (2, 0, "clinic 1", False)),
        ("cell", (2, 2, 'a"b', False)),
        ("column", (1, "drop", "")),
        ("column", (1, "rename", "")),
        ("column", (1, "unnamed", "")),
        ("row", (0, "all", "")),
        ("row", (2, "insert", '"')),
        *(
            ("spoil", (how, 30))
            for how in ("insert NUL", "insert 0xff", "UTF-16", "zipped", "decimal commas")
        ),
        *(("become", (kind,)) for kind in ("directory", "dangling", "loop", "binary", "empty")),
    ],
)
def test_agents_that_cannot_be_read_are_named(spoilt, change, drawn):
    spoilt(change, "agents.csv", *drawn)
    told = problem(lambda: equilibrium.EXPERIMENT.prepare(equilibrium.Settings(**CSV), Resources()))
    assert "agents.csv" in told
    assert len(told.split("\n")) <= 15


@pytest.mark.parametrize("how", ["texts", "not finite", "floats", "one number", "fewer", "alike"])
def test_arrays_that_cannot_be_read_are_named(spoilt, how):
    spoilt("array", "arrays/a.npz", "labels", how)
    told = problem(lambda: members.read("arrays"))
    assert "arrays/a.npz" in told or "of a " in told


@pytest.mark.parametrize("how", ["flip a bit", "insert 0xff", "UTF-16", "zipped"])
def test_tables_that_cannot_be_read_are_named(spoilt, how):
    spoilt("spoil", "tables/Zurich.csv", how, 300)
    assert "table of Zurich, tables/Zurich.csv, cannot be read: " in problem(lambda: members.read("tables"))
