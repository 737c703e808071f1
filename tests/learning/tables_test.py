import numpy as np
import pytest

from fedgame.learning import tables

NAN = np.nan


def columns(numbers, texts=None):
    numbers = np.array(numbers, float).reshape(len(numbers), -1)
    return tables.Columns(numbers, np.array(texts or [[]] * len(numbers), object).reshape(len(numbers), -1))


def of_numbers(*records, train):
    """Features of tables of numbers, and how many there should be."""
    width = records[0].numbers.shape[1]
    gaps = tuple(np.any([np.isnan(own.numbers).any(axis=0) for own in records], axis=0).tolist())
    schema = tables.Schema(tuple("abcdef"[:width]), {}, gaps)
    found = tables.features(schema, records, train)
    assert {some.shape[1] for some in found} == {tables.width(schema)}
    assert {some.dtype for some in found} == {np.dtype("float32")}
    return found


def test_means_and_deviations_are_learnt_from_training_rows_of_all_members():
    a, b = columns([[1.0], [3], [1000]]), columns([[5.0], [-1000]])
    first, second = of_numbers(a, b, train=[np.array([1, 0]), np.array([0])])
    deviation = np.std([1, 3, 5])
    np.testing.assert_allclose(first[:, 0], (np.array([1, 3, 1000]) - 3) / deviation, rtol=1e-6)
    np.testing.assert_allclose(second[:, 0], (np.array([5, -1000]) - 3) / deviation, rtol=1e-6)


def test_what_is_not_trained_on_changes_nothing_of_the_others():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(8, 2))
    numbers[[0, 6], 1] = NAN
    changed = numbers.copy()
    changed[5:7, 0] = 1e9
    train = [np.arange(5), np.arange(3)]
    before = of_numbers(columns(numbers), columns(numbers), train=train)
    after = of_numbers(columns(changed), columns(numbers), train=train)
    np.testing.assert_array_equal(before[0][[0, 1, 2, 3, 4, 7]], after[0][[0, 1, 2, 3, 4, 7]])
    np.testing.assert_array_equal(before[1], after[1])
    assert not np.array_equal(before[0][5:7], after[0][5:7])


def test_empty_cells_become_the_mean_and_are_told_in_a_column_of_their_own():
    (found,) = of_numbers(columns([[1.0, 7], [NAN, 7], [3, 7], [2, 7]]), train=[np.arange(4)])
    assert found.shape == (4, 3)  # the second column has no gaps
    assert found[1, 0] == 0
    np.testing.assert_allclose(found[:, 2], (np.array([0, 1, 0, 0]) - 0.25) / np.std([0, 1, 0, 0]), rtol=1e-6)


def test_constant_and_empty_columns_are_0():
    (found,) = of_numbers(columns([[7.0, NAN], [7, NAN]]), train=[np.arange(2)])
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_a_gap_among_held_out_records_only_keeps_the_shape():
    (found,) = of_numbers(columns([[1.0], [3], [NAN]]), train=[np.arange(2)])
    np.testing.assert_allclose(found, [[-1, 0], [1, 0], [0, 1]])


def test_a_column_that_a_member_lacks_is_the_mean_for_her():
    a, b = of_numbers(columns([[1.0], [3]]), columns([[NAN], [NAN]]), train=[np.arange(2), np.arange(2)])
    np.testing.assert_allclose(a[:, 0], [-1.41421356, 1.41421356])  # means count among the deviations
    np.testing.assert_array_equal(b[:, 0], [0, 0])
    np.testing.assert_allclose(b[:, 1], [1, 1])


def test_categories_are_one_hot_and_empty_cells_in_none():
    schema = tables.Schema(("a",), {"sex": ("f", "m"), "town": ("x", "y", "z")}, (False,))
    own = columns([[1.0], [2], [3]], [["m", "z"], ["", "x"], ["f", ""]])
    (found,) = tables.features(schema, [own], [np.array([0])])
    assert tables.width(schema) == 6
    np.testing.assert_array_equal(found[:, 1:], [[0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])


def test_tables_of_texts_alone():
    schema = tables.Schema((), {"sex": ("f", "m")}, ())
    own = tables.Columns(np.zeros((2, 0)), np.array([["m"], ["f"]], object))
    (found,) = tables.features(schema, [own], [np.arange(2)])
    np.testing.assert_array_equal(found, [[0, 1], [1, 0]])


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_units_do_not_matter(scale):
    numbers = np.random.default_rng(1).normal(size=(9, 1))
    (one,) = of_numbers(columns(numbers), train=[np.arange(9)])
    (other,) = of_numbers(columns(scale * numbers), train=[np.arange(9)])
    np.testing.assert_allclose(one, other, rtol=1e-5)
