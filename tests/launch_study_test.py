"""launch.study as a user runs it."""

import csv
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def study(*flags):
    words = [sys.executable, "-m", "launch.study", *map(str, flags)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_preset_makes_a_table_and_a_figure_and_what_is_wrong_leaves_nothing(tmp_path):
    workdir = tmp_path / "run"
    done = study("--flagfile=launch/presets/unequal_costs.flags", "--ratios=1,4", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "| 4 " in done.stdout
    assert "unequal costs" in done.stderr  # the progress bar
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["program"] == "launch.study"
    assert stored["settings"]["ratios"] == [1.0, 4.0]
    assert "rounds" not in stored["settings"]
    table = list(csv.DictReader((workdir / "study_unequal_costs.csv").read_text().splitlines()))
    assert {row["mechanism"] for row in table} == {"no payments", "β*", "1 - 1/n", "personal", "first best"}
    before = (workdir / "study_unequal_costs.png").read_bytes()
    again = study("--study=unequal_costs", "--data_dir=there", f"--workdir={workdir}", "--resume")
    assert again.returncode == 1
    assert "--data_dir has no use with --study=unequal_costs" in again.stderr
    assert (workdir / "study_unequal_costs.png").read_bytes() == before


def test_every_preset_says_its_command_and_names_a_study():
    from fedgame.experiments.studies import settings as all_settings

    for name in all_settings.USED:
        lines = (ROOT / "launch" / "presets" / f"{name}.flags").read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(f"# python -m launch.study --flagfile=launch/presets/{name}.flags")
        assert f"--study={name}" in lines
        given = [line[2:].split("=")[0] for line in lines if line.startswith("--")]
        assert set(given) <= {"study", *all_settings.USED[name]}


def test_a_file_that_is_missing_leaves_no_directory(tmp_path):
    done = study("--study=agents", "--curve=nowhere.csv", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "error: there is no file nowhere.csv"
    assert not (tmp_path / "run").exists()
