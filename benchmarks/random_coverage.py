"""Random coverage, Eq. (1), with 10,000 agents and 1,000 points, without any n×n array.

  python benchmarks/random_coverage.py [agents] [points]

Prints the certified equilibrium, the time of a sweep of best responses, and that of a sweep which recomputes
what each agent sees of the others from all agents (O(n²m), timed for a few agents and scaled up); and the
largest memory used, beside what one n×n array would take.
"""

import resource
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, games
from fedgame.equilibria import responses
from fedgame.games import game as game_functions


def timed(run: Callable[[], jax.Array]) -> tuple[float, jax.Array]:
    """Seconds of a second call, and its result."""
    jax.block_until_ready(run())
    begin = time.perf_counter()
    result = jax.block_until_ready(run())
    return time.perf_counter() - begin, result


def direct_sweep(game: games.Game, s: jax.Array, agents: int) -> jax.Array:
    """The responses of the first agents of a sweep, with the statistic recomputed for each of them."""

    def turn(s: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        agent = game_functions.agent_of(game, i)
        rest = game_functions.rest_of(agent, game_functions.statistic(game, s), s[i], i)
        return s.at[i].set(responses.respond(agent, s[i], rest)), None

    return jax.lax.scan(turn, s, jnp.arange(agents))[0]


def main(n: int, m: int) -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    q = 0.9 * rng.dirichlet(np.full(m, 0.05), n)
    cost = games.PowerCost(10 ** rng.uniform(-6, -4, n), 2.0)
    game = games.check(games.Game(games.RandomCoverage(q), cost, np.full(n, 10.0)))
    del q
    begin = time.perf_counter()
    found = jax.block_until_ready(jax.jit(equilibria.solve)(game))
    total = time.perf_counter() - begin
    few = 20
    sweep, direct_few = jax.jit(responses.sweep), jax.jit(lambda game, s: direct_sweep(game, s, few))
    one, _ = timed(lambda: sweep(game, found.profile))
    direct, _ = timed(lambda: direct_few(game, found.profile))
    print(f"n = {n}, m = {m}: {equilibria.describe(found)}")
    print(f"solved and certified in {total:.1f} s with compilation; Σ s = {float(found.profile.sum()):.1f}")
    print(
        f"a sweep {one:.3f} s; with the statistic recomputed for every agent {direct / few * n:.1f} s: ",
        end="",
    )
    print(f"{direct / few * n / one:.0f}x")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    matrix, square = 8 * n * m / 2**30, 8 * n * n / 2**30
    print(f"most memory {most:.2f} GiB, of which q itself {matrix:.2f}; one n×n array: {square:.2f}")


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    m = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    main(n, m)
