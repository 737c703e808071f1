"""Scripts. The first lines of each say how to run it."""

import gc

# Tracing makes objects by the million and hardly any garbage: to look for some takes a tenth of a command.
gc.set_threshold(100_000, 50, 50)
