"""The page of a run in headless Chromium: `make test-page`. `make test` does not collect this file.

The run is that of four hospitals with few mixtures and splits, and one whose members have odd names.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from playwright import sync_api

ROOT = pathlib.Path(__file__).parent.parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ODD = '"<script>alert(1)</script>",0.004,100\n=1+1,0.005,100\n'
NUMBERS = ["--payoff=power(0.97, 6, 0.8, 12)", "--mechanism=falkinger", "--over_beta=20"]
QUESTIONS = {  # of a director; where it is answered on the page of the hospitals, and by what
    "Which payments should we agree on?": (
        ".answer",
        r"Recommended: .+\. Of the \d+ that apply here it is the simplest",
    ),
    "Is there anything simpler?": (".answer", r"Simpler ones: |Recommended: no payments"),
    "Who shares how much?": (".answer", r"(Budapest|Cleveland) shares (all (her )?)?\d+ .*records"),
    "Who pays, who receives, how much?": (".answer", r"(receives|pays) €[\d,.]+|Nobody pays anything"),
    "What would happen without payments?": (".answer", r"Without payments .+ share|Nobody pays anything"),
    "Would anybody rather leave?": (".answer", r"Nobody would rather leave|leaves?: "),
    "Why do I pay?": ("main", r"Budapest: her model \(accuracy 0\.\d+\) is worth €[\d,]+ to her"),
    "What if one of us leaves?": (
        "main",
        r"If Cleveland left, the others would (lose|gain) €[\d,.]+ together",
    ),
    "How sure is the amount that I pay?": (
        "main",
        r"(pays|receives) €[\d,.]+ \(€[\d,.]+ to €[\d,.]+\)|she may ",
    ),
    "Is it a fixed sum?": ("main", r"Payments follow a rule and are no fixed sums|Recommended: no payments"),
    "What do we have if we leave?": ("main", r"Who leaves is taken to train alone on as many records as pay"),
    "How sure is this?": ("main", r"Checked: nobody gains €0\.01 or more by sharing more or less, alone"),
    "Does it hold on real data?": ("main", r"Cleveland\s+0\.\d+\s+0\.\d+\s+0\.\d+ to [01]\.\d+\s+(yes|NO)"),
    "What must I reveal?": ("main", r"Members (must tell the server what|need not reveal)"),
    "What if somebody lies about her costs?": (
        "main",
        r"Costs are taken as members report them[:;]|Payments do not depend on what members say",
    ),
    "What do the words mean?": ("main", r"Nash gap\s+the most that a member could gain"),
}


def command(program, *flags):
    done = subprocess.run(
        [sys.executable, "-m", f"launch.{program}", *map(str, flags)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospitals")
    measured = folder / "measure"
    small = "--runs=24", "--splits=4"
    command("measure", "--federation=examples/hospitals", *small, f"--workdir={measured}")
    given = f"--measurements={measured}", "--agents=examples/hospitals/agents.csv", "--currency=EUR"
    command("mechanism", *given, "--validate", "--validations=5", f"--workdir={folder / 'mechanism'}")
    return folder / "mechanism" / "report.html"


@pytest.fixture(scope="session")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    (folder / "agents.csv").write_text(f"name,cost,capacity\n{ODD}")
    command("mechanism", f"--agents={folder / 'agents.csv'}", *NUMBERS, f"--workdir={folder / 'run'}")
    return folder / "run" / "report.html"


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.fail("there is no Chromium: install it with apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Opens a page, and at the end finds that it asked for nothing and complained of nothing."""
    complaints, requests, contexts = [], [], []

    def open_page(file, width=1600, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_directors_question_is_answered(opened, hospitals, question):
    where, answer = QUESTIONS[question]
    assert re.search(answer, opened(hospitals).inner_text(where))


def test_the_slider_changes_who_shares_and_pays(opened, odd):
    page = opened(odd)
    slider = page.get_by_label(re.compile("β, paid by the others"))
    before = page.locator("[data-slider]").inner_text()
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    after = page.locator("[data-slider]").inner_text()
    assert before != after
    assert "pays" not in before.split("pays or receives")[1]
    assert "pays" in after.split("pays or receives")[1]
    assert slider.get_attribute("aria-valuetext").startswith("β = 0.")


def test_names_are_text(opened, odd):
    page = opened(odd)
    for name in ("<script>alert(1)</script>", "=1+1"):
        assert page.get_by_role("rowheader", name=name, exact=True).count() >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_is_readable(opened, hospitals, width, scheme, tmp_path):
    """Nothing but tables and figures, which scroll, is wider than the window; text stands out."""
    page = opened(hospitals, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "[...document.querySelectorAll('p, td, th, dd, dt')].filter("
        "x => parseFloat(getComputedStyle(x).fontSize) < 12).length"
    )
    assert small == 0
    ink, paper = (
        sum(map(float, re.findall(r"[\d.]+", page.evaluate(f"getComputedStyle(document.body).{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert (ink < 200 and paper > 600) if scheme == "light" else (ink > 600 and paper < 200)
    labels = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert labels == page.evaluate("getComputedStyle(document.body).color")
    page.screenshot(path=tmp_path / "page.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_in_figures_can_be_read_on_a_phone(opened, hospitals, scheme):
    """They are at least 8 pixels high, and numbers in pale cells are dark, also on a dark page."""
    page = opened(hospitals, 400, scheme)
    texts = page.locator("figure svg text").evaluate_all(
        "all => all.map(x => [x.textContent, getComputedStyle(x).fill, x.ownerSVGElement.getScreenCTM().a"
        " * parseFloat(getComputedStyle(x).fontSize)])"
    )
    assert len(texts) > 20
    assert min(size for _, _, size in texts) >= 8
    of_cells = {fill for text, fill, _ in texts if re.fullmatch(r"0(\.0\d*)?", text)}
    assert "rgb(17, 17, 17)" in of_cells


def test_it_prints_on_two_pages(opened, hospitals):
    page = opened(hospitals)
    pdf = page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 2


def test_every_control_has_a_name(opened, hospitals):
    page = opened(hospitals)
    controls = page.locator("input, button, summary, [role=img]")
    assert controls.count() >= 2
    for k in range(controls.count()):
        named = controls.nth(k).evaluate(
            "x => x.getAttribute('aria-label') || x.textContent || (x.labels && x.labels[0].textContent)"
        )
        assert named.strip()
