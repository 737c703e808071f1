"""Compares FedAvg, MWFed, FedBR and FedBR-BG on real images: Section 5 of the paper in one command.

  python -m launch.compare                                     # scikit-learn's digits, about 1 minute
  python -m launch.compare --dataset=mnist --data_dir=DIR      # DIR: what launch.prepare makes
  python -m launch.compare --sweep=cost=0.005,0.01,0.02 --sweep=epochs=1,5    # six comparisons

Tables and figures are printed and left under --workdir.
"""

import functools

from absl import app, flags

from fedgame.experiments import compare, settings
from launch import settings_flags, training_flags

WORKERS = flags.DEFINE_integer("workers", None, "training runs at a time; one per processor", 1)
SWEEP = flags.DEFINE_multi_string(
    "sweep",
    [],
    "NAME=VALUE,VALUE,...: compare at each of these values of a setting, and at all combinations if given "
    "several times; a value that is itself a list is written with +, as in --sweep=cost=0.01,0.005+0.01+0.02 "
    "for 3 agents. Failed variants are run again, alone, by --resume",
)
settings_flags.define(settings.CompareSettings)
CACHE = settings_flags.define_cache()
for module in (settings_flags, training_flags):  # so that --helpshort shows their flags
    flags.adopt_module_key_flags(module)


def main(argv: list[str]) -> None:
    run = functools.partial(compare.compare, workers=WORKERS.value, cache=settings_flags.folder(CACHE.value))
    training_flags.main(argv, "launch.compare", settings.CompareSettings, "results/{}", run, SWEEP.value)


if __name__ == "__main__":
    app.run(main)
