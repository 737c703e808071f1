"""Makes the example files of `launch.equilibrium`: twelve invented clinics, and a curve measured on digits.

  python -m launch.example --workdir=examples      # about half a minute

`curve.csv` is what the server of `launch.compare` measures: held-out accuracy of a CNN that ten equal
agents train by federated averaging on scikit-learn's digits, three runs a size. The clinics of
`agents.csv` are drawn from --seed: small ones whose samples are dear, large ones whose are cheap.
"""

import os
import pathlib
import tempfile

import numpy as np
from absl import flags

from fedgame.experiments import compare, curve
from fedgame.runs import workdir
from fedgame.runs.experiment import Resources
from launch import running, settings_flags

WORKDIR = flags.DEFINE_string("workdir", "examples", "directory of agents.csv and curve.csv")
SEED = flags.DEFINE_integer("seed", 0, "of every random choice", 0)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace the files that are there")


def agents(seed: int, n: int = 12) -> list[dict[str, str]]:
    """Rows of `agents.csv`; costs are in units of what accuracy 1 is worth."""
    rng = np.random.default_rng(seed)
    capacity = np.sort(np.exp(rng.uniform(np.log(15), np.log(150), n))).round()
    exponent = rng.choice([1.2, 1.5, 2.0], n)
    marginal = 0.025 / np.sqrt(capacity) * np.exp(rng.normal(0, 0.5, n))  # cost of the twentieth sample
    cost = marginal / (exponent * 20.0 ** (exponent - 1.0))
    fixed = rng.choice([0.0, 0.02, 0.9], n, p=[0.5, 0.4, 0.1])
    return [
        {
            "name": f"clinic {i + 1}",
            "cost": f"{cost[i]:.4g}",
            "fixed": f"{fixed[i]:.4g}",
            "exponent": f"{exponent[i]:.4g}",
            "capacity": f"{capacity[i]:.4g}",
        }
        for i in range(n)
    ]


def main(argv: list[str]) -> None:
    settings_flags.start(argv)
    settings_flags.check_devices()
    folder = pathlib.Path(WORKDIR.value).expanduser()
    files = folder / "agents.csv", folder / "curve.csv"
    there = [file for file in files if os.path.lexists(file)]  # also a link to nowhere
    if there and not OVERWRITE.value:
        raise ValueError(f"{there[0]} exists already: replace it by --overwrite")
    task = compare.prepare(compare.Settings(seed=SEED.value))
    with tempfile.TemporaryDirectory() as temporary:
        work = workdir.Workdir(pathlib.Path(temporary))
        curve.measure(task, work, Resources(workers=2))
        measured = work.read_texts("curve.csv")
    workdir.write(folder / "agents.csv", workdir.to_csv(agents(SEED.value)))
    workdir.write(folder / "curve.csv", workdir.to_csv(measured))
    print(f"wrote {folder / 'agents.csv'} and {folder / 'curve.csv'}")


if __name__ == "__main__":
    running.run(main)
