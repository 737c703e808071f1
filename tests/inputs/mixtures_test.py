import itertools

import numpy as np
import pytest

from fedgame.games import exchange_rates
from fedgame.inputs import mixtures

MIXTURES = "mixture,member,samples\nall,north,10\nall,süd,20.5\nnorth alone,north,10\n"
MEASUREMENTS = (
    "mixture,split,member,accuracy\nall,0,north,0.8\nall,0,süd,0.9\nall,b,north,0.7\nnorth alone,b,süd,1\n"
)


def write(tmp_path, mixed=MIXTURES, measured=MEASUREMENTS):
    (tmp_path / "mixtures.csv").write_text(mixed, encoding="utf-8")
    (tmp_path / "measurements.csv").write_text(measured, encoding="utf-8")
    return str(tmp_path)


def test_a_folder_is_read_with_0_samples_and_no_accuracy_where_nothing_is_written(tmp_path):
    found = mixtures.read(write(tmp_path))
    assert found.members == ("north", "süd")
    np.testing.assert_array_equal(found.samples, [[10, 20.5], [10, 0]])
    np.testing.assert_array_equal(
        found.accuracy, [[[0.8, 0.9], [0.7, np.nan]], [[np.nan, np.nan], [np.nan, 1]]]
    )


def test_members_are_in_the_order_of_names_also_those_who_give_nothing(tmp_path):
    found = mixtures.read(write(tmp_path), ["süd", "west", "north"])
    assert found.members == ("süd", "west", "north")
    np.testing.assert_array_equal(found.samples, [[20.5, 0, 10], [0, 0, 10]])
    np.testing.assert_array_equal(found.accuracy[0, 0], [0.9, np.nan, 0.8])


def test_columns_and_rows_may_come_in_any_order_and_others_are_ignored(tmp_path):
    first = mixtures.read(write(tmp_path))
    header, *rows = MEASUREMENTS.strip().split("\n")
    turned = [";".join([*line.split(",")[::-1], "note"]) for line in (header, *rows[::-1])]
    again = mixtures.read(write(tmp_path, measured="\n".join(turned)))
    np.testing.assert_array_equal(again.samples, first.samples)
    np.testing.assert_array_equal(again.accuracy, first.accuracy[:, ::-1])


def test_what_was_read_is_fitted(tmp_path):
    fractions = list(itertools.product((0, 10, 40), (0, 20, 50)))
    mixed = "".join(f"{a}/{b},x,{a}\n{a}/{b},y,{b}\n" for a, b in fractions)
    of_x = [f"{a}/{b},1,x,{0.9 - 0.4 / (1 + (a + 0.5 * b) / 20)}\n" for a, b in fractions]
    of_y = [f"{a}/{b},1,y,{0.8 - 0.3 / (1 + (b + 0.1 * a) / 30)}\n" for a, b in fractions]
    measured = "".join(of_x + of_y)
    folder = write(tmp_path, "mixture,member,samples\n" + mixed, "mixture,split,member,accuracy\n" + measured)
    fitted = exchange_rates.fit(mixtures.read(folder))
    np.testing.assert_allclose(fitted.rates, [[1, 0.5], [0.1, 1]], atol=1e-3)


@pytest.mark.parametrize(
    ("file", "row", "told"),
    [
        ("mixtures.csv", "all,west,1", "line 5: `member` 'west' is none of north, süd"),
        ("mixtures.csv", "all,north,1", "line 5: `mixture`, `member` are those of line 2 already"),
        ("mixtures.csv", "none,north,-1", "line 5: `samples` must be a number, at least 0, got '-1'"),
        ("mixtures.csv", "none,north,1", "line 5: `mixture` 'none' has no row in measurements.csv"),
        ("mixtures.csv", ",north,1", "line 5: `mixture` must not be empty"),
        ("mixtures.csv", "a\u202eb,north,1", "line 5: `mixture` must be printable text, but 'a\\u202eb' has"),
        ("mixtures.csv", "none,north", "line 5: 2 cells, but the first line names 3 columns"),
        ("measurements.csv", "all,1,west,0.5", "line 6: `member` 'west' is none of north, süd"),
        (
            "measurements.csv",
            "all,0,süd,0.5",
            "line 6: `mixture`, `split`, `member` are those of line 3 already",
        ),
        (
            "measurements.csv",
            "all,1,süd,80",
            "line 6: `accuracy` must be in [0, 1], not a percentage, got '80'",
        ),
        ("measurements.csv", "none,1,süd,0.8", "line 6: `mixture` 'none' has no row in mixtures.csv"),
        ("measurements.csv", "all,,süd,0.8", "line 6: `split` must not be empty"),
    ],
)
def test_complaints_name_file_and_line(tmp_path, file, row, told):
    folder = write(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text(encoding="utf-8") + row + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=file) as error:
        mixtures.read(folder, ["north", "süd"])
    assert f"{path}, {told}" in str(error.value)
    assert str(error.value).count("\n") == 0


def test_the_metric_is_one(tmp_path):
    assert mixtures.metric(write(tmp_path)) == "accuracy"
    lines = MEASUREMENTS.strip().split("\n")
    same = "\n".join([f"{lines[0]},metric", *(f"{line},auc" for line in lines[1:])])
    assert mixtures.metric(write(tmp_path, measured=same)) == "auc"
    folder = write(tmp_path, measured=same.replace("1,auc", "1,accuracy"))
    with pytest.raises(
        ValueError, match=r"line 5: `metric` is 'accuracy', but 'auc' in line 2: give each metr"
    ):
        mixtures.metric(folder)


def test_what_was_read_is_told(tmp_path):
    notes = []
    mixtures.read(write(tmp_path, mixed="# mine\n" + MIXTURES), notes=notes)
    assert notes == [
        f"2 mixtures from {tmp_path}/mixtures.csv (1 comment line skipped)",
        f"4 measurements from {tmp_path}/measurements.csv",
        "samples is 20.5 (written 20.5); thousands are written without a separator",
    ]


def test_a_name_that_only_measurements_have_is_taken_for_a_mistake(tmp_path):
    folder = write(tmp_path, measured=MEASUREMENTS + "all,0,nroth,0.5\n")
    with pytest.raises(ValueError, match=r"line 6: `member` 'nroth' has no row in mixtures\.csv"):
        mixtures.read(folder)


def test_a_missing_file_or_column_is_said(tmp_path):
    folder = write(tmp_path, mixed="mixture,samples\nall,1\n")
    with pytest.raises(ValueError, match="column `member` is missing"):
        mixtures.read(folder)
    (tmp_path / "measurements.csv").unlink()
    (tmp_path / "mixtures.csv").write_text(MIXTURES, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"measurements\.csv"):
        mixtures.read(folder)
