"""Scripts. The first lines of each say how to run it."""

import gc
import os
import pathlib
import signal
import sys

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fedgame"

# Tracing makes objects by the million and hardly any garbage: to look for some takes a tenth of a command.
gc.set_threshold(100_000, 50, 50)


def _leave(number: int, *_: object) -> None:
    """What signals do while a script is imported, which takes seconds; `running.run` has its own."""
    os.write(2, b"\ninterrupted\n")
    os._exit(128 + number)


if sys.argv[0] == "-m":  # a script is being started, and not imported by something else
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
