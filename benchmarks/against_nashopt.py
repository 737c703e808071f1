"""The same games solved by fedgame and by NashOpt, on this CPU, in one process: seconds, ratios, accuracy.

  python3 -m venv .venv-nashopt && .venv-nashopt/bin/pip install -e ".[nashopt]"
  .venv-nashopt/bin/python benchmarks/against_nashopt.py          # about 10 minutes on two cores

fedgame's seconds include its certificate. NashOpt has x in [0, 1], the share of capacity, starts at 0.5, and
is run with its default solver ("hybr") and its fastest here ("golden_ratio"). Its `solve` compiles again in
every call, on the same object too; "kept" is such a call if it kept what it had compiled. "off" is the
largest distance, in capacities, from the equilibrium that the costs were chosen for.

The second table is the first call in a process that has just started, where both sides find what they have
compiled before in JAX's cache on disk: the median of five processes.
"""

import contextlib
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import nashopt
import numpy as np
from nashopt.nonlinear import golden_ratio

from fedgame import equilibria, games

SIZES, POINTS, BEST, SHIFT = (5, 10, 20), 20, 0.95, 5.0
OURS_REPEATS, THEIRS_REPEATS, FRESH = 20, 2, 5
# Tolerances at which NashOpt stops at rounding; no other setting made it faster.
SOLVERS = {"hybr": {"tol": 1e-14}, "golden_ratio": {"solver_opts": {"tol": 1e-14, "max_iter": 20_000}}}


def total_game(n: int) -> tuple[games.Game, Callable, np.ndarray]:
    """Payoffs of Σ s: the game, NashOpt's objectives written by hand, and the equilibrium as shares."""
    rng = np.random.default_rng(0)
    scale, exponent = rng.uniform(1.0, 3.0, n), rng.uniform(0.5, 1.0, n)
    capacity, wanted = contributions(rng, n)
    answer = np.minimum(wanted, capacity)
    slope = scale * exponent * (SHIFT + answer.sum()) ** (-exponent - 1.0)
    rate = slope / (2.0 * wanted)  # marginal cost and payoff meet where each agent wants

    def objective(i: int, x: jax.Array) -> jax.Array:
        data = SHIFT + jnp.sum(x * capacity)
        return rate[i] * (x[i] * capacity[i]) ** 2 - BEST + scale[i] * data ** -exponent[i]

    payoff = games.PowerLaw(BEST, scale, exponent, SHIFT)
    return games.check(games.Game(payoff, games.PowerCost(rate, 2.0), capacity)), objective, answer / capacity


def coverage_game(n: int) -> tuple[games.Game, Callable, np.ndarray]:
    """Random coverage, Eq. (1): likewise."""
    rng = np.random.default_rng(0)
    q = 0.9 * rng.dirichlet(np.ones(POINTS), n)
    capacity, wanted = contributions(rng, n)
    answer, miss = np.minimum(wanted, capacity), np.log1p(-q)
    slope = -0.5 * np.sum(q * miss * np.exp(answer @ miss), axis=1)
    rate = slope / (2.0 * wanted)

    def objective(i: int, x: jax.Array) -> jax.Array:
        missed = jnp.prod((1.0 - q) ** (x * capacity)[:, None], axis=0)
        return rate[i] * (x[i] * capacity[i]) ** 2 - 1.0 + 0.5 * jnp.sum(q[i] * missed)

    payoff = games.RandomCoverage(q)
    return games.check(games.Game(payoff, games.PowerCost(rate, 2.0), capacity)), objective, answer / capacity


GAMES = {"total_game": total_game, "coverage_game": coverage_game}


def contributions(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Capacities that sum to about 40, and what agents want: for some of them more than they have."""
    capacity = rng.uniform(20.0, 60.0, n) / n
    return capacity, capacity * rng.uniform(0.2, 1.2, n)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begin, result


def ours(game: games.Game) -> tuple[float, float, jax.Array]:
    """Seconds of the first call, with compilation, and of the fastest repeated one; the profile."""
    solve = jax.jit(lambda game: equilibria.solve(game))  # a new function: nothing is compiled yet
    first, found = timed(lambda: solve(game))
    return first, min(timed(lambda: solve(game))[0] for _ in range(OURS_REPEATS)), found.profile


@contextlib.contextmanager
def compiled_once():
    """NashOpt as if it kept its compiled functions."""
    with (
        mock.patch("jax.jit", functools.cache(jax.jit)),
        mock.patch("jax.jacobian", functools.cache(jax.jacobian)),
        mock.patch.object(golden_ratio, "_lifted_F", functools.cache(golden_ratio._lifted_F)),
    ):
        yield


def theirs(n: int, objective: Callable, settings: dict) -> tuple[float, float, float, np.ndarray]:
    """Seconds with construction, of the fastest repeated `solve`, the same if compiled once; the shares."""

    def construct() -> nashopt.GNEP:
        objectives = [functools.partial(objective, i) for i in range(n)]
        return nashopt.GNEP([1] * n, objectives, lb=np.zeros(n), ub=np.ones(n))

    constructing, problem = timed(construct)
    solve = functools.partial(problem.solve, np.full(n, 0.5), verbose=0, **settings)
    first, found = timed(solve)
    repeated = min(timed(solve)[0] for _ in range(THEIRS_REPEATS))
    with compiled_once():
        solve()
        kept = min(timed(solve)[0] for _ in range(OURS_REPEATS))
    return constructing + first, repeated, kept, found.x


def compare(make: Callable, n: int) -> list[str]:
    game, objective, answer = make(n)
    gap = jax.jit(lambda s: jnp.max(equilibria.nash_gap(game, s)))
    first, repeated, profile = ours(game)
    off = np.abs(profile / game.capacity - answer).max()
    rows = []
    for solver, settings in SOLVERS.items():
        their_first, their_repeated, kept, x = theirs(n, objective, {"solver": solver, **settings})
        rows.append(
            f"{make.__name__:<14}{n:>3} {solver:<12}|{their_first:7.2f}{their_repeated:9.2f}{kept:7.4f}|"
            f"{first:7.2f}{repeated:9.5f} |{their_first / first:7.1f}{their_repeated / repeated:9.0f}"
            f"{kept / repeated:6.1f}| {gap(jnp.clip(x, 0, 1) * game.capacity):.0e} {gap(profile):.0e}"
            f" | {np.abs(x - answer).max():.0e} {off:.0e}"
        )
    return rows


def first_call(kind: str, n: int, side: str) -> float:
    """Seconds of the first call in this process; the game is made before."""
    game, objective, _ = GAMES[kind](n)
    if side == "fedgame":
        return timed(lambda: equilibria.solve(game))[0]
    objectives = [functools.partial(objective, i) for i in range(n)]
    settings = {"solver": side, **SOLVERS[side]}
    begin = time.perf_counter()
    problem = nashopt.GNEP([1] * n, objectives, lb=np.zeros(n), ub=np.ones(n))
    problem.solve(np.full(n, 0.5), verbose=0, **settings)
    return time.perf_counter() - begin


def in_fresh_processes(kind: str, n: int, side: str, cache: str) -> float:
    """The median of `first_call` in new processes, after one that fills the cache."""
    kept = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, __file__, kind, str(n), side]
    found = []
    for _ in range(1 + FRESH):
        done = subprocess.run(command, env=os.environ | kept, capture_output=True, text=True, check=True)
        found.append(float(done.stdout.split()[-1]))
    return statistics.median(found[1:])


def compare_fresh(kind: str, n: int) -> str:
    with tempfile.TemporaryDirectory() as cache:
        ours, *theirs = (in_fresh_processes(kind, n, side, cache) for side in ("fedgame", *SOLVERS))
    ratios = "".join(f"{x:10.2f}{x / ours:7.1f}" for x in theirs)
    return f"{kind:<14}{n:>3}{ours:10.2f} {ratios}"


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    if len(sys.argv) == 4:
        print(first_call(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
        return
    print(f"{'':<30}|  NashOpt, s           | fedgame, s      | NashOpt / fedgame    | Nash gap    | off")
    times = f"{'first':>7}{'repeated':>9}"
    columns = f"game{'':<12}n solver{'':<7}|{times}{'kept':>7}|{times} |{times}{'kept':>6}|"
    print(columns + " theirs ours | theirs ours")
    compare(total_game, 2)  # whatever a process does only once is done before the clock starts
    for make in GAMES.values():
        for n in SIZES:
            print("\n".join(compare(make, n)), flush=True)
    columns = "".join(f"{solver:>13} ratio" for solver in SOLVERS)
    print(
        f"\nfirst call in a fresh process, programs kept on disk, s\n{'game':<14}{'n':>3}   fedgame{columns}"
    )
    for kind in GAMES:
        for n in SIZES:
            print(compare_fresh(kind, n), flush=True)


if __name__ == "__main__":
    main()
