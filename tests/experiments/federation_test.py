"""`launch.federation` in one process, and `launch.ledger` on what it leaves."""

import dataclasses
import json
import pathlib
import re
import socket
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

import fedgame as fg
from fedgame.experiments import federation, train, trained
from fedgame.federation import conduct, kits, ledger, member
from fedgame.games import scenarios
from fedgame.inputs import members as inputs
from fedgame.runs import experiment, workdir

ROOT = pathlib.Path(__file__).parent.parent.parent
TINY = federation.Settings(
    agents=3, capacity=(12,), rounds=2, test_images=5, model="linear", protocol="fedbr(falkinger, steps=4)",
    cost="power(rate=[0.0005, 0.001, 0.002], exponent=1.5)",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation") / "run"
    return folder, experiment.run(federation.EXPERIMENT, TINY, str(folder))


def test_all_rounds_are_settled_and_everybody_is_told(finished):
    folder, report = finished
    assert "All 2 rounds are settled." in report
    assert "receives" in report
    assert "pays" in report
    found = fg.results.load(folder)
    assert found["settled"]["received"].sum() == pytest.approx(0, abs=1e-12)
    assert list(found["rounds"]["round"]) == [0, 1, 2]
    assert found.summary["federation"]["complaints"] == []
    assert set(found["ledger"]["kind"]) == {"agreed", "member", "difference", "final"}
    for number in (1, 2, 3):
        statement = (folder / "statements" / f"{number}.txt").read_text()
        assert "Round 2: gave" in statement
        log = (folder / "federation" / "members" / f"site-{number}.log").read_text()
        assert "Enrolled as member" in log
        assert "The whole run:" in log
    images = fg.load_images("digits", train=0, test=3, seed=1).test.images
    assert fg.load_model(folder).predict(images).shape == (3,)


def test_a_run_that_is_over_does_nothing_again(finished):
    folder, report = finished
    before = ledger.Ledger(folder / "federation" / ledger.FILE).entries()
    assert experiment.run(federation.EXPERIMENT, TINY, str(folder)) == report
    assert ledger.Ledger(folder / "federation" / ledger.FILE).entries() == before


def test_the_ledger_of_another_federation_is_never_deleted(finished):
    folder, _ = finished
    other = dataclasses.replace(TINY, rounds=3)
    with pytest.raises(ValueError, match=r"ledger of another federation, which is not deleted: move it away"):
        experiment.run(federation.EXPERIMENT, other, str(folder), overwrite=True)
    assert ledger.Ledger(folder / "federation" / ledger.FILE).finished
    experiment.run(federation.EXPERIMENT, TINY, str(folder), overwrite=True)  # for the other tests


def test_members_with_tables_of_their_own_play_a_scenario(tmp_path, write_members):
    data = write_members(tmp_path / "data", {"north": 40, "south": 60})
    capacity = [30.0, 20.0]
    game = fg.Game(
        fg.EffectiveSamples(fg.PowerLaw(0.9, 1.0, 0.8, 4.0), np.array([[1.0, 0.3], [0.6, 1.0]])),
        fg.LinearCost(np.array([1.0, 2.0])), np.array(capacity), value=np.array([900.0, 700.0]),
    )  # fmt: skip
    scenarios.save(tmp_path / "scenario.json", game, ["south", "north"])  # in another order than the files
    settings = federation.Settings(
        scenario=str(tmp_path / "scenario.json"), federation=data, rounds=2, currency="EUR",
        protocol="fedbr(price(price=3.0), steps=4)",
    )  # fmt: skip
    report = experiment.run(federation.EXPERIMENT, settings, str(tmp_path / "run"))
    assert "€" in report
    rows = workdir.Workdir(tmp_path / "run").read_csv("settled.csv", text=("name",))
    assert [row["name"] for row in rows] == ["south", "north"]
    assert [row["capacity"] for row in rows] == capacity
    assert sum(round(100 * row["received"]) for row in rows) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"protocol": "mwfed(target=0.8)"}, r"--protocol: .*adapts contributions to the model"),
        ({"protocol": "nobody"}, "--protocol: "),
        ({"noise": 1.0}, "`noise` is a multiple of `clip`"),
        ({"cost": "linear(rate=[1, 2])"}, "--cost: `rate` must be shared or have one entry for each of 3"),
        ({"value": (1.0, 2.0)}, "--value needs one number or one for each of 3 agents, got 2"),
        ({"scenario": "nowhere.json"}, "--cost has no use with --scenario=nowhere.json"),
        ({"capacity": (5000,)}, "15000 training and 15 test images are asked for"),
    ],
)
def test_wrong_settings_are_a_sentence(change, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        federation.prepare(dataclasses.replace(TINY, **change))


def test_nvflare_is_asked_for_only_if_it_is_there(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"fedgame\[federation\]\""):
        federation.check(TINY, experiment.Resources(simulate=True))


def command(program, *words):
    line = [sys.executable, "-m", program, *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_launch_ledger_shows_exports_and_finds_what_was_changed(finished, tmp_path):
    folder, _ = finished
    done = command("launch.ledger", f"--workdir={folder}", f"--export={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 rounds are settled, and the books are closed. The ledger is consistent" in done.stdout
    assert (tmp_path / "out" / "ledger.csv").read_text() == (folder / "ledger.csv").read_text()
    log = folder / "federation" / "members" / "site-1.log"
    done = command("launch.ledger", f"--workdir={folder}", f"--log={log}")
    assert "What she has heard of the ledger, 3 times, is in it." in done.stdout
    (tmp_path / "other.log").write_text(re.sub(r"(Round 2: .* ends in )\w+", r"\g<1>abcdef", log.read_text()))
    done = command("launch.ledger", f"--workdir={folder}", f"--log={tmp_path / 'other.log'}")
    assert done.returncode == 1
    assert "Round 2: she has heard that the ledger ends in abcdef, which is" in done.stderr
    copy = tmp_path / "ledger.sqlite"
    with sqlite3.connect(folder / "federation" / ledger.FILE) as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute("UPDATE entries SET amount = amount + 1 WHERE number = 3")
    done = command("launch.ledger", f"--workdir={copy}")
    assert done.returncode == 1
    assert "entry 3: it, or the one before, has been changed" in done.stderr


@pytest.fixture(scope="module")
def agreed(tmp_path_factory, write_members):
    """A folder of two members' tables, and a model that says by which columns and classes they train."""
    folder = tmp_path_factory.mktemp("agreed")
    data = write_members(folder / "data", {"north": 40, "south": 60})
    settings = train.Settings(federation=data, rounds=1)
    experiment.run(train.EXPERIMENT, settings, str(folder / "model"))
    return folder


def test_a_member_makes_her_file_from_her_own_table(agreed, tmp_path):
    flags = [
        f"--like={agreed / 'model'}",
        "--cost=linear(rate=2)",
        "--value=900",
        f"--out={tmp_path / 'hers.json'}",
    ]
    done = command("launch.member", *flags, f"--data={agreed / 'data' / 'south.csv'}", "--limit=20")
    assert done.returncode == 0, done.stderr
    assert "45 records to train on and 15 that are held out; she shares at most 20" in done.stdout
    hers = member.load(tmp_path / "hers.json")
    assert (hers.value, hers.limit, float(hers.cost.rate)) == (900.0, 20.0, 2.0)
    assert hers.train.images.shape == (45, 2)
    assert set(hers.train.labels) <= {0, 1}
    done = command("launch.member", *flags, f"--data={agreed / 'data' / 'south.csv'}")
    assert done.returncode == 1
    assert "exists already: replace it by --overwrite" in done.stderr


def test_a_table_with_other_columns_or_classes_is_refused(agreed, tmp_path):
    model = trained.load(agreed / "model")
    other = tmp_path / "other.csv"
    for text, told in (
        ("height,ill\n1,0\n", "has none of the agreed columns: age, dose"),
        ("age,dose,ill\n1,2,3\n", "`ill` is 3; agreed classes are 0, 1"),
    ):
        other.write_text(text)
        with pytest.raises(ValueError, match=told):
            inputs.own_table(other, None, model.preparation.schema, model.classes)
    with pytest.raises(ValueError, match="has no column `sick`; it has age, dose, ill"):
        inputs.own_table(other, "sick", model.preparation.schema, model.classes)


def test_a_server_needs_no_data(agreed, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # as if NVFlare were there
    game = fg.Game(fg.PowerLaw(0.9, 1.0, 0.8, 4.0), fg.LinearCost(np.ones(2)), np.array([20.0, 30.0]))
    scenarios.save(tmp_path / "scenario.json", game, ["north", "south"])
    settings = federation.Settings(scenario=str(tmp_path / "scenario.json"), like=str(agreed / "model"))
    found = federation.prepare(settings, experiment.Resources(server="localhost"))
    assert found.members == ()
    assert found.federation.names == ("north", "south")
    assert found.federation.training.features == (2,)
    assert found.federation.rounds == 100  # as of all small models
    with pytest.raises(ValueError, match="--server needs --like and --scenario"):
        federation.prepare(settings)
    wrong = dataclasses.replace(settings, federation=str(agreed / "data"))
    with pytest.raises(ValueError, match="--federation has no use with --like"):
        federation.prepare(wrong, experiment.Resources(server="localhost"))


def test_the_plan_is_what_another_process_needs(finished):
    folder, _ = finished
    told = json.loads((folder / "federation" / "plan.json").read_text())["federation"]
    again = conduct.Federation.from_dict(told)
    assert json.loads(json.dumps(again.to_dict())) == told
    assert again.rounds == 2


def test_a_member_is_told_when_her_server_is_gone_and_back(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = f"127.0.0.1:{listening.getsockname()[1]}"
        assert kits.lost_since(server, None, 5.0) is None
        assert capsys.readouterr().out == ""
        assert kits.lost_since(server, time.monotonic() - 3.0, 5.0) is None
        assert capsys.readouterr().out == f"{server} answers again\n"
    since = kits.lost_since(server, None, 5.0)
    assert "waiting for it for 5 s" in capsys.readouterr().out
    assert kits.lost_since(server, since, 5.0) == since
    with pytest.raises(ValueError, match="has not answered for 5 s: ask whoever runs it"):
        kits.lost_since(server, since - 6.0, 5.0)
