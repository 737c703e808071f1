"""Measures the public accuracy curve ã of Section 5.1, and fits it.

  python -m launch.curve                                                  # digits, half a minute
  python -m launch.curve --dataset=mnist --data_dir=DIR --sizes=10,20,50,100,200,500,1000
  python -m launch.curve --dataset=mnist --data_dir=DIR --interval=10     # the paper's grid

Leaves curve.csv (every run; launch.equilibrium and launch.mechanism read it), band.csv (mean and deviation
between seeds), fits.json, fitted_curves.csv and curve.png under --workdir.
"""

import functools

from absl import app, flags

from fedgame.experiments import curve, settings
from launch import settings_flags, training_flags

WORKERS = flags.DEFINE_integer("workers", None, "training runs at a time; one per processor", 1)
settings_flags.define(settings.CurveSettings)
CACHE = settings_flags.define_cache()
for module in (settings_flags, training_flags):
    flags.adopt_module_key_flags(module)


def main(argv: list[str]) -> None:
    run = functools.partial(curve.run, workers=WORKERS.value, cache=settings_flags.folder(CACHE.value))
    training_flags.main(argv, "launch.curve", settings.CurveSettings, "results/curve_{}", run)


if __name__ == "__main__":
    app.run(main)
