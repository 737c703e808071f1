"""What a ledger says, as rows of tables and as a statement for each member."""

import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.federation.ledger import DIFFERENCE, FINAL, MEMBER, Entry
from fedgame.federation.settlement import Agreement
from fedgame.games import game as games
from fedgame.report import money
from fedgame.runs import workdir


def entry_rows(entries: Sequence[Entry], unit: float) -> list[dict[str, Any]]:
    """One row per entry, for `ledger.csv`."""
    return [
        {
            "number": entry.number,
            "kind": entry.kind,
            "round": entry.round,
            "member": entry.member,
            "samples": entry.about.get("samples"),
            "cost": entry.about.get("cost"),
            "amount": entry.amount * unit,
            "units": entry.amount,
            "reason": entry.about.get("reason", ""),
            "accuracy": entry.about.get("accuracy"),
            "time": entry.time,
            "digest": entry.digest,
        }
        for entry in entries
    ]


def member_rows(entries: Sequence[Entry], agreement: Agreement) -> list[dict[str, Any]]:
    """One row per member, for `settled.csv`: what she gave, what it cost her, what she received."""
    agreed = np.asarray(entries[0].about["contributions"], float)
    expected = np.asarray(games.payoff_values(agreement.game, jnp.asarray(agreed)))
    rows = []
    for i, name in enumerate(agreement.names):
        hers = [entry for entry in entries if entry.member == name]
        counted = [e.about for e in hers if e.kind == MEMBER and not e.about["reason"]]
        final = [entry.about["accuracy"] for entry in hers if entry.kind == FINAL]
        rows.append(
            {
                "name": name,
                "contribution": float(agreed[i]),
                "capacity": float(agreement.game.capacity[i]),
                "rounds": len(counted),
                "samples": float(np.mean([about["samples"] for about in counted])) if counted else 0.0,
                "cost": float(sum(about["cost"] for about in counted)),
                "received": sum(entry.amount for entry in hers) * agreement.unit,
                "expected": float(expected[i]),
                "accuracy": final[-1] if final else None,
            }
        )
    return rows


def accuracy_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row per round, for `rounds.csv`: the mean over members of the metric of the model after it.

    In each round members measure the model that they are sent, so that after round t is told in round t + 1,
    and the last one at the end. Rounds of whose model nobody says anything are left out.
    """
    told: dict[int, list[float]] = {}
    last = max((entry.round for entry in entries), default=0)
    for entry in entries:
        number = {MEMBER: entry.round - 1, FINAL: last}.get(entry.kind)
        if number is not None and entry.about.get("accuracy") is not None:
            told.setdefault(number, []).append(entry.about["accuracy"])
    return [{"round": number, "accuracy": float(np.mean(told[number]))} for number in sorted(told)]


def statement(name: str, entries: Sequence[Entry], agreement: Agreement, used: money.Currency) -> list[str]:
    """What a member gave, paid and received, round after round, and why, in sentences.

    Raises:
      ValueError: there is no such member.
    """
    if name not in agreement.names:
        raise ValueError(f"there is no member {name!r}: there are {', '.join(agreement.names)}")
    i = agreement.names.index(name)
    agreed = float(entries[0].about["contributions"][i])
    lines = [
        f"Statement for {name}",
        f"Agreed: {money.samples(agreed)} samples in each of {agreement.rounds} rounds. Payments by the rule "
        f"{registry.title(agreement.rule)}; a round settles 1/{agreement.rounds} of them.",
        f"Declared: {_declared(agreement, i, used)}.",
    ]
    balance = 0
    for entry in entries:
        if entry.member != name or entry.kind not in (MEMBER, DIFFERENCE):
            continue
        balance += entry.amount
        lines.append(f"{_of_entry(entry, agreement, used)}; balance {amount(balance, agreement.unit, used)}.")
    lines.append(f"The ledger has {len(entries)} entries and ends in {entries[-1].digest}.")
    return lines


def _declared(agreement: Agreement, i: int, used: money.Currency) -> str:
    """What a member has declared, in words."""
    game = agreement.game
    everything = float(games.incurred_costs(game, jnp.asarray(game.capacity))[i])
    value = float(np.broadcast_to(np.asarray(game.value), (game.n,))[i])
    return (
        f"at most {money.samples(float(game.capacity[i]))} samples, which would cost her "
        f"{used.amount(everything)}; accuracy 1 is worth {used.amount(value)} to her"
    )


def _of_entry(entry: Entry, agreement: Agreement, used: money.Currency) -> str:
    """One entry of a member, in words."""
    paid = amount(abs(entry.amount), agreement.unit, used)
    verb = "received" if entry.amount >= 0 else "paid"
    if entry.kind == DIFFERENCE:
        return f"At the end, for rounding and changed contributions: {verb} {paid}"
    if entry.about["reason"]:
        return f"Round {entry.round}: left out, so nothing was paid ({entry.about['reason']})"
    cost = used.amount(entry.about["cost"])
    return f"Round {entry.round}: gave {entry.about['samples']} samples, at a cost of {cost}; {verb} {paid}"


def amount(units: int, unit: float, used: money.Currency) -> str:
    """An amount to the last unit."""
    return used.exact(units * unit) if used.code else f"{units * unit:.12g}"


def file_of(name: str) -> str:
    """The name of the file of a member's statement."""
    return f"{workdir.shortened(urllib.parse.quote(name, safe=' =,+()'))}.txt"


def heard(log: str) -> list[tuple[str, str]]:
    """What a member has heard of the ledger, from her log: after which round, and how its digest begins."""
    return re.findall(r"(Round \d+|The whole run): .*; the ledger ends in ([0-9a-f]+)", log)


def contradictions(log: str, entries: Sequence[Entry]) -> list[str]:
    """Sentences on what a member has heard of the ledger, by her log, that is not in it; none if all is."""
    return [
        f"{what}: she has heard that the ledger ends in {digest}, which is the digest of no entry"
        for what, digest in heard(log)
        if not any(entry.digest.startswith(digest) for entry in entries)
    ]


def left_out(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """The rounds that each member was left out of, of those who were."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        if entry.kind == MEMBER and entry.about.get("reason"):
            found.setdefault(entry.member, []).append(entry.round)
    return found
