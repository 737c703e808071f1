"""How long a command takes: the first time, with nothing compiled yet, and again; and how much is compiled.

  python benchmarks/waiting.py          # about 7 minutes on two cores

Every command runs in processes of its own, on the example files. "first" begins with an empty cache of
compiled programs, "again" is the median of five runs with what the first left there; "programs" is how many
it left.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
FILES = ["--agents=examples/agents.csv", "--curve=examples/curve.csv"]
RUNS = 5
COMMANDS = {
    "launch.equilibrium": ["launch.equilibrium", *FILES],
    "launch.mechanism": ["launch.mechanism", *FILES],
    "one mechanism": ["launch.mechanism", *FILES, "--mechanism=personal"],
    "launch.equilibrium --helpshort": ["launch.equilibrium", "--helpshort"],
    "launch.mechanism --helpshort": ["launch.mechanism", "--helpshort"],
    "launch.compare --helpshort": ["launch.compare", "--helpshort"],
    "a flag misspelt": ["launch.equilibrium", *FILES, "--botstrap=3"],
    "a file that is not there": ["launch.equilibrium", "--agents=agnts.csv", FILES[1]],
    "a rule misspelt": ["launch.mechanism", *FILES, "--mechanism=persnal"],
}


def seconds(words: list[str], cache: pathlib.Path, number: int) -> float:
    """Runs a command; its results go to a directory of its own below the cache."""
    workdir = [] if "--helpshort" in words else [f"--workdir={cache / 'results' / str(number)}"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *words, *workdir], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    return time.perf_counter() - begin


def main() -> None:
    print(f"{'':<32}{'first':>8}{'again':>8}   programs")
    for name, words in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            cache = pathlib.Path(folder)
            first, *again = (seconds(words, cache, number) for number in range(1 + RUNS))
            programs = len(list((cache / "fedgame" / "jax").glob("*-cache")))
        print(f"{name:<32}{first:6.2f} s{statistics.median(again):6.2f} s   {programs}", flush=True)


if __name__ == "__main__":
    main()
