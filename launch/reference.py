"""Builds the reference: every name with its parameters, units and source, as Markdown.

  python -m launch.reference --out=docs/reference.md
  python -m launch.reference --use=my_payoff.py --out=reference.md      # with your own

What --use adds stands among the rest.
"""

import pathlib
import sys

from absl import app, flags

import fedgame
from fedgame.experiments import reference
from fedgame.runs import workdir
from launch import settings_flags

OUT = flags.DEFINE_string("out", "docs/reference.md", "the Markdown file to write")
flags.declare_key_flag("use")


def main(argv: list[str]) -> None:
    try:
        settings_flags.start(argv)
        workdir.write(pathlib.Path(OUT.value), reference.text(fedgame))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {OUT.value}")


if __name__ == "__main__":
    app.run(main)
