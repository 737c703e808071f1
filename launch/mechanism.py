"""Which payments fix it: who pays and receives what in your federation, who leaves, and how well all do.

  python -m launch.mechanism --agents=examples/agents.csv --curve=examples/curve.csv --mechanism=personal
  python -m launch.mechanism --family=power --best=0.97 --scale=6 --power=0.8 --shift=12 \\
      --cost=0.004,0.005,0.012 --capacity=100 --mechanism=beta_star

Files as for launch.equilibrium. Tables, the figure over β, the mechanism and a scenario that
--scenario reads again are left under --workdir.
"""

from absl import app, flags

from fedgame.experiments import mechanism
from launch import runs, settings_flags

WORKDIR = flags.DEFINE_string("workdir", "results/mechanism", "directory of the results")
settings_flags.define(mechanism.Settings)
flags.adopt_module_key_flags(settings_flags)  # so that --helpshort shows them


def main(argv: list[str]) -> None:
    runs.main(argv, "launch.mechanism", mechanism, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
