"""Where 100 steps of FedBR end, by number of agents, costs and payments: the worst of three random starts.

  python benchmarks/dynamics_convergence.py        # two minutes on two cores

Each cell is the maximum over agents of Nash gap / max(1, |u_i|); at most 1e-6 counts as converged. FedBR's δ
("movers") uses the curvature of the agents who move. "all" is the same rule with that of all agents, those at
a bound included, as it is printed for unconstrained descent. "constant" is 1/(n |ã''(0)|), the largest δ that
is safe for all curves seen. Curve: a concave fit of measured accuracies; τ = 100, mean cost 0.005.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, games
from fedgame.equilibria import dynamics
from fedgame.games import curves
from fedgame.games import game as the_game
from fedgame.mechanisms import refunds, rules
from fedgame.protocols import fedbr

SIZES = [0, 10, 20, 50, 100, 200, 500, 1000]
ACCURACY = [0.10, 0.37, 0.565, 0.69, 0.796, 0.861, 0.929, 0.947]
RULES = {"β=0": rules.none, "β*": rules.beta_star, "1-1/n": rules.falkinger, "personal": rules.personal}
AGENTS = (2, 3, 10, 30, 100, 300, 1000)
COSTS = {
    "equal": lambda n: np.full(n, 0.005),
    "linspace": lambda n: np.linspace(0.0025, 0.0075, n),
    "lognormal": lambda n: 0.005 * np.exp(0.5 * np.random.default_rng(n).normal(size=n)),
}


def of_all(game: games.Game, s: jax.Array, steps: int) -> jax.Array:
    """The path [steps+1, n] of the dynamics, as `fedbr.trace` but with the curvature of all agents."""

    def body(state: dynamics.State, _: None) -> tuple[dynamics.State, jax.Array]:
        new = dynamics.advance(game, state, adaptive=False)
        moved = jnp.linalg.norm(new.profile - state.profile)
        turned = jnp.linalg.norm(new.gradient - state.gradient)
        seen = jnp.where((moved > 0) & (turned > 0), moved / (2.0 * turned), jnp.inf)
        delta = jnp.minimum(jnp.sqrt(1 + state.growth) * state.step_size, seen)
        delta = jnp.where(moved > 0, delta, state.step_size)
        return new._replace(step_size=delta, growth=delta / state.step_size), new.profile

    _, path = jax.lax.scan(body, dynamics.start(game, s), length=steps)
    return jnp.concatenate([s[None], path])


def constant(game: games.Game, s: jax.Array, steps: int) -> jax.Array:
    """The path [steps+1, n] of the dynamics with the constant δ = 1/(n |ã''(0)|)."""
    bend = -jax.grad(jax.grad(game.payoff.curve))(0.0)
    return dynamics.trace(game, s, steps, 1.0 / (game.n * bend))[1]


def relative_gap(game: games.Game, s: jax.Array) -> jax.Array:
    """max_i of the Nash gap at s [n], divided by max(1, |u_i|)."""
    size = jnp.maximum(1.0, jnp.abs(the_game.utilities(game, s)))
    return jnp.max(equilibria.nash_gap(game, s) / size)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    payoff = curves.fit("concave", SIZES, ACCURACY).payoff
    certify = jax.jit(jax.vmap(relative_gap, (None, 0)))
    how = {
        "movers, 100": functools.partial(fedbr.trace, steps=100),
        "all, 100": functools.partial(of_all, steps=100),
        "constant, 100": functools.partial(constant, steps=100),
        "movers, 1000": functools.partial(fedbr.trace, steps=1000),
    }
    plays = {name: jax.jit(jax.vmap(one, (None, 0))) for name, one in how.items()}
    print(f"{'δ, steps':<15}{'costs':<11}{'payments':<9}" + "".join(f"{f'n={n}':>9}" for n in AGENTS))
    for kind, cost in COSTS.items():
        for payments, rule in RULES.items():
            worst = {name: [] for name in how}
            for n in AGENTS:
                game = games.check(games.Game(payoff, games.LinearCost(cost(n)), np.full(n, 100.0)))
                rates = jnp.broadcast_to(jnp.asarray(rule(game).rates, float), (n,))
                played = refunds.under_mechanism(game, rates)
                keys = (jax.random.key(k) for k in range(3))
                starts = jnp.stack([fedbr.random_start(key, game.capacity) for key in keys])
                for name, play in plays.items():
                    worst[name].append(float(jnp.max(certify(played, play(played, starts)[:, -1]))))
            for name, gaps in worst.items():
                cells = "".join(f"{gap:>9.0e}" for gap in gaps)
                print(f"{name:<15}{kind:<11}{payments:<9}{cells}", flush=True)


if __name__ == "__main__":
    main()
