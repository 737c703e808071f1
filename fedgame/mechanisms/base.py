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
from fedgame.games import game as games
from fedgame.games import payoffs
from fedgame.registry import option

# `_rule` is defined below, so it is looked up when it is called.
RULES: dict[str, "Rule"] = registry.kind("rule", lambda *x, **more: _rule(*x, **more), "mechanism")
MOST = 2000  # maximum of agents in the general form, in which the utilities of all take O(n²)


class Mechanism:
    """What the server announces: what agents receive, given the reported game and their contributions.

    Its numbers are fields made by `registry.option`. Only `payments` must be defined. A `Rule` makes a
    mechanism from the reported game. A class that is registered under a name (`registry.register`) is a rule
    itself: it announces the numbers it is given, whatever the game. One without a name is a
    `registry.family`.
    """

    kind: ClassVar[str] = "mechanism"
    balanced: ClassVar[bool] = True  # Σ p_i = 0 whatever agents do
    # A promise: v_i a_i + p_i - c_i is concave in s_i wherever v_i a_i - c_i is. False is always safe.
    concave: ClassVar[bool] = False
    columns: ClassVar[dict[str, str]] = {}  # name in `announced` -> header, of what tables show
    per_sample: ClassVar[frozenset[str]] = frozenset()  # those of them that are currency per sample

    @registry.needed
    def payments(self, reported: games.Game, s: jax.Array) -> jax.Array:
        """p_i, [n], what each agent receives (negative: pays), in the currency of costs.

        Args:
          reported: the game as it is reported to the server, without payments.
          s: [n] contributions, samples. The payments must be differentiable in them.
        """
        raise NotImplementedError

    def payment(self, reported: games.Game, s: jax.Array, i: jax.Array) -> jax.Array:
        """p_i of agent i alone. Override it if that takes less work than the payments of all."""
        return self.payments(reported, s)[i]

    def received(self, game: games.Game, s: jax.Array) -> jax.Array:
        """[n] the payoff of the model that each agent is given: a_i(s), unless the mechanism degrades it."""
        return games.payoff_values(game, s)

    def withheld(self, game: games.Game, s: jax.Array) -> jax.Array:
        """[n] v_i (a_i(s) - received_i), what a degraded model costs each agent, in the currency of costs."""
        return game.value * (games.payoff_values(game, s) - self.received(game, s))

    def under(self, game: games.Game, reported: games.Game | None = None) -> games.Game:
        """The game that agents play: its utilities are `utilities`, up to terms an agent cannot influence.

        By default this is the general form, u_i = v_i a_i + p_i - c_i. Override it if the game under the
        mechanism is of a kind that is solved faster.

        Args:
          game: n agents with their true numbers.
          reported: the game as it is reported; None: the true one.

        Raises:
          ValueError: there are too many agents for the general form.
        """
        check_size(type(self), game.n)
        honest = reported is None
        pieces = self.concave_in(game) and honest and game.concave and not self.degrades
        paid = Paid(
            game=game,
            reported=game if honest else reported,
            mechanism=self,
            pieces=pieces,
            concave=pieces and has_no_kink(game),
        )
        return games.Game(paid, game.cost, game.capacity)

    def under_scaled(self, game: games.Game, factor: jax.Array) -> games.Game:
        """`under` if agent i reports `factor[i]` times her cost."""
        return self.under(game, games.scale_costs(game, factor))

    def profile(self, game: games.Game) -> jax.Array | None:
        """[n] an equilibrium that is known without a solver, or None. Callers still certify it."""
        del game
        return None

    def concave_in(self, game: games.Game) -> bool:
        """Whether the promise `concave` holds in this game. By default it holds in all or none."""
        del game
        return self.concave

    @property
    def degrades(self) -> bool:
        """Whether `received` is not simply a_i(s)."""
        return type(self).received is not Mechanism.received

    def announced(self, n: int) -> dict[str, jax.Array]:
        """What n agents are told, by name, [n] each: columns of result tables. By default all fields."""
        return {
            field.name: jnp.broadcast_to(jnp.asarray(getattr(self, field.name), float), (n,))
            for field in registry.numbers(self)
            if field.metadata.get("rank", 0) is not None
        }

    def utilities(self, game: games.Game, s: jax.Array, reported: games.Game | None = None) -> jax.Array:
        """v_i received_i(s) - c_i(s_i) + p_i(s), [n]; payments are those of the `reported` game, if given."""
        paid = self.payments(game if reported is None else reported, s)
        return game.value * self.received(game, s) + paid - games.incurred_costs(game, s)


class Announcement(NamedTuple):
    """What a rule announces for a game, and what it has computed for that, so that it is not done twice."""

    mechanism: Mechanism
    best: Any = None  # `optimum.FirstBest` of the game
    equilibrium: Any = None  # `solvers.Equilibrium` of `mechanism.under(game)`


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rule(registry.Function):
    """From the reported game to what the server announces for it.

    `registry.register` makes it from a function of the game, whose other parameters have defaults made by
    `registry.option`. The function returns a `Mechanism`, or an `Announcement` if it had to find an optimum
    or an equilibrium, so that callers need not find it again. It may also have a parameter `best`, for the
    first best, and `outside`, for what agents have if they leave: they are passed if known.

    Attributes:
      requires: raises a `ValueError` if the costs or the number of agents of a game do not allow the rule,
        whatever the payoff is. So such games are refused before the payoff is measured.
      announces: the class of the mechanisms that it announces, if that is known before there is a game.
      simplicity: how little has to be explained to members, 0: nothing is paid; 1: one number that follows
        from costs or the number of agents; 2: one number that is searched for; 3: numbers for each agent; 4:
        payments, or models, that depend on the whole profile. Of nearly equal mechanisms the simplest is
        recommended, see `choice`.
      knows: what the server must know of the members: their "payoffs", their "costs". Without "costs",
        nothing that is announced or paid depends on the costs that members report.
      finds: options that it finds itself unless they are given; if they are, the server must know nothing.
    """

    requires: Callable[[games.Game], None] = lambda game: None
    announces: type[Mechanism] | None = None
    simplicity: int = 4
    knows: tuple[str, ...] = ("payoffs", "costs")
    finds: tuple[str, ...] = ()

    @property
    def must_know(self) -> tuple[str, ...]:
        """What the server must know if options have these values: nothing if what it would find is given."""
        given = [self.values.get(name) is not None for name in self.finds]
        return () if given and all(given) else self.knows

    def __call__(self, game: games.Game) -> Mechanism:
        return self.announced(game).mechanism

    def takes(self, name: str) -> bool:
        """Whether the function has a parameter of this name that is no option: `best` or `outside`."""
        if isinstance(self.function, type):
            return False
        return name in inspect.signature(self.function).parameters.keys() - self.options.keys()

    def announced(self, game: games.Game, best: Any = None, outside: Any = None) -> Announcement:
        """What it announces for a game.

        Args:
          game: as it is reported.
          best: its first best (`optimum.FirstBest`), if known.
          outside: [n] what agents have if they leave, currency; None: what they have by training alone.
        """
        self.requires(game)
        if isinstance(self.function, type):
            return Announcement(self.function(**self.values))
        known = {name: x for name, x in {"best": best, "outside": outside}.items() if self.takes(name)}
        found = self.function(game, **self.values, **known)
        return found if isinstance(found, Announcement) else Announcement(found)


def _rule(
    name: str,
    label: str,
    thing: Any,
    requires: Callable[[games.Game], None] | None = None,
    announces: type[Mechanism] | None = None,
    **more: Any,
) -> tuple[Rule, Any]:
    """A rule made from a function or a class of mechanisms, and what its name in the module then means.

    `requires` is by default the limit on the number of agents, if mechanisms are solved in the general form.
    """
    if isinstance(thing, type):
        registry.a_family(name, label, thing)
    kind = thing if isinstance(thing, type) else announces
    if requires is None and kind is not None and kind.under is Mechanism.under:
        requires = functools.partial(_has_general_form, kind)
    known = {"requires": requires or Rule.requires, "announces": kind, **more}
    if isinstance(thing, type):
        return Rule(name, label, thing, registry.options(thing), **known), thing
    made = Rule(name, label, thing, registry.signature_options(thing), **known)
    return made, made


def _has_general_form(kind: type[Mechanism], game: games.Game) -> None:
    """`check_size` of a game."""
    check_size(kind, game.n)


def check_size(kind: type[Mechanism], n: int) -> None:
    """Raises a `ValueError` if n agents are too many for the general form."""
    if n > MOST:
        raise ValueError(f"{kind.__name__} is solved in its general form, for up to {MOST} agents, got {n}")


def check(mechanism: Any, n: int) -> None:
    """Checks the numbers of a mechanism for n agents.

    Each must be shared by all agents or have one entry for each, within the range of its `registry.option`.
    Ignored are numbers that are being traced, and those of rank None, which have any shape.

    Raises:
      ValueError: names the number that is wrong.
    """
    for field in registry.numbers(mechanism):
        x, rank = getattr(mechanism, field.name), field.metadata.get("rank", 0)
        if rank is None or isinstance(x, jax.core.Tracer):
            continue
        if dataclasses.is_dataclass(x):
            check(x, n)
            continue
        shape = np.shape(x)
        shared = len(shape) == rank
        one_for_each = len(shape) == rank + 1 and shape[0] == n
        if not (shared or one_for_each):
            raise ValueError(
                f"`{field.name}` must be shared or have one entry for each of {n} agents, got shape {shape}"
            )
        registry.check_number(f"`{field.name}`", x, field)


def has_no_kink(game: games.Game) -> bool:
    """Whether all payoffs are concave from 0 on, as they are if none is 0 up to some total.

    False inside jit, where that is not known.
    """
    no_kink = _positive_from_0(game)
    return not isinstance(no_kink, jax.core.Tracer) and bool(no_kink)


@jax.jit
def _positive_from_0(game: games.Game) -> jax.Array:
    """Whether no kink is above 0 while nobody shares anything; the more others share, the lower kinks are."""

    def none(agent: games.Game, own: jax.Array, rest: Any) -> jax.Array:
        del own
        kinks = agent.payoff.kinks(rest)
        if kinks is None:
            return jnp.asarray(False)
        return jnp.all(jnp.stack([jnp.zeros(()), *map(jnp.asarray, kinks)]) <= 0)

    return jnp.all(games.over_agents(none)(game, jnp.zeros_like(game.capacity)))


@registry.family
class Paid(payoffs.Payoff):
    """v_i a_i(s) + p_i(s), utility under a mechanism before costs; its statistic is s itself, in samples."""

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
        agent = games.agent_of(self.game, i)  # a_i(s) alone, without the payoffs of all others
        return agent.value * agent.payoff.value(agent.quality * own, others)
