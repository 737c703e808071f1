import json
import time

import pytest

from fedgame.experiments import pieces, storage

CONFIG = {"agents": 10, "p": (0.2, 1.0)}


def open_workdir(path, config=CONFIG, resume=False, overwrite=False):
    return storage.open_workdir(str(path), "this", config, resume, overwrite)


def test_a_new_directory_says_what_made_it(tmp_path):
    open_workdir(tmp_path / "a" / "b")
    stored = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert stored["config"] == {"agents": 10, "p": [0.2, 1.0]}
    assert stored["versions"]["jax"]


def test_a_run_in_the_way_is_kept_unless_a_flag_says_otherwise(tmp_path):
    open_workdir(tmp_path).write_json("result.json", 1)
    with pytest.raises(ValueError, match=r"holds a run already.*--resume.*--overwrite"):
        open_workdir(tmp_path)
    with pytest.raises(ValueError, match="exclude each other"):
        open_workdir(tmp_path, resume=True, overwrite=True)
    with pytest.raises(ValueError, match=r"other settings: agents=3 \(there: 10\)$"):
        open_workdir(tmp_path, {**CONFIG, "agents": 3}, resume=True)
    assert open_workdir(tmp_path, resume=True).path == tmp_path
    assert (tmp_path / "result.json").exists()
    open_workdir(tmp_path, overwrite=True)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("config_text", [None, "{", "[]", "{}", '{"program": "other", "config": {}}'])
def test_somebody_elses_directory_is_never_touched(tmp_path, config_text):
    (tmp_path / "thesis.tex").write_text("mine")
    if config_text is not None:
        (tmp_path / "config.json").write_text(config_text)
    for flags in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(ValueError, match="holds no run of this program; it is left as it is"):
            open_workdir(tmp_path, **flags)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a directory"):
        open_workdir(tmp_path / "file", overwrite=True)


def test_csv_and_json_hold_every_digit_and_no_invalid_number(tmp_path):
    work = open_workdir(tmp_path)
    rows = [{"x": 0.1 + 0.2, "y": None}, {"x": float("-inf"), "y": "a,b"}]
    work.write_csv("rows.csv", rows)
    read = work.read_csv("rows.csv")
    assert [float(row["x"]) for row in read] == [0.1 + 0.2, float("-inf")]
    assert [row["y"] for row in read] == ["", "a,b"]
    work.write_json("rows.json", rows)
    assert json.loads((tmp_path / "rows.json").read_text())[1]["x"] == "-inf"


def test_pieces_are_computed_once_in_any_order_and_returned_in_theirs(tmp_path):
    work, computed = open_workdir(tmp_path), []

    def piece(name, size):
        return size, lambda: computed.append(name) or {"name": name}

    jobs = {"a/1": piece("a/1", 1), "b": piece("b", 3), "c": piece("c", 2)}
    first = pieces.run("stage", jobs, work, workers=1)
    assert computed == ["b", "c", "a/1"]  # largest first
    assert list(first) == ["a/1", "b", "c"]
    assert [value["name"] for value in first.values()] == ["a/1", "b", "c"]
    assert pieces.run("stage", jobs, work, workers=2) == first
    assert len(computed) == 3
    assert {row["piece"] for row in work.timings()} == {"a/1", "b", "c"}


def test_a_failing_piece_ends_the_stage_and_finished_ones_stay(tmp_path):
    work = open_workdir(tmp_path)
    begun = []

    def fail():
        raise FloatingPointError("training diverged")

    jobs = {"good": (9, lambda: {"x": 1}), "bad": (8, fail)}
    jobs |= {f"later{k}": (1, lambda k=k: time.sleep(0.05) or begun.append(k) or {}) for k in range(100)}
    with pytest.raises(FloatingPointError, match="training diverged"):
        pieces.run("stage", jobs, work, workers=1)
    assert "good" in {row["piece"] for row in work.timings()}
    assert len(begun) < 100
