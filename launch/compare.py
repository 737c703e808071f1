"""Compares FedAvg, MWFed, FedBR and FedBR-BG on real images: Section 5 of the paper in one command.

  python -m launch.compare                                     # scikit-learn's digits, about 1 minute
  python -m launch.compare --dataset=mnist --data_dir=DIR      # DIR: what launch.prepare makes
  python -m launch.compare --sweep=cost=0.005,0.01,0.02 --sweep=epochs=1,5    # six comparisons

Tables and figures are printed and left under --workdir; with --keep_models also what was trained, which
fedgame.load_model reads.
"""

from fedgame.experiments.compare import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
