"""Names of payoffs, costs, mechanisms, rules, protocols and studies, and the options they take.

`option` declares the default, range, rank and help of a parameter once, for checks, flags, JSON, columns and
help. `register` gives a class or function a name; `read` makes an instance from the text in which people
write it, such as `power(best=0.9, scale=2, exponent=0.7)`; `use` imports a file that registers more.
"""

import ast
import dataclasses
import difflib
import hashlib
import importlib.util
import inspect
import math
import os
import pathlib
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from keyword import iskeyword
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Numbers without bounds of their own are smaller than this, so that their products do not overflow either.
LARGEST = 1e100


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
    of: str | None = None,
) -> Any:
    """A field of a dataclass, or the default of a parameter of a function that `register` makes a rule.

    Args:
      help: what the parameter is and in which unit; also the help of its flag.
      default: the value if none is given; without a default one must be given. None: depends on others.
      low: the minimum allowed number; without it and `high` numbers are below 1e100 in size.
      high: the maximum allowed number.
      above: an exclusive bound: numbers must be greater.
      below: an exclusive bound: numbers must be less.
      rank: number of dimensions of ONE agent's value, 0 for a number and 1 for a row of them. Families take
        one value for all agents, or one for each, with a leading dimension of n. None: the value is shared by
        all agents, whatever its shape.
      static: not an array but a part of the structure, such as a function; each value compiles its own
        programs.
      kind: type of a flag's number, if the default does not show it; `pathlib.Path`: the text names a file
        or a folder.
      choices: names that are allowed, or a function that returns those allowed at the time.
      infinite: whether infinite numbers are allowed.
      of: the kind of entry that the value is, such as "rule", if it is not a number.
    """
    if kind is None:
        several = isinstance(default, tuple) and default
        kind = type(default[0]) if several else type(default)
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "infinite": infinite,
        "rank": rank,
        "pytree_node": not static,
        "choices": choices,
        "kind": kind,
        "of": of,
    }
    return dataclasses.field(default=default, metadata=metadata)


def family(cls: type) -> type:
    """Makes a frozen dataclass of `cls` that is a JAX pytree of its numbers, with a method `replace`.

    As `flax.struct.dataclass`, but the class is part of the tree structure. JAX (0.10) compares structures of
    two registered dataclasses as equal if they have equally many leaves. So where their hashes happen to
    agree, a jitted function would run the program compiled for one family on the numbers of another.
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
    allowed = field.metadata.get("choices", ())
    return tuple(allowed() if callable(allowed) else allowed)


def check_number(name: str, number: Any, field: dataclasses.Field | None) -> None:
    """Raises a `ValueError` if a number is out of range.

    Args:
      name: for the message, as the number is called where it was given, such as "`beta`" or "--beta".
      number: one number or an array.
      field: made by `option`. Any other field, or None, allows every number below LARGEST in size.
    """
    limits = field.metadata if field is not None else {}
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    above, below = limits.get("above", -math.inf), limits.get("below", math.inf)
    too_long = isinstance(number, int) and abs(number) >= 2**63
    x = np.asarray(float(str(number)) if too_long else number, float)  # infinite if beyond all floats
    finite = ~np.isnan(x) if limits.get("infinite") else np.isfinite(x)
    inside = (x >= low) & (x <= high)
    if above > -math.inf:
        inside &= x > above
    if below < math.inf:
        inside &= x < below
    if not np.all(finite):
        raise ValueError(f"{name} must be finite, got {number}")
    if not np.all(inside):
        raise ValueError(f"{name} must be {allowed(field)}, got {number}")
    if limits.get("infinite"):
        return
    too_large = (x >= LARGEST) & (min(high, below) == math.inf)
    too_small = (x <= -LARGEST) & (max(low, above) == -math.inf)
    if np.any(too_large | too_small):
        side = "below 1e100" if np.any(too_large) else "above -1e100"
        raise ValueError(f"{name} must be a number {side}, got {number}: larger ones cannot be computed with")


def allowed(field: dataclasses.Field) -> str:
    """The numbers that a field made by `option` allows, in words."""
    limits, ends = field.metadata, []
    if limits["above"] > -math.inf:
        ends.append(f"greater than {limits['above']}")
    if limits["low"] > -math.inf:
        ends.append(f"at least {limits['low']}")
    if limits["high"] < math.inf:
        ends.append(f"at most {limits['high']}")
    if limits["below"] < math.inf:
        ends.append(f"less than {limits['below']}")
    return f"a number, {' and '.join(ends)}" if ends else "a number"


def numbers(family: Any) -> list[dataclasses.Field]:
    """The fields of a payoff, cost or mechanism that hold numbers."""
    return [field for field in dataclasses.fields(family) if field.metadata.get("pytree_node", True)]


def is_per_agent(x: Any, field: dataclasses.Field) -> bool:
    """Whether the value `x` of a field has one entry per agent, not one for all."""
    rank = field.metadata.get("rank", 0)
    return rank is not None and np.ndim(x) > rank


def axes(family: Any) -> Any:
    """`in_axes` of a family for `jax.vmap`: 0 for parameters per agent, None for shared ones."""
    return _each(family, lambda x, per_agent: 0 if per_agent else None)


def of_agents(family: Any, keep: Any) -> Any:
    """The family with the parameters of the agents `keep` only: one agent's number, or [k] of them."""
    return _each(family, lambda x, per_agent: jnp.asarray(x)[keep] if per_agent else x)


def per_agent(family: Any, n: int) -> Any:
    """The family with every parameter repeated for each of n agents."""

    def spread(x: Any, per_agent: bool | None) -> jax.Array:
        if per_agent is None:
            return x
        x = jnp.asarray(x, float)
        return x if per_agent else jnp.broadcast_to(x, (n, *x.shape))

    return _each(family, spread)


def shared(family: Any) -> Any:
    """`out_axes` of a family for `jax.vmap`: None for parameters of rank None, which are shared, else 0."""
    return _each(family, lambda x, per_agent: None if per_agent is None else 0)


def _each(family: Any, fn: Callable[[Any, bool | None], Any]) -> Any:
    """The family with every array x replaced by fn(x, per_agent), also in families inside.

    `per_agent` is whether x has one entry per agent; None for parameters of rank None.
    """

    def of_field(field: dataclasses.Field) -> Any:
        value = getattr(family, field.name)
        if field.metadata.get("rank", 0) is None:
            return jax.tree.map(lambda x: fn(x, None), value)
        if dataclasses.is_dataclass(value):
            return _each(value, fn)
        return jax.tree.map(lambda x: fn(x, is_per_agent(x, field)), value)

    return family.replace(**{field.name: of_field(field) for field in numbers(family)})


class Kind(NamedTuple):
    """One sort of things that have names: payoffs, costs, rules, protocols or studies."""

    word: str  # singular, for messages
    entries: dict[str, Any]  # name -> a class or a `Function`
    aliases: dict[str, str]  # alias -> the text that it stands for
    # (name, label, thing, **more) -> its entry, and what `register` returns in place of the thing.
    make: Callable[..., tuple[Any, Any]]


KINDS: dict[str, Kind] = {}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Function:
    """A registered function, with the values of options that were given to it."""

    name: str
    label: str
    function: Callable
    options: Mapping[str, dataclasses.Field]
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return text_of(self)

    def having(self, **options: Any) -> Any:
        """The same function with these options; a `ValueError` if one is unknown or out of range."""
        for name, value in options.items():
            _check_known(self.name, name, self.options)
            if isinstance(value, int | float):
                check_number(f"{self.name}: `{name}`", value, self.options[name])
        return dataclasses.replace(self, given={**self.given, **options})

    @property
    def values(self) -> dict[str, Any]:
        """Values of all options, given or default; a `ValueError` if one has neither."""
        _check_complete(self.name, self.options, self.given)
        return {name: self.given.get(name, field.default) for name, field in self.options.items()}


def kind(word: str, make: Callable[..., tuple[Any, Any]], *others: str) -> dict[str, Any]:
    """Makes a kind and returns its dictionary of entries, which the kinds named in `others` share."""
    made = Kind(word, {}, {}, make)
    for one in (word, *others):
        KINDS[one] = made
    return made.entries


def a_family(name: str, label: str, cls: type) -> tuple[type, type]:
    """`Kind.make` of kinds whose classes are families of numbers, see `family`."""
    cls = cls if "__dataclass_fields__" in vars(cls) else family(cls)
    cls.label = label
    return cls, cls


def a_choice(name: str, label: str, cls: type) -> tuple[type, type]:
    """`Kind.make` of kinds whose classes are frozen dataclasses of settings, compared by identity."""
    cls = cls if "__dataclass_fields__" in vars(cls) else dataclasses.dataclass(frozen=True, eq=False)(cls)
    cls.label = label
    return cls, cls


def register(
    name: str, label: str | None = None, aliases: Mapping[str, str] = MappingProxyType({}), **more: Any
) -> Callable[[Any], Any]:
    """A decorator that names a payoff, cost, mechanism, protocol or study; or a function, as a rule.

    Classes become dataclasses, whose fields `option` makes. From then on the name
    can be written on the command line, in JSON and in `read`, and appears in help, columns, reference and
    conformance tests.

    Args:
      name: as people write it.
      label: as tables and figures call it; by default the name, with spaces.
      aliases: shorter names, and the text that each stands for.
      **more: promises of rules, see `mechanisms.base.Rule`.

    Raises:
      ValueError: the name or an alias is not an identifier, or is taken; or the class lacks a method that it
        must define.
    """

    if not isinstance(name, str):
        raise ValueError('register needs a name: write @register("name") above a class or a function')
    name = unicodedata.normalize("NFKC", name)  # as Python reads names

    def decorate(thing: Any) -> Any:
        kind = getattr(thing, "kind", None) if isinstance(thing, type) else "rule"
        if kind not in KINDS:
            raise ValueError(f"{thing.__qualname__} must derive from what it is: Payoff, Cost, Mechanism, …")
        found = KINDS[kind]
        for one in (name, *aliases):
            other = found.entries.get(_stands_for(one, found))
            if not one.isidentifier() or iskeyword(one):
                raise ValueError(f"a name consists of letters, digits and _, got {one!r}")
            if other is not None and _origin(other) != _origin(thing):
                where = f"--use={file_of(other)}" if file_of(other) else ".".join(_origin(other))
                raise ValueError(f"there is a {found.word} {one!r} already, in {where}")
        entry, made = found.make(name, label or name.replace("_", " "), thing, **more)
        _check_definition(entry)
        found.entries[name] = entry
        found.aliases.pop(name, None)
        found.aliases.update(aliases)
        return made

    return decorate


def _check_definition(entry: Any) -> None:
    """Refuses a class without a `needed` method, or with fields not made by `option` or named as a method."""
    cls = definition(entry)
    if not isinstance(cls, type):
        return
    for name in dir(cls):
        if getattr(getattr(cls, name), "needed", False):
            raise ValueError(f"{cls.__qualname__} must define `{name}`")
    for name, field in options(entry).items():
        if "help" not in field.metadata:
            raise ValueError(f"{cls.__qualname__}: the default of `{name}` must be made by `option`")
        inherited = [vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)]
        if any(isinstance(x, FunctionType | classmethod | property) for x in inherited):
            raise ValueError(f"{cls.__qualname__}: a method is called `{name}`; call the option otherwise")


def needed(method: Callable) -> Callable:
    """A decorator of a base's method that every registered class must define."""
    method.needed = True
    return method


def _stands_for(name: str, kind: Kind) -> str:
    """The name of an entry that an alias stands for; other names stand for themselves."""
    return ast.unparse(_called(_parsed(kind.aliases[name])).func) if name in kind.aliases else name


def _origin(entry: Any) -> tuple[str, str]:
    """Module and qualified name: a notebook cell that runs again has the same, and may register again."""
    return definition(entry).__module__, definition(entry).__qualname__


def name_of(entry: Any) -> str | None:
    """The name under which a class or a `Function` is registered; None if it is not."""
    if isinstance(entry, Function):
        return entry.name
    entries = (pair for kind in KINDS.values() for pair in kind.entries.items())
    return next((name for name, known in entries if definition(known) is entry), None)


def options(entry: Any) -> dict[str, dataclasses.Field]:
    """The options of an entry by name, in the order in which they may be given without names."""
    if isinstance(entry, Function):
        return dict(entry.options)
    return {field.name: field for field in dataclasses.fields(entry)}


def signature_options(function: Callable) -> dict[str, dataclasses.Field]:
    """The options of a function: its parameters whose defaults were made by `option`, by name."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if isinstance(parameter.default, dataclasses.Field):
            parameter.default.name = name
            found[name] = parameter.default
    return found


def definition(entry: Any) -> Any:
    """The class, or the function of a `Function`, that an entry is."""
    return entry.function if isinstance(entry, Function) else entry


def call(entry: Any) -> str:
    """How an entry is written, for example `power(rate, exponent, fixed=0.0)`."""
    fields = options(entry).values()
    parts = [x.name if _required(x) else f"{x.name}={_written(x.default)}" for x in fields]
    return name_of(entry) + (f"({', '.join(parts)})" if parts else "")


def summary(kind: str) -> str:
    """Help for a flag: for each entry of a kind how it is written, and the first line of its docstring.

    Also a line for each alias, and a line for each other kind that an option may be, with its entries.
    """
    found, lines, inner_kinds = KINDS[kind], [], []
    for entry in found.entries.values():
        first_line, _, _ = documentation(entry).partition("\n")
        lines.append(f"{call(entry)}: {first_line}")
        inner_kinds += [field.metadata["of"] for field in options(entry).values() if field.metadata["of"]]
    lines += [f"{name}: {longer}" for name, longer in found.aliases.items()]
    for inner in dict.fromkeys(inner_kinds):  # each once, in order
        lines.append(f"a {inner} is one of {', '.join(map(call, KINDS[inner].entries.values()))}")
    return "\n".join(lines)


def documentation(entry: Any) -> str:
    """The docstring of the class or the function that an entry is; "" if it has none."""
    return inspect.getdoc(definition(entry)) or ""


def required(kind: str, name: str, given: dict[str, Any]) -> list[str]:
    """The options of an entry that have no default and are not `given`."""
    fields = options(KINDS[kind].entries[name])
    return [one for one, field in fields.items() if _required(field) and one not in given]


def _required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def split(text: str, by: str = ",") -> tuple[str, ...]:
    """The parts of a list separated by commas, or by another letter, outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""  # `quote` is the quotation mark that is open
    for letter in text:
        if letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
        if not quote and letter in "([":
            depth += 1
        if not quote and letter in ")]":
            depth -= 1
        if letter == by and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip() for part in parts]
    last_comma = by == "," and len(parts) > 1 and not parts[-1]  # Python allows a comma at the end
    return tuple(parts[:-1] if last_comma else parts)


def read(kind: str, text: str, defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Any:
    """Makes what a text names, for example `fedbr(price(price=0.004), steps=50)`.

    The text is a call in Python's syntax, of registered names, numbers, strings and lists. Nothing is
    evaluated. A string in the place of numbers is the path of a file with a row for each agent: .npy, or text
    with commas.

    Args:
      kind: "payoff", "cost", "rule", "protocol" or "study".
      text: a name, or a name and options in brackets.
      defaults: name of an entry -> values of options that the text does not give.

    Returns:
      A payoff, cost, protocol or study with its numbers; a rule with its options.

    Raises:
      ValueError: the text cannot be read, or an option is unknown, missing or out of range; the message says
        what is allowed.
      FileNotFoundError: there is no such file of numbers.
    """
    return _made(kind, _parsed(text), defaults)


def text_of(thing: Any) -> str:
    """The text from which `read` makes the same thing; omits options that have their defaults."""
    return name_of(_entry(thing)) + in_brackets(changed(thing))


def changed(thing: Any) -> dict[str, Any]:
    """The options of a thing that differ from their defaults."""
    given = thing.given if isinstance(thing, Function) else vars(thing)
    found = {}
    for name, field in options(_entry(thing)).items():
        if name in given and not _same(given[name], field.default):
            found[name] = given[name]
    return found


def in_brackets(values: Mapping[str, Any]) -> str:
    """Options as they are written after a name, with brackets; "" if there are none."""
    if not values:
        return ""
    return f"({', '.join(f'{name}={_written(x)}' for name, x in values.items())})"


def title(thing: Any, label: str | None = None, hidden: Iterable[str] = ()) -> str:
    """How tables call a thing: its label, and options that are neither default nor `hidden`."""
    texts = [f"{name} = {_written(x)}" for name, x in changed(thing).items() if name not in hidden]
    return (label or thing.label) + (f" ({', '.join(texts)})" if texts else "")


def _entry(thing: Any) -> Any:
    """The entry that an instance belongs to: its class, or a `Function` itself."""
    return thing if isinstance(thing, Function) else type(thing)


def files(text: str) -> list[str]:
    """The files of numbers, and other strings, that a text for `read`, or a list of such texts, names."""
    nodes = (node for part in _parts(text) for node in ast.walk(part))
    return [x.value for x in nodes if isinstance(x, ast.Constant) and isinstance(x.value, str)]


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` if one of the known words is near, else nothing."""
    found = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _parsed(text: str) -> ast.expr:
    """The syntax tree of a text; a `ValueError` if it is none."""
    if not text.strip():
        raise ValueError("a name is missing")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.args[0] if error.args else "too long"
        raise ValueError(f"{text!r} cannot be read ({said}): write a name, or name(option=…)") from None


def _parts(text: str) -> list[ast.expr]:
    """The syntax trees of a list of texts separated by commas."""
    tree = _parsed(text)
    return tree.elts if isinstance(tree, ast.Tuple) else [tree]


def left_open(kind: str, text: str) -> tuple[str, dict[str, dataclasses.Field]]:
    """The name in a text for `read`, and the options that the text does not give; errors as `read`."""
    name, entry, given = _named(kind, _parsed(text))
    return name, {option: field for option, field in options(entry).items() if option not in given}


def _made(kind: str, node: ast.expr, defaults: Mapping[str, Mapping[str, Any]]) -> Any:
    """The thing that a piece of syntax names, with its options."""
    name, entry, given = _named(kind, node)
    known = options(entry)
    values = dict(defaults.get(name, {}))
    for key, part in given.items():
        values[key] = _value(name, known[key], part, defaults)
        if isinstance(values[key], np.ndarray) and not _is_family(entry):
            raise ValueError(f"{name}: `{key}` must be one number, got {ast.unparse(part)}")
    _check_complete(name, known, values)
    return entry.having(**values) if isinstance(entry, Function) else entry(**values)


def _is_family(entry: Any) -> bool:
    """Whether an entry is a family, whose options may have one number for each agent."""
    return dataclasses.is_dataclass(definition(entry)) and hasattr(definition(entry), "replace")


def _named(kind: str, node: ast.expr) -> tuple[str, Any, dict[str, ast.expr]]:
    """The name and the entry in a piece of syntax, with aliases resolved, and the syntax of its options."""
    found, call = KINDS[kind], _called(node)
    if not isinstance(call.func, ast.Name) or any(x.arg is None for x in call.keywords):
        raise ValueError(f"a {found.word} is written as a name, or name(option=…), got {ast.unparse(node)!r}")
    name = call.func.id
    if name in found.aliases:
        longer = _called(_parsed(found.aliases[name]))
        call = ast.Call(longer.func, longer.args + call.args, longer.keywords + call.keywords)
        name = longer.func.id
    if name not in found.entries:
        raise ValueError(
            f"there is no {found.word} {name!r}{near(name, [*found.entries, *found.aliases])} "
            f"(there are {', '.join(found.entries)}; others need --use=FILE.py)"
        )
    return name, found.entries[name], _bound(name, options(found.entries[name]), call)


def _has(known: Iterable[str]) -> str:
    return f"it has {', '.join(known)}" if known else "it has no options"


def _check_known(name: str, key: str, known: Iterable[str]) -> None:
    if key not in known:
        raise ValueError(f"{name} has no option {key!r}{near(key, known)} ({_has(known)})")


def _check_complete(name: str, known: Mapping[str, dataclasses.Field], values: Iterable[str]) -> None:
    for key, field in known.items():
        if key not in values and _required(field):
            raise ValueError(f"{name} needs `{key}`: {field.metadata.get('help', 'it has no default')}")


def _called(node: ast.expr) -> ast.Call:
    """A call as it is; a name as a call without options."""
    return node if isinstance(node, ast.Call) else ast.Call(node, [], [])


def _bound(name: str, known: dict[str, dataclasses.Field], call: ast.Call) -> dict[str, ast.expr]:
    """The arguments of a call by option; a `ValueError` if they are too many, unknown or repeated."""
    if len(call.args) > len(known):
        raise ValueError(f"{name} has no {len(call.args)} options: {_has(known)}")
    bound = dict(zip(known, call.args, strict=False))
    for keyword in call.keywords:
        _check_known(name, keyword.arg, known)
        if keyword.arg in bound:
            raise ValueError(f"{name}: `{keyword.arg}` is given twice")
        bound[keyword.arg] = keyword.value
    return bound


def _value(name: str, field: dataclasses.Field, node: ast.expr, defaults: Mapping[str, Any]) -> Any:
    """The value of an option, checked."""
    what, of = f"{name}: `{field.name}`", field.metadata.get("of")
    return _made(of, node, defaults) if of else checked(what, _literal(node, what), field)


def checked(what: str, value: Any, field: dataclasses.Field) -> Any:
    """The value of an option, converted to the option's type, or a `ValueError`.

    Args:
      what: how messages call the option.
      value: as it was written: a number, text, boolean, array or None; text in place of numbers is a path.
      field: made by `option`.
    """
    kind = field.metadata.get("kind") or type(field.default)
    if value is None and field.default is None:
        return None
    if kind in (bool, str):
        allowed = ("True", "False") if kind is bool else choices(field)
        if not isinstance(value, kind) or (allowed and str(value) not in allowed):
            words = f"one of {', '.join(allowed)}" if allowed else "text"
            raise ValueError(f"{what} must be {words}, got {value!r}{near(str(value), allowed)}")
        return value
    if isinstance(field.default, tuple):
        return _several(field, value, what)
    if isinstance(value, str):
        value = _numbers_in(value, what)
    elif isinstance(value, bool) or value is None:
        raise ValueError(f"{what} must be a number, got {value!r}")
    elif isinstance(value, int) and (kind is not int or abs(value) >= 2**63):
        value = float(str(value))  # one that is beyond all floats becomes infinite
    check_number(what, value, field)
    if kind is int and not isinstance(value, int):
        raise ValueError(f"{what} must be a whole number, got {value!r}")
    return value


def _several(field: dataclasses.Field, value: Any, what: str) -> tuple[Any, ...]:
    """The value of an option that takes one or several numbers, as a tuple."""
    numbers, kind = np.atleast_1d(value), field.metadata["kind"]
    if numbers.dtype.kind not in "iuf" or numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"{what} must be a list of numbers, got {value!r}")
    check_number(what, numbers, field)
    if kind is int and np.any(numbers != np.rint(numbers)):
        raise ValueError(f"{what} must be whole numbers, got {value}")
    return tuple(kind(x) for x in numbers)


def _literal(node: ast.expr, what: str) -> Any:
    """A number, text, True, False or None; or the numbers of a list, or of lists in it, as an array."""
    try:
        return _constant(node)
    except (TypeError, ValueError, OverflowError):
        quotes = ", and text stands in quotes" if isinstance(node, ast.Name) else ""
        wanted = f"{what} must be a number, text or a list of numbers, got {ast.unparse(node)}{quotes}"
        raise ValueError(wanted) from None


def _constant(node: ast.expr) -> Any:
    """As `_literal`, but raises whatever is wrong."""
    match node:
        case ast.Name(id="inf" | "nan"):
            return float(node.id)
        case ast.Constant(value=str() | int() | float() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub()):
            return -_number(node.operand)
        case ast.List() | ast.Tuple() if node.elts:
            return np.asarray([_number(x) for x in node.elts], float)
    raise TypeError


def _number(node: ast.expr) -> Any:
    """A number, or the array of a list; a `TypeError` for other syntax."""
    value = _constant(node)
    if isinstance(value, str | bool | None):
        raise TypeError
    return value


def _numbers_in(path: str, what: str) -> np.ndarray:
    """The numbers of a file, one row per agent; a file of one column gives [n]."""
    file = pathlib.Path(os.path.expanduser(path))
    if not file.is_file():
        raise FileNotFoundError(f"{what}: there is no file {path}")
    try:
        if file.suffix == ".npy":
            found = np.asarray(np.load(file, allow_pickle=False), float)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy warns of an empty file, which is refused below
                found = np.loadtxt(file, delimiter=",", ndmin=2, encoding="utf-8-sig")
            if found.shape[1:] == (1,):
                found = found[:, 0]
        if not found.size:
            raise ValueError("it is empty")
        return found
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{what}: {path} must hold numbers only, separated by commas: {error}") from None


def _same(a: Any, b: Any) -> bool:
    """Whether two values of an option are written as the same, as 1 and 1.0 are, but not 1 and True."""
    if name_of(_entry(a)) and name_of(_entry(b)):
        return text_of(a) == text_of(b)
    if a is b:
        return True
    both_numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return (both_numbers or type(a) is type(b)) and np.array_equal(a, b)


def _written(value: Any) -> str:
    """A value in the syntax that `read` reads."""
    if isinstance(value, Function) or name_of(type(value)):
        return text_of(value)
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        value = np.asarray(value).tolist()
    return repr(value)


def use(path: str) -> None:
    """Imports a Python file that registers more. Does nothing if it was imported and has not changed since.

    If the file has changed, forgets the names that it registered before. If the import fails, restores
    everything. `used` lists the files.

    Raises:
      ValueError: it cannot be imported; the message names file and line.
      FileNotFoundError: there is no such file.
    """
    file = pathlib.Path(os.path.expanduser(path))
    if not file.is_file():
        raise FileNotFoundError(f"--use={path}: there is no such file")
    if file.suffix != ".py":
        raise ValueError(f"--use={path}: the name of a Python file ends in .py")
    for other in [x for x in _USED if pathlib.Path(x).stem == file.stem]:
        if pathlib.Path(os.path.expanduser(other)).resolve() != file.resolve():
            raise ValueError(f"--use={path}: --use={other} has the same name, and names must differ")
        path = other  # the same file, under the path by which it was given first
    source = file.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    if _USED.get(path) == digest:
        return
    name = f"used_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module, module_before = importlib.util.module_from_spec(spec), sys.modules.get(name)
    state = [_USED] + [names for kind in KINDS.values() for names in (kind.entries, kind.aliases)]
    state_before = [dict(names) for names in state]
    _forget(name)
    sys.modules[name] = module  # `Protocol.identity` reads the source of modules there
    problem = _problem(module, source, spec.origin)
    if problem:
        sys.modules.pop(name)
        if module_before is not None:
            sys.modules[name] = module_before
        for names, names_before in zip(state, state_before, strict=True):
            names.clear()
            names.update(names_before)
        raise ValueError(f"--use={path}{problem}")
    _USED[path] = digest


def _problem(module: ModuleType, source: bytes, file: str) -> str:
    """Runs the source of a module; returns what went wrong, with the line, or "" if nothing did."""
    others = dict(_USED)
    try:
        # Not by the module's loader, which would reuse bytecode of an earlier source of the same length, if
        # both were written in the same second.
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        said = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
        return f"{_line(error, file)}: {type(error).__name__}: {said}"
    entries = (entry for kind in KINDS.values() for entry in kind.entries.values())
    if others == _USED and all(_origin(entry)[0] != module.__name__ for entry in entries):
        return ' registers nothing: write @fg.register("name") above a class or a function'
    return ""


def _forget(module: str) -> None:
    """Removes the names that a module has registered, and the aliases of them."""
    for kind in KINDS.values():
        gone = {name for name, entry in kind.entries.items() if _origin(entry)[0] == module}
        for alias in [x for x in kind.aliases if _stands_for(x, kind) in gone]:
            del kind.aliases[alias]
        for name in gone:
            del kind.entries[name]


_USED: dict[str, str] = {}


def used() -> dict[str, str]:
    """The files that `use` has imported, and the SHA-256 of each."""
    return dict(_USED)


def file_of(entry: Any) -> str | None:
    """The file imported by `use` that defines a class or a `Function`, or None."""
    modules = {f"used_{pathlib.Path(path).stem}": path for path in _USED}
    return modules.get(_origin(entry)[0])


def _line(error: BaseException, file: str) -> str:
    """Where in the file an error was raised, as ", line 3"; "" if it is not known."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f", line {error.lineno}"
    lines = [x.lineno for x in traceback.extract_tb(error.__traceback__) if x.filename == file]
    return f", line {lines[-1]}" if lines else ""
