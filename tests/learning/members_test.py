import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedgame.learning import members, tables

SHARES = members.Shares(seed=3, reserve=0.2, held_out=0.25)
SIZES = {"north": 41, "süd": 30, "a/b": 55}


def own(name, classes=2):
    """A member's records, each of which has a number that no other has, and her labels."""
    number = 1000 * (1 + sorted(SIZES).index(name)) + np.arange(SIZES[name], dtype=float)
    labels = np.arange(SIZES[name]) % 7 % classes
    return tables.Columns(number[:, None], np.zeros((len(number), 0), object)), labels.astype(np.int32)


def federation(*names, classes=2):
    names = names or tuple(SIZES)
    records, labels = zip(*(own(name, classes) for name in names), strict=True)
    schema = tables.Schema(("number",), {}, (False,))
    return members.Federation(names, tuple("abc"[:classes]), records, labels, schema)


def of_images(*names):
    """The same, but models see the numbers as they are: pixels of images."""
    plain = federation(*names)
    records = tuple(record.numbers[:, None, None, :] for record in plain.records)
    return plain._replace(records=records, schema=None)


def numbers(images, i):
    """The numbers of the records of member i, and of what fills up."""
    there = images.labels[i] >= 0
    return images.images[i, there, 0, 0, 0].tolist(), images.images[i, ~there].ravel()


def parts(split, i):
    return [numbers(part, i)[0] for part in (split.train, split.test, split.reserve)]


@pytest.mark.parametrize("number", [0, 1, 7])
def test_parts_are_disjoint_and_complete(number):
    split = members.measuring_split(of_images(), SHARES, number)
    for i, name in enumerate(SIZES):
        train, test, reserve = parts(split, i)
        assert sorted(train + test + reserve) == own(name)[0].numbers[:, 0].tolist()
        assert len(reserve) == round(0.2 * SIZES[name])
        assert len(test) == round(0.25 * (SIZES[name] - len(reserve)))
        assert split.sizes[i] == len(train)
    np.testing.assert_array_equal(split.sizes, members.trainable(of_images(), SHARES))


def test_labels_stay_with_their_records_and_zeros_fill_up():
    split = members.measuring_split(of_images(), SHARES, 0)
    for part in (split.train, split.test, split.reserve):
        for i, name in enumerate(SIZES):
            found, filling = numbers(part, i)
            records, labels = own(name)
            label_of = dict(zip(records.numbers[:, 0], labels, strict=True))
            size = len(found)
            assert part.labels[i, :size].tolist() == [label_of[number] for number in found]
            assert (part.labels[i, size:] == -1).all()
            assert not filling.any()
        assert (part.labels >= 0).all(axis=1).any()  # no longer than the longest


def test_splits_differ_but_the_reserve_is_always_the_same():
    splits = [members.measuring_split(of_images(), SHARES, number) for number in range(3)]
    checks = [members.checking_split(of_images(), SHARES, number) for number in range(3)]
    for i in range(len(SIZES)):
        reserved = {frozenset(parts(split, i)[2]) for split in splits + checks}
        assert len(reserved) == 1
        assert len({frozenset(parts(split, i)[1]) for split in splits}) == 3
        assert len({tuple(parts(split, i)[0]) for split in checks}) == 3
        for split in checks:
            train, test, reserve = parts(split, i)
            assert test == reserve
            assert sorted(train + reserve) == own(list(SIZES)[i])[0].numbers[:, 0].tolist()
            assert len(train) == members.unreserved(of_images(), SHARES)[i] == split.sizes[i]


@pytest.mark.parametrize("kind", [members.measuring_split, members.checking_split])
def test_nobody_depends_on_who_else_is_there_or_on_their_order(kind):
    alone = kind(of_images("süd", "a/b"), SHARES, 1)
    among = kind(of_images("a/b", "north", "süd"), SHARES, 1)
    assert parts(alone, 0) == parts(among, 2)
    assert parts(alone, 1) == parts(among, 0)


def test_members_of_the_same_records_are_dealt_differently_and_so_with_another_seed():
    twice = of_images("north", "north")._replace(names=("x", "y"))
    first, second = (parts(members.measuring_split(twice, SHARES, 0), i) for i in (0, 1))
    assert set(first[2]) != set(second[2])
    again = parts(members.measuring_split(twice, SHARES._replace(seed=4), 0), 0)
    assert set(again[2]) != set(first[2])


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_each_class_has_its_share_up_to_rounding(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = 10 + np.arange(len(labels))
    by_row = np.concatenate([np.full(10, -5), labels])
    taken, left = members._stratified(rows, by_row, share, np.random.default_rng(seed))
    assert sorted([*taken, *left]) == rows.tolist()
    assert abs(len(taken) - share * len(rows)) <= 0.5 + 1e-9
    for k, count in enumerate(counts):
        assert abs(np.sum(by_row[taken] == k) - share * count) < 1


def test_classes_of_equal_remainders_are_rounded_up_in_turn():
    labels = np.arange(4) % 2
    found = [members._stratified(np.arange(4), labels, 0.25, np.random.default_rng(k))[0] for k in range(40)]
    assert {labels[row].item() for (row,) in found} == {0, 1}


def test_tables_are_scaled_by_what_is_trained_on():
    split = members.measuring_split(federation(), SHARES, 2)
    same = members.measuring_split(of_images(), SHARES, 2)
    trained = np.concatenate([numbers(same.train, i)[0] for i in range(3)])
    for scaled, plain in ((split.train, same.train), (split.test, same.test), (split.reserve, same.reserve)):
        there = plain.labels >= 0
        want = (plain.images[..., 0, 0, 0] - np.mean(trained)) / np.std(trained)
        np.testing.assert_allclose(scaled.images[..., 0][there], want[there], rtol=1e-4, atol=1e-6)
        assert not scaled.images[~there].any()
        np.testing.assert_array_equal(scaled.labels, plain.labels)


def test_what_models_see_of_one_record():
    assert members.shape(of_images()) == (1, 1, 1)
    schema = tables.Schema(("a", "b"), {"c": ("x", "y", "z")}, (False, True))
    assert members.shape(federation()._replace(schema=schema)) == (6,)


@pytest.mark.parametrize("size", range(8))
def test_too_few_records_are_told_by_name(size):
    small = members.Federation(("few",), ("a", "b"), (None,), (np.arange(size) % 2,))
    shares = members.Shares(0, 0.3, 0.3)
    if size < 3:
        with pytest.raises(ValueError, match=f"few has {size} records: too few to reserve 0.3"):
            members.check(small, shares)
    else:
        members.check(small, shares)
        assert members.unreserved(small, shares) == size - round(0.3 * size)


def test_a_share_that_leaves_nothing_is_told():
    small = members.Federation(("few",), ("a", "b"), (None,), (np.arange(2),))
    with pytest.raises(ValueError, match="few has 2 records: too few"):
        members.check(small, members.Shares(0, 0.9, 0.5))


def test_digests_differ_with_anything_in_the_federation():
    plain = federation()
    changed = [
        plain._replace(names=("x", *plain.names[1:])),
        plain._replace(classes=("b", "a")),
        plain._replace(labels=(1 - plain.labels[0], *plain.labels[1:])),
        plain._replace(
            records=(own("north")[0]._replace(numbers=-own("north")[0].numbers), *plain.records[1:])
        ),
        plain._replace(
            records=(own("north")[0]._replace(texts=np.full((41, 1), "x", object)), *plain.records[1:])
        ),
        plain._replace(schema=plain.schema._replace(numbers=("age",))),
        of_images(),
        federation("süd", "north", "a/b"),
    ]
    assert len({members.digest(each) for each in (plain, *changed)}) == 1 + len(changed)
    assert members.digest(federation()) == members.digest(plain)
