"""The product of settings of any experiment: one run per variant, collected in one directory.

`variants.csv` there says which variants are done, failed or not run; `variants/NAME/` has the run of each,
and the files that the experiment calls `collected` the rows of all that are done, the swept settings first.
"""

import dataclasses
import hashlib
import itertools
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from fedgame import registry
from fedgame.runs import snapshots, workdir
from fedgame.runs.experiment import Experiment, Resources, described

VARIANTS = "variants.csv"
HEADLINES = "headlines.csv"  # of the variants that are done, the swept settings first
ABOUT = ("variant", "status", "message", "seconds")  # columns of `VARIANTS` that are no settings
_FAILURES = (ValueError, OSError, FloatingPointError, jax.errors.JaxRuntimeError)  # the last: out of memory


class Variant(NamedTuple):
    """One combination of the swept settings."""

    values: dict[str, str]  # of the swept settings, as given
    settings: Any  # all of them, defaults not filled in

    @property
    def name(self) -> str:
        return ",".join(f"{setting}={value}" for setting, value in self.values.items())

    @property
    def folder(self) -> str:
        """Where its run is, below the sweep's directory; names of files have at most 255 bytes."""
        name = urllib.parse.quote(self.name, safe="=,+")
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return f"variants/{name}" if len(name) <= 200 else f"variants/{name[:190]}~{digest}"


def product(
    swept: Sequence[str],
    experiment: Experiment,
    settings: Any,
    parse: Callable[[str, str], Any],
    resources: Resources,
) -> list[Variant]:
    """All variants of a sweep, each checked as if it were to run alone.

    Args:
      swept: "NAME=VALUE,VALUE,..."; a value that is itself a list has + between its parts.
      experiment: what is run.
      settings: of what is not swept.
      parse: from a name and a text, with commas in lists, to what the setting's flag would have.
      resources: of all runs.

    Raises:
      ValueError: no such setting, a value missing, given twice or out of range; names the variant.
      FileNotFoundError: a file or a data set is not there.
    """
    axes: dict[str, dict[str, Any]] = {}
    for text in swept:
        name, values = _axis(text, settings, parse)
        if name in axes:
            raise ValueError(f"--sweep={text}: {name} is swept already")
        axes[name] = values
    variants = []
    for chosen in itertools.product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        changes = {name: axes[name][text] for name, text in values.items()}
        variants.append(Variant(values, dataclasses.replace(settings, **changes)))
    for variant in variants:
        try:
            experiment.check(variant.settings, resources)
        except ValueError as error:
            raise ValueError(f"--sweep, variant {variant.name}: {error}") from None
    return variants


def _axis(text: str, settings: Any, parse: Callable[[str, str], Any]) -> tuple[str, dict[str, Any]]:
    """The name of a swept setting and its values by their texts."""
    name, equals, given = text.partition("=")
    fields = {field.name: field for field in dataclasses.fields(settings)}
    if not equals:
        raise ValueError(f"--sweep={text}: a sweep is written NAME=VALUE,VALUE,...")
    if name not in fields:
        raise ValueError(f"--sweep={text}: there is no setting {name!r}")
    listed = "tuple" in str(fields[name].type)
    values: dict[str, Any] = {}
    for one in registry.split(given):
        parts = registry.split(one, "+") if listed else [one]
        if not all(parts):
            raise ValueError(f"--sweep={text}: a value is missing")
        try:
            value = parse(name, ",".join(parts))
        except ValueError:
            raise ValueError(f"--sweep={text}: {one!r} is no value of --{name}") from None
        if value in values.values():
            raise ValueError(f"--sweep={text}: {one} is given twice")
        values[one] = value
    return name, values


class _Stop(threading.Event):
    """Is set for one variant alone, as a failing job does, or for the whole sweep."""

    def __init__(self, sweep: threading.Event):
        super().__init__()
        self._sweep = sweep

    def is_set(self) -> bool:
        return self._sweep.is_set() or super().is_set()


def run(
    variants: Sequence[Variant], experiment: Experiment, work: workdir.Workdir, resources: Resources
) -> None:
    """Runs every variant that is not done, one after another, and collects the rows of all.

    A variant that fails is noted with its reason, and the others go on.

    Args:
      variants: from `product`.
      experiment: what is run.
      work: the directory of the sweep.
      resources: of all runs.

    Raises:
      snapshots.Interrupted: `work.stop` was set; the variant that had begun has saved its state.
    """
    rows = _known(variants, experiment, work)
    work.write_csv(VARIANTS, rows)
    for number, (variant, row) in enumerate(zip(variants, rows, strict=True), 1):
        if row["status"] == "done":
            continue
        if work.stop.is_set():
            raise snapshots.Interrupted
        print(f"\nvariant {number} of {len(variants)}: {variant.name}", file=sys.stderr, flush=True)
        row |= _attempt(variant, experiment, work, resources)
        done = [one for one, its in zip(variants, rows, strict=True) if its["status"] == "done"]
        if done:  # before it is said to be done: after a kill in between, it runs again
            _collect(done, experiment, work)
        work.write_csv(VARIANTS, rows)


def failed(work: workdir.Workdir) -> list[dict[str, str]]:
    """The rows of `variants.csv` of variants that failed."""
    return [row for row in variants_of(work) if row["status"] == "failed"]


def variants_of(work: workdir.Workdir) -> list[dict[str, str]]:
    """The rows of `variants.csv`, settings as they were given."""
    return work.read_texts(VARIANTS)


def settings_of(work: workdir.Workdir) -> dict[str, str]:
    """The swept settings by their columns in the collected files."""
    names = [name for name in work.read_texts(VARIANTS)[0] if name not in ABOUT]
    there = work.read_texts(HEADLINES)[0]
    return {name if name in there else f"swept_{name}": name for name in names}


def _known(
    variants: Sequence[Variant], experiment: Experiment, work: workdir.Workdir
) -> list[dict[str, Any]]:
    """The rows of `variants.csv`, as an earlier run of the sweep left them if there was one."""
    earlier = {row["variant"]: row for row in variants_of(work)} if work.has(VARIANTS) else {}
    nothing = {"status": "not run", "message": "", "seconds": None}
    rows = []
    for variant in variants:
        row = {"variant": variant.name} | variant.values | nothing | earlier.get(variant.name, {})
        there = all(work.has(f"{variant.folder}/{name}") for name in experiment.collected)
        if row["status"] == "done" and not there:  # somebody deleted its files
            row |= nothing
        rows.append(row)
    return rows


def _attempt(
    variant: Variant, experiment: Experiment, work: workdir.Workdir, resources: Resources
) -> dict[str, Any]:
    """Runs one variant in its directory, and says what came of it."""
    begin, outcome = time.perf_counter(), {"status": "done", "message": ""}
    try:
        prepared = experiment.prepare(variant.settings, resources)
        path = str(work.path / variant.folder)
        mine = workdir.open_workdir(
            path, experiment.program, described(prepared), resume=True, overwrite=False
        )
        mine.save_every, mine.stop = work.save_every, _Stop(work.stop)
        experiment.compute(prepared, mine, resources)
        experiment.show(mine)
    except _FAILURES as error:
        outcome = {"status": "failed", "message": " ".join(str(error).split())}
        print(f"variant {variant.name} failed: {outcome['message']}", file=sys.stderr, flush=True)
    return outcome | {"seconds": round(time.perf_counter() - begin, 3)}


def _collect(done: Sequence[Variant], experiment: Experiment, work: workdir.Workdir) -> None:
    """Writes the rows of these variants, their swept settings in front, as one file of each kind.

    A setting whose name one of the files has already, as `seed`, is called `swept_seed` in all.
    """
    theirs = [workdir.Workdir(work.path / variant.folder) for variant in done]
    found = {name: [one.read_texts(name) for one in theirs] for name in experiment.collected}
    found[HEADLINES] = [experiment.headline(one) for one in theirs]
    taken = {column for tables in found.values() for table in tables for column in table[0]}
    for name, tables in found.items():
        rows = []
        for variant, table in zip(done, tables, strict=True):
            swept = {f"swept_{k}" if k in taken else k: value for k, value in variant.values.items()}
            rows += [{"variant": variant.name} | swept | row for row in table]
        work.write_csv(name, rows)
