"""Exchange rates from a file, and from a folder of measurements."""

import dataclasses
import json

import numpy as np
import pytest

from fedgame import games
from fedgame.experiments import equilibrium, mechanism
from fedgame.games import payoffs, scenarios
from fedgame.inputs import exchange_rates, fits, mixtures
from fedgame.inputs import read as inputs
from fedgame.mechanisms import outcomes, rules
from fedgame.report import money, text
from fedgame.runs import workdir

NAMES = ["a", "b", "c"]
RATES = np.array([[1.0, 0.5, 0.0], [0.2, 1.0, 0.3], [0.0, 0.1, 1.0]])
AGENTS = "name,cost,capacity,outside\na,0.001,60,0.1\nb,0.002,90,0.2\nc,0.001,80,0.3\n"
BY_NUMBERS = {"payoff": "power(0.9, 0.9, 0.5, 2, False)"}


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def rates_file(path, rows=None):
    lines = [
        f"{row['member']},{row['of']},{row['rate']}" for row in rows or exchange_rates.rows(NAMES, RATES)
    ]
    return written(path, "\n".join(["member,of,rate", *lines]) + "\n")


def ran(experiment, settings, tmp_path):
    work = workdir.Workdir(tmp_path)
    experiment.compute(experiment.prepare(settings), work)
    return work


def test_rates_are_read_in_the_order_of_the_members_and_written_as_they_are_read(tmp_path):
    path = rates_file(tmp_path / "rates.csv", list(reversed(exchange_rates.rows(NAMES, RATES))))
    np.testing.assert_array_equal(exchange_rates.read(path, NAMES), RATES)
    np.testing.assert_array_equal(
        exchange_rates.read(path, ["c", "a", "b"]), RATES[np.ix_([2, 0, 1], [2, 0, 1])]
    )
    low = np.where(RATES > 0.2, RATES / 2, np.nan)
    rows = exchange_rates.rows(NAMES, RATES, low, 2 * low)
    assert [row["low"] for row in rows] == [None, 0.25, None, None, None, 0.15, None, None, None]
    assert rows[1]["high"] == 0.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b,0.5\n", "no rate of 'c' for 'a', 'a' for 'b', 'c' for 'b', 'a' for 'c', 'b' for 'c'"),
        ("a,d,0.5\n", "line 2: `of` 'd' is none of the participants"),
        ("a,b,-1\n", "line 2: `rate` must be a number, at least 0, got '-1'"),
        ("a,b,1\na,b,2\n", "line 3: the rate of 'b' for 'a' is in line 2 already"),
        ("a,a,2\n", "line 2: the `rate` of a member's own samples is 1, got 2"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_by_line(rows, message, tmp_path):
    path = written(tmp_path / "rates.csv", f"member,of,rate\n{rows}")
    with pytest.raises(ValueError, match=message):
        exchange_rates.read(path, NAMES)


def test_a_file_of_rates_makes_the_game_and_is_left_beside_the_results(tmp_path):
    agents = written(tmp_path / "agents.csv", AGENTS)
    given = {"agents": agents, "exchange_rates": rates_file(tmp_path / "rates.csv"), **BY_NUMBERS}
    scenario = inputs.read(inputs.ScenarioSettings(**given))
    np.testing.assert_array_equal(scenario.game.payoff.rates, RATES)
    np.testing.assert_array_equal(scenario.outside, [0.1, 0.2, 0.3])
    work = ran(equilibrium, equilibrium.Settings(**given), tmp_path / "run")
    np.testing.assert_array_equal(exchange_rates.read(str(work.path / "exchange_rates.csv"), NAMES), RATES)
    rows = work.read_csv("outcome.csv", text=("name",))
    s = np.array([row["contribution"] for row in rows])
    np.testing.assert_allclose([row["effective"] for row in rows], RATES @ s, rtol=1e-12)
    again = scenarios.load(work.path / "scenario.json")
    np.testing.assert_array_equal(again.outside, scenario.outside)
    np.testing.assert_array_equal(again.game.payoff.rates, RATES)
    assert "count the same for everybody" not in text.equilibrium(work)
    assert "Nobody would rather leave: for nobody is what she has outside better." in text.equilibrium(work)
    always = inputs.read(inputs.ScenarioSettings(**given, own="always")).game
    np.testing.assert_array_equal(always.payoff.records, [60.0, 90.0, 80.0])
    alone = ran(equilibrium, equilibrium.Settings(**given, own="always"), tmp_path / "always")
    assert "without payments nobody gains by sharing" in text.equilibrium(alone)
    measured = {**given, "payoff": None, "curve": "curve.csv"}
    with pytest.raises(ValueError, match="--bootstrap has no use with --exchange_rates"):
        equilibrium.check(equilibrium.Settings(**measured, bootstrap=10))


@pytest.mark.parametrize("validate", [False, True])
def test_measurements_that_are_not_there_say_which_command_makes_them(validate, tmp_path):
    given = {"agents": written(tmp_path / "agents.csv", AGENTS), "measurements": str(tmp_path / "measure_b")}
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*measure_b: launch\.measure makes it"):
        equilibrium.prepare(equilibrium.Settings(**given, validate=validate))


def test_a_column_says_what_agents_have_outside(tmp_path):
    given = {"agents": written(tmp_path / "agents.csv", AGENTS), "over_beta": 2, "p": (1.0,), **BY_NUMBERS}
    prepared = mechanism.prepare(mechanism.Settings(**given))
    np.testing.assert_array_equal(prepared.outside, [0.1, 0.2, 0.3])
    with pytest.raises(
        ValueError, match="--outside=nothing has no use: the agents' column `outside` says it"
    ):
        mechanism.prepare(mechanism.Settings(**given, outside="nothing"))
    some = AGENTS.replace("60,0.1", "60,")
    given["agents"] = written(tmp_path / "some.csv", some)
    with pytest.raises(ValueError, match="line 2: `outside` must not be empty in some rows only"):
        mechanism.prepare(mechanism.Settings(**given))


def test_a_federation_that_falls_apart_says_what_is_missing_and_who_could_do_better(tmp_path):
    outside = AGENTS.replace("0.1\n", "0.1\n").replace("80,0.3", "80,3.0")
    given = {"agents": written(tmp_path / "agents.csv", outside), "over_beta": 2, "p": (1.0,), **BY_NUMBERS}
    given["exchange_rates"] = rates_file(tmp_path / "rates.csv")
    work = ran(mechanism, mechanism.Settings(**given, mechanism="prices"), tmp_path / "run")
    summary = json.loads((work.path / "mechanism.json").read_text())
    assert [one["name"] for one in summary["left"]] == ["c"]
    assert summary["coalition"]["members"] == ["a", "b"]
    assert summary["surplus"] < 0
    words = text.mechanism(work)
    short = money.number(-summary["surplus"])
    assert f"All together have {short} less than outside, even at the first best" in words
    assert "of all coalitions that of a, b has the largest surplus" in words
    assert "that groups could act together is not considered" in words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three members on mixtures of 0 to 40 samples each, three splits, with little noise."""
    path, rng = tmp_path_factory.mktemp("measured"), np.random.default_rng(0)
    curve = games.PowerLaw(0.9, 0.9, 0.5, 2.0, clip=False)
    samples = rng.choice([0.0, 5.0, 20.0, 40.0], (30, 3))
    samples[0] = 0.0
    told = ["mixture,member,samples"]
    measured = ["mixture,split,member,accuracy"]
    for m, row in enumerate(samples):
        told += [f"m{m},{name},{x:g}" for name, x in zip(NAMES, row, strict=True)]
        accuracy = np.array([float(curve.curve(z)) for z in RATES @ row])
        for split in range(3):
            noisy = np.clip(accuracy + rng.normal(0, 0.003, 3), 0, 1)
            measured += [f"m{m},{split},{name},{a:.5f}" for name, a in zip(NAMES, noisy, strict=True)]
    written(path / mixtures.MIXTURES, "\n".join(told) + "\n")
    written(path / mixtures.MEASUREMENTS, "\n".join(measured) + "\n")
    return path


def test_a_folder_of_measurements_gives_rates_with_intervals(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "_DEALS", 2)
    monkeypatch.setattr(fits, "_DRAWS", 20)
    agents = written(tmp_path / "agents.csv", AGENTS)
    settings = equilibrium.Settings(agents=agents, measurements=str(folder))
    work = ran(equilibrium, settings, tmp_path / "run")
    np.testing.assert_allclose(
        exchange_rates.read(str(work.path / "exchange_rates.csv"), NAMES), RATES, atol=0.1
    )
    rows = work.read_csv("exchange_rates.csv", text=("member", "of"))
    inside = [row["low"] <= row["rate"] <= row["high"] for row in rows if row["low"] is not None]
    assert len(inside) >= 3
    assert all(inside)
    words = text.equilibrium(work)
    assert "used: exchange rates; that every sample counts the same for everybody is rejected at 5%" in words
    assert "extrapolated" not in words
    for a_file in ("fitted_curve.csv", "equilibria.csv", "curve.csv"):
        assert not work.has(a_file)


def test_intervals_of_payments_are_those_of_resampled_games(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "_DEALS", 2)
    monkeypatch.setattr(fits, "_DRAWS", 6)
    settings = mechanism.Settings(
        agents=written(tmp_path / "agents.csv", AGENTS),
        measurements=str(folder),
        mechanism="personal",
        bootstrap=5,
        confidence=0.8,
        over_beta=2,
    )
    work = ran(mechanism, settings, tmp_path / "run")
    scenario = inputs.read(settings)
    paid, totals = [], []
    for fit in scenario.origin.exchange.resampled[:5]:
        exchange = scenario.origin.exchange._replace(fit=fit)
        game = scenario.game.replace(payoff=fits.payoff_of(exchange, "contributed", scenario.game.capacity))
        announced = rules.personal.announced(game, outside=np.array([0.1, 0.2, 0.3]))
        there = outcomes.outcome(game, announced.mechanism)
        paid.append(np.asarray(there.payments))
        totals.append(float(np.sum(there.equilibrium.profile)))
    low, high = np.percentile(paid, [10, 90], axis=0)
    rows = work.read_csv("outcome.csv", text=("name",))
    np.testing.assert_allclose([row["payment_low"] for row in rows], low, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose([row["payment_high"] for row in rows], high, rtol=1e-6, atol=1e-9)
    assert all(row["payment_low"] < row["payment_high"] for row in rows)
    found = work.read_json("mechanism.json")["bootstrap"]
    assert (found["resamples"], found["certified"]) == (5, 5)
    np.testing.assert_allclose([found["shared_low"], found["shared_high"]], np.percentile(totals, [10, 90]))
    words = mechanism.show(work)
    pays = money.number(abs(rows[0]["payment"]))
    ends = sorted(money.number(abs(rows[0][f"payment_{end}"])) for end in ("low", "high"))
    assert f"{pays} ({' to '.join(ends)})" in words
    html = (work.path / "report.html").read_text()
    assert "receives, interval" in html
    for name in ("payment", "utility"):
        low, high = (money.number(rows[1][f"{name}_{end}"]) for end in ("low", "high"))
        assert f"<td>{low} to {high}</td>" in html
    with pytest.raises(ValueError, match=r"--bootstrap=1000: mixtures are resampled \d+ times only"):
        mechanism.prepare(dataclasses.replace(settings, bootstrap=1000))
    without = ran(mechanism, dataclasses.replace(settings, bootstrap=0), tmp_path / "without")
    assert "payment_low" not in without.read_csv("outcome.csv")[0]


def test_where_the_total_predicts_as_well_it_is_what_is_used(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "_DEALS", 2)
    monkeypatch.setattr(fits, "_DRAWS", 2)
    path = tmp_path / "measured"
    path.mkdir()
    read = mixtures.read(str(folder), NAMES)
    curve = games.PowerLaw(0.9, 0.9, 0.5, 2.0, clip=False)
    rng = np.random.default_rng(0)
    told, measured = ["mixture,member,samples"], ["mixture,split,member,accuracy"]
    for m, row in enumerate(read.samples[read.samples.sum(axis=1) > 0]):
        told += [f"m{m},{name},{x:g}" for name, x in zip(NAMES, row, strict=True)]
        for split in range(3):
            noisy = float(curve.curve(row.sum())) + rng.normal(0, 0.003, 3)
            measured += [f"m{m},{split},{name},{a:.5f}" for name, a in zip(NAMES, noisy, strict=True)]
    written(path / mixtures.MIXTURES, "\n".join(told) + "\n")
    written(path / mixtures.MEASUREMENTS, "\n".join(measured) + "\n")
    agents = written(tmp_path / "agents.csv", AGENTS)
    work = ran(equilibrium, equilibrium.Settings(agents=agents, measurements=str(path)), tmp_path / "run")
    words = text.equilibrium(work)
    assert "used: total alone" in words
    assert "no mixture has 0 samples of everybody: what members have without data is extrapolated" in words
    rates = exchange_rates.read(str(work.path / "exchange_rates.csv"), NAMES)
    np.testing.assert_array_equal(rates, np.ones((3, 3)))
    always = inputs.read(inputs.ScenarioSettings(agents=agents, measurements=str(path), own="always")).game
    assert not always.payoff.own_gain
    quality = AGENTS.replace("outside", "quality").replace("60,0.1", "60,2").replace("90,0.2", "90,1")
    given = {"agents": written(tmp_path / "q.csv", quality.replace("80,0.3", "80,1"))}
    with pytest.raises(ValueError, match="with --measurements qualities are 1"):
        inputs.read(inputs.ScenarioSettings(**given, measurements=str(path)))
    assert isinstance(scenarios.load(work.path / "scenario.json").game.payoff, payoffs.PowerLaw)


@pytest.mark.parametrize("model", ["total alone", "one rate", "exchange rates"])
def test_the_model_that_is_asked_for_is_used_and_told_if_another_one_predicts_better(
    model, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(fits, "_DEALS", 2)
    monkeypatch.setattr(fits, "_DRAWS", 5)
    agents = written(tmp_path / "agents.csv", AGENTS)
    settings = equilibrium.Settings(agents=agents, measurements=str(folder), rates=model)
    work = ran(equilibrium, settings, tmp_path / "run")
    rates = exchange_rates.read(str(work.path / "exchange_rates.csv"), NAMES)
    others = rates[~np.eye(3, dtype=bool)].reshape(3, 2)
    assert np.all(others == 1) == (model == "total alone")
    assert np.all(others[:, 0] == others[:, 1]) == (model != "exchange rates")
    words = text.equilibrium(work)
    assert f"used: {model}" in words
    told = f"used: {model} (--rates), though held-out mixtures speak for exchange rates"
    assert (told in words) == (model != "exchange rates")
    with pytest.raises(ValueError, match=f"--rates={model} needs --measurements"):
        inputs.check(inputs.ScenarioSettings(agents=agents, rates=model, **BY_NUMBERS))
