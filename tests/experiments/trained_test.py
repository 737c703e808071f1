"""What launch.train and launch.compare have trained predicts as it did in training, without their data."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.special

import fedgame as fg
from fedgame.experiments import compare, train, trained
from fedgame.learning import models
from fedgame.runs import digests, experiment, workdir

DOSES = [("" if k % 5 == 0 else f"{k % 7}") for k in range(60)]
ROWS = {
    "ann": [(f"{k}", DOSES[k], ("red", "blue", "")[k % 3]) for k in range(60)],
    "bea": [(f"{k}", f"{k % 4}", ("green", "red")[k % 2]) for k in range(40)],
}


def write_tables(folder):
    """Tables with numbers, of which some are missing, and texts; a column that a number names."""
    folder.mkdir()
    for name, rows in ROWS.items():
        lines = [f"{x},{dose},{color},{'yes' if int(x) % 3 else 'no'}" for x, dose, color in rows]
        (folder / f"{name}.csv").write_text("\n".join(["1,dose,color,ill", *lines]) + "\n")
    return str(folder)


def run(module, folder, **given):
    """What launch.train or launch.compare leaves."""
    settings = module.Settings(**given)
    experiment.run(module.EXPERIMENT, settings, str(folder), experiment.Resources(workers=1))
    return module.prepare(settings)


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "run"
    given = {"agents": 3, "capacity": (12,), "rounds": 2, "epochs": 1, "held_out": 50}
    return folder, run(train, folder, **given, channels=(2, 3), units=4, padding="SAME")


@pytest.fixture(scope="module")
def of_tables(tmp_path_factory):
    """What is trained on tables that are gone afterwards."""
    folder = tmp_path_factory.mktemp("tables")
    task = run(train, folder / "run", federation=write_tables(folder / "members"), rounds=5)
    shutil.rmtree(folder / "members")
    return folder / "run", task


def test_a_model_of_images_predicts_as_in_training(of_images):
    folder, task = of_images
    found = fg.load_model(folder)
    assert isinstance(found, trained.Trained)
    assert (found.model.channels, found.model.units) == ((2, 3), 4)
    assert found.classes == tuple("0123456789")
    test = task.server.test
    correct = np.mean(found.predict(test.images) == np.array(found.classes)[test.labels])
    assert correct == pytest.approx(fg.results.load(folder).rounds["accuracy"].iloc[-1], abs=1e-6)
    probabilities = found.probabilities(test.images)
    assert probabilities.shape == (50, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    logits = np.asarray(found.model.apply(found.params, test.images), float)
    np.testing.assert_allclose(probabilities, scipy.special.softmax(logits, axis=1), rtol=1e-4)
    whole = np.rint(test.images * 255).astype(np.uint8)
    np.testing.assert_allclose(found.probabilities(whole), found.probabilities(whole / 255), rtol=1e-5)
    assert found.predict(test.images[:0]).tolist() == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (np.zeros((2, 8, 8)), r"the model was trained on images \[m, 8, 8, 1\], got float64 \[2, 8, 8\]"),
        (np.zeros((2, 8, 9, 1)), r"got float64 \[2, 8, 9, 1\]"),
        (np.full((1, 8, 8, 1), 16.0), r"must be uint8, of which 255 is white, or numbers in \[0, 1\], got"),
        (np.full((1, 8, 8, 1), np.nan), r"pixels must be uint8"),
        (np.full((1, 8, 8, 1), "x"), r"the model was trained on images"),
    ],
)  # fmt: skip
def test_what_is_no_image_of_training_is_refused(records, message, of_images):
    with pytest.raises(ValueError, match=message):
        fg.load_model(of_images[0]).predict(records)


def frame(name, numbers=False):
    """A member's table, as texts or as pandas reads it."""
    table = pd.DataFrame(ROWS[name], columns=["1", "dose", "color"])
    if numbers:
        table[["1", "dose"]] = table[["1", "dose"]].apply(pd.to_numeric)
    return table


@pytest.mark.parametrize("numbers", [True, False])
def test_a_model_of_tables_takes_their_raw_columns_in_any_order(numbers, of_tables):
    folder, task = of_tables
    found = fg.load_model(folder)
    assert found.classes == ("no", "yes")
    accuracy = fg.results.load(folder).rounds_by_member.groupby("member")["accuracy"].last()
    test = task.split(0).test
    for i, name in enumerate(task.own.federation.names):
        given = frame(name, numbers)[["color", "1", "dose"]].assign(ill="no", other=1.5)
        row_of = {row.tobytes(): number for number, row in enumerate(found.inputs(given))}
        labels = test.labels[i][test.labels[i] >= 0]
        # Bit by bit what was tested on.
        tested = given.iloc[[row_of[row.tobytes()] for row in test.images[i][: len(labels)]]]
        correct = np.mean(found.predict(tested) == np.array(found.classes)[labels])
        assert correct == pytest.approx(accuracy[name], abs=1e-6)


def test_a_table_may_have_empty_cells_and_texts_that_training_did_not_have(of_tables):
    found = fg.load_model(of_tables[0])
    given = pd.DataFrame({"1": [3, 3], "dose": [None, 1.0], "color": ["purple", None]})
    mine = found.inputs(given)
    assert mine.shape == (2, *found.shape)
    np.testing.assert_array_equal(mine[:, -3:], 0)
    assert np.all(np.isfinite(found.probabilities(given)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop(columns="dose"),
            "the table has no column `dose`; leave its cells empty if nothing",
        ),
        (lambda t: t.assign(dose="much"), "`dose` has texts, and is a column of numbers where the model"),
        (lambda t: t.assign(dose=1e40), "`dose` has numbers beyond"),
        (lambda t: pd.concat([t, t[["dose"]]], axis=1), "the table has two columns called `dose`"),
        (lambda t: t.to_numpy(), "trained on tables: it needs a pandas frame with their columns"),
    ],
)
def test_what_is_no_table_of_training_is_refused(change, message, of_tables):
    with pytest.raises(ValueError, match=message):
        fg.load_model(of_tables[0]).predict(change(frame("ann")))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison whose models are kept; protocols share training runs, and one has options."""
    folder = tmp_path_factory.mktemp("compare")
    given = {"agents": 3, "capacity": (12, 10, 8), "rounds": 2, "held_out": 50, "seeds": 2}
    given |= {
        "model": "linear",
        "sizes": (6, 15, 30),
        "curve_seeds": 2,
        "steps": 20,
        "fit": "power",
        "test_images": 5,
    }
    given |= {"protocol": ("fedavg", "fedbr", "qffl(q=0)"), "cost": (1e-9,), "keep_models": True}
    resources = experiment.Resources(workers=2, cache=folder / "cache")
    settings = compare.Settings(**given)
    for name in ("first", "run"):  # the second finds accuracies in the cache, but models in no cache
        experiment.run(compare.EXPERIMENT, settings, str(folder / name), resources)
    return folder / "run", compare.prepare(settings)


def test_the_models_of_a_comparison_are_those_behind_its_tables(compared):
    folder, task = compared
    found = fg.results.load(folder)
    assert len(found.models) == 3 * 2
    for row in found.models.itertuples():
        model = fg.load_model(folder / row.folder)
        test = task.server.test
        correct = np.mean(model.predict(test.images) == np.array(model.classes)[test.labels])
        runs = found.runs[(found.runs["protocol"] == row.protocol) & (found.runs["seed"] == row.seed)]
        assert correct == pytest.approx(runs["held_out_accuracy"].item(), abs=1e-6)
    names = set(digests.Digests(folder).names)
    there = {f.relative_to(folder).as_posix() for f in (folder / "models").rglob("*") if f.is_file()}
    assert there
    assert there <= names
    with pytest.raises(ValueError, match=r"holds no model: models.csv names the folders below it that do$"):
        fg.load_model(folder)


def test_without_the_flag_no_models_are_kept(compared, tmp_path):
    settings = dataclasses.replace(compared[1].settings, keep_models=False)
    experiment.run(compare.EXPERIMENT, settings, str(tmp_path / "run"), experiment.Resources(workers=1))
    assert not (tmp_path / "run" / "models").exists()
    for name in ("welfare.csv", "runs.csv", "utilities.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (compared[0] / name).read_bytes()


def test_a_name_of_a_protocol_is_the_name_of_one_folder():
    assert compare.model_folder("FedBR-BG", 3) == "models/FedBR-BG/3"
    assert compare.model_folder("mine/../β", 0) == "models/mine%2F..%2F%CE%B2/0"
    long = compare.model_folder("x" * 500, 0)
    assert len(long.split("/")[1]) < 250
    assert long != compare.model_folder("x" * 501, 0)


def test_a_folder_without_a_model_is_told_what_it_lacks(of_images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere$"):
        fg.load_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no model: launch.train leaves one, and launch.compare with"):
        fg.load_model(tmp_path)
    shutil.copytree(of_images[0], tmp_path / "earlier")
    (tmp_path / "earlier" / "model.json").unlink()
    with pytest.raises(ValueError, match=r"it has no model.json, which says what network model/ is of$"):
        fg.load_model(tmp_path / "earlier")


def test_a_model_that_has_changed_is_not_believed_and_one_that_was_copied_is(of_images, compared, tmp_path):
    copied = tmp_path / "copied"
    (tmp_path / "copied").mkdir()
    for name in ("model", "model.json"):
        (shutil.copytree if name == "model" else shutil.copy)(of_images[0] / name, copied / name)
    pixels = np.zeros((1, 8, 8, 1))
    np.testing.assert_array_equal(
        fg.load_model(copied).probabilities(pixels), fg.load_model(of_images[0]).probabilities(pixels)
    )
    for place in ("", "models/FedAvg/0"):
        folder = tmp_path / f"changed{bool(place)}"
        shutil.copytree(compared[0] if place else of_images[0], folder)
        file = max((folder / place / "model").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.raises(ValueError, match="is not as it was written"):
            fg.load_model(folder / place)
    about = tmp_path / "changedFalse" / "model.json"
    about.write_text(about.read_text().replace('"units": 4', '"units": 5'))
    with pytest.raises(ValueError, match="is not as it was written"):
        fg.load_model(tmp_path / "changedFalse")


def test_every_network_comes_back(tmp_path):
    for model in models.PRESETS.values():
        about = json.loads(workdir.to_json(models.to_dict(model)))
        assert models.from_dict(about) == model
    with pytest.raises(ValueError, match="there is no network 'GPT'; there are CNN, VGG11, Linear, MLP"):
        models.from_dict({"network": "GPT"})


def test_a_network_of_ones_own_is_not_made_up(tmp_path):
    class Mine(models.Linear):
        pass

    settings = train.Settings(agents=2, capacity=(12,), rounds=1, held_out=50, model="linear")
    task = train.prepare(settings)._replace(model=Mine(classes=10))
    with workdir.open_workdir(str(tmp_path / "run"), "this", {}, False, False) as work:
        train.compute(task, work)
    with pytest.raises(ValueError, match=r"the network of .* is none of --model: make it as you did"):
        fg.load_model(tmp_path / "run")
