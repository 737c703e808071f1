"""Figures say what they show, also of two agents or of thousands; names stand in them as they are."""

import re

import numpy as np
import pytest
from matplotlib import cbook, colors, figure

from fedgame.report import figures
from fedgame.runs import workdir

NAMES = ["$x$", r"100$ club $\frac{", r"a\$b", "_hidden", "beta", "others", "nan", "L" * 1000]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_and_no_hidden_label(name):
    label = figures.literal(name)
    assert not cbook.is_math_text(label)
    assert not label.startswith("_")
    drawn = label.replace(r"\$", "$").strip()  # as matplotlib does with text that is no formula
    assert drawn == (name if len(name) <= 24 else "L" * 23 + "…")


def test_nobodys_name_hides_another_column_or_stops_the_figure(tmp_path):
    work = workdir.Workdir(tmp_path)
    contributions = [
        {"beta": beta, "name": name, "contribution": 1.0 + k}
        for beta in (0.0, 0.5)
        for k, name in enumerate([*NAMES, ""])
    ]
    work.write_csv("over_beta_contributions.csv", contributions)
    work.write_csv("over_beta.csv", [{"beta": beta, "p=1": 0.5} for beta in (0.0, 0.5)])
    work.write_csv("p_means.csv", [{"mechanism": "first_best", "p=1": 0.6}])
    work.write_csv("marks.csv", [{"name": "$chosen", "beta": 0.25}])
    fig = figure.Figure(layout="constrained")
    figures.over_beta(work, fig)
    left = fig.axes[0]
    shown = [text.get_text() for text in left.texts if text.get_text() != r"\$chosen (0.25)"]
    assert shown == [*map(figures.literal, NAMES), "all others"]
    heights = [collection.get_paths()[0].get_extents().height for collection in left.collections]
    assert len(heights) == len(NAMES) + 1
    fig.savefig(tmp_path / "over_beta.png", dpi=20)


def outcome(members):
    """Rows of `outcome.csv`, from what members share, have and receive."""
    return [
        {
            "name": f"m{i}",
            "contribution": float(s),
            "capacity": float(capacity),
            "exact_payment": float(paid),
            "payment": f"{paid:g}",
            "stays": True,
        }
        for i, (s, capacity, paid) in enumerate(members)
    ]


def mechanism(tmp_path, members):
    work = workdir.Workdir(tmp_path)
    work.write_csv("outcome.csv", outcome(members))
    work.write_json("mechanism.json", {"mechanism": "falkinger"})
    fig = figure.Figure(figsize=(9, 4.5), layout="constrained")
    figures.mechanism(work, fig)
    fig.savefig(tmp_path / "mechanism.png", dpi=20)
    return fig


def test_who_shares_and_pays_stands_beside_the_bars(tmp_path):
    fig = mechanism(tmp_path, [(74.2, 100, 331.38), (0, 147, -1483.48), (5, 10, 0)])
    left, right = fig.axes
    assert [text.get_text().strip() for text in left.texts] == ["74 of 100", "0 of 147", "5 of 10"]
    told = [text.get_text().strip() for text in right.texts]
    assert told == ["receives 331.38", "pays 1483.48", "nothing"]
    of_axes = [ax.get_window_extent() for ax in fig.axes]
    for ax, box in zip(fig.axes, of_axes, strict=True):
        for text in ax.texts:  # beside the names, and not over the other axes
            assert text.get_window_extent().x0 >= box.x0 - 0.05 * box.width
            assert text.get_window_extent().x1 <= fig.bbox.x1


def test_of_many_members_those_are_drawn_who_share_pay_or_receive_most(tmp_path):
    members = (
        [(0, 50, -0.001)] * 60
        + [(100 + k, 200, 0.0) for k in range(30)]
        + [(0, 50, 9.0 + k) for k in range(10)]
    )
    fig = mechanism(tmp_path, members)
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert names == [f"m{i}" for i in range(60, 100)]
    assert fig.get_figheight() > 8  # or names would overlap
    assert "40 of 100, who share, pay or receive most" in fig.get_suptitle()


def test_labels_stand_apart_and_as_near_to_their_lines_as_there_is_room():
    near = figures._apart([0.5, 0.51, 0.9, 0.49, 1.2])
    assert near[0] == pytest.approx(0.5 + 0.045)
    assert near[2] == pytest.approx(0.9)
    assert max(near) == 1.0
    assert np.min(np.diff(np.sort(near))) >= figures._APART - 1e-12
    assert np.argsort(near).tolist() == [3, 0, 1, 2, 4]


def test_protocols_have_the_same_colours_whichever_are_compared():
    alone, beside = figures.colors(["FedBR-BG"]), figures.colors(["AFL", "FedBR", "FedBR-BG", "mine"])
    assert alone["FedBR-BG"] == beside["FedBR-BG"]
    assert len({colors.to_hex(color) for color in beside.values()}) == 4


def test_numbers_in_pale_cells_stay_dark_on_a_dark_page(tmp_path):
    """A page in the dark gives texts without a colour, and black ones, that of its own text."""
    work = workdir.Workdir(tmp_path)
    rows = [
        {"member": a, "of": b, "rate": 1.0 if a == b else 0.25, "low": None, "high": None}
        for a in "xy"
        for b in "xy"
    ]
    work.write_csv("exchange_rates.csv", rows)
    figures.draw(work, "exchange_rates", figures.exchange_rates, (4, 4))
    svg = (tmp_path / "exchange_rates.svg").read_text(encoding="utf-8")
    pale = re.findall(r"<text style=\"([^\"]*)\"[^>]*>0.25</text>", svg)
    assert len(pale) == 2
    assert all("fill: #111111" in style for style in pale)


def test_where_nobody_shares_the_axis_shows_what_all_could(tmp_path):
    work = workdir.Workdir(tmp_path)
    work.write_csv("outcome.csv", [row | {"shares": "nothing"} for row in outcome([(0, 100, 0), (0, 50, 0)])])
    work.write_json("equilibrium.json", {})
    fig = figure.Figure(layout="constrained")
    figures.equilibrium(work, fig)
    (ax,) = fig.axes
    assert ax.get_xlim() == (0, pytest.approx(115))
    assert ax.lines[-1].get_xdata().tolist() == [100, 50]


def test_what_differs_by_rounding_is_not_drawn_over_a_sweep():
    rows = [{"x": 39.363693741 + k * 1e-13, "y": float(k), "z": None if k else 1.0} for k in range(3)]
    assert [figures._varies(rows, name) for name in "xyz"] == [False, True, True]
