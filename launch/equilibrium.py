"""Who will contribute what, in your federation: its equilibrium, certified, from your own numbers.

  python -m launch.equilibrium --agents=examples/agents.csv --curve=examples/curve.csv --bootstrap=1000
  python -m launch.equilibrium --family=power --best=0.97 --scale=6 --power=0.8 --shift=12 \\
      --cost=0.004,0.005,0.012 --capacity=100

Columns of the files: `pydoc fedgame.inputs.agents fedgame.inputs.measurements`. Tables, a figure and a
scenario that --scenario reads again are left under --workdir.
"""

from fedgame.experiments.equilibrium import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
