"""Many independent jobs: several at a time, with a progress bar, each stored under its name."""

import sys
import time
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Any

import jax
import tqdm

from fedgame.runs import snapshots, workdir


def run(
    stage: str, jobs: dict[str, tuple[float, Callable[[], Any]]], work: workdir.Workdir, workers: int
) -> dict[str, Any]:
    """Computes the jobs that are not stored yet, the largest first, and stores them.

    Args:
      stage: what the progress bar says.
      jobs: by name, the size of each, for order and progress, and a function without arguments that returns a
        dict of JSON values.
      work: where they are stored, with the seconds that each took.
      workers: number of threads. XLA does not hold the interpreter lock while it computes.

    Returns:
      The values by name, in the order of `jobs`.

    Raises:
      snapshots.Interrupted: `work.stop` was set; jobs that had begun have saved their state.
      FloatingPointError: training diverged; names the job. The others have saved their state, too.
    """
    done = {}
    pool = futures.ThreadPoolExecutor(workers)
    with progress(stage, sum(size + 1 for size, _ in jobs.values())) as bar:
        try:
            order = sorted(jobs, key=lambda name: -jobs[name][0])
            running = {pool.submit(work.job, name, _timed(jobs[name][1], work)): name for name in order}
            for future in futures.as_completed(running):
                name = running[future]
                try:
                    done[name] = future.result()
                except FloatingPointError as error:
                    raise FloatingPointError(f"{name}: {error}") from None
                bar.update(jobs[name][0] + 1)
        except BaseException:  # jobs that have begun save their state, the others are dropped
            work.stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    return {name: done[name] for name in jobs}


def progress(stage: str, total: float, done: float = 0, over: Iterable | None = None) -> tqdm.tqdm:
    """A progress bar, shown by the first process only.

    Args:
      stage: its name.
      total: where it ends.
      done: where it begins.
      over: what to iterate over; None: it is moved by `update`.
    """
    form = "{desc}{percentage:4.0f}%|{bar:30}| {elapsed}<{remaining}"
    hidden = jax.process_index() > 0
    seconds = 0.1 if sys.stderr.isatty() else 10.0  # between updates: log files keep every one of them
    return tqdm.tqdm(
        over, f"{stage:<29}", total, mininterval=seconds, initial=done, bar_format=form, disable=hidden
    )


def progress_over(stage: str, rounds: range) -> tqdm.tqdm:
    """The numbers of the rounds that are left, with a progress bar that counts those that are done."""
    return progress(stage, rounds.stop - 1, rounds.start - 1, rounds)


def _timed(compute: Callable[[], dict[str, Any]], work: workdir.Workdir) -> Callable[[], dict[str, Any]]:
    """The same function, which adds the seconds it took, and does not begin once `work.stop` is set."""

    def compute_and_time() -> dict[str, Any]:
        if work.stop.is_set():
            raise snapshots.Interrupted
        begin = time.perf_counter()
        value = compute()  # may have `seconds` of its own, as training runs from a cache do: these are kept
        return {"seconds": round(time.perf_counter() - begin, 3)} | value

    return compute_and_time
