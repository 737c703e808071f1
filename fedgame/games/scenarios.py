"""Scenarios: games as JSON files, which people can read, edit and send each other."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry
from fedgame.games import game as games

FORMAT = "fedgame scenario 1"
_FAMILIES, _NUMBERS = ("payoff", "cost"), ("capacity", "value", "quality", "held")


class Scenario(NamedTuple):
    """A game and what its agents are called."""

    game: games.Game  # checked
    names: list[str]
    origin: Any = None  # what the game was made of, for whoever made it; files do not hold it


def holds(game: games.Game) -> bool:
    """Whether JSON can hold the game: its payoff and its cost are registered, and hold no functions."""
    try:
        return bool(json.dumps([_written(getattr(game, field)) for field in _FAMILIES], allow_nan=False))
    except ValueError:
        return False


def to_dict(game: games.Game, names: list[str] | None = None) -> dict[str, Any]:
    """The scenario as JSON values; numbers keep every digit.

    Raises:
      ValueError: the payoff or the cost is not registered, as one that holds a Python function, which JSON
        cannot hold; or `names` do not fit.
    """
    game = games.check(game)
    names = [str(i) for i in range(game.n)] if names is None else list(names)
    if len(names) != game.n:
        raise ValueError(f"`names` must name all {game.n} agents, got {len(names)} names")
    numbers = {name: _plain(getattr(game, name)) for name in _NUMBERS}
    families = {field: _written(getattr(game, field)) for field in _FAMILIES}
    return {"format": FORMAT, "names": names, **families, **numbers}


def _written(family: Any) -> dict[str, Any]:
    """A family as JSON values, with the file that defines it where that has to be given by --use."""
    if registry.name_of(type(family)) is None:
        raise ValueError(f"{type(family).__name__} has no name, so JSON cannot hold it")
    file = registry.file_of(type(family))
    use = {"use": {"file": file, "sha256": registry.used()[file]}} if file else {}
    values = {}
    for field in registry.options(type(family)).values():
        x = getattr(family, field.name)
        if _static(field) and not isinstance(x, bool | int | float | str | None):
            raise ValueError(f"{type(family).__name__} holds a {type(x).__name__}, which JSON cannot hold")
        inner = field.metadata.get("of")
        values[field.name] = x if _static(field) else _written(x) if inner else _plain(x)
    return {"family": registry.name_of(type(family)), **use, **values}


def _static(field: Any) -> bool:
    return not field.metadata.get("pytree_node", True)


def from_dict(values: Any) -> Scenario:
    """The scenario that `to_dict` wrote, or somebody by hand: a family may be a text for `registry.read`.

    Nothing is imported: families that need --use have to be there already.

    Raises:
      ValueError: it is none; the message names the field and what is allowed.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f'`format` must be "{FORMAT}": this is no scenario')
    known = {"format", "names", "payoff", "cost", *_NUMBERS}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"unknown field `{unknown[0]}`; a scenario has {', '.join(sorted(known))}")
    if missing := [name for name in ("payoff", "cost", "capacity") if name not in values]:
        raise ValueError(f"`{missing[0]}` is missing")
    families = {field: _family(field, values[field]) for field in _FAMILIES}
    numbers = {name: _numbers(name, values[name]) for name in _NUMBERS if name in values}
    game = games.check(games.Game(**families, **numbers))
    names = values.get("names", [str(i) for i in range(game.n)])
    if not (isinstance(names, list) and len(names) == game.n and all(isinstance(x, str) for x in names)):
        raise ValueError(f"`names` must be a list of {game.n} strings, one for each agent")
    return Scenario(game, names)


def save(path: str | os.PathLike, game: games.Game, names: list[str] | None = None) -> None:
    """Writes the scenario, whole or not at all; see `to_dict` for errors."""
    text = json.dumps(to_dict(game, names), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    partial = pathlib.Path(f"{os.fspath(path)}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def load(path: str | os.PathLike) -> Scenario:
    """Reads a scenario.

    Raises:
      ValueError: the file holds no scenario; the message says where and why.
      FileNotFoundError: there is no such file.
    """
    file = pathlib.Path(path)
    try:
        return from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"there is no file {path}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _plain(x: Any) -> Any:
    return np.asarray(x, float).tolist()


def _family(field: str, values: Any) -> Any:
    if isinstance(values, str):
        return registry.read(field, values)
    family = _named(field, values)
    fields = registry.options(family)
    given = {k: v for k, v in values.items() if k not in ("family", "use")}
    if unknown := sorted(given.keys() - fields.keys()):
        near = registry.near(unknown[0], fields)
        raise ValueError(
            f"`{field}`: {values['family']} has no `{unknown[0]}`{near}; it has {', '.join(fields)}"
        )
    try:
        return family(**{k: _value(fields[k], v) for k, v in given.items()})
    except TypeError as error:
        said = str(error).split("__init__() ")[-1]
        raise ValueError(f"`{field}`: {values['family']}: {said}") from None


def _value(field: Any, value: Any) -> Any:
    if inner := field.metadata.get("of"):
        return _family(inner, value)
    if not _static(field):
        return _numbers(field.name, value)
    if isinstance(field.default, bool) and not isinstance(value, bool):
        raise ValueError(f"`{field.name}` must be true or false, got {value!r}")
    return registry.checked(f"`{field.name}`", value, field)


def _named(field: str, values: Any) -> type:
    """The class of a family; files of version 0.1 name the class itself."""
    known = registry.KINDS[field].entries
    classes = {family.__name__: family for family in reversed(known.values())}  # a stranger's comes last
    name = values.get("family") if isinstance(values, dict) else None
    if isinstance(name, str) and name in {**classes, **known}:
        family = {**classes, **known}[name]
        _check_text(field, name, family, values.get("use"))
        return family
    if isinstance(name, str) and isinstance(values.get("use"), dict):
        file = values["use"].get("file")
        raise ValueError(f"`{field}`: there is no family {name!r} without --use={file}, which defined it")
    near = registry.near(str(name), known)
    raise ValueError(f"`{field}` needs a `family`, one of {', '.join(known)}; got {name!r}{near}")


def _check_text(field: str, name: str, family: type, then: Any) -> None:
    """Refuses a family that --use defines otherwise than when the scenario was written."""
    now = registry.used().get(registry.file_of(family) or "")
    if isinstance(then, dict) and then.get("sha256") != now:
        was, has = f"--use={then.get('file')} ({str(then.get('sha256'))[:8]})", now[:8] if now else "built in"
        raise ValueError(
            f"`{field}`: {name!r} was defined by {was}, and is another now ({has}; how the text begins in "
            "SHA-256): use the file of then, or delete `use` here to take it as it is now"
        )


def _numbers(name: str, value: Any) -> np.ndarray:
    def numeric(x: Any) -> bool:
        return all(map(numeric, x)) if isinstance(x, list) else type(x) in (int, float)

    try:
        if not numeric(value):
            raise ValueError
        return np.asarray(value, float)
    except (ValueError, OverflowError):  # lists of different lengths, or a number beyond floats
        raise ValueError(f"`{name}` must be a number or a list of numbers, got {value!r}") from None
