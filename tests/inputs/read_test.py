import dataclasses
import json
import pathlib

import chex
import jax
import numpy as np
import pytest

from fedgame import equilibria, games, registry
from fedgame.experiments import equilibrium, over_beta
from fedgame.games import curves, scenarios
from fedgame.report import text as texts
from fedgame.runs import workdir

NUMBERS = equilibrium.Settings(
    family="power", best=(0.97,), scale=(6.0,), power=(0.8,), shift=(12.0,), cost=(0.004, 0.005, 0.012),
    capacity=(100.0,),
)  # fmt: skip
TRUTH = games.PowerLaw(0.95, 6.0, 0.8, 12.0)
SIZES = np.array([0, 10, 20, 40, 80, 160, 320.0])
utilities, payoff_values = jax.jit(games.utilities), jax.jit(games.payoff_values)
curve_at = jax.jit(lambda payoff, totals: jax.vmap(payoff.curve)(totals))


@pytest.fixture
def files(tmp_path):
    """Participants, and three noisy repetitions of a known curve."""
    rng = np.random.default_rng(0)
    agents, curve = tmp_path / "agents.csv", tmp_path / "curve.csv"
    agents.write_text("name,cost,capacity,exponent,fixed\na,0.001,50,1.5,0\nb,0.0005,80,2,0\nc,0.5,9,1,2\n")
    values = np.asarray(curve_at(TRUTH, SIZES)) + rng.normal(0, 0.01, (3, len(SIZES)))
    rows = [f"{s},{a}\n" for row in values for s, a in zip(SIZES, row.clip(0, 1), strict=True)]
    curve.write_text("samples,accuracy\n" + "".join(rows))
    return equilibrium.Settings(agents=str(agents), curve=str(curve))


def read(settings):
    return equilibrium.prepare(settings).scenario


def run(settings, folder, show=texts.equilibrium):
    """What launch.equilibrium leaves and says; with `show=equilibrium.show` also its figure."""
    work = workdir.Workdir(folder)
    equilibrium.compute(equilibrium.prepare(settings), work)
    return work, show(work)


def solved(game):
    return np.asarray(equilibria.solve(game).profile)


def test_numbers_on_the_command_line_make_the_game_of_the_readme():
    scenario = read(NUMBERS)
    direct = games.Game(
        games.PowerLaw(0.97, 6.0, 0.8, 12.0),
        games.LinearCost(np.array([0.004, 0.005, 0.012])),
        np.full(3, 100.0),
    )
    s = np.array([3.0, 20.0, 0.5])
    np.testing.assert_allclose(utilities(scenario.game, s), utilities(direct, s), rtol=1e-14)
    assert scenario.names == ["1", "2", "3"]


def test_without_a_capacity_agents_have_what_the_best_accuracy_can_pay_for():
    game = read(dataclasses.replace(NUMBERS, capacity=None, exponent=(2.0,), fixed=(0.1,))).game
    np.testing.assert_allclose(game.capacity, np.sqrt((0.97 - 0.1) / np.array([0.004, 0.005, 0.012])))


def test_the_bound_has_a_family_and_held_samples_count():
    settings = equilibrium.Settings(
        family="bound", best=(0.95,), difficulty=(1.0,), cost=(1e-3,), capacity=(5000.0,), held=30.0
    )
    assert solved(read(settings).game).sum() + 30 == pytest.approx(238.113, abs=1e-3)  # S as without them


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": None}, "give one of --agents, --cost, --scenario; got none"),
        ({"curve": "x.csv"}, "give one of --curve, .*--measurements, --scenario; got --curve and --family"),
        ({"family": None}, "give one of --curve, .*--measurements, --scenario; got none"),
        ({"own": "always"}, "--own=always needs --exchange_rates or --measurements"),
        ({"family": None, "measurements": "x", "best": (0.9,)}, "--best has no use with --measurements"),
        ({"scale": None}, "--family=power needs --scale"),
        ({"family": "bound"}, "--family=bound needs --difficulty"),
        ({"capacity": (1.0, 2.0)}, "--capacity needs one number or one for each of 3 agents, got 2"),
        ({"bootstrap": 10}, "--bootstrap resamples measurements: it needs --curve"),
        ({"cost": (-1.0,)}, "--cost must be a number, at least 0, got -1"),
        ({"confidence": 1.5}, "--confidence must be a number, greater than 0 and"),
        ({"family": "cubic"}, "--family must be one of power, bound, got 'cubic'"),
        ({"fit": "spline"}, "--fit must be one of bound, concave, power, got 'spline'"),
        ({"capacity": None, "cost": (0.0, 0.1)}, "--cost needs --capacity, unless .*, at a cost above 0$"),
        ({"fit": "concave"}, "--fit has no use with --family"),
        ({"payoff": "bound(0.9, 1)"}, "give one of .*; got --family and --payoff"),
        ({"cost": "linear(0.01)", "exponent": (2.0,)}, r"--exponent has no use with --cost=linear\(0.01\)"),
        ({"cost": "linear(0.01)", "scenario": "x.json"}, "give one of .*; got --cost and --scenario"),
        ({"cost": "linear", "capacity": (1.0,)}, "--cost: linear needs `rate`: of a sample"),
        ({"cost": "liner(1)"}, "--cost: there is no cost 'liner'; did you mean 'linear'"),
        ({"cost": "linear(rate=-1)"}, "--cost: linear: `rate` must be a number, at least 0, got -1"),
        (
            {"cost": "linear([1, 2])", "value": (1.0,) * 3},
            "--cost: rate needs one number or one for each of 3",
        ),
        (
            {"cost": "linear(0)", "capacity": None},
            "--capacity: costs of agent 0 never reach the bound, 0.97, however many samples she gives: she n",
        ),
        ({"held": -1.0}, "--held must be a number, at least 0"),
    ],
)
def test_contradictory_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        read(dataclasses.replace(NUMBERS, **changes))


@pytest.mark.parametrize(
    ("given", "enough"),
    [
        ({"cost": (0.004, 0.001)}, 1000),
        ({"cost": (0.004, 0.001), "value": (2.0, 4.0), "fixed": (1.0,)}, 3000),
        ({"cost": (0.004, 0.001), "exponent": (2.0,)}, 32),
        ({"cost": "linear([0.004, 0.001])"}, 1000),
        ({"cost": "linear(0.001)", "value": (1.0, 2.5)}, 2500),
    ],
)
def test_a_capacity_that_is_enough_is_named(files, given, enough):
    with pytest.raises(ValueError, match=f"--cost needs --capacity, .*; --capacity={enough} is enough: "):
        read(equilibrium.Settings(curve=files.curve, **given))


def test_what_was_read_is_told(files, tmp_path):
    work, text = run(files, tmp_path / "run")
    told = [
        f"3 participants from {files.agents}",
        f"21 measurements at 7 sizes, 3 repetitions each, from {files.curve}",
    ]
    assert work.read_json("equilibrium.json")["read"] == told
    assert "\n\nread: " + "; ".join(told) + "\n\n" in text
    assert "FLAT" not in text
    scenario = tmp_path / "run" / "scenario.json"
    assert read(equilibrium.Settings(scenario=str(scenario))).origin.notes == [
        f"3 participants from {scenario}"
    ]
    assert not read(NUMBERS).origin.notes


def test_a_curve_that_does_not_rise_is_told(files, tmp_path):
    curve = tmp_path / "falling.csv"
    curve.write_text("samples,accuracy\n0,0.8\n10,0.7\n20,0.65\n40,0.6\n")
    _, text = run(dataclasses.replace(files, curve=str(curve)), tmp_path / "run")
    assert "FLAT: the measured accuracies do not rise with the samples by more than they scatter" in text
    rising = [
        f"{s},{a},a\n{s},{a},b\n{s},0.5,c\n" for s, a in zip(SIZES, curve_at(TRUTH, SIZES), strict=True)
    ]
    curve.write_text("samples,accuracy,agent\n" + "".join(rising))
    _, text = run(dataclasses.replace(files, curve=str(curve)), tmp_path / "own")
    assert "FLAT: the measured accuracies of c do not rise" in text


def test_numbers_that_would_be_ignored_are_refused(files):
    for changes, message in (
        ({"value": (3.0,)}, "--value has no use with --agents"),
        ({"best": (0.9,)}, "--best has no use with --curve"),
    ):
        with pytest.raises(ValueError, match=message):
            read(dataclasses.replace(files, **changes))


def test_the_total_is_of_standard_samples_whatever_the_payoff(tmp_path):
    """Marginal costs 0.02 s_i reach 0.1 w_i at s = (5, 2.5), so S = 1·5 + 0.5·2.5; with Σ s it was 7.5."""
    payoff = games.LinearPayoff(np.array([[0.1, 0.3], [0.2, 0.1]]))
    cost = games.PowerCost(np.array([0.01, 0.01]), np.array([2.0, 2.0]))
    game = games.check(games.Game(payoff, cost, np.array([9.0, 9.0]), quality=np.array([1.0, 0.5])))
    scenarios.save(tmp_path / "scenario.json", game)
    settings = equilibrium.Settings(scenario=str(tmp_path / "scenario.json"))
    work, text = run(settings, tmp_path / "run")
    summary = json.loads((work.path / "equilibrium.json").read_text())
    assert (summary["contributed"], summary["total"]) == pytest.approx((7.5, 6.25), rel=1e-9)
    assert "S = 6.25 samples" in text
    swept, _ = over_beta.rows_by_beta(read(settings).game, ["1", "2"], np.zeros(2), (), 2)
    assert swept[0]["total"] == pytest.approx(6.25, rel=1e-9)


def test_an_equilibrium_beyond_the_measurements_is_called_an_extrapolation(files, tmp_path):
    for held, beyond in ((0.0, False), (400.0, True)):
        settings = dataclasses.replace(files, held=held)
        _, text = run(settings, tmp_path / str(held))
        assert ("BEYOND THE MEASUREMENTS, which end at 320 samples" in text) == beyond


def test_if_no_resampled_game_is_certified_the_answer_stays_and_says_so(files, tmp_path, monkeypatch):
    solve = equilibrium._solve_all
    none = jax.jit(lambda *args: solve(*args)._replace(certified=np.zeros(3, bool)), static_argnums=3)
    monkeypatch.setattr(equilibrium, "_solve_all", none)
    work, words = run(dataclasses.replace(files, bootstrap=3), tmp_path / "run")
    assert "How sure the numbers are cannot be told: 0 of 3 resampled games have a certified" in words
    assert "utility_low" not in work.read_csv("outcome.csv")[0]


def test_a_curve_that_cannot_be_fitted_says_whose(files, tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("samples,accuracy\n1,0.1\n2,0.2\n3,0.3\n")
    with pytest.raises(ValueError, match=r"short.csv: --fit=power: `sizes` must be at least 4"):
        read(dataclasses.replace(files, curve=str(short)))
    with pytest.raises(ValueError, match=r"short.csv: --fit=concave: the first size must be 0, got 1"):
        read(dataclasses.replace(files, curve=str(short), fit="concave"))


@pytest.mark.parametrize("fit", curves.fits())
def test_files_make_the_game_and_every_result_is_written(files, tmp_path, fit):
    settings = dataclasses.replace(files, fit=fit, conditions=fit == "power")
    scenario = read(settings)
    work, text = run(settings, tmp_path / "run", equilibrium.show)
    rows, found = work.read_csv("outcome.csv"), solved(scenario.game)
    np.testing.assert_allclose([float(r["contribution"]) for r in rows], found, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        [float(r["utility"]) for r in rows], utilities(scenario.game, found), rtol=1e-9
    )
    assert [r["name"] for r in rows] == ["a", "b", "c"]
    assert rows[2]["rather_leaves"] is True  # a fixed cost of 2, for an accuracy below 1
    assert "c would rather leave: training alone is better for her by" in text
    assert f"{fit} fit, root mean square error" in text
    assert ("λ" in text) == (fit == "power")
    summary = json.loads((tmp_path / "run" / "equilibrium.json").read_text())
    assert summary["converged"]
    assert [f["fit"] for f in summary["fits"] if f["used"]] == [fit]
    assert (tmp_path / "run" / "equilibrium.png").read_bytes().startswith(b"\x89PNG")
    again = read(equilibrium.Settings(scenario=str(tmp_path / "run" / "scenario.json")))
    chex.assert_trees_all_equal(again.game, scenario.game)
    assert again.names == scenario.names


def test_intervals_come_from_resampled_games_and_are_those_of_what_is_printed(files, tmp_path, monkeypatch):
    settings = dataclasses.replace(files, bootstrap=60, confidence=0.9, seed=3, held=30.0)
    scenario = read(settings)
    rows, summary, (x, low, high) = found = equilibrium.bootstrap(settings, scenario)
    assert summary["certified"] == summary["resamples"] == 60
    (measured,) = scenario.origin.measured.values()
    payoff = curves.bootstrap("power", measured.sizes, measured.accuracy, samples=60, seed=3)
    payoff = jax.tree.map(np.asarray, payoff)
    profiles = np.stack(
        [solved(scenario.game.replace(payoff=jax.tree.map(lambda p, k=k: p[k], payoff))) for k in range(60)]
    )
    expected = np.percentile(profiles, [5, 95], axis=0)
    np.testing.assert_allclose([r["contribution_low"] for r in rows], expected[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose([r["contribution_high"] for r in rows], expected[1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        [summary["shared_low"], summary["shared_high"]],
        np.percentile(profiles.sum(axis=1), [5, 95]),
        rtol=1e-6,
    )
    assert summary["shared_low"] < solved(scenario.game).sum() < summary["shared_high"]
    assert rows[2]["shares_nothing_in"] == 1.0
    assert rows[2]["rather_leaves_in"] == 1.0
    true = np.asarray(curve_at(TRUTH, x))
    assert np.mean((low - 0.02 <= true) & (true <= high + 0.02)) > 0.95
    monkeypatch.setattr(equilibrium, "bootstrap", lambda *args: found)  # or it would be compiled again
    work, _ = run(settings, tmp_path / "run", equilibrium.show)
    written = work.read_csv("outcome.csv")
    assert [row["contribution_low"] for row in written] == [row["contribution_low"] for row in rows]


def test_every_agent_can_have_a_curve_of_her_own(files, tmp_path):
    own = tmp_path / "own.csv"
    rows = [
        f"{s},{a},{name},0.01\n"
        for name, best in (("b", 0.95), ("a", 0.9), ("c", 0.85))
        for s, a in zip(SIZES, curve_at(TRUTH.replace(best=best), SIZES).tolist(), strict=True)
    ]
    own.write_text("samples,accuracy,agent,standard_error\n" + "".join(rows))
    for fit in ("power", "concave"):
        settings = dataclasses.replace(files, curve=str(own), fit=fit, bootstrap=5)
        scenario = read(settings)
        at_end = payoff_values(scenario.game, np.array([50.0, 80.0, 9.0]))
        expected = np.array([0.9, 0.95, 0.85]) - 6 / (139 + 12) ** 0.8
        # The power law is found again; a concave curve has 80 and 160 samples to go by, not 139.
        np.testing.assert_allclose(at_end, expected, atol={"power": 1e-5, "concave": 3e-3}[fit])
        if fit == "power":
            _, text = run(settings, tmp_path / fit, equilibrium.show)
            assert "curve of a: " in text
            assert "5 of 5 resampled games" in text
        else:
            _, summary, _ = equilibrium.bootstrap(settings, scenario)
            assert summary["certified"] == summary["resamples"] == 5


def test_a_payoff_that_defines_fit_is_a_choice(files, tmp_path, saturation):
    values = saturation(0.1, 0.9, 40.0).curve(SIZES)
    curve = tmp_path / "saturating.csv"
    curve.write_text(
        "samples,accuracy\n" + "".join(f"{s},{a}\n" for s, a in zip(SIZES, values, strict=True)) * 2
    )
    settings = dataclasses.replace(files, curve=str(curve), fit="saturation", bootstrap=3)
    scenario = read(settings)
    assert type(scenario.game.payoff) is saturation
    assert float(scenario.game.payoff.half) == pytest.approx(40.0, rel=1e-6)
    assert list(scenario.origin.fits[""]) == ["bound", "concave", "power", "saturation"]
    _, text = run(settings, tmp_path / "run", equilibrium.show)
    assert "saturation fit, root mean square error 0.0000, largest 0.0000  <- used" in text
    assert "3 of 3 resampled games" in text
    again = read(equilibrium.Settings(scenario=str(tmp_path / "run" / "scenario.json")))
    chex.assert_trees_all_equal(again.game, scenario.game)
    with pytest.raises(
        ValueError, match="--fit must be one of bound, concave, power, saturation, got 'spline'"
    ):
        read(dataclasses.replace(settings, fit="spline"))


def test_agents_can_each_have_a_curve_of_a_strangers_family(files, tmp_path, saturation):
    rows = [
        f"{s},{float(saturation(0.1, best, 40.0).curve(s))},{name}\n"
        for name, best in (("a", 0.9), ("b", 0.8), ("c", 0.7))
        for s in SIZES
    ]
    own = tmp_path / "own.csv"
    own.write_text("samples,accuracy,agent\n" + "".join(rows))
    game = read(dataclasses.replace(files, curve=str(own), fit="saturation")).game
    np.testing.assert_allclose(game.payoff.best, [0.9, 0.8, 0.7], rtol=1e-6)


def test_concave_curves_of_different_numbers_of_sizes_are_refused(files, tmp_path):
    own = tmp_path / "own.csv"
    rows = [
        f"{s},0.5,{name}\n" for name, sizes in (("a", SIZES), ("b", SIZES[:5]), ("c", SIZES)) for s in sizes
    ]
    own.write_text("samples,accuracy,agent\n" + "".join(rows))
    with pytest.raises(
        ValueError, match="--fit=concave needs the same number of sizes in every agent's curve"
    ):
        read(dataclasses.replace(files, curve=str(own), fit="concave"))


POWER = "power(best=0.97, scale=6, exponent=0.8, shift=12)"
BY_TEXT = dataclasses.replace(
    NUMBERS, family=None, best=None, scale=None, power=None, shift=(0.0,), payoff=POWER
)


def same(settings, other):
    """Whether two settings make the same game, bit for bit, be its numbers shared or given for each agent."""
    one, two = (read(x).game for x in (settings, other))
    assert one.n == two.n == 3
    chex.assert_trees_all_equal(registry.per_agent(one, 3), registry.per_agent(two, 3), strict=True)


def test_a_payoff_and_a_cost_by_their_texts_are_those_of_the_short_flags(tmp_path):
    same(NUMBERS, BY_TEXT)
    same(*(dataclasses.replace(x, capacity=None) for x in (NUMBERS, BY_TEXT)))
    short = dataclasses.replace(NUMBERS, exponent=(2.0, 1.5, 1.0), fixed=(0.1,))
    rates, exponents = "[0.004, 0.005, 0.012]", "exponent=[2, 1.5, 1]"
    same(short, dataclasses.replace(BY_TEXT, cost=f"power({rates}, {exponents}, fixed=0.1)"))
    file = tmp_path / "rates.csv"
    file.write_text("0.004\n0.005\n0.012\n")
    same(short, dataclasses.replace(BY_TEXT, cost=f"power('{file}', {exponents}, fixed=0.1)"))
    same(
        dataclasses.replace(short, capacity=None),
        dataclasses.replace(BY_TEXT, capacity=None, cost=f"power({rates}, {exponents}, fixed=0.1)"),
    )
    bound = {"family": "bound", "best": (0.95, 0.9, 0.8), "difficulty": (1.0,), "capacity": (5e3,)}
    same(
        dataclasses.replace(NUMBERS, scale=None, power=None, shift=(0.0,), **bound),
        dataclasses.replace(BY_TEXT, payoff="bound([0.95, 0.9, 0.8], difficulty=1)", capacity=(5e3,)),
    )


def test_numbers_in_a_text_say_how_many_agents_there_are():
    records = "ordered([[0.001, 0.002], [0.002, 0.003]])"
    game = read(dataclasses.replace(BY_TEXT, cost=records, capacity=(2.0,))).game
    assert (type(game.cost), game.n) == (games.OrderedCost, 2)
    payoff = "linear([[0.1, 0.2], [0.3, 0.1]])"
    assert read(dataclasses.replace(BY_TEXT, payoff=payoff, cost="linear(0.2)")).game.n == 2
    with pytest.raises(FileNotFoundError, match=r"--cost: linear: `rate`: there is no file nowhere.csv"):
        read(dataclasses.replace(BY_TEXT, cost="linear('nowhere.csv')"))


def with_columns(tmp_path, text, **given):
    (tmp_path / "columns.csv").write_text(text)
    return equilibrium.Settings(agents=str(tmp_path / "columns.csv"), **given)


def test_parameters_of_named_costs_and_payoffs_are_columns(tmp_path):
    columns = "name,capacity,rate,cost.exponent,payoff.exponent,best,scale\n"
    text = columns + "a,9,0.1,1,0.8,0.9,1\nb,8,0.2,2,0.7,0.8,2\n"
    found = read(with_columns(tmp_path, text, cost="power", payoff="power(shift=12)"))
    assert found.names == ["a", "b"]
    payoff, cost = found.game.payoff, found.game.cost
    for column, expected in (
        *((cost.rate, [0.1, 0.2]), (cost.exponent, [1, 2]), (cost.fixed, 0)),
        *((payoff.best, [0.9, 0.8]), (payoff.scale, [1, 2]), (payoff.exponent, [0.8, 0.7])),
        *((payoff.shift, 12), (found.game.capacity, [9, 8])),
    ):
        np.testing.assert_array_equal(column, expected)
    # Where a text gives one of two parameters of a name, the other one is the column of that name.
    text = "name,capacity,rate,exponent\na,9,0.1,1\nb,8,0.2,2\n"
    game = read(with_columns(tmp_path, text, cost="power", payoff="power(0.9, 1, 0.8)")).game
    np.testing.assert_array_equal(game.cost.exponent, [1, 2])
    np.testing.assert_array_equal(game.payoff.exponent, 0.8)
    # Costs of --agents without --cost are as ever, whatever the payoff calls its parameters.
    text = "name,capacity,cost,exponent,payoff.exponent\na,9,0.1,1,0.8\nb,8,0.2,2,0.7\n"
    game = read(with_columns(tmp_path, text, payoff="power(0.9, 1)")).game
    np.testing.assert_array_equal(game.cost.exponent, [1, 2])
    np.testing.assert_array_equal(game.payoff.exponent, [0.8, 0.7])


def test_the_columns_of_a_cost_make_the_game_of_the_columns_without_one(files):
    named = pathlib.Path(files.agents).with_name("named.csv")
    named.write_text(pathlib.Path(files.agents).read_text().replace("name,cost", "name,rate"))
    same(files, dataclasses.replace(files, agents=str(named), cost="power"))


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("name,capacity\na,1\n", {"cost": "linear"}, "line 1: column `rate` is missing; the first line has"),
        (
            "name,capacity,rate\na,1,\n",
            {"cost": "linear"},
            "line 2: `rate` must be a number, at least 0, got ''",
        ),
        ("name,capacity,rate\na,1,2\nb,1,-1\n", {"cost": "linear"}, "line 3: `rate` must be .*, got '-1'"),
        (
            "name,capacity,rate\na,1,2\n",
            {"cost": "linear(rate=3)"},
            "line 1: unknown column `rate`; allowed are name, capacity, fixed, shift,",
        ),
        (
            "name,capacity,rate,exponent\na,1,2,2\n",
            {"cost": "power", "payoff": "power(0.9, 1)"},
            "line 1: column `cost.exponent` is missing",
        ),
        (
            "name,capacity,rate\na,1,1\n",
            {"cost": "linear(fixed=[1, 2])"},
            "`fixed` must be shared or have one entry",
        ),
        (
            "name,capacity,rate\na,1,1\n",
            {"cost": "linear", "fixed": (1.0,)},
            "--fixed has no use with --agents",
        ),
    ],
)
def test_columns_that_do_not_fit_the_texts(text, given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(with_columns(tmp_path, text, **{"payoff": "power(0.9, 1, 0.8)"} | given))


def test_empty_cells_of_parameters_have_their_defaults(tmp_path):
    text = "name,capacity,rate,fixed\na,1,1,\nb,1,1,0.5\n"
    game = read(with_columns(tmp_path, text, cost="linear", payoff="bound(0.9, 1)")).game
    np.testing.assert_array_equal(game.cost.fixed, [0, 0.5])


def test_parameters_of_a_strangers_cost_may_have_any_name(tmp_path):
    """Also that of another column. A parameter that is not one number for each agent has no column."""

    @registry.register("tiered")
    class Tiered(games.Cost):
        quality: object = registry.option("how well it is paid", low=0)
        K: object = registry.option("with a large letter", 1.0, above=0)
        word: str = registry.option("text", "yes", static=True, kind=str)
        maybe: object = registry.option("depends on others", None)

        def value(self, own):
            return self.quality * own**2 / self.K

    text = "name,capacity,cost.quality,quality,K\na,9,0.1,2,3\nb,9,0.2,1,\n"
    game = read(with_columns(tmp_path, text, cost="tiered(maybe=1)", payoff="bound(0.9, 1)")).game
    assert type(game.cost) is Tiered
    np.testing.assert_array_equal(game.cost.quality, [0.1, 0.2])
    np.testing.assert_array_equal(game.quality, [2, 1])
    np.testing.assert_array_equal(game.cost.K, [3, 1])
