"""Equilibria in float64; hypothesis draws the same examples every time; code is compiled quickly.

Most of the time of the tests is compilation, and most of that is optimisation, which changes how fast results
come, not what they are: LLVM's, and that of fused operations. Processes that tests start inherit the setting.
"""

import importlib.metadata
import os
import pathlib

# Before jax is imported. Another version may not know the second flag, and would end there.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + (
        " --xla_cpu_use_fusion_emitters=false"
        if importlib.metadata.version("jaxlib").startswith("0.10.")
        else ""
    ),
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests run side by side already

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
hypothesis.settings.register_profile(
    "fedgame",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # beside other work drawing takes longer
)
hypothesis.settings.load_profile("fedgame")

_MAPS = pathlib.Path("/proc/self/maps")


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forgets compiled programs before a process has as many pieces of memory as Linux allows, 65,530.

    Every program has some, and LLVM's compiler dies of a segmentation fault when there are no more.
    """
    yield
    if _MAPS.exists() and _MAPS.read_text().count("\n") > 25_000:
        jax.clear_caches()
