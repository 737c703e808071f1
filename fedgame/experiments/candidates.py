"""All mechanisms that apply to a game, side by side: as rows, and why one of them is chosen."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.games import scenarios
from fedgame.mechanisms import choice, misreports, optimum, personal
from fedgame.mechanisms.choice import Candidate
from fedgame.runs import jobs
from fedgame.runs.workdir import Workdir


def compare(
    game: games.Game,
    which: str,
    outside: np.ndarray | None,
    options: dict[str, dict[str, Any]],
    best: optimum.FirstBest,
) -> list[Candidate]:
    """What comes of every mechanism that needs no number, with all agents taking part.

    Args:
      game: n agents.
      which: of `scenarios.OUTSIDE`.
      outside: [n] what agents have outside, currency, if that is given.
      options: of rules, by name, that are not the default ones.
      best: the first best of the game.
    """

    def outside_of(reported: games.Game) -> np.ndarray:
        return np.asarray(personal.outside(reported, which)) if outside is None else outside

    rules = choice.rules_without_options(options)
    with jobs.progress("comparing mechanisms", len(rules)) as bar:
        return choice.compare(game, rules, outside_of, best, bar.update)


def write(
    work: Workdir, scenario: scenarios.Scenario, compared: Sequence[Candidate], chosen: Candidate | None
) -> None:
    """Writes `mechanisms.csv`, a row for each, and `mechanisms_by_member.csv`, a row for each and member."""
    names = scenario.names
    work.write_csv("mechanisms.csv", [_row(one, names, one is chosen) for one in compared])
    applying = [one for one in compared if one.outcome is not None]
    rows = [row for one in applying for row in _member_rows(one, names, scenario.game.capacity)]
    work.write_csv("mechanisms_by_member.csv", rows)


def _row(one: Candidate, names: Sequence[str], chosen: bool) -> dict[str, Any]:
    """A row of `mechanisms.csv`."""
    row: dict[str, Any] = {
        "mechanism": registry.text_of(one.rule),
        "chosen": chosen,
        "simplicity": one.rule.simplicity,
        "server_knows": " and ".join(one.rule.knows),
        "applies": one.outcome is not None,
        "why_not": one.refused,
    }
    if one.outcome is None:
        return row
    u, paid = np.asarray(one.outcome.utilities), np.asarray(one.outcome.payments)
    worst, gain = int(np.argmin(u)), one.misreport
    row |= {
        "certified": one.certified,
        "contributed": float(np.sum(np.asarray(one.outcome.equilibrium.profile))),
        "sum_of_utilities": float(np.sum(u)),
        "server_pays": 0.0 if one.announced.mechanism.balanced else float(np.sum(paid)),
        "surplus": one.surplus,
        "worst_off": str(names[worst]),
        "worst_off_utility": float(u[worst]),
        "rather_leave": int(np.sum(one.leaves)),
        "nash_gap": float(np.max(np.asarray(one.outcome.equilibrium.nash_gap))),
    }
    if gain is not None:
        row |= {
            "misreport_gain": gain.gain,
            "misreport_by": str(names[gain.agent]) if gain.gain else "",
            "misreport_factor": gain.factor,
            "misreports_untold": gain.untold,
        }
    return row


def _member_rows(one: Candidate, names: Sequence[str], capacity: Any) -> list[dict[str, Any]]:
    """Rows of `mechanisms_by_member.csv` of one mechanism."""
    found = one.outcome
    columns = found.equilibrium.profile, capacity, found.payments, found.utilities, one.leaves
    return [
        {
            "mechanism": registry.text_of(one.rule),
            "name": str(name),
            "contribution": float(s),
            "capacity": float(most),
            "payment": float(payment),
            "utility": float(utility),
            "rather_leaves": bool(leaves),
        }
        for name, s, most, payment, utility, leaves in zip(names, *map(np.asarray, columns), strict=True)
    ]


def reasons(compared: Sequence[Candidate], chosen: Candidate) -> dict[str, Any]:
    """Why a mechanism is chosen, as JSON values: how much more than outside it brings, and others do."""
    return {
        "apply": len([one for one in compared if one.certified]),
        "rather_leave": int(np.sum(chosen.leaves)),
        "surplus": chosen.surplus,
        "nearly": choice.NEARLY,
        "reports": list(misreports.FACTORS),
        "simpler": [
            {
                "mechanism": registry.text_of(one.rule),
                "surplus": one.surplus,
                "rather_leave": int(np.sum(one.leaves)),
            }
            for one in compared
            if one.certified and one.rule.simplicity < chosen.rule.simplicity
        ],
    }
