"""What members tell of their tables: the scaling of all tables together, and nothing of few records."""

import json
import pathlib

import numpy as np
import pytest

from fedgame.inputs import federated_statistics
from fedgame.inputs import members as inputs
from fedgame.inputs.federated_statistics import Numbers, Statistics, Texts
from fedgame.learning import tables

HOSPITALS = pathlib.Path(__file__).parent.parent.parent / "examples" / "hospitals"


def write(folder, texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def told(folder, **options):
    files = sorted(file for file in folder.glob("*.csv") if file.name != "agents.csv")
    return {file.stem: federated_statistics.of_table(file, **options)[0] for file in files}


def same(preparation, folder, **options):
    """Whether the scaling is what somebody learns who has all tables of a folder."""
    federation = inputs.read(str(folder), **options).federation
    rows = [np.arange(len(own.numbers)) for own in federation.records]
    expected = tables.learnt(federation.schema, federation.records, rows)
    assert preparation.schema == expected.schema
    for found, wanted in zip(preparation[1:], expected[1:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_hospitals_learn_what_somebody_with_all_tables_would():
    found = federated_statistics.agreed(told(HOSPITALS, fewest=1))
    same(found.preparation, HOSPITALS)
    assert found.classes == ("0", "1")
    assert found.target == "disease"


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"c": "dose,ward,ill\n" + "0.1,east,yes\n,west,no\n" * 4},
        {"c": "age,dose,ward,ill\n" + "50,7,,yes\n50,7,,no\n" * 3},
    ],
    ids=["as they are", "a column missing", "constant, and a column empty"],
)
def test_gaps_texts_and_missing_columns_are_those_of_all_tables(tmp_path, extra):
    rng = np.random.default_rng(0)
    lines = []
    for age, dose in zip(rng.integers(30, 90, 40), rng.normal(size=40) * 1e6, strict=True):
        ward, ill = ("north" if dose > 0 else "south"), ("yes" if age > 60 else "no")
        lines.append(f"{age if age > 40 else ''},{dose:.3f},{ward},{ill}")
    header = "age,dose,ward,ill\n"
    texts = {"a": header + "\n".join(lines[:25]), "b": header + "\n".join(lines[25:])} | extra
    folder = write(tmp_path / "data", texts)
    same(federated_statistics.agreed(told(folder, fewest=1)).preparation, folder)


def test_categories_and_ignored_columns_are_named_as_for_a_folder(tmp_path):
    text = "ward,junk,dose,ill\n" + "1,x,0.5,0\n2,y,0.25,1\n" * 5
    folder = write(tmp_path / "data", {"a": text, "b": text})
    flags = {"target": "ill", "categorical": ["ward"], "without": ["junk"]}
    found = federated_statistics.agreed(told(folder, **flags))
    assert found.preparation.schema.categories == {"ward": ("1", "2")}
    same(found.preparation, folder, **flags)


def test_nothing_is_told_of_what_few_records_have(tmp_path):
    text = "age,rare,ward,ill\n" + "50,,north,0\n60,,north,1\n" * 5 + "70,3.25,Siberia,0\n"
    own, remarks = federated_statistics.of_table(write(tmp_path, {"a": text}) / "a.csv")
    written = json.dumps(federated_statistics.to_dict(own))
    assert "3.25" not in written
    assert "Siberia" not in written
    assert own.columns["rare"] == Numbers(0)
    assert own.columns["ward"] == Texts(("north",))
    assert "`rare` has numbers in 1 records: too few to tell their mean" in remarks
    assert any("Siberia" in remark for remark in remarks)  # to herself
    found = federated_statistics.agreed({"a": own, "b": own})
    assert "nobody tells numbers of `rare`: left out" in found.remarks
    assert found.preparation.schema.numbers == ("age",)


def test_what_is_told_is_read_back(tmp_path):
    own = Statistics(9, "ill", ("0", "1"), {"age": Numbers(8, 0.1, 3.0), "ward": Texts(("a",)), "x": None})
    file = tmp_path / "a.json"
    file.write_text(json.dumps(federated_statistics.to_dict(own)))
    assert federated_statistics.load(file) == own


GOOD = {"records": 9, "target": "ill", "classes": ["0", "1"], "columns": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no statistics"),
        ("[1]", "holds no statistics"),
        ("[" * 100_000, "holds no statistics"),
        (json.dumps(GOOD | {"columns": 3}), "holds no statistics"),
        (json.dumps(GOOD | {"columns": {"age": {"cells": 3}}}), "holds no statistics"),
        (json.dumps(GOOD | {"records": 0}), "there must be records"),
        (json.dumps(GOOD | {"records": 10**400}), "there must be records"),
        (json.dumps(GOOD | {"records": float("inf")}), "infinity"),
        (json.dumps(GOOD | {"classes": []}), "classes of them"),
        *(
            (
                json.dumps(GOOD | {"columns": {"age": {"cells": 5, "mean": 1, "deviation": 1} | part}}),
                "cannot",
            )
            for part in (
                {"cells": 10},
                {"cells": -1},
                {"mean": float("nan")},
                {"mean": 1e300},
                {"deviation": -1.0},
                {"deviation": float("nan")},
            )
        ),
    ],
)
def test_a_file_of_somebody_else_that_is_wrong_is_refused(tmp_path, text, said):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=said):
        federated_statistics.load(file)


AGE = {"age": Numbers(9, 50.0, 3.0)}
ONE = Statistics(9, "ill", ("0", "1"), AGE)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({}, "at least two members"),
        ({"b": ONE._replace(target="sick")}, "a tells the class by `ill`, and b by `sick`"),
        ({"b": ONE._replace(classes=("0", "2"))}, "coded alike"),
        ({"b": ONE._replace(classes=("0",))}, "nothing to learn"),
        ({"b": ONE._replace(columns={"Age": AGE["age"]})}, "letter by letter"),
        ({"b": ONE._replace(columns={"age": Texts(("old",))})}, "numbers in the table of a and texts"),
        ({"b": ONE._replace(columns={"x": Texts(tuple(map(str, range(101))))})}, "no category"),
    ],
)
def test_what_does_not_fit_together_is_refused(others, said):
    with pytest.raises(ValueError, match=said):
        federated_statistics.agreed({"a": ONE} | others)


def test_another_unit_is_asked_about():
    grams = ONE._replace(columns={"age": Numbers(9, 240.0, 50.0)})
    moles = ONE._replace(columns={"age": Numbers(9, 6.2, 1.3)})
    found = federated_statistics.agreed({"a": grams, "b": grams, "c": moles})
    (remark,) = found.remarks
    assert remark.startswith("`age` has the mean 6.2 in the table of c, and 240 with the others")
    assert federated_statistics.agreed({"a": grams, "b": grams}).remarks == []


def test_if_nobody_tells_anything_there_is_nothing_to_train_on():
    nothing = ONE._replace(columns={"age": Numbers(0), "ward": Texts(()), "x": None})
    with pytest.raises(ValueError, match="no column is left"):
        federated_statistics.agreed({"a": nothing, "b": nothing})
