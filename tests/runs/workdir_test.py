import hashlib
import json
import pathlib
import shutil
import threading
import time
from concurrent import futures

import pytest

import fedgame
from fedgame import registry
from fedgame.runs import jobs, snapshots, workdir

SETTINGS = {"agents": 10, "p": (0.2, 1.0)}


def open_workdir(path, settings=SETTINGS, resume=False, overwrite=False):
    return workdir.open_workdir(str(path), "this", settings, resume, overwrite)


def test_a_new_directory_says_what_made_it(tmp_path):
    open_workdir(tmp_path / "a" / "b")
    stored = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert stored["settings"] == {"agents": 10, "p": [0.2, 1.0], "use": {}}
    assert stored["versions"]["jax"]


def test_a_run_in_the_way_is_kept_unless_a_flag_says_otherwise(tmp_path):
    open_workdir(tmp_path).write_json("result.json", 1)
    with pytest.raises(ValueError, match=r"holds a run already.*--resume.*--overwrite"):
        open_workdir(tmp_path)
    with pytest.raises(ValueError, match="exclude each other"):
        open_workdir(tmp_path, resume=True, overwrite=True)
    with pytest.raises(ValueError, match=r"other settings: agents=3 \(there: 10\)$"):
        open_workdir(tmp_path, {**SETTINGS, "agents": 3}, resume=True)
    assert open_workdir(tmp_path, resume=True).path == tmp_path
    assert (tmp_path / "result.json").exists()
    open_workdir(tmp_path, overwrite=True)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("config_text", [None, "{", "[]", "{}", '{"program": "other", "settings": {}}'])
def test_somebody_elses_directory_is_never_touched(tmp_path, config_text):
    (tmp_path / "thesis.tex").write_text("mine")
    if config_text is not None:
        (tmp_path / "config.json").write_text(config_text)
    for flags in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(ValueError, match="holds no run of this program; it is left as it is"):
            open_workdir(tmp_path, **flags)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_run_that_an_earlier_version_began_is_that_versions_to_finish(tmp_path):
    """0.1 wrote its settings under `config`, its jobs below `pieces/`, and no version of its own."""
    earlier = {"program": "this", "config": SETTINGS, "versions": {"jax": "0.10.2"}}
    (tmp_path / "pieces").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(earlier))
    with pytest.raises(
        ValueError, match=r"begun by an earlier version of fedgame, which can finish it; --ove"
    ):
        open_workdir(tmp_path, resume=True)
    with pytest.raises(ValueError, match="holds a run already"):
        open_workdir(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["config"] == {"agents": 10, "p": [0.2, 1.0]}
    assert (tmp_path / "pieces").is_dir()
    open_workdir(tmp_path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "config.json").read_text())["versions"]["fedgame"] == fedgame.__version__


def write_mine(folder, word="mine", rule="none"):
    (folder / "mine.py").write_text(
        "from fedgame import registry\nfrom fedgame.mechanisms import rules\n"
        f"@registry.register('{word}')\ndef {word}(game):\n    return rules.{rule}(game)\n"
    )
    return str(folder / "mine.py")


def test_a_run_begun_with_a_file_of_ones_own_goes_on_with_that_file_alone(tmp_path):
    file = write_mine(tmp_path)
    registry.use(file)
    digest = hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
    open_workdir(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["use"] == {file: digest}
    assert open_workdir(tmp_path / "run", resume=True).path == tmp_path / "run"
    registry._USED.clear()
    for check in (workdir.check_workdir, lambda path, program, *again: open_workdir(path, SETTINGS, *again)):
        with pytest.raises(ValueError, match=r"--resume: the run in .* was begun with --use=") as error:
            check(str(tmp_path / "run"), "this", True, False)
        assert f"with --use={file} ({digest[:8]}), not with none; in brackets is how" in str(error.value)
        assert "\n" not in str(error.value)
    write_mine(tmp_path, rule="falkinger")
    registry.use(file)
    with pytest.raises(
        ValueError, match=rf"begun with --use=.* \({digest[:8]}\), not with --use=.* \(\w{{8}}\);"
    ):
        workdir.check_workdir(str(tmp_path / "run"), "this", True, False)
    workdir.check_workdir(str(tmp_path / "run"), "this", False, True)  # --overwrite begins anew
    open_workdir(tmp_path / "run", overwrite=True)
    assert open_workdir(tmp_path / "run", resume=True).path == tmp_path / "run"


def test_a_run_begun_without_one_does_not_go_on_with_a_file(tmp_path):
    open_workdir(tmp_path / "run")
    registry.use(write_mine(tmp_path))
    with pytest.raises(ValueError, match="was begun with no --use, not with --use="):
        open_workdir(tmp_path / "run", resume=True)


def test_no_file_that_was_read_is_deleted_with_the_results(tmp_path):
    open_workdir(tmp_path)
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("1\n")
    for again in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(
            ValueError, match=r"numbers.csv lies in --workdir=.*: write the results elsewhere"
        ):
            open_workdir(tmp_path, SETTINGS | {"sha256": {str(numbers): "of it"}}, **again)
    registry.use(write_mine(tmp_path))
    with pytest.raises(ValueError, match=r"mine.py lies in --workdir="):
        open_workdir(tmp_path, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "mine.py", "numbers.csv"]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a directory"):
        open_workdir(tmp_path / "file", overwrite=True)


def test_csv_and_json_hold_every_digit_and_no_invalid_number(tmp_path):
    work = open_workdir(tmp_path)
    rows = [{"x": 0.1 + 0.2, "y": None}, {"x": float("-inf"), "y": "a,b"}]
    work.write_csv("rows.csv", rows)
    assert work.read_csv("rows.csv") == rows
    assert [row["y"] for row in work.read_texts("rows.csv")] == ["", "a,b"]
    work.write_json("rows.json", rows)
    assert json.loads((tmp_path / "rows.json").read_text())[1]["x"] == "-inf"


def test_jobs_are_computed_once_in_any_order_and_returned_in_theirs(tmp_path):
    work, computed = open_workdir(tmp_path), []

    def job(name, size):
        return size, lambda: computed.append(name) or {"name": name}

    todo = {"a/1": job("a/1", 1), "b": job("b", 3), "c": job("c", 2)}
    first = jobs.run("stage", todo, work, workers=1)
    assert computed == ["b", "c", "a/1"]  # largest first
    assert list(first) == ["a/1", "b", "c"]
    assert [value["name"] for value in first.values()] == ["a/1", "b", "c"]
    assert jobs.run("stage", todo, work, workers=2) == first
    assert len(computed) == 3
    assert {row["job"] for row in work.timings()} == {"a/1", "b", "c"}


def test_a_failing_job_ends_the_stage_and_finished_ones_stay(tmp_path):
    work = open_workdir(tmp_path)
    begun = []

    def fail():
        raise FloatingPointError("training diverged")

    todo = {"good": (9, lambda: {"x": 1}), "bad": (8, fail)}
    todo |= {f"later{k}": (1, lambda k=k: time.sleep(0.05) or begun.append(k) or {}) for k in range(100)}
    with pytest.raises(FloatingPointError, match="training diverged"):
        jobs.run("stage", todo, work, workers=1)
    assert "good" in {row["job"] for row in work.timings()}
    assert len(begun) < 100


def test_jobs_that_run_beside_a_failing_one_save_what_they_did(tmp_path):
    work, both, told = open_workdir(tmp_path), threading.Barrier(2), []

    def fail():
        both.wait(10)
        raise FloatingPointError("training diverged")

    def lasting():
        both.wait(10)
        told.append(work.stop.wait(10))
        raise snapshots.Interrupted

    with pytest.raises(FloatingPointError, match=r"^runs/0-FedAvg: training diverged"):
        jobs.run("stage", {"runs/0-FedAvg": (2, fail), "other": (1, lasting)}, work, workers=2)
    assert told == [True]


def test_once_stopped_nothing_begins_and_what_is_stored_still_counts(tmp_path):
    work, todo = open_workdir(tmp_path), {"a": (1, lambda: {"x": 1})}
    first = jobs.run("stage", todo, work, workers=1)
    work.stop.set()
    assert jobs.run("stage", todo, work, workers=1) == first
    with pytest.raises(snapshots.Interrupted):
        jobs.run("stage", {"b": (1, lambda: {"x": 2})}, work, workers=1)
    assert not work.has("jobs/b.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"value": {}}'])
def test_a_job_that_cannot_be_read_is_an_error_and_stays_as_it_is(tmp_path, text):
    work = open_workdir(tmp_path)
    work.job("curve/0-3", lambda: {"x": 1})
    file = tmp_path / "jobs" / "curve" / "0-3.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"0-3.json cannot be read; it is left as it is: delete it"):
        work.job("curve/0-3", lambda: {"x": 2})
    assert file.read_text() == text


def test_a_job_of_another_run_or_place_is_an_error_and_stays_as_it_is(tmp_path):
    here, there = open_workdir(tmp_path / "here"), open_workdir(tmp_path / "there", {"agents": 3})
    value = here.job("a", lambda: {"x": 1})
    assert open_workdir(tmp_path / "here", resume=True).job("a", lambda: {"x": 2}) == value
    before = (tmp_path / "here" / "jobs" / "a.json").read_bytes()
    for work, name in ((there, "a"), (here, "b")):
        (work.path / "jobs").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "here" / "jobs" / "a.json", work.path / "jobs" / f"{name}.json")
        with pytest.raises(ValueError, match="is of another run; it is left as it is: move it away"):
            work.job(name, lambda: {"x": 2})
        assert (work.path / "jobs" / f"{name}.json").read_bytes() == before


def test_killed_while_the_directory_is_made_or_emptied(tmp_path):
    work = open_workdir(tmp_path / "run")
    (tmp_path / "run" / "config.json").rename(tmp_path / "run" / "config.json.12-34.partial")
    assert open_workdir(tmp_path / "run", resume=True).path == work.path
    assert open_workdir(tmp_path / "run", resume=True).path == work.path
    work.job("a", lambda: {"x": 1})
    workdir._empty(work.path)  # and killed: it still is a run, of no jobs
    assert [file.name for file in work.path.iterdir()] == ["config.json"]
    assert open_workdir(tmp_path / "run", overwrite=True).path == work.path


def test_what_is_measured_once_is_not_measured_again(tmp_path):
    computed = []

    def compute():
        computed.append(1)
        return {"accuracy": 0.1 + 0.2}

    key = {"rounds": 3, "sizes": (1, 2)}
    values = [workdir.cached(tmp_path / "cache", key, compute) for _ in range(3)]
    assert values == [{"accuracy": 0.1 + 0.2}] * 3
    assert len(computed) == 1
    workdir.cached(tmp_path / "cache", {**key, "rounds": 4}, compute)
    assert len(computed) == 2
    workdir.cached(None, key, compute)
    assert len(computed) == 3
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": {"other": 1}, "value": 9}', '{"key": {"k": 1}}'])
def test_a_damaged_cache_is_replaced(tmp_path, text):
    workdir.cached(tmp_path, {"k": 1}, lambda: 5)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert workdir.cached(tmp_path, {"k": 1}, lambda: 5) == 5
    assert json.loads(file.read_text()) == {"key": {"k": 1}, "value": 5}
    assert workdir.cached(tmp_path, {"k": 1}, lambda: 6) == 5


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert workdir.cached(tmp_path / "cache", {"k": 1}, lambda: 5) == 5


def test_two_may_write_one_file_at_once(tmp_path, monkeypatch):
    both, replace = threading.Barrier(2), workdir.os.replace

    def replace_together(*names):
        both.wait(10)
        replace(*names)

    monkeypatch.setattr(workdir.os, "replace", replace_together)
    with futures.ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(workdir.write, tmp_path / "file", text) for text in ("one", "two")]:
            one.result()
    assert [file.read_text() in ("one", "two") for file in tmp_path.iterdir()] == [True]
