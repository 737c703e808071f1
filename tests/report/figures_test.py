"""What people call themselves stands in figures as it is, whatever matplotlib would make of it."""

import pytest
from matplotlib import cbook, figure

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
    fig = figure.Figure()
    figures.over_beta(work, fig)
    left = fig.axes[0]
    shown = [text.get_text() for text in left.get_legend().get_texts()]
    assert shown == [*map(figures.literal, NAMES), "others"]
    heights = [collection.get_paths()[0].get_extents().height for collection in left.collections]
    assert len(heights) == len(NAMES) + 1
    fig.savefig(tmp_path / "over_beta.png", dpi=20)
