import hashlib
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from concurrent import futures

import hypothesis
import hypothesis.strategies as st
import pytest

from fedgame import registry
from fedgame.runs import jobs, snapshots, workdir

SETTINGS = {"agents": 10, "p": (0.2, 1.0)}


def hold(path, settings=SETTINGS, resume=False, overwrite=False, reads=()):
    return workdir.open_workdir(str(path), "this", settings, resume, overwrite, reads)


def open_workdir(*args, **kwargs):
    """A directory that another run may open again at once."""
    with hold(*args, **kwargs) as work:
        return work


def names(folder):
    """What people see in a folder."""
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


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
    with pytest.raises(ValueError, match=r"begun by an earlier version of fedgame, which can finish it$"):
        open_workdir(tmp_path, resume=True)
    with pytest.raises(ValueError, match="holds a run already"):
        open_workdir(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["config"] == {"agents": 10, "p": [0.2, 1.0]}
    assert (tmp_path / "pieces").is_dir()
    with pytest.raises(ValueError, match="kept no list of what it wrote: delete the directory yourself"):
        open_workdir(tmp_path, overwrite=True)
    assert names(tmp_path) == ["config.json", "pieces"]


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
            open_workdir(tmp_path, reads=[numbers], **again)
    registry.use(write_mine(tmp_path))
    with pytest.raises(ValueError, match=r"mine.py lies in --workdir="):
        open_workdir(tmp_path, overwrite=True)
    assert names(tmp_path) == ["README.md", "SHA256SUMS", "config.json", "mine.py", "numbers.csv"]


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


def test_names_that_a_spreadsheet_would_evaluate_come_back_from_cells_and_columns(tmp_path):
    work = open_workdir(tmp_path)
    rows = [{"name": "=1+1", "@class": -3.5, "x": "-3.5"}]
    work.write_csv("rows.csv", rows)
    assert (tmp_path / "rows.csv").read_text() == "name,'@class,x\n'=1+1,-3.5,-3.5\n"
    assert work.read_csv("rows.csv", text=("x",)) == rows


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
@pytest.mark.parametrize(("listed", "told"), [(True, "is not as it was written"), (False, "cannot be read")])
def test_a_job_that_cannot_be_read_is_an_error_and_stays_as_it_is(tmp_path, text, listed, told):
    work = open_workdir(tmp_path)
    work.job("curve/0-3", lambda: {"x": 1})
    file = tmp_path / "jobs" / "curve" / "0-3.json"
    file.write_text(text)
    if not listed:  # as by a version that kept no list
        (tmp_path / "SHA256SUMS").unlink()
        work = open_workdir(tmp_path, resume=True)
    with pytest.raises(ValueError, match=rf"0-3.json {told}; it is left as it is: .*delete"):
        work.job("curve/0-3", lambda: {"x": 2})
    assert file.read_text() == text


def test_a_job_of_another_run_or_place_is_an_error_and_stays_as_it_is(tmp_path):
    here, there = open_workdir(tmp_path / "here"), open_workdir(tmp_path / "there", {"agents": 3})
    value = here.job("a", lambda: {"x": 1})
    assert open_workdir(tmp_path / "here", resume=True).job("a", lambda: {"x": 2}) == value
    before = (tmp_path / "here" / "jobs" / "a.json").read_bytes()
    for work, name in ((there, "c"), (here, "b")):
        (work.path / "jobs").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "here" / "jobs" / "a.json", work.path / "jobs" / f"{name}.json")
        with pytest.raises(ValueError, match="is of another run; it is left as it is: move it away"):
            work.job(name, lambda: {"x": 2})
        assert (work.path / "jobs" / f"{name}.json").read_bytes() == before


def test_killed_while_the_directory_is_made_or_emptied(tmp_path):
    work = open_workdir(tmp_path / "run")
    (tmp_path / "run" / "README.md").unlink()  # written last
    (tmp_path / "run" / "config.json").rename(tmp_path / "run" / "config.json.12-34.partial")
    assert open_workdir(tmp_path / "run", resume=True).path == work.path
    assert open_workdir(tmp_path / "run", resume=True).path == work.path
    work.job("a", lambda: {"x": 1})
    unlink, left = pathlib.Path.unlink, []

    def killed(file, missing_ok=False):
        left.append(names(work.path))
        unlink(file, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", killed)
        workdir._delete_run(work.path)
    assert all("config.json" in there for there in left[:-1])  # whenever it is killed, it still is a run
    assert names(work.path) == []
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


OF_1 = '{"key": {"k": 1}, "value": 9, "sha256": "'


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"key": {"other": 1}, "value": 9}', '{"key": {"k": 1}}', f'{OF_1}of 5"}}']
)
def test_a_damaged_cache_is_replaced(tmp_path, text):
    workdir.cached(tmp_path, {"k": 1}, lambda: 5)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert workdir.cached(tmp_path, {"k": 1}, lambda: 5) == 5
    stored = json.loads(file.read_text())
    assert (stored["key"], stored["value"]) == ({"k": 1}, 5)
    assert workdir.cached(tmp_path, {"k": 1}, lambda: 6) == 5


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert workdir.cached(tmp_path / "cache", {"k": 1}, lambda: 5) == 5


def test_an_empty_path_names_no_file():
    with pytest.raises(ValueError, match=r"'\.' names no file"):
        workdir.write(pathlib.Path(""), "text")


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


def test_a_directory_is_one_processs_at_a_time(tmp_path):
    with hold(tmp_path) as work:
        for flags in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match=rf"in use by process {os.getpid()} on .*: wait for it"):
                hold(tmp_path, **flags)
        assert work.has("config.json")
    assert open_workdir(tmp_path, resume=True).path == tmp_path
    with pytest.raises(ValueError, match="has other settings"):
        hold(tmp_path, {}, resume=True)
    assert open_workdir(tmp_path, resume=True).path == tmp_path  # what was refused holds nothing


def test_a_run_stays_the_one_it_is_whatever_somebody_puts_in_the_place_of_its_settings(tmp_path):
    with hold(tmp_path) as work:
        config = tmp_path / "config.json"
        whole = config.read_bytes()
        config.write_text("{}")
        work.job("a", lambda: {"x": 1})
        config.write_bytes(whole)
    assert open_workdir(tmp_path, resume=True).job("a", lambda: {"x": 2}) == {"x": 1}


def test_the_lock_of_a_killed_process_is_free_and_what_it_left_unfinished_is_gone(tmp_path):
    program = (
        "import os, sys; from fedgame.runs import workdir\n"
        f"work = workdir.open_workdir(sys.argv[1], 'this', {SETTINGS}, False, False)\n"
        "work.put('a.txt', lambda path: (path.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], check=False)
    assert done.returncode == -9
    assert list((tmp_path / "run").glob("*.partial"))
    open_workdir(tmp_path / "run", resume=True)
    assert names(tmp_path / "run") == ["README.md", "SHA256SUMS", "config.json"]


def test_overwriting_deletes_what_the_run_wrote_and_nothing_else(tmp_path):
    work = open_workdir(tmp_path)
    work.write_csv("table.csv", [{"x": 1}])
    work.job("a/b", lambda: {"x": 1})
    work.put("model", lambda path: (path.mkdir(), (path / ".hidden").write_text("1")))
    variant = open_workdir(tmp_path / workdir.RUNS_OF_SWEEP / "cost=1")
    variant.write_json("x.json", 1)
    nested = open_workdir(tmp_path / "later" / "run")  # of its own
    mine = [tmp_path / name for name in ("data.npz", "jobs/notes.txt", "model/notes.txt", "empty")]
    for file in mine[:-1]:
        file.write_text("mine")
    mine[-1].mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "later")
    open_workdir(tmp_path, overwrite=True)
    there = ["SHA256SUMS", "config.json", "data.npz", "elsewhere", "empty", "jobs", "later", "model"]
    assert names(tmp_path) == ["README.md", *there]
    assert [file.read_text() for file in mine[:-1]] == ["mine"] * 3
    assert names(tmp_path / "jobs") == names(tmp_path / "model") == ["notes.txt"]
    assert not (tmp_path / "model" / ".hidden").exists()
    assert nested.has("config.json")


def test_a_folder_of_the_run_that_has_become_a_link_is_not_followed(tmp_path):
    work = open_workdir(tmp_path / "run")
    work.job("a", lambda: {"x": 1})
    (tmp_path / "run" / "jobs").rename(tmp_path / "jobs")
    (tmp_path / "run" / "jobs").symlink_to(tmp_path / "jobs")
    open_workdir(tmp_path / "run", overwrite=True)
    assert names(tmp_path / "jobs") == ["a.json"]


DAMAGE = {
    "a digit": lambda data: data.replace(b"1", b"2", 1),
    "cut at a line end": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "empty": lambda data: b"",
    "a line more": lambda data: data + b"1,2\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["table.csv", "table.json", "jobs/a.json", "model/numbers"])
def test_what_has_changed_is_not_believed_and_left_as_it_is(tmp_path, damage, name):
    work = open_workdir(tmp_path)
    rows = [{"x": 1, "y": 11}, {"x": 21, "y": 31}]
    work.write_csv("table.csv", rows)
    work.write_json("table.json", rows)
    work.job("a", lambda: rows)
    work.put("model", lambda path: (path.mkdir(), (path / "numbers").write_text("1\n1\n")))
    changed = damage((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(changed)
    again = open_workdir(tmp_path, resume=True)
    read = {
        "table.csv": lambda: again.read_csv("table.csv"),
        "table.json": lambda: again.read_json("table.json"),
        "jobs/a.json": lambda: again.job("a", lambda: 0),
        "model/numbers": lambda: again.has("model"),
    }
    with pytest.raises(ValueError, match=rf"{name} is not as it was written; it is left as it is: restore"):
        read.pop(name)()
    assert (tmp_path / name).read_bytes() == changed
    assert all(read_one() for read_one in read.values())  # nothing else is in doubt


def test_a_file_that_was_about_to_be_replaced_is_the_runs_before_and_after(tmp_path):
    """A kill between the line in the list and the file; then one in the middle of the line."""
    work = open_workdir(tmp_path)
    work.write_json("x.json", 1)
    work._written.add({"x.json": "0" * 64})
    with (tmp_path / "SHA256SUMS").open("a") as file:
        file.write("0123")
    again = workdir.Workdir(tmp_path)
    assert again.read_json("x.json") == 1
    again.write_json("y.json", 2)
    assert workdir.Workdir(tmp_path).read_json("y.json") == 2
    assert "0123\n" in (tmp_path / "SHA256SUMS").read_text()


def test_at_the_end_the_list_is_what_sha256sum_checks(tmp_path):
    with hold(tmp_path) as work:
        for number in range(3):
            work.write_json("b.json", number)
        work.write_json("a.json", 0)
        work.write_json("gone.json", 0)
        (tmp_path / "gone.json").unlink()
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["README.md", "a.json", "b.json", "config.json"]
    assert lines[2].split("  ")[0] == hashlib.sha256((tmp_path / "b.json").read_bytes()).hexdigest()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    work = open_workdir(tmp_path)
    work.write_json("x.json", 1)

    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        work.put("x.json", full)
    assert work.read_json("x.json") == 1
    assert names(tmp_path) == ["README.md", "SHA256SUMS", "config.json", "x.json"]


@hypothesis.given(
    st.recursive(st.sampled_from(["nan", "'nan", "inf", "''-inf", "Infinity", "", "x"]), st.lists)
)
def test_names_that_look_like_numbers_stay_names(value):
    given = {"names": value, "number": math.inf}
    assert workdir._with_numbers(json.loads(workdir.to_json(workdir._marked(given)))) == given
