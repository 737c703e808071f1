"""How often --validate raises an alarm, where it should not and where it should, on four hospitals' records.

  python benchmarks/validation.py --seeds 30     # 16 minutes beside other programs

Every seed deals the hospitals' patients anew into reserve, held-out and training parts, measures 80 mixtures
in 12 splits, and solves the game of examples/hospitals/agents.csv on what was fitted. Its equilibrium is then
checked on the reserve: with exchange rates, and with the curve of the total, which takes every patient to be
worth the same to everybody. The reserve is a random quarter of all patients, so where the fit is right the
joint 90% intervals should exclude a prediction at one seed in ten at most.

alarm      at how many seeds a prediction lies outside of its interval, or a deviation is shown to pay
outside    the share of single predictions outside of the joint intervals
pays       at how many seeds a deviation is shown to pay
"""

import argparse
import csv
import pathlib
import tempfile

import jax
import numpy as np

from fedgame.experiments import equilibrium, measure
from fedgame.runs import experiment, workdir

jax.config.update("jax_enable_x64", True)
FOLDER, AGENTS = "examples/hospitals", "examples/hospitals/agents.csv"


def checked(seed, folder):
    """`validation.json` and `validation.csv` of each way to fit what was measured."""
    settings = measure.Settings(federation=FOLDER, seed=seed, runs=80)
    experiment.run(measure.EXPERIMENT, settings, str(folder / "measure"))
    found = {}
    for name, source in (
        ("exchange rates", {"measurements": str(folder / "measure")}),
        ("curve of the total", {"curve": str(folder / "measure" / "curve.csv")}),
    ):
        settings = equilibrium.Settings(agents=AGENTS, validate=True, **source)
        experiment.run(equilibrium.EXPERIMENT, settings, str(folder / name))
        run = workdir.Workdir(folder / name)
        found[name] = run.read_json("validation.json")[0], run.read_csv("validation.csv", text=("member",))
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--file", default="results/validation.csv", help="one row per seed and fit")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for name, (summary, table) in checked(seed, pathlib.Path(folder)).items():
                announced = [row for row in table if row["profile"] == "announced"]
                rows.append({
                    "seed": seed,
                    "fit": name,
                    "alarm": not summary["holds"],
                    "outside": np.mean([not row["holds"] for row in announced]),
                    "pays": bool(summary["deviations_that_pay"]),
                    "error": np.sqrt(np.mean([(r["trained"] - r["predicted"]) ** 2 for r in announced])),
                    "gap": summary["trained_nash_gap"],
                })  # fmt: skip
                print(rows[-1], flush=True)
    file = pathlib.Path(arguments.file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for name in dict.fromkeys(row["fit"] for row in rows):
        mine = [row for row in rows if row["fit"] == name]
        alarms, pays = (sum(row[key] for row in mine) for key in ("alarm", "pays"))
        outside, error, gap = (np.mean([row[key] for row in mine]) for key in ("outside", "error", "gap"))
        print(
            f"{name:<20} alarm at {alarms} of {len(mine)} seeds, outside {outside:.1%}, a deviation pays "
            f"at {pays}; root mean square error {error:.3f}, trained Nash gap {gap:,.0f}"
        )


if __name__ == "__main__":
    main()
