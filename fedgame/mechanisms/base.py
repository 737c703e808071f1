"""The contract of a mechanism: payments, and what a game is under them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import total
from fedgame.games import game as games
from fedgame.games import payoffs
from fedgame.registry import option

RULES: dict[str, "Rule"] = registry.kind("rule", lambda *x, **more: _rule(*x, **more), "mechanism")
MOST = 2000  # agents, at most, in the general form: every look at all of them costs n² numbers


class Mechanism:
    """What the server announces: how the reported game and contributions decide what agents receive.

    Its numbers are fields made by `registry.option`; `payments` is all that has to be defined. A `Rule` makes
    a mechanism from a game, as it is reported. A class with a name, see `registry.register`, is a rule
    itself, which announces the numbers given to it whatever the game is; one without is a `registry.family`.
    """

    kind: ClassVar[str] = "mechanism"
    balanced: ClassVar[bool] = True  # Σ p_i = 0 whatever agents do
    # A promise: v_i a_i + p_i - c_i is concave in s_i where v_i a_i - c_i is. False is always safe.
    concave: ClassVar[bool] = False
    columns: ClassVar[dict[str, str]] = {}  # of `announced`, those to show in tables, and their headers

    @registry.needed
    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        """p_i, [n], what each receives (negative: pays) in the currency of costs.

        Args:
          reported: the game as it is reported to the server, without payments.
          s: [n] contributions, samples; differentiable in them.
        """
        raise NotImplementedError

    def payment(self, reported: games.Game, s: jax.Array, i: jax.Array) -> jax.Array:
        """p_i of agent i alone. To be overridden where the payments of all cost more than hers."""
        return self.payments(reported, s)[i]

    def received(self, game: games.Game, s: jax.Array) -> jax.Array:
        """[n] the payoff of the model that each is given: a_i(s), unless the mechanism degrades it."""
        return games.payoff_values(game, s)

    def withheld(self, game: games.Game, s: jax.Array) -> jax.Array:
        """[n] v_i (a_i(s) - received_i), what a degraded model costs each, in the currency of costs."""
        return game.value * (games.payoff_values(game, s) - self.received(game, s))

    def under(self, game: games.Game, reported: games.Game | None = None) -> games.Game:
        """The game that agents play: its utilities are `utilities`, up to what an agent cannot influence.

        By default u_i = v_i a_i + p_i - c_i as it stands. A mechanism under which the game is of a kind that
        is solved faster overrides this.

        Args:
          game: n agents with their true numbers.
          reported: the game as it is reported; None if it is the true one.

        Raises:
          ValueError: there are too many agents for the general form.
        """
        check_size(type(self), game.n)
        pieces = self.concave_in(game) and reported is None and game.concave and not self.degrades
        smooth = pieces and has_no_kink(game)
        paid = Paid(game, game if reported is None else reported, self, pieces, smooth)
        return games.Game(paid, game.cost, game.capacity)

    def under_scaled(self, game: games.Game, factor: jax.Array) -> games.Game:
        """`under` if agents report `factor`, [n], times their costs."""
        return self.under(game, games.scale_costs(game, factor))

    def profile(self, game: games.Game) -> jax.Array | None:
        """[n] an equilibrium that is known without a solver, or None. Callers certify it too."""
        del game
        return None

    def concave_in(self, game: games.Game) -> bool:
        """Whether the promise `concave` holds in this game. By default what is promised of every game."""
        del game
        return self.concave

    @property
    def degrades(self) -> bool:
        """Whether `received` is not simply a_i(s)."""
        return type(self).received is not Mechanism.received

    def announced(self, n: int) -> dict[str, jax.Array]:
        """What n agents are told, by name, [n] each: columns of result tables. By default all numbers."""
        return {
            field.name: jnp.broadcast_to(jnp.asarray(getattr(self, field.name), float), (n,))
            for field in registry.numbers(self)
            if field.metadata.get("rank", 0) is not None
        }

    def utilities(self, game: games.Game, s: jax.Array, reported: games.Game | None = None) -> jax.Array:
        """u_i(s) + p_i(s), [n]."""
        paid = self.payments(game if reported is None else reported, s)
        return game.value * self.received(game, s) + paid - games.incurred_costs(game, s)


class Announcement(NamedTuple):
    """What a rule announces for a game, and what it found of the game on the way."""

    mechanism: Mechanism
    best: Any = None  # `optimum.FirstBest` of the game
    equilibrium: Any = None  # `solvers.Equilibrium` of `mechanism.under(game)`


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rule(registry.Function):
    """From a game, as it is reported to the server, to what the server announces for it.

    Made by `registry.register` of a function of the game, whose other parameters have defaults made by
    `registry.option`. It returns a `Mechanism`, or an `Announcement` if it had to find an optimum or an
    equilibrium first, so that nobody finds it again. A parameter `best` is the first best, and `alone` what
    agents have by training alone, if that is known.

    Attributes:
      requires: raises a `ValueError` if the costs or the number of agents of a game do not allow the rule,
        whatever the payoff is, so that they are refused before it is measured.
      announces: the class of its mechanisms, if it is known before there is a game.
    """

    requires: Callable[[games.Game], None] = lambda game: None
    announces: type[Mechanism] | None = None

    def __call__(self, game: games.Game) -> Mechanism:
        return self.announced(game).mechanism

    def announced(self, game: games.Game, best: Any = None, alone: Any = None) -> Announcement:
        """What it announces, with what it found on the way; `best` and `alone` of the game, if known."""
        self.requires(game)
        if isinstance(self.function, type):
            return Announcement(self.function(**self.values))
        takes = inspect.signature(self.function).parameters.keys() - self.options.keys()
        known = {name: x for name, x in {"best": best, "alone": alone}.items() if name in takes}
        found = self.function(game, **self.values, **known)
        return found if isinstance(found, Announcement) else Announcement(found)


def _rule(
    name: str,
    label: str,
    thing: Any,
    requires: Callable[[games.Game], None] | None = None,
    announces: type[Mechanism] | None = None,
) -> tuple[Rule, Any]:
    """The rule that a function is, or a class of mechanisms; `requires` by default what `under` does."""
    if isinstance(thing, type):
        registry.a_family(name, label, thing)
    kind = thing if isinstance(thing, type) else announces
    if requires is None and kind is not None and kind.under is Mechanism.under:
        requires = functools.partial(_has_general_form, kind)
    known = {"requires": requires or Rule.requires, "announces": kind}
    if isinstance(thing, type):
        return Rule(name, label, thing, registry.options(thing), **known), thing
    made = Rule(name, label, thing, registry.signature_options(thing), **known)
    return made, made


def _has_general_form(kind: type[Mechanism], game: games.Game) -> None:
    check_size(kind, game.n)


def check_size(kind: type[Mechanism], n: int) -> None:
    """Raises the `ValueError` of the general form if there are too many agents for it."""
    if n > MOST:
        raise ValueError(f"{kind.__name__} is solved in its general form, for up to {MOST} agents, got {n}")


def check(mechanism: Any, n: int) -> None:
    """Raises a `ValueError` that names what is wrong with the numbers of a mechanism for n agents.

    Each has one value or one per agent, within the range that its `registry.option` states. Numbers that are
    being traced are not looked at, nor those shared by all whatever their shape.
    """
    for field in registry.numbers(mechanism):
        x, rank = getattr(mechanism, field.name), field.metadata.get("rank", 0)
        if rank is None or isinstance(x, jax.core.Tracer):
            continue
        if dataclasses.is_dataclass(x):
            check(x, n)
            continue
        shape = np.shape(x)
        if len(shape) != rank and (len(shape) != rank + 1 or shape[0] != n):
            raise ValueError(
                f"`{field.name}` must be shared or have one entry for each of {n} agents, got shape {shape}"
            )
        registry.check_number(f"`{field.name}`", x, field)


def has_no_kink(game: games.Game) -> bool:
    """Whether payoffs are concave from 0 on; False if that cannot be told inside jit."""
    if not game.payoff.of_total:
        return True
    none = jnp.all(total.pays_from(game) <= game.held)
    return not isinstance(none, jax.core.Tracer) and bool(none)


@registry.family
class Paid(payoffs.Payoff):
    """v_i a_i(s) + p_i(s), what an agent has under a mechanism before her cost; s in samples."""

    game: games.Game = option("the true one", rank=None)
    reported: games.Game = option("what payments are made for", rank=None)
    mechanism: Mechanism = option("who pays", rank=None)
    pieces: bool = option("whether utility is known to be concave between the payoff's kinks", static=True)
    concave: bool = option("whether it has none", static=True)

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        agent = games.agent_of(self.game, i)
        return i, z, games.rest_of(agent, games.statistic(self.game, z), own, i)

    def kinks(self, rest: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, ...] | None:
        if not self.pieces:
            return None
        i, _, others = rest
        agent = games.agent_of(self.game, i)
        return tuple(x / agent.quality for x in agent.payoff.kinks(others))

    def kept(self, keep: jax.Array, n: int) -> Any:
        raise ValueError("whoever leaves leaves the game without payments: take `subset` of that")

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array, Any]) -> jax.Array:
        i, z, others = rest
        s = z.at[i].set(own)
        return self._worth(own, i, s, others) + self.mechanism.payment(self.reported, s, i)

    def _worth(self, own: jax.Array, i: jax.Array, s: jax.Array, others: Any) -> jax.Array:
        if self.mechanism.degrades:
            return (self.game.value * self.mechanism.received(self.game, s))[i]
        agent = games.agent_of(self.game, i)  # the same, without the payoffs of all others
        return agent.value * agent.payoff.value(agent.quality * own, others)
