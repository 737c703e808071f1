"""`launch.member --statistics` and `launch.agree`: members agree on columns without showing their tables."""

import subprocess
import sys

import numpy as np
import pytest

import fedgame as fg
from fedgame.experiments import agree, trained
from fedgame.federation import member
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
    assert np.all(np.abs(np.concatenate([hers.train.images, hers.test.images]).mean(axis=0)) < 1)


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
