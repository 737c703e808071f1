"""Equilibria in float64; hypothesis draws the same examples every time; code is compiled quickly.

Most of the time of the tests is compilation, and a third of that LLVM's optimisation, which changes how
fast results come, not what they are. Processes that tests start inherit the setting.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # before jax is imported

import hypothesis
import jax

jax.config.update("jax_enable_x64", True)
hypothesis.settings.register_profile("fedgame", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("fedgame")
