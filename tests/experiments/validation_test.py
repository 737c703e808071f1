"""Advice that is checked by training: what is trained, how it is compared, and what is said of it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from fedgame import equilibria
from fedgame.experiments import equilibrium, measure, mechanism, validation
from fedgame.experiments import mixtures as training
from fedgame.games import game as games
from fedgame.games import payoffs
from fedgame.inputs import fits
from fedgame.inputs import read as inputs
from fedgame.learning import evaluation, members
from fedgame.learning import mixtures as learning
from fedgame.report import money, text
from fedgame.runs import experiment, workdir
from fedgame.runs.experiment import Resources

pytestmark = pytest.mark.usefixtures("quick_fits")

SIZES = {"ann": 60, "bea": 48, "cleo": 56}
NAMES = tuple(SIZES)
CAPACITY = {"ann": 40, "bea": 30, "cleo": 42}  # 45, 36 and 42 are not reserved
AGENTS = "name,cost,capacity,value\nann,20,40,5000\nbea,25,30,9000\ncleo,15,42,4000\n"
VALUE = {"ann": 5000, "bea": 9000, "cleo": 4000}
RUNS = 2
ONE = Resources(workers=1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, write_members):
    """The directory of a run of launch.measure."""
    path = tmp_path_factory.mktemp("measure")
    settings = measure.Settings(
        federation=write_members(path / "members", SIZES), runs=20, splits=3, rounds=5, epochs=2
    )
    task = measure.prepare(settings)
    about = experiment.described(task)
    work = workdir.open_workdir(str(path / "run"), "launch.measure", about, False, False)
    measure.measure(task, work, ONE)
    return path / "run"


def ran(command, path, folder, agents=AGENTS, **changes):
    """What a command leaves that checks its advice."""
    path.mkdir()
    (path / "agents.csv").write_text(agents)
    given = {"agents": str(path / "agents.csv"), "measurements": str(folder), "validate": True}
    given |= {"rates": "exchange rates", "validations": RUNS}
    prepared = command.prepare(command.Settings(**given | changes))
    work = workdir.Workdir(path)
    command.compute(prepared, work)
    return prepared, work


@pytest.fixture(scope="module")
def checked(measured, tmp_path_factory):
    return ran(equilibrium, tmp_path_factory.mktemp("equilibrium") / "run", measured)


def rows_of(work):
    return work.read_csv("validation.csv", text=("of", "member"))


def by_member(work):
    return {(row["member"], row["profile"]): row for row in rows_of(work)}


@pytest.fixture
def trained(monkeypatch):
    """A list that gets the mixtures that are trained on to check advice."""
    seen, do = [], training.measure

    def noting(task, samples, *args):
        seen.append(np.array(samples))
        return do(task, samples, *args)

    monkeypatch.setattr(training, "measure", noting)
    return seen


def test_predictions_are_the_games_payoffs_at_whole_numbers_of_records(checked):
    prepared, work = checked
    game = prepared.scenario.game
    outcome = work.read_csv("outcome.csv", text=("name",))
    s = np.rint([row["contribution"] for row in outcome])
    assert 0 < np.sum(s) < np.sum(game.capacity)
    rows = by_member(work)
    assert list(rows) == [(name, kind) for name in NAMES for kind in ("announced", "nothing", "all")]
    for i, name in enumerate(NAMES):
        for kind, own in (("announced", s[i]), ("nothing", 0), ("all", CAPACITY[name])):
            profile = np.where(np.arange(3) == i, own, s)
            row = rows[name, kind]
            assert row["contribution"] == own
            assert row["predicted"] == pytest.approx(float(games.payoff_values(game, profile)[i]), rel=1e-12)
            expected = float(games.utilities(game, profile)[i])
            assert row["predicted_utility"] == pytest.approx(expected, rel=1e-12)
    gap = float(np.max(equilibria.nash_gap(game, s)))
    assert work.read_json("validation.json")[0]["rounded_gap"] == pytest.approx(gap)
    assert f"({money.number(gap)} predicted by any other number of records)" in text.equilibrium(work)


def test_what_is_trained_is_the_metric_on_the_reserve(checked, measured):
    prepared, work = checked
    task = prepared.measured.task
    announced = np.array([[row["contribution"] for row in rows_of(work) if row["profile"] == "announced"]])
    found = []
    for number in range(RUNS):
        split = members.checking_split(task.own.federation, task.own.shares, number)
        logits = learning.measure(
            task.model, task.local_training, split, announced, 5, task.key_of("curve", number)
        )
        found.append(evaluation.metric_of("accuracy", logits[0], split.test.labels))
    rows = by_member(work)
    trained = [rows[name, "announced"]["trained"] for name in NAMES]
    np.testing.assert_allclose(trained, np.mean(found, axis=0), atol=1e-9)
    assert task.settings == measure.tasks.OwnSettings(
        **{name: getattr(task.settings, name) for name in task.settings.__dataclass_fields__}
    )
    assert task.settings.rounds == 5  # as was measured, whatever the defaults


def test_only_what_is_paid_for_the_metric_turns_out_otherwise(checked):
    _, work = checked
    for (name, kind), row in by_member(work).items():
        base = by_member(work)[name, "announced"]
        surprise = row["trained"] - row["predicted"]
        expected = row["predicted_utility"] + VALUE[name] * surprise
        assert row["trained_utility"] == pytest.approx(expected, rel=1e-9)
        assert row["predicted_gain"] == pytest.approx(row["predicted_utility"] - base["predicted_utility"])
        gained = row["trained_utility"] - base["trained_utility"]
        assert row["trained_gain"] == pytest.approx(gained, abs=1e-6)
        if kind == "announced":
            gains = ("predicted_gain", "trained_gain", "gain_low", "gain_high")
            assert [row[key] for key in gains] == [0, 0, 0, 0]
        assert row["holds"] == (row["low"] <= row["predicted"] <= row["high"])
        assert row["gain_low"] <= row["trained_gain"] <= row["gain_high"]
    summary = json.loads((work.path / "validation.json").read_text())[0]
    gains = [row["trained_gain"] for row in rows_of(work)]
    assert summary["trained_nash_gap"] == pytest.approx(max(0, *gains))


def test_deviations_leave_the_others_where_they_are(measured, tmp_path, trained):
    _, work = ran(equilibrium, tmp_path / "run", measured)
    s = [by_member(work)[name, "announced"]["contribution"] for name in NAMES]
    wanted = {tuple(s)}
    for i, name in enumerate(NAMES):
        wanted |= {(*s[:i], own, *s[i + 1 :]) for own in (0, CAPACITY[name])}
    (samples,) = trained
    assert len(samples) == len(wanted)  # no mixture is trained on twice
    assert set(map(tuple, samples.tolist())) == wanted


def test_with_her_own_always_each_member_is_trained_on_all_she_has_and_who_leaves_gives_nothing(
    measured, tmp_path, trained
):
    agents = """name,cost,capacity,value,outside
ann,20,40,90000,0
bea,25,30,90000,1e9
cleo,15,42,90000,0
"""  # nobody could keep bea
    given = {"own": "always", "rates": "total alone", "mechanism": "prices", "p": (1.0,), "over_beta": 2}
    prepared, work = ran(mechanism, tmp_path / "run", measured, agents, **given)
    assert prepared.scenario.game.payoff.own == "always"
    assert [one["name"] for one in work.read_json("mechanism.json")["left"]] == ["bea"]
    rows = by_member(work)
    assert list(rows) == [
        (name, kind) for name in ("ann", "cleo") for kind in ("announced", "nothing", "all")
    ]
    ann, cleo = (rows[name, "announced"]["contribution"] for name in ("ann", "cleo"))
    assert (ann, cleo) != (40, 42)  # else there were nothing to tell apart
    assert ann + cleo > 0
    (samples,) = trained
    assert {tuple(row) for row in samples.tolist()} == {(40, 0, cleo), (ann, 0, 42)}
    curves = prepared.scenario.game.payoff.data_to_accuracy
    for i, (name, z) in enumerate((("ann", 40 + cleo), ("cleo", 42 + ann))):
        kinds = [rows[name, kind] for kind in ("announced", "nothing", "all")]
        assert len({row["trained"] for row in kinds}) == 1  # what she shares does not change her own model
        law = jax.tree.map(lambda x, i=i: x[2 * i] if np.ndim(x) else x, curves)
        for row in kinds:
            assert row["predicted"] == pytest.approx(float(law.curve(float(z))), rel=1e-12)
        assert kinds[1]["predicted_utility"] != kinds[0]["predicted_utility"] or not kinds[0]["contribution"]
    assert "on the reserve, which nothing was fitted to; 2 training runs of each profile" in text.mechanism(
        work
    )


def test_the_order_of_participants_does_not_matter(checked, measured, tmp_path):
    header, *lines = AGENTS.splitlines()
    turned = "\n".join([header, *reversed(lines)]) + "\n"
    _, other = ran(equilibrium, tmp_path / "run", measured, agents=turned)
    one, turned = by_member(checked[1]), by_member(other)
    assert one.keys() == turned.keys()
    assert list(one) != list(turned)
    for key, row in one.items():
        for name in ("contribution", "trained", "holds"):
            assert turned[key][name] == row[name], (key, name)
        assert turned[key]["predicted"] == pytest.approx(row["predicted"], abs=1e-4)


@pytest.fixture(scope="module")
def fitted(measured):
    known = validation.measured_by(measured)
    return known, fits.fitted(known.mixtures, "total alone")


def test_a_prediction_that_is_wrong_is_told(fitted, tmp_path):
    known, found = fitted
    right = workdir.Workdir(tmp_path / "right")
    validation.of_mixtures(known.task, known.mixtures, found, RUNS, right, ONE)
    (summary,) = json.loads((right.path / "validation.json").read_text())
    assert summary["holds"]
    assert all(row["holds"] for row in rows_of(right) if row["profile"] == "announced")
    most = members.trainable(known.task.own.federation, known.task.own.shares)
    announced = [row for row in rows_of(right) if row["profile"] == "announced"]
    ends = {row["member"]: (row["high"] - row["trained"], row["trained"] - row["low"]) for row in announced}
    half = {name: max(both) for name, both in ends.items()}
    whose = max(half, key=half.get)
    assert half[whose] > 0.1
    assert text.validation(right).endswith(
        "nothing seen contradicts the advice: every prediction is within its interval, and no deviation is "
        "shown to pay; but with so few reserved records, an error of less than "
        f"{half[whose]:.2f} in the accuracy may not show ({whose})"
    )
    assert [row["contribution"] for row in announced] == most.tolist()
    laws = [law.replace(best=law.best - (0.6 if i == 1 else 0)) for i, law in enumerate(found.fit.curves)]
    wrong = workdir.Workdir(tmp_path / "wrong")
    scaled = found._replace(fit=found.fit._replace(curves=laws))
    validation.of_mixtures(known.task, known.mixtures, scaled, RUNS, wrong, ONE)
    (summary,) = json.loads((wrong.path / "validation.json").read_text())
    assert not summary["holds"]
    announced = [row for row in rows_of(wrong) if row["profile"] == "announced"]
    assert [row["member"] for row in announced if not row["holds"]] == ["bea"]
    words = text.validation(wrong)
    assert "THE ADVICE DID NOT HOLD" in words
    row = by_member(wrong)["bea", "announced"]
    assert f"bea was promised {row['predicted']:.3f} and has {row['trained']:.3f}" in words
    assert "the advice held" not in words
    assert "nothing seen" not in words


def test_that_the_advice_held_is_said_only_where_an_error_would_have_shown():
    found = {"holds": True, "metric": "auc", "deviations_that_pay": []}
    rows = [
        {"member": "ann", "profile": "announced", "trained": 0.8, "low": 0.71, "high": 0.89},
        {"member": "bea", "profile": "announced", "trained": 0.95, "low": 0.87, "high": 1.0},
        {"member": "ann", "profile": "all", "trained": 0.5, "low": 0.0, "high": 1.0},
    ]
    told = text._verdict(found, rows, money.PLAIN)
    assert told.startswith(
        "the advice held, as far as the reserve tells: every prediction is within its interval"
    )
    assert "(the widest: ann, [0.71, 0.89])" in told
    rows[1]["low"] = 0.83
    assert text._verdict(found, rows, money.PLAIN).endswith(
        "an error of less than 0.12 in the area under the ROC curve may not show (bea)"
    )


def test_a_deviation_that_pays_is_told(fitted, tmp_path):
    known, _ = fitted
    nothing = np.zeros(3)
    advice = validation.Advice(
        names=NAMES,
        profile=np.zeros(3, int),
        most=np.array([40, 0, 0]),
        own=None,
        value=np.array([1000.0, 1.0, 1.0]),
        metric=lambda s: np.where(s > 0, 0.1, 0.9),  # sharing is said to do harm, which payments make up for
        utility=lambda s: nothing,
        resampled=None,
    )
    work = workdir.Workdir(tmp_path)
    validation.check(known, {"mine": advice}, RUNS, work, ONE)
    (summary,) = work.read_json("validation.json")
    row = by_member(work)["ann", "all"]
    assert row["of"] == "mine"
    better = row["trained"] - by_member(work)["ann", "announced"]["trained"]
    assert better > 0.2
    gain = 1000 * (better + 0.8)
    assert summary["deviations_that_pay"] == [
        {"member": "ann", "profile": "all", "gain": pytest.approx(gain)}
    ]
    assert not summary["holds"]
    assert summary["predicted_nash_gap"] == 0
    assert summary["trained_nash_gap"] == pytest.approx(gain)
    words = text.validation(work)
    assert words.startswith("mine: accuracy on the reserve")
    assert f"ann gains {gain:,.0f} by sharing all instead" in words


def test_the_half_width_is_that_computed_by_hand():
    values = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    # Runs have means 2/3 and 1: variance 1/18, of their mean 1/36. Records have means 1, 1/2, 1: variance
    # 1/12, times 1/3 + 1/6. The 99% quantile of Student's t with 2 degrees of freedom is 6.96456.
    expected = 6.96456 * np.sqrt(1 / 36 + 1 / 24 + 0.01)
    assert validation._half_width(values, 6, 0.01, 5) == pytest.approx(expected, rel=1e-6)
    # What a right prediction says of the spread counts if it is more.
    expected = 6.96456 * np.sqrt(1 / 36 + 0.2 * (1 / 3 + 1 / 6) + 0.01)
    assert validation._half_width(values, 6, 0.01, 5, spread=0.2) == pytest.approx(expected, rel=1e-6)
    assert validation._half_width(values, 6, 0.01, 5, spread=0.01) < expected
    # One record says nothing of their spread: that of a coin is taken, with one degree of freedom.
    expected = 6.31375 * np.sqrt(0.25 * (1 + 1 / 4))
    assert validation._half_width(np.array([[1.0], [1.0]]), 4, 0.0, 1) == pytest.approx(expected, rel=1e-6)


def with_metric(task, metric):
    return task._replace(settings=dataclasses.replace(task.settings, metric=metric))


def test_the_noise_of_a_difference_is_that_of_paired_draws(fitted):
    known, _ = fitted
    task = with_metric(known.task, "log_loss")  # no spread is known before
    drawn = np.array([[[0.0], [0.1]], [[0.2], [0.3]], [[0.4], [0.5]]])  # [draws, mixtures, members]
    advice = validation.Advice(("ann",), *[None] * 7)
    row, announced = (validation._Row(0, kind, 1, k, 0.5, 0.0) for k, kind in enumerate(("all", "announced")))
    alike = np.zeros((2, 4)), np.zeros((2, 4))
    reserve = validation._Reserve(np.array([0, 1, 0, 1]), 8)
    # The 95% quantile of Student's t with 3 degrees of freedom is 2.353363; the draws have variance 0.08/3.
    found = validation._half_widths(task, advice, row, announced, *alike, drawn, reserve)
    assert found == pytest.approx([2.353363 * np.sqrt(0.08 / 3), 0], rel=1e-6)
    nothing = validation._half_widths(task, advice, row, announced, *alike, None, reserve)
    assert nothing == (0, 0)
    # Accuracies that are 0.1 apart differ on a tenth of the records at least. Two gains: the 97.5% quantile.
    accuracy = with_metric(task, "accuracy")
    apart = announced._replace(metric=0.4)
    _, difference = validation._half_widths(accuracy, advice, row, apart, *alike, None, reserve)
    assert difference == pytest.approx(3.182446 * np.sqrt(0.09 * (1 / 4 + 1 / 8)), rel=1e-6)


def test_losses_are_cut_off_in_training_as_they_are_in_measuring(fitted, tmp_path, monkeypatch):
    known, _ = fitted
    task = known.task._replace(settings=measure.dataclasses.replace(known.task.settings, metric="log_loss"))
    monkeypatch.setattr(training, "measure", lambda *args: np.full((9, RUNS, 3, 4), -3.0))
    advice = validation.Advice(
        NAMES, np.ones(3, int), np.full(3, 2), None, np.ones(3), lambda s: 0 * s, lambda s: 0 * s, None
    )
    validation.check(validation.Measured(task, known.mixtures), {"": advice}, RUNS, workdir.Workdir(tmp_path))
    assert {row["trained"] for row in rows_of(workdir.Workdir(tmp_path))} == {0.0}


def test_advice_by_one_curve_of_the_total(measured, tmp_path):
    given = {"curve": str(measured / "curve.csv"), "measurements": None, "rates": "chosen"}
    prepared, work = ran(equilibrium, tmp_path / "run", measured, **given)
    curve = prepared.scenario.game.payoff.curve
    s = [by_member(work)[name, "announced"]["contribution"] for name in NAMES]
    for name in NAMES:
        assert by_member(work)[name, "announced"]["predicted"] == pytest.approx(float(curve(sum(s))))
    words = text.equilibrium(work)
    assert "accuracy on the reserve, which nothing was fitted to" in words
    everybody = np.arange(3)
    of_total = validation._resampled(prepared.scenario, prepared.settings, everybody)
    rates = tmp_path / "rates.csv"
    pairs = [(i, j) for i in NAMES for j in NAMES if i != j]
    rates.write_text("\n".join(["member,of,rate", *(f"{i},{j},0" for i, j in pairs)]) + "\n")
    settings = measure.dataclasses.replace(prepared.settings, exchange_rates=str(rates))
    of_own = validation._resampled(inputs.read(settings), settings, everybody)
    own = np.array([[10, 30, 0], [20, 5, 5]])
    found = of_own(own)
    assert found.shape == (validation._DRAWS, 2, 3)
    for i in range(3):
        alone = np.where(np.arange(3) == i, own, 0)
        np.testing.assert_allclose(found[:, :, i], of_total(alone)[:, :, i], rtol=1e-12)
    np.testing.assert_allclose(of_total(own)[:, 0, 0], of_total(own[:, ::-1])[:, 0, 2], rtol=1e-12)


def moved(measured, tmp_path):
    """A copy of the run, whose members' records are a copy, too."""
    config = json.loads((measured / "config.json").read_text())
    shutil.copytree(measured, tmp_path / "run", ignore=shutil.ignore_patterns("jobs"))
    shutil.copytree(config["settings"]["federation"], tmp_path / "members")
    config["settings"]["federation"] = str(tmp_path / "members")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path / "run", tmp_path / "members"


def test_records_that_have_changed_are_refused(measured, tmp_path):
    run, folder = moved(measured, tmp_path)
    known = validation.measured_by(run)
    assert known.mixtures.members == NAMES
    header, first, *lines = (folder / "bea.csv").read_text().splitlines()
    (folder / "bea.csv").write_text("\n".join([header, *lines, first]) + "\n")
    with pytest.raises(ValueError, match=f"the records in {folder} have changed since they were measured in"):
        validation.measured_by(run)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match=f"there is no folder {folder}"):
        validation.measured_by(run)


def test_what_is_stored_is_not_used_once_the_folder_was_measured_in_anew(measured, tmp_path):
    """The directory has the same name: another seed deals another reserve, another model is another one."""
    run, _ = moved(measured, tmp_path)
    before = validation.measured_by(run).digests
    assert validation.measured_by(run).digests == before
    config = json.loads((run / "config.json").read_text())
    for changes in ({"seed": 7}, {"model": "mlp"}, {"reserve": 0.3}):
        (run / "config.json").write_text(json.dumps(config | {"settings": config["settings"] | changes}))
        assert validation.measured_by(run).digests != before
    del config["settings"]["reserve"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is of another version of launch[.]measure, without --reserve"):
        validation.measured_by(run)


@pytest.mark.parametrize("config", [None, "", "[]", '{"program": "launch.compare", "settings": {}}'])
def test_a_folder_that_is_not_of_launch_measure_is_refused(config, measured, tmp_path):
    run, _ = moved(measured, tmp_path)
    (run / "config.json").unlink()
    if config is not None:
        (run / "config.json").write_text(config)
    with pytest.raises(ValueError, match=f"{run} is not what launch.measure left"):
        ran(equilibrium, tmp_path / "other", run, rates="total alone")


@pytest.mark.parametrize(
    ("agents", "changes", "message"),
    [
        (
            AGENTS.replace("20,40,", "20,46,"),
            {},
            "--validate: the capacity of ann is 46, and only 45 of her records are not reserved",
        ),
        (AGENTS.rsplit("cleo", 1)[0], {"curve": True}, "cleo is not both a participant and a member"),
        (AGENTS, {"curve": True, "held": 5.0}, "qualities must be 1, and --held 0"),
        (
            AGENTS.replace("value", "quality").replace(",9000", ",2"),
            {"curve": True},
            "qualities must be 1, and --held 0",
        ),
        (AGENTS, {"payoff": "power(0.9, 0.9, 0.5, 2)"}, "--validate needs --measurements or --curve"),
    ],
)
def test_what_cannot_be_checked_is_refused(agents, changes, message, measured, tmp_path):
    given = {"measurements": None, "rates": "chosen"} if changes else {"rates": "total alone"}
    if changes.get("curve"):
        given["curve"] = str(measured / "curve.csv")
    given |= {key: value for key, value in changes.items() if key != "curve"}
    with pytest.raises(ValueError, match=message):
        ran(equilibrium, tmp_path / "run", measured, agents, **given)


def test_an_area_that_no_reserve_can_show_is_refused_before_anything_is_measured(tmp_path, write_members):
    folder = tmp_path / "members"
    write_members(folder, {"a": 40, "rare": 40})
    header, *lines = (folder / "rare.csv").read_text().splitlines()
    lines = [f"{line.rsplit(',', 1)[0]},{int(k < 2)}" for k, line in enumerate(lines)]
    (folder / "rare.csv").write_text("\n".join([header, *lines]) + "\n")
    given = {"federation": str(folder), "validate": True, "tested": 0.5}
    task = measure.prepare(measure.Settings(**given, metric="auc"))
    with pytest.raises(ValueError, match=r"not defined for rare in split \d+: all records of --tested are"):
        validation.check_tests(task, range(20))  # her only other one is held out in about half of the splits
    measure.prepare(measure.Settings(**given, seed=1))
    with pytest.raises(ValueError, match="all reserved records of rare are of one class"):
        measure.prepare(measure.Settings(**given, metric="auc", seed=1))


def test_the_spread_of_a_metric_is_at_least_that_which_the_prediction_implies(fitted):
    known, _ = fitted
    reserve = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    accuracy, auc, log_loss = (with_metric(known.task, name) for name in evaluation.METRICS)
    assert validation._least_spread(accuracy, 0.9, reserve) == pytest.approx(0.09)
    assert validation._least_spread(log_loss, 0.9, reserve) == 0.0
    # Without any information a rank test of a and b records has the variance (a + b + 1) / (12 a b), exactly.
    expected = (4 + 4 + 1) / (12 * 4 * 4) * (4 + 4)
    assert validation._least_spread(auc, 0.5, reserve) == pytest.approx(expected)


def test_what_members_share_has_intervals_from_resampled_measurements(measured, tmp_path):
    agents = tmp_path / "agents.csv"
    agents.write_text(AGENTS)
    prepared = equilibrium.prepare(equilibrium.Settings(agents=str(agents), measurements=str(measured)))
    work = workdir.Workdir(tmp_path / "run")
    equilibrium.compute(prepared, work)
    game, profiles = prepared.scenario.game, []
    for fit in prepared.scenario.origin.exchange.resampled:
        curve = jax.tree.map(lambda *x: np.stack(x), *fit.curves)
        one = game.replace(payoff=payoffs.EffectiveSamples(curve, fit.rates))
        profiles.append(np.asarray(equilibria.solve(one).profile))
    low, high = np.percentile(profiles, [2.5, 97.5], axis=0)
    rows = work.read_csv("outcome.csv")
    np.testing.assert_allclose([row["contribution_low"] for row in rows], low, atol=1e-9)
    np.testing.assert_allclose([row["contribution_high"] for row in rows], high, atol=1e-9)
    assert np.ptp(profiles, axis=0).max() > 1  # there is something to be unsure of
    assert "6 resampled games" in text.equilibrium(work)  # as many as `quick_fits` says
    given = {"agents": str(agents), "measurements": str(measured), "mechanism": "personal"}
    paid = workdir.Workdir(tmp_path / "paid")
    mechanism.compute(mechanism.prepare(mechanism.Settings(**given, over_beta=2, p=(1.0,))), paid)
    rows = paid.read_csv("outcome.csv", text=("name", "payment"))
    both = [row["name"] for row in rows if row["payment_low"] < 0 < row["payment_high"]]
    assert both
    told = text.mechanism(paid)
    for name in both:
        assert f"hether {name} receives or pays is not certain: from paying" in told
    assert told.index("receives or pays is not certain") < told.index("| agent")
    agents.write_text(AGENTS.replace("ann", "anna"))
    with pytest.raises(ValueError, match=r"ann is no participant: measured were ann, bea, cleo"):
        equilibrium.prepare(equilibrium.Settings(agents=str(agents), measurements=str(measured)))
