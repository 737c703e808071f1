"""Sentences of answers: from rows and summaries, and from files of real runs."""

import dataclasses

import numpy as np
import pytest

from fedgame.experiments import equilibrium, mechanism
from fedgame.inputs import read as inputs
from fedgame.mechanisms import personal
from fedgame.report import answers, money, text
from fedgame.runs import experiment, workdir

EUR = money.currency("EUR")
NUMBERS = mechanism.Settings(
    cost=(0.004, 0.005, 0.012), capacity=(100.0,), payoff="power(0.97, 6, 0.8, 12)", over_beta=2, p=(1.0,)
)


def row(name, contribution, payment="0", capacity=100.0, before=None):
    return {
        "name": name,
        "contribution": contribution,
        "capacity": capacity,
        "payment": payment,
        "contribution_without_payments": before,
    }


def test_few_members_are_told_one_by_one():
    rows = [row("Zurich", 74.3), row("Basel", 100.0), row("Bern", 0.0)]
    assert answers.who_shares(rows, "records") == [
        "Zurich shares 74 of 100 records and Basel all her 100, 174 records together; Bern shares nothing."
    ]
    assert answers.who_shares(rows[1:], "samples") == [
        "Only Basel shares all her 100 samples; Bern shares nothing."
    ]
    assert answers.who_shares([row("1", 0.0)], "samples") == ["Nobody shares anything."]
    assert answers.who_shares([row("1", 5.5)], "samples") == ["Only agent 1 shares 5.5 of 100 samples."]


def test_what_can_be_trained_on_is_not_called_all_she_has():
    rows = [row("Zurich", 74.3), row("Basel", 100.0), row("Bern", 100.0)]
    assert answers.who_shares(rows, "records", {"Basel"}) == [
        "Zurich shares 74 of 100 records, Basel all 100 that can be trained on and Bern all her 100, 274 "
        "records together."
    ]
    assert answers.who_shares(rows[1:2], "records", {"Basel"}) == [
        "Only Basel shares all 100 records that can be trained on."
    ]
    many = [row(f"clinic {i}", 100.0 * (i > 7)) for i in range(10)]
    assert "clinic 8 (all 100 that can be trained on)" in answers.who_shares(many, "records", {"clinic 8"})[0]
    counted = [{"name": f"m{i}", "capacity": 30.0, "owned": 1060} for i in range(7)]
    told = answers._assumed({"currency": "", "data": "records", "trainable": counted[:2]})
    assert told[0] == (
        "Only records that can be trained on count, 30 of the 1,060 of m0, 30 of the 1,060 of m1: the others "
        "are reserved, or held out to measure on."
    )
    told = answers._assumed({"currency": "", "data": "records", "trainable": counted})
    assert "of m5, …: the others" in told[0]


def test_capacities_beyond_what_was_measured_are_told():
    more = [{"name": f"m{i}", "capacity": 60.0, "measured": 30.0} for i in range(5)]
    assert answers.extrapolation({"of_total": False, "unmeasured": more[:1]}, "records") == [
        "Capacities beyond what was measured: m0 (60, measured up to 30); what records beyond that bring is "
        "an extrapolation."
    ]
    (told,) = answers.extrapolation({"of_total": False, "unmeasured": more}, "records")
    assert "m2 (60, measured up to 30) and 2 more; what" in told
    both = answers.extrapolation({"of_total": False, "unmeasured": more, "extrapolated": ["m0"]}, "records")
    assert [one.split(":")[0] for one in both] == [
        "BEYOND THE MEASUREMENTS",
        "Capacities beyond what was measured",
    ]


def test_who_may_pay_as_well_as_receive_is_told():
    ends = {"north": (-40.37, 91.4), "south": (-91.4, 40.37), "east": (0.001, 2.0), "west": (-3.0, 0.004)}
    rows = [{"name": name, "payment_low": low, "payment_high": high} for name, (low, high) in ends.items()]
    assert answers._may_pay_or_receive(rows[2:], EUR) == []
    assert answers._may_pay_or_receive(rows[1:], EUR) == [
        "Whether south receives or pays is not certain: from paying €91.40 to receiving €40.37."
    ]
    (told,) = answers._may_pay_or_receive(rows, EUR)
    assert told == (
        "Whether north receives or pays is not certain: from paying €40.37 to receiving €91.40; whether "
        "south receives or pays is not certain: from paying €91.40 to receiving €40.37."
    )
    assert answers._may_pay_or_receive(rows[:1] * 4, EUR) == [
        "Whether she receives or pays is not certain for 4 of 4 members."
    ]
    assert answers._may_pay_or_receive([{"name": "north"}], EUR) == []


def test_of_many_those_who_share_and_pay_the_most_are_named():
    rows = [row(f"clinic {i}", float(i), "-1.50" if i < 9 else "13.50") for i in range(10)]
    shared = answers.who_shares(rows, "samples")
    assert shared[0] == (
        "9 of 10 members share 45 samples together, most of all clinic 9 (9 of 100), clinic 8 (8 of 100) and "
        "clinic 7 (7 of 100)."
    )
    assert shared[1] == "Nothing is shared by clinic 0."
    assert answers.who_pays(rows, EUR) == [
        "clinic 9 receives €13.50; 9 members pay €13.50 together, most of all clinic 0 (€1.50), clinic 1 "
        "(€1.50) and clinic 2 (€1.50)."
    ]


def test_payments_are_told_with_their_currency_and_the_largest_first():
    rows = [row("a", 1.0, "-1200.00"), row("b", 1.0, "900.50"), row("c", 1.0, "299.50")]
    assert answers.who_pays(rows, EUR) == ["b receives €900.50 and c €299.50; a pays €1,200."]
    assert answers.who_pays([row("a", 1.0)], EUR) == ["Nobody pays anything."]


def test_names_that_are_numbers_or_have_commas_are_told_apart():
    rows = [row("1", 1.0, "-5.00"), row("agent 1", 1.0, "5.00"), row("Leeds, St. Mary", 1.0)]
    assert answers.who_pays(rows, EUR) == ["agent 1 receives €5; agent 1 pays €5."]
    assert answers.listed(["1", "Leeds, St. Mary"]) == "agent 1, “Leeds, St. Mary”"
    alone = [row(str(i), float(i == 3)) for i in range(8)]
    assert answers.who_shares(alone, "records") == [
        "Only agent 3 shares 1 of 100 records; the other 7 members share nothing."
    ]
    assert "99.6" not in answers.who_shares([row("a", 99.6)], "samples")[0]
    assert answers.who_shares([row("a", 99.6)], "samples") == ["Only a shares 100 of 100 samples."]


def got(**changes):
    given = {"name": "a", "payoff": 0.9, "cost": 0.2, "payment": "0", "exact_payment": -0.4, "utility": 1.0}
    return given | {"outside": 0.5} | changes


def test_what_a_member_gets_adds_up_also_where_payments_are_rounded():
    summary = {"outside": "alone", "unit": 1.0}
    assert answers._gets(got(), summary, money.PLAIN) == (
        "a: her model (accuracy 0.900) is worth 1.6 to her and her data cost her 0.2, which leaves her 1, "
        "0.5 more than by training alone."
    )
    assert answers._too_small([got()], summary, money.PLAIN) == [
        "Payments of at most 0.4 are rounded to 0: less than half of the smallest that can be paid, 1 "
        "(--unit)."
    ]
    assert answers._too_small([got(exact_payment=1e-17)], summary, money.PLAIN) == []
    assert answers._too_small([got(payment="-1")], summary, money.PLAIN) == []
    same = answers._gets(got(outside=1.0), {"outside": "given"}, money.PLAIN)
    assert same.endswith("which leaves her 1, as much as what she has outside.")
    paid = got(payment="2", exact_payment=2.0, payment_low=-1.0, payment_high=3.0, utility_low=0.0,
               utility_high=4.0, gain_low=-1.0, gain_high=2.0)  # fmt: skip
    told = answers._gets(paid, summary, money.PLAIN)
    assert "she receives 2 (she may pay up to 1 or receive up to 3), which leaves her 1 (0 to 4)" in told
    assert told.endswith(", 0.5 (-1 to 2) more than by training alone.")
    lost = answers._gets(paid | {"outside": 1.5, "gain_low": -2.0, "gain_high": -0.25}, summary, money.PLAIN)
    assert lost.endswith(", 0.5 (0.25 to 2) less than by training alone.")
    assert "she receives 2 (1 to 3)" in answers._gets(paid | {"payment_low": 1.0}, summary, money.PLAIN)
    other = {"outside": "alone", "exchange": {"metric": "auc"}}
    assert "(area under the ROC curve 0.900)" in answers._gets(got(), other, money.PLAIN)


def test_a_recommendation_says_what_it_is_compared_with():
    found = {"apply": 3, "rather_leave": 0, "surplus": -5.0, "nearly": 0.01, "simpler": []}
    told = answers.recommendation({"mechanism": "falkinger", "compared": found}, EUR)
    assert told.endswith("with everybody there, all together have €5 LESS than if they left.")
    assert "within 1% of the most that such a mechanism brings" in told
    assert "even under β = 1 - 1/n, of the 3 mechanisms" in answers._none_holds(
        {"mechanism": "falkinger", "compared": found}
    )


def test_what_is_assumed_of_who_leaves_follows_the_flags():
    def told(**summary):
        return " ".join(answers._assumed({"currency": "EUR", "data": "records"} | summary))

    alone = told(outside="alone", own="contributed", values=[2.0, 3.0])
    assert "train alone on as many records as pay for her, each at what sharing a record costs her" in alone
    assert "--outside=own_records, or --own=always if she always can" in alone
    assert "--own" not in told(outside="alone", own="")
    assert "at no cost" not in told(outside="alone", own="always")
    assert "at no cost, who takes part only on what she shares" in told(
        outside="own_records", own="contributed"
    )
    assert "Accuracy 1 is taken to be worth €1 to everybody" in told(outside="nothing", values=[1.0, 1.0])
    assert "Accuracy 1" not in alone


def test_a_price_that_is_given_needs_no_knowledge():
    assert answers._server_knows({"mechanism": "price(price=2)"}) == [
        "Members need not reveal anything but what they share."
    ]
    assert answers._server_knows({"mechanism": "price"})[0].startswith("Members must tell the server what")
    assert len(answers._server_knows({"mechanism": "falkinger"})) == 1  # payoffs are not asked for


def test_what_resampled_games_say_of_the_sum():
    found = {"resamples": 9, "certified": 8, "confidence": 0.9, "shared_low": 20.0, "shared_high": 30.0}
    (told,) = answers._resampled({"bootstrap": found}, "records")
    assert told.startswith(
        "Together they share 20 to 30 records, with 90% confidence (8 of 9 resampled games"
    )
    earlier = {name.replace("shared", "total"): x for name, x in found.items()}
    assert answers._resampled({"bootstrap": earlier}, "records") == [told]
    (none,) = answers._resampled(
        {"bootstrap": {"resamples": 9, "certified": 0, "confidence": 0.9}}, "records"
    )
    assert none.startswith("How sure the numbers are cannot be told: 0 of 9 resampled games")
    assert answers._resampled({}, "records") == []
    assert "--bootstrap=100" in answers._resampled({"largest_measured": 210.0}, "samples")[0]


def test_what_would_be_shared_without_payments():
    rows = [row("a", 50.0, "-1", before=0.0), row("b", 50.0, "1", before=20.0)]
    assert answers._without_payments(rows, "records") == [
        "Without payments nobody but b would share anything: 20 records."
    ]
    rows[0]["contribution_without_payments"] = None  # no certified equilibrium
    assert answers._without_payments(rows, "records") == []


def ran(experiment_of, settings, folder):
    words = experiment.run(experiment_of, settings, str(folder))
    return words, workdir.Workdir(folder)


@pytest.fixture(scope="module")
def recommended(tmp_path_factory):
    settings = dataclasses.replace(NUMBERS, currency="EUR", value=(20_000.0,), cost=(80.0, 100.0, 240.0))
    return ran(mechanism.EXPERIMENT, settings, tmp_path_factory.mktemp("mechanism") / "run")


def test_the_answer_comes_first_and_has_names_money_and_no_exponent(recommended):
    words, work = recommended
    answer = answers.of(work)
    assert words.startswith(answer.sentences[0])
    assert answer.sentences[0].startswith("Recommended: ")
    first_table = words[: words.index("How sure this is")]
    assert "€" in first_table
    assert "e+0" not in first_table
    assert "e-1" not in first_table
    assert "Checked: nobody gains €0.01 or more by sharing more or less, alone." in answer.sure
    assert words.index("How sure this is") < words.index("What is assumed") < words.index("What the words")


def test_all_that_is_said_of_the_recommended_mechanism_is_what_the_files_say(recommended):
    _, work = recommended
    rows = answers.compared(work)
    (chosen,) = (one for one in rows if one["chosen"])
    summary = work.read_json("mechanism.json")
    assert chosen["mechanism"] == summary["mechanism"]
    accepted = [one for one in rows if one["applies"] and not one["rather_leave"]]
    most = max(one["surplus"] for one in accepted)
    assert chosen["surplus"] >= 0.99 * most
    simpler = [one for one in accepted if one["simplicity"] < chosen["simplicity"]]
    assert all(one["surplus"] < 0.99 * most for one in simpler)
    members = work.read_csv("mechanisms_by_member.csv", text=("mechanism", "name"))
    mine = [one for one in members if one["mechanism"] == chosen["mechanism"]]
    outcome = work.read_csv("outcome.csv", text=("name", "payment"))
    for one, there in zip(mine, outcome, strict=True):
        assert one["contribution"] == pytest.approx(there["contribution"], abs=1e-9)
        assert one["payment"] == pytest.approx(there["exact_payment"], abs=1e-6)
    assert {one["payment"][-3] for one in outcome} == {"."}  # whole cents


def test_another_currency_and_unit_recommend_the_same(recommended, tmp_path):
    settings = dataclasses.replace(NUMBERS, value=(2e-3,), cost=(8e-6, 1e-5, 2.4e-5), unit=1e-9)
    _, work = ran(mechanism.EXPERIMENT, settings, tmp_path / "run")
    assert (
        work.read_json("mechanism.json")["mechanism"]
        == (recommended[1].read_json("mechanism.json")["mechanism"])
    )


def test_who_may_not_leave_is_not_said_to_have_left_or_to_be_content(tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism="none", fixed=(0.0, 0.0, 0.9), leave=False)
    words, _ = ran(mechanism.EXPERIMENT, settings, tmp_path / "run")
    assert "agent 3 would rather leave: training alone is better for her by" in words
    assert "All are taken to stay in spite of that (--noleave)." in words
    assert "Nobody would rather leave" not in words


def test_all_commands_mean_the_same_by_leaving(tmp_path):
    fixed = {"fixed": (0.0, 0.0, 0.9)}
    settings = {name: getattr(NUMBERS, name) for name in ("cost", "capacity", "payoff")}
    _, work = ran(equilibrium.EXPERIMENT, equilibrium.Settings(**settings, **fixed), tmp_path / "equilibrium")
    stay = dataclasses.replace(NUMBERS, mechanism="none", leave=False, **fixed)
    _, other = ran(mechanism.EXPERIMENT, stay, tmp_path / "mechanism")
    leaving = [one["name"] for one in work.read_csv("outcome.csv", text=("name",)) if one["rather_leaves"]]
    assert leaving == [one["name"] for one in other.read_json("mechanism.json")["rather_leave"]] == ["3"]
    for which in ("own_records", "nothing"):
        again = equilibrium.Settings(**settings, **fixed, outside=which)
        _, work = ran(equilibrium.EXPERIMENT, again, tmp_path / which)
        game = inputs.read(again).game
        found = [one["outside"] for one in work.read_csv("outcome.csv", text=("name",))]
        np.testing.assert_allclose(found, personal.outside(game, which), rtol=1e-12)
    assert found == [0.0] * 3


def test_where_nobody_shares_the_break_even_number_is_told_in_money(tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism="none", cost=(60.0, 70.0, 80.0), currency="EUR")
    words, _ = ran(mechanism.EXPERIMENT, settings, tmp_path / "run")
    assert words.splitlines()[1] == (
        "Nobody shares: a sample costs agent 1 €60 and brings her at most 0.05479 of accuracy, worth €0.0548 "
        "(`value`: €1); it would pay at a cost below €0.0548, or a `value` above €1,095."
    )


def test_an_unknown_currency_is_refused_before_anything_is_computed():
    with pytest.raises(ValueError, match="--currency: a currency is a code of three letters"):
        mechanism.check(dataclasses.replace(NUMBERS, currency="euro"))


def test_a_rule_of_ones_own_is_called_by_its_text_where_it_is_not_imported():
    assert answers.described("mine(x=3)") == "mine(x=3)."
    assert answers._server_knows({"mechanism": "mine(x=3)"}) == []
    assert answers._server_knows({"mechanism": "none"}) == [
        "Members need not reveal anything but what they share."
    ]


def test_text_is_made_of_what_is_answered(recommended):
    words, work = recommended
    assert text.mechanism(work) == words


def test_protocols_that_are_equal_or_that_seeds_do_not_tell_apart(tmp_path):
    work = workdir.Workdir(tmp_path)
    names, utilities = ("A", "B", "C"), (0.5, 0.5, 0.4)
    numbers = {"charged": 10.0, "held_out_accuracy": 0.9}
    work.write_json("config.json", {"program": "launch.compare", "settings": {"metric": "auc"}})
    work.write_json("game.json", {"equilibria": {}})
    rows = [
        {"protocol": name, "seed": seed, "mean_utility": u, **numbers}
        for name, u in zip(names, utilities, strict=True)
        for seed in (0, 1)
    ]
    work.write_csv("runs.csv", rows)
    both = "A (utility 0.5 on average, 10 samples, area under the ROC curve 0.900) and B (utility 0.5 on "
    assert answers.of(work).sentences[0].startswith(f"Members have the most under {both}")
    assert "; less under C (utility 0.4 on average" in answers.of(work).sentences[0]
    assert len(answers.of(work).sentences) == 1
    columns = {"p": 1.0, "seeds": 2, "welfare_difference": -0.1}
    differences = [
        {"protocol": "C", "minus": "A", **columns, "welfare_low": -0.3, "welfare_high": 0.1},
        {"protocol": "B", "minus": "A", **columns, "welfare_low": -0.3, "welfare_high": -0.2},
        {"protocol": "C", "minus": "B", **columns, "welfare_low": -0.3, "welfare_high": 0.1},
    ]
    work.write_csv("differences.csv", differences)
    assert answers.of(work).sentences[1] == (
        "These seeds do not tell A from C: the 95% interval of the difference holds 0."
    )
