"""The pages of the site, without the tools that build it: links, navigation, and that nothing is left out.

`make docs` builds them, and is stricter.
"""

import ast
import functools
import pathlib
import re
import tomllib
import unicodedata

import pytest

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
BUILT = DOCS / "reference.md"  # where `python -m launch.reference` writes; not in git
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page != BUILT]
NAMED = re.compile(r"`((?:fedgame|launch|tests|benchmarks|notebooks|examples)/[\w./]+)`")


@functools.cache
def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@functools.cache
def places(page):
    """The anchors of a page, as Python-Markdown makes them from headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*\\]", r"\1", heading)
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())
        number = 1
        while slug in found:
            slug = f"{slug.removesuffix(f'_{number - 1}')}_{number}"
            number += 1
        found.add(slug)
    return found


@functools.cache
def names_in(file):
    """Functions, classes and variables that a module defines."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    return defined | {target.id for target in targets if isinstance(target, ast.Name)}


def value_of(file, name):
    """What a module assigns to a name, which must be a literal."""
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{file} has no {name}")


def broken(page):
    """Relative links of a page that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (place and place not in places(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_files_exist(page):
    assert broken(page) == []
    assert [name for name in NAMED.findall(prose(page)) if not (ROOT / name).exists()] == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One *word*\n[a](#one-word) [b](#two) [c](none.md) `[d](x)` [e](https://x.org)\n```\n[f](y)\n```\n"
    )
    assert broken(page) == ["#two", "none.md"]


def test_every_page_is_in_the_navigation_once():
    def pages(entries):
        for entry in entries:
            for value in entry.values():
                yield from pages(value) if isinstance(value, list) else [value]

    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    of_runs = [f"notebooks/{file.stem}.md" for file in (ROOT / "notebooks").glob("*.ipynb")]  # not in git
    assert sorted(pages(project["nav"])) == sorted(
        [*(str(page.relative_to(DOCS)) for page in PAGES), *of_runs]
    )


def test_every_public_name_has_its_place_in_the_reference():
    entry = re.compile(r"^::: (fedgame[\w.]*)\n    options:\n      heading: fg\.(\w+)$", re.MULTILINE)
    found = [match for page in PAGES for match in entry.findall(page.read_text(encoding="utf-8"))]
    assert sorted(name for _, name in found) == sorted(value_of("fedgame/__init__.py", "__all__"))
    for path, _ in found:
        file = ROOT / f"{path.replace('.', '/')}.py"
        if file.exists() or (file.with_suffix("") / "__init__.py").exists():
            continue  # a module
        module, _, name = path.rpartition(".")
        folder = ROOT / module.replace(".", "/")
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        assert name in names_in(file), path


def test_tests_that_the_audit_of_the_paper_names_exist():
    """`test_…`, `test_…` in `tests/…_test.py`: each stands before the file that has it."""
    named = re.findall(r"((?:`test_\w+`,? ?)+) in `(tests/[\w/]+\.py)`", prose(DOCS / "paper.md"))
    assert len(named) > 20
    for tests, file in named:
        assert set(re.findall(r"`(\w+)`", tests)) <= names_in(ROOT / file), file


def test_nothing_is_left_out_that_a_page_says_it_has_all_of():
    rules = (ROOT / "fedgame" / "mechanisms" / "rules.py").read_text(encoding="utf-8")
    titles = re.findall(r'@register\(\s*"\w+",\s*"([^"]+)"', rules)  # as reports call them
    cells = ["| " + title.replace("*", r"\*") + " |" for title in titles if title != "β"]
    of_page = {
        "mechanisms.md": re.findall(r'@register\(\s*"(\w+)"', rules) + cells,
        "performance.md": [f"`{file.name}`" for file in (ROOT / "benchmarks").glob("*.py")],
        "notebooks.md": [f"](../notebooks/{file.name})" for file in (ROOT / "notebooks").glob("*.ipynb")],
        "glossary.md": value_of("fedgame/report/answers.py", "WORDS"),
    }
    for page, names in of_page.items():
        assert names, page
        assert [name for name in names if name not in prose(DOCS / page)] == [], page
