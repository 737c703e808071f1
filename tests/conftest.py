"""Equilibria in float64; hypothesis draws the same examples every time."""

import hypothesis
import jax

jax.config.update("jax_enable_x64", True)
hypothesis.settings.register_profile("fedgame", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("fedgame")
