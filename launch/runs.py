"""How launch.equilibrium and launch.mechanism run: your own numbers in, a report and files out."""

import hashlib
import pathlib
import sys
import time
from types import ModuleType

from fedgame.experiments import settings as all_settings
from fedgame.experiments import storage
from launch import settings_flags


def main(argv: list[str], program: str, experiment: ModuleType, workdir: str) -> None:
    """Reads the settings and the game, opens --workdir, computes, prints the report.

    Args:
      argv: what absl left of the command line.
      program: its name in `config.json`.
      experiment: has `Settings`, `read(settings)` and `run(settings, prepared, work)`, which returns a text.
      workdir: directory of the results.
    """
    begin = time.perf_counter()
    try:
        settings_flags.start(argv)
        settings = settings_flags.read(experiment.Settings)
        again = settings_flags.RESUME.value, settings_flags.OVERWRITE.value
        storage.check_workdir(workdir, program, *again)
        prepared = experiment.read(settings)
        read = [pathlib.Path(x) for x in (settings.agents, settings.curve, settings.scenario) if x]
        digests = {str(x): hashlib.sha256(x.read_bytes()).hexdigest() for x in read}
        described = all_settings.described(settings)
        described["sha256"] |= digests
        work = storage.open_workdir(workdir, program, described, *again)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    try:
        print("\n" + experiment.run(settings, prepared, work) + "\n")
    except KeyboardInterrupt:
        print(f"\ninterrupted; start anew with --workdir={workdir} --resume", file=sys.stderr, flush=True)
        sys.exit(130)
    except (ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    print(f"{time.perf_counter() - begin:.0f} s; tables and the figure are in {workdir}")
