"""Many independent jobs: several at a time, with a progress bar, each stored under its name."""

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
    """Computes, largest first, the jobs that are not stored yet.

    Args:
      stage: what the progress bar says.
      jobs: name -> (size, function without arguments that returns a dict of JSON values).
      work: where they are stored, with the seconds each took.
      workers: threads. XLA does not hold the interpreter lock while it computes.

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
            for one in futures.as_completed(running):
                try:
                    done[running[one]] = one.result()
                except FloatingPointError as error:
                    raise FloatingPointError(f"{running[one]}: {error}") from None
                bar.update(jobs[running[one]][0] + 1)
        except BaseException:  # what has begun saves its state, what has not is dropped
            work.stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    return {name: done[name] for name in jobs}


def progress(stage: str, total: float, done: float = 0, over: Iterable | None = None) -> tqdm.tqdm:
    """A progress bar with the name of the stage, in the first process only."""
    form = "{desc}{percentage:4.0f}%|{bar:30}| {elapsed}<{remaining}"
    hidden = jax.process_index() > 0
    return tqdm.tqdm(over, f"{stage:<29}", total, initial=done, bar_format=form, disable=hidden)


def progress_over(stage: str, rounds: range) -> tqdm.tqdm:
    """The rounds that are left, with a bar that counts those that are done."""
    return progress(stage, rounds.stop - 1, rounds.start - 1, rounds)


def _timed(compute: Callable[[], dict[str, Any]], work: workdir.Workdir) -> Callable[[], dict[str, Any]]:
    def compute_and_time() -> dict[str, Any]:
        if work.stop.is_set():
            raise snapshots.Interrupted
        begin = time.perf_counter()
        value = compute()  # what came from a cache says how long it took then
        return {"seconds": round(time.perf_counter() - begin, 3)} | value

    return compute_and_time
