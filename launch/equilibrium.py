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
config_flags.define(participants.Config)
flags.adopt_module_key_flags(config_flags)  # so that --helpshort shows them


def main(argv: list[str]) -> None:
    begin = time.perf_counter()
    try:
        config_flags.start(argv)
        config = config_flags.read(participants.Config)
        problem = participants.read(config)
        read = [pathlib.Path(x) for x in (config.agents, config.curve, config.scenario) if x]
        if inside := [x for x in read if pathlib.Path(WORKDIR.value).resolve() in x.resolve().parents]:
            raise ValueError(f"{inside[0]} lies in --workdir={WORKDIR.value}: write the results elsewhere")
        digests = {str(x): hashlib.sha256(x.read_bytes()).hexdigest() for x in read}
        settings = dataclasses.asdict(config) | {"sha256": digests}
        again = config_flags.RESUME.value, config_flags.OVERWRITE.value
        work = storage.open_workdir(WORKDIR.value, "launch.equilibrium", settings, *again)
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
