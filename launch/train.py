"""Trains one model by federated averaging, on one device, many, or several machines.

  python -m launch.train                                                       # digits, ten agents
  python -m launch.train --dataset=mnist --data_dir=DIR --partition=dirichlet --alpha=0.3
  python -m launch.train --contributions=10,0,50,50,50,50,50,50,50,50

Agents are shared between all devices; processors count as devices. Several processes train one run with
--coordinator=HOST:PORT --num_processes=2 --process_id=0 (and 1), all with the same --workdir on a common
file system. Leaves holdings.csv, rounds.csv, figures and the model (orbax) under --workdir.
"""

from absl import app, flags

from fedgame.experiments import settings, training
from launch import settings_flags, training_flags

DEVICES = flags.DEFINE_integer("devices", None, "processors to train on; all if not given (CPU only)", 1)
settings_flags.define(settings.TrainSettings)
training_flags.define_processes()
for module in (settings_flags, training_flags):
    flags.adopt_module_key_flags(module)


def main(argv: list[str]) -> None:
    settings_flags.use_processors(DEVICES.value)
    training_flags.main(argv, "launch.train", settings.TrainSettings, "results/train_{}", training.run)


if __name__ == "__main__":
    app.run(main)
