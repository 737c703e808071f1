"""Tries whether payoffs, costs, rules and protocols keep what their bases promise, yours among them.

  python -m launch.check --use=saturation.py --payoff='saturation(best=[0.9, 0.95, 0.8], half=20)'
  python -m launch.check --rule='price(price=0.004)' --protocol='fedbr(falkinger)'

They are looked at with three agents who have 30, 45 and 60 samples: numbers per agent are those of three.
"""

import pathlib
import sys
import traceback

import jax
from absl import flags

from fedgame import testing
from launch import running, settings_flags

CHECKED = {
    kind: flags.DEFINE_multi_string(kind, [], f"a {kind} to check; may be given several times")
    for kind in ("payoff", "cost", "rule", "protocol")
}
flags.declare_key_flag("use")


def main(argv: list[str]) -> None:
    settings_flags.start(argv)
    settings_flags.check_devices()
    if not any(flag.value for flag in CHECKED.values()):
        raise ValueError("give --payoff, --cost, --rule or --protocol")
    broken = 0
    for kind, flag in CHECKED.items():
        for text in flag.value:
            found = problem(kind, text)
            broken += bool(found)
            print(f"{kind} {text}: {found or 'nothing found that breaks a promise'}", flush=True)
    if broken:
        sys.exit(f"error: {broken} broke a promise")


def problem(kind: str, text: str) -> str:
    """What is wrong with the payoff, cost, rule or protocol that a text names; "" if nothing was found."""
    try:
        testing.check(kind, text)
    except AssertionError as error:
        return str(error)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        files = [pathlib.Path(file).name for file in settings_flags.USE.value]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).name in files]
        line = f", in line {lines[-1]} of its file" if lines else ""
        return f"it must be written with jax.numpy, and with jnp.where instead of `if` on its numbers{line}"
    return ""


if __name__ == "__main__":
    running.run(main)
