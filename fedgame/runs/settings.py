"""What the user chose: dataclasses whose fields `registry.option` made, checked against their limits."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

from fedgame import registry


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
    choices = registry.choices(field)
    if choices and value not in choices:
        raise ValueError(f"--{field.name} must be one of {', '.join(choices)}, got {value!r}")
    if not isinstance(value, str | bool):
        registry.check_number(f"--{field.name}", value, field)


def one_for_each(name: str, given: tuple[Any, ...], agents: int) -> None:
    """Raises a `ValueError` unless the setting has one value, or one for every agent."""
    if len(given) not in (1, agents):
        raise ValueError(f"--{name} needs one number or one for each of {agents} agents, got {len(given)}")


@contextlib.contextmanager
def of_flag(name: str) -> Iterator[None]:
    """Puts the name of a flag in front of the errors that are raised inside."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--{name}: {error}") from None
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from None


def described(settings: Any) -> dict[str, Any]:
    """The settings as JSON values; `sha256` has the digest of every file that they name."""
    found = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        texts = [x for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, str)]
        if field.metadata["of"]:
            texts = [file for text in texts for file in registry.files(text)]
        elif registry.choices(field):
            continue
        for file in map(pathlib.Path, texts):
            if file.is_file():
                found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return dataclasses.asdict(settings) | {"sha256": found}
