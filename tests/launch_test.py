"""The launch scripts as a user runs them."""

import csv
import dataclasses
import decimal
import json
import pathlib
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from fedgame import registry
from fedgame.experiments import compare as compare_experiment
from fedgame.experiments import equilibrium as equilibrium_experiment
from fedgame.experiments import measure as measure_experiment
from fedgame.experiments import mechanism as mechanism_experiment
from fedgame.runs import workdir
from launch import settings_flags

ROOT = pathlib.Path(__file__).parent.parent
TINY = [
    "--agents=3", "--capacity=12", "--rounds=2", "--epochs=1", "--channels=2,3", "--units=4",
    "--curve_points=4", "--curve_seeds=2", "--seeds=2", "--held_out=50", "--workers=2", "--cache=",
]  # fmt: skip
RESULTS = [
    "contributions",
    "curve",
    "differences",
    "fitted_curve",
    "runs",
    "steps",
    "table1",
    "utilities",
    "welfare",
]


def command(*flags):
    return [sys.executable, "-m", "launch.compare", *TINY, *map(str, flags)]


def compare(*flags):
    return subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True, check=False)


def bytes_of(workdir):
    return {name: (workdir / f"{name}.csv").read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("compare") / "run"
    done = compare(f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_the_main_job_prints_table_1_and_leaves_tables_and_figures(finished):
    workdir, done = finished
    for word in ("FedAvg", "MWFed", "FedBR", "FedBR-BG", "p = 0.2", "p = 1", "Nash gap", "Σ payments"):
        assert word in done.stdout
    assert "Unable to initialize" not in done.stderr  # nor any other library's talk
    for stage in ("measuring the accuracy curve", "best-response dynamics", "training", "tables and figures"):
        assert stage in done.stderr
    table = json.loads((workdir / "table1.json").read_text())
    assert len(table) == 4 * 5  # protocols, p
    runs = list(csv.DictReader((workdir / "runs.csv").read_text().splitlines()))
    assert len(runs) == 4 * 2
    tidy = list(csv.DictReader((workdir / "welfare.csv").read_text().splitlines()))
    assert len(tidy) == len(table) * 2
    for run in runs:
        assert abs(float(run["sum_of_payments"])) < 1e-15
        assert float(run["charged"]) <= 3 * 12
        assert float(run["nash_gap"]) >= 0
        assert run["protocol"] not in ("FedBR", "FedBR-BG") or float(run["nash_gap"]) < 1e-6
    assert {float(row["charged"]) for row in runs if row["protocol"] == "FedAvg"} == {36.0}
    for name in ("curve", "contributions", "welfare"):
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(workdir.rglob("*.partial"))
    command = f"`python -m launch.compare {' '.join(TINY)}`"  # wherever the results are
    assert f"\nMade by {command}, fedgame " in (workdir / "README.md").read_text(encoding="utf-8")


def test_results_in_the_way_are_left_alone(finished):
    workdir, _ = finished
    before = bytes_of(workdir)
    failed = compare(f"--workdir={workdir}")
    assert failed.returncode == 1
    assert "--resume" in failed.stderr
    assert "--overwrite" in failed.stderr
    assert bytes_of(workdir) == before


def test_help_shows_every_setting():
    text = compare("--helpshort").stdout
    for field in dataclasses.fields(compare_experiment.Settings):
        assert f"{field.name}: {field.metadata['help'][:20]}" in text
    words = " ".join(text.split())
    assert "bound, concave, power" in words  # the choices of --fit
    for call in (
        "mwfed(target=0.7, factor=4.0): MWFed inside",
        "power(rate, exponent, fixed=0.0): c_i(s_i) =",
    ):
        assert call in words


def equilibrium(*flags):
    command = [sys.executable, "-m", "launch.equilibrium", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def mechanism(*flags):
    command = [sys.executable, "-m", "launch.mechanism", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def launch(name):
    def run(*flags):
        command = [sys.executable, "-m", f"launch.{name}", *map(str, flags)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


measure, train, curve = launch("measure"), launch("train"), launch("curve")


EXAMPLE = ["--agents=examples/agents.csv", "--curve=examples/curve.csv"]
HOSPITALS = "--federation=examples/hospitals"


def test_your_own_numbers_give_a_table_files_and_a_figure(tmp_path):
    run = tmp_path / "run"
    done = equilibrium(*EXAMPLE, "--bootstrap=20", f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    for words in ("certified equilibrium", "clinic 12", "would rather leave", "20 of 20 resampled games"):
        assert words in done.stdout
    assert "resampling the curve" in done.stderr
    assert "<- used" in done.stdout
    rows = list(csv.DictReader((run / "outcome.csv").read_text().splitlines()))
    assert len(rows) == 12
    for row in rows:
        assert float(row["nash_gap"]) < 1e-12
        assert (
            0 <= float(row["contribution_low"]) <= float(row["contribution_high"]) <= float(row["capacity"])
        )
    names = {f.name for f in run.iterdir()}
    assert {"outcome.json", "equilibria.csv", "equilibrium.png", "fitted_curve.csv", "scenario.json"} < names
    assert not [name for name in names if name.endswith(".partial")]
    before = (run / "outcome.csv").read_bytes()
    in_the_way = equilibrium(*EXAMPLE, f"--workdir={run}")
    assert in_the_way.returncode == 1
    assert "--overwrite" in in_the_way.stderr
    assert (run / "outcome.csv").read_bytes() == before
    again = equilibrium(f"--scenario={run / 'scenario.json'}", f"--workdir={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    contributions = [
        [row["contribution"] for row in csv.DictReader((folder / "outcome.csv").read_text().splitlines())]
        for folder in (run, tmp_path / "again")
    ]
    assert contributions[0] == contributions[1]


def test_the_same_files_say_who_pays_and_receives_what(tmp_path):
    run = tmp_path / "run"
    done = mechanism(*EXAMPLE, "--over_beta=5", "--p=1,-inf", f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    for words in (
        "Recommended: β = 1 - 1/n, refunds of the share 1 - 1/n",
        "Simpler ones: under no payments 1 member would rather leave.",
        "Nobody would rather leave: for nobody is training alone better.",
        "clinic 12",
        "their sum: 0.0000",
        "the largest there is",
        "Every sample is taken to count the same for everybody",
    ):
        assert words in done.stdout
    for stage in ("comparing mechanisms", "agents who leave", "equilibria over β"):
        assert stage in done.stderr
    rows = list(csv.DictReader((run / "outcome.csv").read_text().splitlines()))
    assert sum(decimal.Decimal(row["payment"]) for row in rows) == 0
    compared = list(csv.DictReader((run / "mechanisms.csv").read_text().splitlines()))
    assert [row["mechanism"] for row in compared if row["chosen"] == "True"] == ["falkinger"]
    utilities = [float(row["utility"]) for row in rows]
    assert sum(utilities) == pytest.approx(max(float(row["sum_of_utilities"] or 0) for row in compared))
    assert all(u > float(row["outside"]) for u, row in zip(utilities, rows, strict=True))
    assert all(float(row["nash_gap"]) < 1e-12 for row in rows)
    assert (run / "mechanism.png").read_bytes().startswith(b"\x89PNG")
    assert not list(run.glob("*.partial"))
    tiny = mechanism(
        *EXAMPLE, "--mechanism=personal", "--over_beta=2", "--unit=1e-30", f"--workdir={tmp_path / 'tiny'}"
    )
    assert tiny.returncode == 1
    assert "error: --unit=1e-30: a payment of 1.04417 is more than 2^52 of them" in tiny.stderr
    assert "Traceback" not in tiny.stderr
    left = {f.name for f in (tmp_path / "tiny").iterdir()}
    assert left == {".lock", "README.md", "SHA256SUMS", "config.json"}
    before = (run / "outcome.csv").read_bytes()
    in_the_way = mechanism(*EXAMPLE, f"--workdir={run}")
    assert in_the_way.returncode == 1
    assert "--overwrite" in in_the_way.stderr
    assert (run / "outcome.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("launch", "flags", "message"),
    [
        (compare, ["--beta=1.3"], "error: --beta must be a number, at least 0 and at most 1, got 1.3"),
        (compare, ["--cost=1,x,2"], "error: --cost must be numbers separated by commas, got 1,x,2"),
        (compare, ["--dataset=mnist", "--data_dir=/nowhere"], "error: mnist is not prepared under /nowhere"),
        (compare, ["--agents=ten"], "flag --agents=ten"),
        (compare, ["beta=1"], "error: not a flag: 'beta=1'"),
        (equilibrium, ["--agents=missing.csv", EXAMPLE[1]], "error: there is no file missing.csv"),
        (equilibrium, ["--agents=examples/curve.csv", EXAMPLE[1]], "column `name` is missing"),
        (equilibrium, ["--cost=", "--capacity=1"], "error: --cost needs at least one number"),
        (equilibrium, EXAMPLE[:1], "error: give one of --curve, --family, --payoff"),
        (equilibrium, [*EXAMPLE, "extra"], "error: not a flag: 'extra'"),
        (
            mechanism,
            [*EXAMPLE, "--mechanism=beta_star"],
            "error: --mechanism: β* (Definition 2) is defined for linear costs",
        ),
        (
            mechanism,
            [*EXAMPLE, "--mechanism=tax"],
            "error: --mechanism: there is no rule 'tax' (there are none, ",
        ),
        (
            compare,
            ["--protocol=fedavg, fedbr(price(prise=1))"],
            "error: --protocol: price has no option 'prise'; did you mean 'price'? (it has price)",
        ),
        (compare, ["--use=nowhere.py"], "error: --use=nowhere.py: there is no such file"),
        (equilibrium, ["--use", "setup.cfg", "--helpshort"], "error: --use=setup.cfg: there is no such file"),
        (mechanism, [*EXAMPLE, "--p=2"], "error: --p must be a number, at most 1, got 2.0"),
        (equilibrium, ["--scenario=examples/agents.csv"], "error: examples/agents.csv, line 1: not JSON"),
        (measure, [], "error: give --federation=FOLDER, with the data of each member"),
        (measure, ["--federation=/nowhere"], "error: there is no folder /nowhere"),
        (measure, [HOSPITALS, "--runs=3"], "error: --runs=3: 4 members need at least 14 mixtures"),
        (measure, [HOSPITALS, "--model=cnn"], "error: --model=cnn is for images; tables need linear or mlp"),
        (train, [HOSPITALS, "--capacity=9999"], "error: --capacity: Budapest can train on 147 records"),
        (curve, ["--metric=auc"], "error: --metric needs --federation"),
        (compare, [HOSPITALS, "--dataset=mnist"], "error: --dataset has no use with --federation: members"),
        (equilibrium, [*EXAMPLE, "--rates=one rate"], "error: --rates=one rate needs --measurements"),
        (
            equilibrium,
            [*EXAMPLE, "--validate"],
            "error: --validate needs to know how models are trained: examples is not what launch.measure",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(launch, flags, message, tmp_path):
    failed = launch(f"--workdir={tmp_path / 'run'}", *flags)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""
    assert not (tmp_path / "run").exists()


def test_an_input_is_never_deleted_with_the_results(tmp_path):
    for name in ("agents.csv", "curve.csv"):
        (tmp_path / name).write_bytes((ROOT / "examples" / name).read_bytes())
    (tmp_path / "rates.csv").write_text("0.1\n0.2\n")
    files = [f"--agents={tmp_path / 'agents.csv'}", f"--curve={tmp_path / 'curve.csv'}"]
    refused = equilibrium(*files, f"--workdir={tmp_path}", "--overwrite")
    assert refused.returncode == 1
    assert "is not empty and holds no run of this program; it is left as it is" in refused.stderr
    workdir.open_workdir(str(tmp_path / "run"), "launch.equilibrium", {}, False, False).close()
    for name in ("config.json", "SHA256SUMS"):
        (tmp_path / "run" / name).rename(tmp_path / name)
    text = [f"--cost=linear('{tmp_path / 'rates.csv'}')", "--payoff=bound(0.9, 1)", "--capacity=9"]
    for flags, name in ((files, "agents.csv"), (text, "rates.csv")):
        refused = equilibrium(*flags, f"--workdir={tmp_path}", "--overwrite")
        assert refused.returncode == 1
        assert f"{name} lies in --workdir" in refused.stderr
    there = {"agents.csv", "curve.csv", "rates.csv", "config.json", "SHA256SUMS", "run"}
    assert {f.name for f in tmp_path.iterdir()} == there


@pytest.mark.parametrize(
    ("launch", "settings"),
    [
        (equilibrium, equilibrium_experiment.Settings),
        (mechanism, mechanism_experiment.Settings),
        (measure, measure_experiment.Settings),
    ],
)
def test_help_shows_every_number_you_can_give(launch, settings):
    text = launch("--helpshort").stdout
    for field in dataclasses.fields(settings):
        assert f"{field.name}: {field.metadata['help'][:15]}" in text


def test_the_example_is_what_its_command_makes(tmp_path):
    known = set(absl_flags.FLAGS)
    from launch import example

    for name in set(absl_flags.FLAGS) - known:  # other tests of this process define flags of these names
        delattr(absl_flags.FLAGS, name)
    rows = list(csv.DictReader((ROOT / "examples" / "agents.csv").read_text().splitlines()))
    assert rows == example.agents(seed=0)
    (tmp_path / "agents.csv").symlink_to("nowhere")  # it is somebody's, too
    refused = launch("example")(f"--workdir={tmp_path}")
    assert refused.returncode == 1
    assert f"{tmp_path}/agents.csv exists already: replace it by --overwrite" in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["agents.csv"]


MINE = """
from fedgame import registry
from fedgame.mechanisms import Refunds, rules
from fedgame.protocols import Protocol, always

@registry.register("half")
def half(game):
    '''Half of all costs.'''
    return Refunds(0.5)

@registry.register("nobody")
class Nobody(Protocol):
    '''Nobody contributes.'''

    def start(self, game, announced, key):
        return always([0] * game.n)
"""


def test_a_file_of_ones_own_is_needed_again_to_go_on(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    use, run = f"--use={mine}", tmp_path / "run"
    cost = ["--payoff=power(0.97, 6, 0.8, 12)", "--cost=linear([0.004, 0.005])", "--over_beta=3", "--p=1"]
    done = mechanism(use, "--mechanism=half", *cost, f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    assert "Payments: half, half of all costs.\n" in done.stdout
    for given in (["--mechanism=half"], ["--mechanism=none"]):
        refused = mechanism(*given, *cost, f"--workdir={run}", "--resume")
        assert refused.returncode == 1
        assert refused.stderr.startswith(
            f"error: --resume: the run in --workdir={run} was begun with {use} ("
        )
        assert len(refused.stderr.splitlines()) == 1
    assert "half: Half of all costs." in mechanism("--use", mine, "--helpshort").stdout


def test_a_comparison_begun_with_a_file_says_so_before_it_reads_its_texts(tmp_path):
    mine, run = tmp_path / "mine.py", tmp_path / "run"
    mine.write_text(MINE)
    registry.use(str(mine))
    workdir.open_workdir(str(run), "launch.compare", {}, False, False)
    begun = (run / "config.json").read_bytes()
    for flags in ([], ["--sweep=cost=0.1,0.2"]):
        refused = compare("--protocol=nobody", f"--workdir={run}", "--resume", *flags)
        assert refused.returncode == 1
        assert refused.stderr.startswith(
            f"error: --resume: the run in --workdir={run} was begun with --use={mine}"
        )
    mine.write_text(MINE.replace("[0]", "[1]"))
    refused = compare(f"--use={mine}", "--protocol=nobody", f"--workdir={run}", "--resume")
    assert ", not with --use=" in refused.stderr
    mine.write_text("\n1 / 0")
    refused = compare(f"--use={mine}", "--protocol=nobody", f"--workdir={run}", "--resume")
    assert refused.stderr == f"error: --use={mine}, line 2: ZeroDivisionError: division by zero\n"
    assert (run / "config.json").read_bytes() == begun


def test_a_sweep_knows_the_files_that_its_values_name(tmp_path):
    numbers, run = tmp_path / "numbers.csv", tmp_path / "run"
    numbers.write_text("0.1\n0.2\n0.3\n")
    sweep = [f"--sweep=cost=linear('{numbers}')", "--protocol=fedavg", f"--workdir={run}"]
    done = compare(*sweep)
    assert done.returncode == 0, done.stderr
    stored = json.loads((run / "config.json").read_text())["settings"]["sha256"]
    assert list(stored) == [str(numbers)]
    numbers.write_text("0.1\n0.2\n0.4\n")
    refused = compare(*sweep, "--resume")
    assert refused.returncode == 1
    assert "has other settings: sha256=" in refused.stderr


@pytest.mark.parametrize(
    "words", [[], ["--resume"], ["--use=FILE"], ["--use", "FILE"], ["-use=FILE", "--beta=1"]]
)
def test_files_of_ones_own_are_found_among_any_flags(words, tmp_path, monkeypatch):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    monkeypatch.setattr(sys, "argv", ["launch.compare", *(x.replace("FILE", str(mine)) for x in words)])
    settings_flags.use_files()
    assert list(registry.used()) == ([str(mine)] if "FILE" in " ".join(words) else [])


def test_a_flag_file_that_is_no_text_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.flags").write_bytes(b"--seed=\xff")
    monkeypatch.setattr(sys, "argv", ["launch.compare", f"--flagfile={tmp_path / 'a.flags'}"])
    with pytest.raises(SystemExit, match="error: --flagfile: a file is not text in UTF-8"):
        settings_flags.given("use")
