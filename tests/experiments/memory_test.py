import pytest

from fedgame.experiments import compare, equilibrium, memory
from fedgame.experiments import task as tasks
from fedgame.learning import memory as machine
from fedgame.runs.experiment import Resources


@pytest.fixture
def has(monkeypatch):
    """Says how many gigabytes there are."""
    return lambda gigabytes: monkeypatch.setattr(machine, "of_device", lambda: 1e9 * gigabytes)


NEEDED = tasks.Needed((1000, 100), (2000, 1000))


def check(shape=(28, 28, 1), **changes):
    settings = tasks.filled(compare.Settings(**{"capacity": (100,)} | changes), tables=False)
    tasks._check_memory(settings, NEEDED, shape, *tasks.network(settings, shape, 10), Resources())


@pytest.mark.parametrize(
    ("gigabytes", "shape", "changes"),
    [
        (1, (28, 28, 1), {"model": "cnn"}),
        (1, (28, 28, 1), {"model": "cnn_wide"}),
        (4, (32, 32, 3), {"model": "vgg11", "agents": 100}),
        (80, (32, 32, 3), {"model": "vgg11", "agents": 100, "lowering": "batched_patches"}),
        (80, (32, 32, 3), {"model": "vgg11_4096", "agents": 100, "lowering": "native"}),
        (1, (28, 28, 1), {"batch_size": 10**9, "model": "linear"}),
    ],
)
def test_what_presets_and_tests_ask_for_fits(gigabytes, shape, changes, has):
    has(gigabytes)
    check(shape, **changes)


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"units": 10**9}, "--units"),
        ({"channels": (10**5, 10**5)}, "--channels"),
        ({"batch_size": 10**6, "capacity": (10**6,)}, "--batch_size=1000000"),
        ({"model": "vgg11_4096", "agents": 100, "lowering": "native"}, "--model=vgg11_4096"),
        ({"agents": 10**6}, "--agents, --capacity"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_flag_that_asks_for_it(changes, flags, has):
    has(16)
    shape = (32, 32, 3) if "model" in changes else (28, 28, 1)
    with pytest.raises(
        ValueError, match=f"^{flags}: training would take about [0-9,.]+ GB of memory, and there"
    ):
        check(shape, **changes)


def test_the_estimate_of_a_large_batch_is_what_was_measured(monkeypatch):
    """A million 8×8 images in one step of the usual CNN took 18 GB."""
    found = {}
    monkeypatch.setattr(memory, "check", lambda what, parts: found.update(parts))
    check((8, 8, 1), batch_size=10**6, capacity=(10**6,), lowering="patches")
    assert 9e9 < found["--batch_size=1000000"] < 36e9


def test_steps_of_the_dynamics_are_counted(has):
    has(16)
    with pytest.raises(ValueError, match=r"^--steps=1000000000000: every step of the dynamics would take"):
        compare.settle(compare.Settings(steps=10**12), (10**5, 10**4))


def test_resampled_games_are_counted(has):
    has(16)
    settings = equilibrium.Settings(agents="examples/agents.csv", curve="examples/curve.csv", bootstrap=10**9)
    with pytest.raises(
        ValueError, match=r"^--bootstrap=1000000000: resampled games, solved together, would take"
    ):
        equilibrium.prepare(settings)


def test_where_nobody_knows_how_much_there_is_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(machine.os, "sysconf", None)
    memory.check("training", {"--units": 1e30})


def test_this_machine_says_how_much_it_has():
    assert machine.of_device() > 1e8
