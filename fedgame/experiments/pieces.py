"""Running many independent pieces of work: several at a time, with a progress bar, each stored."""

import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import tqdm

from fedgame.experiments import storage


def run(
    stage: str, pieces: dict[str, tuple[float, Callable[[], Any]]], work: storage.Workdir, workers: int
) -> dict[str, Any]:
    """Computes, largest first, the pieces that are not stored yet.

    Args:
      stage: what the progress bar says.
      pieces: name -> (size, function without arguments that returns a dict of JSON values).
      work: where they are stored, with the seconds each took.
      workers: threads. XLA does not hold the interpreter lock while it computes.

    Returns:
      The values by name, in the order of `pieces`.
    """
    done = {}
    pool = futures.ThreadPoolExecutor(workers)
    with progress(stage, sum(size + 1 for size, _ in pieces.values())) as bar:
        try:
            order = sorted(pieces, key=lambda name: -pieces[name][0])
            jobs = {pool.submit(work.piece, name, _timed(pieces[name][1])): name for name in order}
            for job in futures.as_completed(jobs):
                done[jobs[job]] = job.result()
                bar.update(pieces[jobs[job]][0] + 1)
        finally:  # after an error or an interrupt, what has not begun is dropped
            pool.shutdown(wait=False, cancel_futures=True)
    return {name: done[name] for name in pieces}


def progress(stage: str, total: float) -> tqdm.tqdm:
    """A progress bar with the name of the stage."""
    form = "{desc}{percentage:4.0f}%|{bar:30}| {elapsed}<{remaining}"
    return tqdm.tqdm(total=total, desc=f"{stage:<29}", bar_format=form)


def _timed(compute: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def compute_and_time() -> dict[str, Any]:
        begin = time.perf_counter()
        return compute() | {"seconds": round(time.perf_counter() - begin, 3)}

    return compute_and_time
