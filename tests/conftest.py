"""Equilibria in float64; hypothesis draws the same examples every time; code is compiled quickly.

Most of the time of the tests is compilation, and most of that is optimisation, which changes how fast results
come, not what they are: LLVM's, and that of fused operations. Processes that tests start inherit the setting.
"""

import gc
import importlib.metadata
import os
import pathlib
import sys
import urllib.parse

# Before jax is imported. Another version may not know the second flag, and would end there.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    + (
        " --xla_cpu_use_fusion_emitters=false"
        if importlib.metadata.version("jaxlib").startswith("0.10.")
        else ""
    ),
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests run side by side already
# What one process has compiled, the others, the commands that tests start, and the next run need not.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".cache" / "jax_of_tests")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis
import jax
import numpy as np
import pytest
import scipy.optimize

from fedgame import protocols, registry  # noqa: F401  all that has a name is there before a test begins
from fedgame.games import payoffs
from fedgame.inputs import fits
from fedgame.learning import mixtures as learning
from fedgame.runs import files

jax.config.update("jax_enable_x64", True)
gc.set_threshold(100_000, 50, 50)  # tracing makes objects by the million, and hardly any are garbage
hypothesis.settings.register_profile(
    "fedgame",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # beside other work drawing takes longer
)
hypothesis.settings.load_profile("fedgame")

_MAPS, _SIZE = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/self/statm")


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forgets compiled programs before a process has too many of them for this machine.

    Every program has some pieces of memory, of which Linux allows a process 65,530: LLVM's compiler dies of a
    segmentation fault when there are no more. And two processes must fit into 16 GB.
    """
    yield
    if not _MAPS.exists():
        return
    resident = int(_SIZE.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30
    if _MAPS.read_text().count("\n") > 45_000 or resident > 5:
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def every_file_is_described(tmp_path_factory):
    """After all tests: what commands have left holds no file of which `README.md` knows nothing."""
    yield
    readmes = tmp_path_factory.getbasetemp().rglob("README.md")
    texts = {file: file.read_text(encoding="utf-8", errors="replace") for file in readmes}
    of_commands = {file: text for file, text in texts.items() if text.startswith("# What launch.")}
    lines = {f"{file}: {line}" for file, text in of_commands.items() for line in text.splitlines()}
    assert {line for line in lines if line.endswith(f": {files.UNKNOWN}")} == set()


@pytest.fixture(autouse=True)
def no_name_is_left_behind():
    """What a test registers, or imports by `registry.use`, is not there for the next one."""
    kept = {id(x): x for kind in registry.KINDS.values() for x in (kind.entries, kind.aliases)}
    kept = [(x, dict(x)) for x in (*kept.values(), registry._USED)]
    modules = set(sys.modules)
    yield
    for names, before in kept:
        names.clear()
        names.update(before)
    for name in [x for x in sys.modules if x.startswith("used_") and x not in modules]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def write_members():
    """A function that writes a folder with a table of each member, and returns its path as a text.

    Two columns of numbers tell the class, not the same way to each member. Names and sizes are given.
    """

    def write(folder, sizes, seed=0):
        folder.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for k, (name, size) in enumerate(sizes.items()):
            x = rng.normal(size=(size, 2)).round(3)
            ill = (x @ [1.5, (1.0, -1.0, 0.0)[k % 3]] + rng.normal(size=size) > 0).astype(int)
            rows = [f"{age},{dose},{y}" for (age, dose), y in zip(x.tolist(), ill.tolist(), strict=True)]
            file = folder / f"{urllib.parse.quote(name, safe=' ,')}.csv"
            file.write_text("\n".join(["age,dose,ill", *rows]) + "\n")
        return str(folder)

    return write


@pytest.fixture
def calls(monkeypatch):
    """A list that gets the mixtures of every call that trains."""
    seen, do = [], learning.measure

    def train(model, options, split, samples, *args):
        seen.append(samples)
        return do(model, options, split, samples, *args)

    monkeypatch.setattr(learning, "measure", train)
    return seen


@pytest.fixture(scope="module")
def quick_fits():
    """Exchange rates are chosen and resampled by few refits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "_DEALS", 2)
        patch.setattr(fits, "_DRAWS", 6)
        yield


@pytest.fixture
def saturation():
    """A stranger's payoff that defines `fit`: low + (best - low) S / (S + half)."""

    @registry.register("saturation")
    class Saturation(payoffs.OfTotal):
        low: object = registry.option("without data, accuracy", low=0)
        best: object = registry.option("of endless data, accuracy", low=0)
        half: object = registry.option("samples that bring half of it", above=0)

        def curve(self, total):
            return self.low + (self.best - self.low) * total / (total + self.half)

        @classmethod
        def fit(cls, sizes, accuracy, start=None):
            def residual(x):
                return x[0] + x[1] * sizes / (sizes + np.exp(x[2])) - accuracy

            first = accuracy[0], np.ptp(accuracy), np.log(np.mean(sizes))
            if start is not None:
                first = float(start.low), float(start.best - start.low), np.log(float(start.half))
            low, high = (0.0, 0.0, -9.0), (1.0, 1.0, 14.0)
            x = scipy.optimize.least_squares(residual, np.clip(first, low, high), bounds=(low, high)).x
            return cls(x[0], x[0] + x[1], np.exp(x[2]))

    return Saturation
