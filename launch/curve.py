"""Measures the public accuracy curve ã of Section 5.1, and fits it.

  python -m launch.curve                                                  # digits, half a minute
  python -m launch.curve --dataset=mnist --data_dir=DIR --sizes=10,20,50,100,200,500,1000
  python -m launch.curve --dataset=mnist --data_dir=DIR --interval=10     # the paper's grid

Leaves curve.csv (every run; launch.equilibrium and launch.mechanism read it), band.csv (mean and deviation
between seeds), fits.json, fitted_curves.csv and curve.png under --workdir.
"""

from fedgame.experiments.curve import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
