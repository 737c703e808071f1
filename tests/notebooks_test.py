"""Every notebook runs from its first cell to its last, and is kept without outputs.

What its cells print and draw becomes a page in build/notebooks, which `make docs` takes into the site: each
notebook is executed once, and its page shows the run that was tested.
"""

import ast
import contextlib
import importlib.metadata
import io
import itertools
import json
import pathlib
import re
import shutil

import matplotlib
import matplotlib.pyplot as plt
import pytest

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def alternative(figure):
    """What a picture shows, in words for those who do not see it: what its axes are called."""
    said = []
    for ax in figure.axes:
        what = " over ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
        said.append(": ".join(filter(None, (ax.get_title(), what))))
    return re.sub(r"[\[\]`\n]", " ", "; ".join(filter(None, said)))


class Page:
    """A notebook as a page of the site, while its cells run."""

    def __init__(self, file):
        self.file, self.parts, self.printed = file, [], io.StringIO()
        self.pictures = file.with_suffix("")
        self.file.unlink(missing_ok=True)  # a run that fails leaves no page of an earlier one
        shutil.rmtree(self.pictures, ignore_errors=True)
        self.pictures.mkdir(parents=True)

    def text(self):
        """What was printed since. Tables are blocks of their own: sentences wrap, tables must not."""
        printed = self.printed.getvalue().split("\n")
        for table, lines in itertools.groupby(printed, lambda line: line.startswith("|")):
            block = "\n".join(line.rstrip() for line in lines).strip("\n")
            if block:
                self.parts.append(f"``` {{ .text .printed{'' if table else ' .wraps'} }}\n{block}\n```")
        self.printed.seek(0)
        self.printed.truncate()

    def show(self, *_, **__):
        """In the place of `plt.show`: the figures that are open."""
        self.text()
        for number in plt.get_fignums():
            figure, before = plt.figure(number), len(list(self.pictures.iterdir()))
            picture = self.pictures / f"{before + 1}.png"
            figure.savefig(picture, dpi=200, bbox_inches="tight")
            width = int.from_bytes(picture.read_bytes()[16:20], "big") // 2  # screens may have fine pixels
            link = f"{self.pictures.name}/{picture.name}"
            self.parts.append(f"[![{alternative(figure)}]({link}){{ width={width} }}]({link})")
        plt.close("all")

    def run(self, source, name, namespace):
        """Runs a cell and shows, as Jupyter does, the value of a last line without semicolon, and figures."""
        body = ast.parse(source, name).body
        last = [body.pop()] if isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";") else []
        with contextlib.redirect_stdout(self.printed):  # progress goes to stderr
            exec(compile(ast.Module(body, []), name, "exec"), namespace)
            exec(compile(ast.Interactive(last), name, "single"), namespace)
            self.show()

    def write(self, notebook):
        """To the file, with a copy of the notebook beside it."""
        title, *rest = self.parts
        title = re.sub(  # the badge is a picture of another host
            r"\[!\[(.*?)\]\(.*?\)\]\((.*?)\)", rf"[\1](\2) or [take the notebook]({notebook.name}).", title
        )
        jax = importlib.metadata.version("jax")
        note = (
            f"*You see what the cells printed and drew in the tests, with JAX {jax}. "
            "Tests compile quickly and not well: times are longer than yours.*"
        )
        self.file.write_text("\n\n".join([title, note, *rest]) + "\n", encoding="utf-8")


def execute(notebook, file, monkeypatch):
    """Runs a notebook and writes its page to a file."""
    page, namespace = Page(file), {}
    monkeypatch.setattr(plt, "show", page.show)
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            page.parts.append(source)
            continue
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        if cell["id"] == "install":  # not for readers of a page
            source = re.sub("%pip .*", 'raise ImportError("fedgame is not installed")', source)
        else:
            page.parts.append(f"```python\n{source}\n```")
        page.run(source, f"{notebook.name}, cell {number}", namespace)
    page.write(notebook)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_opens_on_colab_and_installs_what_is_missing(notebook):
    first, second, *_ = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert f"colab.research.google.com/github/fedgame/fedgame/blob/main/notebooks/{notebook.name}" in "".join(
        first["source"]
    )
    assert '    %pip install --quiet "git+https://github.com/fedgame/fedgame"' in "".join(second["source"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs_and_carries_no_outputs(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what it writes stays out of the checkout
    matplotlib.use("agg")
    page = ROOT / "build" / "notebooks" / f"{notebook.stem}.md"
    execute(notebook, page, monkeypatch)
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall("^# ", prose, flags=re.MULTILINE)) == 1
    assert text.startswith("# ")
    assert "<" not in re.sub("`.*?`", "", prose)  # HTML
    assert not re.search(r"<[\w.]+ (object )?at 0x|^Text\(", text, flags=re.MULTILINE)  # a ; is missing


def test_its_page_has_what_cells_print_and_draw_in_this_order(tmp_path, monkeypatch):
    matplotlib.use("agg")
    cells = [
        "import matplotlib.pyplot as plt\nprint('before')\nplt.plot([1, 2])\n"
        "plt.xlabel('x')\nplt.ylabel('y')\nplt.show()\nprint('| a |\\nafter')\n1 + 1",
        "2 + 2;",
        "plt.title('a title')\nNone",
    ]
    code = {"cell_type": "code", "outputs": [], "execution_count": None, "id": "x"}
    title = {"cell_type": "markdown", "source": "# Title\n\n[![Open](https://x.org/a.svg)](https://x.org/b)"}
    notebook = tmp_path / "small.ipynb"
    notebook.write_text(json.dumps({"cells": [title, *({**code, "source": c} for c in cells)]}))
    execute(notebook, tmp_path / "page.md", monkeypatch)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert re.sub(r"\{ width=\d+ \}", "", text.rstrip()).split("\n\n") == [
        "# Title",
        "[Open](https://x.org/b) or [take the notebook](small.ipynb).",
        text.split("\n\n")[2],
        f"```python\n{cells[0]}\n```",
        "``` { .text .printed .wraps }\nbefore\n```",
        "[![y over x](page/1.png)](page/1.png)",
        "``` { .text .printed }\n| a |\n```",
        "``` { .text .printed .wraps }\nafter\n2\n```",
        f"```python\n{cells[1]}\n```",
        f"```python\n{cells[2]}\n```",
        "[![a title](page/2.png)](page/2.png)",
    ]
    assert len(list((tmp_path / "page").iterdir())) == 2
