import csv
import io
import math
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from fedgame import registry
from fedgame.inputs import agents, columns, measurements


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
    people = agents.read(path)
    assert people.names == ["north", "süd"]
    expected = {"cost": [0.5, 0], "capacity": [10, 0], "exponent": [1, 2], "fixed": [1e-3, 0]}
    expected |= {"quality": [1, 0.5], "value": [1, 3]}
    found = {**people._asdict(), **people.numbers}
    for name, numbers in expected.items():
        np.testing.assert_array_equal(found[name], numbers)
        assert found[name].dtype == np.float64


COLUMNS = ("name", "cost", "capacity", "fixed", "exponent", "value", "quality")
nonnegative = st.floats(0, 1e99)
participants = st.fixed_dictionaries(
    {
        "name": st.text("abcé ,;|$#\"'", min_size=1).map(lambda x: f"x{x}x"),
        "cost": nonnegative,
        "capacity": nonnegative,
        "fixed": nonnegative,
        "exponent": st.floats(1, 50),
        "value": nonnegative,
        "quality": st.floats(0, 1e99, exclude_min=True),
    }
)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
@hypothesis.given(
    rows=st.lists(participants, min_size=1, max_size=5, unique_by=lambda row: row["name"]),
    columns=st.permutations(COLUMNS),
    delimiter=st.sampled_from(",;\t"),
)
def test_agents_come_back_bit_for_bit(tmp_path, rows, columns, delimiter):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    people = agents.read(write(tmp_path, text.getvalue()))
    assert people.names == [row["name"] for row in rows]
    found = {**people._asdict(), **people.numbers}
    for name in COLUMNS[1:]:
        np.testing.assert_array_equal(found[name], [row[name] for row in rows])


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
        ("name,cost,capacity,cost\na,1,2,3\n", "line 1: column `cost` is there twice"),
        ("name,cost,capacity,size\na,1,2,3\n", "line 1: unknown column `size`"),
        (
            "# x\nname\na\n",
            "line 2: column `cost` is missing; the first line has name; cells are separated by commas, semi",
        ),
        ("# x\nname\na\n", "line 2: column `capacity` is missing; the first line has name"),
        ("name,cost,capacity\na,0,5,2\n", "4 cells, but the first line names 3 columns (decimals are"),
        (f"name,cost,capacity\n{'a' * 200_000},1,2\n", "line 2: quotation marks"),
        ("name,cost,capacity\na\x0bb,1,2\nb,x,2\n", "line 3: `cost`"),
        ("name,cost,capacity\na,1,2\nb,1\n", "line 3: 2 cells, but the first line names 3 columns"),
        ("name,cost,capacity\na,1,2\n\nb,abc,2\n", "line 4: `cost` must be a number, at least 0, got 'abc'"),
        ("name,cost,capacity\na,,2\n", "line 2: `cost` must be a number, at least 0, got ''"),
        ("name,cost,capacity\na,nan,2\n", "line 2: `cost` must be a number, at least 0, got 'nan'"),
        ("name,cost,capacity,fixed\na,1,2,nan\n", "got 'nan' (if it is not known, leave it empty)"),
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
            "line 2: quotation marks must enclose one whole cell within the line",
        ),
    ],
)
def test_what_is_wrong_with_participants_is_said(tmp_path, text, message):
    path = write(tmp_path, text)
    told = complaint(agents.read, path)
    assert message in told
    assert path in told


RATE = registry.option("of a sample", low=0, high=2)
OPEN = registry.option("anything between", 0.5, above=0, below=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,capacity\na,1\n", "column `Rate` is missing; the first line has name, capacity"),
        (
            "name,capacity,cost\na,1,2\n",
            "unknown column `cost`; allowed are name, Rate, capacity, part, value,",
        ),
        (
            "name,capacity,Rate\na,1,0\nb,1,2.5\n",
            "line 3: `Rate` must be a number, at least 0 and at most 2, got '2.5'",
        ),
        ("name,capacity,Rate\na,1,\n", "line 2: `Rate` must be a number, at least 0 and at most 2, got ''"),
        (
            "name,capacity,Rate,part\na,1,0,0\n",
            "line 2: `part` must be a number, greater than 0 and less than 1, got '0'",
        ),
        (
            "name,capacity,Rate,part\na,1,0,1\n",
            "line 2: `part` must be a number, greater than 0 and less than 1, got '1'",
        ),
    ],
)
def test_what_is_wrong_with_columns_of_parameters_is_said(tmp_path, text, message):
    path = write(tmp_path, text)
    assert message in complaint(agents.read, path, {"Rate": RATE}, {"part": OPEN})


def test_columns_of_parameters(tmp_path):
    """Ends of a range are allowed; an empty cell counts as the default; a missing column has no numbers."""
    columns = {"Rate": RATE}, {"part": OPEN}
    people = agents.read(write(tmp_path, "name,capacity,Rate,part\na,1,0,0.25\nb,1,2,\n"), *columns)
    assert set(people.numbers) == {"Rate", "part"}
    np.testing.assert_array_equal(people.numbers["Rate"], [0, 2])
    np.testing.assert_array_equal(people.numbers["part"], [0.25, 0.5])
    people = agents.read(write(tmp_path, "name,capacity,Rate\na,1,0\n"), *columns)
    assert set(people.numbers) == {"Rate"}


def test_all_bad_rows_are_told_at_once_up_to_ten(tmp_path):
    bad = "".join(f"a{i},x,2\n" for i in range(13))
    lines = complaint(agents.read, write(tmp_path, "name,cost,capacity\n" + bad)).splitlines()
    assert len(lines) == 11
    assert "line 2: " in lines[0]
    assert "line 11: " in lines[9]
    assert lines[10] == "... and 3 more"


def test_every_kind_of_bad_row_is_told_in_one_go(tmp_path):
    text = 'name,cost,capacity\na,1\nb,x,2\n"c,1,2\na,1,y\n'
    lines = complaint(agents.read, write(tmp_path, text)).splitlines()
    assert [line.split(", line ")[1][0] for line in lines] == ["2", "3", "4", "5"]


def test_missing_files_and_other_encodings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file /nowhere\.csv"):
        agents.read("/nowhere.csv")
    path = write(tmp_path, "name,cost,capacity\nsüd,1,2\n", encoding="latin-1")
    assert f"{path}, line 2: not a text file in UTF-8: save it as CSV UTF-8" == complaint(agents.read, path)
    for encoding in ("utf-16", "utf-8-sig"):  # as Excel writes them
        path = write(tmp_path, "name\tcost\tcapacity\r\nsüd\t1\t2\r\n", encoding=encoding)
        assert agents.read(path).names == ["süd"]
    for encoding in ("utf-16-le", "utf-32"):
        path = write(tmp_path, "name,cost,capacity\na,1,2\n", encoding=encoding)
        assert f"{path}, line 1: NUL, which no text has" in complaint(agents.read, path)
    path = write(tmp_path, "name,cost,capacity\ra,1,2\rb,x,2\r")  # as of an old Macintosh
    assert f"{path}, line 3: `cost` must be a number" in complaint(agents.read, path)


def test_pipes_and_folders_are_no_tables(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")  # reading it would never end
    for name, kind in (("pipe.csv", "a pipe or a device"), (".", "a folder")):
        assert complaint(agents.read, str(tmp_path / name)) == f"{tmp_path / name} is {kind}, not a file"


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("1,5", "decimals are written with a point"),
        ("1,500", "decimals are written with a point, thousands without a separator"),
        ("1'500", "thousands are written without a separator"),
        ("1 500 000", "thousands are written without a separator"),
        ("1\u202f500", "thousands are written without a separator"),
        ("1.500.000", "digits are written without a separator"),
        ("1_0", "digits are written without a separator"),
        ("60 €", "a number is written alone, without a unit"),
        ("$60", "a number is written alone, without a unit"),
        ("60kg", "a number is written alone, without a unit"),
        ("5%", "a percentage is written as a fraction, 5% as 0.05"),
        ("١٢", "digits are written 0 to 9"),
        ("\u22125", "the minus sign is written -"),
        ("inf", "it must be finite"),
        ("nan", "if it is not known, leave the row out"),
        ("N/A", "if it is not known, leave the row out"),
    ],
)
def test_what_is_no_number_is_refused_with_how_to_write_it(tmp_path, cell, advice):
    told = complaint(agents.read, write(tmp_path, f'name;cost;capacity\na;1;"{cell}"\n'))
    assert told.endswith(f"line 2: `capacity` must be a number, at least 0, got {cell!r} ({advice})")


@hypothesis.given(st.text("0123456789.,eE+-_'% ١\u2212xnaif", max_size=8))
def test_only_numbers_in_ascii_are_read(cell):
    problems = []
    numbers = columns.read_numbers(
        {"x": cell.strip()}, {"x": columns.Number("a number", low=-math.inf)}, 1, problems
    )
    if problems:
        assert math.isnan(numbers["x"])
    else:
        assert numbers["x"] == float(cell)
        assert set(cell.strip()) <= set("0123456789.eE+-")


@pytest.mark.parametrize("cell", ["1e100", "1e400", "1" + "0" * 120])
def test_numbers_whose_squares_would_overflow_are_refused(tmp_path, cell):
    told = complaint(
        agents.read, write(tmp_path, f"name,cost,capacity,outside\na,1,{cell},0\nb,1,1,-{cell}\n")
    )
    assert "line 2: `capacity` must be a number, at least 0, below 1e100, got '1" in told
    assert "line 3: `outside` must be a number, below 1e100, got '-1" in told
    assert len(told) < 2 * (len(str(tmp_path)) + 140)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a\u202eb", "must be printable text, but 'a\\u202eb' has U+202E, right-to-left override"),
        ("a\fb", "must be printable text, but 'a\\x0cb' has U+000C, a control character"),
        ("\u200b", "must be printable text, but '\\u200b' has U+200B, zero width space"),
    ],
)
def test_names_that_cannot_be_printed_are_refused(tmp_path, name, fault):
    path = write(tmp_path, f"name,cost,capacity\n{name},1,2\n")
    assert complaint(agents.read, path) == f"{path}, line 2: `name` {fault}"
    path = write(tmp_path, f"samples,accuracy,agent\n0,0.1,{name}\n")
    assert complaint(measurements.read, path) == f"{path}, line 2: `agent` {fault}"


def test_two_spellings_of_one_letter_are_one_name(tmp_path):
    path = write(tmp_path, "name,cost,capacity\n\u00e9,1,2\ne\u0301,1,2\n")
    assert "line 3: `name` '\u00e9' is that of line 2 already" in complaint(agents.read, path)
    path = write(tmp_path, "samples,accuracy,agent\n0,0.1,e\u0301\n")
    assert list(measurements.read(path, ["\u00e9"])) == ["\u00e9"]


PEOPLE = "name,cost,capacity\n"


def test_a_row_that_looks_like_a_comment_is_asked_about(tmp_path):
    path = write(tmp_path, PEOPLE + "a,1,2\n#1 Lisbon,0.004,60\n")
    assert complaint(agents.read, path) == (
        f"{path}, line 3: a comment, or a row? It begins with # and has 3 cells: if it is a row, write the "
        'first in quotation marks, "#1 Lisbon", or as \'#1 Lisbon; if it is to be left out, delete it'
    )
    for cell in ('"#1 Lisbon"', "'#1 Lisbon"):
        assert agents.read(write(tmp_path, PEOPLE + f"a,1,2\n{cell},1,2\n")).names == ["a", "#1 Lisbon"]


def test_what_was_read_and_what_was_skipped_is_told(tmp_path):
    notes = []
    text = (
        "# by hand\n" + PEOPLE + "# north, say\na,1,1.500\n# a spreadsheet adds commas,,\nb,1,2.000\nc,1,3\n"
    )
    agents.read(path := write(tmp_path, text), notes=notes)
    assert notes == [
        f"3 participants from {path} (3 comment lines skipped)",
        "capacity of a is 1.5 (written 1.500), capacity of b is 2 (written 2.000); thousands are written "
        "without a separator",
    ]
    notes = []
    text = ",samples,seed,accuracy,low,high,\n0,0,0,.1,0,1,\n1,0,1,.1,0,1,\n2,5,0,.1,0,1,\n3,5,1,.1,0,1,\n"
    measurements.read(path := write(tmp_path, text), notes=notes)
    assert notes == [
        f"4 measurements at 2 sizes, 2 repetitions each, from {path} (a first column of row numbers ignored, "
        "columns 'low', 'high' ignored)"
    ]
    for text, told in (
        ("samples,accuracy\n0,.1\n", "1 measurement at 1 size from"),
        ("samples,accuracy\n0,.1\n0,.2\n1,.2\n", "3 measurements at 2 sizes, some repeated, from"),
        ("samples,accuracy,agent\n0,.1,a\n0,.2,b\n1,.2,b\n", "3 measurements in 2 curves from"),
        ("samples,accuracy\n1.500,.1\n", "samples is 1.5 (written 1.500); thousands"),
    ):
        notes = []
        measurements.read(write(tmp_path, text), notes=notes)
        assert notes[-1].startswith(told)


@pytest.mark.parametrize(
    "text",
    [
        "# samples,accuracy\n0,.1\n5,.2\n",  # as numpy.savetxt writes it
        "# run of May\n#Samples;Accuracy\n0;.1\n5;.2\n",
        "# samples,accuracy\nsamples,accuracy\n0,.1\n5,.2\n",
        "samples,accuracy,,\n0,.1,,\n5,.2,,\n",
        "samples,accuracy\n0,.1,\n5,.2,,\n",
        ",samples,accuracy\n0,0,.1\n1,5,.2\n",  # as pandas writes it
        '"","samples","accuracy"\n"1",0,.1\n"2",5,.2\n',  # and R
        "Unnamed: 0.1,Unnamed: 0,samples,accuracy\n0,0,0,.1\n1,1,5,.2\n",
        "samples,accuracy\n0,.1\n\f\n5,.2\n",
    ],
)
def test_what_programs_add_to_tables_is_skipped(tmp_path, text):
    (curve,) = measurements.read(write(tmp_path, text)).values()
    np.testing.assert_array_equal(curve.sizes, [0, 5])
    np.testing.assert_array_equal(curve.accuracy, [[0.1, 0.2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "samples,accuracy,\n10,0,42\n",
            "line 2: '42' is in a column without a name (decimals are written with a point)",
        ),
        (",samples,accuracy\nA,10,.4\nB,10,.5\n", "line 2: 'A' is in a column without a name"),
        (",samples,accuracy\n1,10,.4\n1,10,.5\n", "line 2: '1' is in a column without a name"),
        ("samples,accuracy,seed,seed\n0,0.1,1,2\n", "line 1: column `seed` is there twice"),
        ("samples,accuracy,x,x\n0,0.1,1,2\n", "line 1: column `x` is there twice"),
    ],
)
def test_columns_that_may_hold_something_are_not_skipped(tmp_path, text, message):
    assert message in complaint(measurements.read, write(tmp_path, text))


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [("client", "A", "B"), ("split", "train", "test"), ("Unnamed: 0", "A", "B"), ("loss", "0.3", "0.4")],
)
def test_a_column_that_may_say_whose_curve_it_is_is_asked_about(tmp_path, column, first, second):
    path = write(tmp_path, f"{column},samples,accuracy\n{first},10,0.5\n{first},20,0.6\n{second},10,0.7\n")
    assert complaint(measurements.read, path) == (
        f"{path}, line 4: `{column.lower()}` is {second!r}, but {first!r} in line 2 with the same samples. "
        "If it says whose curve it is, call the column `agent`; if it numbers repetitions, call it seed or "
        "run or repeat or repetition or fold; if not, delete the column, or the rows that are not meant"
    )
    for name in ("agent", "seed", "Run", "repeat", "repetition", "fold"):
        text = f"{name},samples,accuracy\n{first},10,0.5\n{first},20,0.6\n{second},10,0.7\n"
        assert len(measurements.read(write(tmp_path, text))) == (2 if name == "agent" else 1)


def test_a_measurement_that_is_there_twice_is_told_with_both_lines(tmp_path):
    path = write(tmp_path, "samples,seed,fold,accuracy\n0,1,1,.1\n0,1,2,.1\n5,1,1,.1\n0.0,1,2,.3\n")
    assert complaint(measurements.read, path) == (
        f"{path}, line 5: `samples` and `seed` and `fold` are those of line 3 already: delete one, or number "
        "them differently"
    )
    path = write(tmp_path, "samples,accuracy\n0,.1\n0,.1\n")  # nothing says that these are one
    assert measurements.read(path)[""].accuracy.shape == (2, 1)


@pytest.mark.parametrize(
    ("file", "repetitions"),
    [("examples/curve.csv", 3), ("examples/mnist_curve.csv", 3), ("tests/fixtures/0.1/curve.csv", 2)],
)
def test_files_of_ours_are_read_as_before(file, repetitions):
    (curve,) = measurements.read(file).values()
    assert curve.accuracy.shape == (repetitions, len(curve.sizes))
    assert not np.any(np.isnan(curve.accuracy))


def test_repeated_measurements_become_rows_with_holes(tmp_path):
    path = write(
        tmp_path, "size,seed,accuracy\n10,0,0.5\n0,0,0.1\n10,1,0.7\n20,0,0.8\n"
    )  # as compare writes it
    (curve,) = measurements.read(path, ["a"]).values()
    np.testing.assert_array_equal(curve.sizes, [0, 10, 20])
    np.testing.assert_array_equal(curve.accuracy, [[0.1, 0.5, 0.8], [np.nan, 0.7, np.nan]])
    assert curve.error is None


def test_standard_errors_and_curves_of_their_own(tmp_path):
    path = write(
        tmp_path, "samples\taccuracy\tstandard_error\tagent\n0\t0.1\t0.01\tb\n5\t0.2\t0\tb\n0\t0.3\t0.02\ta\n"
    )
    curves = measurements.read(path, ["a", "b"])
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
    assert message in complaint(measurements.read, write(tmp_path, text), ["a", "b"])


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ("x,.1,.1\ny,.2,.1\n", ["2: `samples` must be", "3: `samples` must be"]),
        ("0,.1,.1\n5,.2,-1\n", ["3: `standard_error` must be a number"]),
        (
            "0,.1,.1\n5,.2,\n6,.2,\n",
            ["3: `standard_error` must be given", "4: `standard_error` must be given"],
        ),
    ],
)
def test_each_bad_row_of_a_curve_is_told_once(tmp_path, rows, lines):
    told = complaint(measurements.read, write(tmp_path, "samples,accuracy,standard_error\n" + rows))
    assert [
        line.split(", line ")[1][: len(x)] for line, x in zip(told.splitlines(), lines, strict=True)
    ] == lines


def test_every_row_without_its_agent_is_told(tmp_path):
    path = write(tmp_path, "samples,accuracy,agent\n0,.1,a\n1,.2,\n2,.3,\n")
    assert complaint(measurements.read, path).count("`agent` must not be empty") == 2


def test_participants_without_a_curve_are_counted(tmp_path):
    path = write(tmp_path, "samples,accuracy,agent\n0,.1,z\n")
    told = complaint(measurements.read, path, ["z", *map(str, range(15))])
    assert "no curve for 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 5 more" in told
