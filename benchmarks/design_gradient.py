"""What the gradient of welfare with respect to all personal rates costs, beside one solve.

  python benchmarks/design_gradient.py        # about a minute

Payoffs of S: heterogeneous power laws, with power costs. `solve` is what users call, with its certificate;
`find` is the solver alone; `gradient` computes W_p and its derivatives in all n rates. The last column
compares it with central differences in a random direction.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, games
from fedgame.equilibria import solvers
from fedgame.mechanisms import design, refunds


def game_of(n: int) -> games.Game:
    rng = np.random.default_rng(n)
    payoff = games.PowerLaw(
        rng.uniform(0.8, 1.0, n), rng.uniform(0.5, 1.0, n), rng.uniform(0.4, 0.9, n), 10.0
    )
    cost = games.PowerCost(rng.uniform(0.5, 2.0, n) * 1e-3, rng.uniform(1.5, 2.5, n))
    return games.check(games.Game(payoff, cost, rng.uniform(20.0, 200.0, n)))


def seconds(function: Callable, *args: Any, repeat: int) -> float:
    """Seconds of the fastest of several calls, after one that compiles."""
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    solve = jax.jit(lambda game, rates: equilibria.solve(refunds.under_mechanism(game, rates)))
    find = jax.jit(lambda game, rates: solvers.find(refunds.under_mechanism(game, rates))[0])

    def welfare(rates: jax.Array, game: games.Game) -> jax.Array:
        return design.welfare_of_rates(game, rates, 0.0)[0]

    value, gradient = jax.jit(welfare), jax.jit(jax.value_and_grad(welfare))
    print("      n   solve, s    find, s  gradient, s   gradient/solve   gradient/find   off differences by")
    for n in (10, 100, 1_000, 10_000, 100_000, 1_000_000):
        game, rates = game_of(n), jnp.full(n, 0.3)
        repeat = 20 if n < 10**5 else 3
        solving = seconds(solve, game, rates, repeat=repeat)
        finding = seconds(find, game, rates, repeat=repeat)
        differentiating = seconds(gradient, rates, game, repeat=repeat)
        way = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, n))
        exact = float(gradient(rates, game)[1] @ way)
        step = 1e-5
        close = float(value(rates + step * way, game) - value(rates - step * way, game)) / (2 * step)
        print(
            f"{n:>7} {solving:>10.5f} {finding:>10.5f} {differentiating:>12.5f} "
            f"{differentiating / solving:>16.2f} {differentiating / finding:>15.2f} "
            f"{abs(exact - close) / abs(close):>20.1e}"
        )


if __name__ == "__main__":
    main()
