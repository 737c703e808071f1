"""Whether two checkouts compute the same, for code that was moved or rewritten and must not change a result.

python benchmarks/same_results.py BEFORE AFTER [--only=SUBSTRING] [--commands=tests/commands.txt] [--keep=DIR]

Runs every command of the list in both directories and compares what it prints and the CSV and JSON files that
it leaves; says for each command "same", or where the two differ first, and exits with 1 if any differ. Of
figures only the names are compared, seconds not at all.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

RELATIVE = 1e-12
ROUNDING = 1e-14  # gaps and sums that should be 0 differ by no more, for utilities are about 1
IGNORED = ("seconds", "sha256")  # columns and keys; files with digests are compared themselves
TIMES = r"\d+ s; |seconds of training: "  # the beginnings of lines that say how long something took
NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
COMPARED = (".csv", ".json", ".png")


def read_commands(file: pathlib.Path, only: str) -> list[str]:
    """The commands with `only` in them, and those whose results they read."""
    chosen: list[str] = []
    wanted: set[str] = set()
    for line in reversed(file.read_text(encoding="utf-8").splitlines()):
        folders = set(re.findall(r"\{out\}/([\w-]+)", line))
        if line.strip() and not line.startswith("#") and (only in line or folders & wanted):
            chosen.insert(0, line)
            wanted |= folders
    return chosen


def run(command: str, checkout: pathlib.Path, out: pathlib.Path) -> list[str]:
    """Runs a command in a checkout; returns the lines that are to be compared."""
    words = shlex.split(command.replace("{out}", str(out)))
    words[0] = sys.executable if words[0] == "python" else words[0]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode:  # then the last line of the errors says why
        lines += [f"exit code {done.returncode}", *done.stderr.strip().splitlines()[-1:]]
    lines = [_placeless(line, checkout, out) for line in lines if not re.match(TIMES, line)]
    return [re.sub(r"-{3,}", "---", re.sub(r"\s+", " ", line)) for line in lines]  # widths of columns


def _placeless(text: str, checkout: pathlib.Path, out: pathlib.Path) -> str:
    """The text without the names of these directories."""
    return text.replace(str(out), "{out}").replace(str(checkout), "{checkout}")


def equal(before: Any, after: Any, size: float = 0.0) -> bool:
    """Whether two cells are the same, or are numbers that agree up to rounding at numbers of this size."""
    if before == after:
        return True
    try:
        x, y = float(before), float(after)
    except (TypeError, ValueError):
        return False
    return abs(x - y) <= RELATIVE * max(abs(x), abs(y), size) + ROUNDING


def size_of(cells: Iterable[Any]) -> float:
    """The largest magnitude among the cells that are finite numbers."""
    largest = 0.0
    for cell in cells:
        with contextlib.suppress(TypeError, ValueError):
            number = abs(float(cell))
            largest = max(largest, number) if math.isfinite(number) else largest
    return largest


def lines_differ(before: list[str], after: list[str]) -> str | None:
    """Where printed lines differ first, or None."""
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        pieces = re.split(NUMBER, old), re.split(NUMBER, new)
        same = len(pieces[0]) == len(pieces[1]) and all(map(equal, *pieces))
        if not same:
            return f"printed line {number}: {old!r} became {new!r}"
    if len(before) != len(after):
        return f"printed lines: {len(before)} became {len(after)}"
    return None


def tables_differ(before: list[dict[str, str]], after: list[dict[str, str]]) -> str | None:
    """Where two CSV files differ first, or None."""
    columns = [list(rows[0]) if rows else [] for rows in (before, after)]
    if columns[0] != columns[1]:
        return f"columns {columns[0]} became {columns[1]}"
    if len(before) != len(after):
        return f"{len(before)} rows became {len(after)}"
    compared = [name for name in columns[0] if name not in IGNORED]
    sizes = {name: size_of(row[name] for row in before + after) for name in compared}
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        for name in compared:
            if not equal(old[name], new[name], sizes[name]):
                return f"row {number}, column {name}: {old[name]} became {new[name]}"
    return None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a JSON value, with its path; empty lists and objects count as values."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if key not in IGNORED:
                yield from leaves(item, f"{path}/{key}")
    else:
        yield path, value


def values_differ(before: Any, after: Any) -> str | None:
    """Where two JSON values differ first, or None."""
    old, new = dict(leaves(before)), dict(leaves(after))
    only_one = sorted(old.keys() ^ new.keys())
    if only_one:
        return f"{only_one[0]} is only in {'BEFORE' if only_one[0] in old else 'AFTER'}"
    columns: dict[str, list[Any]] = {}  # numbers of a list are of one size
    for path in old:
        columns.setdefault(re.sub(r"/\d+", "/", path), []).extend((old[path], new[path]))
    sizes = {column: size_of(cells) for column, cells in columns.items()}
    for path in old:
        if not equal(old[path], new[path], sizes[re.sub(r"/\d+", "/", path)]):
            return f"{path}: {old[path]} became {new[path]}"
    return None


def files_differ(outs: list[pathlib.Path], checkouts: list[pathlib.Path], seen: set[str]) -> str | None:
    """Where the files that a command left differ first, or None.

    Args:
      outs: the directories of results, before and after.
      checkouts: the checkouts that left them.
      seen: files that earlier commands left; those of this one are added.
    """
    before, after = (_files(out) - seen for out in outs)
    seen |= before | after
    only_one = sorted(before ^ after)
    if only_one:
        return f"{only_one[0]} is only in {'BEFORE' if only_one[0] in before else 'AFTER'}"
    for name in sorted(before):
        if name.endswith(".png"):
            continue
        old, new = (
            _placeless((out / name).read_text(encoding="utf-8"), checkout, out)
            for checkout, out in zip(checkouts, outs, strict=True)
        )
        found = _csv_differ(old, new) if name.endswith(".csv") else _json_differ(old, new)
        if found:
            return f"{name}, {found}"
    return None


def _files(out: pathlib.Path) -> set[str]:
    """The files in a directory of results that are compared."""
    files = [file for file in out.rglob("*") if file.suffix in COMPARED and "checkpoints" not in file.parts]
    return {str(file.relative_to(out)) for file in files}


def _csv_differ(before: str, after: str) -> str | None:
    return tables_differ(*(list(csv.DictReader(text.splitlines())) for text in (before, after)))


def _json_differ(before: str, after: str) -> str | None:
    return values_differ(json.loads(before), json.loads(after))


def main() -> None:
    here = pathlib.Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", metavar="BEFORE", type=pathlib.Path, help="a checkout")
    parser.add_argument("after", metavar="AFTER", type=pathlib.Path, help="another one")
    parser.add_argument("--only", default="", help="commands with this in them, and what they read")
    parser.add_argument("--commands", type=pathlib.Path, default=here / "tests" / "commands.txt")
    parser.add_argument("--keep", type=pathlib.Path, help="leave the results here")
    given = parser.parse_args()
    checkouts = [given.before.resolve(), given.after.resolve()]
    commands = read_commands(given.commands, given.only)
    different, seen = 0, set()
    with tempfile.TemporaryDirectory() as temporary, futures.ThreadPoolExecutor(2) as pool:
        root = (given.keep or pathlib.Path(temporary)).resolve()
        outs = [root / "before", root / "after"]
        for out in outs:
            out.mkdir(parents=True)
        for command in commands:
            begin = time.perf_counter()
            printed = list(pool.map(run, [command] * 2, checkouts, outs))  # both at once
            found = lines_differ(*printed) or files_differ(outs, checkouts, seen)
            exits = [line for line in printed[0] if line.startswith("exit code")]
            verdict = "DIFFERENT" if found else ", ".join(["same", *exits])
            print(f"{verdict:<10} {time.perf_counter() - begin:4.0f} s  {command[:90]}", flush=True)
            if found:
                different += 1
                print(f"    {found}", flush=True)
    print(f"{len(commands) - different} of {len(commands)} commands give the same results")
    sys.exit(1 if different or not commands else 0)


if __name__ == "__main__":
    main()
