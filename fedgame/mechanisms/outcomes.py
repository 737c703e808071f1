"""Individual rationality: who would rather leave than take part, and what then becomes of the others."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, registry
from fedgame.equilibria import certificates, solvers
from fedgame.games import game as games
from fedgame.mechanisms import base, coalitions, optimum, personal, refunds, rules


class Outcome(NamedTuple):
    """An equilibrium under a mechanism, for n agents."""

    mechanism: base.Mechanism
    equilibrium: equilibria.Equilibrium  # of the game that agents play under it
    received: jax.Array  # [n] the payoff of the model that each is given
    spent: jax.Array  # [n] c_i(s_i)
    payments: jax.Array  # [n] p_i, received
    utilities: jax.Array  # [n] u_i + p_i
    # Whether it is certified from payments as they stand, not only in the form in which it was solved.
    general: bool
    best: optimum.FirstBest | None = None  # of the game, if the rule had to find it


class Participation(NamedTuple):
    """Who stays, who left, and where it ends.

    `certified` is False if at some point no equilibrium was certified, so that nobody's decision is known:
    `stay` are then the agents who took part at that point, and `outcome` is the profile that was found.
    """

    stay: np.ndarray  # [k] numbers of the agents who stay, ascending
    left: list[int]  # those who left, in that order
    shortfall: list[float]  # by how much each was worse off than outside when she left
    outcome: Outcome | None  # of those who stay; None if fewer than two are left
    outside: np.ndarray  # [n] what every agent has outside
    everybody: Outcome  # the equilibrium in which all take part, from which it began
    certified: bool  # whether all that agents decided on were certified equilibria, the last included


_GENERAL = 500  # agents up to whom an outcome is certified from payments as they stand
_certified = jax.jit(equilibria.certified)


@jax.jit
def _prove(played: games.Game, found: equilibria.Equilibrium) -> equilibria.Equilibrium:
    """An equilibrium with the evidence of another form of its game; not one unless that certifies it too."""
    evidence, certified = certificates.certify(played, found.profile)
    wrong = jnp.where(jnp.all(evidence.told), solvers.NOT_FOUND, solvers.NOT_TOLD)
    return found.replace(
        nash_gap=evidence.gap,
        stake=evidence.stake,
        response=evidence.response,
        limit=evidence.limit,
        converged=found.converged & certified,
        unique=found.unique & certified,
        status=jnp.where(found.converged & ~certified, wrong, found.status),
    )


class Settled(NamedTuple):
    """What agents have at a profile under a mechanism, in the currency of utilities but `received`."""

    received: jax.Array  # [n] payoffs that they are given
    spent: jax.Array  # [n] c_i(s_i)
    payments: jax.Array  # [n] p_i, received
    utilities: jax.Array  # [n] v_i a_i - c_i(s_i) + p_i


@jax.jit
def settle(game: games.Game, mechanism: base.Mechanism, s: jax.Array) -> Settled:
    """What everybody is given, spends, is paid and has at any profile s [n]."""
    received, spent = mechanism.received(game, s), games.incurred_costs(game, s)
    paid = mechanism.payments(game, s)
    return Settled(received, spent, paid, game.value * received - spent + paid)


def outcome(
    game: games.Game,
    mechanism: base.Mechanism,
    general: bool = True,
    solved: equilibria.Equilibrium | None = None,
) -> Outcome:
    """The equilibrium under a mechanism, and what everybody pays and has there.

    Args:
      game: n agents, who report their true numbers.
      mechanism: what the server announces.
      general: certify from payments as they stand, with up to 500 agents; False: only in the form in which
        the mechanism is solved, as with more. The two agree, as tests show; the general form trusts nothing
        but `payments`.
      solved: the equilibrium of `mechanism.under(game)`, if it is known.

    Raises:
      ValueError: a number of the mechanism is out of range, or neither one nor one per agent (see
        `base.check`); there are too many agents for a mechanism that is solved in its general form.
    """
    base.check(mechanism, game.n)
    found = _equilibrium(game, mechanism) if solved is None else solved
    # A mechanism that is solved in its general form has been certified from payments already.
    solved_in_general_form = type(mechanism).under is base.Mechanism.under
    prove = general and not solved_in_general_form and game.n <= _GENERAL
    told = spread(mechanism, game.n)
    if prove:
        found = _prove(base.Mechanism.under(told, game), found)
    settled = settle(game, told, found.profile)
    return Outcome(
        mechanism=mechanism, equilibrium=found, **settled._asdict(), general=prove or solved_in_general_form
    )


def spread(mechanism: base.Mechanism, n: int) -> base.Mechanism:
    """The mechanism, with one rate of refunds for all as n equal ones: one compiled program for both."""
    return registry.per_agent(mechanism, n) if isinstance(mechanism, refunds.Refunds) else mechanism


def _equilibrium(game: games.Game, mechanism: base.Mechanism) -> equilibria.Equilibrium:
    """The one that the mechanism knows, certified, or the one that is found."""
    played, known = mechanism.under(game), mechanism.profile(game)
    return equilibria.solve(played) if known is None else _certified(played, known)


def of_announcement(game: games.Game, announced: base.Announcement) -> Outcome:
    """The `outcome` of what a rule announces; what the rule has already found is not solved again."""
    found = outcome(game, announced.mechanism, solved=announced.equilibrium)
    return found._replace(best=announced.best)


def known_or_new(
    game: games.Game,
    mechanism: base.Mechanism,
    known: Sequence[Outcome],
    solved: equilibria.Equilibrium | None = None,
) -> Outcome:
    """The one of the `known` outcomes of this game whose mechanism is equal; else a new `outcome`."""
    for one in known:
        if _equal(one.mechanism, mechanism):
            return one
    return outcome(game, mechanism, solved=solved)


def _equal(one: base.Mechanism, other: base.Mechanism) -> bool:
    """Whether two mechanisms are of one class and have the same numbers."""
    (numbers, kind), (others, other_kind) = jax.tree.flatten(one), jax.tree.flatten(other)
    return kind == other_kind and all(map(np.array_equal, numbers, others))


def participation(
    game: games.Game,
    rule: rules.Rule,
    outside: Any = None,
    progress: Callable = lambda: None,
    announced: base.Announcement | None = None,
) -> Participation:
    """Lets agents leave, one at a time: always the one who falls shortest of what she has outside.

    If all who are there fall short by the same amount, as transfers that divide a negative surplus evenly
    make them (`personal.BARGAINING`), the one leaves whose leaving raises the surplus most, see `coalitions`.

    After each departure the rule is applied to those who are left, and they play a new equilibrium. Nobody
    comes back. It ends when nobody would rather leave, when fewer than two agents are left, or when no
    equilibrium is certified, as there is then no profile to decide on.

    Args:
      game: n agents.
      rule: what the server announces.
      outside: [n] what each has outside, currency; None is training alone (`personal.alone`), 0 is having
        no model. Rules are told it. Agents whose shortfall is `negligible` stay.
      progress: called once for everybody who leaves.
      announced: what the rule announces for all n, if that is known.

    Raises:
      ValueError: what somebody has outside is not a finite number, or what the rule raises.
    """
    alternative = np.asarray(personal.alone(game) if outside is None else outside, float)
    alternative = np.broadcast_to(alternative, (game.n,))
    if not np.all(np.isfinite(alternative)):
        raise ValueError(f"`outside` must be finite, got {alternative}")
    stay, left, shortfall, rest = np.arange(game.n), [], [], game
    if announced is None:
        announced = rules.announced(rule, game, outside=alternative)
    first = now = of_announcement(game, announced)
    while now.equilibrium.converged:
        short = alternative[stay] - np.asarray(now.utilities)
        leaves = short > np.asarray(negligible(rest, now, alternative[stay]))
        if not np.any(leaves):
            return Participation(stay, left, shortfall, now, alternative, first, True)
        worst = _next_to_leave(rest, now, short, leaves, alternative[stay])
        left.append(int(stay[worst]))
        shortfall.append(float(short[worst]))
        stay = np.delete(stay, worst)
        progress()
        if len(stay) < 2:
            return Participation(stay, left, shortfall, None, alternative, first, True)
        rest = games.subset(game, stay)
        now = of_announcement(rest, rules.announced(rule, rest, outside=alternative[stay]))
    return Participation(stay, left, shortfall, now, alternative, first, False)


def _next_to_leave(
    game: games.Game, found: Outcome, short: np.ndarray, leaves: np.ndarray, outside: np.ndarray
) -> int:
    """The agent who leaves next, see `participation`."""
    alike = np.all(leaves) and np.ptp(short) <= 1e-9 * np.max(np.abs(outside) + short)
    if alike and 2 < game.n <= coalitions.MOST:
        return coalitions.next_to_leave(game, outside, np.ones(game.n, bool))[0]
    return _worst_off(game, found, short, leaves)


def _worst_off(game: games.Game, found: Outcome, short: np.ndarray, leaves: np.ndarray) -> int:
    """The agent with the largest shortfall of those who would leave.

    Shortfalls that agree to nine digits count as equal. Of such agents the one who contributes least leaves,
    then the one with the smallest capacity, so that the result does not depend on how agents are numbered.
    """
    tied = leaves & (short >= np.max(short[leaves]) * (1.0 - 1e-9))
    contributed = np.asarray(found.equilibrium.profile) * np.asarray(game.quality)
    largest = np.max(contributed)
    if largest > 0:  # nine digits here too: what is equal up to rounding is equal
        share = np.round(contributed / largest, 9)
        contributed = np.where(contributed > 1e-9 * largest, share, 0.0)
    return int(min(np.flatnonzero(tied), key=lambda i: (contributed[i], float(game.capacity[i]))))


def rather_leave(game: games.Game, found: Outcome, outside: Any) -> np.ndarray:
    """[n] who has less than outside, [n] currency, by more than is `negligible`; nobody else leaves.

    Without a certified equilibrium it says so of a profile that agents need not play.
    """
    return np.asarray(outside - found.utilities > negligible(game, found, outside))


def negligible(game: games.Game, found: Outcome, outside: jax.Array) -> jax.Array:
    """[n] the shortfall up to which an agent counts as just as well off as outside, currency.

    It is 1e-9 of what taking part changes for her (the maximum of what all data bring her, what hers cost
    her, and her payment), plus the rounding error of the two utilities that are compared.
    """
    return negligible_at(game, found.equilibrium.profile, found.spent, found.payments, outside)


@jax.jit
def negligible_at(
    game: games.Game, s: jax.Array, spent: jax.Array, payments: jax.Array, outside: jax.Array
) -> jax.Array:
    """`negligible` at any profile s [n], for costs that are spent and payments there, [n] each."""
    payoff, nothing = (game.value * games.payoff_values(game, x) for x in (s, jnp.zeros_like(s)))
    brought = jnp.where(jnp.isfinite(payoff - nothing), jnp.abs(payoff - nothing), 0.0)
    cost = spent - games.incurred_costs(game, jnp.zeros_like(s))
    moved = jnp.maximum(jnp.maximum(brought, cost), jnp.abs(payments))
    sizes = jnp.abs(payoff) + spent + jnp.abs(payments) + jnp.abs(outside)
    return 1e-9 * moved + 8 * jnp.finfo(s.dtype).eps * sizes
