"""No pivot over the files of a comparison mixes two scales, or utilities by two kinds of test images."""

import pytest

from fedgame.experiments import table1
from fedgame.report import scales

AGENTS = [
    {"protocol": name, "seed": seed, "agent": i, "utility": u + seed, "held_out_utility": u + seed + 1.0}
    for name, us in (("FedAvg", (1.0, -0.5)), ("FedBR", (1.0, 4.0)))
    for seed in range(2)
    for i, u in enumerate(us)
]
PER_SEED = table1.welfare_rows(AGENTS, [0.0, 0.5, 1.0])


@pytest.mark.parametrize("rows", [PER_SEED, table1.table_rows(PER_SEED), table1.difference_rows(PER_SEED)])
def test_a_row_of_files_has_all_four_p_means_and_comes_apart_again(rows):
    wide = scales.widened(rows)
    keys = [(row["protocol"], row.get("minus"), row.get("seed"), row["p"]) for row in wide]
    assert len(set(keys)) == len(keys) == len(rows) / 4
    assert {name for row in wide for name in row} & {"utilities", "scale"} == set()
    again = scales.lengthened(wide)
    assert sorted(map(repr, map(sorted, map(dict.items, again)))) == sorted(
        repr(sorted(row.items())) for row in rows
    )


def test_every_p_mean_has_its_own_column_its_error_and_why_it_is_undefined():
    by_key = {(row["protocol"], row["p"]): row for row in scales.widened(table1.table_rows(PER_SEED))}
    row = by_key["FedBR", 1.0]
    assert (row["welfare"], row["welfare_sum"]) == (3.0, 6.0)
    assert (row["held_out_welfare"], row["held_out_welfare_sum"]) == (4.0, 8.0)
    assert row["welfare_error"] == pytest.approx(0.5)
    assert by_key["FedAvg", 0.5]["welfare_undefined"] == "seed 0: negative utility of agent 1"
    assert by_key["FedAvg", 0.5]["held_out_welfare_undefined"] == ""


def test_files_of_earlier_versions_are_read_as_they_are():
    assert scales.lengthened(PER_SEED) == PER_SEED
    assert scales.lengthened([]) == []
