"""What members are advised to share under every mechanism, and what comes of it when models are trained.

  python -m launch.measure --federation=examples/hospitals
  python benchmarks/advice.py --measurements results/measure_hospitals --agents examples/hospitals/agents.csv

For no payments, personal rates, prices and one price, with own records that teach only if they are shared and
with such that always do (personal rates are refused there), and for the curve of the total: predicted beside
trained for every member, on the reserve, 20 training runs each (--validate). The intervals are 90% for all
members together.
"""

import argparse
import contextlib
import io
import pathlib
import tempfile

import jax

from fedgame.experiments import equilibrium, mechanism
from fedgame.report import tables
from fedgame.runs import experiment, workdir

jax.config.update("jax_enable_x64", True)
WAYS = {  # by what is advised: the experiment and its settings
    "no payments": (equilibrium, {}),
    "personal rates": (mechanism, {"mechanism": "personal"}),
    "prices": (mechanism, {"mechanism": "prices"}),
    "price": (mechanism, {"mechanism": "price"}),
    "no payments, own=always": (equilibrium, {"own": "always"}),
    "prices, own=always": (mechanism, {"mechanism": "prices", "own": "always"}),
    "price, own=always": (mechanism, {"mechanism": "price", "own": "always"}),
}


def advised(module, given, folder):
    """Rows of `validation.csv` at the announced profile, and whether the advice held."""
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        experiment.run(module.EXPERIMENT, module.Settings(validate=True, **given), str(folder))
    run = workdir.Workdir(folder)
    rows = [row for row in run.read_csv("validation.csv", text=("member",)) if row["profile"] == "announced"]
    return rows, run.read_json("validation.json")[0]


def amount(x):
    """Whole numbers from 1,000 on, else three digits."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def show(measurements, agents):
    """Prints what comes of every advice.

    Args:
      measurements: what launch.measure left.
      agents: file of costs, capacities and values.
    """
    measured = {"agents": agents, "measurements": measurements}
    curve = {"agents": agents, "curve": str(pathlib.Path(measurements) / "curve.csv")}
    ways = {name: (module, measured | given) for name, (module, given) in WAYS.items()}
    ways["curve of the total, no payments"] = (equilibrium, curve)
    header = ["advice", "member", "shares", "predicted", "trained", "utility", "trained"]
    cells, verdicts = [], []
    for number, (name, (module, given)) in enumerate(ways.items()):
        with tempfile.TemporaryDirectory() as folder:
            rows, summary = advised(module, given, pathlib.Path(folder) / str(number))
        for row in rows:
            interval = f"{row['trained']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            cells.append([
                name,
                row["member"],
                str(row["contribution"]),
                f"{row['predicted']:.3f}",
                interval if row["holds"] else f"{interval} !",
                amount(row["predicted_utility"]),
                amount(row["trained_utility"]),
            ])  # fmt: skip
        held = "held" if summary["holds"] else "did NOT hold"
        predicted, trained = amount(summary["predicted_nash_gap"]), amount(summary["trained_nash_gap"])
        verdicts.append([name, held, f"{predicted} predicted, {trained} trained"])
        print(name, flush=True)
    print(tables.markdown(header, cells))
    print(tables.markdown(["advice", "it", "Nash gap"], verdicts))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measurements", required=True, help="what launch.measure left")
    parser.add_argument("--agents", required=True, help="costs, capacities and values")
    arguments = parser.parse_args()
    show(arguments.measurements, arguments.agents)


if __name__ == "__main__":
    main()
