"""Games of effective samples: complementary pivoting beside best responses in turn, in one run.

  python benchmarks/effective_samples.py            # about two minutes on two cores

Random exchange rates in [0, 1], of which a part is not 0; power laws; linear costs. Seconds are those of
`solve` with its certificate; every method is called twice, so that compilation shows.
"""

import argparse
import time

import jax
import numpy as np

from fedgame import equilibria, games

jax.config.update("jax_enable_x64", True)


def random_game(n: int, density: float) -> games.Game:
    """n members, of whose rates a part `density` is not 0."""
    rng = np.random.default_rng(n)
    rates = rng.uniform(0, 1, (n, n)) * (rng.random((n, n)) < density)
    np.fill_diagonal(rates, 1.0)
    curve = games.PowerLaw(0.95, 2.0, 0.5, 10.0, clip=False)
    cost = games.LinearCost(rng.uniform(0.0005, 0.002, n))
    return games.check(games.Game(games.EffectiveSamples(curve, rates), cost, np.full(n, 1000.0)))


def timed(game: games.Game, method: str) -> tuple[float, equilibria.Equilibrium]:
    begin = time.perf_counter()
    found = jax.block_until_ready(equilibria.solve(game, method=method))
    return time.perf_counter() - begin, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[10, 100, 300, 1000])
    settings = parser.parse_args()
    print("members  rates not 0  method        first, s  again, s  steps  share  largest gap  certified")
    for n in settings.members:
        for density in (1.0, 0.1, 0.02):
            game = random_game(n, density)
            for method in ("pivoting", "Gauss-Seidel"):
                first, _ = timed(game, method)
                again, found = timed(game, method)
                shares = int(np.sum(np.asarray(found.profile) > 0))
                gap = float(np.max(np.asarray(found.nash_gap)))
                certified = "yes" if found.converged else "NO"
                print(
                    f"{n:>7} {density:>12.0%}  {method:<13} {first:>8.2f} {again:>9.2f} "
                    f"{int(found.steps):>6} {shares:>6} {gap:>12.1e}  {certified}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
