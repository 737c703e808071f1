"""Scenarios: games as JSON files, which people can read, edit and exchange."""

import json
import os
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry
from fedgame.games import game as games

FORMAT = "fedgame scenario 1"
# What agents have if they leave: what they train alone, a model of all records that they own, or no model.
OUTSIDE = ("alone", "own_records", "nothing")
_FAMILIES, _NUMBERS = ("payoff", "cost"), ("capacity", "value", "quality", "held")


class Scenario(NamedTuple):
    """A game and what its agents are called."""

    game: games.Game  # checked
    names: list[str]  # [n]
    origin: Any = None  # what its maker made the game of; not stored in files
    outside: np.ndarray | None = None  # [n] what agents have if they leave, currency, if that was given


def holds(game: games.Game) -> bool:
    """Whether JSON can hold the game: its payoff and its cost are registered, and hold no functions."""
    try:
        return bool(json.dumps([family_values(getattr(game, field)) for field in _FAMILIES], allow_nan=False))
    except ValueError:
        return False


def to_dict(game: games.Game, names: list[str] | None = None, outside: Any = None) -> dict[str, Any]:
    """The scenario as JSON values; numbers keep every digit.

    Args:
      game: n agents.
      names: of the n agents; None is "0", "1", …
      outside: [n] what they have if they leave, currency; None: not given.

    Raises:
      ValueError: the payoff or the cost is not registered, or holds a Python function, which JSON cannot
        hold; or there are not n different printable names.
    """
    game = games.check(game)
    names = [str(i) for i in range(game.n)] if names is None else list(names)
    if len(names) != game.n:
        raise ValueError(f"`names` must name all {game.n} agents, got {len(names)} names")
    _check_names(names)
    numbers = {name: _plain(getattr(game, name)) for name in _NUMBERS}
    families = {field: family_values(getattr(game, field)) for field in _FAMILIES}
    given = {} if outside is None else {"outside": _plain(outside)}
    return {"format": FORMAT, "names": names, **families, **numbers, **given}


def family_values(family: Any) -> dict[str, Any]:
    """A family as JSON values; if a file given by --use defines it, with that file and its SHA-256.

    Raises:
      ValueError: the family is not registered, or holds a Python function, which JSON cannot hold.
    """
    if registry.name_of(type(family)) is None:
        raise ValueError(f"{type(family).__name__} has no name, so JSON cannot hold it")
    file = registry.file_of(type(family))
    values = {"family": registry.name_of(type(family))}
    if file:
        values["use"] = {"file": file, "sha256": registry.used()[file]}
    for field in registry.options(type(family)).values():
        x = getattr(family, field.name)
        if _static(field):
            if not isinstance(x, bool | int | float | str | None):
                raise ValueError(
                    f"{type(family).__name__} holds a {type(x).__name__}, which JSON cannot hold"
                )
            values[field.name] = x
        elif field.metadata.get("of"):  # another family inside
            values[field.name] = family_values(x)
        else:
            values[field.name] = _plain(x)
    return values


def _static(field: Any) -> bool:
    """Whether a field holds no array but a part of the structure, see `registry.option`."""
    return not field.metadata.get("pytree_node", True)


def from_dict(values: Any) -> Scenario:
    """The scenario in JSON values as `to_dict` writes them; a family may also be a text for `registry.read`.

    Imports nothing: files of families that need --use must have been imported before.

    Raises:
      ValueError: the values are no scenario; the message names the field and what is allowed.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f'`format` must be "{FORMAT}": this is no scenario')
    known = {"format", "names", "payoff", "cost", "outside", *_NUMBERS}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"unknown field `{unknown[0]}`; a scenario has {', '.join(sorted(known))}")
    if missing := [name for name in ("payoff", "cost", "capacity") if name not in values]:
        raise ValueError(f"`{missing[0]}` is missing")
    families = {field: family_of(field, values[field]) for field in _FAMILIES}
    numbers = {name: _numbers(name, values[name]) for name in _NUMBERS if name in values}
    game = games.check(games.Game(**families, **numbers))
    names = values.get("names", [str(i) for i in range(game.n)])
    if not (isinstance(names, list) and len(names) == game.n and all(isinstance(x, str) for x in names)):
        raise ValueError(f"`names` must be a list of {game.n} strings, one for each agent")
    _check_names(names)
    outside = None
    if "outside" in values:
        outside = _numbers("outside", values["outside"])
        if outside.shape != (game.n,) or not np.all(np.isfinite(outside)):
            raise ValueError(
                f"`outside` must be {game.n} numbers, one for each agent, got {_short(values['outside'])}"
            )
    return Scenario(game, names, outside=outside)


def save(
    path: str | os.PathLike, game: games.Game, names: list[str] | None = None, outside: Any = None
) -> None:
    """Writes the scenario to a file, atomically; arguments and errors as `to_dict`."""
    text = json.dumps(to_dict(game, names, outside), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    partial = pathlib.Path(f"{os.fspath(path)}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def load(path: str | os.PathLike) -> Scenario:
    """Reads a scenario from a file.

    Raises:
      ValueError: the file holds no scenario; the message says where and why.
      FileNotFoundError: there is no such file.
    """
    data = read_bytes(path)
    try:
        return from_dict(_parsed(data.decode("utf-8-sig")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8") from None
    except RecursionError:
        raise ValueError(f"{path}: brackets are nested too deeply for a scenario") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_bytes(path: str | os.PathLike) -> bytes:
    """The contents of a file that somebody named.

    Raises:
      ValueError: it is a folder, or a pipe or a device, which may never end; or it cannot be read.
      FileNotFoundError: there is no such file.
    """
    file = pathlib.Path(path)
    try:
        if file.exists() and not file.is_file():
            kind = "a folder" if file.is_dir() else "a pipe or a device"
            raise ValueError(f"{path} is {kind}, not a file")
        return file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def fault_of(name: str) -> str:
    """What is wrong with an agent's name, to follow the name of its field in a sentence; "" if nothing is.

    Names are drawn, printed and written to tables: line breaks, control characters and marks that turn the
    direction of the text would falsify these.
    """
    if not name.strip():
        return "must not be empty"
    if name.isprintable():
        return ""
    odd = next(x for x in name if not x.isprintable())
    unnamed = "a control character" if unicodedata.category(odd) == "Cc" else "no character of a text"
    called = unicodedata.name(odd, unnamed).lower()
    return f"must be printable text, but {_short(name)} has U+{ord(odd):04X}, {called}"


def _check_names(names: Sequence[str]) -> None:
    """Raises a ValueError if a name cannot be printed, or two are equal (é has two spellings in Unicode)."""
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if fault := fault_of(name):
            raise ValueError(f"`names`: that of agent {i} {fault}")
        first = seen.setdefault(unicodedata.normalize("NFC", name), i)
        if first != i:
            raise ValueError(f"`names`: agents {first} and {i} have the same name, {_short(name)}")


def _parsed(text: str) -> Any:
    """The values in a JSON text.

    Raises:
      ValueError: it is no JSON; an object has a key twice, of which Python would silently take the last; a
        number is NaN, or 1e100 or more; or a text has half of a surrogate pair, which cannot be printed.
      RecursionError: it is nested too deeply.
    """

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{_short(twice)} is there twice in one object")
        return found

    def number(kind: type) -> Any:
        def read(digits: str) -> Any:
            if not abs(float(digits)) < registry.LARGEST:
                more = "…" if len(digits) > 20 else ""
                raise ValueError(f"{digits[:20]}{more} is no number below 1e100")
            return kind(digits)

        return read

    values = json.loads(
        text,
        object_pairs_hook=to_object,
        parse_float=number(float),
        parse_int=number(int),
        parse_constant=number(float),
    )
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"a text has {half}, half of a surrogate pair, which is no character") from None
    return values


def _short(value: Any) -> str:
    """A value as Python writes it, the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _plain(x: Any) -> Any:
    return np.asarray(x, float).tolist()


def family_of(field: str, values: Any) -> Any:
    """The payoff or the cost, as `field` says, in JSON values as `family_values` writes them, or in a text.

    Raises:
      ValueError: the values are no such family; the message names the field and what is allowed.
    """
    if isinstance(values, str):
        return registry.read(field, values)
    family = _named(field, values)
    fields = registry.options(family)
    given = {name: x for name, x in values.items() if name not in ("family", "use")}
    if unknown := sorted(given.keys() - fields.keys()):
        near = registry.near(unknown[0], fields)
        raise ValueError(
            f"`{field}`: {values['family']} has no `{unknown[0]}`{near}; it has {', '.join(fields)}"
        )
    try:
        return family(**{name: _value(fields[name], x) for name, x in given.items()})
    except TypeError as error:
        said = str(error).split("__init__() ")[-1]  # such as "missing 1 required positional argument"
        raise ValueError(f"`{field}`: {values['family']}: {said}") from None


def _value(field: Any, value: Any) -> Any:
    """A parameter of a family, checked."""
    if inner := field.metadata.get("of"):
        return family_of(inner, value)
    if not _static(field):
        return _numbers(field.name, value)
    if isinstance(field.default, bool) and not isinstance(value, bool):
        raise ValueError(f"`{field.name}` must be true or false, got {_short(value)}")
    return registry.checked(f"`{field.name}`", value, field)


def _named(field: str, values: Any) -> type:
    """The class of a family; files of version 0.1 name the class itself."""
    known = registry.KINDS[field].entries
    # Built-in families are registered first. Reversed, so that theirs counts if a stranger's class has its
    # name.
    by_class = {family.__name__: family for family in reversed(known.values())}
    families = {**by_class, **known}
    name = values.get("family") if isinstance(values, dict) else None
    if isinstance(name, str) and name in families:
        family = families[name]
        _check_text(field, name, family, values.get("use"))
        return family
    if isinstance(name, str) and isinstance(values.get("use"), dict):
        file = values["use"].get("file")
        raise ValueError(f"`{field}`: there is no family {name!r} without --use={file}, which defined it")
    near = registry.near(str(name), known)
    raise ValueError(f"`{field}` needs a `family`, one of {', '.join(known)}; got {_short(name)}{near}")


def _check_text(field: str, name: str, family: type, then: Any) -> None:
    """Refuses a family whose definition is not the one with which the scenario was written.

    Args:
      field: "payoff" or "cost".
      name: of the family.
      family: its class.
      then: the scenario's `use`, None for a built-in family.
    """
    now = registry.used().get(registry.file_of(family) or "")
    if isinstance(then, dict) and then.get("sha256") != now:
        was = f"--use={then.get('file')} ({str(then.get('sha256'))[:8]})"
        has = now[:8] if now else "built in"
        raise ValueError(
            f"`{field}`: {name!r} was defined by {was}, and is another now ({has}; how the text begins in "
            "SHA-256): use the file of then, or delete `use` here to take it as it is now"
        )


def _numbers(name: str, value: Any) -> np.ndarray:
    """A JSON number or a list of numbers, or of lists of them, as an array."""

    def numeric(x: Any) -> bool:
        if isinstance(x, list):
            return all(numeric(part) for part in x)
        return type(x) in (int, float)  # not `isinstance`, as True is an int

    try:
        if not numeric(value):
            raise ValueError
        return np.asarray(value, float)
    except (ValueError, OverflowError):  # lists of different lengths, or a number beyond floats
        raise ValueError(f"`{name}` must be a number or a list of numbers, got {_short(value)}") from None
