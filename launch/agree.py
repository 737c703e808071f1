"""Makes what members agree on before they train: columns, classes, how numbers are scaled, and the network.

  python -m launch.agree --statistics=FOLDER --workdir=agreed

FOLDER has a file of each member, which launch.member --statistics wrote on her machine: no records leave her.
Members and the server then name the directory of the results by --like.
"""

from fedgame.experiments.agree import EXPERIMENT
from launch import command, running

command.define(EXPERIMENT)


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main)
