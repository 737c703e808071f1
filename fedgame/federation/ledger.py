"""The ledger: what was settled, entry after entry, each with a digest that covers the one before.

One SQLite file. A round is settled in one transaction, together with the model that came of it: so it is
settled exactly once, however a run ends, and what goes on after a kill goes on from there. Amounts are whole
numbers of the smallest unit, and those of every round sum to 0.
"""

import contextlib
import datetime
import hashlib
import io
import itertools
import json
import pathlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame.federation import messages, settlement
from fedgame.federation.settlement import SERVER, Agreement

FILE = "ledger.sqlite"
# Kinds of entries. Agreed: all that payments depend on, and what members contribute. Member: one for each
# member and round; the server's is of the round as a whole. Difference: one for each at the end of the run.
# Final: how good each member says that the final model is for her.
AGREED, MEMBER, DIFFERENCE, FINAL = "agreed", "member", "difference", "final"

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
  number INTEGER PRIMARY KEY,  -- from 1, without gaps
  kind TEXT NOT NULL,
  round INTEGER NOT NULL,      -- 0: of the whole run
  member TEXT NOT NULL,        -- '': the server
  amount INTEGER NOT NULL,     -- that she receives, in the smallest unit; negative: she pays
  about TEXT NOT NULL,         -- JSON
  time TEXT NOT NULL,          -- UTC
  digest TEXT NOT NULL         -- SHA-256 of all the above and of the digest before
);
-- Of the last settled round alone.
CREATE TABLE IF NOT EXISTS model (round INTEGER NOT NULL, parameters BLOB NOT NULL);
"""


class Entry(NamedTuple):
    """One line of the ledger."""

    number: int
    kind: str
    round: int
    member: str
    amount: int
    about: dict[str, Any]
    time: str
    digest: str


class Line(NamedTuple):
    """What is to be entered for one member."""

    member: str
    amount: int
    about: dict[str, Any]


class Ledger:
    """An open ledger. Every method reads the file anew: another process may write it."""

    def __init__(self, file: pathlib.Path, create: bool = False):
        """Opens a ledger.

        Args:
          file: its path.
          create: make it if it is not there.

        Raises:
          FileNotFoundError: it is not there.
          ValueError: the file is no ledger.
        """
        self.file = file
        if not file.is_file():
            if not create:
                raise FileNotFoundError(f"there is no ledger {file}")
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._open() as database:
                if create:
                    database.execute("PRAGMA journal_mode=WAL")
                    database.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
                database.execute("SELECT 1 FROM entries, model")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{file} cannot be read as a ledger: {error}") from None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection, closed at the end; nothing is written unless it is committed."""
        database = sqlite3.connect(self.file, timeout=30.0, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=FULL")  # what is settled survives a loss of power
            yield database
        finally:
            database.close()

    def as_it_stands(self) -> tuple[list[tuple[Any, ...]], list[tuple[int, bytes]]]:
        """Both tables at one moment: all entries in their order, with the text of `about`, and the model."""
        with self._open() as database:
            database.execute("BEGIN")
            return _rows(database), database.execute("SELECT round, parameters FROM model").fetchall()

    def entries(self) -> list[Entry]:
        """All entries in their order."""
        with self._open() as database:
            return [_entry(row) for row in _rows(database)]

    def _one(self, query: str) -> Any:
        """The first column of the first row, or None."""
        with self._open() as database:
            row = database.execute(query).fetchone()
        return None if row is None else row[0]

    @property
    def agreed(self) -> dict[str, Any] | None:
        """What was agreed before the first round; None if nothing is."""
        about = self._one(f"SELECT about FROM entries WHERE kind = '{AGREED}' ORDER BY number")
        return None if about is None else json.loads(about)

    @property
    def settled(self) -> int:
        """The number of the last settled round; 0 if there is none."""
        return self._one("SELECT MAX(round) FROM entries") or 0

    @property
    def absent(self) -> set[str]:
        """The members who did not answer in the last settled round."""
        last = self.settled
        return {e.member for e in self.entries() if e.round == last and e.about.get("absent")}

    @property
    def closed(self) -> bool:
        """Whether the difference to the payments of the whole run is booked: nothing will follow."""
        return self._one(f"SELECT 1 FROM entries WHERE kind = '{DIFFERENCE}'") is not None

    @property
    def head(self) -> str:
        """The digest of the last entry; "" of an empty ledger."""
        return self._one("SELECT digest FROM entries ORDER BY number DESC") or ""

    @property
    def finished(self) -> bool:
        """Whether members have been told how the run ended: nothing is left to do."""
        return self._one(f"SELECT 1 FROM entries WHERE kind = '{FINAL}'") is not None

    def model(self) -> messages.Arrays | None:
        """The model after the last settled round, or before the first; None before anything is agreed."""
        with self._open() as database:
            row = database.execute("SELECT parameters FROM model").fetchone()
        return None if row is None else _unpacked(row[0])

    def balances(self) -> dict[str, int]:
        """What each member has received in all, in smallest units, and the server under ""."""
        query = f"SELECT member, SUM(amount) FROM entries WHERE kind != '{AGREED}' GROUP BY member"
        with self._open() as database:
            return dict(database.execute(query).fetchall())

    def agree(self, about: dict[str, Any], model: messages.Arrays) -> None:
        """Enters what was agreed, and the model before the first round; a `ValueError` if something is."""
        refusal = "the ledger has begun already"
        self._enter([(AGREED, 0, Line(SERVER, 0, about))], 0, model, lambda: not self.head, refusal)

    def settle(self, number: int, lines: Sequence[Line], model: messages.Arrays) -> None:
        """Settles a round in one transaction: all lines and the model, or nothing.

        Raises:
          ValueError: it is not the next round, the amounts do not sum to 0, nothing was agreed, or the ledger
            is closed.
        """

        def allowed() -> bool:
            return bool(self.head) and number == self.settled + 1 and not self.closed

        refusal = f"round {number} cannot be settled now"
        self._enter([(MEMBER, number, line) for line in lines], number, model, allowed, refusal)

    def close(self, lines: Sequence[Line]) -> None:
        """Books the differences at the end of the run; a `ValueError` if that was done, or nothing agreed."""

        def allowed() -> bool:
            return bool(self.head) and not self.closed

        refusal = "the books are closed already, or were never opened"
        self._enter([(DIFFERENCE, 0, line) for line in lines], None, None, allowed, refusal)

    def finish(self, lines: Sequence[Line]) -> None:
        """Enters what members say of the final model; a `ValueError` if that was done already."""
        refusal = "the books are not closed, or the run is finished already"
        self._enter(
            [(FINAL, 0, x) for x in lines], None, None, lambda: self.closed and not self.finished, refusal
        )

    def _enter(
        self,
        lines: Sequence[tuple[str, int, Line]],
        number: int | None,
        model: messages.Arrays | None,
        allowed: Callable[[], bool],
        refusal: str,
    ) -> None:
        """Appends entries, and replaces the model if one is given, in one transaction.

        Whether that is `allowed` is asked when no other process can write any more.
        """
        if total := sum(line.amount for *_, line in lines):
            raise ValueError(f"{self.file}: amounts must sum to 0, got {total}")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            if not allowed():
                raise ValueError(f"{self.file}: {refusal}")
            last = database.execute("SELECT number, digest FROM entries ORDER BY number DESC").fetchone()
            place, head = last or (0, "")
            for kind, of_round, line in lines:
                place += 1
                told = json.dumps(line.about, ensure_ascii=False, allow_nan=False, sort_keys=True)
                row = place, kind, of_round, line.member, line.amount, told, now
                head = _digest(head, *row)
                database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, head))
            if model is not None:
                database.execute("DELETE FROM model")
                database.execute("INSERT INTO model VALUES (?, ?)", (number, _packed(model)))
            database.execute("COMMIT")


def _digest(before: str, *row: Any) -> str:
    """SHA-256 of an entry, as it stands there, and of the digest before it."""
    return hashlib.sha256(json.dumps([before, *row], ensure_ascii=False, default=repr).encode()).hexdigest()


def _rows(database: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """All entries in their order, as they stand there; bytes that are no text as Python writes them."""
    database.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    columns = ", ".join(Entry._fields)
    return database.execute(f"SELECT {columns} FROM entries ORDER BY number").fetchall()


def _entry(row: tuple[Any, ...]) -> Entry:
    """An entry as it stands there, with `about` as values."""
    return Entry(*row[:5], json.loads(row[5]), *row[6:])


def _packed(model: messages.Arrays) -> bytes:
    """A model in numpy's format of several arrays."""
    file = io.BytesIO()
    np.savez(file, **model)
    return file.getvalue()


def _unpacked(parameters: bytes) -> messages.Arrays:
    """The model of which `_packed` made this."""
    with np.load(io.BytesIO(parameters)) as stored:
        return {path: stored[path] for path in stored.files}


def agreement_of(ledger: Ledger) -> Agreement:
    """What payments depend on, as the ledger has it; a `ValueError` if nothing was agreed."""
    if (agreed := ledger.agreed) is None:
        raise ValueError(f"{ledger.file}: nothing has been agreed yet")
    return Agreement.from_dict(agreed["agreement"])


def contributed(entries: Sequence[Entry], names: Sequence[str]) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    """Samples [n] and who was there, of every settled round in its order."""
    place = {name: i for i, name in enumerate(names)}
    rounds: dict[int, tuple[np.ndarray, list[int]]] = {}
    for entry in entries:
        if entry.kind == MEMBER and entry.member != SERVER:
            samples, there = rounds.setdefault(entry.round, (np.zeros(len(names), int), []))
            if not entry.about["reason"]:
                samples[place[entry.member]] = entry.about["samples"]
                there.append(place[entry.member])
    return [(samples, tuple(sorted(there))) for _, (samples, there) in sorted(rounds.items())]


def differences(agreement: Agreement, entries: Sequence[Entry]) -> np.ndarray:
    """[n + 1] what is still to be booked at the end: payments of the whole run less those of its rounds."""
    whole = settlement.of_run(agreement, contributed(entries, agreement.names))
    names = [*agreement.names, SERVER]
    booked = dict.fromkeys(names, 0)
    for entry in entries:
        if entry.kind == MEMBER:
            booked[entry.member] += entry.amount
    return whole - np.array([booked[name] for name in names])


def complaints(ledger: Ledger) -> list[str]:
    """What is inconsistent in a ledger, a sentence each that names the entry; [] if nothing is.

    Recomputes every digest, every payment from what was contributed and agreed, and every sum.
    """
    try:
        rows, models = ledger.as_it_stands()
    except sqlite3.DatabaseError as error:
        return [f"{ledger.file} cannot be read: {error}"]
    head = ""
    for place, (number, *row, digest) in enumerate(rows, start=1):
        if number != place:
            return [f"entry {number}: entry {place} is missing before it"]
        if digest != _digest(head, number, *row):
            return [f"entry {place}: it, or the one before, has been changed: its digest does not fit"]
        head = digest
    if not rows:
        return ["a model is stored, but there is no entry 1"] if models else []
    entries = [_entry(row) for row in rows]
    if entries[0].kind != AGREED:
        return ["entry 1: it must say what was agreed"]
    agreement = Agreement.from_dict(entries[0].about["agreement"])
    if fault := _misplaced(agreement, entries):
        return [fault]
    return _complaints_of_amounts(agreement, entries) + _complaints_of_model(models, entries)


def _misplaced(agreement: Agreement, entries: Sequence[Entry]) -> str:
    """The first entry that should not be where it is; "" if there is none.

    After what was agreed, every round has an entry of each member and one of the server, and so has the end.
    """
    names = [*agreement.names, SERVER]
    rounds = range(1, agreement.rounds + 1)
    blocks = [[(MEMBER, number, name) for name in names] for number in rounds]
    blocks += [[(DIFFERENCE, 0, name) for name in names], [(FINAL, 0, name) for name in agreement.names]]
    places = itertools.chain(*blocks)
    for entry in entries[1:]:
        if (entry.kind, entry.round, entry.member) != next(places, None):
            return f"entry {entry.number}: one of this kind, round and member has no place there"
    if len(entries) - 1 not in itertools.accumulate(map(len, blocks), initial=0):
        return f"entry {len(entries)}: those of the others are missing after it"
    return ""


def _complaints_of_amounts(agreement: Agreement, entries: Sequence[Entry]) -> list[str]:
    """Which amounts do not follow from what was contributed."""
    right = {}
    for number, (samples, there) in enumerate(contributed(entries, agreement.names), start=1):
        right[MEMBER, number] = settlement.of_round(agreement, samples, there)
    right[DIFFERENCE, 0] = differences(agreement, entries)
    right[FINAL, 0] = np.zeros(len(agreement.names), int)
    place = {name: i for i, name in enumerate([*agreement.names, SERVER])}
    found = []
    for entry in entries[1:]:
        amount = int(right[entry.kind, entry.round][place[entry.member]])
        if entry.amount != amount:
            what = f"round {entry.round} settles" if entry.round else "the end books"
            booked = f"{entry.amount} with {entry.member or 'the server'}"
            found.append(f"entry {entry.number}: {what} {booked}; by what was contributed it is {amount}")
    return found


def _complaints_of_model(models: Sequence[tuple[int, bytes]], entries: Sequence[Entry]) -> list[str]:
    """Whether what is stored is the model that the last settled round names, and nothing else."""
    settled = max(entry.round for entry in entries)
    try:
        ((number, parameters),) = models
        fits = number == settled and messages.digest_of(_unpacked(parameters)) == _named_model(entries)
    except Exception:  # bytes that were changed may be anything
        fits = False
    return [] if fits else [f"the stored model is not that of round {settled}, as its entries name it"]


def _named_model(entries: Sequence[Entry]) -> str:
    """The digest of the model after the last settled round, or before the first."""
    with_model = [entry for entry in entries if "model" in entry.about]
    return with_model[-1].about["model"]
