"""What the user chose: dataclasses whose fields `registry.option` made, checked against their limits."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from fedgame import registry
from fedgame.runs import digests


def check(settings: Any) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == ():
            kind = "name" if field.metadata["kind"] is str else "number"
            raise ValueError(f"--{field.name} needs at least one {kind}")
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                _check_one(field, one)


def _check_one(field: dataclasses.Field, value: Any) -> None:
    """Checks one value of a setting, which may be one of several."""
    choices = registry.choices(field)
    if choices and value not in choices:
        raise ValueError(f"--{field.name} must be one of {', '.join(choices)}, got {value!r}")
    if not isinstance(value, str | bool):
        registry.check_number(f"--{field.name}", value, field)


def one_for_each(name: str, given: tuple[Any, ...], agents: int) -> None:
    """Raises a `ValueError` unless the setting has one value, or one for each of so many agents."""
    if len(given) not in (1, agents):
        raise ValueError(f"--{name} needs one number or one for each of {agents} agents, got {len(given)}")


@contextlib.contextmanager
def of_flag(name: str) -> Iterator[None]:
    """Puts the name of a flag in front of the messages of errors that are raised inside."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--{name}: {error}") from None
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from None


def described(settings: Any) -> dict[str, Any]:
    """The settings as JSON values; `sha256` has digests of the files that they name, and of folders' CSVs."""
    found = {}
    for path in reads(settings):
        for file in sorted(path.glob("*.csv")) if path.is_dir() else [path]:
            if file.is_file():
                found[str(file)] = digests.of(file)
    return dataclasses.asdict(settings) | {"sha256": found}


def reads(settings: Any) -> list[pathlib.Path]:
    """The files and folders that the settings name."""
    found = []
    for field in dataclasses.fields(settings):
        is_path = field.metadata["kind"] is pathlib.Path
        named = _named_by(field, getattr(settings, field.name))
        found += [path for path in named if path.is_file() or (is_path and path.is_dir())]
    return found


def expanded(settings: Any) -> Any:
    """The settings with paths from the home directory in place of ~."""
    paths = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata["kind"] is pathlib.Path and value is not None:
            paths[field.name] = os.path.expanduser(value)
    return dataclasses.replace(settings, **paths)


def _named_by(field: dataclasses.Field, value: Any) -> list[pathlib.Path]:
    """The files or folders that the value of a setting may name; any text may be the name of one."""
    values = value if isinstance(value, tuple) else (value,)
    texts = [one for one in values if isinstance(one, str)]
    if field.metadata["of"]:  # texts such as 'power(best="best.npy")'
        texts = [file for text in texts for file in registry.files(text)]
    elif registry.choices(field):
        return []
    return [pathlib.Path(os.path.expanduser(text)) for text in texts]
