import csv
import io

import hypothesis
import hypothesis.strategies as st
import pytest

from fedgame.runs import cells


@pytest.mark.parametrize("text", ["=1+1", "+49 30 1", "-x", "@SUM(A1)", "#1 Lisbon", "'=1", "''#", "\t=1"])
def test_what_spreadsheets_would_evaluate_is_text(text):
    assert cells.escaped(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Basel", "-3", "+1e5", "-inf", "'s-Hertogenbosch", "a=b", "d'Or"])
def test_other_texts_stay_as_they_are(text):
    assert cells.escaped(text) == text
    assert cells.plain(text) == text


@hypothesis.given(st.text("'=+-@#\t\r1a, \"", max_size=8))
def test_every_text_comes_back(text):
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cells.escaped(text), ""])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert cells.plain(row[0]) == text
