import json
import shutil
import sqlite3
import threading

import numpy as np
import pytest

from fedgame.federation import conduct, messages, settlement
from fedgame.federation import ledger as ledgers
from fedgame.federation.ledger import Ledger, Line

NAMES = ("Ann", "Bob", "Çem")
COLUMNS = ("number", "kind", "round", "member", "amount", "about", "time", "digest")
OTHER = {
    "number": [0, 99, -1],
    "kind": ["difference", "member", "gift", ""],
    "round": [0, 1, 2, 4],
    "member": ["", "Ann", "Çem", "Dan"],
    "amount": [0, 1, -1, 2.5, "much", b"\xff"],
    "about": ["{}", "", "no JSON", "null", "7", b"\xff"],
    "time": ["2020-01-01T00:00:00+00:00", "", b"\xff"],
    "digest": ["", "0" * 64, b"\xff"],
}


@pytest.fixture(scope="module")
def whole(federation, sites, tmp_path_factory):
    """The file of a run of three rounds, of which Bob missed the second."""
    there = sites()

    def bob(values, bob=there["Bob"]):
        if values["kind"] == "Train" and values["round"] == 2:
            raise OSError("away")
        return bob(values)

    file = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    conduct.run(federation(), Ledger(file, create=True), conduct.InProcess(there | {"Bob": bob}))
    return file


@pytest.fixture
def ledger(whole, tmp_path):
    """A copy of it."""
    return Ledger(shutil.copy(whole, tmp_path / "copy.sqlite") and tmp_path / "copy.sqlite")


@pytest.fixture
def begun(tmp_path, whole):
    """A ledger in which the same was agreed, and nothing settled."""
    made, agreed = Ledger(tmp_path / "new" / "ledger.sqlite", create=True), Ledger(whole)
    model = agreed.model()
    made.agree(agreed.agreed | {"model": messages.digest_of(model)}, model)
    return made


def execute(ledger, query, *values):
    """Changes the file, as somebody could who knows SQLite."""
    database = sqlite3.connect(ledger.file, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous=OFF")
        return database.execute(query, values).fetchall()
    finally:
        database.close()


def forge(ledger, change=lambda rows: rows):
    """Changes all rows, and gives them digests that fit: whoever has no head of the chain cannot tell."""
    rows, head = change([list(row[:-1]) for row in ledger.as_it_stands()[0]]), ""
    execute(ledger, "DELETE FROM entries")
    for place, row in enumerate(rows, start=1):
        head = ledgers._digest(head, place, *row[1:])
        execute(ledger, "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?)", place, *row[1:], head)


def dump(ledger):
    return [execute(ledger, f"SELECT * FROM {table}") for table in ("entries", "model")]


def lines(*amounts, reason=""):
    return [
        Line(name, x, {"samples": 4, "reason": reason}) for name, x in zip((*NAMES, ""), amounts, strict=True)
    ]


def test_the_ledger_of_a_run_is_consistent_and_says_all(ledger):
    assert ledgers.complaints(ledger) == []
    entries = ledger.entries()
    kinds = [(entry.kind, entry.round, entry.member) for entry in entries]
    rounds = [(ledgers.MEMBER, number, name) for number in (1, 2, 3) for name in (*NAMES, "")]
    ends = [(ledgers.DIFFERENCE, 0, name) for name in (*NAMES, "")]
    said = [(ledgers.FINAL, 0, name) for name in NAMES]
    assert kinds == [(ledgers.AGREED, 0, ""), *rounds, *ends, *said]
    assert [entry.number for entry in entries] == list(range(1, 21))
    assert (ledger.settled, ledger.closed, ledger.finished) == (3, True, True)
    assert ledger.head == entries[-1].digest
    assert [entry.about["reason"] for entry in entries if entry.member == "Bob" and entry.round == 2] == [
        "OSError: away"
    ]
    samples = ledgers.contributed(entries, NAMES)
    assert [there for _, there in samples] == [(0, 1, 2), (0, 2), (0, 1, 2)]
    assert [drawn[1] > 0 for drawn, _ in samples] == [True, False, True]


def test_rounds_and_the_differences_at_the_end_are_the_payments_of_the_run(ledger):
    entries, agreement = ledger.entries(), ledgers.agreement_of(ledger)
    whole = settlement.of_run(agreement, ledgers.contributed(entries, NAMES)).tolist()
    balances = ledger.balances()
    assert [balances[name] for name in (*NAMES, "")] == whole
    assert sum(whole) == 0
    assert any(whole)
    booked = [entry.amount for entry in entries if entry.kind == ledgers.DIFFERENCE]
    assert booked == ledgers.differences(agreement, entries).tolist()


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_of_any_cell_is_seen_and_the_entry_is_named(ledger, column):
    for number, *row in ledger.as_it_stands()[0]:
        before = dict(zip(COLUMNS, (number, *row), strict=True))
        others = [x for x in OTHER[column] if x != before[column]]
        if column == "about":  # a space more: the same to whoever reads it, but not what was entered
            others += [before[column] + " "]
        for other in others:
            execute(ledger, f"UPDATE entries SET {column} = ? WHERE number = ?", other, number)
            found = ledgers.complaints(ledger)
            assert len(found) == 1, (number, other)
            place = other if column == "number" and other < number else number
            assert found[0].startswith(("entry ", "a model")), found
            # Of an entry that has gone elsewhere the place where it was, or where it is now, is named.
            assert f"entry {place}" in found[0], (number, other, found)
            now = other if column == "number" else number
            execute(ledger, f"UPDATE entries SET {column} = ? WHERE number = ?", before[column], now)
    assert ledgers.complaints(ledger) == []


def test_an_entry_that_is_gone_is_seen(ledger):
    for row in ledger.as_it_stands()[0]:
        execute(ledger, "DELETE FROM entries WHERE number = ?", row[0])
        (found,) = ledgers.complaints(ledger)
        assert f"entry {min(row[0], 19)}" in found
        execute(ledger, "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?)", *row)
    # All from there on. Without 18 to 20 nobody was told yet, without 14 to 17 the run has not ended.
    for last in (20, 19, 17, 16, 15, 13, 12, 10, 1):
        execute(ledger, "DELETE FROM entries WHERE number >= ?", last)
        assert ledgers.complaints(ledger), last


def test_entries_that_have_changed_places_or_are_new_are_seen(ledger):
    rows = ledger.as_it_stands()[0]
    for one, two in ((2, 3), (5, 9), (14, 17), (1, 2), (18, 20)):
        for number, row in ((one, rows[two - 1]), (two, rows[one - 1])):
            execute(ledger, "REPLACE INTO entries VALUES (?,?,?,?,?,?,?,?)", number, *row[1:])
        assert [text.startswith(f"entry {one}: ") for text in ledgers.complaints(ledger)] == [True]
        for row in rows:
            execute(ledger, "REPLACE INTO entries VALUES (?,?,?,?,?,?,?,?)", *row)
    for place in (0, 5, 21):
        for number in range(20, place, -1) if place else ():
            execute(ledger, "UPDATE entries SET number = ? WHERE number = ?", number + 1, number)
        execute(
            ledger,
            "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?)",
            max(place, 0) + (0 < place < 21),
            *rows[2][1:],
        )
        assert len(ledgers.complaints(ledger)) == 1
        execute(ledger, "DELETE FROM entries")
        for row in rows:
            execute(ledger, "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?)", *row)
    assert ledgers.complaints(ledger) == []


def swapped(rows, one, two):
    rows[one], rows[two] = rows[two], rows[one]
    return rows


FORGERIES = {
    "an amount": (
        lambda rows: [[*r[:4], r[4] + (k == 2), *r[5:]] for k, r in enumerate(rows)],
        "entry 3: round 1",
    ),
    "two amounts": (
        lambda rows: [[*r[:4], r[4] + {2: 5, 3: -5}.get(k, 0), *r[5:]] for k, r in enumerate(rows)],
        "entry 3: round 1 settles",
    ),
    "a difference": (
        lambda rows: [[*r[:4], r[4] + {13: 5, 14: -5}.get(k, 0), *r[5:]] for k, r in enumerate(rows)],
        "entry 14: the end books",
    ),
    "a gift": (lambda rows: [*rows, [0, "gift", 0, "Ann", 1000, "{}", ""]], "entry 21: "),
    "an entry twice": (lambda rows: [*rows, rows[-1]], "entry 21: "),
    "a round twice": (lambda rows: rows[:13] + rows[9:13] + rows[13:], "entry 14: "),
    "a round more": (
        lambda rows: rows[:13] + [[*r[:2], 4, *r[3:]] for r in rows[9:13]] + rows[13:],
        "entry 14: ",
    ),
    "a round less": (lambda rows: rows[:5] + rows[9:], "entry 6: "),
    "another order": (lambda rows: swapped(rows, 2, 3), "entry 3: "),
    "no agreement": (lambda rows: rows[1:], "entry 1: it must say what was agreed"),
    "agreed twice": (lambda rows: [*rows, rows[0]], "entry 21: "),
    "a difference after the end": (lambda rows: [*rows, rows[16]], "entry 21: "),
    "what somebody says costs": (
        lambda rows: [[*r[:4], r[4] + {17: 5, 18: -5}.get(k, 0), *r[5:]] for k, r in enumerate(rows)],
        "entry 18: the end books 5 with Ann; by what was contributed it is 0",
    ),
    "an entry less": (lambda rows: rows[:-1], "entry 19: those of the others are missing"),
    "a stranger": (lambda rows: [*rows[:2], [*rows[2][:3], "Dan", *rows[2][4:]], *rows[3:]], "entry 3: "),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_entries_that_do_not_follow_from_contributions_are_seen_even_if_digests_fit(ledger, forgery):
    forge(ledger)
    assert ledgers.complaints(ledger) == []
    change, words = FORGERIES[forgery]
    forge(ledger, change)
    found = ledgers.complaints(ledger)
    assert any(words in text for text in found), found


def test_whoever_has_the_head_sees_every_forgery(ledger):
    """A member is told the head after every round."""
    head = ledger.head
    forge(ledger, lambda rows: [[*row[:6], "2020-01-01"] for row in rows])
    assert ledgers.complaints(ledger) == []
    assert ledger.head != head


def test_another_model_is_seen(ledger):
    ((blob,),) = execute(ledger, "SELECT parameters FROM model")
    model, rng = ledger.model(), np.random.default_rng(0)
    others = [b"", b"model", blob[:-100], 7, "text"]
    others += [ledgers._packed({path: x + np.float32(1e-6) for path, x in model.items()})]
    others += [ledgers._packed({path[:-1]: x for path, x in model.items()}), ledgers._packed({})]
    for other in others:
        execute(ledger, "UPDATE model SET parameters = ?", other)
        assert ledgers.complaints(ledger) == [
            "the stored model is not that of round 3, as its entries name it"
        ]
    for place in rng.integers(0, len(blob), 10):
        execute(
            ledger,
            "UPDATE model SET parameters = ?",
            blob[:place] + bytes([blob[place] ^ 4]) + blob[place + 1 :],
        )
        if not ledgers.complaints(ledger):  # a time in the archive, or the like
            assert all(np.array_equal(x, model[path]) for path, x in ledger.model().items())
    execute(ledger, "UPDATE model SET parameters = ?", blob)
    assert ledgers.complaints(ledger) == []
    for query in ("UPDATE model SET round = 2", "INSERT INTO model SELECT * FROM model", "DELETE FROM model"):
        execute(ledger, query)
        assert len(ledgers.complaints(ledger)) == 1


def test_an_empty_ledger_is_consistent_and_one_with_a_model_alone_is_not(tmp_path, begun):
    assert ledgers.complaints(Ledger(tmp_path / "empty.sqlite", create=True)) == []
    assert ledgers.complaints(begun) == []
    execute(begun, "DELETE FROM entries")
    assert ledgers.complaints(begun) == ["a model is stored, but there is no entry 1"]


def test_what_may_not_follow_is_refused_and_changes_nothing(begun):
    model, none = begun.model(), lines(0, 0, 0, 0)
    begun.settle(1, lines(-5, 3, 2, 0), model)
    before = dump(begun)
    for number in (0, 1, 3, -1):
        with pytest.raises(ValueError, match=rf"round {number} cannot be settled now"):
            begun.settle(number, none, model)
    for wrong in (lines(1, 0, 0, 0), lines(-5, 3, 2, 1)):
        with pytest.raises(ValueError, match="amounts must sum to 0, got 1"):
            begun.settle(2, wrong, model)
        with pytest.raises(ValueError, match="amounts must sum to 0, got 1"):
            begun.close(wrong)
    with pytest.raises(ValueError, match="has begun already"):
        begun.agree(begun.agreed, model)
    with pytest.raises(ValueError, match="JSON compliant"):
        begun.settle(2, [Line("Ann", 0, {"samples": float("nan")})], model)
    assert dump(begun) == before
    begun.settle(2, none, model)
    begun.close(none)
    before = dump(begun)
    with pytest.raises(ValueError, match="round 3 cannot be settled"):
        begun.settle(3, none, model)
    with pytest.raises(ValueError, match="closed already"):
        begun.close(none)
    begun.finish([])
    assert dump(begun) == before


def test_nothing_is_settled_before_anything_is_agreed(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite", create=True)
    with pytest.raises(ValueError, match="cannot be settled"):
        ledger.settle(1, lines(0, 0, 0, 0), {})
    with pytest.raises(ValueError, match="never opened"):
        ledger.close(lines(0, 0, 0, 0))
    with pytest.raises(ValueError, match="nothing has been agreed"):
        ledgers.agreement_of(ledger)
    assert (ledger.settled, ledger.head, ledger.model(), ledger.agreed, ledger.balances()) == (
        0,
        "",
        None,
        None,
        {},
    )


def test_a_transaction_that_dies_leaves_nothing(begun, monkeypatch):
    before, model = dump(begun), begun.model()

    def die(model):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "_packed", die)
        with pytest.raises(KeyboardInterrupt):
            begun.settle(1, lines(-5, 3, 2, 0), model)
    assert dump(begun) == before
    assert ledgers.complaints(begun) == []
    begun.settle(1, lines(-5, 3, 2, 0), model)
    assert begun.settled == 1


def test_two_processes_do_not_settle_the_same_round_both(begun, monkeypatch):
    """The second one decides before the first one has entered anything."""
    model, packed, both, failed = begun.model(), ledgers._packed, threading.Barrier(2), []
    enter = Ledger._enter

    def after_both_have_decided(*args):
        both.wait(10)
        enter(*args)

    monkeypatch.setattr(Ledger, "_enter", after_both_have_decided)

    def settle():
        try:
            begun.settle(1, lines(-5, 3, 2, 0), model)
        except ValueError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=settle) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text.endswith("round 1 cannot be settled now") for text in failed] == [True]
    assert len(begun.entries()) == 5
    assert begun.balances() == {"Ann": -5, "Bob": 3, "Çem": 2, "": 0}
    assert packed(model)


def test_a_round_that_is_settled_while_the_ledger_is_verified_is_no_complaint(begun, monkeypatch):
    rows = ledgers._rows

    def then_settled(database):
        found = rows(database)
        monkeypatch.undo()
        begun.settle(1, lines(0, 0, 0, 0), {path: x + 1 for path, x in begun.model().items()})
        return found

    monkeypatch.setattr(ledgers, "_rows", then_settled)
    assert ledgers.complaints(begun) == []
    assert begun.settled == 1


def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no ledger"):
        Ledger(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.sqlite").write_text("a text that is long enough to be no database" * 100)
    sqlite = tmp_path / "other.sqlite"
    database = sqlite3.connect(sqlite)
    database.execute("CREATE TABLE recipes (name)")
    database.close()
    for file, words in ((tmp_path / "text.sqlite", "cannot be read"), (sqlite, "no such table")):
        before = file.read_bytes()
        with pytest.raises(ValueError, match=words):
            Ledger(file)
        assert len(file.read_bytes()) == len(before)
    with pytest.raises(ValueError, match="cannot be read as a ledger"):
        Ledger(tmp_path, create=True)


def test_a_damaged_file_is_a_complaint(ledger):
    data = bytearray(ledger.file.read_bytes())
    data[4096 * 1 : 4096 * 2] = b"\xff" * 4096
    ledger.file.write_bytes(data)
    (found,) = ledgers.complaints(ledger)
    assert "cannot be read" in found


def test_an_entry_is_what_it_was(begun):
    given = {"samples": 3, "cost": 1 / 3, "accuracy": None, "reason": "“déjà vu”\n", "message": "ab" * 32}
    begun.settle(1, [Line("Ann", 2**60, given), Line("", -(2**60), {"model": ""})], {"w": np.float32([1, 2])})
    _, entry, of_server = begun.entries()
    assert (entry.member, entry.amount, entry.about, entry.round) == ("Ann", 2**60, given, 1)
    assert (of_server.member, of_server.amount) == ("", -(2**60))
    assert json.loads(execute(begun, "SELECT about FROM entries WHERE number = 2")[0][0]) == given
    np.testing.assert_array_equal(begun.model()["w"], np.float32([1, 2]))
