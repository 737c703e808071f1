"""The reference, from the code alone: what people write, the files they get, and the names of `fedgame`."""

import dataclasses
import inspect
import pathlib
from types import ModuleType
from typing import Any

from fedgame import games, mechanisms, protocols, registry
from fedgame.experiments import studies
from fedgame.runs import files

_KINDS = {
    "Payoffs": ("payoff", games.PAYOFFS),
    "Costs": ("cost", games.COSTS),
    "Rules of payment": ("rule", mechanisms.RULES),
    "Protocols": ("protocol", protocols.PROTOCOLS),
    "Studies": ("study", studies.STUDIES),
}
_INTRODUCTION = """Built from the code by `python -m launch.reference`. What people name is written as Python
writes a call, on the command line, in JSON and in Python: `fg.rule("price(price=0.004)")`."""


def text(package: ModuleType) -> str:
    """The whole reference; `package` is `fedgame`, whose `__all__` it documents."""
    blocks = ["# Reference", _INTRODUCTION]
    for title, (kind, entries) in _KINDS.items():
        blocks += [f"## {title}", *(_entry(entry) for entry in entries.values())]
        if aliases := registry.KINDS[kind].aliases:
            short = "\n".join(f"- `{name}` is `{longer}`" for name, longer in aliases.items())
            blocks.append(f"Shorter names:\n\n{short}")
    blocks.append("## Files that commands leave")
    blocks.append("\n".join(f"- `{name}`: {about}" for name, about in files.DESCRIPTIONS.items()))
    blocks.append("## `import fedgame as fg`")
    blocks += [_exported(name, getattr(package, name)) for name in package.__all__]
    return "\n\n".join(blocks) + "\n"


def _entry(entry: Any) -> str:
    """One entry as Markdown: how it is written, what it is, its options, and where it is defined."""
    defined = registry.definition(entry)
    parts = [f"### `{registry.call(entry)}`", _documentation(defined)]
    if fields := registry.options(entry):
        rows = [f"| `{name}` | {_about(field)} | {_allowed(field)} |" for name, field in fields.items()]
        parts.append("\n".join(["| option | | allowed |", "|---|---|---|", *rows]))
    return "\n\n".join([*parts, f"Defined in {_source(defined)}."])


def _about(field: dataclasses.Field) -> str:
    """The help of an option and its default, as a cell of a Markdown table."""
    text = field.metadata["help"]
    if field.default is not dataclasses.MISSING and field.default is not None:
        text += f"; {field.default!r} by default"
    return text.replace("|", "\\|")


def _allowed(field: dataclasses.Field) -> str:
    """The values that an option may have, in words."""
    limits = field.metadata
    if limits["of"]:
        return f"a {limits['of']}"
    if names := registry.choices(field):
        return ", ".join(names)
    if limits["kind"] is bool:
        return "True, False"
    if limits["kind"] is str:
        return "text"
    if not limits["pytree_node"]:
        return "a function"
    return registry.allowed(field)


def _exported(name: str, thing: Any) -> str:
    """One name of `fedgame` as Markdown."""
    if inspect.ismodule(thing):
        return f"### `fg.{name}`\n\n{_documentation(thing)}"
    return f"### `fg.{name}{_signature(thing)}`\n\n{_documentation(thing)}\n\nDefined in {_source(thing)}."


def _signature(thing: Any) -> str:
    """Parameters, and their defaults if they are plain; types, shapes and units are in the docstring."""
    parts = []
    for name, parameter in inspect.signature(thing).parameters.items():
        default = parameter.default
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        if parameter.kind is parameter.VAR_KEYWORD:
            parts.append(f"**{name}")
        elif default is parameter.empty:
            parts.append(name)
        elif type(default) in (str, bool, int, float, tuple, type(None)):
            parts.append(f"{name}={default!r}")
        elif name != "parent":  # Flax's own
            parts.append(f"{name}=…")
    return f"({', '.join(parts)})"


def _documentation(thing: Any) -> str:
    """The docstring as it stands, as a block of Markdown."""
    return f"```text\n{inspect.getdoc(thing)}\n```"


def _source(thing: Any) -> str:
    """The file that defines a thing, relative to the repository; only the name of a file outside of it."""
    file = pathlib.Path(inspect.getsourcefile(inspect.unwrap(registry.definition(thing))))
    root = pathlib.Path(registry.__file__).parent.parent
    shown = file.relative_to(root) if file.is_relative_to(root) else file.name
    return f"`{shown}`"
