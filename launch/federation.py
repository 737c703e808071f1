"""Runs a federation for real: members keep their data, say what they contribute, train, and are paid.

  python -m launch.federation                       # digits, four members, all in this process
  python -m launch.federation --simulate            # each member a process, in NVFlare's simulator
  python -m launch.federation --poc                 # each a site of NVFlare here, with certificates
  python -m launch.federation --scenario=results/mechanism/scenario.json --federation=FOLDER

What is settled stands in a ledger, WORKDIR/federation/ledger.sqlite, which launch.ledger shows and verifies;
after anything has died, --resume goes on after the last settled round.
"""

from fedgame.experiments.federation import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
