"""Prints the tests that a change most likely breaks, for `make check`: those of the files that changed.

A file of fedgame/ has its tests in the same place below tests/. What changed is what differs from the last
commit, or, if nothing does, what the last commit changed.
"""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parent.parent
ALWAYS = ("tests/layout_test.py", "tests/import_test.py", "tests/docs_test.py")
OTHERS = {  # files without tests of their own name -> tests
    "fedgame/registry.py": ("tests/registry_test.py",),
    "fedgame/testing.py": ("tests/testing_test.py",),
    "fedgame/mechanisms/rules.py": ("tests/mechanisms/refunds_test.py",),
    "fedgame/mechanisms/base.py": ("tests/mechanisms/payments_test.py",),
    "fedgame/protocols/base.py": ("tests/protocols/protocols_test.py",),
    "fedgame/experiments/over_beta.py": ("tests/experiments/mechanism_test.py",),
    "fedgame/experiments/equilibrium.py": ("tests/inputs/read_test.py",),
    "fedgame/experiments/task.py": (
        "tests/experiments/settings_test.py",
        "tests/experiments/measure_test.py",
        "tests/experiments/train_test.py",
    ),
    "fedgame/report/text.py": (
        "tests/experiments/table1_test.py",
        "tests/experiments/mechanism_test.py",
        "tests/experiments/measure_test.py",
        "tests/experiments/validation_test.py",
    ),
    "fedgame/report/figures.py": (
        "tests/report/figures_test.py",
        "tests/runs/sweep_test.py",
        "tests/experiments/measure_test.py",
    ),
    "fedgame/runs/settings.py": ("tests/experiments/settings_test.py",),
    "fedgame/runs/experiment.py": ("tests/runs/sweep_test.py",),
    "fedgame/runs/digests.py": ("tests/runs/workdir_test.py", "tests/runs/snapshots_test.py"),
    "fedgame/runs/jobs.py": ("tests/runs/workdir_test.py",),
    "fedgame/experiments/paper.py": ("tests/experiments/table1_test.py",),
    "fedgame/experiments/reference.py": ("tests/reference_test.py",),
    "fedgame/games/regression.py": ("tests/games/curves_test.py",),
    "fedgame/inputs/agents.py": ("tests/inputs/columns_test.py",),
    "fedgame/inputs/exchange_rates.py": ("tests/inputs/columns_test.py",),
    "fedgame/equilibria/pivoting.py": ("tests/games/effective_samples_test.py",),
    "fedgame/inputs/fits.py": ("tests/experiments/measure_test.py", "tests/inputs/exchange_rates_test.py"),
    "fedgame/experiments/resampled.py": ("tests/inputs/exchange_rates_test.py", "tests/inputs/read_test.py"),
    "fedgame/inputs/measurements.py": ("tests/inputs/columns_test.py",),
    "fedgame/learning/downloads.py": ("tests/learning/preparation_test.py",),
    "fedgame/learning/memory.py": (
        "tests/learning/image_files_test.py",
        "tests/learning/image_arrays_test.py",
        "tests/learning/data_test.py",
    ),
    **dict.fromkeys(
        (
            *("fedgame/federation/carriers.py", "fedgame/federation/flare.py", "fedgame/federation/kits.py"),
            *("fedgame/federation/processes.py", "fedgame/federation/statements.py"),
        ),
        ("tests/experiments/federation_test.py",),
    ),
    "fedgame/learning/trainer.py": ("tests/protocols/protocols_test.py",),
    "fedgame/mechanisms/price.py": ("tests/mechanisms/payments_test.py",),
    "fedgame/mechanisms/prices.py": ("tests/mechanisms/payments_test.py",),
    "fedgame/mechanisms/shapley.py": ("tests/mechanisms/payments_test.py",),
}
COMMANDS = "tests/launch_test.py::test_bad_input_is_one_sentence_and_leaves_nothing_behind"


def changed() -> list[str]:
    """The files that a change has touched, relative to the root."""

    def lines(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    now = lines("diff", "--name-only", "HEAD") + lines("ls-files", "--others", "--exclude-standard")
    return now or lines("diff", "--name-only", "HEAD~1", "HEAD")


def tests_of(file: str) -> list[str]:
    """The tests of one file."""
    path = pathlib.PurePosixPath(file)
    if path.parts[0] == "tests" and path.name.endswith("_test.py"):
        return [file]
    if path.parts[0] == "launch":
        return [COMMANDS]
    if file in OTHERS:
        return list(OTHERS[file])
    if path.parts[0] != "fedgame" or path.suffix != ".py":
        return []
    place = pathlib.PurePosixPath("tests", *path.parts[1:-1])
    own = place / f"{path.stem}_test.py"
    of_room = place / f"{path.parent.name}_test.py"  # as payoffs_test.py, for every family
    return [str(test) for test in (own, of_room, place.parent / of_room.name) if (ROOT / test).exists()][:1]


if __name__ == "__main__":
    found = [test for file in changed() for test in tests_of(file) if (ROOT / test.split("::")[0]).exists()]
    print("\n".join(dict.fromkeys([*ALWAYS, *found])))
