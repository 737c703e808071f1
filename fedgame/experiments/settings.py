"""Settings as dataclasses: name, default, allowed values and help in one place, for flags and checks."""

import dataclasses
import math
from typing import Any


def option(default: Any, help: str, low: float = -math.inf, high: float = math.inf, **more: Any):
    """A field of a settings dataclass.

    Args:
      default: the value; None for "depends on other settings".
      help: of the flag.
      low: smallest allowed number.
      high: largest.
      **more: `kind`, the type of a number where the default does not show it; `choices`; `above`,
        an excluded lower limit.
    """
    metadata = {"help": help, "low": low, "high": high, "kind": type(default), **more}
    return dataclasses.field(default=default, metadata=metadata)


def check(config: Any) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == ():
            kind = "name" if field.metadata["kind"] is str else "number"
            raise ValueError(f"--{field.name} needs at least one {kind}")
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None:
                _check_one(field.name, number, field.metadata)


def _check_one(name: str, value: Any, allowed: dict[str, Any]) -> None:
    if choices := allowed.get("choices"):
        if value not in choices:
            raise ValueError(f"--{name} must be one of {', '.join(choices)}, got {value!r}")
        return
    if isinstance(value, str | bool):
        return
    low, high, above = allowed["low"], allowed["high"], allowed.get("above")
    finite = math.isfinite(value) or (allowed.get("infinite") and not math.isnan(value))
    if not (finite and low <= value <= high and (above is None or value > above)):
        ends = [] if above is None else [f"greater than {above}"]
        ends += [f"at least {low}"] if low > -math.inf else []
        ends += [f"at most {high}"] if high < math.inf else []
        raise ValueError(f"--{name} must be a number, {' and '.join(ends)}, got {value}")
