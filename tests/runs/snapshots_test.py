import shutil
import threading
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games
from fedgame.learning import curve, federated, local, models, trainer
from fedgame.mechanisms import rules
from fedgame.protocols import afl, base, fedavg, fedbr, mwfed, qffl
from fedgame.runs import jobs, snapshots, workdir


class Memory(NamedTuple):
    weights: np.ndarray
    frozen: bool


def a_state(rounds=1):
    params = {"layer": {"kernel": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3) + rounds}}
    return params, Memory(np.arange(3) / 7, rounds > 1), np.arange(4 * rounds, dtype=np.int32).reshape(-1, 4)


def keep(folder, identity=None, every=0.0, stop=None, last=None):
    identity = {"run": "this"} if identity is None else identity
    return snapshots.snapshots(folder, identity, every, stop or threading.Event(), last)


def everything(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def kept(tmp_path):
    """A directory in which three rounds were kept."""
    snapshots = keep(tmp_path / "kept")
    for number in (1, 2, 3):
        snapshots.offer(number, a_state(number))
    return tmp_path / "kept"


def test_the_last_state_comes_back_bit_for_bit_and_alone(kept):
    number, state = keep(kept).restore(a_state())
    assert number == 3
    chex.assert_trees_all_equal_structs(state, a_state())
    for found, given in zip(jax.tree.leaves(state), jax.tree.leaves(a_state(3)), strict=True):
        assert np.asarray(found).tobytes() == np.asarray(given).tobytes()
        assert np.asarray(found).dtype == np.asarray(given).dtype
    assert [path.name for path in kept.iterdir()] == ["3"]


def test_nothing_kept_starts_at_the_start(tmp_path):
    start = a_state()
    assert keep(tmp_path / "none").restore(start) == (0, start)
    assert not (tmp_path / "none").exists()


def test_what_a_kill_leaves_is_neither_read_nor_in_the_way(kept):
    for name in ("4.partial", "5.partial/state.orbax-checkpoint-tmp"):  # killed while it was written
        shutil.copytree(kept / "3", kept / name)
        (kept / name / "snapshot.json").unlink()
    shutil.copytree(kept / "3", kept / "2")  # killed while the one before was deleted
    (kept / "2" / "snapshot.json").unlink()
    snapshots = keep(kept)
    number, _ = snapshots.restore(a_state())
    assert number == 3
    snapshots.offer(4, a_state(4))
    assert [path.name for path in kept.iterdir()] == ["4"]
    number, _ = keep(kept).restore(a_state())
    assert number == 4


def test_killed_before_the_first_was_whole(kept):
    (kept / "3").rename(kept / "3.partial")
    start = a_state()
    assert keep(kept).restore(start) == (0, start)


def test_any_change_of_any_file_is_an_error_and_stays_as_it_is(kept, tmp_path, capfd):
    damages = {
        "deleted": lambda file: file.unlink(),
        "overwritten": lambda file: file.write_bytes(b"garbage" * 9),
        "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        "one bit": lambda file: file.write_bytes(
            bytes(b ^ (k == file.stat().st_size // 2) for k, b in enumerate(file.read_bytes()))
        ),
        "one more": lambda file: file.with_name("more").write_bytes(b""),
    }
    files = [file.relative_to(kept) for file in kept.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        for number, damage in enumerate(damages.values()):
            copy = tmp_path / f"{number}" / file
            shutil.copytree(kept, copy)
            damage(copy / file)
            before = everything(copy)
            with pytest.raises(
                ValueError, match=r"^the checkpoint .*left as it is: (delete it|move it)"
            ) as e:
                keep(copy).restore(a_state())
            assert "\n" not in str(e.value)
            assert everything(copy) == before
    assert capfd.readouterr() == ("", "")  # no library reports on its own


@pytest.mark.parametrize("identity", [{"run": "that"}, {}, {"run": "this", "job": "that"}])
def test_another_runs_checkpoint_is_an_error_and_stays_as_it_is(kept, identity):
    before = everything(kept)
    with pytest.raises(ValueError, match=r"is of another training run; it is left as it is: move it away"):
        keep(kept, identity).restore(a_state())
    assert everything(kept) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state[:2],
        lambda state: (*state, 0),
        lambda state: (state[0], state[1], state[2].astype(np.int64)),
        lambda state: ({"layer": {"kernel": state[0]["layer"]["kernel"][:, :2]}}, *state[1:]),
        lambda state: ({"other": state[0]["layer"]}, *state[1:]),
    ],
)
def test_a_model_or_a_rule_that_has_changed_since_is_an_error(kept, change):
    with pytest.raises(ValueError, match="is of another training run"):
        keep(kept).restore(change(a_state()))


def test_a_snapshot_is_not_believed_to_be_of_another_round(kept):
    (kept / "3").rename(kept / "7")
    with pytest.raises(ValueError, match="is of another training run"):
        keep(kept).restore(a_state())


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ValueError, match="cannot be read"):
        keep(tmp_path / "kept").restore(a_state())
    assert (tmp_path / "kept").read_text() == "mine"


def test_when_a_round_is_kept(tmp_path):
    stop = threading.Event()
    kept = keep(tmp_path / "kept", every=1e9, stop=stop, last=8)
    for number in range(1, 8):
        kept.offer(number, a_state())
    assert not (tmp_path / "kept").exists()
    kept.offer(8, a_state())
    assert (tmp_path / "kept" / "8").is_dir()
    stop.set()
    with pytest.raises(snapshots.Interrupted):
        kept.offer(9, a_state())
    assert (tmp_path / "kept" / "9").is_dir()


def test_time_counts_from_when_a_run_begins(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(snapshots.time, "monotonic", lambda: now[0])
    kept = keep(tmp_path / "kept", every=30)
    now[0] = 100.0  # it waited for its turn
    kept.restore(a_state())
    for now[0], written in ((101.0, False), (129.0, False), (130.0, True)):
        kept.offer(int(now[0]), a_state())
        assert (tmp_path / "kept").exists() == written


def test_a_model_is_read_by_orbax_too(tmp_path):
    import orbax.checkpoint as ocp

    params = a_state()[0]
    (tmp_path / "model.orbax-checkpoint-tmp" / "d").mkdir(parents=True)  # killed while it was written
    snapshots.save_model(tmp_path / "model", params)
    with ocp.StandardCheckpointer() as checkpointer:
        chex.assert_trees_all_equal(checkpointer.restore(tmp_path / "model"), params)
    chex.assert_trees_all_equal(snapshots.load_model(tmp_path / "model"), params)


class Linear(nn.Module):
    """Compiles in no time."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


MODEL, OPTIONS, ROUNDS = Linear(), local.LocalTraining(batch_size=4, epochs=2), 3
GAME = games.check(games.Game(games.PowerLaw(1.0, 10.0, 0.9, 16.0), games.LinearCost([0.01, 0.02]), [9, 6]))


def images(*shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, shape)
    pixels = rng.random((*shape, 2, 2, 1)) / 2 + labels[..., None, None, None] / 8
    return federated.Images(jnp.asarray(pixels, jnp.float32), jnp.asarray(labels, jnp.int32))


def run_protocol(protocol, snapshots):
    params = jax.device_get(models.initial_parameters(MODEL, jax.random.key(0), (2, 2, 1)))
    plan = protocol.start(GAME, protocol.rule.announced(GAME), jax.random.key(1))
    learning = trainer.Trainer(MODEL, OPTIONS, images(2, 9), jax.random.key(2), test=images(2, 40))
    return base.run(protocol, plan, learning, params, ROUNDS, snapshots)


def measure_curve(snapshots):
    return curve.measure(
        MODEL, OPTIONS, images(20), images(15), 11, 2, ROUNDS, jax.random.key(4), snapshots=snapshots
    )


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda s, p=p: run_protocol(p, s), id=p.title)
        for p in (
            fedavg.FedAvg(),
            mwfed.MWFed(target=0.33, factor=1.5),
            fedbr.FedBR(rules.beta.having(beta=0.5), steps=3),
            afl.AFL(),
            qffl.QFFL(),
        )
    ]
    + [pytest.param(measure_curve, id="curve")],
)
def test_interrupted_after_every_round_a_run_ends_where_it_would_have(run, tmp_path, monkeypatch):
    undisturbed = run(trainer.FORGET)
    trained, do = [], federated.changes
    monkeypatch.setattr(
        federated, "changes", lambda *args: trained.append(args[7]) or do(*args)
    )  # args[7]: the number of the round
    stop = threading.Event()
    stop.set()
    for _ in range(ROUNDS):
        with pytest.raises(snapshots.Interrupted):
            run(keep(tmp_path / "kept", stop=stop))
    resumed = run(keep(tmp_path / "kept"))
    assert trained == list(range(1, ROUNDS + 1))  # none of them twice
    for found, expected in zip(jax.tree.leaves(resumed), jax.tree.leaves(undisturbed), strict=True):
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()
    if hasattr(undisturbed, "plan") and len(undisturbed.plan.memory):
        plan = undisturbed.plan  # the state that is carried matters
        assert np.ptp(undisturbed.drawn, axis=0).any() or np.ptp(plan.memory) > 0


def test_of_two_workers_one_with_a_damaged_checkpoint_the_other_keeps_what_it_did(tmp_path):
    work = workdir.open_workdir(str(tmp_path / "run"), "this", {}, resume=False, overwrite=False)
    work.save_every = 1e9
    work.snapshots("bad", last=1).offer(1, a_state())
    (file,) = tmp_path.rglob("snapshot.json")
    file.write_text("{")
    before, begun = everything(tmp_path), threading.Event()

    def bad():
        begun.wait(10)
        work.snapshots("bad").restore(a_state())

    def good():
        snapshots = work.snapshots("good")
        snapshots.restore(a_state())
        for number in range(1, 10**6):
            snapshots.offer(number, a_state(number % 9 + 1))
            begun.set()

    with pytest.raises(ValueError, match="bad cannot be read"):
        jobs.run("stage", {"bad": (2, bad), "good": (1, good)}, work, workers=2)
    assert (tmp_path / "run" / "checkpoints" / "good").is_dir()
    assert before.items() <= everything(tmp_path).items()
