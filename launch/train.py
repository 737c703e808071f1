"""Trains one model by federated averaging, on one device, many, or several machines.

  python -m launch.train                                                       # digits, ten agents
  python -m launch.train --dataset=mnist --data_dir=DIR --partition=dirichlet --alpha=0.3
  python -m launch.train --contributions=10,0,50,50,50,50,50,50,50,50

Agents are shared between all devices; processors count as devices. Several processes train one run with
--coordinator=HOST:PORT --num_processes=2 --process_id=0 (and 1), all with the same --workdir on a common
file system. Leaves holdings.csv, rounds.csv, figures and the model, which fedgame.load_model reads, under
--workdir; with --tensorboard also, while it trains, the accuracy by round.
"""

from fedgame.experiments.train import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
