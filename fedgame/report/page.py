"""A run as one page for a browser, from the files of the run alone: no network, nothing beside it.

Figures are the SVG files of the run, in the colours of the page. Bars are HTML, so that they fit a phone, and
the slider over β only puts texts and widths in place that are computed here.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedgame.report import answers, money, tables, text
from fedgame.runs import sweep as sweeps
from fedgame.runs.workdir import Workdir

FILE, PRINTED = "report.html", "report.txt"
_SHOWN = 50  # members in a table
_RATES = 120  # positions of the slider
_INTERVALS = {  # columns of outcome.csv, of which NAME_low and NAME_high are there
    "contribution": "shares, interval",
    "payment": "receives, interval",
    "utility": "has, interval",
}
_SUMMARIES = ("mechanism.json", "equilibrium.json")
_HIDDEN = frozenset({"mechanism"})  # figures whose content stands in the page already


class Bar(NamedTuple):
    """A number with a bar: from `left` to `left + width`, in percent."""

    text: str
    left: float = 0.0
    width: float = 0.0
    kind: str = "share"  # share, pays or receives


class Member(NamedTuple):
    """A row of the table of members."""

    name: str
    shares: Bar
    payment: Bar | None
    cells: list[str]


class Page(NamedTuple):
    """What a page shows of one run."""

    folder: str
    answer: answers.Answer
    members: list[Member]
    header: list[str]  # of the cells of members
    more: int  # members who are not shown
    printed_tables: list[tuple[str, tables.Table]]  # with what they show; of pages without members
    compared: tables.Table | None  # mechanisms side by side
    validated: tables.Table | None  # predicted beside trained
    slider: dict[str, Any] | None
    figures: list[tuple[str, str]]  # name, SVG
    printed: str
    command: str
    version: str


def write(work: Workdir, printed: str) -> str:
    """Writes what a command prints, and the page of the run; returns what is printed.

    Args:
      work: the directory, whose figures and other files are there already.
      printed: the tables and sentences of the run, as text.
    """
    work.put(PRINTED, lambda path: path.write_text(printed + "\n", encoding="utf-8"))
    html = render([of(work)])
    work.put(FILE, lambda path: path.write_text(html, encoding="utf-8"))
    return printed


def render(pages: Sequence[Page]) -> str:
    """The HTML of one run, or of several side by side."""
    import jinja2  # when the first page is written

    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    # In a script element only < can end it: \u003c is the same to JSON.
    environment.filters["json"] = lambda x: json.dumps(x, ensure_ascii=False).replace("<", "\\u003c")
    shown = [
        page._replace(
            figures=[(name, _inline(svg, f"f{k}-{j}-")) for j, (name, svg) in enumerate(page.figures)]
        )
        for k, page in enumerate(pages)
    ]
    return environment.get_template("page.html").render(pages=shown)


def of(work: Workdir) -> Page:
    """What the page of a run shows."""
    config = answers.about(work)
    answer, used = answers.of(work), money.currency(config["settings"].get("currency", ""))
    members, header, more = _members(work, used)
    printed = (work.path / PRINTED).read_text(encoding="utf-8") if work.has(PRINTED) else ""
    return Page(
        folder=work.path.resolve().name,
        answer=answer._replace(title=_title(work, answer, config)),
        members=members,
        header=header,
        more=more,
        printed_tables=[] if members else _printed_tables(printed, answer),
        compared=text.compared(work, used) if work.has("mechanisms.csv") else None,
        validated=_validated(work),
        slider=_slider(work, used),
        figures=_figures(work),
        printed=printed,
        command=config.get("command", config["program"]),
        version=config.get("versions", {}).get("fedgame", ""),
    )


def _title(work: Workdir, answer: answers.Answer, config: dict[str, Any]) -> str:
    """The question of the run; of a sweep, over which settings; of a study, its name."""
    title = answer.title
    if study := config["settings"].get("study"):
        title = f"Study: {study.replace('_', ' ')}"
    if not work.has(sweeps.VARIANTS):
        return title
    settings = [name for name in sweeps.variants_of(work)[0] if name not in sweeps.ABOUT]
    return f"{title}, over {', '.join(f'--{name}' for name in settings)}"


def _printed_tables(printed: str, answer: answers.Answer) -> list[tuple[str, tables.Table]]:
    """The tables of what was printed, with what they show, unless that is a sentence of the answer."""
    told = set(answer.sentences)
    return [("" if above in told else above, one) for above, one in tables.read_markdown(printed)]


def _members(work: Workdir, used: money.Currency) -> tuple[list[Member], list[str], int]:
    """The rows of members, what their cells are, and how many more there are; none of a sweep."""
    if not work.has("outcome.csv") or work.has(sweeps.VARIANTS):
        return [], [], 0
    rows = work.read_csv("outcome.csv", text=("name", "payment"))
    paid = any(float(row.get("payment", 0.0)) for row in rows)
    summary = next((work.read_json(name) for name in _SUMMARIES if work.has(name)), {})
    header = [answers.metric(summary), "has", "if she leaves"]
    intervals = [name for name in _INTERVALS if f"{name}_low" in rows[0] and (paid or name != "payment")]
    header += [_INTERVALS[name] for name in intervals]
    most_shared = max(max(row["contribution"] for row in rows), 1e-300)
    most_paid = max(max(abs(float(row.get("payment", 0.0))) for row in rows), 1e-300)
    found = []
    for row in tables.most_concerned(rows, _SHOWN):
        share = 100 * row["contribution"] / most_shared
        amount = f"{money.samples(row['contribution'])} of {money.samples(row['capacity'])}"
        payment = _payment(float(row["payment"]), most_paid, used) if paid else None
        cells = _cells(row, used, intervals)
        found.append(Member(answers.called(row["name"]), Bar(amount, 0.0, share), payment, cells))
    return found, header, len(rows) - len(found)


def _payment(x: float, most: float, used: money.Currency) -> Bar:
    """A payment as a bar to the right of the middle if it is received, to the left if it is paid."""
    width = 50 * abs(x) / most
    if x < 0:
        return Bar(f"pays {used.exact(-x)}", 50 - width, width, "pays")
    return Bar(f"receives {used.exact(x)}" if x else "nothing", 50.0, width, "receives")


def _cells(row: dict[str, Any], used: money.Currency, intervals: Sequence[str]) -> list[str]:
    """The cells of a member beside what she shares and pays, with those intervals."""
    if row.get("stays") is False:
        return ["-", used.amount(row["utility"]), "leaves", *["-"] * len(intervals)]
    outside = row.get("outside")
    cells = [
        f"{row['payoff']:.3f}",
        used.amount(row["utility"]),
        "-" if outside is None else used.amount(outside),
    ]
    for name in intervals:
        written = money.samples if name == "contribution" else used.amount
        cells.append(f"{written(row[f'{name}_low'])} to {written(row[f'{name}_high'])}")
    return cells


def _validated(work: Workdir) -> tables.Table | None:
    """What was predicted for each member beside what was trained."""
    if not work.has("validation.csv"):
        return None
    rows = [
        row for row in work.read_csv("validation.csv", text=("of", "member")) if row["profile"] == "announced"
    ]
    cells = [
        [
            *([row["of"]] if row["of"] else []),
            answers.called(row["member"]),
            f"{row['predicted']:.3f}",
            f"{row['trained']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            "yes" if row["holds"] else "NO",
        ]
        for row in rows
    ]
    header = ["member", "predicted", "trained", "interval", "prediction within it"]
    return tables.Table((["protocol"] if rows[0]["of"] else []) + header, cells)


def _slider(work: Workdir, used: money.Currency) -> dict[str, Any] | None:
    """What the slider over β shows at each of its positions, as texts and widths in percent."""
    if not work.has("over_beta_contributions.csv"):
        return None
    rows = work.read_csv("over_beta_contributions.csv", text=("name",))
    if "payment" not in rows[0]:  # of an earlier version
        return None
    welfare = {row["beta"]: row for row in work.read_csv("over_beta.csv")}
    by_beta = tables.by(rows, "beta")
    betas = list(by_beta)[:: max(1, len(by_beta) // _RATES)]
    most_shared = max(max(row["contribution"] for row in rows), 1e-300)
    most_paid = max(max(abs(row["payment"]) for row in rows), 1e-300)
    positions = []
    for beta in betas:
        members = [
            {
                "shares": money.samples(row["contribution"]),
                "width": 100 * row["contribution"] / most_shared,
                "pays": _payment(row["payment"], most_paid, used)._asdict(),
            }
            for row in by_beta[beta]
        ]
        positions.append({"beta": f"{beta:.4g}", "members": members, **_welfare(welfare[beta], used)})
    means = [_mean_utility(welfare[beta]) for beta in betas]
    known = [
        (mean, position["beta"]) for mean, position in zip(means, positions, strict=True) if mean is not None
    ]
    best = max(known, key=lambda one: one[0], default=None)
    names = [answers.called(row["name"]) if row["name"] else "all others" for row in by_beta[betas[0]]]
    largest = "" if best is None else f"{used.amount(best[0])} at β = {best[1]}"
    return {"names": names, "positions": positions, "curve": _curve(means), "largest": largest}


def _welfare(row: dict[str, Any], used: money.Currency) -> dict[str, str]:
    """Mean utility and how many would leave, at one β."""
    mean, leave = _mean_utility(row), row["rather_leave"]
    return {
        "welfare": "not certified" if mean is None else used.amount(mean),
        "leave": "unknown" if leave is None else str(leave),
    }


def _mean_utility(row: dict[str, Any]) -> float | None:
    """Mean utility at one β; earlier versions have it if p = 1 was asked for."""
    return row.get("mean_utility", row.get("p=1"))


def _curve(means: Sequence[float | None]) -> list[list[float]] | None:
    """Points of the mean utility over positions, in a box of 100 × 100 with the largest at the top."""
    known = [x for x in means if x is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    last = max(len(means) - 1, 1)
    return [[100 * k / last, 95 - 90 * (x - low) / span] for k, x in enumerate(means) if x is not None]


def _figures(work: Workdir) -> list[tuple[str, str]]:
    """Names and SVG of the figures of the run that the page shows."""
    found = []
    for file in sorted(work.path.glob("*.svg")):
        # What others have put there is no figure of the run.
        if file.stem not in _HIDDEN and work.wrote(file.name):
            found.append((file.stem, file.read_text(encoding="utf-8")))
    return found


def _inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page: ids are its own, and black is the colour of the page's text."""
    svg = svg[svg.index("<svg") :]
    width = re.search(r'viewBox="0 0 ([\d.]+)', svg)[1]  # by which the page limits how texts are scaled
    svg = svg.replace("<svg", f'<svg style="--width: {width}"', 1)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\1{prefix}", svg)
    return svg.replace("#000000", "currentColor")
