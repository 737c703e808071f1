"""What commands leave is read as data: of one kind in each column, with every name as it is."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

import fedgame as fg
from fedgame.experiments import compare, equilibrium, mechanism
from fedgame.runs import experiment, sweep, workdir

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ["1", "nan", "=1+1", "True", "007", "'quoted", "a, b"]
TINY = compare.Settings(
    agents=3, capacity=(12, 10, 8), rounds=5, test_images=40, held_out=50, model="linear", sizes=(6, 15, 30),
    curve_seeds=2, seeds=2, steps=20, evaluate_every=20, protocol=("fedavg", "fedbr"), fit="power",
    cost=(0.0001,),  # nobody's utility is negative
)  # fmt: skip


def agents_file(folder):
    quoted = [f'"{name}",{0.004 + k / 1000},100' for k, name in enumerate(NAMES)]
    (folder / "agents.csv").write_text("\n".join(["name,cost,capacity", *quoted]) + "\n")
    return str(folder / "agents.csv")


def of_game(module, folder, **more):
    """What launch.equilibrium or launch.mechanism leaves."""
    given = {
        "agents": agents_file(folder.parent),
        "payoff": "power(best=0.97, scale=6, exponent=0.8, shift=12)",
    }
    experiment.run(module.EXPERIMENT, module.Settings(**given | more), str(folder))
    return fg.results.load(folder)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "run"
    experiment.run(compare.EXPERIMENT, TINY, str(folder), experiment.Resources(workers=1))
    return folder


def test_an_equilibrium_has_every_name_as_it_is(tmp_path):
    found = of_game(equilibrium, tmp_path / "run")
    assert found.program == "launch.equilibrium"
    assert found.outcome["name"].tolist() == NAMES
    assert found.outcome["contribution"].dtype == float
    assert found["outcome"] is found.outcome
    assert found.summary["equilibrium"]["agents"] == len(NAMES)
    assert [row["name"] for row in found.summary["outcome"]] == NAMES
    assert found.settings["payoff"].startswith("power(")
    assert float(found.outcome["contribution"].sum()) == pytest.approx(
        found.summary["equilibrium"]["contributed"]
    )


def test_a_mechanism_has_booleans_and_empty_cells(tmp_path):
    found = of_game(mechanism, tmp_path / "run", mechanism="personal", over_beta=2)
    assert found.outcome["stays"].dtype == bool
    assert found.outcome["payment"].sum() == pytest.approx(0, abs=1e-12)
    assert found.p_means["certified"].dtype == "boolean"
    assert found.p_means["certified"].isna().tolist() == [False] * (len(found.p_means) - 1) + [True]
    assert set(found.over_beta_contributions["name"]) == set(NAMES)
    assert sorted(found) == sorted(file.stem for file in (tmp_path / "run").glob("*.csv"))


def test_a_pivot_of_a_comparison_is_the_table_that_was_printed(compared):
    found = fg.results.load(compared)
    assert dict(found).keys() == set(found)
    pivot = found.welfare.pivot_table("welfare", "protocol", "p")
    expected = found.table1.pivot(index="protocol", columns="p", values="welfare")
    assert expected.notna().all(axis=None)
    pd.testing.assert_frame_equal(pivot, expected)
    held_out = (
        found.utilities.groupby(["protocol", "seed"])["held_out_utility"].mean().groupby("protocol").mean()
    )
    one = found.table1[found.table1["p"] == 1].set_index("protocol")
    np.testing.assert_allclose(one["held_out_welfare"], held_out, rtol=1e-12)
    np.testing.assert_allclose(one["welfare_sum"], 3 * one["welfare"], rtol=1e-12)
    assert found.utilities["agent"].dtype == found.runs["seed"].dtype == "int64"
    assert found.settings["agents"] == 3
    assert set(found.summary["game"]["equilibria"]) == {"FedAvg", "FedBR"}


def test_the_tables_of_a_sweep_are_those_of_all_its_variants(tmp_path):
    given = equilibrium.Settings(
        cost=(0.004,), capacity=(100.0,), payoff="power(best=0.97, scale=6, exponent=0.8, shift=12)"
    )
    variants = [
        sweep.Variant({"cost": str(c)}, dataclasses.replace(given, cost=(c, 2 * c))) for c in (0.004, 0.005)
    ]
    with workdir.open_workdir(str(tmp_path), "launch.equilibrium", {}, False, False) as work:
        sweep.run(variants, equilibrium.EXPERIMENT, work, experiment.Resources())
    found = fg.results.load(tmp_path)
    assert found.variants["status"].tolist() == ["done", "done"]
    assert found.outcome["variant"].nunique() == 2
    assert found.headlines["swept_cost"].tolist() == [0.004, 0.005]
    one = fg.results.load(tmp_path / "variants" / "cost=0.004")
    assert one.outcome["contribution"].tolist() == found.outcome["contribution"].tolist()[:2]


def test_nothing_that_has_changed_is_believed(compared, tmp_path):
    for name in ("table1.csv", "game.json", "config.json"):
        shutil.copytree(compared, tmp_path / name)
        file = tmp_path / name / name
        file.write_text(file.read_text() + " ")
        with pytest.raises(ValueError, match=rf"{name} is not as it was written; it is left as it is"):
            fg.results.load(tmp_path / name)
    later = fg.results.load(shutil.copytree(compared, tmp_path / "later"))
    (tmp_path / "later" / "runs.csv").write_text("protocol\nFedAvg\n")
    with pytest.raises(ValueError, match=r"runs.csv is not as it was written"):
        later["runs"]


def test_a_folder_without_a_run_is_told_what_it_lacks(compared, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere$"):
        fg.results.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no run: it has no config.json$"):
        fg.results.load(tmp_path)
    with pytest.raises(ValueError, match=r"it has no config.json; there are runs in run$"):
        fg.results.load(compared.parent)
    (tmp_path / "config.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(ValueError, match=r"holds no run: its config.json is not one of fedgame's$"):
        fg.results.load(tmp_path)


def test_what_people_have_put_beside_the_results_is_theirs(compared, tmp_path):
    mine = shutil.copytree(compared, tmp_path / "mine")
    (mine / "notes.csv").write_text("a,b\n1\n")
    (mine / "notes.json").write_text("{")
    (mine / "drawn.csv").unlink(missing_ok=True)
    found, whole = fg.results.load(mine), fg.results.load(compared)
    assert set(found) == set(whole) - {"drawn"}
    assert set(found.summary) == set(whole.summary)


def test_what_version_01_left_is_read_without_a_list_of_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"program": "launch.curve", "config": {"agents": 3}}))
    shutil.copy(ROOT / "tests" / "fixtures" / "0.1" / "curve.csv", tmp_path)
    found = fg.results.load(tmp_path)
    assert found.settings == {"agents": 3}
    assert found.curve["size"].dtype == "int64"


def test_a_table_that_is_not_there_is_told_with_those_that_are(compared):
    found = fg.results.load(compared)
    with pytest.raises(KeyError, match=r"has no table 'wellfare'; there are contributions, "):
        found["wellfare"]
    with pytest.raises(AttributeError, match="has no table 'wellfare'"):
        found.wellfare  # noqa: B018
    assert "welfare" in found
    assert "wellfare" not in found
    assert "welfare" in dir(found)
    assert repr(found).startswith("<results of launch.compare in ")


def test_columns_are_of_one_kind(tmp_path):
    with workdir.open_workdir(str(tmp_path), "this", {}, False, False) as work:
        rows = [
            {"whole": 1, "gap": 1, "number": 1e-300, "yes": True, "maybe": True, "word": "1_0", "end": "inf"},
            {"whole": -2, "gap": None, "number": -np.inf, "yes": False, "maybe": None, "word": "", "end": 1},
        ]
        work.write_csv("kinds.csv", [row | {"nothing": None, "none_undefined": ""} for row in rows])
    kinds = fg.results.load(tmp_path).kinds
    assert [str(kinds[name].dtype) for name in ("whole", "gap", "number", "yes", "maybe", "end")] == [
        *("int64", "float64", "float64", "bool", "boolean", "float64")
    ]
    assert kinds["number"].tolist() == [1e-300, -np.inf]
    assert kinds["word"].tolist()[0] == "1_0"
    assert kinds["word"].isna().tolist() == [False, True]
    assert kinds["nothing"].isna().all()
