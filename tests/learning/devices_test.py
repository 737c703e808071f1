"""Agents shared between devices: eight simulated ones, in a process of their own, against one."""

import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame.learning import curve, federated, local, models

OPTIONS = local.LocalTraining(batch_size=2, epochs=2, learning_rate=0.1)
KEY = jax.random.key(5)
CASES = {  # samples of each agent, and what else is not as usual
    "1 agent": ([5], {}),
    "3 agents": ([1, 6, 2], {}),
    "8 agents": ([1, 2, 3, 4, 5, 6, 1, 2], {}),
    "10 agents": ([3, 6, 1, 2, 5, 4, 6, 6, 1, 3], {}),
    "17 agents": ([k % 7 for k in range(17)], {}),
    "zeros": ([0, 6, 0, 0, 5, 0, 0, 0, 1, 0], {}),
    "only the last": ([0, 0, 0, 0, 0, 0, 0, 0, 0, 6], {}),
    "nobody": ([0] * 10, {}),
    "server rate": ([3, 6, 1, 2, 5, 4, 6, 6, 1, 3], {"server_rate": 0.5}),
    "full batch": ([3, 6, 1, 2, 0, 4, 6, 6, 1, 3], {"full_batch": True}),
    "patches": ([3, 6, 1, 2, 0, 4, 6, 6, 1, 3], {"lowering": "patches"}),
    "native": ([3, 6, 1, 2, 0, 4, 6, 6, 1, 3], {"lowering": "native"}),
}


class Linear(nn.Module):
    """Quick to compile."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


def federation(n, lowering=None):
    rng = np.random.default_rng(n)
    images, labels = rng.random((n, 6, 8, 8, 1), np.float32), rng.integers(0, 10, (n, 6)).astype(np.int32)
    model = models.CNN(channels=(2, 3), units=5, lowering=lowering) if lowering else Linear()
    params = jax.device_get(model.init(KEY, jnp.zeros((1, 8, 8, 1), jnp.float32)))
    return model, federated.Images(images, labels), params


def compare(mesh, samples, server_rate=1.0, full_batch=False, lowering=None):
    """Differences between eight devices and one, in the model and the losses; and how far the model moved."""
    options = OPTIONS._replace(full_batch=full_batch, lowering=lowering or "auto")
    model, agents, params = federation(len(samples), lowering)
    weights = np.float32(np.array(samples) / max(sum(samples), 1))

    def average(mesh):
        placed = federated.place(agents, mesh)
        arrays = params, placed, np.array(samples), weights, KEY
        change, *numbers = federated.weighted_change(model, options, *arrays, mesh=mesh)
        return jax.device_get((federated.add(params, change, server_rate), *numbers))

    (many, losses, squares), (one, expected, expected_squares) = average(mesh), average(None)
    np.testing.assert_allclose(squares, expected_squares, rtol=1e-5)

    def distance(a, b):
        return max(float(np.max(np.abs(x - y))) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))

    contributed = np.array(samples) > 0
    assert losses.shape == expected.shape == contributed.shape
    assert len({*expected[contributed]}) == sum(contributed)  # or their order could not be told
    pairs = {"model": (many, one), "losses": (losses, expected), "moved": (one, params)}
    return {name: distance(*pair) for name, pair in pairs.items()}


def compilations(mesh):
    """Differences after a first round, a second one, and a third with other samples."""
    happened = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: happened.append(event))
    model, agents, params = federation(9)
    agents, counts = federated.place(agents, mesh), []
    for number, samples in enumerate((np.full(9, 6), np.full(9, 6), np.arange(9) % 3), 1):
        happened.clear()
        samples = samples.astype(np.int32)
        params = federated.federated_round(model, OPTIONS, params, agents, samples, KEY, number, mesh)
        counts.append(sum("backend_compile" in event for event in happened))
    return counts


def divergence(mesh):
    model, agents, params = federation(10)
    agents.images[[2, 9]] = np.inf
    agents = federated.place(agents, mesh)
    try:
        federated.federated_round(model, OPTIONS, params, agents, np.full(10, 2, np.int32), KEY, 4, mesh)
    except FloatingPointError as error:
        return str(error)


def curve_point(mesh):
    model, agents, _ = federation(3)
    train = federated.Images(agents.images.reshape(18, 8, 8, 1), agents.labels.reshape(18))
    return curve.measure(model, OPTIONS, train, train, 15, 5, 2, KEY, mesh)


def report():
    mesh = federated.agents_mesh()
    return {
        "devices": dict(mesh.shape),
        "cases": {name: compare(mesh, samples, **more) for name, (samples, more) in CASES.items()},
        "compilations": compilations(mesh),
        "divergence": divergence(mesh),
        "curve": [curve_point(mesh), curve_point(None)],
    }


@pytest.fixture(scope="module")
def found():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "NPROC": "16", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_eight_devices_average_as_one_does(found, case):
    difference = found["cases"][case]
    assert found["devices"] == {"agents": 8}
    assert difference["model"] <= 2e-7  # the model's weights are below 1, in float32
    assert difference["losses"] <= 1e-6
    assert (difference["moved"] > 1e-3) == (case != "nobody")


def test_nobody_contributing_changes_not_a_bit(found):
    assert found["cases"]["nobody"] == {"model": 0, "losses": 0, "moved": 0}


def test_one_compilation_serves_all_rounds_and_contributions(found):
    first, *later = found["compilations"]
    assert first > 0
    assert later == [0, 0]


def test_divergence_on_other_devices_names_the_agents(found):
    assert "round 4: the loss of agents [2, 9] is not finite" in found["divergence"]


def test_the_curve_does_not_depend_on_the_devices(found):
    many, one = found["curve"]
    assert many == one > 0


if __name__ == "__main__":
    print(json.dumps(report()))
