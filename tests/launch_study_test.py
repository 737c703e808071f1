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
    names = {"none", "beta_star", "falkinger", "personal", "first_best"}
    assert {row["mechanism"] for row in table} == names
    assert "| β = 1 - 1/n " in done.stdout
    before = (workdir / "study_unequal_costs.png").read_bytes()
    again = study("--study=unequal_costs", "--data_dir=there", f"--workdir={workdir}", "--resume")
    assert again.returncode == 1
    assert "--data_dir has no use with --study=unequal_costs" in again.stderr
    assert (workdir / "study_unequal_costs.png").read_bytes() == before


def test_every_preset_says_its_command_and_names_a_study():
    from fedgame.experiments.studies import STUDIES, flags_of

    for name in STUDIES:
        lines = (ROOT / "launch" / "presets" / f"{name}.flags").read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(f"# python -m launch.study --flagfile=launch/presets/{name}.flags")
        assert f"--study={name}" in lines
        given = [line[2:].split("=")[0] for line in lines if line.startswith("--")]
        assert set(given) <= set(flags_of(STUDIES[name]))


def test_a_file_that_is_missing_leaves_no_directory(tmp_path):
    done = study("--study=agents", "--curve=nowhere.csv", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "error: there is no file nowhere.csv"
    assert not (tmp_path / "run").exists()


MINE = """
from fedgame import registry
from fedgame.experiments.studies import Study

@registry.register("slopes")
class Slopes(Study):
    '''How steep the curve is.'''
    at: tuple = registry.option("totals, samples", (1.0, 2.0), low=0, kind=float)

    def jobs(self, ground):
        curve = ground.measured.fit.payoff.curve
        return {"all": lambda: [{"samples": x, "accuracy": float(curve(x))} for x in self.at]}

@registry.register("trained")
class Trained(Study):
    '''A study that trains.'''
    trains = True

    def train(self, task, work, resources):
        return [{"agents": task.settings.agents, "workers": resources.workers}]
"""


def test_studies_of_ones_own_one_that_reads_a_curve_and_one_that_trains(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    use, workdir = f"--use={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'slopes'}"
    done = study(use, "--study=slopes([0, 20])", workdir)
    assert done.returncode == 0, done.stderr
    assert "| 20 " in done.stdout
    assert {file.name for file in (tmp_path / "slopes").iterdir()} >= {
        *("study_slopes.csv", "study_slopes.json", "study_slopes.png", "config.json")
    }
    for name in ("slopes", "agents"):
        refused = study(f"--study={name}", workdir, "--resume")
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"error: --resume: the run in {workdir} was begun with {use} (")
    refused = study("--study=slopes", f"--workdir={tmp_path / 'nothing'}")
    assert refused.stderr.startswith("error: --study: there is no study 'slopes' (there are agents, ")
    done = study(use, "--study=trained", "--agents=3", "--workers=2", f"--workdir={tmp_path / 'trained'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:4:2] == ["| agents | workers |", "| 3      | 2       |"]
    assert (tmp_path / "trained" / "study_trained.csv").exists()
