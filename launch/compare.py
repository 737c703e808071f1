"""Compares FedAvg, MWFed, FedBR and FedBR-BG on real images: Section 5 of the paper in one command.

  python -m launch.compare                                     # scikit-learn's digits, about 1 minute
  python -m launch.compare --dataset=mnist --data_dir=DIR      # DIR: prepared by tensorflow-datasets

Tables and figures are printed and left under --workdir.
"""

import dataclasses
import os
import sys
import time

from absl import app, flags

from fedgame.experiments import compare, config, storage
from launch import config_flags

WORKDIR = flags.DEFINE_string("workdir", None, "directory of the results; results/DATASET if not given")
DATA_DIR = flags.DEFINE_string("data_dir", None, "where tensorflow-datasets keeps its data")
WORKERS = flags.DEFINE_integer("workers", None, "training runs at a time; one per processor", 1)
config_flags.define(config.Config)
flags.adopt_module_key_flags(config_flags)  # so that --helpshort shows them


def main(argv: list[str]) -> None:
    begin = time.perf_counter()
    try:
        config_flags.start(argv)
        given = config_flags.read(config.Config)
        setting = compare.prepare(given, DATA_DIR.value)
        workdir = WORKDIR.value or f"results/{given.dataset}"
        again = config_flags.RESUME.value, config_flags.OVERWRITE.value
        work = storage.open_workdir(workdir, "launch.compare", dataclasses.asdict(setting.config), *again)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    try:
        print("\n" + compare.compare(setting, work, WORKERS.value) + "\n")
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with --workdir={workdir} --resume", file=sys.stderr, flush=True)
        os._exit(130)  # finished pieces are stored; threads that still compute are not waited for
    except FloatingPointError as error:
        sys.exit(f"error: {error}")
    print(f"{time.perf_counter() - begin:.0f} s; tables and figures are in {workdir}")


if __name__ == "__main__":
    app.run(main)
