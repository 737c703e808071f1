"""FedBR and FedBR-BG (Algorithms 2 and 1): agents follow best-response dynamics, Eq. (4).

One rule: FedBR-BG is FedBR under payments. Contributions stay continuous in the dynamics and follow the
fitted curve's exact derivative; they are rounded only when samples are drawn. As printed is `literal`.

Nobody acts on what she would not know. An agent has her own game (ã, what a sample costs her after her
share β_i is paid back, τ_i) and her s_i, and hears two numbers in a step: ‖s‖₁, on which she reports her
slope ∂u_i/∂s_i, and δ. Under payments that are no refunds of her costs she hears a third one, what a sample
more is paid. `slope` and `move` are written for her alone. The server sees contributions and slopes, nothing
else, and from them, and from the game as it is reported, makes these numbers.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import dynamics
from fedgame.games import game as games
from fedgame.mechanisms import rules
from fedgame.mechanisms.base import Announcement, Mechanism, Rule
from fedgame.protocols import base
from fedgame.registry import option, register

_LABELS = {"none": "FedBR", "beta_star": "FedBR-BG"}  # by rule
_RULES = ("falkinger", "personal", "price", "prices", "shapley", "data_maximizing")


@register(
    "fedbr",
    "FedBR",
    aliases={"fedbr_bg": "fedbr(beta_star)"} | {f"fedbr_{rule}": f"fedbr({rule})" for rule in _RULES},
)
class FedBR(base.Protocol):
    """Best-response dynamics under the payments that a rule announces, none or β* in the paper.

    A mechanism that knows its equilibrium and makes utilities that are not concave, such as accuracy as the
    reward, tells agents what to contribute: dynamics would not find it. Where it degrades models, nobody's
    model is: what she is not given is accounted (`Mechanism.received`).
    """

    aims: ClassVar[bool] = True

    rule: Rule = option("who is paid what", rules.none, of="rule")
    steps: int = option("H, contribution updating steps from the random start", 100, low=1)
    step_size: float | None = option(
        "δ, constant; not given: adaptive, see `dynamics`", None, above=0, kind=float
    )

    def start(self, game: games.Game, announced: Announcement, key: jax.Array) -> base.Plan:
        """The path of the dynamics from a random start.

        Raises:
          ValueError: the payoff depends on more than S, so that announcing S is not enough; or there are no
            such payments in this game, as `Mechanism.under` says.
        """
        if not game.payoff.of_total:
            raise ValueError(f"FedBR announces ‖s‖₁ alone; {type(game.payoff).__name__} depends on more")
        mechanism = announced.mechanism
        known, played = mechanism.profile(game), mechanism.under(game)
        if known is not None and not mechanism.concave_in(game):
            return base.always(known)
        # Payments of S alone are in what she knows of her costs; of others she has to be told.
        hers, paid = (played, None) if played.payoff.of_total else (game, mechanism)
        first = random_start(key, game.capacity)
        path = np.asarray(_trace(hers, first, self.steps, self.step_size, paid))
        return base.Plan(path[-1], path)

    @property
    def title(self) -> str:
        if type(self) is not FedBR:
            return registry.title(self)
        return registry.title(self, label_of(self.rule), hidden=("rule",))


def label_of(rule: Rule) -> str:
    """What FedBR under a rule is called."""
    return _LABELS.get(registry.text_of(rule)) or f"FedBR, {registry.title(rule)}"


def slope(agent: games.Game, own: jax.Array, announced: jax.Array, paid: Any = 0.0) -> jax.Array:
    """∂u_i/∂s_i, as ONE agent computes and reports it.

    Args:
      agent: her own game, with costs as they are after payments.
      own: s_i.
      announced: ‖s‖₁, her own samples included.
      paid: what she is told that a sample more is paid, where that is not in her costs.
    """
    others = announced - agent.quality * own
    return jax.grad(games.utility, argnums=1)(agent, own, others) + paid


def move(agent: games.Game, own: jax.Array, reported: jax.Array, step_size: jax.Array) -> jax.Array:
    """s_i of the next step, Eq. (4), as ONE agent chooses it who has reported her slope and hears δ."""
    return jnp.clip(own + step_size * reported, 0.0, agent.capacity)


def offers(mechanism: Mechanism, game: games.Game, s: jax.Array) -> jax.Array:
    """[n] what a sample more of each is paid, ∂p_i/∂s_i, as the server tells it.

    Where models are degraded, v_i times what she is given less of the model counts as paid by her.
    """

    def paid(i: jax.Array, own: jax.Array) -> jax.Array:
        there = s.at[i].set(own)
        amount = mechanism.payment(game, there, i)
        if mechanism.degrades:
            amount -= mechanism.withheld(game, there)[i]
        return amount

    return jax.vmap(jax.grad(paid, argnums=1))(jnp.arange(game.n), s)


def trace(
    game: games.Game,
    s: jax.Array,
    steps: int,
    step_size: float | None = None,
    mechanism: Mechanism | None = None,
) -> jax.Array:
    """The path from s⁰, [n], to s^H, [H+1, n]: what agents and server do in turn. As `dynamics.trace`.

    The server's part is `offers`, `dynamics.state_at` and `dynamics.after`, which see profiles and slopes,
    capacities, and for payments the game as it is reported; a constant δ needs no slopes.

    Args:
      game: payoffs of S, with costs as they are after payments if `mechanism` is None.
      s: [n] in [0, τ].
      steps: H.
      step_size: constant δ, in samples per utility-per-sample, or None.
      mechanism: whose `offers` agents are told.
    """
    agents = games.agent_axes(game)
    ask, tell = jax.vmap(slope, (agents, 0, None, 0)), jax.vmap(move, (agents, 0, 0, None))

    def reports(s: jax.Array) -> jax.Array:
        paid = jnp.zeros_like(s) if mechanism is None else offers(mechanism, game, s)
        return ask(game, s, games.statistic(game, s), paid)

    def body(state: dynamics.State, _: None) -> tuple[dynamics.State, jax.Array]:
        new = tell(game, state.profile, state.gradient, state.step_size)
        state = dynamics.after(state, new, reports(new), game.capacity, step_size is None)
        return state, state.profile

    s = games.as_profile(s)
    first = dynamics.state_at(s, reports(s), game.capacity, step_size)
    _, path = jax.lax.scan(body, first, length=steps)
    return jnp.concatenate([s[None], path])


_trace = jax.jit(trace, static_argnames="steps")


def random_start(key: jax.Array, capacity: jax.Array, multiple: int = 10) -> jax.Array:
    """s⁰ of Section 5.2: for every agent a random multiple of 10 in [0, τ_i], [n]."""
    choices = np.floor_divide(np.asarray(capacity), multiple).astype(np.int32) + 1
    return jax.random.randint(key, choices.shape, 0, choices) * float(multiple)
