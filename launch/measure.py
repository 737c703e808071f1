"""Measures what members' records are worth to each other, on their own data.

  python -m launch.measure --federation=examples/hospitals
  python -m launch.equilibrium --agents=examples/hospitals/agents.csv \\
      --measurements=results/measure_hospitals --validate

The folder has a table, or images, of each member: `python -m pydoc fedgame.inputs.members`. Leaves
mixtures.csv and measurements.csv (launch.equilibrium and launch.mechanism read them by --measurements),
exchange_rates.csv, worth.csv, measure.json and a heat map under --workdir.
"""

from fedgame.experiments.measure import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
