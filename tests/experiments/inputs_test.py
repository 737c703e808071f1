import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from fedgame.experiments import inputs


def write(tmp_path, text, name="file.csv", encoding="utf-8"):
    file = tmp_path / name
    file.write_text(text, encoding=encoding)
    return str(file)


def complaint(read, *args):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared by the caller
        read(*args)
    return str(error.value)


def test_every_column_is_read_and_empty_cells_have_their_defaults(tmp_path):
    path = write(
        tmp_path,
        "\ufeff# made by hand\n Name ;COST; capacity;exponent;fixed;quality;value\n"
        "north;0.5;10;;1e-3;;\n\n;;;;;;\nsüd;0;0;2;;0.5;3\n",
    )
    agents = inputs.read_agents(path)
    assert agents.names == ["north", "süd"]
    expected = {"cost": [0.5, 0], "capacity": [10, 0], "exponent": [1, 2], "fixed": [1e-3, 0]}
    expected |= {"quality": [1, 0.5], "value": [1, 3]}
    for name, numbers in expected.items():
        np.testing.assert_array_equal(getattr(agents, name), numbers)
        assert getattr(agents, name).dtype == np.float64


numbers = st.floats(0, 1e300, allow_subnormal=True)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(rows=st.lists(st.tuples(numbers, numbers, st.floats(1, 50)), min_size=1, max_size=5))
def test_numbers_come_back_bit_for_bit(tmp_path, rows):
    text = "name,cost,capacity,exponent\n" + "".join(
        f"a{i},{a!r},{b!r},{c!r}\n" for i, (a, b, c) in enumerate(rows)
    )
    agents = inputs.read_agents(write(tmp_path, text))
    np.testing.assert_array_equal(np.stack([agents.cost, agents.capacity, agents.exponent], axis=1), rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: its first line must name the columns name, cost, capacity"),
        ("\n\n# nothing\n", "is empty"),
        ("name,cost,capacity\n", "has no rows below its first line"),
        ("name,cost\na,1\n", "column `capacity` is missing; the first line has name, cost"),
        (
            "name,cost,capacity,colour\na,1,2,3\n",
            "unknown column `colour`; allowed are name, cost, capacity, fixed",
        ),
        ("name,cost,capacity,cost\na,1,2,3\n", "column `cost` is there twice"),
        ("name,cost,capacity\na,1,2\nb,1\n", "line 3: 2 cells, but the first line names 3 columns"),
        ("name,cost,capacity\na,1,2\n\nb,abc,2\n", "line 4: `cost` must be a number, at least 0, got 'abc'"),
        ("name,cost,capacity\na,,2\n", "line 2: `cost` must be a number, at least 0, got ''"),
        ("name,cost,capacity\na,nan,2\n", "line 2: `cost` must be a number, at least 0, got 'nan'"),
        ("name,cost,capacity\na,1,inf\n", "line 2: `capacity` must be a number, at least 0, got 'inf'"),
        ("name,cost,capacity\na,-1,2\n", "line 2: `cost` must be a number, at least 0, got '-1'"),
        ("name;cost;capacity\na;0,5;2\n", "got '0,5' (decimals are written with a point)"),
        (
            "name,cost,capacity,exponent\na,1,2,0.5\n",
            "line 2: `exponent` must be a number, at least 1, got '0.5'",
        ),
        ("name,cost,capacity,quality\na,1,2,0\n", "line 2: `quality` must be a number above 0, got '0'"),
        ("name,cost,capacity\na,1,2\na,1,2\n", "line 3: `name` 'a' is that of line 2 already"),
        ("name,cost,capacity\n ,1,2\n", "line 2: `name` must not be empty"),
        (
            'name,cost,capacity\n"a,1,2\nb,1,2\n',
            "a quotation mark opens a cell that does not end in its line",
        ),
    ],
)
def test_what_is_wrong_with_participants_is_said(tmp_path, text, message):
    path = write(tmp_path, text)
    told = complaint(inputs.read_agents, path)
    assert message in told
    assert path in told


def test_all_bad_rows_are_told_at_once_up_to_ten(tmp_path):
    bad = "".join(f"a{i},x,2\n" for i in range(13))
    lines = complaint(inputs.read_agents, write(tmp_path, "name,cost,capacity\n" + bad)).splitlines()
    assert len(lines) == 11
    assert "line 2: " in lines[0]
    assert "line 11: " in lines[9]
    assert lines[10] == "... and 3 more"


def test_missing_files_and_other_encodings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file /nowhere\.csv"):
        inputs.read_agents("/nowhere.csv")
    path = write(tmp_path, "name,cost,capacity\nsüd,1,2\n", encoding="latin-1")
    assert "not a text file in UTF-8" in complaint(inputs.read_agents, path)


def test_repeated_measurements_become_rows_with_holes(tmp_path):
    path = write(
        tmp_path, "size,seed,accuracy\n10,0,0.5\n0,0,0.1\n10,1,0.7\n20,0,0.8\n"
    )  # as compare writes it
    (curve,) = inputs.read_curve(path, ["a"]).values()
    np.testing.assert_array_equal(curve.sizes, [0, 10, 20])
    np.testing.assert_array_equal(curve.accuracy, [[0.1, 0.5, 0.8], [np.nan, 0.7, np.nan]])
    assert curve.error is None


def test_standard_errors_and_curves_of_their_own(tmp_path):
    path = write(
        tmp_path, "samples\taccuracy\tstandard_error\tagent\n0\t0.1\t0.01\tb\n5\t0.2\t0\tb\n0\t0.3\t0.02\ta\n"
    )
    curves = inputs.read_curve(path, ["a", "b"])
    assert set(curves) == {"a", "b"}
    np.testing.assert_array_equal(curves["b"].accuracy, [[0.1, 0.2]])
    np.testing.assert_array_equal(curves["b"].error, [0.01, 0])
    np.testing.assert_array_equal(curves["a"].error, [0.02])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "samples,accuracy\n0,0.1\n10,85\n",
            "line 3: `accuracy` must be in [0, 1], not a percentage, got '85'",
        ),
        ("samples,accuracy\n-1,0.1\n", "line 2: `samples` must be a number, at least 0, got '-1'"),
        ("accuracy\n0.1\n", "column `samples` is missing"),
        (
            "samples,accuracy,standard_error\n0,0.1,\n5,0.2,0.1\n",
            "line 2: `standard_error` must be given in every row",
        ),
        ("samples,accuracy,standard_error\n0,0.1,0.1\n0,0.2,0.1\n", "line 3: `samples` of an earlier row"),
        (
            "samples,accuracy,standard_error\n0,0.1,-0.1\n",
            "line 2: `standard_error` must be a number, at least 0",
        ),
        ("samples,accuracy,agent\n0,0.1,c\n", "line 2: `agent` 'c' is none of the participants"),
        ("samples,accuracy,agent\n0,0.1,a\n0,0.2,\n", "line 3: `agent` must not be empty in some rows only"),
        ("samples,accuracy,agent\n0,0.1,a\n", "no curve for b; every participant needs one"),
    ],
)
def test_what_is_wrong_with_a_curve_is_said(tmp_path, text, message):
    assert message in complaint(inputs.read_curve, write(tmp_path, text), ["a", "b"])
