import csv
import dataclasses
import functools
import json

import flax.linen as nn
import numpy as np
import pytest
from matplotlib import figure

from fedgame import mechanisms, registry
from fedgame.experiments.studies import Study, base, costs, experiment_of, label_skew, rounding, rows
from fedgame.inputs import agents, measurements
from fedgame.learning import federated
from fedgame.report import money, tables
from fedgame.runs import workdir
from fedgame.runs.experiment import Resources, described

SIZES = np.array([0.0, 10, 20, 50, 100, 200])
TINY = {"agents": 3, "capacity": 40}


def experiment(text):
    return experiment_of(base.STUDIES[text.partition("(")[0]])


def settings_of(study="unequal_costs", **given):
    """The settings of a study, and those of `TINY` that it uses."""
    kind = experiment(study).settings
    shared = {name: x for name, x in TINY.items() if name in kind.__dataclass_fields__}
    if base.STUDIES[study.partition("(")[0]].trains:
        shared["capacity"] = (shared["capacity"],)
    elif "fit" in kind.__dataclass_fields__:
        shared["fit"] = "power"  # compiles in less time
    return kind(study=study, **shared | given)


def ground_of(settings):
    return experiment(settings.study).prepare(settings).ground


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    """A file with the curve ã(S) = 0.9 - 8/(S + 10)."""
    file = tmp_path_factory.mktemp("curve") / "curve.csv"
    lines = [f"{size:g},{0.9 - 8 / (size + 10):.15g}" for size in SIZES]
    file.write_text("\n".join(["samples,accuracy", *lines]) + "\n")
    return str(file)


def run(curve, path, **changes):
    settings, made = settings_of(curve=curve, **changes), experiment(changes["study"])
    prepared = made.prepare(settings)
    with workdir.open_workdir(str(path), "this", described(prepared), path.exists(), False) as work:
        made.compute(prepared, work, Resources())
        text = made.show(work)
    name = f"study_{settings.study.partition('(')[0]}"
    table = list(csv.DictReader((path / f"{name}.csv").read_text().splitlines()))
    assert (path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((path / f"{name}.json").read_text())) == len(table)
    return text, table, work


def numbers(table, column):
    return np.array([float(row[column]) for row in table if row[column]])


@pytest.fixture(scope="module")
def unequal(curve, tmp_path_factory):
    return run(
        curve, tmp_path_factory.mktemp("unequal"), study="unequal_costs", ratios=(1.0, 9.0), capacity=150
    )


def test_equal_costs_make_all_mechanisms_the_first_best(unequal):
    _, table, _ = unequal
    assert [row["mechanism"] for row in table[:5]] == [*rows.RULES, tables.FIRST_BEST]
    none, star, falkinger, personal, best = table[:5]
    assert float(star["beta"]) == pytest.approx(2 / 3, rel=1e-14)
    # ã' = 8/(S+10)² is c/n at the first best, and c without payments.
    for row in (star, falkinger, personal, best):
        assert float(row["total"]) == pytest.approx(np.sqrt(8 * 3 / 0.005) - 10, rel=1e-4)
        np.testing.assert_allclose([float(row["p=1"]), float(row["p=-inf"])], float(best["p=1"]), rtol=1e-9)
    assert float(none["total"]) == pytest.approx(np.sqrt(8 / 0.005) - 10, rel=1e-4)
    assert none["only_total"] == "True"
    assert none["contributors"] == "3"


def test_studies_say_what_they_show(unequal, curve, tmp_path):
    text, table, _ = unequal
    star = next(row for row in table[::-1] if row["mechanism"] == "beta_star")
    assert f"{float(star['share_of_first_best']):.1%} under β*" in text.splitlines()[1]
    ends = {"costs": (0.001, 0.02), "draws": 2}
    text, *_ = run(curve, tmp_path / "costs", study="costs", **ends)
    kinds = [line.split(" members")[0] for line in text.splitlines()[:4]]
    assert kinds == [f"With {kind} costs of {c}" for kind in ("equal", "lognormal") for c in ends["costs"]]
    text, table, _ = run(curve, tmp_path / "false", study="misreports", ratios=(4.0,), largest_factor=2.0)
    for name, title in (("beta_star", "β*"), ("personal", "personal rates")):
        most = max(float(row["best_gain"]) for row in table if row["mechanism"] == name)
        told = f"Under {title} an agent gains up to {money.number(most)}, where she has"
        assert told in text or (f"Under {title} nobody gains" in text and most < 1e-6)
    small = {"counts": (2, 3), "intervals": (5,), "starts": 3, "steps": 20}
    text, table, _ = run(curve, tmp_path / "rounding", study="rounding", **small)
    stops = sum(row["period"] == "1" for row in table)
    assert f"{stops} of {len(table)} paths stop" in text.splitlines()[0]


def test_nothing_exceeds_the_first_best_and_all_is_certified(unequal):
    text, table, _ = unequal
    for ratio in ("1.0", "9.0"):
        mine = [row for row in table if row["ratio"] == ratio]
        for name in ("p=1", "p=-inf", "share_of_first_best"):
            assert np.max(numbers(mine[:-1], name)) <= float(mine[-1][name]) * (1 + 1e-12)
        assert np.max(numbers(mine, "nash_gap")) < 1e-12
    none, star, falkinger, *_, best = table[5:]
    assert float(falkinger["p=1"]) == pytest.approx(float(best["p=1"]), rel=1e-9)
    assert float(none["p=1"]) < float(star["p=1"]) < float(falkinger["p=1"])
    for label in ("no payments", "β*", "β = 1 - 1/n", "personal rates", "first best"):
        assert f"| {label} " in text


def test_resumed_or_not_the_tables_are_the_same(unequal, curve):
    _, _, work = unequal
    before = (work.path / "study_unequal_costs.csv").read_bytes()
    (work.path / "jobs" / "ratio" / "9.json").unlink()
    run(curve, work.path, study="unequal_costs", ratios=(1.0, 9.0), capacity=150)
    assert (work.path / "study_unequal_costs.csv").read_bytes() == before


def test_data_beyond_the_measurements_are_flagged(curve):
    settings = settings_of(curve=curve, cost=1e-4, capacity=400)
    ground = ground_of(settings)
    none, best = ground.rows(ground.game(), ("none",))
    assert none["total"] == pytest.approx(np.sqrt(8 / 1e-4) - 10, rel=1e-3)
    assert none["extrapolated"]
    assert best["extrapolated"]


def test_costs_that_are_too_high_end_contributions(curve, tmp_path):
    _, table, work = run(curve, tmp_path, study="costs", costs=(0.005, 0.1), draws=2)
    equal = [row for row in table if row["costs"] == "equal" and row["mechanism"] == "none"]
    assert [row["contributors"] for row in equal] == ["3", "0"]  # ã'(0) = 0.08
    assert all(row["stay"] in ("", "3") for row in table)
    draws = {row["costs"] for row in table}
    assert draws == {"equal", "draw 0", "draw 1"}
    averaged = costs.averages(work.read_csv("study_costs.csv"))
    for name in ("beta_star", "first_best"):
        (mean,) = (
            row for row in averaged
            if (row["costs"], row["cost"], row["mechanism"]) == ("lognormal", 0.005, name)
        )  # fmt: skip
        mine = [x for x in table if x["costs"] != "equal" and x["cost"] == "0.005" and x["mechanism"] == name]
        assert mean["total"] == pytest.approx(np.mean(numbers(mine, "total")), rel=1e-12)


def test_more_agents_share_more_only_with_payments(curve):
    settings = settings_of("agents", curve=curve, counts=(2, 3))
    found = base.study_of(settings).jobs(ground_of(settings))
    table = [row for compute in found.values() for row in compute()]
    none = [row["total"] for row in table if row["mechanism"] == "none"]
    star = [row["total"] for row in table if row["mechanism"] == "beta_star"]
    assert none[0] == pytest.approx(none[1], rel=1e-12)
    assert star[1] > star[0] > none[0]
    np.testing.assert_allclose(
        [r["share_of_first_best"] for r in table if r["mechanism"] == "beta_star"], 1, rtol=1e-12
    )


def test_rounding_has_a_dead_zone(curve, tmp_path):
    """Under β = 2/3 nobody moves where |ã' - c/3| < c/2: at any S above √(8/(5c/6)) - 10 = 33.8."""
    more = {"counts": (3,), "intervals": (10,), "starts": 4}
    _, table, work = run(curve, tmp_path, study="rounding", **more)
    assert len(table) == 8
    star = [row for row in table if row["mechanism"] == "beta_star"]
    stuck = [row for row in star if float(row["from"]) >= 40]
    assert stuck
    for row in stuck:
        assert row["from"] == row["total"]
        assert row["dead"] != "0"
        assert (row["period"], float(row["gap"]) > 1e-6) == ("1", abs(float(row["total"]) - 59.3) > 5)
    for row in table:
        assert float(row["continuous"]) == pytest.approx(float(row["equilibrium"]), rel=1e-6)
        assert float(row["continuous_gap"]) < 1e-9
    (one, _) = rounding.summaries(work.read_csv("study_rounding.csv"))
    assert one["stops"] + one["cycles"] <= 4


def test_who_claims_more_gains_what_others_lose(curve):
    settings = settings_of("misreports", curve=curve, ratios=(1.0,), agents=2)
    misreports = base.study_of(settings)
    table = misreports.jobs(ground_of(settings))["1/1/0"]()
    assert {row["mechanism"] for row in table} == {"falkinger"}
    assert table[0]["best"] > 1
    assert table[0]["best_gain"] > 0 > table[0]["others"]
    assert max(row["gain"] for row in table) == table[0]["best_gain"]
    (honest,) = (row for row in table if row["factor"] == 1)
    assert honest["gain"] == 0
    assert "she gains" in misreports.text(table)


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("agents(count=[2])", {}, "--study: agents has no option 'count'; did you mean 'counts'"),
        (
            "agents(counts=[1])",
            {},
            r"--study: agents: `counts` must be a number, at least 2 and at most 1000000, got \[1.\]",
        ),
        ("costs(draws=2.5)", {}, "--study: costs: `draws` must be a whole number, got 2.5"),
        ("costs", {"costs": (0.0,)}, "--costs must be a number, greater than 0"),
        ("costs(draws=2)", {"draws": 3}, r"--draws has no use with --study=costs\(draws=2\), which says it"),
        ("costs", {"agents": 1}, "--agents must be a number, at least 2 and at most 1000000, got 1"),
        ("costs", {"study": "agents"}, "--study=agents: another study has other settings"),
        ("label_skew", {"cost": (0.1, 0.2)}, "--cost needs one number or one for each of 3 agents, got 2"),
    ],
)
def test_settings_that_a_study_cannot_have(text, changes, words):
    with pytest.raises(ValueError, match=words):
        experiment(text).check(settings_of(**{"study": text} | changes), Resources())


def test_every_study_has_the_settings_that_it_uses_and_no_others():
    for study in base.STUDIES.values():
        names = {field.name for field in dataclasses.fields(experiment_of(study).settings)}
        assert names >= {"study", "fit", *registry.options(study)}
        if not study.trains:
            assert names == {"study", "curve", "fit", *study.uses, *registry.options(study)}


OPTIONS = {
    "unequal_costs(ratios=[2])": {"ratios": (2.0,)},
    "costs([0.005], spread=0.5, draws=1)": {"costs": (0.005,), "spread": 0.5, "draws": 1},
    "agents(counts=[2, 3])": {"counts": (2, 3)},
    "rounding([3], [10], starts=2, steps=7)": {"counts": (3,), "intervals": (10,), "starts": 2, "steps": 7},
    "misreports([2], largest_factor=3)": {"ratios": (2.0,), "largest_factor": 3.0},
    "label_skew(alpha=0.2)": {"alpha": 0.2},
}


@pytest.mark.parametrize("text", OPTIONS)
def test_options_by_text_and_by_flags_are_the_same(text):
    name = text.partition("(")[0]
    one, other, usual = (
        base.study_of(settings_of(name, **OPTIONS[text])),
        base.study_of(settings_of(text)),
        base.study_of(settings_of(name)),
    )
    assert registry.text_of(one) == registry.text_of(other)
    assert vars(one) == vars(other) == vars(usual) | OPTIONS[text]


def test_options_by_text_and_by_flags_make_the_same_files(curve, tmp_path):
    given = {"curve": curve}
    run(path=tmp_path / "flags", study="unequal_costs", ratios=(2.0,), **given)
    run(path=tmp_path / "text", study="unequal_costs([2])", **given)
    for name in ("study_unequal_costs.csv", "study_unequal_costs.json"):
        assert (tmp_path / "flags" / name).read_bytes() == (tmp_path / "text" / name).read_bytes()


def drawn(name, table):
    """The figure of a study."""
    fig = figure.Figure()
    registry.read("study", name).figure(table, fig)
    return fig


def test_a_study_of_ones_own_has_a_table_a_figure_and_json(curve, tmp_path):
    @registry.register("worth", "What it is worth")
    class Worth(Study):
        """What agents share as accuracy becomes worth more to them."""

        over = "worth"
        values: tuple = registry.option("worth of accuracy 1", (0.5, 2.0), above=0, kind=float)
        seed: int = registry.option("of its own", 7, low=0)

        def jobs(self, ground):
            assert (ground.agents, ground.capacity, ground.cost, ground.seed) == (3, 40, 0.005, 3)
            return {f"{x:g}": functools.partial(self.at, ground, x) for x in self.values}

        def at(self, ground, value):
            game = ground.game([0.004, 0.005, 0.006]).replace(value=np.asarray(value))
            names = "none", "price(price=0.002)"
            return [{"worth": value, "seed": self.seed} | row for row in ground.rows(game, names)]

    text, table, work = run(curve, tmp_path, study="worth(values=[1, 3])", seed=3)
    assert [(row["worth"], row["mechanism"]) for row in table] == [
        (x, name) for x in ("1.0", "3.0") for name in ("none", "price(price=0.002)", "first_best")
    ]
    assert {row["seed"] for row in table} == {"7"}  # --seed is that of the ground
    assert (work.path / "jobs" / "3.json").exists()
    stored = json.loads((work.path / "study_worth.json").read_text())
    assert [str(row["total"]) for row in stored] == [row["total"] for row in table]
    assert np.max(numbers(table, "nash_gap")) < 1e-9
    assert np.all(np.diff(numbers([row for row in table if row["mechanism"] == "none"], "total")) > 0)
    *told, _, header, _, first, second = text.splitlines()[:7]
    share = float(table[0]["share_of_first_best"])
    assert told[0].startswith(
        f"With worth = 1 members have, of the utility of the first best, {share:.1%} under"
    )
    assert told[1].startswith("With worth = 3 members have, ")
    assert [x.strip() for x in header.split("|")[1:5]] == ["worth", "seed", "mechanism", "β (mean β_i)"]
    assert "mean utility" in header
    assert "certified" not in header
    assert "| no payments " in first
    assert "| one price (price = 0.002) " in second
    fig = drawn("worth", work.read_csv("study_worth.csv"))
    assert [ax.get_title() for ax in fig.axes] == [
        "total data S, samples",
        "mean utility",
        "share of the first best",
    ]
    assert {ax.get_xlabel() for ax in fig.axes} == {"worth"}
    (line, *_) = fig.axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 3])
    np.testing.assert_array_equal(line.get_ydata(), numbers(table, "total")[::3])
    assert fig.axes[0].get_legend_handles_labels()[1] == [
        "no payments",
        "one price (price = 0.002)",
        "first best",
    ]
    names = [field.name for field in dataclasses.fields(experiment("worth").settings)]
    assert names == ["study", "curve", "fit", "agents", "capacity", "cost", "p", "seed", "values"]


def test_a_study_of_other_columns_than_ours_is_drawn_too(curve, tmp_path):
    @registry.register("slopes")
    class Slopes(Study):
        """Slopes of the curve."""

        def jobs(self, ground):
            payoff = ground.measured.fit.payoff
            return {
                "all": lambda: [
                    {"size": x, "a": float(payoff.curve(x)), "word": "w", "none": None} for x in (1, 2)
                ]
            }

    text, table, work = run(curve, tmp_path, study="slopes")
    assert text.splitlines()[0] == "| size | a       | word | none |"
    (ax,) = drawn("slopes", work.read_csv("study_slopes.csv")).axes
    assert (ax.get_title(), ax.get_xlabel()) == ("a", "size")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), numbers(table, "a"))
    words = [
        {"mechanism": "what I call it", "size": 1, "total": 3.0},
        {"mechanism": "none", "size": 2, "total": 4.0},
    ]
    fig = drawn("slopes", [{"size": row["size"], **row} for row in words])
    assert fig.axes[0].get_legend_handles_labels()[1] == ["what I call it", "no payments"]


def test_flags_are_checked_by_the_ranges_of_the_study():
    @registry.register("narrow")
    class Narrow(Study):
        ratios: tuple = registry.option("at most 3", (1.0,), high=3, kind=float)
        steps: int = registry.option("at least 5", 9, low=5)

    assert base.study_of(settings_of("narrow", steps=5)).steps == 5
    for changes, message in (
        ({"steps": 4}, "--steps must be a number, at least 5, got 4"),
        ({"ratios": (1.0, 4.0)}, "--ratios must be a number, at most 3, got 4.0"),
    ):
        with pytest.raises(ValueError, match=message):
            experiment("narrow").check(settings_of("narrow", **changes), Resources())


def test_curves_that_a_study_cannot_use(tmp_path):
    file = tmp_path / "curve.csv"
    file.write_text("samples,accuracy,agent\n0,0.1,a\n1,0.2,a\n")
    with pytest.raises(ValueError, match="a curve for each agent"):
        ground_of(settings_of(curve=str(file)))
    file.write_text("samples,accuracy\n1,0.1\n2,0.2\n")
    with pytest.raises(ValueError, match=r"curve.csv: --fit=concave: the first size must be 0"):
        ground_of(settings_of(curve=str(file), fit="concave"))


class Linear(nn.Module):
    """Compiles in no time."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


def skewed(path, **changes):
    given = {"study": "label_skew", "agents": 2, "capacity": (60,), "rounds": 3, "learning_rate": 0.1}
    given |= {
        "sizes": (6, 20, 120),
        "curve_seeds": 2,
        "server_images": 600,
        "held_out": 400,
        "cost": (0.002,),
        "p": (1.0,),
        "fit": "power",  # compiles in less time
    }
    made = experiment("label_skew")
    prepared = made.prepare(made.settings(**given | changes))
    prepared = prepared._replace(ground=prepared.ground._replace(model=Linear(), remarks=("odd",)))
    return prepared, *computed(prepared, path)


def computed(prepared, path):
    made = experiment("label_skew")
    with workdir.open_workdir(str(path), "this", described(prepared), path.exists(), False) as work:
        made.compute(prepared, work, Resources(workers=2, cache=path.parent / "cache"))
        return work, made.show(work)


@pytest.fixture(scope="module")
def skew(tmp_path_factory):
    path = tmp_path_factory.mktemp("skew") / "run"
    prepared, _, text = skewed(path, alpha=0.2)
    return path, prepared, text


def read(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def test_an_agents_curve_weighs_classes_by_what_she_holds(skew):
    path, _, text = skew
    measured = [r for r in read(path / "classes.csv") if r["partition"] == "dirichlet"]
    held = read(path / "shares.csv")
    shares = np.array([[float(row[f"class {k}"]) for k in range(10)] for row in held])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)
    assert shares.max() > 0.3  # skewed
    alike = [r["accuracy"] for r in read(path / "classes.csv") if r["partition"] == "iid"]
    assert [r["accuracy"] for r in measured] != alike  # same keys, other images
    curves = measurements.read(str(path / "curve.csv"), agents.read(str(path / "agents.csv")).names)
    for i, one in enumerate(curves.values()):
        for k, size in enumerate((0, 6, 20, 120)):
            by_seed = [
                sum(float(r["accuracy"]) * shares[i, int(r["class"])] for r in measured
                    if (r["seed"], r["samples"]) == (str(seed), str(size)))
                for seed in range(2)
            ]  # fmt: skip
            np.testing.assert_allclose(one.accuracy[:, k], by_seed, atol=1e-12)
    table = read(path / "study_label_skew.csv")
    assert np.max(numbers(table, "nash_gap")) < 1e-9
    for which in ("own", "i.i.d."):
        mine = [row for row in table if row["curves"] == which]
        assert np.max(numbers(mine, "p=1")) <= float(mine[-1]["p=1"]) * (1 + 1e-12)
        assert float(mine[3]["p=1"]) == pytest.approx(float(mine[-1]["p=1"]), rel=1e-9)  # personal rates
    paid = [float(r["payment"]) for r in read(path / "by_agent.csv") if r["mechanism"] == "beta_star"]
    assert sum(paid) == pytest.approx(0, abs=1e-12)
    assert "Nash gap" in text
    assert text.startswith("odd\n\nWith curves = own members have, of the utility of the first best, ")


def test_a_label_skew_study_that_is_resumed_is_the_same(skew):
    path, prepared, text = skew
    before = {
        name: (path / name).read_bytes() for name in ("classes.csv", "study_label_skew.csv", "curve.csv")
    }
    next((path / "jobs" / "iid").glob("*-20.json")).unlink()
    assert computed(prepared, path)[1] == text
    assert {name: (path / name).read_bytes() for name in before} == before


def test_with_no_skew_all_curves_are_those_of_iid_images_to_noise(tmp_path):
    prepared, *_ = skewed(tmp_path / "run", alpha=1e6, epochs=10)
    held = label_skew.deal(prepared.ground, "dirichlet", 1e6)
    shares = np.stack([np.bincount(labels, minlength=10) for labels in held.labels]) / held.labels.shape[1]
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    table = {(r["agent"], r["samples"]): float(r["accuracy"]) for r in read(tmp_path / "run" / "curves.csv")}
    for agent in ("agent 0", "agent 1"):
        for size in ("20", "120"):
            assert table[agent, size] == pytest.approx(table["i.i.d.", size], abs=0.12)


def test_held_out_images_are_as_many_of_every_class():
    labels = np.array([0, 1, 1, 2, 2, 2, 0])
    images = federated.Images(np.arange(7.0).reshape(7, 1, 1, 1), labels)
    same = label_skew.by_class(images, 3)
    assert same.labels.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert same.images.ravel().tolist() == [0, 6, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="lack a class"):
        label_skew.by_class(images, 4)


def test_costs_are_spaced_geometrically_around_their_mean():
    found = rows.spaced(0.005, 4.0, 3)
    np.testing.assert_allclose(found, [0.0025, 0.005, 0.01], rtol=1e-14)
    assert mechanisms.beta_star(rows.spaced(0.005, 1.0, 4)) == pytest.approx(0.75)
