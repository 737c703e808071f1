"""The product of settings of any experiment: one run per variant, collected in one directory.

`variants.csv` says which variants are done, failed or not run, and `variants/NAME/` has the run of each. The
CSV files that the experiment calls `collected` have the rows of all variants that are done, with their swept
settings as first columns.
"""

import dataclasses
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

    values: dict[str, str]  # of the swept settings, as texts
    settings: Any  # all settings, before defaults are filled in

    @property
    def name(self) -> str:
        """The swept settings and their values, as people write them."""
        return ",".join(f"{setting}={value}" for setting, value in self.values.items())

    @property
    def folder(self) -> str:
        """Where its run is, below the sweep's directory."""
        return folder_of(self.name)


def folder_of(name: str) -> str:
    """Where the run of the variant of this name is, below the sweep's directory."""
    return f"{workdir.RUNS_OF_SWEEP}/{workdir.shortened(urllib.parse.quote(name, safe='=,+'))}"


def product(
    swept: Sequence[str],
    experiment: Experiment,
    settings: Any,
    parse: Callable[[str, str], Any],
    resources: Resources,
) -> list[Variant]:
    """All variants of a sweep, each checked as if it were run alone.

    Args:
      swept: texts "NAME=VALUE,VALUE,..."; a value that is itself a list has + between its parts.
      experiment: what is run.
      settings: those of all variants, but for what is swept.
      parse: from the name of a setting and a text, with commas in lists, to the value of its flag.
      resources: of all runs.

    Raises:
      ValueError: there is no such setting, or a value is missing, given twice or out of range; names the
        variant.
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
    """The event that stops one variant: set by a job of it that fails, or by the event of the whole sweep."""

    def __init__(self, sweep: threading.Event):
        super().__init__()
        self._sweep = sweep

    def is_set(self) -> bool:
        return self._sweep.is_set() or super().is_set()


def run(
    variants: Sequence[Variant], experiment: Experiment, work: workdir.Workdir, resources: Resources
) -> None:
    """Runs every variant that is not done, one after another, and collects the rows of all that are.

    If a variant fails, the reason is noted in `variants.csv`, and the others go on.

    Args:
      variants: from `product`.
      experiment: what is run.
      work: the directory of the sweep.
      resources: of all runs.

    Raises:
      snapshots.Interrupted: `work.stop` was set; the variant that had begun has saved its state.
      ValueError: a file of a variant that is done has changed since it was written.
    """
    rows = _known(variants, experiment, work)
    _save(variants, rows, experiment, work)
    for number, (variant, row) in enumerate(zip(variants, rows, strict=True), 1):
        if row["status"] == "done":
            continue
        if work.stop.is_set():
            raise snapshots.Interrupted
        print(f"\nvariant {number} of {len(variants)}: {variant.name}", file=sys.stderr, flush=True)
        row |= _attempt(variant, experiment, work, resources)
        _save(variants, rows, experiment, work)


def _save(
    variants: Sequence[Variant], rows: list[dict[str, Any]], experiment: Experiment, work: workdir.Workdir
) -> None:
    """Writes what is known of all variants, and the rows of those that are done."""
    done = [one for one, its in zip(variants, rows, strict=True) if its["status"] == "done"]
    if done:  # collected before `variants.csv` says so: after a kill in between, the variant runs again
        _collect(done, experiment, work)
    work.write_csv(VARIANTS, rows)


def failed(work: workdir.Workdir) -> list[dict[str, str]]:
    """The rows of `variants.csv` of variants that failed."""
    return [row for row in variants_of(work) if row["status"] == "failed"]


def variants_of(work: workdir.Workdir) -> list[dict[str, str]]:
    """The rows of `variants.csv`, with the settings as texts."""
    return work.read_texts(VARIANTS)


def settings_of(work: workdir.Workdir) -> dict[str, str]:
    """The names of the swept settings, by their columns in the collected files; see `_collect`."""
    names = [name for name in work.read_texts(VARIANTS)[0] if name not in ABOUT]
    there = work.read_texts(HEADLINES)[0]
    return {f"swept_{name}" if f"swept_{name}" in there else name: name for name in names}


def _known(
    variants: Sequence[Variant], experiment: Experiment, work: workdir.Workdir
) -> list[dict[str, Any]]:
    """The rows of `variants.csv` at the start: as an earlier run of the sweep left them, else "not run"."""
    earlier = {row["variant"]: row for row in variants_of(work)} if work.has(VARIANTS) else {}
    not_run = {"status": "not run", "message": "", "seconds": None}
    rows = []
    for variant in variants:
        row = {"variant": variant.name, **variant.values, **not_run, **earlier.get(variant.name, {})}
        if row["status"] == "done":
            mine = workdir.Workdir(work.path / variant.folder)
            mine.check()
            if not all(mine.has(name) for name in experiment.collected):  # somebody deleted them
                row |= not_run
        rows.append(row)
    return rows


def _attempt(
    variant: Variant, experiment: Experiment, work: workdir.Workdir, resources: Resources
) -> dict[str, Any]:
    """Runs one variant in its directory; returns status, message and seconds."""
    begin, outcome = time.perf_counter(), {"status": "done", "message": ""}
    try:
        prepared = experiment.prepare(variant.settings, resources)
        path = str(work.path / variant.folder)
        with workdir.open_workdir(path, experiment.program, described(prepared), True, False) as mine:
            mine.save_every, mine.stop = work.save_every, _Stop(work.stop)
            experiment.compute(prepared, mine, resources)
            experiment.show(mine)
    except _FAILURES as error:
        outcome = {"status": "failed", "message": " ".join(str(error).split())}
        print(f"variant {variant.name} failed: {outcome['message']}", file=sys.stderr, flush=True)
    return outcome | {"seconds": round(time.perf_counter() - begin, 3)}


def _collect(done: Sequence[Variant], experiment: Experiment, work: workdir.Workdir) -> None:
    """Writes one file of each kind with the rows of these variants, the swept settings as first columns.

    If one of the files has a column with the name of a swept setting, such as `seed`, the setting's column is
    called `swept_seed` in all files.
    """
    folders = [workdir.Workdir(work.path / variant.folder) for variant in done]
    found = {name: [folder.read_texts(name) for folder in folders] for name in experiment.collected}
    found[HEADLINES] = [experiment.headline(folder) for folder in folders]
    taken = {column for tables in found.values() for table in tables for column in table[0]}
    for name, tables in found.items():
        rows = []
        for variant, table in zip(done, tables, strict=True):
            about = {"variant": variant.name}
            for setting, value in variant.values.items():
                about[f"swept_{setting}" if setting in taken else setting] = value
            rows += [about | row for row in table]
        work.write_csv(name, rows)
