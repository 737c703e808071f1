"""Which mechanism to choose: those that apply, side by side, and the simplest of the nearly best."""

import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import base, misreports, optimum, outcomes

NEARLY = 0.01  # how much less of the best surplus a simpler mechanism may have
_GENERAL = 50  # agents up to whom mechanisms are looked at that are solved in the general form
_REPORTS = 12  # agents up to whom misreports are looked for


class Candidate(NamedTuple):
    """A mechanism, and what comes of it if all n agents take part."""

    rule: base.Rule
    announced: base.Announcement | None = None
    outcome: outcomes.Outcome | None = None  # None: the rule does not apply
    leaves: Any = None  # [n] who would rather leave
    # Σ (u_i - r_i), what taking part brings all over leaving, less what the server pays; currency.
    surplus: float = np.nan
    misreport: misreports.Gain | None = None  # None: not looked for
    refused: str = ""  # why the rule does not apply

    @property
    def certified(self) -> bool:
        """Whether its equilibrium is one."""
        return self.outcome is not None and bool(self.outcome.equilibrium.converged)


def rules_without_options(given: dict[str, dict[str, Any]]) -> list[base.Rule]:
    """All rules that have a name and need no number, as `compare` takes them.

    Args:
      given: options that are not the default ones, by the name of the rule.
    """
    found = []
    for name in base.RULES:
        if not registry.required("rule", name, given.get(name, {})):
            found.append(registry.read("rule", name, given))
    return found


def compare(
    game: games.Game,
    rules: Sequence[base.Rule],
    outside_of: Callable[[games.Game], np.ndarray],
    best: optimum.FirstBest,
    progress: Callable[[], Any] = lambda: None,
) -> list[Candidate]:
    """What comes of every rule, with all agents taking part.

    Args:
      game: n ≥ 2 agents.
      rules: that are compared.
      outside_of: from a game, as reported, to r_i, [n], what agents have if they leave, currency.
      best: the first best of the game.
      progress: called after every rule.

    Returns:
      One candidate for each rule, in their order.
    """
    outside = outside_of(game)

    def one(rule: base.Rule) -> Candidate:
        found = _candidate(game, rule, outside, best)
        if found.certified and game.n <= _REPORTS:
            found = found._replace(misreport=_misreport(game, found, outside_of))
        progress()
        return found

    with futures.ThreadPoolExecutor(min(len(rules), os.cpu_count() or 1)) as pool:  # most of it is compiling
        return list(pool.map(one, rules))


def _candidate(game: games.Game, rule: base.Rule, outside: np.ndarray, best: optimum.FirstBest) -> Candidate:
    """What comes of one rule, without misreports."""
    kind = rule.announces
    if kind is not None and kind.under is base.Mechanism.under and game.n > _GENERAL:
        return Candidate(rule, refused=f"not looked at with more than {_GENERAL} agents: name it to try it")
    try:
        announced = rule.announced(game, best, outside)
        found = outcomes.of_announcement(game, announced)
    except (ValueError, FloatingPointError) as error:
        return Candidate(rule, refused=str(error))
    gained = float(np.sum(np.asarray(found.utilities) - outside))
    paid_by_server = float(np.sum(np.asarray(found.payments)))
    leaves = outcomes.rather_leave(game, found, outside)
    return Candidate(rule, announced, found, leaves, gained - paid_by_server)


def _misreport(
    game: games.Game, found: Candidate, outside_of: Callable[[games.Game], np.ndarray]
) -> misreports.Gain:
    """The largest gain of a misreport under a candidate."""
    if "costs" not in found.rule.knows:
        return misreports.Gain(-1, 1.0, 0.0)

    def announce(reported: games.Game) -> base.Mechanism:
        return found.rule.announced(reported, outside=outside_of(reported)).mechanism

    return misreports.largest_gain(game, announce, found.outcome)


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The simplest of those whose surplus is nearly the largest; None if no equilibrium is certified.

    Only those under which the fewest would rather leave are considered: nobody, if there are such. What
    counts is what taking part brings over leaving, since that is what a mechanism can move: utilities
    themselves hold what everybody has in any case.
    """
    known = [one for one in candidates if one.certified]
    if not known:
        return None
    fewest = min(int(np.sum(one.leaves)) for one in known)
    accepted = [one for one in known if int(np.sum(one.leaves)) == fewest]
    most = max(one.surplus for one in accepted)
    near = [one for one in accepted if one.surplus >= most - NEARLY * abs(most)]
    simplest = min(one.rule.simplicity for one in near)
    simple = [one for one in near if one.rule.simplicity == simplest]
    largest = max(one.surplus for one in simple)
    return next(one for one in simple if one.surplus >= largest - 1e-9 * abs(largest))  # first of equals
