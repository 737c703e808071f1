"""A member's part of a federation between several machines: makes her file, and takes part.

  python -m launch.member --data=hers.csv --statistics=hers_statistics.json  # what she tells of her columns
  python -m launch.member --like=agreed --data=hers.csv --cost='linear(rate=25)' --value=9000 --out=hers.json
  python -m launch.member --member=hers.json --kit=site-1

`--like` is what launch.agree has made of all members' statistics, or a model that launch.train has left: by
it members agree on network, columns and classes; its parameters are not used. Her file has her cost, her
value and her limit in clear, to be looked at and changed; beside it are her records as the network sees them.
Neither leaves her machine. With --kit, the folder of certificates that whoever runs the server gave her, she
takes part until the run is over, and is told what happens.
"""

import os
import pathlib
import secrets
import threading
import time

import numpy as np
from absl import flags

from fedgame import registry
from fedgame.experiments import trained
from fedgame.federation import kits, member, messages, processes
from fedgame.inputs import federated_statistics
from fedgame.inputs import members as inputs
from fedgame.learning import federated, tables
from fedgame.runs import workdir
from launch import running, settings_flags

LIKE = flags.DEFINE_string(
    "like", None, "directory that launch.agree or launch.train has left: what was agreed"
)
DATA = flags.DEFINE_string("data", None, "her table, or FILE.npz with images and labels")
TARGET = flags.DEFINE_string(
    "target", None, "column of the class; not given: that of --like, or the last one"
)
STATISTICS = flags.DEFINE_string(
    "statistics", None, "file for what she tells of the columns of --data: means and deviations, no records"
)
CATEGORICAL = flags.DEFINE_list(
    "categorical", [], "with --statistics: columns of numbers that are categories, separated by commas"
)
WITHOUT = flags.DEFINE_list("without", [], "with --statistics: columns that are ignored")
FEWEST = flags.DEFINE_integer(
    "fewest", 5, "with --statistics: nothing is told of numbers, or of a text, in fewer records", 1
)
COST = flags.DEFINE_string("cost", None, "what sharing costs her, as in 'linear(rate=25)'")
VALUE = flags.DEFINE_float("value", 1.0, "what accuracy 1 is worth to her, in the currency of her cost", 0)
NAME = flags.DEFINE_string("name", "", "what the scenario calls her; her file then fits no kit but hers")
MOST_PAID = flags.DEFINE_float(
    "most_paid",
    None,
    "the most that she pays for the whole run; if it would cost her more, nothing begins",
    0,
)
LIMIT = flags.DEFINE_float("limit", None, "the most samples that she shares; all that are not held out", 0)
TESTED = flags.DEFINE_float("tested", 0.25, "share of her records that she holds out, to measure on", 0, 0.9)
CLIP = flags.DEFINE_float("clip", None, "the largest norm of an update that leaves her; not given: any", 0)
NOISE = flags.DEFINE_float("noise", 0.0, "deviation of the noise on her updates, as a multiple of --clip", 0)
OUT = flags.DEFINE_string("out", "member.json", "her file")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace her file if it is there")
MEMBER = flags.DEFINE_string("member", "member.json", "with --kit: her file")
KIT = flags.DEFINE_string("kit", None, "her startup kit: take part")
PATIENCE = flags.DEFINE_float(
    "patience", 60.0, "with --kit: seconds until the server must have let her in", 1
)
WAIT = flags.DEFINE_float(
    "wait", 3600.0, "with --kit: seconds without an answer of the server after which she stops waiting", 1
)
flags.declare_key_flag("use")

_QUIET = 10.0  # seconds without news after which she looks whether the server is there


def main(argv: list[str]) -> None:
    settings_flags.start(argv)
    if KIT.value:
        take_part(pathlib.Path(os.path.expanduser(KIT.value)), pathlib.Path(os.path.expanduser(MEMBER.value)))
        return
    settings_flags.check_devices()
    if STATISTICS.value:
        tell()
        return
    missing = [flag.name for flag in (LIKE, DATA, COST) if flag.value is None]
    if missing:
        raise ValueError(f"give --{' --'.join(missing)}, or --kit to take part")
    out = _free("out", OUT.value)
    private = _private()
    member.save(out, private)
    print(
        f"{out} has her cost, value and limit, {out.with_suffix('.npz')} {len(private.train.labels)} records "
        f"to train on and {len(private.test.labels)} that are held out; she shares at most {private.limit:g}"
    )


def _free(flag: str, name: str) -> pathlib.Path:
    """The JSON file that a flag names; a ValueError if it is there and must not be replaced."""
    file = pathlib.Path(os.path.expanduser(name))
    if file.suffix != ".json":
        raise ValueError(f"--{flag}={name}: the file must end in .json")
    if file.exists() and not OVERWRITE.value:
        raise ValueError(f"{file} exists already: replace it by --overwrite, or name another --{flag}")
    return file


def _table() -> pathlib.Path:
    """Her --data."""
    file = pathlib.Path(os.path.expanduser(DATA.value))
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    return file


def tell() -> None:
    """Writes what she tells of her columns, and prints what that is."""
    out = _free("statistics", STATISTICS.value)
    if DATA.value is None:
        raise ValueError("give --data, her table")
    own, remarks = federated_statistics.of_table(
        _table(), TARGET.value, CATEGORICAL.value, WITHOUT.value, FEWEST.value
    )
    workdir.write(out, workdir.to_json(federated_statistics.to_dict(own)))
    for remark in remarks:
        print(remark)
    print(
        f"{out} tells of {own.records} records what classes `{own.target}` has, and of {len(own.columns)} "
        "other columns mean and deviation, or which texts occur: look at it, and send it to whoever runs "
        "launch.agree"
    )


def _private() -> member.Private:
    """What she has, from the flags."""
    agreed, file = trained.load(LIKE.value), _table()
    if agreed.preparation is not None:
        columns, labels, remarks = inputs.own_table(
            file, TARGET.value or agreed.target, agreed.preparation.schema, agreed.classes
        )
        for remark in remarks:
            print(remark)
        records = tables.prepared(agreed.preparation, columns)
    else:
        with np.load(file, allow_pickle=False) as stored:
            records, labels = agreed.inputs(stored["images"]), stored["labels"].astype(np.int32)
    order = np.random.default_rng(secrets.randbits(64)).permutation(len(labels))
    held_out, kept = np.split(order, [int(np.rint(TESTED.value * len(labels)))])
    return member.check(
        member.Private(
            cost=registry.read("cost", COST.value),
            value=VALUE.value,
            limit=float(len(kept) if LIMIT.value is None else LIMIT.value),
            train=federated.Images(records[kept], labels[kept]),
            test=federated.Images(records[held_out], labels[held_out]),
            clip=CLIP.value or np.inf,
            noise=NOISE.value,
            secret=secrets.randbits(64),
            most_paid=np.inf if MOST_PAID.value is None else MOST_PAID.value,
            name=NAME.value,
            like=str(pathlib.Path(os.path.expanduser(LIKE.value)).resolve()),
            agreed=trained.digest(agreed),
        )
    )


def keep_model(file: pathlib.Path) -> None:
    """Makes the final model that she was given one that `fedgame.load_model` reads."""
    like, folder = member.load(file).like, file.with_name(f"{file.stem}_model")
    if folder.exists() or not pathlib.Path(like).is_dir():
        print(f"the parameters of the final model are in {member.model_file(file)}")
        return
    trained.save_like(workdir.Workdir(folder), like, messages.from_arrays(member.load_model(file)))
    print(f"the final model is in {folder}: fedgame.load_model reads it")


def take_part(kit: pathlib.Path, file: pathlib.Path) -> None:
    """Starts her site, and prints what happens to her until the run is over or she is interrupted.

    Raises:
      ValueError: the server does not let her in, or is gone for longer than --wait.
    """
    member.load(file)  # refuses what cannot be used before anything is started
    for part in ("sub_start.sh", "fed_client.json"):
        if not (kit / "startup" / part).is_file():
            raise ValueError(f"{kit} is no startup kit of a member: it has no startup/{part}")
    mark, log, stop = processes.marked(kit), file.with_suffix(".log"), threading.Event()
    running.stop_at_signals(stop, "ending her site")
    processes.end_all(mark)
    told = log.stat().st_size if log.exists() else 0
    kits.start(kit, dict(os.environ) | mark | {kits.MEMBER: str(file.resolve())})
    try:
        kits.wait_until_registered(kit, PATIENCE.value, stop)
        print(f"{kit.name} is connected to the server", flush=True)
        said, news, lost = "", time.monotonic(), None
        while not stop.is_set() and member.OVER not in said:
            stop.wait(1.0)
            if log.exists():
                with log.open(encoding="utf-8") as opened:
                    opened.seek(told)
                    said = opened.read()
                    told = opened.tell()
                print(said, end="", flush=True)
            if said:
                news, lost = time.monotonic(), None
            elif time.monotonic() - news > _QUIET:
                lost = kits.lost_since(kits.server_of(kit), lost, WAIT.value)
                news = time.monotonic()
        stop.wait(3.0)  # for the server to hear her last answer
        if member.OVER in said:
            keep_model(file)
    finally:
        processes.end_all(mark)


if __name__ == "__main__":
    running.run(main)
