"""10,000 games of 100 agents, solved and certified in one vmapped call, against one after the other.

python benchmarks/many_games.py
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from fedgame import equilibria, games
from fedgame.equilibria import solvers

GAMES = 10_000
N = 100  # agents of a game
SOME = 300  # games that are solved one after the other


def numbers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale and exponent of payoffs, and rate of costs, [games, n] each."""
    rng = np.random.default_rng(0)
    scale, power = rng.uniform(0.5, 2, (GAMES, N)), rng.uniform(0.3, 1, (GAMES, N))
    return scale, power, 10 ** rng.uniform(-3, -1, (GAMES, N))


def game(scale: jax.Array, power: jax.Array, rate: jax.Array) -> games.Game:
    return games.Game(games.PowerLaw(1.0, scale, power, 2.0), games.PowerCost(rate, 2.0), jnp.full(N, 100.0))


def solve(scale: jax.Array, power: jax.Array, rate: jax.Array) -> equilibria.Equilibrium:
    return equilibria.solve(game(scale, power, rate))


def by_scipy(scale: np.ndarray, power: np.ndarray, rate: np.ndarray) -> float:
    """The total of one game, by Brent's method; not certified."""

    def excess(total: float) -> float:
        slope = scale * power * (2 + total) ** (-power - 1)
        wanted = np.minimum(slope / (2 * rate), 100.0)
        return wanted.sum() - total

    return scipy.optimize.brentq(excess, 0.0, 100.0 * N, xtol=1e-12, rtol=1e-14)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    data = numbers()
    batch, one = jax.jit(jax.vmap(solve)), jax.jit(solve)
    find = jax.jit(jax.vmap(lambda *numbers: solvers.find(game(*numbers))[0]))
    begin = time.perf_counter()
    found = jax.block_until_ready(batch(*data))
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    jax.block_until_ready(batch(*data))
    together = GAMES / (time.perf_counter() - begin)
    jax.block_until_ready(find(*data))
    begin = time.perf_counter()
    jax.block_until_ready(find(*data))
    uncertified = GAMES / (time.perf_counter() - begin)
    jax.block_until_ready(one(*(x[0] for x in data)))
    begin = time.perf_counter()
    for k in range(SOME):
        jax.block_until_ready(one(*(x[k] for x in data)))
    alone = SOME / (time.perf_counter() - begin)
    begin = time.perf_counter()
    totals = np.asarray([by_scipy(*(x[k] for x in data)) for k in range(SOME)])
    scipys = SOME / (time.perf_counter() - begin)
    off = np.max(np.abs(found.profile[:SOME].sum(axis=1) / totals - 1))
    print(f"one vmapped call             {together:8.0f} games/s, certified (first call {first:.1f} s)")
    print(f"the same, not certified      {uncertified:8.0f} games/s")
    print(f"one jitted call per game     {alone:8.0f} games/s, certified: {together / alone:.1f}x slower")
    print(
        f"scipy.brentq for S per game  {scipys:8.0f} games/s, not certified: {together / scipys:.1f}x slower"
    )
    print(
        f"all certified: {bool(found.converged.all())}; largest Nash gap {float(found.nash_gap.max()):.1e}; "
        f"totals differ from scipy's by at most {off:.1e} of their size"
    )


if __name__ == "__main__":
    main()
