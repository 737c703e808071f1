"""The product of settings: one comparison per variant, each a run of its own, collected in one directory.

`variants.csv` there says which variants are done, failed or not run; `variants/NAME/` has the run of each,
and the files `COLLECTED` the rows of all that are done, with the swept settings in front.
"""

import dataclasses
import functools
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
from fedgame.experiments import checkpoints, checks, storage, sweep_report, training
from fedgame.experiments import settings as all_settings
from fedgame.learning import data

COLLECTED = ("welfare.csv", "runs.csv")
_FAILURES = (ValueError, OSError, FloatingPointError, jax.errors.JaxRuntimeError)  # the last: out of memory


class Variant(NamedTuple):
    """One combination of the swept settings."""

    values: dict[str, str]  # of the swept settings, as given
    settings: all_settings.CompareSettings  # not settled

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
    settings: all_settings.CompareSettings,
    parse: Callable[[str, str], Any],
    data_dir: str | None = None,
) -> list[Variant]:
    """All variants of a sweep, every one checked as if it were to run alone.

    Args:
      swept: "NAME=VALUE,VALUE,..."; a value that is itself a list has + between its parts.
      settings: of what is not swept.
      parse: from a name and a text, with commas in lists, to what the setting's flag would have.
      data_dir: where tensorflow-datasets keeps its data.

    Raises:
      ValueError: no such setting, a value missing, given twice or out of range; names the variant.
      FileNotFoundError: a data set is not there.
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
    about = functools.cache(functools.partial(_about, data_dir=data_dir))
    for variant in variants:
        try:
            checks.check(variant.settings)
            available, shape, classes = about(variant.settings.dataset)
            checks.network(checks.settle(variant.settings, available), shape, classes)
        except ValueError as error:
            raise ValueError(f"--sweep, variant {variant.name}: {error}") from None
    return variants


def _axis(
    text: str, settings: all_settings.CompareSettings, parse: Callable[[str, str], Any]
) -> tuple[str, dict[str, Any]]:
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


def _about(dataset: str, data_dir: str | None) -> tuple[tuple[int, int], tuple[int, ...], int]:
    """Of a data set: how many training and test images, their shape, the number of classes."""
    one = data.load(dataset, 1, 1, 0, data_dir)
    return data.sizes(dataset, data_dir), one.train.images.shape[1:], len(data.classes(dataset, data_dir))


class _Stop(threading.Event):
    """Set for one variant alone, as a failing one does, or with the whole sweep's."""

    def __init__(self, sweep: threading.Event):
        super().__init__()
        self._sweep = sweep

    def is_set(self) -> bool:
        return self._sweep.is_set() or super().is_set()


def run(
    variants: Sequence[Variant],
    program: str,
    compute: Callable[[training.Task, storage.Workdir], str],
    work: storage.Workdir,
    data_dir: str | None = None,
) -> str:
    """Runs every variant that is not done, one after another; leaves one set of tables, returns their text.

    A variant that fails is noted with its reason, and the others go on.

    Args:
      variants: from `product`.
      program: whose runs they are, in the `config.json` of each.
      compute: makes the comparison of one variant in its directory.
      work: of the sweep.
      data_dir: where tensorflow-datasets keeps its data.

    Raises:
      checkpoints.Interrupted: `work.stop` was set; the variant that had begun has saved its state.
    """
    rows = _known(variants, work)
    work.write_csv(sweep_report.VARIANTS, rows)
    for number, (variant, row) in enumerate(zip(variants, rows, strict=True), 1):
        if row["status"] == "done":
            continue
        if work.stop.is_set():
            raise checkpoints.Interrupted
        print(f"\nvariant {number} of {len(variants)}: {variant.name}", file=sys.stderr, flush=True)
        row |= _attempt(variant, program, compute, work, data_dir)
        done = [one for one, its in zip(variants, rows, strict=True) if its["status"] == "done"]
        if done:  # before it is said to be done: after a kill in between, it runs again
            _collect(done, work)
        work.write_csv(sweep_report.VARIANTS, rows)
    return sweep_report.write(work)


def _known(variants: Sequence[Variant], work: storage.Workdir) -> list[dict[str, Any]]:
    """The rows of `variants.csv`, as an earlier run of the sweep left them if there was one."""
    earlier = (
        {row["variant"]: row for row in work.read_csv(sweep_report.VARIANTS)}
        if work.has(sweep_report.VARIANTS)
        else {}
    )
    rows = []
    for variant in variants:
        row = (
            {"variant": variant.name} | variant.values | {"status": "not run", "message": "", "seconds": None}
        )
        row |= earlier.get(variant.name, {})
        if not all(work.has(f"{variant.folder}/{name}") for name in COLLECTED) and row["status"] == "done":
            row |= {"status": "not run", "seconds": None}  # somebody deleted it
        rows.append(row)
    return rows


def _attempt(
    variant: Variant,
    program: str,
    compute: Callable[[training.Task, storage.Workdir], str],
    work: storage.Workdir,
    data_dir: str | None,
) -> dict[str, Any]:
    """Runs one variant in its directory, and says what came of it."""
    begin, outcome = time.perf_counter(), {"status": "done", "message": ""}
    try:
        task = training.prepare(variant.settings, data_dir)
        images = training.digest(task.agents, task.server)
        described = all_settings.described(task.settings) | {"images": images}
        path = str(work.path / variant.folder)
        mine = storage.open_workdir(path, program, described, resume=True, overwrite=False)
        mine.save_every, mine.stop = work.save_every, _Stop(work.stop)
        compute(task, mine)
    except _FAILURES as error:
        outcome = {"status": "failed", "message": " ".join(str(error).split())}
        print(f"variant {variant.name} failed: {outcome['message']}", file=sys.stderr, flush=True)
    return outcome | {"seconds": round(time.perf_counter() - begin, 3)}


def _collect(done: Sequence[Variant], work: storage.Workdir) -> None:
    """Writes the rows of these variants, their swept settings in front, as one file of each kind.

    A setting whose name one of the files has already, as `seed`, is called `swept_seed` in all.
    """
    found = {
        name: [storage.Workdir(work.path / variant.folder).read_csv(name) for variant in done]
        for name in COLLECTED
    }
    taken = {column for parts in found.values() for column in parts[0][0]}
    for name, parts in found.items():
        rows = []
        for variant, own in zip(done, parts, strict=True):
            swept = {f"swept_{k}" if k in taken else k: value for k, value in variant.values.items()}
            rows += [{"variant": variant.name} | swept | row for row in own]
        work.write_csv(name, rows)
