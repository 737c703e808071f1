"""The page of a run without a browser: what stands in it, and that nothing else is needed."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
import sys

import pytest

from fedgame import results
from fedgame.experiments import equilibrium, mechanism
from fedgame.report import answers, figures, money, page, text
from fedgame.runs import experiment, sweep, workdir

ODD = ["<script>alert(1)</script>", "=1+1", "$x$ & | '}}{{ 7*7 }}"]
AGENTS = "name,cost,capacity\n" + "".join(f'"{name}",0.00{k + 4},100\n' for k, name in enumerate(ODD))


class Reader(html.parser.HTMLParser):
    """What a page loads, its scripts and its text."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts, self.text, self._inside = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loads += [given[name] for name in ("src", "href") if name in given and tag != "a"]
        self.loads += [given["xlink:href"]] if "xlink:href" in given else []
        self._inside = tag == "script"

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.scripts.append(data)
        else:
            self.text += data


def settings(tmp_path):
    (tmp_path / "agents.csv").write_text(AGENTS, encoding="utf-8")
    return mechanism.Settings(
        agents=str(tmp_path / "agents.csv"),
        payoff="power(0.97, 6, 0.8, 12)",
        mechanism="personal",
        over_beta=5,
        currency="EUR",
        unit=1e-6,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    words = experiment.run(mechanism.EXPERIMENT, settings(folder), str(folder / "run"))
    return words, workdir.Workdir(folder / "run")


def read(work):
    return Reader((work.path / page.FILE).read_text(encoding="utf-8"))


def test_nothing_is_loaded_and_names_are_text(run):
    _, work = run
    found = read(work)
    assert all(x.startswith(("data:", "#")) for x in found.loads)
    for name in ODD:
        assert name in found.text
    assert len(found.scripts) == 2  # the slider's positions, and the code
    assert "alert(1)" not in "".join(found.scripts).replace("\\u003cscript>alert(1)\\u003c/script>", "")


def test_the_page_has_the_answer_and_all_that_it_rests_on(run):
    words, work = run
    found, answer = read(work), answers.of(work)
    for sentence in (*answer.sentences, *answer.each, *answer.sure, *answer.assumed, *answer.words.values()):
        assert sentence in found.text
    assert words in found.text
    assert (work.path / page.PRINTED).read_text(encoding="utf-8") == words + "\n"


def test_the_slider_has_the_rows_over_beta(run):
    _, work = run
    positions = json.loads(read(work).scripts[0])
    rows = work.read_csv("over_beta_contributions.csv", text=("name",))
    assert [x["beta"] for x in positions] == [f"{b:.4g}" for b in dict.fromkeys(r["beta"] for r in rows)]
    for position in positions:
        assert len(position["members"]) == len(ODD)
        for member in position["members"]:
            assert 0 <= member["width"] <= 100
            assert 0 <= member["pays"]["left"] <= 100 - member["pays"]["width"] + 1e-9
    paid = [{m["pays"]["kind"] for m in position["members"]} for position in positions]
    assert paid[-1] == {"pays", "receives"}


def test_the_same_run_has_the_same_page(run, tmp_path):
    _, work = run
    again = tmp_path / "again"
    experiment.run(mechanism.EXPERIMENT, settings(work.path.parent), str(again))
    for name in (page.FILE, "mechanism.svg", "mechanism.png"):
        assert (again / name).read_bytes() == (work.path / name).read_bytes()


def test_another_mechanism_has_another_figure(run, tmp_path):
    _, work = run
    other = dataclasses.replace(settings(tmp_path), mechanism="falkinger")
    experiment.run(mechanism.EXPERIMENT, other, str(tmp_path / "run"))
    assert (tmp_path / "run" / "mechanism.png").read_bytes() != (work.path / "mechanism.png").read_bytes()


def test_figures_stand_side_by_side_without_sharing_names(run, tmp_path):
    _, work = run
    numbers = dict(cost=(0.004, 0.005), capacity=(100.0,), payoff="power(0.97, 6, 0.8, 12)")
    experiment.run(equilibrium.EXPERIMENT, equilibrium.Settings(**numbers), str(tmp_path / "run"))
    text = page.render([page.of(work), page.of(workdir.Workdir(tmp_path / "run"))])
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    found = Reader(text)
    for title in ("Which payments make it better (run)", "Who shares what, if nobody pays anybody (run)"):
        assert title in found.text


def test_the_page_of_a_sweep_has_a_row_per_variant_and_the_figure(tmp_path):
    """And not the members of all variants one below the other."""
    given = equilibrium.Settings(cost=(0.004, 0.005), capacity=(100.0,), payoff="power(0.97, 6, 0.8, 12)")
    resources = experiment.Resources()
    variants = sweep.product(["held=0,10"], equilibrium.EXPERIMENT, given, lambda _, x: float(x), resources)
    about = "launch.equilibrium", {"sweep": ["held=0,10"]}
    with workdir.open_workdir(str(tmp_path / "run"), *about, False, False) as work:
        sweep.run(variants, equilibrium.EXPERIMENT, work, resources)
        figures.show_sweep(work)
        page.write(work, text.sweep(work))
    found = read(work)
    assert "Who shares what, if nobody pays anybody, over --held" in found.text
    first = answers.of(workdir.Workdir(work.path / variants[0].folder)).sentences[0]
    assert f"held=0: {first}" in found.text
    assert "held=10: " in found.text
    written = (work.path / page.FILE).read_text(encoding="utf-8")
    assert written.count('<th scope="row">') == 2
    assert '<figure aria-label="sweep">' in written


def test_what_others_have_put_there_is_no_figure(run, tmp_path):
    _, work = run
    copy = shutil.copytree(work.path, tmp_path / "copy")
    (copy / "mine.svg").write_text('<svg onload="alert(1)"/>')
    shown = page.of(workdir.Workdir(copy))
    assert [name for name, _ in shown.figures] == [name for name, _ in page.of(work).figures] != []


def test_the_slider_has_utilities_whatever_p_was_asked_for(tmp_path):
    half = dataclasses.replace(settings(tmp_path), p=(0.5,), mechanism="none")
    work = workdir.Workdir(tmp_path / "run")
    mechanism.EXPERIMENT.compute(
        mechanism.EXPERIMENT.prepare(half, experiment.Resources()), work, experiment.Resources()
    )
    slider = page.of(work).slider
    means = [row["mean_utility"] for row in work.read_csv("over_beta.csv")]
    assert [one["welfare"] for one in slider["positions"]] == [money.number(x) for x in means]
    assert len(slider["curve"]) == len(means) == 5


def report(*flags, cwd):
    command = [sys.executable, "-m", "launch.report", *map(str, flags)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_makes_the_page_anew_or_one_of_several_and_replaces_no_other(run, tmp_path):
    _, work = run
    written = (work.path / page.FILE).read_bytes()
    (work.path / page.FILE).unlink()
    made = report(work.path, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (work.path / page.FILE).read_bytes() == written
    both = report(work.path, work.path, cwd=tmp_path)
    assert both.stdout == "wrote report.html\n"
    page_of_both = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Reader(page_of_both).text.count("Which payments make it better (run)") == 2
    old = shutil.copytree(work.path, tmp_path / "old")  # as versions left it that had no list of files
    (old / "SHA256SUMS").unlink()
    before = sorted(results.load(old))
    assert report(old, cwd=tmp_path).returncode == 0
    assert sorted(results.load(old)) == before != []
    for flags, told in (
        ([work.path, work.path], "report.html exists already: replace it by --overwrite"),
        ([tmp_path], "holds no run: it has no config.json"),
        ([], "name directories of finished runs"),
    ):
        refused = report(*flags, cwd=tmp_path)
        assert refused.returncode == 1
        assert told in refused.stderr
        assert "Traceback" not in refused.stderr
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page_of_both
