"""Studies: what happens to equilibria and welfare as one thing changes. Each is a preset, a table, a figure.

  python -m launch.study --flagfile=launch/presets/unequal_costs.flags
  python -m launch.study --flagfile=launch/presets/label_skew.flags --data_dir=DIR

The others are costs, agents, rounding and misreports; they read --curve, a measured accuracy curve.
label_skew trains. STUDY.csv, STUDY.json and STUDY.png are left under --workdir; docs/studies.md shows them.
"""

import functools
import pathlib
import sys
import time

from absl import app, flags

from fedgame.experiments import storage
from fedgame.experiments.studies import config as configs
from fedgame.experiments.studies import label_skew, study
from launch import config_flags, training_flags

WORKERS = flags.DEFINE_integer("workers", None, "label_skew: training runs at a time; one per processor", 1)
config_flags.define(configs.Config)
CACHE = config_flags.define_cache()
for module in (config_flags, training_flags):
    flags.adopt_module_key_flags(module)


def main(argv: list[str]) -> None:
    begin = time.perf_counter()
    try:
        config_flags.start(argv)
        config = config_flags.read(configs.Config)
        configs.check(config)
        if config.study == "label_skew":
            cache = config_flags.folder(CACHE.value)
            run = functools.partial(label_skew.run, workers=WORKERS.value, cache=cache)
            training_flags.main(argv, "launch.study", configs.Config, "results/label_skew_{}", run)
            return
        for name in ("data_dir", "workers", "cache", "save_every"):
            if flags.FLAGS[name].present:
                raise ValueError(f"--{name} has no use with --study={config.study}, only with label_skew")
        curve, workdir = study.read(config), training_flags.WORKDIR.value or f"results/{config.study}"
        if pathlib.Path(workdir).resolve() in pathlib.Path(config.curve).resolve().parents:
            raise ValueError(f"{config.curve} lies in --workdir={workdir}: write the results elsewhere")
        again = config_flags.RESUME.value, config_flags.OVERWRITE.value
        settings = configs.used(config) | {"sha256": study.digest(config)}
        work = storage.open_workdir(workdir, "launch.study", settings, *again)
        print("\n" + study.run(config, curve, work) + "\n")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted; go on with --resume", file=sys.stderr, flush=True)
        sys.exit(130)
    print(f"{time.perf_counter() - begin:.0f} s; the table and the figure are in {workdir}")


if __name__ == "__main__":
    app.run(main)
