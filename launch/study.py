"""Studies: what happens to equilibria and welfare as one thing changes. Each is a preset, a table, a figure.

  python -m launch.study --flagfile=launch/presets/unequal_costs.flags
  python -m launch.study --flagfile=launch/presets/label_skew.flags --data_dir=DIR

The others are costs, agents, rounding and misreports; they read --curve, a measured accuracy curve.
label_skew trains. study_NAME.csv, study_NAME.json and study_NAME.png are left under --workdir;
docs/studies.md shows them.
"""

import functools
import sys
import time

from absl import app, flags

from fedgame import registry
from fedgame.experiments import storage
from fedgame.experiments.studies import settings as all_settings
from fedgame.experiments.studies import study
from launch import settings_flags, training_flags

WORKERS = flags.DEFINE_integer("workers", None, "label_skew: training runs at a time; one per processor", 1)
settings_flags.define(all_settings.Settings)
CACHE = settings_flags.define_cache()
for module in (settings_flags, training_flags):
    flags.adopt_module_key_flags(module)


def main(argv: list[str]) -> None:
    begin = time.perf_counter()
    try:
        settings_flags.start(argv)
        settings = settings_flags.read(all_settings.Settings)
        again = settings_flags.RESUME.value, settings_flags.OVERWRITE.value
        if training_flags.WORKDIR.value:  # else its name is that of the study
            storage.check_workdir(training_flags.WORKDIR.value, "launch.study", *again)
        all_settings.check(settings)
        chosen = all_settings.study_of(settings)
        if chosen.trains:
            cache = settings_flags.folder(CACHE.value)
            run = functools.partial(chosen.train, workers=WORKERS.value, cache=cache)
            results = f"results/{registry.name_of(type(chosen))}_{{}}"
            training_flags.main(argv, "launch.study", all_settings.Settings, results, run)
            return
        for name in ("data_dir", "workers", "cache", "save_every"):
            if flags.FLAGS[name].present:
                raise ValueError(f"--{name} has no use with --study={settings.study}, only with label_skew")
        name = registry.name_of(type(chosen))
        workdir = training_flags.WORKDIR.value or f"results/{name}"
        storage.check_workdir(workdir, "launch.study", *again)
        ground = study.read(settings)
        described = all_settings.used(settings)
        described["sha256"] |= {settings.curve: study.digest(settings)}
        work = storage.open_workdir(workdir, "launch.study", described, *again)
        print("\n" + study.run(settings, ground, work) + "\n")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted; go on with --resume", file=sys.stderr, flush=True)
        sys.exit(130)
    print(f"{time.perf_counter() - begin:.0f} s; the table and the figure are in {workdir}")


if __name__ == "__main__":
    app.run(main)
