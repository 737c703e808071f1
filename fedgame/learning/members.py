"""The members of a federation with data of their own, and how each one's records are dealt into parts.

Every member keeps her own distribution. A part of her records, the *reserve*, is never seen by any
measurement: advice is checked on it. In each split the others are dealt into those that can be trained on and
those that are held out to measure on. All parts are stratified: each class has its share in them. Who is in
which part depends on the seed, the member's name and the number of the split alone, so members who come or
go, or stand in another order, change nothing for the others.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame.learning import tables
from fedgame.learning.federated import Images


class Federation(NamedTuple):
    """What the members own."""

    names: tuple[str, ...]  # [n]
    classes: tuple[str, ...]  # names, in the order of the labels
    records: tuple[Any, ...]  # [n] pixels [m_i, h, w, c], or columns of a table (`tables.Columns`)
    labels: tuple[np.ndarray, ...]  # [n] labels [m_i] int32
    schema: tables.Schema | None = None  # of tables; None: images

    @property
    def sizes(self) -> np.ndarray:
        """[n] how many records each member owns."""
        return np.array([len(labels) for labels in self.labels])


class Shares(NamedTuple):
    """How records are dealt into parts."""

    seed: int
    reserve: float  # the share of all records that is reserved
    held_out: float  # the share of the rest that is held out in every split


class Split(NamedTuple):
    """The members' records in one split, ready for models."""

    train: Images  # [n, most, ...] each member's in random order, zeros and labels -1 beyond her size
    test: Images  # [n, m, ...] likewise
    sizes: np.ndarray  # [n] how many each can train on
    reserve: Images  # [n, r, ...] what no measurement sees, likewise


def check(federation: Federation, shares: Shares) -> None:
    """Raises a ValueError that names a member whose records are too few to be dealt into parts."""
    for name, labels in zip(federation.names, federation.labels, strict=True):
        reserve, held_out, train = (len(part) for part in _parts(name, labels, shares, 0))
        if min(reserve, held_out, train) < 1:
            raise ValueError(
                f"{name} has {len(labels)} records: too few to reserve {shares.reserve:g} of them, hold out "
                f"{shares.held_out:g} of the others, and train on the rest"
            )


def trainable(federation: Federation, shares: Shares) -> np.ndarray:
    """[n] how many records each member can train on in a split, the same in all."""
    return np.array([len(_parts(*one, shares, 0)[2]) for one in _members(federation)])


def unreserved(federation: Federation, shares: Shares) -> np.ndarray:
    """[n] how many records of each member are not reserved."""
    parts = [_parts(*one, shares, 0) for one in _members(federation)]
    return np.array([len(train) + len(held_out) for _, held_out, train in parts])


def reserved(federation: Federation, shares: Shares) -> list[np.ndarray]:
    """[n] the labels of each member's reserve, in the order of `Split.reserve`."""
    return [labels[_parts(name, labels, shares, 0)[0]] for name, labels in _members(federation)]


def shape(federation: Federation) -> tuple[int, ...]:
    """The shape of what models see of one record: [h, w, c] of images, [d] of tables."""
    if federation.schema is None:
        return federation.records[0].shape[1:]
    return (tables.width(federation.schema),)


def measuring_split(federation: Federation, shares: Shares, number: int) -> Split:
    """Split `number`, from 0: trained on what is not reserved or held out, tested on what is held out."""
    parts = [_parts(*one, shares, number) for one in _members(federation)]
    reserve, held_out, train = zip(*parts, strict=True)
    return _split(federation, train, held_out, reserve)


def checking_split(federation: Federation, shares: Shares, number: int) -> Split:
    """Split `number`, from 0, that checks advice: trained on what is not reserved, tested on the reserve."""
    train, reserves = [], []
    for name, labels in _members(federation):
        reserve, held_out, kept = _parts(name, labels, shares, 0)
        rng = _generator(name, shares, "check", number)
        train.append(rng.permutation(np.concatenate([held_out, kept])))
        reserves.append(reserve)
    return _split(federation, train, None, reserves)


def preparation(federation: Federation, shares: Shares, number: int) -> tables.Preparation:
    """How tables become features in `measuring_split` of this number."""
    train = [_parts(*one, shares, number)[2] for one in _members(federation)]
    return tables.learnt(federation.schema, federation.records, train)


def digest(federation: Federation) -> str:
    """A digest of names, classes, records and labels, equal only if all of them are equal."""
    found = hashlib.sha256(repr((federation.names, federation.classes, federation.schema)).encode())
    for records, labels in zip(federation.records, federation.labels, strict=True):
        arrays = records if federation.schema is not None else (records,)
        for array in (*arrays, labels):
            found.update(str((array.shape, array.dtype)).encode())
            plain = array.astype(str) if array.dtype == object else array
            found.update(np.ascontiguousarray(plain).tobytes())
    return found.hexdigest()


def _members(federation: Federation) -> list[tuple[str, np.ndarray]]:
    """Names and labels."""
    return list(zip(federation.names, federation.labels, strict=True))


def _generator(name: str, shares: Shares, purpose: str, number: int) -> np.random.Generator:
    """Random numbers of one member for one purpose."""
    words = hashlib.sha256(f"{purpose}\n{name}".encode()).digest()
    return np.random.default_rng([shares.seed, number, *words])


def _parts(
    name: str, labels: np.ndarray, shares: Shares, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a member that are reserved, held out in split `number`, and trained on, in random order."""
    everything = np.arange(len(labels))
    reserve, rest = _stratified(everything, labels, shares.reserve, _generator(name, shares, "reserve", 0))
    held_out, train = _stratified(rest, labels, shares.held_out, _generator(name, shares, "split", number))
    return reserve, held_out, train


def _stratified(
    rows: np.ndarray, labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Takes a share of the rows, of each class its share, up to rounding; those taken and those left.

    The number taken is the nearest to the share of all. Who is rounded up is random among classes with equal
    remainders.
    """
    rows = rng.permutation(rows)
    of_class = [rows[labels[rows] == k] for k in rng.permutation(np.unique(labels[rows]))]
    exact = np.array([share * len(some) for some in of_class])
    counts = np.floor(exact).astype(int)
    more = int(np.rint(share * len(rows))) - np.sum(counts)
    counts[np.argsort(-(exact - counts), kind="stable")[:more]] += 1
    split = list(zip(of_class, counts, strict=True))
    taken = [some[:count] for some, count in split]
    left = [some[count:] for some, count in split]
    # Beginning with no rows, as there may be no classes.
    return tuple(rng.permutation(np.concatenate([rows[:0], *some])) for some in (taken, left))


def _split(
    federation: Federation,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray] | None,
    reserve: Sequence[np.ndarray],
) -> Split:
    """The split with these rows of each member; without rows to test on, the reserve is tested on."""
    if federation.schema is None:
        features = [np.asarray(pixels, np.float32) for pixels in federation.records]
    else:
        features = tables.features(federation.schema, federation.records, train)
    of_reserve = _filled(features, federation.labels, reserve)
    return Split(
        train=_filled(features, federation.labels, train),
        test=of_reserve if test is None else _filled(features, federation.labels, test),
        sizes=np.array([len(rows) for rows in train]),
        reserve=of_reserve,
    )


def _filled(
    features: Sequence[np.ndarray], labels: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> Images:
    """The rows of all members as one array, with zeros and labels -1 where a member has fewer than others."""
    n, most = len(rows), max(map(len, rows))
    images = np.zeros((n, most, *features[0].shape[1:]), np.float32)
    numbers = np.full((n, most), -1, np.int32)
    for i, mine in enumerate(rows):
        images[i, : len(mine)], numbers[i, : len(mine)] = features[i][mine], labels[i][mine]
    return Images(images, numbers)
