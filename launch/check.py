"""Tries whether payoffs, costs, rules and protocols keep what their bases promise, yours among them.

  python -m launch.check --use=saturation.py --payoff='saturation(best=[0.9, 0.95, 0.8], half=20)'
  python -m launch.check --rule='price(price=0.004)' --protocol='fedbr(falkinger)'

They are looked at with three agents who have 30, 45 and 60 samples: numbers per agent are those of three.
"""

import sys

from absl import app, flags

from fedgame import testing
from launch import settings_flags

CHECKED = {
    kind: flags.DEFINE_multi_string(kind, [], f"a {kind} to check; may be given several times")
    for kind in ("payoff", "cost", "rule", "protocol")
}
flags.declare_key_flag("use")


def main(argv: list[str]) -> None:
    try:
        settings_flags.start(argv)
        if not any(flag.value for flag in CHECKED.values()):
            raise ValueError("give --payoff, --cost, --rule or --protocol")
        for kind, flag in CHECKED.items():
            for text in flag.value:
                testing.check(kind, text)
                print(f"{kind} {text}: nothing found that breaks a promise")
    except (AssertionError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
