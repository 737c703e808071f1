"""`launch.member --statistics` and `launch.agree`: members agree on columns without showing their tables."""

import subprocess
import sys

import numpy as np
import pandas
import pytest

import fedgame as fg
from fedgame.experiments import agree, trained
from fedgame.federation import member, messages
from fedgame.runs import experiment


def command(*words):
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)


@pytest.fixture(scope="module")
def agreed(write_members, tmp_path_factory):
    """A folder with members' tables, what they tell, and what they agree on; and what was printed."""
    folder = tmp_path_factory.mktemp("agreed")
    write_members(folder / "data", {"north": 30, "south, west": 40})
    for file in sorted((folder / "data").iterdir()):
        told = folder / "told" / f"{file.stem}.json"
        done = command("launch.member", f"--data={file}", f"--statistics={told}")
        assert "records" in done.stdout, done.stderr
    settings = agree.Settings(statistics=str(folder / "told"))
    return folder, experiment.run(agree.EXPERIMENT, settings, str(folder / "agreed"))


def test_what_is_agreed_is_told(agreed):
    folder, report = agreed
    assert "north, “south, west” have told what their columns are like, of 70 records." in report
    assert "`ill` (0 and 1) will be told by 2 columns" in report
    assert "| age " in report
    found = fg.results.load(folder / "agreed")
    assert list(found["columns"]["column"]) == ["age", "dose"]
    assert agree.EXPERIMENT.headline(experiment.Workdir(folder / "agreed")) == [
        {"members": 2, "records": 70, "columns": 2}
    ]


def test_her_file_is_made_like_it(agreed):
    folder, _ = agreed
    out, data = folder / "hers.json", folder / "hers.csv"
    rows = [line.split(",") for line in (folder / "data" / "north.csv").read_text().splitlines()]
    data.write_text("\n".join(f"{ill},{age},{dose}" for age, dose, ill in rows))  # the class stands first
    done = command(
        *("launch.member", f"--like={folder / 'agreed'}", f"--data={data}"),
        *("--cost=linear(rate=2)", f"--out={out}"),
    )
    assert done.returncode == 0, done.stderr
    hers = member.load(out)
    assert len(hers.train.labels) + len(hers.test.labels) == 30
    model = trained.load(folder / "agreed")
    assert (model.shape, model.target) == ((2,), "ill")
    assert (hers.like, hers.agreed) == (str(folder / "agreed"), trained.digest(model))
    both = [pandas.read_csv(file) for file in sorted((folder / "data").glob("*.csv"))]
    numbers = pandas.concat(both)[["age", "dose"]]
    expected = (both[0][["age", "dose"]] - numbers.mean()) / numbers.std(ddof=0)
    found = np.concatenate([hers.train.images, hers.test.images])
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=1e-5, atol=1e-6)


def test_the_final_model_that_she_is_given_is_one_for_load_model(agreed):
    folder, _ = agreed
    model, out = trained.load(folder / "agreed"), folder / "north.json"
    flags = [
        f"--like={folder / 'agreed'}",
        f"--data={folder / 'data' / 'north.csv'}",
        "--cost=linear(rate=2)",
    ]
    assert command("launch.member", *flags, f"--out={out}").returncode == 0
    given = {path: np.full_like(x, 0.5) for path, x in messages.to_arrays(model.params).items()}
    member.save_model(out, given)
    keep = f"import pathlib; from launch import member; member.keep_model(pathlib.Path({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", keep], capture_output=True, text=True)
    assert "fedgame.load_model reads it" in done.stdout, done.stderr
    found = fg.load_model(folder / "north_model")
    for path, x in messages.to_arrays(found.params).items():
        np.testing.assert_array_equal(x, given[path])
    assert found.preparation.schema == model.preparation.schema


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch.agree"], "give --statistics=FOLDER"),
        (["launch.agree", "--statistics=nowhere"], "--statistics: there is no folder nowhere"),
        (["launch.agree", "--statistics={folder}/data"], "at least two members must tell something, got 0"),
        (["launch.member", "--statistics=x.json"], "give --data, her table"),
        (["launch.member", "--statistics=x.txt", "--data={folder}/data/north.csv"], "must end in .json"),
        (["launch.member", "--statistics=x.json", "--data={folder}/nowhere.csv"], "there is no file"),
        (
            ["launch.member", "--statistics={folder}/told/north.json", "--data={folder}/data/north.csv"],
            "exists already",
        ),
        (
            ["launch.member", "--statistics=x.json", "--data={folder}/data/north.csv", "--without=height"],
            "no member has a column `height`",
        ),
    ],
)
def test_what_is_missing_is_named(agreed, words, said):
    done = command(*(word.format(folder=agreed[0]) for word in words))
    assert done.returncode == 1
    assert said in done.stderr
