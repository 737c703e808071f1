import dataclasses
import decimal
import json
import types

import chex
import jax
import numpy as np
import pytest

from fedgame import games, mechanisms, registry
from fedgame.experiments import mechanism, over_beta
from fedgame.mechanisms import outcomes, rules
from fedgame.report import answers, money, text
from fedgame.runs import workdir

NUMBERS = mechanism.Settings(
    family="power", best=(0.97,), scale=(6.0,), power=(0.8,), shift=(12.0,), cost=(0.004, 0.005, 0.012),
    capacity=(100.0,), over_beta=8, p=(1.0, 0.0, -np.inf),
)  # fmt: skip
RATE_OF_FLAGS = (0.004, 0.005, 0.012)
RATE = np.array(RATE_OF_FLAGS)
# Numbers per agent, as those of flags are: one program is that of this game and of the command's.
GAME = games.check(
    games.Game(
        games.PowerLaw(0.97, 6.0, 0.8, 12.0),
        games.LinearCost(RATE, np.zeros(3)),
        np.full(3, 100.0),
        value=np.ones(3),
        quality=np.ones(3),
    )
)
utilities = jax.jit(games.utilities)


def run(settings, tmp_path, show=text.mechanism):
    """What launch.mechanism says and leaves; with `show=mechanism.show` also its figure."""
    work = workdir.Workdir(tmp_path)
    mechanism.compute(mechanism.prepare(settings), work)
    return show(work), work


@pytest.fixture(scope="module")
def expensive(tmp_path_factory):
    """Agent 3 pays 0.6 for being enrolled: under β* the others would carry that, and leave."""
    settings = dataclasses.replace(NUMBERS, mechanism="none", fixed=(0.0, 0.0, 0.6))
    return run(settings, tmp_path_factory.mktemp("run"), mechanism.show)


def test_who_leaves_and_what_the_others_then_have(expensive):
    words, work = expensive
    rows = work.read_texts("outcome.csv")
    assert [row["stays"] for row in rows] == ["True", "True", "False"]
    two = games.subset(GAME, np.array([0, 1]))
    there = outcomes.outcome(two, rules.none(two))
    np.testing.assert_allclose([float(row["utility"]) for row in rows[:2]], there.utilities, rtol=1e-12)
    assert float(rows[2]["utility"]) == float(rows[2]["outside"])
    assert "agent 3 leaves: training alone is better for her by " in words
    summary = json.loads((work.path / "mechanism.json").read_text())
    assert all(work.has(f"{name}.svg") for name in ("mechanism", "over_beta", "curve"))
    assert summary["total"] == pytest.approx(sum(float(row["contribution"]) for row in rows))
    fitted = work.read_csv("fitted_curve.csv", text=("agent",))
    assert {row["agent"] for row in fitted} == {""}
    assert fitted[-1]["samples"] >= summary["total"]
    assert [one["name"] for one in summary["left"]] == ["3"]
    assert summary["nash_gap"] < 1e-12


@pytest.mark.parametrize(
    "which", ["beta_star", "personal(transfers='equal')", "designed", "beta", "price", "prices", "shapley"]
)
def test_payments_are_whole_units_that_sum_to_zero(which, tmp_path):
    beta = 0.3 if which == "beta" else None
    settings = dataclasses.replace(NUMBERS, mechanism=which, beta=beta, unit=0.003, leave=False)
    words, work = run(settings, tmp_path)
    rows = work.read_texts("outcome.csv")
    paid = [decimal.Decimal(row["payment"]) for row in rows]
    assert sum(paid) == 0
    assert all(x % decimal.Decimal("0.003") == 0 for x in paid)
    for row, x in zip(rows, paid, strict=True):
        assert abs(float(x) - float(row["exact_payment"])) < 0.003
    rates = {
        "beta_star": mechanisms.beta_star(RATE),
        "designed": 2 / 3, "beta": 0.3,
    }  # fmt: skip
    if which in rates:
        assert [float(row["rate"]) for row in rows] == pytest.approx([rates[which]] * 3, abs=1e-6)
        assert "Theorem 4.1" in words
    else:
        assert ("every p-mean with p ≤ 1 is at its bound" in words) == ("equal" in which)
        assert ("β_i" in words, " price " in words) == ("personal" in which, which in ("price", "prices"))
    told = json.loads((work.path / "announced.json").read_text())
    assert [one["name"] for one in told] == ["1", "2", "3"]
    assert json.loads((work.path / "mechanism.json").read_text())["certified_from_payments"]
    for name in ("outcome.json", "announced.json", "scenario.json"):
        assert work.has(name)


def test_rows_over_beta_and_welfare_are_those_of_the_library(expensive):
    words, work = expensive
    for label in ("no payments", "β*", "β = 1 - 1/n", "chosen", "chosen, those who stay", "first best"):
        assert f"\n| {label} " in words
    game = GAME.replace(cost=games.LinearCost(RATE, np.array([0.0, 0.0, 0.6])))
    swept = work.read_texts("over_beta.csv")
    assert len(swept) == 8
    for row in (swept[0], swept[5]):
        there = outcomes.outcome(game, mechanisms.Refunds(float(row["beta"])))
        u = np.asarray(there.utilities)
        assert float(row["total"]) == pytest.approx(np.asarray(there.equilibrium.profile).sum(), rel=1e-9)
        assert float(row["p=0"]) == pytest.approx(np.exp(np.log(u).mean()), rel=1e-9)
        assert float(row["p=-inf"]) == pytest.approx(u.min(), rel=1e-9)
        assert int(row["rather_leave"]) == np.sum(u < np.asarray(mechanisms.alone(game)))
    welfare = {row["mechanism"]: row for row in work.read_texts("p_means.csv")}
    assert set(welfare) == {
        "none", "beta_star", "falkinger", "chosen", "chosen_who_stay", "first_best"
    }  # fmt: skip
    assert float(welfare["falkinger"]["p=-inf"]) == pytest.approx(
        float(welfare["first_best"]["p=1"]), rel=1e-9
    )
    marks = {row["name"]: float(row["beta"]) for row in work.read_texts("marks.csv")}
    assert set(marks) == {"falkinger", "designed", "beta_star"}
    assert marks["designed"] == pytest.approx(2 / 3, abs=1e-6)
    contributions = work.read_texts("over_beta_contributions.csv")
    assert [(row["beta"], row["name"]) for row in contributions[:4]] == [
        ("0.0", "1"), ("0.0", "2"), ("0.0", "3"), (swept[1]["beta"], "1")
    ]  # fmt: skip
    assert float(contributions[0]["contribution"]) == pytest.approx(float(swept[0]["total"]), rel=1e-9)


def test_what_the_others_contribute_over_beta_has_no_name(tmp_path):
    game = GAME.replace(cost=games.LinearCost(np.full(10, 0.01)), capacity=np.linspace(1, 10, 10))
    game = games.check(game.replace(value=1.0, quality=1.0))
    names = ["beta", "others", *"cdefghij"]
    rows, contributions = over_beta.rows_by_beta(game, names, np.zeros(10), (), 2)
    assert [row["name"] for row in contributions] == 2 * [*"cdefghij", ""]
    for k, row in enumerate(rows):
        mine = contributions[9 * k : 9 * k + 9]
        assert {one["beta"] for one in mine} == {row["beta"]}
        assert sum(one["contribution"] for one in mine) == pytest.approx(row["total"], rel=1e-9)


def test_rational_transfers_leave_nobody_worse_off(tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism="personal", rational=True, value=(5.0, 1.0, 1.0))
    _, work = run(settings, tmp_path)
    rows = work.read_texts("outcome.csv")
    assert all(row["stays"] == "True" for row in rows)
    for row in rows:
        assert float(row["utility"]) >= float(row["outside"]) - 1e-12
    assert float(rows[0]["utility"]) > float(rows[1]["utility"]) + 1e-3  # equal ones would be below hers


def test_a_federation_that_falls_apart_says_so(tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism="none", fixed=(5.0,))
    words, work = run(settings, tmp_path, mechanism.show)
    assert "The federation falls apart" in words
    assert json.loads((work.path / "announced.json").read_text()) == []
    assert {row["stays"] for row in work.read_texts("outcome.csv")} == {"False"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanism": "beta"}, r"--mechanism: beta needs --beta, or beta\(0.5\)"),
        ({"mechanism": "none", "beta": 0.5}, "--beta needs --mechanism=beta"),
        ({"mechanism": "none", "price": 0.5}, "--price needs --mechanism=price"),
        ({"mechanism": "tax"}, r"--mechanism: there is no rule 'tax' \(there are none, .*beta_star"),
        (
            {"mechanism": "beta(2)"},
            "--mechanism: beta: `beta` must be a number, at least 0 and at most 1, got 2",
        ),
        ({"mechanism": "beta", "beta": 1.5}, "--beta must be a number, at least 0 and at most 1"),
        ({"mechanism": "falkinger", "rational": True}, "--rational needs --mechanism=personal"),
        ({"mechanism": "beta_star", "exponent": (2.0,)}, "defined for linear costs above 0 only"),
        ({"cost": (0.004,)}, "payments between agents need at least two"),
        ({"p": (1.5,)}, "--p must be a number, at most 1"),
        ({"unit": 0.0}, "--unit must be a number, greater than 0"),
        ({"mechanism": "personal", "rational": True, "fixed": (5.0,)}, "no transfers leave everybody"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        mechanism.prepare(dataclasses.replace(NUMBERS, **changes))


@pytest.mark.parametrize("which", ["price", "prices", "shapley", "data_maximizing"])
def test_too_many_agents_for_the_general_form_are_refused_before_anything_is_computed(which, monkeypatch):
    settings = dataclasses.replace(NUMBERS, mechanism=which, cost=(0.004,) * 2001)
    monkeypatch.setattr(mechanism.personal, "outside", lambda *args: pytest.fail("computed"))
    with pytest.raises(ValueError, match="is solved in its general form, for up to 2000 agents, got 2001"):
        mechanism.prepare(settings)


def test_prices_say_between_whom_other_splits_are_equilibria_too(tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism="prices", cost=(0.004, 0.004, 0.012), leave=False)
    words, work = run(settings, tmp_path)
    assert (
        "s* is an equilibrium; agent 1, agent 2 are indifferent how they split what they contribute" in words
    )
    assert json.loads((work.path / "mechanism.json").read_text())["splits"] == ["1", "2"]


def test_names_in_splits_are_those_of_agents_who_stay(tmp_path):
    """The first agent leaves, so the numbers of those who stay are no longer their places."""
    numbers = {"cost": (0.012, 0.004, 0.004), "value": (5.0, 1.0, 1.0)}  # equal utilities would be below hers
    _, work = run(dataclasses.replace(NUMBERS, mechanism="prices(transfers='equal')", **numbers), tmp_path)
    summary = json.loads((work.path / "mechanism.json").read_text())
    assert [one["name"] for one in summary["left"]] == ["1"]
    assert summary["splits"] == ["2", "3"]


@pytest.mark.parametrize("most", [100.0, 5.0])
def test_accuracy_as_the_reward_says_what_is_withheld(most, tmp_path):
    """Nothing is withheld, unless an agent cannot give what would earn her the model of all data."""
    settings = dataclasses.replace(
        NUMBERS, mechanism="data_maximizing", leave=False, capacity=(100, 100, most)
    )
    words, work = run(settings, tmp_path)
    u = sum(float(row["utility"]) for row in work.read_texts("outcome.csv"))
    s = np.array([float(row["contribution"]) for row in work.read_texts("outcome.csv")])
    game = GAME.replace(capacity=np.array([100.0, 100.0, most]))
    best = mechanisms.first_best(game).welfare
    withheld = np.asarray(utilities(game, s)).sum() - u
    assert (withheld > 1e-3) == (most < 100)
    assert (
        f"Σ u is {money.number(u, 6)}, {u / best:.2%} of the largest; payments sum to 0 whatever agents do"
        in words
    )
    more = (
        f"; it would be {money.number(withheld)} more if nobody were given a worse model than all data allow"
    )
    assert (more if most < 100 else "; nobody is given a worse model than all data allow") in words


def test_a_price_that_cannot_be_certified_is_an_error_in_words(tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism="price", fixed=(1e20,))
    with pytest.raises(ValueError, match="no price per sample leads to a certified equilibrium"):
        run(settings, tmp_path)


def test_short_flags_fill_in_what_a_text_leaves_open_and_are_refused_where_it_does_not():
    def values(mechanism_text, **flags):
        return mechanism.rule_of(dataclasses.replace(NUMBERS, mechanism=mechanism_text, **flags)).values

    assert values("price", price=0.003) == {"price": 0.003}
    assert values("price(0.004)") == {"price": 0.004}
    assert values("price") == {"price": None}
    assert values("beta(beta=0.25)") == {"beta": 0.25}
    assert values("designed", p=(0.5, 1.0)) == {"p": 0.5}
    assert values("designed(p=0)", p=(0.5, 1.0)) == {"p": 0}
    assert values("personal", rational=True, outside="nothing") == {"transfers": "p_mean"}
    assert values("personal(transfers='equal')", outside="nothing") == {"transfers": "equal"}
    for given, flags in (
        ("price(0.004)", {"price": 0.003}),
        ("beta(beta=0.25)", {"beta": 0.5}),
        ("personal(transfers='equal')", {"rational": True}),
    ):
        with pytest.raises(ValueError, match=f"--{next(iter(flags))} has no use with --mechanism="):
            values(given, **flags)


def test_a_server_that_pays_says_how_much_and_one_that_does_not_say_so_is_told(tmp_path, monkeypatch):
    """And numbers of a mechanism never hide a column of ours, whatever they are called."""

    @registry.register("gift")
    class Gift(mechanisms.Mechanism):
        cost: object = registry.option("for a sample; called as a column of ours", 0.001, low=0)

        def payments(self, reported, s):
            return self.cost * s

    settings = dataclasses.replace(NUMBERS, mechanism="gift")
    with pytest.raises(ValueError, match=r"payments of Gift sum to 0\.\d+: set `balanced = False`"):
        run(settings, tmp_path / "gift")
    monkeypatch.setattr(Gift, "balanced", False)  # another class would be another program
    words, work = run(settings, tmp_path / "bounty")
    rows = work.read_texts("outcome.csv")
    paid = [float(row["exact_payment"]) for row in rows]
    assert f"the server pays {sum(paid):.6g} in all" in words
    assert sum(float(row["payment"]) for row in rows) == pytest.approx(sum(paid), abs=2e-4)
    assert {row["announced_cost"] for row in rows} == {"0.001"}
    assert "0.001" not in {row["cost"] for row in rows}


def test_a_rate_by_its_text_is_that_of_the_flag(tmp_path):
    written = {}
    for folder, given in {
        "flag": {"mechanism": "beta", "beta": 0.5},
        "text": {"mechanism": "beta(0.5)"},
    }.items():
        _, work = run(dataclasses.replace(NUMBERS, p=(1.0,), **given), tmp_path / folder, mechanism.show)
        names = (
            "outcome.csv",
            "p_means.csv",
            "marks.csv",
            "announced.json",
            "over_beta.csv",
            "mechanism.json",
        )
        written[folder] = [(work.path / name).read_bytes() for name in names]
    assert written["flag"] == written["text"]


def test_a_rule_of_ones_own_is_printed_by_its_text_and_marks_no_rate(tmp_path):
    @registry.register("half")
    def half(game, beta=registry.option("no rate at all", 7.0)):
        return mechanisms.Refunds(0.5)

    words, work = run(dataclasses.replace(NUMBERS, mechanism="half(beta=8)"), tmp_path)
    assert words.startswith("Payments: half (beta = 8.0).\n")
    assert [float(row["rate"]) for row in work.read_texts("outcome.csv")] == [0.5] * 3
    assert "chosen" not in {row["name"] for row in work.read_texts("marks.csv")}
    assert json.loads((work.path / "mechanism.json").read_text())["mechanism"] == "half(beta=8.0)"


def test_the_best_rate_is_that_of_the_rule_also_where_welfare_is_level():
    """While the cheapest agent gives all she has and the next does not begin yet, β changes nothing."""
    cost, names = games.LinearCost(np.array([0.004, 0.005, 0.012])), ["1", "2", "3"]
    for capacity in (60.0, 80.0, 500.0):  # with 80 welfare is level from β = 0.65 on
        game = games.check(games.Game(GAME.payoff, cost, np.array([capacity, 500.0, 500.0])))
        expected = float(mechanisms.design_beta(game, 1.0).rates)
        for count in (5, 24):
            rates, _ = over_beta.rows_by_beta(game, names, np.zeros(3), (1.0,), count)
            assert over_beta.best_rate(game, np.zeros(3), 1.0, rates) == pytest.approx(expected, abs=1e-5)


def test_one_program_serves_every_number_of_rates_and_the_search_for_the_best(monkeypatch):
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(over_beta._solve, n=1)
    monkeypatch.setattr(over_beta, "_solve_all", jax.jit(jax.vmap(counted, in_axes=(None, None, 0))))
    for scale, count in ((1.0, 5), (2.0, 9)):
        game = GAME.replace(cost=games.LinearCost(RATE * scale, np.zeros(3)))
        rates, _ = over_beta.rows_by_beta(game, ["1", "2", "3"], np.zeros(3), (1.0,), count)
        assert 0 <= over_beta.best_rate(game, np.zeros(3), 1.0, rates) <= 1


def test_who_had_more_without_payments_is_named_with_the_amount():
    def row(name, utility, before):
        return {"name": name, "utility": utility, "without_payments": before}

    rows = [row("a", 5.0, 5.0 + 1e-9), row("b", 1000.0, 3500.0), row("c", 2.0, 1.0)]
    staying = [*rows[:3], row("e", 1.0, None)]
    told = answers._worse_off(staying, money.currency("EUR"))
    assert told == ["Payments leave less than there was without to b (€2,500 less)."]
    assert answers._worse_off(rows[:1], money.PLAIN) == []
    many = answers._worse_off([row(str(k), 0.0, k + 1.0) for k in range(5)], money.PLAIN)
    assert many[0].endswith(
        "to 5 members, most of all agent 4 (5 less), agent 3 (4 less) and agent 2 (3 less)."
    )


def test_a_rule_that_has_nothing_to_announce_to_the_others_does_not_end_the_run(tmp_path):
    @registry.register("for_three", "for three")
    def for_three(game):
        """Nothing, and only to three."""
        if game.n < 3:
            raise ValueError("too few")
        return mechanisms.Refunds()

    words, work = run(dataclasses.replace(NUMBERS, mechanism="for_three", leave=False), tmp_path)
    rows = work.read_csv("without_each.csv")
    assert [(row["certified"], row["others_lose"]) for row in rows] == [(False, None)] * 3
    assert "left, the others" not in words
    assert work.has("mechanism.json")


def test_more_data_than_were_measured_are_called_an_extrapolation(tmp_path):
    """As by launch.equilibrium: here payments make members share more than what was measured."""
    curve = tmp_path / "curve.csv"
    rows = [f"{s},{0.97 - 6 / (s + 12) ** 0.8}" for s in (0, 5, 10, 20, 40, 60)]
    curve.write_text("samples,accuracy\n" + "\n".join(rows) + "\n")
    measured = mechanism.Settings(
        curve=str(curve), cost=RATE_OF_FLAGS, capacity=(100.0,), over_beta=2, p=(1.0,)
    )
    for name, beyond in (("none", False), ("falkinger", True)):
        words, work = run(dataclasses.replace(measured, mechanism=name), tmp_path / name)
        assert ("BEYOND THE MEASUREMENTS, which end at 60 samples" in words) == beyond
        assert (work.read_json("mechanism.json")["total"] > 60) == beyond


@pytest.mark.parametrize("balanced", [True, False])
def test_units_too_small_to_count_are_refused(balanced):
    final = types.SimpleNamespace(
        payments=np.array([1.0, -1.0]), mechanism=types.SimpleNamespace(balanced=balanced)
    )
    assert mechanism._whole_units(final, 1e-4).tolist() == [10_000, -10_000]
    with pytest.raises(ValueError, match=r"^--unit=1e-99: a payment of 1 is more than 2\^52 of them"):
        mechanism._whole_units(final, 1e-99)


def test_where_nobody_shares_it_says_what_would_pay(tmp_path):
    words, work = run(dataclasses.replace(NUMBERS, mechanism="none", cost=(1.0, 1.5, 2.0)), tmp_path)
    sentence = (
        "Nobody shares: a sample costs agent 1 1 and brings her at most 0.05479 of accuracy, worth 0.05479 "
        "(`value`: 1); it would pay at a cost below 0.05479, or a `value` above 18.25."
    )
    assert sentence in words.splitlines()
    assert work.read_json("mechanism.json")["nobody_shares"]["break_even_cost"] == pytest.approx(
        0.05479, 1e-3
    )
