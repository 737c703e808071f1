import csv
import dataclasses
import json
import string

import numpy as np
import pytest
from absl import flags
from matplotlib import figure

from fedgame.experiments import compare, equilibrium, table1
from fedgame.report import figures, scales, text
from fedgame.runs import snapshots, sweep, workdir
from fedgame.runs.experiment import Resources
from launch import settings_flags

FEW = {"agents": 3, "capacity": (12,), "held_out": 50}


@pytest.fixture(scope="module")
def parse():
    """Reads values as launch.compare does, with its flags."""
    settings_flags.define(compare.Settings)
    yield lambda name, text: settings_flags.parse(compare.Settings, name, text)
    for field in compare.Settings.__dataclass_fields__:
        delattr(flags.FLAGS, field)


def product(parse, *swept, **changes):
    given = compare.Settings(**(FEW | changes))
    return sweep.product(swept, compare.EXPERIMENT, given, parse, Resources())


def test_the_product_is_in_the_order_of_the_flags(parse):
    variants = product(
        parse, "cost=0.02, 0.01+0.02+0.03", "protocol=fedbr+fedavg,fedbr_bg", "full_batch=true"
    )
    assert [variant.name for variant in variants] == [
        "cost=0.02,protocol=fedbr+fedavg,full_batch=true",
        "cost=0.02,protocol=fedbr_bg,full_batch=true",
        "cost=0.01+0.02+0.03,protocol=fedbr+fedavg,full_batch=true",
        "cost=0.01+0.02+0.03,protocol=fedbr_bg,full_batch=true",
    ]
    changes = {"cost": (0.01, 0.02, 0.03), "protocol": ("fedbr", "fedavg"), "full_batch": True}
    assert variants[2].settings == compare.Settings(**FEW, **changes)
    assert variants[2].values == {"cost": "0.01+0.02+0.03", "protocol": "fedbr+fedavg", "full_batch": "true"}


def test_texts_are_swept_whole_whatever_is_in_their_brackets(parse):
    protocols = "fedbr(price(price=0.004), steps=50)+fedavg,fedbr(none, 70)"
    costs = "0.02,power([1e+0, 2.0, 3.0], exponent=2),linear(0.5)"
    variants = product(parse, f"protocol={protocols}", f"cost={costs}")
    assert [variant.settings.protocol for variant in variants[::3]] == [
        ("fedbr(price(price=0.004), steps=50)", "fedavg"),
        ("fedbr(none, 70)",),
    ]
    assert [variant.settings.cost for variant in variants[:3]] == [
        (0.02,),
        "power([1e+0, 2.0, 3.0], exponent=2)",
        "linear(0.5)",
    ]
    assert variants[1].name == (
        "protocol=fedbr(price(price=0.004), steps=50)+fedavg,cost=power([1e+0, 2.0, 3.0], exponent=2)"
    )
    assert len({variant.folder for variant in variants}) == 6
    assert all(
        set(variant.folder) <= {*string.ascii_letters, *string.digits, *"/=,+._~%-"} for variant in variants
    )
    with pytest.raises(FileNotFoundError, match=r"--cost: linear: `rate`: there is no file nowhere.csv"):
        product(parse, "cost=linear('nowhere.csv'),0.1")


def test_empty_texts_are_no_lists(parse):
    assert parse("protocol", " ") == parse("cost", "") == ()
    assert parse("cost", "_mine(1, 2)") == "_mine(1, 2)"
    assert parse("cost", "-1, inf") == (-1.0, np.inf)
    with pytest.raises(ValueError, match="--cost must be numbers separated by commas, got x,1"):
        parse("cost", "x, 1")


def test_folders_of_variants_are_their_names_where_a_file_system_takes_them(parse):
    (variant,) = product(parse, "cost=0.01+0.02+0.03")
    assert variant.folder == "variants/cost=0.01+0.02+0.03"
    paths = [
        sweep.Variant({"dataset": text}, variant.settings).folder
        for text in ("a/b.npz", "a_b.npz", "../é" * 90)
    ]
    assert paths[0] == "variants/dataset=a%2Fb.npz"
    assert len(set(paths)) == 3
    assert max(map(len, paths)) < 255
    assert all(path.count("/") == 1 for path in paths)


@pytest.mark.parametrize(
    ("swept", "message"),
    [
        (["cost"], r"^--sweep=cost: a sweep is written NAME=VALUE,VALUE,\.\.\.$"),
        (["colour=1,2"], r"^--sweep=colour=1,2: there is no setting 'colour'$"),
        (["seed="], r"^--sweep=seed=: a value is missing$"),
        (["seed=1,,2"], r"a value is missing"),
        (["cost=0.1,0.1++0.2"], r"a value is missing"),
        (["cost=0.1,+0.1"], r"a value is missing"),
        (["seed=1,2", "rounds=2", "seed=3"], r"^--sweep=seed=3: seed is swept already$"),
        (["cost=0.1,0.10"], r"^--sweep=cost=0.1,0.10: 0.10 is given twice$"),
        (["rounds=2,ten"], r"^--sweep=rounds=2,ten: 'ten' is no value of --rounds$"),
        (["rounds=2+3"], r"'2\+3' is no value of --rounds$"),
        (["cost=0.1,x+1"], r"'x\+1' is no value of --cost$"),
        (["full_batch=true,perhaps"], r"'perhaps' is no value of --full_batch$"),
        (
            ["beta=0.5,1.5"],
            r"^--sweep, variant beta=1.5: --beta must be a number, at least 0 and at most 1, got",
        ),
        (
            ["protocol=fedbr,fedup"],
            r"variant protocol=fedup: --protocol: there is no protocol 'fedup'; did you mean '",
        ),
        (
            ["seed=1,2", "cost=1,1+2"],
            r"variant seed=1,cost=1\+2: --cost needs one number or one for each of 3",
        ),
        (["capacity=12,300"], r"variant capacity=300: .*digits has 1200"),
        (["model=cnn,vgg11"], r"variant model=vgg11: "),  # not for images of 8×8
        (
            ["cost=linear(0.1),liner(0.2)"],
            r"variant cost=liner\(0.2\): --cost: there is no cost 'liner'; did",
        ),
        (
            ["cost=linear([1, 2])"],
            r"variant cost=linear\(\[1, 2\]\): --cost: `rate` must be shared or have one",
        ),
        (
            ["cost=power(0.1, 2)"],
            r"variant cost=power\(0.1, 2\): --protocol, FedBR-BG: β\* .*linear costs above 0",
        ),
        (["protocol=fedbr(none, steps=9),fedbr(none, steps=9)"], r"fedbr\(none, steps=9\) is given twice$"),
    ],
)
def test_what_cannot_run_is_one_sentence_that_names_the_variant(swept, message, parse):
    with pytest.raises(ValueError, match=message):
        product(parse, *swept)


def test_a_data_set_that_is_not_there(parse):
    with pytest.raises(FileNotFoundError, match="mnist is not prepared"):
        sweep.product(
            ["dataset=digits,mnist"],
            compare.EXPERIMENT,
            compare.Settings(**FEW),
            parse,
            Resources("/nowhere"),
        )


class Comparisons:
    """Replaces `compare.compute`: notes what ran, and fails or is interrupted where told."""

    def __init__(self, **errors):
        self.errors, self.ran = errors, []

    def __call__(self, task, work, resources):
        (cost, *_), seed = task.settings.cost, task.settings.seed
        self.ran.append(f"{cost:g}-{seed}")
        if error := self.errors.get(f"at_{seed}"):
            work.stop.set()  # as `jobs.run` does
            raise error
        names = [{"protocol": protocol, "seed": k} for protocol in ("FedBR", "FedBR-BG") for k in range(2)]
        rows = [
            name
            | {"utilities": kind, "scale": scale, "p": p, "welfare": cost + name["seed"], "undefined": ""}
            for name in names
            for kind in ("own", "held_out")
            for scale in ("mean", "sum")
            for p in (0.5, 1.0)
        ]
        rows[0] |= {"welfare": None, "undefined": "negative utility of agent 1"}
        work.write_csv("welfare.csv", scales.widened(rows))
        work.write_csv("runs.csv", [name | {"mean_utility": cost, "charged": 12.0} for name in names])
        work.write_csv("table1.csv", scales.widened(table1.table_rows(rows)))


def experiment(compute):
    changes = {"program": "this", "compute": compute, "show": lambda work: "one variant's tables"}
    return dataclasses.replace(compare.EXPERIMENT, **changes)


def run(parse, path, compute, resume=False):
    variants = product(parse, "cost=0.1,0.2", "seed=1,2")
    with workdir.open_workdir(str(path), "this", {}, resume, False) as work:
        sweep.run(variants, experiment(compute), work, Resources())
        return variants, work, compare.show_sweep(work)


def states(work):
    return {row["variant"]: row["status"] for row in work.read_csv("variants.csv")}


def test_variants_are_runs_of_their_own_and_their_rows_are_collected(parse, tmp_path, capsys):
    variants, work, report = run(parse, tmp_path / "run", Comparisons())
    assert "variant 3 of 4: cost=0.2,seed=1" in capsys.readouterr().err
    assert set(states(work).values()) == {"done"}
    stored = json.loads((work.path / variants[2].folder / "config.json").read_text())
    assert (stored["program"], stored["settings"]["cost"], stored["settings"]["seed"]) == (
        "this",
        [0.2] * 3,
        1,
    )
    assert stored["settings"]["images"]
    rows = work.read_csv("welfare.csv")
    assert list(rows[0])[:5] == ["variant", "cost", "swept_seed", "protocol", "seed"]
    assert len(rows) == 4 * 8
    assert len(work.read_csv("runs.csv")) == 4 * 4
    table = [line.split("|") for line in report.splitlines() if line.startswith("|")]
    assert [x.strip() for x in table[0][1:-1]] == [
        "--cost", "--seed", "protocol", "mean utility", "Σ samples", "p = 0.5", "p = 1"
    ]  # fmt: skip
    assert [x.strip() for x in table[2][1:-1]] == [
        "0.1", "1", "FedBR", "0.1000", "12.0", "undefined", "0.6 ± 0.5"
    ]  # fmt: skip
    assert len(table) == 2 + 4 * 2
    assert not work.has("sweep.png")  # over which of the two settings?


def test_a_failed_variant_is_reported_and_run_again_alone(parse, tmp_path):
    failing = Comparisons(at_2=FloatingPointError("training diverged\nat step 3"))
    _, work, report = run(parse, tmp_path, failing)
    assert failing.ran == ["0.1-1", "0.1-2", "0.2-1", "0.2-2"]
    assert list(states(work).values()) == ["done", "failed", "done", "failed"]
    assert "2 of 4 variants failed\ncost=0.1,seed=2: training diverged at step 3\ncost=0.2,seed=2:" in report
    assert [row["variant"] for row in sweep.failed(work)] == ["cost=0.1,seed=2", "cost=0.2,seed=2"]
    assert {row["variant"] for row in work.read_csv("runs.csv")} == {"cost=0.1,seed=1", "cost=0.2,seed=1"}
    again = Comparisons()
    _, work, report = run(parse, tmp_path, again, resume=True)
    assert again.ran == ["0.1-2", "0.2-2"]
    assert set(states(work).values()) == {"done"}
    assert "failed" not in report
    undisturbed = run(parse, tmp_path / "other", Comparisons())[1]
    for name in (*compare.EXPERIMENT.collected, sweep.HEADLINES):
        assert (work.path / name).read_bytes() == (undisturbed.path / name).read_bytes()


def test_if_all_fail_there_is_no_table(parse, tmp_path):
    errors = {f"at_{seed}": OSError("no space left") for seed in (1, 2)}
    _, work, report = run(parse, tmp_path, Comparisons(**errors))
    assert report.startswith("4 of 4 variants failed\n")
    assert not work.has("welfare.csv")


def test_an_interrupt_is_no_failure_and_a_bug_is_no_result(parse, tmp_path):
    for error in (snapshots.Interrupted(), TypeError("a bug")):
        with pytest.raises(type(error)):
            run(parse, tmp_path, Comparisons(at_2=error), resume=True)
        assert list(states(workdir.Workdir(tmp_path)).values()) == ["done", "not run", "not run", "not run"]
    _, work, _ = run(parse, tmp_path, done := Comparisons(), resume=True)
    assert done.ran == ["0.1-2", "0.2-1", "0.2-2"]
    assert set(states(work).values()) == {"done"}


def test_between_variants_an_interrupt_stops_the_sweep(parse, tmp_path):
    variants = product(parse, "seed=1,2")
    work = workdir.open_workdir(str(tmp_path), "this", {}, False, False)
    compute = Comparisons()

    def then_stop(task, mine, resources):
        assert not mine.stop.is_set()
        work.stop.set()
        assert mine.stop.is_set()  # training sees it
        return compute(task, mine, resources)

    with pytest.raises(snapshots.Interrupted):
        sweep.run(variants, experiment(then_stop), work, Resources())
    assert list(states(work).values()) == ["done", "not run"]


def test_a_variant_whose_files_are_gone_is_run_again(parse, tmp_path):
    variants, work, _ = run(parse, tmp_path, Comparisons())
    (work.path / variants[1].folder / "welfare.csv").unlink()
    run(parse, tmp_path, again := Comparisons(), resume=True)
    assert again.ran == ["0.1-2"]


def test_what_has_changed_in_a_sweep_is_not_believed_and_what_was_collected_is_collected_anew(
    parse, tmp_path
):
    variants, work, _ = run(parse, tmp_path, Comparisons())
    collected = work.path / "welfare.csv"
    whole = collected.read_bytes()
    collected.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    run(parse, tmp_path, Comparisons(), resume=True)
    assert collected.read_bytes() == whole
    of_variant = work.path / variants[1].folder / "welfare.csv"
    of_variant.write_bytes(of_variant.read_bytes().replace(b"0.1", b"0.2", 1))
    with pytest.raises(ValueError, match=r"variants/.*/welfare.csv is not as it was written"):
        run(parse, tmp_path, Comparisons(), resume=True)


def test_a_variant_of_other_images_is_not_mixed_in(parse, tmp_path):
    variants, work, _ = run(parse, tmp_path, Comparisons(at_2=ValueError("no")))
    file = work.path / variants[1].folder / "config.json"
    file.write_text(file.read_text().replace('"images": "', '"images": "0'))
    _, work, report = run(parse, tmp_path, Comparisons(), resume=True)
    assert "1 of 4 variants failed\ncost=0.1,seed=2: --resume: the run in" in report
    assert "has other settings: images=" in report


def test_the_figure_shows_welfare_over_one_numeric_setting(parse, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "draw", lambda work, name, function, size: drawn.append(function))
    variants = product(parse, "seed=2,1,40", "fit=concave,power")
    work = workdir.open_workdir(str(tmp_path), "this", {}, False, False)
    sweep.run(variants, experiment(Comparisons()), work, Resources())
    compare.show_sweep(work)
    (function,) = drawn
    fig = figure.Figure()
    function(work, fig)
    (ax,) = fig.axes
    assert (ax.get_xlabel(), ax.get_xscale(), ax.get_ylabel()) == ("seed", "log", "mean utility")
    assert ax.get_legend_handles_labels()[1] == [
        f"{protocol}, fit={fit}" for fit in ("concave", "power") for protocol in ("FedBR", "FedBR-BG")
    ]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 40])
    drawn = {bars.get_label(): bars.lines[0] for bars in ax.containers}
    of_fedbr = [line for label, line in drawn.items() if label.startswith("FedBR, ")]
    assert len({line.get_color() for line in of_fedbr}) == 1  # one colour per protocol
    assert len({line.get_linestyle() for line in of_fedbr}) == 2


def test_the_files_say_what_the_report_says(parse, tmp_path):
    _, work, report = run(parse, tmp_path, Comparisons())
    assert compare.show_sweep(work) == report
    with (tmp_path / "variants.csv").open() as file:
        assert next(csv.reader(file)) == ["variant", "cost", "seed", "status", "message", "seconds"]


def test_any_experiment_can_be_swept(tmp_path):
    """Without training: a table and a figure of all variants, from the files alone."""
    given = {"family": "power", "best": (0.97,), "scale": (6.0,), "power": (0.8,), "shift": (12.0,)}
    settings = equilibrium.Settings(**given, cost=(0.004, 0.005), capacity=(100.0,))
    swept, parse = ["held=0,10"], lambda name, text: float(text)
    variants = sweep.product(swept, equilibrium.EXPERIMENT, settings, parse, Resources())
    work = workdir.open_workdir(str(tmp_path), "this", {}, False, False)
    sweep.run(variants, equilibrium.EXPERIMENT, work, Resources())
    assert {row["status"] for row in work.read_csv("variants.csv")} == {"done"}
    for row, variant in zip(work.read_csv("headlines.csv"), variants, strict=True):
        alone = workdir.Workdir(tmp_path / variant.folder).read_json("equilibrium.json")
        assert (row["held"], row["total"]) == (variant.settings.held, alone["total"])
    assert len(work.read_csv("outcome.csv")) == 4
    answer, table = text.sweep(work).split("\n\n")
    assert [line.split(": ")[0] for line in answer.splitlines()] == [one.name for one in variants]
    lines = table.splitlines()
    assert [x.strip() for x in lines[0].split("|")[1:4]] == ["--held", "total", "contributed"]
    assert len(lines) == 4
    figures.show_sweep(work)
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    fig = figure.Figure()
    figures.sweep(work, fig)
    shown = [ax.get_title() for ax in fig.axes]
    assert shown == ["contributed", "mean utility"]  # the total differs by rounding only
    np.testing.assert_array_equal(fig.axes[0].lines[0].get_xdata(), [0, 10])
    with pytest.raises(ValueError, match="--sweep, variant held=-1: --held must be a number, at least 0"):
        sweep.product(["held=0,-1"], equilibrium.EXPERIMENT, settings, parse, Resources())
