"""The contract of an experiment: prepare, compute, show."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from fedgame.runs import settings as all_settings
from fedgame.runs import workdir
from fedgame.runs.workdir import Workdir


class Resources(NamedTuple):
    """What a run may use. Resources decide how long results take and who sees them, not what they are."""

    data_dir: str | None = None  # where tensorflow-datasets keeps its data
    workers: int | None = None  # training runs at a time; None: one per processor on a CPU, else one
    cache: pathlib.Path | None = None  # directory of results of training that all runs share; None: none
    tensorboard: bool = False  # whether to write numbers over rounds for TensorBoard while training
    simulate: bool = False  # whether members of a federation are processes of NVFlare's simulator
    poc: bool = False  # whether they are sites of NVFlare on this machine, with a server and certificates
    server: str | None = None  # how members on machines of their own reach this one, their server
    patience: float = 60.0  # seconds until a member's answer counts as missing


class Prepared(Protocol):
    """What `prepare` returns: whatever `compute` needs, and these two."""

    settings: Any  # with every default filled in

    @property
    def digests(self) -> dict[str, str]:
        """Digests of inputs other than the files that the settings name, such as {"images": ...}."""
        return {}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A claim that can be measured, as three functions. One command runs any of them, alone or in a sweep.

    Attributes:
      program: its name in `config.json`, such as "launch.equilibrium".
      settings: dataclass of what the user can choose; all that decides the results is there.
      check: raises a ValueError or FileNotFoundError for settings that cannot be run; computes nothing.
      prepare: checks, reads files, fills in defaults; raises as `check`, and if a file cannot be used.
      compute: writes rows, numbers and models to files; what is there already is not computed again.
      show: draws the figures and returns the text, both from the files of the directory alone.
      results: the default of --workdir, from the settings.
      headline: the rows that summarise one run in the table of a sweep.
      collected: the CSV files that a sweep puts together from those of its variants.
      show_sweep: as `show`, for the directory of a sweep; None: a table of all headlines.
      resources: names of the `Resources` that it uses. If there are any, it trains: an interrupt first lets
        training runs save their state.
      processes: whether several processes may run it together, on one file system.
    """

    program: str
    settings: type
    check: Callable[[Any, Resources], None]
    prepare: Callable[[Any, Resources], Prepared]
    compute: Callable[[Any, Workdir, Resources], None]
    show: Callable[[Workdir], str]
    results: Callable[[Any], str]
    headline: Callable[[Workdir], list[dict[str, Any]]]
    collected: tuple[str, ...]
    show_sweep: Callable[[Workdir], str] | None = None
    resources: tuple[str, ...] = ()
    processes: bool = False


def run(
    experiment: Experiment,
    settings: Any,
    folder: str,
    resources: Resources = Resources(),
    overwrite: bool = False,
) -> str:
    """Runs an experiment from Python, as its command does: leaves the same files, returns the same text.

    Args:
      experiment: such as `fedgame.experiments.measure.EXPERIMENT`.
      settings: of its class `settings`.
      folder: of the results; goes on with a run of the same settings that is there.
      resources: what it may use.
      overwrite: whether to delete what an earlier run left in the folder.

    Raises:
      ValueError, FileNotFoundError: as `experiment.prepare` and `workdir.open_workdir`.
    """
    prepared = experiment.prepare(all_settings.expanded(settings), resources)
    about, reads = described(prepared), all_settings.reads(prepared.settings)
    with workdir.open_workdir(folder, experiment.program, about, not overwrite, overwrite, reads) as work:
        experiment.compute(prepared, work, resources)
        return experiment.show(work)


def described(prepared: Prepared) -> dict[str, Any]:
    """All that decides the results, as JSON values: the settings, and digests of all that was read."""
    return all_settings.described(prepared.settings) | prepared.digests
