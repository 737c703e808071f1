"""The house: imports only point up, modules say what they are, and functions stay short."""

import ast
import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "games": set(),
    "equilibria": {"games"},
    "mechanisms": {"games", "equilibria"},
    "learning": set(),
    "protocols": {"games", "equilibria", "mechanisms", "learning"},
    "runs": set(),
    "report": {"runs"},
    "inputs": {"games", "learning", "runs"},
    "federation": {
        *("games", "equilibria", "mechanisms", "learning", "protocols", "runs", "report", "inputs")
    },
    "experiments": {
        *("games", "equilibria", "mechanisms", "learning", "protocols", "runs", "report", "inputs"),
        "federation",
    },
}
MODULES = [file for folder in ("fedgame", "launch") for file in sorted((ROOT / folder).rglob("*.py"))]


def wrong_imports(package, source):
    """Imports of fedgame packages, or of launch, that a module of `package` must not have."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    parts = [name.split(".") for name in names]
    allowed = MAY_IMPORT[package] | {package, "registry", "__version__"}
    wrong = [p for p in parts if p[0] == "launch" or (p[0] == "fedgame" and p[1] not in allowed)]
    return [".".join(p) for p in wrong]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_up(package):
    files = sorted((ROOT / "fedgame" / package).rglob("*.py"))
    assert files
    assert {str(f): w for f in files if (w := wrong_imports(package, f.read_text(encoding="utf-8")))} == {}


def test_every_package_has_its_rule():
    folders = {f.parent.name for f in (ROOT / "fedgame").glob("*/__init__.py")}
    assert folders == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("games", "from fedgame.equilibria import solvers"),
        ("learning", "def f():\n    import fedgame.games.costs"),
        ("equilibria", "from fedgame import mechanisms"),
        ("runs", "from fedgame.games import game"),
        ("report", "from fedgame.mechanisms import welfare"),
        ("inputs", "from fedgame import equilibria"),
        ("experiments", "from launch import compare"),
    ],
)
def test_a_wrong_import_is_seen(package, source):
    assert wrong_imports(package, source)


def test_make_check_knows_tests_of_every_module():
    of_change = runpy.run_path(str(ROOT / "tests" / "of_change.py"))
    files = [str(f.relative_to(ROOT)) for f in MODULES if f.name != "__init__.py"]
    assert [file for file in files if not of_change["tests_of"](file)] == []
    for test in {test for file in files for test in of_change["tests_of"](file)}:
        assert (ROOT / test.split("::")[0]).exists(), test


@pytest.mark.parametrize("module", MODULES, ids=lambda f: str(f.relative_to(ROOT)))
def test_modules_say_what_they_are_and_functions_stay_short(module):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{module} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            assert node.end_lineno - first.lineno < 50, f"{module}: {node.name} is too long"


def test_what_is_needed_has_a_lowest_version():
    """Which `make test-oldest` installs: without one, or with two of them, it tests something else."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = {keyword.arg: keyword.value for call in calls for keyword in call.keywords}
    needed, extras = (ast.literal_eval(given[name]) for name in ("install_requires", "extras_require"))
    needed = needed + extras["test"]
    assert [text for text in needed if not re.fullmatch(r"[a-zA-Z][\w-]*>=[\d.]+", text)] == []
    for text in (text for extra in ("parquet", "tensorboard") for text in extras[extra]):
        assert text in needed
