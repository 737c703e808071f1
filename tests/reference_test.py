"""The reference is built from the code, and has every name with its parameters, units and source."""

import pathlib
import re
import subprocess
import sys

import fedgame as fg
from fedgame import registry
from fedgame.experiments import reference
from fedgame.runs import files

ROOT = pathlib.Path(__file__).parent.parent
TEXT = reference.text(fg)


def test_the_command_writes_it_with_what_a_file_adds(tmp_path):
    mine = 'import fedgame as fg\n\n@fg.register("mine")\ndef mine(game):\n    """My own."""\n'
    (tmp_path / "mine.py").write_text(mine)
    words = [sys.executable, "-m", "launch.reference", "--use=mine.py", "--out=reference.md"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    written = (tmp_path / "reference.md").read_text(encoding="utf-8")
    about = "### `mine`\n\n```text\nMy own.\n```\n\nDefined in `mine.py`.\n\n"
    assert about in written
    assert written.replace(about, "") == TEXT


def section(title):
    """The text below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def test_every_registered_name_has_its_options_their_limits_and_its_source():
    assert len(registry.KINDS["study"].entries) >= 6
    for kind in registry.KINDS.values():
        for entry in kind.entries.values():
            about = section(f"`{registry.call(entry)}`")
            source = re.search(r"Defined in `(.*?)`", about)[1]
            assert (ROOT / source).exists()
            assert fg.registry.definition(entry).__doc__.strip().splitlines()[0] in about
            for option, field in registry.options(entry).items():
                assert f"| `{option}` | {field.metadata['help'][:20]}".replace("|[", "\\|[") in about
        for alias, longer in kind.aliases.items():
            assert f"- `{alias}` is `{longer}`" in TEXT


def test_every_file_that_a_command_leaves_is_described():
    about = section("Files that commands leave")
    for name, sentence in files.DESCRIPTIONS.items():
        assert f"- `{name}`: {sentence}\n" in about


def test_every_name_of_the_one_import_is_there():
    for name in fg.__all__:
        assert re.search(rf"^### `fg\.{name}\b", TEXT, re.MULTILINE), name
    assert "greater than 0" in section("`bound(best, difficulty, clip=True)`")


def test_addresses_of_objects_are_not():
    assert " at 0x" not in TEXT


def test_it_is_not_in_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "docs/reference.md" in ignored
