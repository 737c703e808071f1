"""Builds the reference: every name with its parameters, units and source.

python -m launch.reference --out=docs/reference.md
python -m launch.reference --use=my_payoff.py --out=reference.md      # with your own
"""

import pathlib

from absl import app, flags

import fedgame
from fedgame import registry
from fedgame.experiments import reference, storage

OUT = flags.DEFINE_string("out", "docs/reference.md", "the Markdown file to write")
USE = flags.DEFINE_multi_string("use", [], "Python files that register more")


def main(argv: list[str]) -> None:
    for path in USE.value:
        registry.use(path)
    storage.write(pathlib.Path(OUT.value), reference.text(fedgame))
    print(f"wrote {OUT.value}")


if __name__ == "__main__":
    app.run(main)
