"""Which payments fix it: who pays and receives what in your federation, who leaves, and how well all do.

  python -m launch.mechanism --agents=examples/agents.csv --curve=examples/curve.csv
  python -m launch.mechanism --family=power --best=0.97 --scale=6 --power=0.8 --shift=12 \\
      --cost=0.004,0.005,0.012 --capacity=100 --mechanism=beta_star

Without --mechanism all that apply are compared, and one is recommended. Files as for launch.equilibrium.
Tables, figures, a page, the mechanism and a scenario that --scenario reads again are left under --workdir.
"""

from fedgame.experiments.mechanism import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
