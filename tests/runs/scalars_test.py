"""What TensorBoard is shown of a training run: every evaluated round once, whatever interrupts it."""

import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from fedgame.experiments import train
from fedgame.runs import experiment, scalars, snapshots, workdir

GIVEN = {"agents": 3, "capacity": (12,), "rounds": 4, "epochs": 1, "held_out": 50, "model": "linear"}
SHOWN = experiment.Resources(tensorboard=True)


def events_in(folder):
    """(tag, round, value) of everything in the event files of a folder, in its order."""
    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:  # a length, its checksum, an event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return found


def run(folder, resources=SHOWN, stop_after=None, overwrite=False, **changes):
    """What launch.train leaves; with `stop_after`, if it is told to stop in this round."""
    task = train.prepare(train.Settings(**GIVEN | changes), resources)
    about, resume = experiment.described(task), folder.exists() and not overwrite
    with workdir.open_workdir(str(folder), "launch.train", about, resume, overwrite) as work:
        work.save_every = 1e9
        if stop_after is None:
            train.compute(task, work, resources)
            return work
        interrupted(task, work, resources, stop_after)
    return work


def interrupted(task, work, resources, stop_after):
    """As Ctrl-C does in this round."""
    give = snapshots.snapshots

    def give_and_stop(*args):
        made = give(*args)

        def offer(number, state):
            if number == stop_after:
                work.stop.set()
            made.offer(number, state)

        return made._replace(offer=offer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "snapshots", give_and_stop)
        with pytest.raises(snapshots.Interrupted):
            train.compute(task, work, resources)


def expected(work):
    return [("accuracy", row["round"], row["accuracy"]) for row in work.read_csv("rounds.csv")]


def assert_same(found, rows):
    assert [event[:2] for event in found] == [row[:2] for row in rows]
    np.testing.assert_allclose([event[2] for event in found], [row[2] for row in rows], rtol=1e-6)


def test_every_evaluated_round_is_there_and_decides_nothing(tmp_path):
    work = run(tmp_path / "run", evaluate_every=3)
    found = events_in(tmp_path / "run" / "tensorboard")
    assert [step for _, step, _ in found] == [0, 3, 4]
    assert_same(found, expected(work))
    run(tmp_path / "without", experiment.Resources(), evaluate_every=3)
    names = {f.name for f in (tmp_path / "run").iterdir()} - {
        f.name for f in (tmp_path / "without").iterdir()
    }
    assert names == {"tensorboard"}
    for name in ("rounds.csv", "config.json", "model.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert "`tensorboard/`" in (tmp_path / "run" / "README.md").read_text()
    assert "tensorboard" not in (tmp_path / "run" / "SHA256SUMS").read_text()


def test_an_interrupted_run_has_no_round_twice_and_none_is_missing(tmp_path):
    folder = tmp_path / "run" / "tensorboard"
    run(tmp_path / "run", stop_after=2)
    assert [step for _, step, _ in events_in(folder)] == [0, 1, 2]
    run(tmp_path / "run", stop_after=3)
    assert [step for _, step, _ in events_in(folder)] == [0, 1, 2, 3]
    work = run(tmp_path / "run")
    assert_same(events_in(folder), expected(work))
    again = run(tmp_path / "run")  # finished: nothing is trained
    assert_same(events_in(folder), expected(again))
    assert len(list(folder.iterdir())) == 1


def test_a_run_that_began_without_it_is_shown_from_its_first_round(tmp_path):
    run(tmp_path / "run", experiment.Resources(), stop_after=2)
    work = run(tmp_path / "run")
    assert_same(events_in(tmp_path / "run" / "tensorboard"), expected(work))


def test_members_are_shown_one_by_one_whatever_their_names(tmp_path, write_members):
    folder = write_members(tmp_path / "members", {"a/b": 60, "a=b": 40, "a*b": 40})
    given = {
        "federation": folder,
        "rounds": 2,
        "model": None,
        "held_out": None,
        "capacity": None,
        "agents": 10,
    }
    work = run(tmp_path / "run", **given)
    found = events_in(tmp_path / "run" / "tensorboard")
    tags = {"a*b": "accuracy_of/0_a_b", "a/b": "accuracy_of/1_a/b", "a=b": "accuracy_of/2_a_b"}
    assert {tag for tag, _, _ in found} == {"accuracy", *tags.values()}
    rows = work.read_csv("rounds_by_member.csv", text=("member",))
    for name, tag in tags.items():
        mine = [(tag, row["round"], row["accuracy"]) for row in rows if row["member"] == name]
        assert_same([event for event in found if event[0] == tag], mine)


def test_overwriting_deletes_what_the_run_wrote_there_and_nothing_else(tmp_path):
    run(tmp_path / "run")
    run(tmp_path / "run", experiment.Resources(), overwrite=True)
    assert not (tmp_path / "run" / "tensorboard").exists()
    run(tmp_path / "run", overwrite=True)
    mine = tmp_path / "run" / "tensorboard" / "events.out.tfevents.1.of.mine"
    mine.write_text("mine")
    run(tmp_path / "run", experiment.Resources(), overwrite=True)
    assert list((tmp_path / "run" / "tensorboard").iterdir()) == [mine]


def test_a_folder_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "events.out.tfevents.1.of.fedgame").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    scalars.delete(tmp_path / "link")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_without_the_package_a_sentence_says_what_to_install(tmp_path):
    """In a process that finds no package of this name, as where it is not installed."""
    program = (
        "import sys; sys.modules['tensorboardX'] = None\n"
        "from launch import running, train\n"
        "running.run(train.main)"
    )
    command = [sys.executable, "-c", program, "--tensorboard", "--rounds=1", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        'error: --tensorboard needs tensorboardX: pip install "fedgame[tensorboard]"'
    )
    assert not (tmp_path / "run").exists()
