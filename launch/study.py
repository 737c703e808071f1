"""Studies: what happens to equilibria and welfare as one thing changes. Each is a preset, a table, a figure.

  python -m launch.study --flagfile=launch/presets/unequal_costs.flags
  python -m launch.study --flagfile=launch/presets/label_skew.flags --data_dir=DIR

The others are costs, agents, rounding and misreports; they read --curve, a measured accuracy curve.
label_skew trains. study_NAME.csv, study_NAME.json and study_NAME.png are left under --workdir;
docs/studies.md shows them.
"""

import sys

from absl import app, flags

from fedgame import registry
from fedgame.experiments import studies
from fedgame.runs import workdir
from launch import command, running, settings_flags


def chosen() -> type[studies.Study]:
    """The study that --study names; it decides which other flags there are."""
    settings_flags.use_files()
    given = settings_flags.given("study")
    text = given[0] if given else "unequal_costs"
    try:
        name, _ = registry.left_open("study", text)
        return studies.STUDIES[name]
    except (ValueError, OSError) as error:
        message = f"--study: {error}"
    folder = settings_flags.given("workdir")
    if folder and settings_flags.given("resume"):  # the run may have been begun with another --use
        try:
            workdir.check_workdir(folder[0], "launch.study", resume=True, overwrite=False)
        except ValueError as error:
            message = str(error)
    sys.exit(f"error: {message}")


STUDY = chosen()
EXPERIMENT = studies.experiment_of(STUDY)
try:
    command.define(EXPERIMENT)
except flags.DuplicateFlagError as error:
    sys.exit(f"error: --study: an option of {registry.name_of(STUDY)} has the name of a flag: {error}")


def parse(argv: list[str]) -> list[str]:
    """Reads the flags; if one belongs to other studies only, says to which."""
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        flag, study = error.flagname, registry.name_of(STUDY)
        if names := [name for name, one in studies.STUDIES.items() if flag in studies.flags_of(one)]:
            sys.exit(f"error: --{flag} has no use with --study={study}, only with {', '.join(names)}")
    except flags.Error:
        pass
    return app.parse_flags_with_usage(argv)  # reports the error, and exits


def main(argv: list[str]) -> None:
    command.main(argv, EXPERIMENT)


if __name__ == "__main__":
    running.run(main, parse)
