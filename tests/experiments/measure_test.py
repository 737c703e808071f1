"""What records are worth, measured on small tables whose members have names that are hard to write."""

import csv
import json
import shutil
import threading

import chex
import numpy as np
import pytest

from fedgame.experiments import curve, equilibrium, measure, mechanism, mixtures, validation
from fedgame.games import exchange_rates as fitted_rates
from fedgame.inputs import exchange_rates, fits
from fedgame.inputs import mixtures as files
from fedgame.inputs import read as inputs
from fedgame.learning import members
from fedgame.learning import mixtures as learning
from fedgame.report import answers, text
from fedgame.runs import experiment, jobs, workdir
from fedgame.runs.experiment import Resources

pytestmark = pytest.mark.usefixtures("quick_fits")

NAMES = ('Anna, "the" first', "Zürich/Basel", "№ 3 %2F; $x$|")
SIZES = dict(zip(NAMES, (60, 48, 40), strict=True))
TRAINABLE = [30, 24, 20]  # a quarter is reserved, a third of the rest held out
TINY = {"runs": 20, "splits": 3, "rounds": 5, "epochs": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_members):
    return write_members(tmp_path_factory.mktemp("members") / "three", SIZES)


MEASURED = ("mixtures.csv", "measurements.csv", "curve.csv")


def run(path, resources=Resources(workers=1), compute=measure.measure, **changes):
    """What launch.measure leaves, as a whole or before anything is fitted; goes on with what is there."""
    task = measure.prepare(measure.Settings(**TINY | changes))
    about = experiment.described(task)
    with workdir.open_workdir(str(path), "launch.measure", about, path.exists(), False) as work:
        compute(task, work, resources)
    return work


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("measure")
    cache = Resources(workers=1, cache=path / "cache")
    return run(path / "run", cache, measure.compute, federation=folder)


def bytes_of(work, names=MEASURED):
    return {name: (work.path / name).read_bytes() for name in names}


def by_name(work):
    """The federation that was measured, and the metric by mixture, split and member, straight from a file."""
    found = {}
    for row in csv.DictReader((work.path / "measurements.csv").read_text().splitlines()):
        found[row["mixture"], int(row["split"]), row["member"]] = float(row["accuracy"])
    return found


def test_what_is_left_is_read_by_other_commands_with_all_its_names(measured, tmp_path, monkeypatch):
    read = files.read(str(measured.path))
    assert set(read.members) == set(NAMES)
    assert read.accuracy.shape == (20, 3, 3)
    assert np.isfinite(read.accuracy).all()
    order = [read.members.index(name) for name in NAMES]
    np.testing.assert_array_equal(read.samples[0], 0)
    np.testing.assert_array_equal(read.samples[1][order], TRAINABLE)
    agents = tmp_path / "agents.csv"
    rows = [("name", "cost", "capacity"), *((name, 0.001, 20) for name in NAMES)]
    with agents.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.setattr(fits, "_fitted_once", None)  # what was fitted is read
    fitted = inputs.read(inputs.ScenarioSettings(agents=str(agents), measurements=str(measured.path)))
    assert fitted.names == list(NAMES)
    found = fitted.origin.exchange
    np.testing.assert_array_equal(found.samples, read.samples[:, order])
    rates = exchange_rates.read(str(measured.path / "exchange_rates.csv"), NAMES)
    np.testing.assert_array_equal(found.fit.rates, rates)
    assert len(found.resampled) == fits._DRAWS
    given = {"agents": str(agents), "curve": str(measured.path / "curve.csv")}
    shared = inputs.read(inputs.ScenarioSettings(**given)).origin.measured[""]
    np.testing.assert_array_equal(shared.sizes, np.unique(read.samples.sum(axis=1)))


def test_what_was_fitted_is_the_same_when_it_is_read_again_and_is_of_these_mixtures_only(measured, tmp_path):
    mixed = files.read(str(measured.path))
    found, again = fits.fitted(mixed), fits.read(str(measured.path), mixed, fits.CHOSEN, "accuracy")
    chex.assert_trees_all_equal(
        again._replace(metric=0, fit=0, resampled=0), found._replace(metric=0, fit=0, resampled=0)
    )
    for one, other in zip([again.fit, *again.resampled], [found.fit, *found.resampled], strict=True):
        np.testing.assert_array_equal(
            fitted_rates.predict(one, mixed.samples), fitted_rates.predict(other, mixed.samples)
        )
        np.testing.assert_array_equal(one.harmful, other.harmful)
    assert fits.read(str(measured.path), mixed, "no such model", "accuracy") is None
    fewer = fitted_rates.Mixtures(mixed.members, mixed.samples[1:], mixed.accuracy[1:])
    assert fits.read(str(measured.path), fewer, fits.CHOSEN, "accuracy") is None
    copy = shutil.copytree(measured.path, tmp_path / "copy")
    file = copy / fits.FILE
    file.write_text(file.read_text().replace("0.", "0.1", 1))
    with pytest.raises(ValueError, match=f"{fits.FILE} is not as it was written"):
        fits.read(str(copy), mixed, fits.CHOSEN, "accuracy")
    (copy / "SHA256SUMS").unlink()
    file.write_text('{"of": 1}')
    assert fits.read(str(copy), mixed, fits.CHOSEN, "accuracy") is None
    good = json.loads((measured.path / fits.FILE).read_text())
    for part, place, wrong in (
        ("fit", 1, [[1.0]]),
        ("fit", 0, "x"),
        ("choice", 1, 3),
        ("test", 2, []),
        ("fit", 2, []),
    ):
        damaged = json.loads(json.dumps(good))
        damaged[part][place] = wrong
        file.write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=f"{fits.FILE} holds no fits, delete it"):
            fits.read(str(copy), mixed, fits.CHOSEN, "accuracy")
    file.write_text("[]")
    with pytest.raises(ValueError, match=f"{fits.FILE} holds no fits, delete it"):
        fits.read(str(copy), mixed, fits.CHOSEN, "accuracy")


def test_fits_follow_the_order_of_members(measured):
    mixed = files.read(str(measured.path))
    found = fits.fitted(mixed)
    turned = fits.in_order(found, [2, 0, 1])
    for one, other in zip([turned.fit, *turned.resampled], [found.fit, *found.resampled], strict=True):
        np.testing.assert_allclose(
            fitted_rates.predict(one, mixed.samples[:, [2, 0, 1]]),
            fitted_rates.predict(other, mixed.samples)[:, [2, 0, 1]],
            rtol=1e-14,
        )
        np.testing.assert_array_equal(one.error, other.error[[2, 0, 1]])
    np.testing.assert_array_equal(turned.choice.error, found.choice.error[:, [2, 0, 1]])
    np.testing.assert_array_equal(turned.test.of_member, found.test.of_member[[2, 0, 1]])
    back = fits.in_order(turned, [1, 2, 0])
    np.testing.assert_array_equal(back.fit.rates, found.fit.rates)


def test_the_curve_is_the_mean_over_members_of_every_mixture_and_split(measured):
    read = files.read(str(measured.path))
    wanted = [
        (s, a)
        for s, row in zip(read.samples.sum(axis=1), read.accuracy.mean(axis=2), strict=True)
        for a in row
    ]
    found = [(row["samples"], row["accuracy"]) for row in measured.read_csv("curve.csv")]
    np.testing.assert_allclose(sorted(found), sorted(wanted), atol=2e-6)


def test_the_table_says_what_each_member_has_of_whose_records(measured):
    read, rows = files.read(str(measured.path)), measured.read_csv("worth.csv", text=("member",))
    assert {row["member"]: row["records"] for row in rows} == SIZES
    assert [row["member"] for row in rows] == sorted(NAMES)
    for i, row in enumerate(rows):
        trainable = TRAINABLE[NAMES.index(row["member"])]
        assert row["trainable"] == trainable
        all_of = read.samples[1]
        alone = np.where(np.arange(3) == i, all_of, 0)
        whose = {"nobody": 0 * all_of, "all": all_of, "alone": alone, "others": all_of - alone}
        for name, samples in whose.items():
            (mixture,) = np.flatnonzero((read.samples == samples).all(axis=1))
            assert row[name] == pytest.approx(read.accuracy[mixture, :, i].mean(), abs=1e-6), name
    assert measure.headline(measured) == [
        {"member": row["member"], "alone": row["alone"], "all": row["all"]} for row in rows
    ]


def test_the_report_names_everybody_and_draws_the_rates(measured):
    words = measure.show(measured)
    found = measured.read_json("measure.json")
    assert (measured.path / "exchange_rates.png").read_bytes().startswith(b"\x89PNG")
    assert "20 mixtures × 3 splits; copy agents_template.csv" in words
    assert "accuracy on each member's own held-out records" in words
    assert f"used: {found['exchange']['best']}" in words
    for row in measured.read_csv("worth.csv", text=("member",)):
        line = next(line for line in words.splitlines() if f"{row['all']:.4g}" in line and "|" in line)
        assert f"{row['alone']:.4g}" in line
        better = max(row["alone"], row["all"]) > row["nobody"]
        assert (f"To {row['member']} no model is worth more than none" in words) != better


def test_sentences_on_rates_name_who_gains_from_whom():
    found = {"model": "exchange rates", "members": [{"name": name} for name in "abc"]}
    found["rates"] = [[1, 0.5, 0], [2, 1, 0], [0.25, 0, 1]]
    found["low"] = [[1, 0.4, None], [None, 1, None], [0.1, None, 1]]
    found["high"] = [[1, 0.7, None], [None, 1, None], [0.3, None, 1]]
    assert answers.worth(found) == [
        "To a one record of b is worth 0.5 of her own [0.4, 0.7] and one of c nothing.",
        "To b one record of a is worth 2 of her own (0 is possible too) and one of c nothing.",
        "To c one record of a is worth 0.25 of her own [0.1, 0.3] and one of b nothing.",
    ]
    found["model"] = "one rate"
    assert answers.worth(found)[2] == (
        "To c one record of any other member is worth 0.25 of her own [0.1, 0.3]."
    )
    alike = "Held-out mixtures are predicted best if every record is worth the same to everybody"
    assert answers.worth({"model": "total alone", "p_value_of_equal_rates": 0.3}) == [f"{alike}."]
    (doubted,) = answers.worth({"model": "total alone", "p_value_of_equal_rates": 0.03})
    assert doubted == f"{alike}; that it is so is rejected at 5%, so measure more mixtures or splits."


def test_a_template_has_the_names_and_capacities_of_the_members_and_nothing_else(measured, tmp_path):
    rows = measured.read_csv("agents_template.csv", text=("name",))
    trainable = dict(zip(NAMES, TRAINABLE, strict=True))
    assert {row["name"]: row["capacity"] for row in rows} == trainable
    with pytest.raises(ValueError, match="line 2: `cost` must be a number"):
        inputs.read(
            inputs.ScenarioSettings(
                agents=str(measured.path / "agents_template.csv"), measurements=str(measured.path)
            )
        )


def test_what_can_be_trained_on_is_not_taken_for_all_that_a_member_owns(measured, tmp_path):
    """Capacities of the template are what can be trained on; larger ones were not measured."""

    def told(experiment_of, name, capacities, **changes):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            rows = [(member, 0.0, capacity) for member, capacity in zip(NAMES, capacities, strict=True)]
            csv.writer(file).writerows([("name", "cost", "capacity"), *rows])
        given = {"agents": str(tmp_path / f"{name}.csv"), "measurements": str(measured.path), **changes}
        settings = experiment_of.settings(**given, rates="exchange rates", bootstrap=2)
        return experiment.run(experiment_of, settings, str(tmp_path / name))

    shared = told(equilibrium.EXPERIMENT, "template", TRAINABLE)
    assert "that can be trained on" in shared.splitlines()[0]
    assert "all her" not in shared
    assert "can be trained on count, 30 of the 60 of Anna" in shared.replace("“", "")
    assert "Capacities beyond" not in shared
    paid = told(mechanism.EXPERIMENT, "paid", TRAINABLE, mechanism="none", over_beta=2, p=(1.0,))
    assert "that can be trained on" in paid.splitlines()[1]
    for name in ("template/equilibrium", "paid/mechanism"):
        svg = (tmp_path / f"{name}.svg").read_text()
        assert "can be trained on" in svg
        assert "all she has" not in svg
    owned = told(equilibrium.EXPERIMENT, "owned", SIZES.values())
    assert "that can be trained on" not in owned
    assert 'Capacities beyond what was measured: “Anna, "the" first” (60, measured up to 30), Zürich' in owned
    fewer = told(equilibrium.EXPERIMENT, "fewer", [10, *TRAINABLE[1:]])
    assert "of Anna" not in fewer.replace("“", "")[fewer.index("What is assumed") :]


def test_a_fit_that_misses_by_more_than_twice_the_noise_is_called_rough():
    models = {"total alone": 0.1, "one rate": 0.05}
    fine, rough = (
        {"name": k, "noise": 0.02, **models, "exchange rates": x} for k, x in (("a", 0.04), ("b", 0.041))
    )
    found = {"members": [fine, rough], "model": "exchange rates", "p_value_of_equal_rates": 0.3}
    found |= {"low": None, "harmful": [], "without_data": True}
    words = text._exchange(found)
    assert "ROUGH" in words
    assert "twice the noise of a measurement for b;" in words
    assert "ROUGH" not in text._exchange(found | {"members": [fine]})


def test_the_records_are_found_from_another_directory_than_that_of_measuring(tmp_path, folder, monkeypatch):
    shutil.copytree(folder, tmp_path / "here" / "three")
    monkeypatch.chdir(tmp_path / "here")
    work = run(tmp_path / "run", compute=measure.compute, federation="three")
    monkeypatch.chdir(tmp_path)
    assert validation.measured_by(work.path).task.digests["records"]
    (work.path / "measure.json").unlink()
    with pytest.raises(FileNotFoundError, match="there is no folder three"):
        validation.measured_by(work.path)


def changed_records(folder, path, which):
    """Copies the folder, with other numbers in the records of a part: "reserve" or "train"."""
    shutil.copytree(folder, path)
    task = measure.prepare(measure.Settings(federation=folder, **TINY))
    federation, shares = task.own.federation, task.own.shares
    for file in sorted(path.iterdir()):
        header, *lines = file.read_text().splitlines()
        (i,) = [i for i, size in enumerate(federation.sizes) if size == len(lines)]
        parts = members._parts(federation.names[i], federation.labels[i], shares, 0)
        rows = parts[0] if which == "reserve" else parts[2][:1]
        for row in rows:
            age, _, ill = lines[row].split(",")
            lines[row] = f"{-float(age)},77,{ill}"
        file.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def test_nothing_of_the_reserve_is_seen(folder, measured, tmp_path):
    other = run(tmp_path / "run", federation=changed_records(folder, tmp_path / "members", "reserve"))
    assert bytes_of(other) == bytes_of(measured)
    digests = [work.read_json("config.json")["settings"]["records"] for work in (measured, other)]
    assert digests[0] != digests[1]
    seen = run(tmp_path / "seen", federation=changed_records(folder, tmp_path / "one", "train"))
    assert bytes_of(seen)["measurements.csv"] != bytes_of(measured)["measurements.csv"]


def test_workers_and_where_a_run_was_killed_change_nothing(folder, measured, tmp_path):
    tables = (*MEASURED, "exchange_rates.csv", "worth.csv")
    work = run(tmp_path / "run", Resources(workers=3), federation=folder)
    assert bytes_of(work) == bytes_of(measured)
    stored = sorted((work.path / "jobs" / "measure").iterdir())
    for file in stored[::2]:
        file.unlink()
    for name in MEASURED:
        (work.path / name).unlink()
    again = run(tmp_path / "run", compute=measure.compute, federation=folder)
    assert bytes_of(again, tables) == bytes_of(measured, tables)


def test_with_the_cache_a_second_run_trains_nothing(folder, measured, tmp_path, calls):
    cache = Resources(workers=1, cache=measured.path.parent / "cache")
    work = run(tmp_path / "run", cache, federation=folder)
    assert calls == []
    assert bytes_of(work) == bytes_of(measured)
    run(tmp_path / "fewer", cache, federation=folder, splits=2)
    assert calls == []
    run(tmp_path / "other", cache, federation=folder, splits=2, metric="log_loss")
    assert len(calls) == 2


@pytest.fixture
def a_second(monkeypatch):
    """Every job takes one second."""
    clock = threading.local()

    def now():
        clock.now = getattr(clock, "now", 0.0) + 1.0
        return clock.now

    monkeypatch.setattr(jobs.time, "perf_counter", now)


@pytest.mark.parametrize(
    ("seconds", "workers", "waves"),
    [
        (0.01, 1, 0),  # as many as are needed, whatever the time
        (8, 1, 2),  # 3 seconds per wave of 3 splits; the next one would end after 9 · 30 / 24
        (8, 2, 4),  # of two workers half of that
    ],
)
def test_in_some_minutes_as_many_mixtures_are_measured_as_fit_in(
    seconds, workers, waves, folder, tmp_path, monkeypatch, a_second, calls
):
    monkeypatch.setattr(measure, "_WAVE", 2)
    monkeypatch.setattr(measure.fits, "fitted", lambda measured: None)
    task = measure.prepare(
        measure.Settings(federation=folder, **TINY | {"runs": None, "minutes": seconds / 60})
    )
    work = workdir.Workdir(tmp_path)
    found = measure.measure(task, work, Resources(workers=workers))
    assert len(found.samples) == 12 + 6 * waves
    most = members.trainable(task.own.federation, task.own.shares)
    np.testing.assert_array_equal(found.samples, learning.design(most, len(found.samples), 0))
    assert len(calls) == 3 * (1 + waves)  # no mixture is trained again with the next ones
    before = bytes_of(work)
    measure.measure(task, work, Resources(workers=workers))
    assert len(calls) == 3 * (1 + waves)
    assert bytes_of(work) == before
    for file in sorted((tmp_path / "jobs" / "measure").iterdir())[::2]:
        file.unlink()
    measure.measure(task, work, Resources(workers=workers))
    assert bytes_of(work) == before


def test_of_few_records_all_mixtures_are_measured_however_long_there_is(tmp_path, write_members, a_second):
    small = write_members(tmp_path / "members", {"a": 8, "b": 8})
    shares = {"reserve": 0.5, "tested": 0.5}
    task = measure.prepare(measure.Settings(federation=small, minutes=1e6, splits=2, rounds=1, **shares))
    found = measure.measure(task, workdir.Workdir(tmp_path / "run"), Resources(workers=1))
    assert len(found.samples) == 9  # 0, 1 or 2 records of each


def test_where_a_metric_is_not_defined_there_is_no_row(tmp_path, write_members):
    folder = tmp_path / "members"
    write_members(folder, {"a": 40, "rare": 40})
    header, *lines = (folder / "rare.csv").read_text().splitlines()
    lines = [f"{line.rsplit(',', 1)[0]},{int(k < 2)}" for k, line in enumerate(lines)]
    (folder / "rare.csv").write_text("\n".join([header, *lines]) + "\n")
    given = {"federation": str(folder), "metric": "auc", "runs": 12, "splits": 6, "tested": 0.5, "seed": 0}
    work = run(tmp_path / "run", compute=measure.compute, **given)
    task = measure.prepare(measure.Settings(**TINY | given))
    held_out = [set(task.split(number).test.labels[1].tolist()) - {-1} for number in range(6)]
    defined = [number for number in range(6) if len(held_out[number]) == 2]
    assert 0 < len(defined) < 6
    found = by_name(work)
    assert sorted({split for _, split, name in found if name == "rare"}) == defined
    assert sorted({split for _, split, name in found if name == "a"}) == list(range(6))
    row = work.read_csv("worth.csv", text=("member",))[1]
    assert row["all"] == pytest.approx(np.mean([found["m01", split, "rare"] for split in defined]), abs=1e-6)
    (only_a, *_) = [number for number in range(6) if number not in defined]
    of_all = [r["accuracy"] for r in work.read_csv("curve.csv") if r["samples"] == 30]
    assert of_all[only_a] == pytest.approx(found["m01", only_a, "a"], abs=1e-6)
    assert "area under the ROC curve on each member's own held-out records" in measure.show(work)


def test_models_of_tables_and_of_images_have_defaults_of_their_own(folder):
    tables = measure.prepare(measure.Settings(federation=folder)).settings
    told = ("model", "rounds", "learning_rate", "batch_size", "full_batch")
    assert [getattr(tables, name) for name in told] == ["linear", 100, 0.1, 64, True]
    given = {"model": "mlp", "rounds": 7, "full_batch": False, "batch_size": 5, "learning_rate": 0.3}
    said = measure.prepare(measure.Settings(federation=folder, **given)).settings
    assert {name: getattr(said, name) for name in given} == given
    images = curve.prepare(curve.Settings(agents=2, capacity=(20,))).settings
    assert [getattr(images, name) for name in told] == ["cnn", 50, 0.01, 10, False]
    small = curve.prepare(curve.Settings(agents=2, capacity=(20,), model="linear")).settings
    assert [getattr(small, name) for name in told] == ["linear", 100, 0.1, 64, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"federation": None}, "give --federation=FOLDER, with the data of each member"),
        ({"federation": "/nowhere"}, "there is no folder /nowhere"),
        ({"runs": 11}, "--runs=11: 3 members need at least 12 mixtures"),
        ({"runs": 12, "minutes": 1.0}, "--runs and --minutes exclude each other"),
        ({"minutes": 0.0, "runs": None}, "--minutes must be a number, greater than 0"),
        ({"splits": 1}, "--splits must be a number, at least 2 and at most 10000, got 1"),
        ({"model": "cnn"}, "--model=cnn is for images; tables need linear or mlp"),
        ({"channels": (2, 3)}, "--channels and --padding are the CNN's; --model=linear has none"),
        ({"units": 5}, "--units is of cnn and mlp; --model=linear has none"),
        ({"metric": "f1"}, "--metric must be one of accuracy, auc, log_loss"),
        ({"reserve": 0.999}, "too few to reserve 0.999 of them"),
        ({"target": "sick"}, "has no column `sick`"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, message, folder):
    for refuse in (measure.check, measure.prepare):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            refuse(measure.Settings(**{"federation": folder} | TINY | changes))


def test_what_the_least_number_of_mixtures_is_enough_for(tmp_path, write_members):
    """Three models can be fitted and held against each other on them."""
    small = write_members(tmp_path / "members", {"a": 40, "b": 40})
    task = measure.prepare(measure.Settings(federation=small, runs=10, splits=2, rounds=2))
    with pytest.raises(ValueError, match="2 members need at least 10 mixtures"):
        measure.prepare(measure.Settings(federation=small, runs=9, splits=2))
    found = fits.fitted(measure.measure(task, workdir.Workdir(tmp_path / "run"), Resources(workers=1)))
    assert found.without_data
    assert len(found.resampled) == fits._DRAWS
    assert json.dumps(task.digests)
    assert mixtures.seconds(task, found.samples.astype(int), range(2), workdir.Workdir(tmp_path / "run")) > 0
