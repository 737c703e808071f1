"""What a parameter says of itself: default, range, rank and help, once, in `option`.

Payoffs, costs, mechanisms and the settings of commands are dataclasses whose fields `option` makes. Checks,
flags, JSON and help read them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    rank: int | None = 0,
    static: bool = False,
    kind: type | None = None,
    choices: Iterable[str] | Callable[[], Iterable[str]] = (),
    infinite: bool = False,
) -> Any:
    """A field of a dataclass.

    Args:
      help: what it is and in which unit; of a flag, its help.
      default: its value if none is given; without one it has to be given. None: depends on others.
      low, high: the smallest and the largest number allowed.
      above, below: numbers that are themselves not allowed, and nothing on their other side.
      rank: dimensions of ONE agent's value, 0 for a number and 1 for a row of them. Families take one value
        for all agents, or one more, leading, dimension of n. None: shared by all whatever its shape.
      static: no array but a part of the structure, such as a function; programs are compiled anew for
        another one.
      kind: type of a flag's number, where the default does not show it.
      choices: names that are allowed, or a function that returns those allowed at the time.
      infinite: whether infinite numbers are allowed.
    """
    metadata = {
        **{"help": help, "low": low, "high": high, "above": above, "below": below, "infinite": infinite},
        **{"rank": rank, "pytree_node": not static, "kind": kind or type(default), "choices": choices},
    }
    return dataclasses.field(default=default, metadata=metadata)


def family(cls: type) -> type:
    """Makes a frozen dataclass of `cls`, which JAX takes apart into its numbers; with `replace`.

    As `flax.struct.dataclass`, but its kind takes part in comparisons. JAX (0.10) holds structures of two
    registered dataclasses for equal if they have as many numbers, so that now and then, where hashes happen
    to agree, a jitted function would run one family's program on the numbers of another.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    dynamic = [field.name for field in numbers(cls)]
    static = [field.name for field in dataclasses.fields(cls) if field.name not in dynamic]

    def flatten(x: Any) -> tuple[tuple, tuple]:
        return tuple(getattr(x, name) for name in dynamic), (cls, *(getattr(x, name) for name in static))

    def flatten_with_keys(x: Any) -> tuple[tuple, tuple]:
        children, kind = flatten(x)
        keys = (jax.tree_util.GetAttrKey(name) for name in dynamic)
        return tuple(zip(keys, children, strict=True)), kind

    def unflatten(kind: tuple, children: tuple) -> Any:
        return cls(**dict(zip(dynamic, children, strict=True)), **dict(zip(static, kind[1:], strict=True)))

    cls.replace = dataclasses.replace
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def choices(field: dataclasses.Field) -> tuple[str, ...]:
    """The names that a field made by `option` allows now; none if it allows any value."""
    allowed = field.metadata["choices"]
    return tuple(allowed() if callable(allowed) else allowed)


def check_number(name: str, number: Any, field: dataclasses.Field | None) -> None:
    """Raises a `ValueError` that says `name`, what is allowed and what `number` is, if it is out of range.

    Args:
      name: as it is called where it was given, for example "`beta`" or "--beta".
      number: one or an array of them.
      field: made by `option`; another one, or None, allows every finite number.
    """
    limits = field.metadata if field is not None else {}
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    above, below = limits.get("above", -math.inf), limits.get("below", math.inf)
    x = np.asarray(number)
    finite = ~np.isnan(x) if limits.get("infinite") else np.isfinite(x)
    inside = (x >= low) & (x <= high) & ((x > above) | (above == -math.inf))
    inside &= (x < below) | (below == math.inf)
    if np.all(finite & inside):
        return
    if not np.all(finite):
        raise ValueError(f"{name} must be finite, got {number}")
    ends = [f"greater than {above}"] if above > -math.inf else []
    ends += [f"at least {low}"] if low > -math.inf else []
    ends += [f"at most {high}"] if high < math.inf else []
    ends += [f"less than {below}"] if below < math.inf else []
    raise ValueError(f"{name} must be a number, {' and '.join(ends)}, got {number}")


def numbers(family: Any) -> list[dataclasses.Field]:
    """The fields of a payoff, cost or mechanism that hold numbers."""
    return [field for field in dataclasses.fields(family) if field.metadata.get("pytree_node", True)]


def is_per_agent(x: Any, field: dataclasses.Field) -> bool:
    """Whether `x` in that field has one entry per agent, not one for all of them."""
    rank = field.metadata.get("rank", 0)
    return rank is not None and np.ndim(x) > rank


def axes(family: Any) -> Any:
    """`in_axes` of a family for `jax.vmap`: 0 for parameters per agent, None for shared ones."""
    return _each(family, lambda x, per_agent: 0 if per_agent else None)


def of_agents(family: Any, keep: Any) -> Any:
    """The family of the agents `keep`: one number, for what ONE agent has, or [k] of them."""
    return _each(family, lambda x, per_agent: jnp.asarray(x)[keep] if per_agent else x)


def per_agent(family: Any, n: int) -> Any:
    """The family with every parameter given once for each of n agents."""

    def spread(x: Any, per_agent: bool | None) -> jax.Array:
        if per_agent is None:
            return x
        x = jnp.asarray(x, float)
        return x if per_agent else jnp.broadcast_to(x, (n, *x.shape))

    return _each(family, spread)


def shared(family: Any) -> Any:
    """`out_axes` of a family for `jax.vmap`: None for what is shared whatever its shape, else 0."""
    return _each(family, lambda x, per_agent: None if per_agent is None else 0)


def _each(family: Any, fn: Callable[[Any, bool | None], Any]) -> Any:
    """fn(x, whether it is one per agent) for every array x of a family, and of families inside.

    None if it is shared by all whatever its shape.
    """

    def of_field(field: dataclasses.Field) -> Any:
        value = getattr(family, field.name)
        if field.metadata.get("rank", 0) is None:
            return jax.tree.map(lambda x: fn(x, None), value)
        if dataclasses.is_dataclass(value):
            return _each(value, fn)
        return jax.tree.map(lambda x: fn(x, is_per_agent(x, field)), value)

    return family.replace(**{field.name: of_field(field) for field in numbers(family)})
