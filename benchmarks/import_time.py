"""How long `import fedgame as fg` takes beyond `import jax`, in fresh processes that take turns.

python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
import time

TURNS = 15
STATEMENTS = {
    "import jax": "import jax",
    "import fedgame as fg": "import jax, fedgame as fg",
    "and fg.protocol('fedavg')": "import jax, fedgame as fg; fg.protocol('fedavg')",
}


def seconds(statement: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begin


def main() -> None:
    taken = {name: [] for name in STATEMENTS}
    for turn in range(TURNS + 1):
        for name, statement in STATEMENTS.items():
            took = seconds(statement)
            if turn > 0:  # in the first turn, files are read from disk
                taken[name].append(took)
    first = statistics.median(taken["import jax"])
    for name, found in taken.items():
        median = statistics.median(found)
        print(f"{name:<28} {median:.3f} s, {median - first:+.3f} s, {median / first:.2f} times import jax")


if __name__ == "__main__":
    main()
