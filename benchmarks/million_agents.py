"""One game of n agents with heterogeneous payoffs of S and power costs, float64: time against numpy.sort.

  python benchmarks/million_agents.py [largest n, default 10000000]

Times `solve` without its certificate, after compilation; the certificate by itself; and for comparison 60
bisections in plain numpy. Times are the best of three, with all sides taking turns.
"""

import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from fedgame import equilibria, games
from fedgame.equilibria import solvers


def game_of(kind: str, n: int) -> games.Game:
    """Agents of one kind: quadratic costs, costs of several exponents, or many held at their capacities."""
    rng = np.random.default_rng(0)
    payoff = games.PowerLaw(1.0, rng.uniform(0.5, 2, n), rng.uniform(0.3, 1, n), 1.0 + rng.uniform(0, 1, n))
    exponent = 2.0 if kind == "quadratic" else rng.uniform(1.0, 3.0, n)
    capacity = rng.uniform(0, 20.0, n) / n if kind == "at capacity" else np.full(n, 1e6)
    return games.check(games.Game(payoff, games.PowerCost(10 ** rng.uniform(-3, -1, n), exponent), capacity))


def bisections(game: games.Game, halvings: int = 60) -> float:
    """The total at which the contributions that agents want sum to it, by plain numpy."""
    payoff, cost, capacity = game.payoff, game.cost, np.asarray(game.capacity)
    scale, power = np.asarray(payoff.scale * payoff.exponent), np.asarray(-payoff.exponent - 1)
    shift, rate, exponent = np.asarray(payoff.shift), np.asarray(cost.rate), np.asarray(cost.exponent)
    low, high = 0.0, float(capacity.sum())
    with np.errstate(over="ignore", divide="ignore"):
        for _ in range(halvings):
            middle = (low + high) / 2
            price = scale * (shift + middle) ** power
            wanted = np.minimum((price / (rate * exponent)) ** (1 / (exponent - 1)), capacity)
            if wanted.sum() > middle:
                low = middle
            else:
                high = middle
    return low


def seconds(*runs: Callable, repeats: int = 3) -> list[float]:
    """The best time of each, with all taking turns."""
    times = [[] for _ in runs]
    for _ in range(repeats):
        for run, mine in zip(runs, times, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(run())
            mine.append(time.perf_counter() - begin)
    return [min(mine) for mine in times]


def main(most: int) -> None:
    jax.config.update("jax_enable_x64", True)
    find, certify = jax.jit(lambda game: solvers.find(game)[0]), jax.jit(equilibria.nash_gap)
    print(
        "costs              n      solve   ns/agent  in numpy.sorts  certificate  largest gap  60 bisections"
    )
    sizes = [10**k for k in range(3, 9) if 10**k <= most]
    for kind, n in [("quadratic", n) for n in sizes] + [("mixed", 10**6), ("at capacity", 10**6)]:
        game, numbers = game_of(kind, n), np.random.default_rng(1).uniform(size=n)
        found = jax.block_until_ready(find(game))
        gap = float(certify(game, found.profile).max())
        solve, sort, plain = seconds(
            lambda game=game: find(game), lambda x=numbers: np.sort(x), lambda game=game: bisections(game)
        )
        (certificate,) = seconds(lambda game=game, s=found.profile: certify(game, s), repeats=1)
        print(
            f"{kind:12} {n:9}  {solve:8.4f} s  {1e9 * solve / n:7.0f}  {solve / sort:8.1f}"
            f"        {certificate:8.3f} s  {gap:9.1e}  {plain / sort:8.1f} sorts = {plain / solve:.1f}x ours"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**7)
