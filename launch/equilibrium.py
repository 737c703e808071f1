"""Who will contribute what, in your federation: its equilibrium, certified, from your own numbers.

  python -m launch.equilibrium --agents=examples/agents.csv --curve=examples/curve.csv --bootstrap=1000
  python -m launch.equilibrium --family=power --best=0.97 --scale=6 --power=0.8 --shift=12 \\
      --cost=0.004,0.005,0.012 --capacity=100

Columns of the files: `pydoc fedgame.experiments.inputs`. Tables, a figure and a scenario that --scenario
reads again are left under --workdir.
"""

import dataclasses
import hashlib
import pathlib
import sys
import time

from absl import app, flags

from fedgame.experiments import equilibrium, participants, storage
from launch import config_flags

WORKDIR = flags.DEFINE_string("workdir", "results/equilibrium", "directory of the results")
RESUME = flags.DEFINE_bool("resume", False, "do the run in --workdir again, if it has the same settings")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "delete the run in --workdir and start anew")
config_flags.define(participants.Config)
flags.adopt_module_key_flags(config_flags)  # so that --helpshort shows them


def main(argv: list[str]) -> None:
    begin = time.perf_counter()
    config_flags.start()
    try:
        config_flags.no_arguments(argv)
        config = config_flags.read(participants.Config)
        problem = participants.read(config)
        named = [config.agents, config.curve, config.scenario]
        digests = {
            name: hashlib.sha256(pathlib.Path(name).read_bytes()).hexdigest() for name in named if name
        }
        settings = dataclasses.asdict(config) | {"sha256": digests}
        work = storage.open_workdir(WORKDIR.value, settings, RESUME.value, OVERWRITE.value)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    try:
        print("\n" + equilibrium.run(config, problem, work) + "\n")
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; start anew with --workdir={WORKDIR.value} --resume", file=sys.stderr, flush=True
        )
        sys.exit(130)
    except FloatingPointError as error:
        sys.exit(f"error: {error}")
    print(f"{time.perf_counter() - begin:.0f} s; tables and the figure are in {WORKDIR.value}")


if __name__ == "__main__":
    app.run(main)
