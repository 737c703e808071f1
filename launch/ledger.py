"""Shows and verifies the ledger of a federation, and exports it.

  python -m launch.ledger --workdir=results/federation_digits    # balances; is it consistent?
  python -m launch.ledger --workdir=DIR --member=NAME            # what she gave and received, and why
  python -m launch.ledger --workdir=DIR --log=hers.log           # is it the one that a member has heard of?
  python -m launch.ledger --workdir=DIR --export=FOLDER          # all as CSV and texts

Verifies every digest, replays every payment from what was contributed and agreed, and exits with 1 if
anything is inconsistent, naming the entry. It may be called while the federation runs.
"""

import os
import pathlib
import sys

from absl import flags

from fedgame.federation import ledger, statements
from fedgame.games import scenarios
from fedgame.report import answers, money, tables
from fedgame.runs import settings, workdir
from launch import running, settings_flags

WORKDIR = flags.DEFINE_string("workdir", None, "directory of a run of launch.federation, or a ledger.sqlite")
MEMBER = flags.DEFINE_string("member", None, "print the statement of this member")
EXPORT = flags.DEFINE_string("export", None, "folder for ledger.csv, settled.csv and a statement per member")
LOG = flags.DEFINE_string("log", None, "a member's log: is the ledger the one that she has heard of?")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what is in --export")
flags.declare_key_flag("use")


def main(argv: list[str]) -> None:
    settings_flags.start(argv)
    settings_flags.check_devices()
    if WORKDIR.value is None:
        raise ValueError("give --workdir=DIR, a directory that launch.federation has written")
    file = pathlib.Path(os.path.expanduser(WORKDIR.value))
    if file.is_dir():
        file = file / workdir.LEDGER / ledger.FILE
    opened = ledger.Ledger(file)
    if wrong := ledger.complaints(opened):
        sys.exit("error: the ledger is inconsistent\n" + "\n".join(wrong))
    entries, agreement = opened.entries(), ledger.agreement_of(opened)
    if LOG.value is not None:
        _compare(LOG.value, entries)
    used = money.currency(entries[0].about.get("currency", ""))
    if MEMBER.value is not None:
        shown = {answers.called(name): name for name in agreement.names}  # as tables call them
        name = shown.get(MEMBER.value, MEMBER.value)
        print("\n".join(statements.statement(name, entries, agreement, used)))
    else:
        print(_shown(opened, agreement, used))
    if EXPORT.value is not None:
        _export(pathlib.Path(os.path.expanduser(EXPORT.value)), entries, agreement, used)


def _compare(name: str, entries: list[ledger.Entry]) -> None:
    """Says whether a member's log fits the ledger; exits with 1 if it does not."""
    with settings.of_flag("log"):
        log = scenarios.read_bytes(os.path.expanduser(name)).decode("utf-8", "replace")
    digests = statements.heard(log)
    if not digests:
        raise ValueError(f"--log={name} has nothing on a ledger")
    if wrong := statements.contradictions(log, entries):
        sys.exit("error: the ledger is not the one that she has heard of\n" + "\n".join(wrong))
    print(f"What she has heard of the ledger, {len(digests)} times, is in it.\n")


def _shown(opened: ledger.Ledger, agreement: ledger.Agreement, used: money.Currency) -> str:
    """Balances, and how far the run is."""
    rows = statements.member_rows(opened.entries(), agreement)
    header = ["member", "agreed", "rounds", "cost", "balance"]
    cells = [
        [
            answers.called(row["name"]),
            money.samples(row["contribution"]),
            str(row["rounds"]),
            used.amount(row["cost"]),
            statements.amount(round(row["received"] / agreement.unit), agreement.unit, used),
        ]
        for row in rows
    ]
    state = "and the books are closed" if opened.closed else "and the run goes on"
    return (
        f"{opened.settled} of {agreement.rounds} rounds are settled, {state}. The ledger is consistent: "
        f"{len(opened.entries())} entries, the last digest is {opened.head}.\n\n"
        f"{tables.markdown(header, cells)}"
    )


def _export(
    folder: pathlib.Path, entries: list[ledger.Entry], agreement: ledger.Agreement, used: money.Currency
) -> None:
    """Writes the ledger as files that other programs read."""
    texts = {
        "ledger.csv": workdir.to_csv(statements.entry_rows(entries, agreement.unit)),
        "settled.csv": workdir.to_csv(statements.member_rows(entries, agreement)),
    }
    for name in agreement.names:
        lines = statements.statement(name, entries, agreement, used)
        texts[f"statements/{statements.file_of(name)}"] = "\n".join(lines) + "\n"
    there = [name for name in texts if (folder / name).exists()]
    if there and not OVERWRITE.value:
        raise ValueError(f"{folder / there[0]} exists already: replace it by --overwrite")
    for name, told in texts.items():
        workdir.write(folder / name, told)
    print(f"wrote {len(texts)} files to {folder}")


if __name__ == "__main__":
    running.run(main)
