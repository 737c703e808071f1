"""FedBR and FedBR-BG (Algorithms 2 and 1): agents follow best-response dynamics, Eq. (4).

FedBR-BG is FedBR under payments, so both are one class. Contributions stay continuous in the dynamics and
follow the exact derivative of the fitted curve; they are rounded only when samples are drawn. `literal` has
the algorithms as printed.

Nobody uses what she would not know. An agent knows her own game (ã, her cost per sample after her share β_i
is paid back, τ_i) and her s_i. In every step she hears two numbers: ‖s‖₁, for which she reports her slope
∂u_i/∂s_i, and δ. Where samples are worth different amounts to different agents, she hears her effective
samples z_i instead of ‖s‖₁: the server holds the exchange rates. Under payments that are no refunds of costs
she hears a third one: what one more sample of hers is paid. `slope` and `move` are written for ONE agent.
The server sees contributions, slopes and the reported game, and makes these numbers from them.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import dynamics
from fedgame.games import game as games
from fedgame.games import payoffs
from fedgame.mechanisms import rules
from fedgame.mechanisms.base import Announcement, Mechanism, Rule
from fedgame.protocols import base
from fedgame.registry import option, register

_LABELS = {"none": "FedBR", "beta_star": "FedBR-BG"}  # the paper's names, by rule
_RULES = ("falkinger", "personal", "price", "prices", "shapley", "data_maximizing")


@register(
    "fedbr",
    "FedBR",
    aliases={"fedbr_bg": "fedbr(beta_star)"} | {f"fedbr_{rule}": f"fedbr({rule})" for rule in _RULES},
)
class FedBR(base.Protocol):
    """Best-response dynamics under the payments that a rule announces, none or β* in the paper.

    If a mechanism knows its equilibrium and its utilities are not concave, as with accuracy as the reward,
    agents contribute that equilibrium: dynamics would not find it. If a mechanism degrades models, all agents
    still train the same model, and what each is given less is only subtracted from her utility
    (`Mechanism.received`).
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
          ValueError: the payoff depends on more than S or effective samples, so that announcing them is not
            enough; or as `Mechanism.under`.
        """
        if not sees_one_number(game.payoff):
            raise ValueError(
                f"FedBR announces ‖s‖₁ or effective samples; {type(game.payoff).__name__} depends on more"
            )
        mechanism = announced.mechanism
        if (known := self.known(game, mechanism)) is not None:
            return base.always(known)
        played = mechanism.under(game)
        first = random_start(key, game.capacity)
        if sees_one_number(played.payoff):  # she knows her game under the payments
            path = _trace(played, first, self.steps, self.step_size)
        else:  # the server has to tell her what one more sample is paid
            path = _trace(game, first, self.steps, self.step_size, mechanism)
        path = np.asarray(path)
        return base.Plan(path[-1], path)

    def known(self, game: games.Game, mechanism: Mechanism) -> jax.Array | None:
        """[n] the equilibrium that agents contribute without any dynamics; None if they play them."""
        return None if mechanism.concave_in(game) else mechanism.profile(game)

    @property
    def title(self) -> str:
        if type(self) is not FedBR:
            return registry.title(self)
        return registry.title(self, label_of(self.rule), hidden=("rule",))


def label_of(rule: Rule) -> str:
    """The name of FedBR under a rule in tables and figures."""
    return _LABELS.get(registry.text_of(rule)) or f"FedBR, {registry.title(rule)}"


def sees_one_number(payoff: payoffs.Payoff) -> bool:
    """Whether all that an agent need be told of a profile is one number, see `announcements`."""
    return payoff.of_total or isinstance(payoff, payoffs.EffectiveSamples)


def announcements(game: games.Game, s: jax.Array) -> jax.Array:
    """[n] what the server tells each agent of a profile s, with hers: ‖s‖₁, or her effective samples."""
    if game.payoff.of_total:
        return jnp.broadcast_to(games.statistic(game, s), s.shape)
    return games.over_agents(lambda agent, own, rest: own + rest)(game, s)


def slope(agent: games.Game, own: jax.Array, announced: jax.Array, paid: Any = 0.0) -> jax.Array:
    """∂u_i/∂s_i, as ONE agent computes and reports it.

    Args:
      agent: her own game, with costs as they are after payments.
      own: s_i, samples.
      announced: ‖s‖₁ or z_i, her own samples included.
      paid: what the server says one more sample is paid, if that is not in her costs.
    """
    others = announced - agent.quality * own
    return jax.grad(games.utility, argnums=1)(agent, own, others) + paid


def move(agent: games.Game, own: jax.Array, reported: jax.Array, step_size: jax.Array) -> jax.Array:
    """s_i of the next step, Eq. (4), as ONE agent chooses it.

    Args:
      agent: her own game; only her capacity is used.
      own: s_i, samples.
      reported: the slope that she has reported.
      step_size: δ, as the server announces it.
    """
    return jnp.clip(own + step_size * reported, 0.0, agent.capacity)


def offers(mechanism: Mechanism, game: games.Game, s: jax.Array) -> jax.Array:
    """[n] ∂p_i/∂s_i: what the server pays for one more sample of each agent, currency per sample.

    If the mechanism degrades models, what that costs an agent counts as paid by her.
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
    """The path of the dynamics, as that of `dynamics.trace`, with the parts of agents and server apart.

    Agents compute `slope` and `move`. The server computes `offers`, `dynamics.state_at` and
    `dynamics.after`, which use profiles, slopes, capacities and, for payments, the reported game. With a
    constant δ it does not use slopes.

    Args:
      game: payoffs of S or of effective samples; without `mechanism`, with costs as they are after payments.
      s: s⁰, [n] samples in [0, τ].
      steps: H.
      step_size: constant δ, in samples per utility-per-sample; None: adaptive.
      mechanism: whose `offers` agents are told; None: none.

    Returns:
      s⁰ to s^H, [H+1, n].
    """
    agents = games.agent_axes(game)
    ask, tell = jax.vmap(slope, (agents, 0, 0, 0)), jax.vmap(move, (agents, 0, 0, None))

    def reports(s: jax.Array) -> jax.Array:
        paid = jnp.zeros_like(s) if mechanism is None else offers(mechanism, game, s)
        return ask(game, s, announcements(game, s), paid)

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
    """s⁰ of Section 5.2: for every agent a random multiple of 10 (or `multiple`) in [0, τ_i], [n] samples."""
    choices = np.floor_divide(np.asarray(capacity), multiple).astype(np.int32) + 1
    return jax.random.randint(key, choices.shape, 0, choices) * float(multiple)
