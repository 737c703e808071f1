"""Checks of settings: dataclasses whose fields `registry.option` makes, for flags and in Python."""

import dataclasses
from typing import Any

from fedgame import registry


def check(config: Any) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
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
