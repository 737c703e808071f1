import numpy as np

from fedgame import games
from fedgame.experiments import candidates
from fedgame.games import scenarios
from fedgame.mechanisms import choice, optimum, rules
from fedgame.runs import workdir

GAME = games.check(
    games.Game(
        games.PowerLaw(0.97, 6.0, 0.8, 12.0),
        games.PowerCost(np.array([0.004, 0.005, 0.012]), 1.5),
        np.full(3, 100.0),
    )
)
NAMES = ["=1+1", "b", "3"]


def test_every_mechanism_has_a_row_and_one_per_member_if_it_applies(tmp_path, monkeypatch):
    chosen_rules = [rules.none, rules.beta_star, rules.falkinger]
    monkeypatch.setattr(choice, "rules_without_options", lambda options: chosen_rules)
    outside = np.array([0.1, 0.2, 0.3])
    compared = candidates.compare(GAME, "alone", outside, {}, optimum.first_best(GAME))
    chosen = choice.choose(compared)
    work = workdir.Workdir(tmp_path)
    candidates.write(work, scenarios.Scenario(GAME, NAMES), compared, chosen)
    rows = work.read_csv("mechanisms.csv", text=("mechanism", "misreport_by", "worst_off", "why_not"))
    assert [row["mechanism"] for row in rows] == ["none", "beta_star", "falkinger"]
    assert [row["chosen"] for row in rows] == [False, False, True]
    assert [row["applies"] for row in rows] == [True, False, True]
    assert "linear costs" in rows[1]["why_not"]
    assert rows[2]["misreport_gain"] > 0
    members = work.read_csv("mechanisms_by_member.csv", text=("mechanism", "name"))
    assert [row["name"] for row in members] == NAMES * 2
    mine = members[3:]
    np.testing.assert_allclose(sum(row["payment"] for row in mine), 0.0, atol=1e-12)
    np.testing.assert_allclose(
        rows[2]["surplus"], sum(row["utility"] for row in mine) - np.sum(outside), rtol=1e-12
    )
    assert [row["capacity"] for row in mine] == [100.0] * 3
    why = candidates.reasons(compared, chosen)
    assert (why["apply"], why["rather_leave"], why["surplus"]) == (2, 0, rows[2]["surplus"])
    assert [one["mechanism"] for one in why["simpler"]] == ["none"]
