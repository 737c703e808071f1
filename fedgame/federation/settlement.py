"""What is paid for a round, and for a whole run, in whole units of money that sum to exactly 0."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.games import scenarios
from fedgame.mechanisms import base, refunds

SERVER = (
    ""  # what the server is called in the ledger: it pays what a mechanism that is not balanced leaves over
)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """All that payments depend on beside what is contributed.

    Attributes:
      names: [n] of the members.
      game: as they have declared it, without payments.
      rule: who is paid what.
      rounds: T of the run.
      unit: the smallest amount that can be paid, in the currency of costs.
    """

    names: tuple[str, ...]
    game: games.Game
    rule: base.Rule
    rounds: int
    unit: float
    _announced: dict[tuple[int, ...], base.Announcement] = dataclasses.field(
        default_factory=dict, compare=False
    )

    def announced(self, there: Sequence[int]) -> base.Announcement:
        """What the rule announces if only some members are there: it is applied to them alone.

        If it cannot be, as where it finds no certified equilibrium, nothing is paid.
        """
        there = tuple(there)
        if there not in self._announced:
            try:
                self._announced[there] = self.rule.announced(self.among(there))
            except ValueError:
                if len(there) == self.game.n:  # then the run cannot begin
                    raise
                self._announced[there] = base.Announcement(refunds.Refunds())
        return self._announced[there]

    def among(self, there: Sequence[int]) -> games.Game:
        """The game of those who are there."""
        everybody = len(there) == self.game.n
        return self.game if everybody else games.subset(self.game, np.asarray(there, int))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with every digit."""
        return {
            "scenario": scenarios.to_dict(self.game, list(self.names)),
            "rule": registry.text_of(self.rule),
            "rounds": self.rounds,
            "unit": self.unit,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Agreement":
        """The agreement of which `to_dict` made this; a `ValueError` if it is none."""
        if missing := [name for name in ("scenario", "rule", "rounds", "unit") if name not in values]:
            raise ValueError(f"`{missing[0]}` is missing: this is no agreement")
        scenario = scenarios.from_dict(values["scenario"])
        rule = registry.read("rule", str(values["rule"]))
        rounds, unit = values["rounds"], values["unit"]
        for name, number in (("rounds", rounds), ("unit", unit)):
            if type(number) not in (int, float) or not 0 < number < np.inf:
                raise ValueError(f"`{name}` must be a number above 0, got {number!r}")
        return cls(tuple(scenario.names), scenario.game, rule, int(rounds), float(unit))


def amounts(agreement: Agreement, samples: np.ndarray, there: Sequence[int]) -> np.ndarray:
    """p_i of a whole run, [n] currency, if only some members are there; the others neither pay nor receive.

    Args:
      agreement: what payments depend on.
      samples: [n] contributions; those of members who are not there are ignored.
      there: numbers of those who are, ascending. One alone has nobody to pay or be paid by.
    """
    paid = np.zeros(len(agreement.names))
    if len(there) >= 2:
        s = jnp.asarray(np.asarray(samples, float)[list(there)])
        mechanism = agreement.announced(there).mechanism
        paid[list(there)] = mechanism.payments(agreement.among(there), s)
    return paid


def units(agreement: Agreement, paid: np.ndarray) -> np.ndarray:
    """Payments [n] in whole units by largest remainders, then what the server receives: [n + 1], sum 0.

    Digits beyond a millionth of a unit are dropped first: another machine may compute others, and who of
    equals is given the odd unit must not depend on them.
    """
    paid = np.round(np.asarray(paid) / agreement.unit, 6)
    return refunds.whole_units(np.round(np.append(paid, -np.sum(paid)), 6), 1.0)


def of_round(agreement: Agreement, samples: np.ndarray, there: Sequence[int]) -> np.ndarray:
    """[n + 1] units for one round: those of p(s)/T, as the utility of a run counts p(s) once."""
    return units(agreement, amounts(agreement, samples, there) / agreement.rounds)


def of_run(agreement: Agreement, rounds: Iterable[tuple[np.ndarray, Sequence[int]]]) -> np.ndarray:
    """[n + 1] units for a run: those of the payments at what was contributed in a round on average.

    If members missed rounds, it is the sum over the groups that were there, each at its own average and for
    its share of the rounds.

    Args:
      agreement: what payments depend on.
      rounds: samples [n] and who was there, of every round.
    """
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for samples, there in rounds:
        groups.setdefault(tuple(there), []).append(np.asarray(samples, float))
    total = np.zeros(len(agreement.names))
    for there, drawn in groups.items():
        share = len(drawn) / agreement.rounds
        total += share * amounts(agreement, np.mean(drawn, axis=0), there)
    return units(agreement, total)
