"""What benchmarks/fuzz.py runs: commands that work, with their files, and changes that spoil them.

A change has all that was drawn for it, so that a case can be made again with fewer of its changes. One that
finds nothing to change leaves the case as it is.
"""

import dataclasses
import gzip
import importlib
import io
import json
import pathlib
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
TINY = "--agents=2 --capacity=5 --rounds=1 --epochs=1 --channels=1,1 --units=2 --held_out=20"
MEASURED = "--curve_points=2 --curve_seeds=1 --workers=1 --cache="
OWN = "--rounds=1 --splits=2 --runs=10 --workers=1 --cache="
POWER = "--family=power --best=0.97 --scale=6 --power=0.8 --shift=12 --cost=0.004,0.005 --capacity=100"
STUDY = "study --curve=curve.csv --agents=2 --capacity=20"
# Commands that work. A word with the name of a file or a folder of `files` brings it.
BASES = (
    "equilibrium --agents=agents.csv --curve=curve.csv",
    "equilibrium --agents=agents.csv --curve=curve.csv --fit=concave --bootstrap=3 --conditions",
    f"equilibrium {POWER}",
    "equilibrium --family=bound --best=0.95 --difficulty=2 --cost=0.0004,0.0005 --exponent=2 --conditions",
    "equilibrium --payoff='power(best=[0.97, 0.9], scale=6, exponent=0.8, shift=12)' "
    "--cost='power(rate=[0.001, 0.002], exponent=1.5)' --capacity=100",
    "equilibrium --scenario=scenario.json",
    "equilibrium --agents=members.csv --measurements=measured",
    "equilibrium --agents=members.csv --curve=curve.csv --exchange_rates=exchange_rates.csv",
    "equilibrium --use=saturation.py --payoff='saturation(best=[0.9, 0.95], half=20)' "
    "--cost=0.01,0.02 --capacity=9",
    "equilibrium --flagfile=power.flags",
    f"equilibrium {POWER} --sweep=held=0,5",
    *(
        f"mechanism --agents=agents.csv --curve=curve.csv --over_beta=3 --mechanism={name}"
        for name in ("personal", "none", "shapley", "prices", "price", "designed", "falkinger", "'beta(0.5)'")
    ),
    f"mechanism {POWER} --mechanism=beta_star --over_beta=3",
    "mechanism --scenario=scenario.json --over_beta=3",
    "mechanism --agents=agents.csv --curve=curve.csv --over_beta=3 --mechanism=price --currency=EUR",
    "equilibrium --agents=agents.csv --curve=curve.csv --currency=JPY --outside=0.5",
    f"curve {TINY} {MEASURED}",
    f"train {TINY}",
    f"train {TINY} --dataset=mnist --data_dir=prepared",
    "train --federation=tables --rounds=1",
    "train --federation=images --rounds=1 --epochs=1 --channels=1,1 --units=2",
    f"compare {TINY} {MEASURED} --seeds=1 --steps=3",
    f"compare --federation=tables --cost=0.002 --seeds=1 --steps=3 {OWN}",
    f"measure --federation=tables {OWN}",
    f"measure --federation=arrays --model=linear {OWN}",
    f"measure --federation=images --model=linear {OWN}",
    f"{STUDY} --study=unequal_costs --ratios=1,4",
    f"{STUDY} --study=costs --costs=0.002,0.01 --draws=2",
    f"{STUDY} --study=misreports --ratios=1 --largest_factor=2",
    "study --curve=curve.csv --capacity=20 --study=agents --counts=2,3",
    "study --curve=curve.csv --capacity=20 --study=rounding --counts=2 --intervals=5 --starts=2 --steps=5",
    "federation --agents=2 --capacity=5 --test_images=2 --rounds=2 --model=linear "
    "--protocol='fedbr(beta_star, steps=2)' --cost='linear(rate=[0.01, 0.02])'",
    "federation --federation=tables --rounds=1 --protocol='fedbr(price(price=5), steps=2)' "
    "--cost='linear(rate=[20, 40])' --value=100000 --currency=EUR --clip=1 --noise=0.1",
    "federation --scenario=scenario.json --rounds=1 --model=linear --test_images=2 --protocol=fedavg",
    "ledger --workdir=settled",
    "ledger --workdir=settled --log=settled/federation/members/site-1.log",
    "ledger --workdir=settled --member=2 --export=exported",
    "member --like=trained --data=tables/Cleveland.csv --cost='linear(rate=20)' --value=9 --out=hers.json",
    "member --data=tables/Cleveland.csv --statistics=tells.json --fewest=2 --without=age",
    "agree --statistics=told --model=mlp",
    "check --rule='price(price=0.004)' --cost='linear(rate=0.1)'",
    "check --protocol=fedavg --payoff='bound(best=0.9, difficulty=1)'",
    "check --use=saturation.py --payoff='saturation(best=[0.9, 0.95, 0.8], half=20)'",
    "reference --out=reference.md",
    "report scenario --out=page.html",
    "report scenario measured --out=page.html",
    "example --workdir=there",
    "prepare --dataset=mnist --data_dir=data --raw_dir=raw",
)
SWEEPS = (
    "held=0,1",
    "held=",
    "held",
    "=1",
    "nothing=1,2",
    "cost=0.1+0.2,1",
    "held=0,0",
    "fit=power,power",
    ",",
)
# Commands whose results are files that bases read, by the name of their folder.
MADE = {
    "measured": f"measure --federation=tables {OWN} --workdir=measured",
    "prepared": "prepare --dataset=mnist --data_dir=prepared --raw_dir=raw",
    "settled": "federation --agents=2 --capacity=5 --test_images=2 --rounds=2 --model=linear "
    "--protocol='fedbr(beta_star, steps=2)' --cost='linear(rate=[0.01, 0.02])' --workdir=settled",
    "trained": "train --federation=tables --rounds=1 --workdir=trained",
    "scenario": "mechanism --agents=agents.csv --curve=curve.csv --over_beta=3 --workdir=scenario",
}
SATURATION = '''
from fedgame import registry
from fedgame.games import payoffs

@registry.register("saturation")
class Saturation(payoffs.OfTotal):
    """Half of the best accuracy at `half` samples."""

    best: object = registry.option("of endless data, accuracy", low=0)
    half: object = registry.option("samples that bring half of it", above=0)

    def curve(self, total):
        return self.best * total / (total + self.half)
'''
PLAUSIBLE = _words(
    "0 0.5 1 2 3 5 100 0.001 1e-9 1e-300 1e9 1e17 1e30 0.999 0,0.5 1,2,3 0.5,0.5 -inf 1,-1 true false"
)
NUMBERS = (
    *_words("1e308 -1e308 1e400 1e-320 5e-324 1e17 -0 0 -1 1 2 0.5 1.0 nan inf -inf 1_0 1,5 ９ ٣ 0x10 1e +1"),
    *("60 €", "", " 7 ", "9" * 40, "true", "None", "1/2"),
)
TEXTS = (
    *_words(r"=1+1 #1 $x$ $ beta total others nan a|b ../x é @x - %2F \frac {x} %s a;b 𝒙"),
    *("x" * 300, "\udcff", "e\u0301", '"', "'", "a\nb", "\t", "\0", "\u202e", "\ufeff", "clinic 1"),
)
SPECS = (
    *_words(
        "power(best= price(price=nan) price(price=-1) price() fedbr(fedbr) personal(transfers='x') prices"
    ),
    *_words("linear(rate=[]) linear(rate=[1,2,3,4]) power(1,2,3,4,5,6,7) f(x=1)(2) () beta(beta=2) fedavg,"),
    *_words(
        "designed(p=inf) linear(w=[[1,2],[3]]) linear(w=[[0,1],[1,0]]) random_coverage(q=[[0.5,0.5],[1,0]])"
    ),
    *("power(best=[[1]], scale=1, exponent=1)", "none", "None()", "data_maximizing(epsilon=1e9)", "a" * 500),
)
PATHS = (
    *_words("~/x ~nosuch/x /proc/x /dev/null . .. missing http://127.0.0.1:9/"),
    *("x/" * 200, "a" * 300),
)
KINDS = ("directory", "pipe", "dangling", "loop", "binary", "empty")
COMMON = _words("workdir sweep use cache workers save_every devices data_dir flagfile nothing")
_LINES = ("", "#", "# x", ",", ",,,,,,,,,,", '"', "name,cost,capacity", "0,0,0", "a,1,1")


class Case(NamedTuple):
    """A command and all that it can read."""

    words: tuple[str, ...]  # the command and its flags
    files: dict[str, bytes]
    special: dict[str, str]  # path -> one of KINDS that no file can be
    platform: str = "cpu"


class Change(NamedTuple):
    """A function of a case, with what was drawn for it."""

    function: Callable[..., Case]
    drawn: tuple[Any, ...]

    def apply(self, case: Case) -> Case:
        return self.function(case, *self.drawn)

    def __str__(self) -> str:
        return f"{self.function.__name__}({', '.join(ascii(x)[:80] for x in self.drawn)})"


def files() -> dict[str, bytes]:
    """The files of the bases but those that commands make, by their paths."""
    agents, curve = (_head(EXAMPLES / f"{name}.csv", 5) for name in ("agents", "curve"))
    rates = "member,of,rate\nZurich,Cleveland,0.5\nCleveland,Zurich,0.8\n"
    found = {
        "agents.csv": agents,
        "curve.csv": curve + b"88,0,0.85\n210,0,0.95\n",
        "members.csv": b"name,cost,capacity,value\nCleveland,20,30,100000\nZurich,40,30,100000\n",
        "exchange_rates.csv": rates.encode(),
        "tables/Cleveland.csv": _head(EXAMPLES / "hospitals" / "Cleveland.csv", 41),
        "tables/Zurich.csv": _head(EXAMPLES / "hospitals" / "Zurich%2FBasel.csv", 41),
        "saturation.py": SATURATION.encode(),
        "power.flags": ("# a game\n" + POWER.replace(" ", "\n") + "\n").encode(),
        "there/agents.csv": agents,
    }
    for name, cells in (("Cleveland", 40), ("Zurich", 25)):
        columns = {"age": {"cells": cells, "mean": 54.0, "deviation": 9.0}, "sex": {"known": ["f", "m"]}}
        told = {"records": 40, "target": "disease", "classes": ["0", "1"], "columns": columns | {"x": {}}}
        found[f"told/{name}.json"] = json.dumps(told, indent=1).encode()
    rng = np.random.default_rng(0)
    for member in ("a", "b"):
        images, labels = rng.integers(0, 256, (24, 8, 8, 1), np.uint8), np.arange(24) % 2
        found[f"arrays/{member}.npz"] = _bytes(np.savez, images=images, labels=labels)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            found[f"images/{member}/{label}/{i}.png"] = _bytes(
                Image.fromarray(image[..., 0]).save, format="png"
            )
    for part, n in (("train", 60), ("t10k", 30)):
        for kind, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            data = head + rng.integers(0, 10, shape, np.uint8).tobytes()
            found[f"raw/{part}-{kind}-ubyte"] = data
    return found


def base(words: str, found: dict[str, bytes]) -> Case:
    """The case of a command: with the files that its words name."""
    parts = shlex.split(words)
    named = {word.partition("=")[2] or word for word in parts[1:]}
    if parts[0] in (
        "equilibrium",
        "mechanism",
        "curve",
        "train",
        "compare",
        "measure",
        "study",
        "federation",
        "agree",
    ):
        parts += [] if "--workdir=" in words else ["--workdir=out"]
    return Case(
        tuple(parts),
        {file: data for file, data in found.items() if file in named or file.split("/")[0] in named},
        {},
    )


def names_of_flags(command: str) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The flags of a command with their choices, and those of them that say how much is computed."""
    common = dict.fromkeys(COMMON, ())
    try:
        settings = importlib.import_module(f"fedgame.experiments.{command}").EXPERIMENT.settings
    except (ImportError, AttributeError):
        return common, []
    fields = dataclasses.fields(settings)
    registry = importlib.import_module("fedgame.registry")
    choices = {x.name: tuple(map(str, registry.choices(x) or ())) for x in fields}
    return choices | common, [x.name for x in fields if x.metadata["kind"] is int]


def changes(of: Case) -> st.SearchStrategy[list[Change]]:
    """Lists of up to three changes of a base."""
    number = st.integers(0, 50)
    text = st.one_of(
        *(st.sampled_from(x) for x in (PLAUSIBLE, NUMBERS, TEXTS)), st.floats().map(repr), _plain()
    )
    kinds: list[st.SearchStrategy[Change]] = [_of_flags(of)] * 4
    kinds.append(_change(on, st.sampled_from(("cuda", "x", ""))))
    for ending in sorted({pathlib.PurePath(file).suffix for file in of.files}):
        path = st.sampled_from(sorted(file for file in of.files if file.endswith(ending)))
        kinds += [
            _change(spoil, path, st.sampled_from(tuple(SPOILT)), st.integers(0, 2000)),
            _change(become, path, st.sampled_from(KINDS)),
        ]
        if ending == ".csv":
            kinds += [_change(cell, path, number, number, text, st.booleans())] * 4
            kinds.append(_change(column, path, number, st.sampled_from(COLUMNS), text))
            rows = st.one_of(st.sampled_from(_LINES), text)
            kinds.append(_change(row, path, number, st.sampled_from(ROWS), rows))
        if ending == ".json":
            kinds += [_change(node, path, st.integers(0, 500), _json(text))] * 6
        if ending == ".png":
            modes = st.sampled_from(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"))
            sizes = st.sampled_from(((1, 1), (8, 8), (8, 9), (40, 40), (3000, 1)))
            suffixes = st.sampled_from((".png", ".jpg", ".bmp", ".gif", ".txt", ".PNG", ""))
            kinds += [_change(image, path, modes, sizes, suffixes, st.booleans())] * 3
        if ending == ".npz":
            arrays = st.sampled_from(("images", "labels", "x"))
            kinds += [_change(array, path, arrays, st.sampled_from(tuple(ARRAYS)))] * 3
    one = st.one_of(kinds)
    return st.one_of(st.lists(one, min_size=1, max_size=1), st.lists(one, min_size=1, max_size=3))


def _of_flags(of: Case) -> st.SearchStrategy[Change]:
    """Changes of the command line."""
    choices, amounts = names_of_flags(of.words[0])
    given = [word.lstrip("-").split("=")[0] for word in of.words[1:]]
    small = st.sampled_from((*_words("0 1 2 3 5 -1 x 1.0 nan 1_0 ２ 1e1 -- -0 1,2"), "", " 1"))
    any_value = st.one_of(
        *(st.sampled_from(x) for x in (NUMBERS, TEXTS, SPECS, PATHS, SWEEPS)),
        st.sampled_from(
            (*("0.1,0.2", "1,,2", "0.5,nan", "true", "false", "power", "concave", "bound"), *of.files)
        ),
        _plain(),
    )

    def set_to(name: str) -> st.SearchStrategy[Change]:
        usual = st.sampled_from(choices.get(name) or PLAUSIBLE)
        value = st.sampled_from(SWEEPS) if name == "sweep" else st.one_of(usual, usual, any_value)
        value = small if name in amounts else value
        how = st.sampled_from(("replace", "replace", "replace", "repeat", "apart"))
        return _change(flag, st.just(name), value, how)

    odd = _words("-- - x --nothing --workdir --resume --overwrite --noconditions --validate")
    return st.one_of(
        st.sampled_from([*choices, *given * 5]).flatmap(set_to),
        st.sampled_from([*choices, *given * 5]).flatmap(set_to),
        _change(word, st.sampled_from(odd)),
        _change(without, st.sampled_from(given or ["x"])),
    )


def _change(function: Callable[..., Case], *drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Change]:
    return st.tuples(*drawn).map(lambda drawn: Change(function, drawn))


def _plain() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def _json(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    usual = st.sampled_from((0, 1, 2.5, 1e-9, 1e9, 1e17, -1, 100))
    leaf = st.one_of(usual, usual, st.none(), st.booleans(), st.integers(), st.floats(), text)
    return st.recursive(
        leaf, lambda x: st.lists(x, max_size=3) | st.dictionaries(text, x, max_size=2), max_leaves=4
    )


# Changes of files

SPOILT: dict[str, Callable[[bytes, int], bytes]] = {
    "flip a bit": lambda x, i: x[:i] + bytes([x[i] ^ (1 << i % 8)]) + x[i + 1 :],
    "truncate": lambda x, i: x[:i],
    "insert NUL": lambda x, i: x[:i] + b"\0" + x[i:],
    "insert 0xff": lambda x, i: x[:i] + b"\xff" + x[i:],
    "insert a quote": lambda x, i: x[:i] + b'"' + x[i:],
    "twice": lambda x, i: x + x,
    "mark of UTF-8": lambda x, i: b"\xef\xbb\xbf" + x,
    "UTF-16": lambda x, i: x.decode("latin-1").encode("utf-16"),
    "CRLF": lambda x, i: x.replace(b"\n", b"\r\n"),
    "CR": lambda x, i: x.replace(b"\n", b"\r"),
    "semicolons": lambda x, i: x.replace(b",", b";"),
    "decimal commas": lambda x, i: x.replace(b",", b";").replace(b".", b","),
    "zipped": lambda x, i: gzip.compress(x, mtime=0),
}


def spoil(case: Case, file: str, how: str, place: int) -> Case:
    """Changes the bytes of a file."""
    data = case.files.get(file)
    return _with(case, file, SPOILT[how](data, place % len(data))) if data else case


def become(case: Case, file: str, kind: str) -> Case:
    """Has something else in the place of a file."""
    if kind in ("binary", "empty"):
        return _with(case, file, bytes(range(256)) if kind == "binary" else b"")
    kept = {name: data for name, data in case.files.items() if name != file}
    return case._replace(files=kept, special=case.special | {file: kind})


def cell(case: Case, file: str, i: int, j: int, value: str, quoted: bool) -> Case:
    """Writes something into a cell of a table."""
    rows = _rows(case, file)
    if rows:
        cells = rows[i % len(rows)]
        cells[j % len(cells)] = '"' + value.replace('"', '""') + '"' if quoted else value
    return _table(case, file, rows)


COLUMNS = ("drop", "duplicate", "rename", "add", "clear", "unnamed", "fill")


def column(case: Case, file: str, j: int, how: str, value: str) -> Case:
    """Changes a column of a table."""
    rows = _rows(case, file)
    for i, cells in enumerate(rows):
        k = j % len(cells)
        if how == "drop":
            del cells[k]
        elif how in ("duplicate", "add", "unnamed"):
            cells.append(cells[k] if how == "duplicate" else value if how == "add" or i else "")
        elif how == "rename":
            cells[k] = cells[k] if i else value
        elif i:
            cells[k] = "" if how == "clear" else value
    return _table(case, file, rows)


ROWS = ("drop", "duplicate", "all", "insert", "shuffle")


def row(case: Case, file: str, i: int, how: str, line: str) -> Case:
    """Changes rows of a table."""
    rows = _rows(case, file)
    i %= len(rows) or 1
    if how == "all":
        rows = rows[:1]
    elif how == "insert":
        rows.insert(i, [line])
    elif how == "shuffle":
        rows = rows[:1] + rows[1:][::-1]
    else:
        rows[i : i + 1] = rows[i : i + 1] * 2 if how == "duplicate" else []
    return _table(case, file, rows)


def node(case: Case, file: str, i: int, value: Any) -> Case:
    """Replaces a value in a JSON file."""
    try:
        tree = [json.loads(case.files.get(file, b""))]
    except ValueError:
        return case
    places, todo = [], [tree]
    while todo:
        parent = todo.pop()
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        places += [(parent, key) for key in keys]
        todo += [parent[key] for key in keys if isinstance(parent[key], dict | list)]
    parent, key = places[i % len(places)]
    parent[key] = value
    return _with(case, file, json.dumps(tree[0]).encode())


def image(case: Case, file: str, mode: str, size: tuple[int, int], suffix: str, turned: bool) -> Case:
    """Replaces an image by one of another mode, size, ending or orientation."""
    if file not in case.files:
        return case
    exif = Image.Exif()
    exif[0x0112] = 6
    made = Image.new("L", size, 100).convert(mode) if mode != "I;16" else Image.new(mode, size)
    format = "png" if mode not in ("CMYK", "F") else "tiff"
    kept = {name: data for name, data in case.files.items() if name != file}
    data = _bytes(made.save, format=format, **({"exif": exif} if turned else {}))
    return case._replace(files=kept | {file.removesuffix(".png") + suffix: data})


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "objects": lambda x: x.astype(object),
    "texts": lambda x: x.astype(str),
    "not finite": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x),
    "floats": lambda x: x / 7,
    "large": lambda x: x.astype(np.uint64) + 2**63,
    "negative": lambda x: -1 - x.astype(int),
    "flat": np.ravel,
    "one number": lambda x: x.flat[0],
    "none": lambda x: x[:0],
    "fewer": lambda x: x[:-1],
    "alike": np.zeros_like,
    "complex": lambda x: x + 1j,
    "times": lambda x: x.astype("M8[s]"),
}


def array(case: Case, file: str, name: str, how: str) -> Case:
    """Replaces an array of a .npz file."""
    try:
        arrays = dict(np.load(io.BytesIO(case.files.get(file, b""))))
    except (ValueError, EOFError):
        return case
    if "labels" not in arrays:  # not of images
        return case
    return _with(
        case, file, _bytes(np.savez, **arrays | {name: ARRAYS[how](arrays.get(name, arrays["labels"]))})
    )


# Changes of the command line


def flag(case: Case, name: str, value: str, how: str) -> Case:
    """Gives a flag a value: in place of the one it has, once more, or as a word of its own."""
    value = value.replace("\0", "")  # no command line can have it
    if not value.startswith(("/proc/", "/dev/")):
        value = value.lstrip("/")  # nothing is to be written outside of the folder of the case
    kept = [x for x in case.words if how == "repeat" or not x.startswith(f"--{name}=")]
    return case._replace(words=(*kept, *([f"--{name}", value] if how == "apart" else [f"--{name}={value}"])))


def word(case: Case, value: str) -> Case:
    """Adds a word to the command line."""
    return case._replace(words=(*case.words, value))


def without(case: Case, name: str) -> Case:
    """Leaves a flag out."""
    return case._replace(words=tuple(x for x in case.words if not x.startswith(f"--{name}=")))


def on(case: Case, platform: str) -> Case:
    """Asks for another device by JAX_PLATFORMS."""
    return case._replace(platform=platform)


def _head(file: pathlib.Path, lines: int) -> bytes:
    return b"".join(file.read_bytes().splitlines(keepends=True)[:lines])


def _bytes(save: Callable[..., Any], **what: Any) -> bytes:
    held = io.BytesIO()
    save(held, **what)
    return held.getvalue()


def _with(case: Case, file: str, data: bytes) -> Case:
    special = {name: kind for name, kind in case.special.items() if name != file}
    return case._replace(files=case.files | {file: data}, special=special)


def _rows(case: Case, file: str) -> list[list[str]]:
    """The cells of a table; bytes that are no text are kept as surrogates."""
    text = case.files.get(file, b"").decode("utf-8", "surrogateescape")
    return [line.split(",") for line in text.split("\n") if line]


def _table(case: Case, file: str, rows: list[list[str]]) -> Case:
    if file not in case.files:
        return case
    text = "".join(",".join(cells) + "\n" for cells in rows)
    return _with(case, file, text.encode("utf-8", "surrogateescape"))
