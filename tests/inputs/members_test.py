import os
import string
import sys

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from PIL import Image

from fedgame.inputs import members

NORTH = "age,bmi,sex,ill\n50,21.5,f,no\n61,,m,yes\n47,30,f,yes\n"
SOUTH = "age,bmi,sex,ill\n33,19,m,no\n58,27,,yes\n"


def write(folder, **texts):
    """A file NAME.csv of each text or bytes."""
    for name, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(content)
    return str(folder)


def column(federation, name):
    """A column of numbers or texts, by member."""
    schema = federation.schema
    if name in schema.numbers:
        return [own.numbers[:, schema.numbers.index(name)].tolist() for own in federation.records]
    return [own.texts[:, list(schema.categories).index(name)].tolist() for own in federation.records]


def pair(folder, first, second=None, **options):
    """The federation of two members, of the same table if there is only one."""
    return members.read(write(folder, m=first, n=second or first), **options).federation


def test_two_tables_are_read(tmp_path):
    federation, remarks = members.read(write(tmp_path, north=NORTH, south=SOUTH))
    assert federation.names == ("north", "south")
    assert federation.classes == ("no", "yes")
    assert [labels.tolist() for labels in federation.labels] == [[0, 1, 1], [0, 1]]
    assert federation.schema.numbers == ("age", "bmi")
    assert federation.schema.categories == {"sex": ("f", "m")}
    assert federation.schema.gaps == (False, True)
    np.testing.assert_array_equal(column(federation, "bmi")[0], [21.5, np.nan, 30])
    assert column(federation, "sex") == [["f", "m", "f"], ["m", ""]]
    assert remarks == ["the target is `ill`, the last column of north"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ";").replace(".", ","),
        lambda text: text.replace(",", "\t").replace(".", ","),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\n" + text + "\n  \n,,,\n",
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("f,", '"f",').replace("age", '"age"'),
        lambda text: text.replace(",,", ",?,"),
        lambda text: text.replace(",,", ",NA ,"),
        lambda text: text.replace("50", "50.0"),
        lambda text: "".join(f"{'' if i == 0 else i},{x}\n" for i, x in enumerate(text.split("\n")[:-1])),
    ],
)
def test_the_same_table_in_other_forms(change, tmp_path):
    first = members.read(write(tmp_path, north=NORTH, south=SOUTH)).federation
    again = members.read(write(tmp_path, north=change(NORTH), south=SOUTH)).federation
    assert again.schema == first.schema
    for a, b in zip(first.records + first.labels, again.records + again.labels, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a%2Fb", "a/b"),
        ("#1", "#1"),
        ("=1+1", "=1+1"),
        ("St. Mary", "St. Mary"),
        ("Zu\u0308rich", "Z\u00fcrich"),
        ("v1.2", "v1.2"),
    ],
)
def test_members_are_called_as_files_are(file, name, tmp_path):
    assert members.read(write(tmp_path, **{file: NORTH, "zzz": SOUTH})).federation.names == (name, "zzz")


def test_the_target_may_be_any_column(tmp_path):
    federation, remarks = members.read(write(tmp_path, m="y,a\n0,1\n1,2\n", n="a,y\n3,1\n4,0\n"), target="y")
    assert federation.schema.numbers == ("a",)
    assert [labels.tolist() for labels in federation.labels] == [[0, 1], [1, 0]]
    assert remarks == []


def test_columns_may_be_left_out(tmp_path):
    table = "id,a,y,note\nx1,1,0,u\nx2,2,1,v\n"
    federation, remarks = members.read(write(tmp_path, m=table, n=table), without=["id", "note"])
    assert federation.schema == (("a",), {}, (False,))
    assert "the target is `y`, the last column of m" in remarks


def test_numbers_can_be_categories(tmp_path):
    first, second = "a,y\n1,0\n2,1\n01,1\n", "a,y\n1.0,0\n,1\nx,1\n"
    federation = pair(tmp_path, first, second, categorical=["a"])
    assert column(federation, "a") == [["1", "2", "01"], ["1", "", "x"]]
    assert federation.schema.categories == {"a": ("01", "1", "2", "x")}


def test_large_integers_are_not_rounded_together_as_categories_or_classes(tmp_path):
    table = "a,y\n9007199254740993,9007199254740993\n9007199254740992,9007199254740992\n"
    federation = pair(tmp_path, table, categorical=["a"])
    assert federation.classes == ("9007199254740992", "9007199254740993")
    assert federation.schema.categories["a"] == federation.classes


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (("None", "mild"), ("None", "mild")),  # not an empty cell
        (("1", "0"), ("0", "1")),
        (("1.0", "0"), ("0", "1")),
        (("10", "9"), ("9", "10")),
        (("1", "01"), ("01", "1")),
        (("TRUE", "false"), ("False", "True")),
        (("1_0", "2"), ("2", "1_0")),
        (("b ", " a"), ("a", "b")),
        (("2020-01-02", "2020-01-01"), ("2020-01-01", "2020-01-02")),
        (("=1+1", '"x,y"'), ("=1+1", "x,y")),
    ],
)
def test_classes_are_called_as_the_cells_say(cells, classes, tmp_path):
    federation = pair(tmp_path, f"a,y\n1,{cells[0]}\n2,{cells[1]}\n")
    assert federation.classes == classes
    assert [federation.classes[k] for k in federation.labels[0]] == [
        members._class_name(cell.strip('"')) for cell in cells
    ]


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (("True", "false", ""), ["True", "False", ""]),
        (("None", "mild", "NULL"), ["None", "mild", ""]),
        (("1,5", "1.5", "x"), ["1,5", "1.5", "x"]),
        (("1e3", "-.5", "NaN"), [1000, -0.5, np.nan]),
        (("123456789012345678901234567890", "-1", "n/a"), [123456789012345678901234567890.0, -1, np.nan]),
        (("1_000", "2_000", ""), ["1_000", "2_000", ""]),
        (("u\u2028v", "u\x0cv", "u\nv"), ["u\u2028v", "u\x0cv", "u\nv"]),
    ],
)
def test_cells_are_read_as_they_are_written(cells, found, tmp_path):
    rows = "".join(f'"{cell}",{k % 2}\n' for k, cell in enumerate(cells))
    for own in column(pair(tmp_path, "a,y\n" + rows), "a"):
        np.testing.assert_array_equal(own, found)


def test_a_column_without_anything_is_no_category(tmp_path):
    federation = pair(tmp_path, "a,b,y\n,1,0\n?,2,1\n", categorical=["a"])
    assert federation.schema == (("a", "b"), {}, (True, False))


def test_classes_are_in_the_order_of_numbers_whoever_comes_first(tmp_path):
    folder = write(tmp_path, m="a,y\n1,1\n2,10\n3,9\n", n="a,y\n1,01\n2,10\n", o="a,y\n1,01\n2,1\n3,9\n")
    assert members.read(folder).federation.classes == ("01", "1", "9", "10")


def test_numbers_written_in_other_ways_are_the_same_record(tmp_path):
    folder = write(tmp_path, m="a,b,y\n0,2.5,0\n1.5,,1\n", n="a,b,y\n-0.0,2.50,0\n1.50,NA,1.0\n")
    assert "n: 2 records are also m's" in members.read(folder).remarks


def test_names_of_columns_may_have_separators_in_them(tmp_path):
    table = '"a, b";"c, d";"e, f"\n1;2;0\n3;4;1\n'
    assert pair(tmp_path, table).schema.numbers == ("a, b", "c, d")


def test_what_is_odd_but_allowed_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "measurements.csv").write_text("x")
    first = "a,b,c,d,y\n1,5,,3,0\n2,6,,u,1\n2,6,,u,1\n3,7,,u,2\n"
    second = "a,d,c,y\n3,u,4,0\n8,u,5,1\n"
    third = "a,b,c,d,y\n2,6,,u,1\n1,5,4,3,2\n"
    _, remarks = members.read(write(tmp_path, m=first, n=second, o=third), target="y")
    assert remarks == [
        "ignored, as no table and no images: notes.txt",
        "m has nothing in the column `c`",
        "n has no column `b`: counted as empty",
        "`d` has numbers and texts, '3' and 'u' for example: all of them are categories",
        "m: 1 record is there twice",
        "o: 1 record is also m's",
        "n has no records of class 2",
        "o has no records of class 0",
    ]


def test_pandas_numbers_of_rows_are_ignored_and_told(tmp_path):
    pd.DataFrame({"a": [1, 2], "y": [0, 1]}).to_csv(tmp_path / "m.csv")
    federation, remarks = members.read(write(tmp_path, n="a,y\n3,1\n4,0\n"))
    assert federation.schema.numbers == ("a",)
    assert "m: the first column has no name and is ignored" in remarks


def test_results_that_lie_among_the_members_are_no_member(tmp_path):
    (tmp_path / "results" / "measure").mkdir(parents=True)
    (tmp_path / "results" / "measure" / "config.json").write_text("{}")
    federation, remarks = members.read(write(tmp_path, m="a,y\n1,0\n2,1\n", n="a,y\n3,1\n4,0\n"))
    assert federation.names == ("m", "n")
    assert "ignored, as no table and no images: results" in remarks


def test_a_class_that_only_one_member_has_is_allowed_and_told(tmp_path):
    federation, remarks = members.read(write(tmp_path, m="a,y\n1,0\n2,1\n3,2\n", n="a,y\n3,1\n4,0\n"))
    assert federation.classes == ("0", "1", "2")
    assert "n has no records of class 2" in remarks


GOOD = "a,b,y\n1,2,0\n2,3,1\n"


@pytest.mark.parametrize(
    "table", ["a,b,y,,\n1,2,0,,\n2,3,1,,\n", "a\tb\ty\n1\t2\t0\n2\t3\t1\n".encode("utf-16")]
)
def test_tables_as_spreadsheets_write_them(table, tmp_path):
    found = members.read(write(tmp_path, a=GOOD, b=table), target="y").federation
    np.testing.assert_array_equal(found.records[0].numbers, found.records[1].numbers)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "the table of bad, .*bad.csv, cannot be read: it is empty"),
        ("a,b,y\n", "bad has no records: .*bad.csv has no rows below its first line"),
        ("a;b;y\n", "bad has no records"),
        ("a,b,y\n1,2,1\n2,3,1\n", "all records of bad have `y` 1: there is nothing to learn"),
        ("a,b,y\n1,2,1\n2,3,2\n", "bad has `y` 1, 2, of which the others have 1; they have 0, 1: it must be"),
        (
            "a,b,y\n1,2,yes\n2,3,no\n",
            "bad has `y` no, yes, of which the others have none; they have 0, 1: it must",
        ),
        ("c,d,y\n1,2,0\n2,3,1\n", "bad has no feature in common with the others: c, d, y; good has a, b, y"),
        ("y\n0\n1\n", "bad has no feature in common with the others: y; good has a, b, y"),
        ("a,b,z\n1,2,0\n2,3,1\n", r"bad has no column `y` \(--target\): there are a, b, z"),
        ("a,b,y\n1,2,0\n2,3,\n2,3,NA\n1,1,1\n", "bad: 2 of 4 records have no `y`"),
        (
            "a,b,y\nu,2,0\n2,3,1\n",
            "`a` has numbers in the table of good and texts in that of bad, 'u' for ex",
        ),
        ("a,b,y\nTrue,2,0\nFalse,3,1\n", "numbers in the table of good and texts in that of bad, 'True'"),
        ("a,b,y\n2020-01-01,2,0\n,3,1\n", "texts in that of bad, '2020-01-01'"),
        ("a,a,y\n1,2,0\n2,3,1\n", "bad.csv: two columns are called `a`"),
        ("a, a ,y\n1,2,0\n2,3,1\n", "bad.csv: two columns are called `a`"),
        ("a,b,y,\n1,2,0,\n2,3,1,7\n", "bad.csv: a column has no name"),
        (
            "a,b,y\n1,2,0\n2,3\n",
            "bad.csv, cannot be read: line 3: 2 cells, but the first line names 3 columns",
        ),
        ("y,a,b\n0,1,2\n1,2\n", "line 3: 2 cells, but the first line names 3 columns"),
        ("a,b,y\n1,2,0,1\n2,3,1,1\n", "line 2: 4 cells, but the first line names 3 columns"),
        ('a,b,y\n1,"2,0\n2,3,1\n', "bad.csv, cannot be read: line 3: unexpected end of data"),
        (f"a,b,y\n{'x' * 200_000},2,0\n2,3,1\n", "bad.csv, cannot be read: line 2: field larger than"),
        ("a,b,y\n1,é,0\n".encode("latin1"), "bad.csv, cannot be read: line 2: not a text file in UTF-8"),
        (bytes(range(256)), "bad.csv, cannot be read: line 3: not a text file in UTF-8"),
        (GOOD.encode("utf-16-le"), "bad.csv, cannot be read: line 1: NUL, which no text has"),
        ("a,b,y\n1e300,2,0\n2,3,1\n", r"`a` of bad has numbers beyond 1e\+30"),
        ("a,b,y\n1,-inf,0\n2,3,1\n", r"`b` of bad has numbers beyond 1e\+30"),
    ],
)
def test_tables_that_cannot_be_used(table, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        members.read(write(tmp_path, bad=table, good=GOOD), target="y")
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("other", ["Age", "a ge", "AGE"])
def test_a_column_that_two_members_spell_in_two_ways_is_refused(other, tmp_path):
    """One of them would have been counted as empty, the other too."""
    north, south = "age,bmi,ill\n50,21,no\n61,22,yes\n", f"{other},bmi,ill\n33,19,no\n58,27,yes\n"
    message = (
        f"m.csv has a column `age`, and .*n.csv `{other}`: columns are compared letter by letter, so rename"
    )
    with pytest.raises(ValueError, match=message):
        pair(tmp_path, north, south)
    without = pair(tmp_path, north, south, without=[other])
    assert without.schema.numbers == ("age", "bmi")
    both = f"age,{other},bmi,ill\n50,1,21,no\n61,2,22,yes\n"  # hers are two columns
    assert pair(tmp_path, both, south).schema.numbers == ("age", other, "bmi")
    target = SOUTH.replace("ill", "Ill")
    with pytest.raises(ValueError, match=r"has a column `ill`, and .*n\.csv `Ill`"):
        pair(tmp_path, NORTH, target)


def test_why_a_column_was_taken_as_the_class_is_told_if_nobody_named_it(tmp_path):
    rows = "".join(f"{k % 2},{k},{k}\n" for k in range(101))
    message = (
        "`weight` has 101 different values: at most 100 classes are possible. The class is taken from the "
        r"last column of m, `weight`: name another one with --target=COLUMN \(label, age\)$"
    )
    with pytest.raises(ValueError, match=message):
        pair(tmp_path, "label,age,weight\n" + rows)
    with pytest.raises(ValueError, match=r"100 classes are possible$"):
        pair(tmp_path, "label,age,weight\n" + rows, target="weight")
    many = [f"x{k}" for k in range(12)]
    table = f"{','.join(many)},y\n" + "".join(f"{'1,' * 12}0\n" for _ in range(2))
    with pytest.raises(ValueError, match=r"nothing to learn\. The class .*COLUMN \(x0, .*, x7, …\)"):
        pair(tmp_path, table)


def test_two_codings_of_many_members_are_told(tmp_path):
    coded = {"m": GOOD, "n": GOOD, "o": GOOD.replace("0\n", "no\n").replace(",1\n", ",yes\n")}
    _, remarks = members.read(write(tmp_path, **coded, p=coded["o"]))
    assert "m has no records of class no, yes" in remarks
    assert "p has no records of class 0, 1" in remarks


@pytest.mark.parametrize("values", [range(101), range(1000)])
def test_too_many_texts_or_classes(values, tmp_path):
    texts = "".join(f"x{k},{k % 2}\n" for k in values)
    with pytest.raises(ValueError, match=rf"`a` has {len(values)} different texts.*--without=a"):
        pair(tmp_path, "a,y\n" + texts)
    with pytest.raises(ValueError, match=rf"`a` has {len(values)} different values: at most 100 classes"):
        pair(tmp_path, "a,y\n" + texts, target="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "z"}, "m has no column `z`"),
        ({"categorical": ["z"]}, "--categorical: no member has a column `z`"),
        ({"without": ["z"]}, "--without: no member has a column `z`"),
        ({"without": ["y"], "target": "y"}, "--target=y is no feature"),
        ({"categorical": ["y"], "target": "y"}, "--target=y is no feature"),
        ({"without": ["a", "b", "y"]}, "m has no columns but those of --without"),
    ],
)
def test_flags_that_cannot_be(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pair(tmp_path, GOOD, **options)


def test_folders_that_hold_no_federation(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone"):
        members.read(str(tmp_path / "gone"))
    (tmp_path / "all.txt").write_text(GOOD)
    with pytest.raises(
        ValueError, match=r"all\.txt is a file: name the folder that holds all members' tables"
    ):
        members.read(str(tmp_path / "all.txt"))
    with pytest.raises(ValueError, match=r"must hold at least two members .*: none"):
        members.read(str(tmp_path))
    with pytest.raises(ValueError, match=r"must hold at least two members .*: only m"):
        members.read(write(tmp_path, m=GOOD))
    (tmp_path / "n").mkdir()
    with pytest.raises(ValueError, match="holds tables and images, m and n"):
        members.read(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("a%2Fb", "a%2fb"), "are of one member, a/b"),
        (("u\u0308", "\u00fc"), "are of one member, \u00fc"),
        (("a", "a "), "are of one member, a"),
        (("%0A", "b"), "a member's name must not be empty"),
        (("a%00", "b"), r"must be printable text, but 'a\\x00' has U\+0000, a control character"),
    ],
)
def test_names_that_cannot_be(files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        members.read(write(tmp_path, **dict.fromkeys(files, GOOD)))


def test_a_folder_with_the_ending_of_a_table_is_no_table(tmp_path):
    (tmp_path / "n.csv").mkdir()
    with pytest.raises(ValueError, match=r"the table of n, .*cannot be read"):
        members.read(write(tmp_path, m=GOOD))


def test_parquet_tables_are_read_as_others(tmp_path):
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], "Int64"),
            "sex": pd.Categorical(["f", None, "m"]),
            "smoker": pd.array([True, None, False], "boolean"),
            "day": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
            "digits": ["1", "?", "3"],
            "y": np.array([0, 1, 0], np.float32),
        }
    )
    frame.set_index(frame.index // 2).to_parquet(tmp_path / "m.parquet")
    text = "whole,sex,smoker,day,digits,y\n1,f,TRUE,2020-01-01 00:00:00,1,0\n2,x,false,,5,1\n"
    federation = members.read(write(tmp_path, n=text)).federation
    assert federation.classes == ("0", "1")
    assert federation.schema.numbers == ("whole", "digits")
    np.testing.assert_array_equal(federation.records[0].numbers, [[1, 1], [np.nan, np.nan], [3, 3]])
    assert column(federation, "sex")[0] == ["f", "", "m"]
    assert column(federation, "smoker") == [["True", "", "False"], ["True", "False"]]
    assert federation.schema.categories["day"] == ("2020-01-01 00:00:00", "2020-01-03 00:00:00")
    again = members.read(str(tmp_path), categorical=["whole"]).federation
    assert column(again, "whole") == [["1", "", "3"], ["1", "2"]]


def test_parquet_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and nothing else")
    folder = write(tmp_path, n=GOOD)
    with pytest.raises(ValueError, match=r"the table of m, .*m\.parquet, cannot be read"):
        members.read(folder)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"m\.parquet: tables of this kind need pyarrow: pip install"):
        members.read(folder)


CELLS = st.one_of(
    st.sampled_from(
        ["", "?", "NA", "None", "1", "1.0", "-2.5", "1e400", "inf", "True", "x", "01", "١", "\x00"]
    ),
    st.text(string.printable + "é\u2028;", max_size=4),
)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=5)


@hypothesis.given(first=TABLES, second=TABLES, separator=st.sampled_from(",;\t"))
@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_a_table_holds_it_is_read_or_complained_of(first, second, separator, tmp_path):
    text = "\n".join(separator.join(row) for row in first)
    rows = "\n".join(separator.join(row) for row in [["a", "y"], ["1", "0"], ["2", "1"], *second])
    for start in ("", "a,y\n1,0\n2,1\n".replace(",", separator)):
        try:
            federation = members.read(write(tmp_path, m=start + text, n=rows)).federation
        except ValueError:  # no other error
            continue
        check_whole(federation)


def check_whole(federation):
    """Labels and cells are of the classes and columns, and there are as many of them."""
    for own, labels in zip(federation.records, federation.labels, strict=True):
        assert own.numbers.shape == (len(labels), len(federation.schema.numbers))
        assert own.texts.shape == (len(labels), len(federation.schema.categories))
        assert not np.isinf(own.numbers).any()
        assert set(labels.tolist()) <= set(range(len(federation.classes)))
        for k, known in enumerate(federation.schema.categories.values()):
            assert set(own.texts[:, k]) <= {*known, ""}


CATEGORIES = st.one_of(st.none(), st.sampled_from(["red", "a,b", 'a"b', "é", "1st", "a\nb"]))
NUMBERS = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9))


@hypothesis.given(rows=st.lists(st.tuples(NUMBERS, CATEGORIES, st.booleans()), min_size=1, max_size=6))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_what_pandas_writes_is_read_back(rows, tmp_path):
    rows = [(1.5, "red", True), (2.5, "red", False), *rows]
    frame = pd.DataFrame(rows, columns=["number", "text", "y"])
    for name in ("m", "n"):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    federation = members.read(str(tmp_path)).federation
    want = [np.nan if number is None else number for number, *_ in rows]
    np.testing.assert_allclose(column(federation, "number")[0], want, rtol=1e-14)
    assert column(federation, "text")[0] == [text or "" for _, text, _ in rows]
    assert federation.labels[1].tolist() == [int(y) for *_, y in rows]


def draw(folder, classes, size=(4, 5), seed=0):
    """Two images of each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(2):
            pixels = rng.integers(0, 256, size).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")


def test_images_in_folders_and_arrays(tmp_path):
    draw(tmp_path / "a%2Fb", ["1", "10"])
    draw(tmp_path / "c" / "train", ["2", "1"], seed=1)
    draw(tmp_path / "c" / "test", ["10", "1"], seed=2)
    pixels = np.random.default_rng(3).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=pixels, labels=[10, 2, 2])
    (tmp_path / "d.npz").rename(tmp_path / "d.NPZ")
    federation, remarks = members.read(str(tmp_path))
    assert federation.names == ("a/b", "c", "d")
    assert federation.classes == ("1", "2", "10")
    assert federation.schema is None
    assert [labels.tolist() for labels in federation.labels] == [
        [0, 0, 2, 2], [0, 0, 1, 1, 0, 0, 2, 2], [2, 1, 1]
    ]  # fmt: skip
    np.testing.assert_allclose(federation.records[2][..., 0], pixels / 255, rtol=1e-6)
    assert remarks == ["a/b has no records of class 2", "d has no records of class 1"]


def test_images_of_other_members_are_told(tmp_path):
    draw(tmp_path / "a", ["x", "y"])
    draw(tmp_path / "b", ["x", "y"])
    assert members.read(str(tmp_path)).remarks == ["b: 4 images are also a's"]


def test_images_that_cannot_be_used(tmp_path):
    draw(tmp_path / "a", ["x", "y"])
    draw(tmp_path / "b", ["x"], seed=1)
    with pytest.raises(ValueError, match="all images of b are of one class: there is nothing to learn"):
        members.read(str(tmp_path))
    draw(tmp_path / "c", ["x", "y"], size=(5, 5), seed=2)
    with pytest.raises(ValueError, match=r"--target is for tables, and .* holds images"):
        members.read(str(tmp_path), target="y")
    (tmp_path / "b" / "y").mkdir()
    (tmp_path / "b" / "x" / "0.png").rename(tmp_path / "b" / "y" / "0.png")
    with pytest.raises(ValueError, match=r"images of c are \(5, 5, 1\), those of a \(4, 5, 1\)"):
        members.read(str(tmp_path))
    (tmp_path / "c" / "x" / "0.png").write_bytes(b"PNG")
    with pytest.raises(ValueError, match=r"c/x/0\.png cannot be read as an image"):
        members.read(str(tmp_path))


def test_what_is_odd_about_images_is_told_with_the_name_of_the_member(tmp_path, monkeypatch):
    draw(tmp_path / "a", ["x", "y"])
    (tmp_path / "a" / "x" / "notes.txt").write_text("no image")
    draw(tmp_path / "a" / "out" / "train", ["x", "y"])
    (tmp_path / "a" / "out" / "config.json").write_text("{}")
    draw(tmp_path / "b" / "train", ["x", "y"], seed=1)
    draw(tmp_path / "b" / "val", ["x", "y"], seed=2)
    icon = Image.new("LA", (5, 4))
    icon.putpixel((1, 1), (0, 255))
    icon.save(tmp_path / "b" / "val" / "y" / "icon.png")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 4, 5)).astype(np.uint8)
    np.savez(tmp_path / "c.npz", images=pixels, labels=[0, 1], classes=["x", "y"], masks=pixels)
    os.mkfifo(tmp_path / "d.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    federation, remarks = members.read("~/")
    assert federation.sizes.tolist() == [4, 9, 2]
    assert [told.replace(str(tmp_path), "HERE") for told in remarks] == [
        "ignored, as no table and no images: d.npz",
        "a: ignored in HERE/a, as results of a command: 'out'",
        "a: ignored in class x of HERE/a, as no images: .txt (1)",
        "b: images of HERE/b/val are the test images, as there is no test",
        "b: 1 of 9 images are transparent in places, which counts as white",
        "c: arrays of HERE/c.npz that are ignored: 'masks'",
    ]
    with pytest.raises(FileNotFoundError, match="there is no folder ~nobody_here/a"):
        members.read("~nobody_here/a")
