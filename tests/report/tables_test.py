"""Rows of files, as columns, groups and Markdown."""

import pytest

from fedgame import mechanisms  # noqa: F401  registers the rules, whose titles are tested
from fedgame.report import tables
from fedgame.runs import workdir


def test_the_column_mechanism_holds_names_and_people_read_labels():
    for name, title in {
        "none": "no payments",
        "beta_star": "β*",
        "falkinger": "β = 1 - 1/n",
        "price(price=0.004)": "one price (price = 0.004)",
        "designed(p=-inf)": "designed β (p = -inf)",
        "first_best": "first best",
        "chosen_who_stay": "chosen, those who stay",
        "what a study of one's own tells apart": "what a study of one's own tells apart",
    }.items():
        assert tables.title(name) == title


def test_a_bar_in_a_cell_ends_no_cell():
    lines = tables.markdown(["name", "x"], [["a|b", "1"], [float("inf"), "2"]]).split("\n")
    assert lines == ["| name | x |", "|------|---|", r"| a\|b | 1 |", "| inf  | 2 |"]


def test_rows_are_read_as_they_were_written(tmp_path):
    work = workdir.Workdir(tmp_path)
    rows = [
        {"name": "1", "count": 3, "x": 0.1, "yes": True, "word": "a, b", "none": None},
        {"name": "nan", "count": 0, "x": float("inf"), "yes": False, "word": "β", "none": None},
    ]
    work.write_csv("rows.csv", rows)
    found = work.read_csv("rows.csv", text=("name",))
    assert found == rows
    assert [type(x) for x in found[0].values()] == [type(x) for x in rows[0].values()]
    work.write_json("rows.json", rows)
    assert work.read_json("rows.json")[1]["x"] == float("inf")


def test_a_column_of_numbers_may_have_empty_cells_and_no_words():
    rows = [{"a": 1, "b": None, "c": "x", "d": None}, {"a": None, "b": 0.5, "c": 2, "d": None}]
    assert [tables.numeric(rows, name) for name in "abcd"] == [True, True, False, False]


def test_rows_are_grouped_in_their_order():
    rows = [{"a": 2, "b": "x"}, {"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert list(tables.by(rows, "a")) == [2, 1]
    assert list(tables.by(rows, "a", "b")) == [(2, "x"), (1, "x"), (2, "y")]
    assert tables.means(tables.by(rows, "b")["x"])("a") == pytest.approx(1.5)


def test_printed_tables_are_read_with_what_they_show():
    cells = [["a|b", "1"], ["", "\\\\|"], ["<i>", "2 [1, 3]"]]
    both = tables.markdown(["name", "x"], cells), tables.markdown(["y"], [["3"]])
    printed = f"the answer\n\n{both[0]}\n\nmore of it\n{both[1]}\nend"
    first, second = tables.read_markdown(printed)
    assert first == ("the answer", tables.Table(["name", "x"], cells))
    assert second == ("more of it", tables.Table(["y"], [["3"]]))
    assert tables.read_markdown("no table") == []


def test_who_shares_pays_or_receives_most_is_found_among_many():
    rows = [{"contribution": 0.0, "exact_payment": 0.0} for _ in range(100_000)]
    rows[7]["contribution"], rows[99_999]["exact_payment"], rows[3]["exact_payment"] = 5.0, -0.1, 0.2
    assert tables.most_concerned(rows, 3) == [rows[3], rows[7], rows[99_999]]
    assert tables.most_concerned([{"contribution": 0.0}], 3) == [{"contribution": 0.0}]
