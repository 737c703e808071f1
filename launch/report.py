"""Makes the page of finished runs: one run anew, or several side by side.

  python -m launch.report results/mechanism                        # results/mechanism/report.html
  python -m launch.report results/mechanism results/equilibrium    # both, in report.html here
  python -m launch.report DIR… --out=page.html

From the files of the runs alone: nothing is computed.
"""

import pathlib
import sys

from absl import flags

from fedgame import results
from fedgame.report import page
from fedgame.runs import digests, workdir
from launch import running

OUT = flags.DEFINE_string("out", None, "the page; DIR/report.html of one run, report.html here of several")
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "replace the page of several runs if it is there; that of one run is always made anew"
)


def main(argv: list[str]) -> None:
    folders = [pathlib.Path(folder).expanduser() for folder in argv[1:]]
    if not folders:
        sys.exit("error: name directories of finished runs: python -m launch.report DIR…")
    html = page.render([page.of(workdir.Workdir(results.load(folder).folder)) for folder in folders])
    if OUT.value is None and len(folders) == 1:
        if (folders[0] / digests.FILE).exists():
            with workdir.hold(folders[0]) as work:  # its page belongs to the run
                work.put(page.FILE, lambda path: path.write_text(html, encoding="utf-8"))
        else:  # of an earlier version: a list of what it wrote would list nothing but the page
            workdir.write(folders[0] / page.FILE, html)
        print(f"wrote {folders[0] / page.FILE}")
        return
    out = pathlib.Path(OUT.value or page.FILE).expanduser()
    if out.exists() and not OVERWRITE.value:
        raise ValueError(f"{out} exists already: replace it by --overwrite, or name another --out")
    workdir.write(out, html)
    print(f"wrote {out}")


if __name__ == "__main__":
    running.run(main)
