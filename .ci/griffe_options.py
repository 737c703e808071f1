"""Has the reference of the site read the code as people do, whom `make docs` shows it to.

griffe, which reads it, knows docstrings alone. Here `option("help", default, low=0)` says what a number is,
and so does a comment behind a field; what has such fields is called with them; and a docstring of a package
is a table, whose lines stay as they are.
"""

import ast
import io
import tokenize

import griffe

_LIMITS = {"low": "at least", "high": "at most", "above": "greater than", "below": "less than"}


class Options(griffe.Extension):
    """Gives classes and modules the docstrings that they have by other means."""

    def on_module_instance(self, *, mod: griffe.Module, **_: object) -> None:
        if mod.docstring is not None:
            first, _, rest = mod.docstring.value.partition("\n")
            mod.docstring.value = f"{first}\n\n```text\n{rest.strip()}\n```" if rest.strip() else first

    def on_attribute_instance(self, *, node: ast.AST, attr: griffe.Attribute, **_: object) -> None:
        call = getattr(node, "value", None)
        attr.extra["fedgame"]["told"] = _comment(attr)
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "option":
            attr.extra["fedgame"]["told"], attr.value = _of_option(call)

    def on_class_members(self, *, cls: griffe.Class, **_: object) -> None:
        fields = [x for x in cls.members.values() if x.is_attribute and x.annotation and x.name[0] != "_"]
        fields = [x for x in fields if "ClassVar" not in str(x.annotation)]
        if not fields or cls.docstring is None:
            return
        told = {x.name: x.extra["fedgame"].get("told") for x in fields if not x.docstring}
        if any(told.values()) and "Attributes:" not in cls.docstring.value:
            lines = [f"  {name}: {text}." for name, text in told.items() if text]
            cls.docstring.value = "\n".join([cls.docstring.value.rstrip(), "", "Attributes:", *lines])
        if "__init__" not in cls.members and "dataclass" not in cls.labels:
            given = [griffe.Parameter(x.name, annotation=x.annotation, default=x.value) for x in fields]
            parameters = griffe.Parameters(griffe.Parameter("self"), *given)
            where = {"lineno": cls.lineno, "endlineno": cls.endlineno}  # its source is that of the class
            cls.set_member("__init__", griffe.Function("__init__", parameters=parameters, **where))


def _of_option(call: ast.Call) -> tuple[str, str | None]:
    """What an option is and may be, and its default; None: it has none."""
    given = dict(zip(("help", "default"), call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords}
    text = given["help"].value if isinstance(given.get("help"), ast.Constant) else ""
    limits = [f"{said} {ast.unparse(given[name])}" for name, said in _LIMITS.items() if name in given]
    if text and limits:
        text += f" ({', '.join(limits)})"
    return text, ast.unparse(given["default"]) if "default" in given else None


def _comment(attr: griffe.Attribute) -> str:
    """The comment that stands behind a field, or above it."""
    if attr.lineno is None or attr.parent is None or not attr.parent.is_class:
        return ""
    lines = attr.lines_collection[attr.filepath]
    above = lines[attr.lineno - 2].strip()
    try:
        words = tokenize.generate_tokens(io.StringIO(lines[attr.endlineno - 1]).readline)
        behind = [word.string for word in words if word.type == tokenize.COMMENT]
    except (tokenize.TokenError, SyntaxError):  # the last line of several is no line of its own
        behind = []
    if not behind and above.startswith("#"):
        behind = [above]
    return behind[0].lstrip("# ").removesuffix(".") if behind else ""
