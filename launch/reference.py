"""Builds the reference: every name with its parameters, units and source, as Markdown.

  python -m launch.reference --out=docs/reference.md
  python -m launch.reference --use=my_payoff.py --out=reference.md      # with your own

What --use adds stands among the rest.
"""

import pathlib

from absl import flags

import fedgame
from fedgame.experiments import reference
from fedgame.runs import workdir
from launch import running, settings_flags

OUT = flags.DEFINE_string("out", "docs/reference.md", "the Markdown file to write")
flags.declare_key_flag("use")


def main(argv: list[str]) -> None:
    settings_flags.start(argv)
    workdir.write(pathlib.Path(OUT.value).expanduser(), reference.text(fedgame))
    print(f"wrote {OUT.value}")


if __name__ == "__main__":
    running.run(main)
