"""Exchange rates fitted to random coverage, Eq. (1), where the truth is known: how wrong are they?

  python benchmarks/coverage_rates.py     # a minute

Members sample 40 points from distributions of their own, which overlap by a share that is told. What models
of 160 mixtures would have is known exactly, a_i(s) = 1 - ½ Σ_x q_ix Π_j (1 - q_jx)^s_j; exchange rates and
power laws are fitted to it, and the game is solved on what was fitted and on the truth. Means over 10
federations:

rate      the mean fitted rate between two members
error     root mean square error of predictions for 160 other mixtures, by the total alone and by rates
S         Σ s at the true equilibrium, and at that of the fitted game
gap       the Nash gap of the fitted equilibrium in the true game, accuracy
lost      what members lose on average in the true game by playing the fitted first best
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, games, mechanisms
from fedgame.games import exchange_rates
from fedgame.learning import mixtures

jax.config.update("jax_enable_x64", True)
MEMBERS, POINTS, MOST, COST = 4, 40, 100, 0.001


def truth(overlap: float, seed: int) -> games.Game:
    """A game of random coverage; `overlap` is the share of every distribution that all have in common."""
    rng = np.random.default_rng(seed)
    own = rng.dirichlet(np.full(POINTS, 0.3), MEMBERS)
    q = np.minimum((1 - overlap) * own + overlap * rng.dirichlet(np.ones(POINTS)), 0.99)
    capacity = np.full(MEMBERS, float(MOST))
    return games.check(
        games.Game(games.RandomCoverage(q), games.LinearCost(np.full(MEMBERS, COST)), capacity)
    )


def compared(overlap: float, seed: int) -> list[float]:
    """The columns of the table, of one federation."""
    game = truth(overlap, seed)
    samples = mixtures.design(np.full(MEMBERS, MOST), 320, seed)
    accuracy = np.asarray(jax.vmap(lambda s: games.payoff_values(game, s))(jnp.asarray(samples, float)))
    names = tuple(f"member {i + 1}" for i in range(MEMBERS))
    seen = exchange_rates.Mixtures(names, samples[:160].astype(float), accuracy[:160, None])
    errors, fitted = [], None
    for model in ("total alone", "exchange rates"):
        fitted = exchange_rates.fit(seen, model)
        missed = exchange_rates.predict(fitted, samples[160:].astype(float)) - accuracy[160:]
        errors.append(float(np.sqrt(np.mean(missed**2))))
    curve = jax.tree.map(lambda *x: jnp.stack(x), *fitted.curves)
    believed = games.check(game.replace(payoff=games.EffectiveSamples(curve, fitted.rates)))
    true, found = equilibria.solve(game), equilibria.solve(believed)
    gap = float(np.max(np.asarray(equilibria.nash_gap(game, found.profile))))
    best, planned = mechanisms.first_best(game), mechanisms.first_best(believed)
    lost = best.welfare - float(jnp.sum(games.utilities(game, planned.profile)))
    between = float(np.mean(fitted.rates[~np.eye(MEMBERS, dtype=bool)]))
    totals = float(jnp.sum(true.profile)), float(jnp.sum(found.profile))
    return [between, *errors, *totals, gap, lost / MEMBERS]


def main():
    print("overlap   rate  error: total   rates   S: true  fitted      gap     lost")
    for overlap in (0.0, 0.25, 0.5, 0.75, 1.0):
        rate, total, rates, true, found, gap, lost = np.mean(
            [compared(overlap, k) for k in range(10)], axis=0
        )
        print(
            f"{overlap:7.2f} {rate:6.2f} {total:13.4f} {rates:7.4f} {true:9.1f} {found:7.1f} {gap:8.5f} "
            f"{lost:8.5f}"
        )


if __name__ == "__main__":
    main()
