"""What people name, and what a parameter says of itself.

`option` says default, range, rank and help of a parameter once: checks, flags, JSON, columns and help read
it. `register` gives a name to a payoff, cost, mechanism, rule, protocol or study; `read` makes one from the
text in which people name it; `use` imports a file that registers more.
"""

import ast
import dataclasses
import difflib
import hashlib
import importlib.util
import inspect
import math
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
      of: it is no number but a thing of this kind that people name, "rule" for example.
    """
    metadata = {
        **{"help": help, "low": low, "high": high, "above": above, "below": below, "infinite": infinite},
        **{"rank": rank, "pytree_node": not static, "choices": choices},
        "kind": kind or type(default[0] if isinstance(default, tuple) and default else default),
        "of": of,
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
    allowed = field.metadata.get("choices", ())
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
    raise ValueError(f"{name} must be {allowed(field)}, got {number}")


def allowed(field: dataclasses.Field) -> str:
    """The numbers that a field made by `option` allows, in words."""
    limits = field.metadata
    ends = [f"greater than {limits['above']}"] if limits["above"] > -math.inf else []
    ends += [f"at least {limits['low']}"] if limits["low"] > -math.inf else []
    ends += [f"at most {limits['high']}"] if limits["high"] < math.inf else []
    ends += [f"less than {limits['below']}"] if limits["below"] < math.inf else []
    return "a number" + (f", {' and '.join(ends)}" if ends else "")


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


class Kind(NamedTuple):
    """What people name: payoffs, costs, rules, protocols, studies."""

    word: str  # what one of them is called
    entries: dict[str, Any]  # by name: a class, or a `Function`
    aliases: dict[str, str]  # by name: a longer text that it stands for
    make: Callable[..., tuple[Any, Any]]  # name, label, thing, more -> its entry, and what `register` returns


KINDS: dict[str, Kind] = {}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Function:
    """A function that has a name, and the options that were given to it."""

    name: str
    label: str
    function: Callable
    options: Mapping[str, dataclasses.Field]
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return text_of(self)

    def having(self, **options: Any) -> Any:
        """The same function with these options; a `ValueError` if one is not there, or out of range."""
        for name, value in options.items():
            _check_known(self.name, name, self.options)
            if isinstance(value, int | float):
                check_number(f"{self.name}: `{name}`", value, self.options[name])
        return dataclasses.replace(self, given={**self.given, **options})

    @property
    def values(self) -> dict[str, Any]:
        """All options: as given, else their defaults; a `ValueError` if one has neither."""
        _check_complete(self.name, self.options, self.given)
        return {name: self.given.get(name, field.default) for name, field in self.options.items()}


def kind(word: str, make: Callable[..., tuple[Any, Any]], *others: str) -> dict[str, Any]:
    """Makes a kind, and returns the dictionary of its entries; `others` are kinds that have the same one."""
    made = Kind(word, {}, {}, make)
    for one in (word, *others):
        KINDS[one] = made
    return made.entries


def a_family(name: str, label: str, cls: type) -> tuple[type, type]:
    """`make` of kinds whose classes are families of numbers, see `family`."""
    cls = cls if "__dataclass_fields__" in vars(cls) else family(cls)
    cls.label = label
    return cls, cls


def a_choice(name: str, label: str, cls: type) -> tuple[type, type]:
    """`make` of kinds whose classes are frozen dataclasses of what people chose, compared by identity."""
    cls = cls if "__dataclass_fields__" in vars(cls) else dataclasses.dataclass(frozen=True, eq=False)(cls)
    cls.label = label
    return cls, cls


def register(
    name: str, label: str | None = None, aliases: Mapping[str, str] = MappingProxyType({}), **more: Any
) -> Callable[[Any], Any]:
    """Gives a name to a payoff, cost, mechanism, protocol or study, or to a function that is a rule.

    A decorator. Classes become dataclasses, whose fields `option` makes; a function becomes a rule. From then
    on the name can be written on the command line, in JSON and in `read`, and help, columns, reference and
    conformance tests have it.

    Args:
      name: as people write it.
      label: as tables and figures call it; by default the name, with spaces.
      aliases: shorter names, and what each stands for.
      **more: what is known of rules only, see `mechanisms.base.Rule`.

    Raises:
      ValueError: the name or an alias is none, or is that of something else.
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
    """Refuses a class without what has to be defined, and options that cannot be told from something else."""
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
    """Says of a method of a base that whoever derives from it has to define it; a decorator."""
    method.needed = True
    return method


def _stands_for(name: str, kind: Kind) -> str:
    """The name of an entry that an alias stands for; other names stand for themselves."""
    return ast.unparse(_called(_parsed(kind.aliases[name])).func) if name in kind.aliases else name


def _origin(entry: Any) -> tuple[str, str]:
    """Module and name in it: what a notebook's cell defines again replaces what it defined before."""
    return definition(entry).__module__, definition(entry).__qualname__


def name_of(entry: Any) -> str | None:
    """The name under which a class is registered, or a `Function`; None if it is not."""
    if isinstance(entry, Function):
        return entry.name
    entries = (pair for kind in KINDS.values() for pair in kind.entries.items())
    return next((name for name, known in entries if definition(known) is entry), None)


def options(entry: Any) -> dict[str, dataclasses.Field]:
    """What can be given in brackets after the name of an entry, in order."""
    if isinstance(entry, Function):
        return dict(entry.options)
    return {field.name: field for field in dataclasses.fields(entry)}


def signature_options(function: Callable) -> dict[str, dataclasses.Field]:
    """The parameters of a function whose defaults `option` made, by name."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if isinstance(parameter.default, dataclasses.Field):
            parameter.default.name = name
            found[name] = parameter.default
    return found


def definition(entry: Any) -> Any:
    """The class or the function that an entry is."""
    return entry.function if isinstance(entry, Function) else entry


def call(entry: Any) -> str:
    """How an entry is written, for example `power(rate, exponent, fixed=0.0)`."""
    fields = options(entry).values()
    parts = [x.name if _required(x) else f"{x.name}={_written(x.default)}" for x in fields]
    return name_of(entry) + (f"({', '.join(parts)})" if parts else "")


def summary(kind: str) -> str:
    """A line for each entry of a kind: how it is written, and the first sentence about it; help of flags.

    And a line for each alias, and for each other kind of which an option is one.
    """
    found = KINDS[kind]
    lines = [f"{call(x)}: {documentation(x).partition(chr(10))[0]}" for x in found.entries.values()]
    lines += [f"{name}: {longer}" for name, longer in found.aliases.items()]
    fields = (field for entry in found.entries.values() for field in options(entry).values())
    for inner in dict.fromkeys(x.metadata["of"] for x in fields if x.metadata["of"]):
        lines.append(f"a {inner} is one of {', '.join(map(call, KINDS[inner].entries.values()))}")
    return "\n".join(lines)


def documentation(entry: Any) -> str:
    """The docstring of the class or the function that an entry is; "" if it has none."""
    return inspect.getdoc(definition(entry)) or ""


def _required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def split(text: str, by: str = ",") -> tuple[str, ...]:
    """The parts of a list, which are separated by commas, or another letter, outside of brackets."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
        if not quote:
            depth += (letter in "([") - (letter in ")]")
        if letter == by and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip() for part in parts]
    last_comma = by == "," and len(parts) > 1 and not parts[-1]  # which Python allows
    return tuple(parts[:-1] if last_comma else parts)


def read(kind: str, text: str, defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Any:
    """What a text names, for example `fedbr(price(price=0.004), steps=50)`.

    Python's call syntax: registered names, numbers, strings, lists. Nothing is evaluated. A string in the
    place of numbers is the name of a file with a row for each agent: .npy, or text with commas.

    Args:
      kind: "payoff", "cost", "rule", "protocol" or "study".
      text: a name, or a name and options in brackets.
      defaults: by name of an entry, options that count where the text gives none.

    Returns:
      A payoff, cost, protocol or study with its numbers; a rule with its options.

    Raises:
      ValueError: says what is wrong, what is allowed, and what is near.
      FileNotFoundError: there is no such file of numbers.
    """
    return _made(kind, _parsed(text), defaults)


def text_of(thing: Any) -> str:
    """The text that `read` reads as the same thing, without options that have their defaults."""
    return name_of(_entry(thing)) + in_brackets(changed(thing))


def changed(thing: Any) -> dict[str, Any]:
    """The options of a thing that differ from their defaults."""
    given = thing.given if isinstance(thing, Function) else vars(thing)
    known = options(_entry(thing)).items()
    return {x: given[x] for x, field in known if x in given and not _same(given[x], field.default)}


def in_brackets(values: Mapping[str, Any]) -> str:
    """Options as they are written after a name; nothing if there are none."""
    return f"({', '.join(f'{name}={_written(x)}' for name, x in values.items())})" if values else ""


def title(thing: Any, label: str | None = None, hidden: Iterable[str] = ()) -> str:
    """What tables call a thing: its label, and options that differ from their defaults but for the hidden."""
    texts = [f"{name} = {_written(x)}" for name, x in changed(thing).items() if name not in hidden]
    return (label or thing.label) + (f" ({', '.join(texts)})" if texts else "")


def _entry(thing: Any) -> Any:
    return thing if isinstance(thing, Function) else type(thing)


def files(text: str) -> list[str]:
    """The files of numbers that a spec names, or a list of specs."""
    constants = (x for part in _parts(text) for x in ast.walk(part) if isinstance(x, ast.Constant))
    return [x.value for x in constants if isinstance(x.value, str)]


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` if one of the known words is near, else nothing."""
    found = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _parsed(text: str) -> ast.expr:
    if not text.strip():
        raise ValueError("a name is missing")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.args[0] if error.args else "too long"
        raise ValueError(f"{text!r} cannot be read ({said}): write a name, or name(option=…)") from None


def _parts(text: str) -> list[ast.expr]:
    tree = _parsed(text)
    return tree.elts if isinstance(tree, ast.Tuple) else [tree]


def left_open(kind: str, text: str) -> tuple[str, dict[str, dataclasses.Field]]:
    """The name in a text, and by name the options that the text does not give; errors as `read`."""
    name, entry, given = _named(kind, _parsed(text))
    return name, {option: field for option, field in options(entry).items() if option not in given}


def _made(kind: str, node: ast.expr, defaults: Mapping[str, Mapping[str, Any]]) -> Any:
    """What a piece of syntax names, with its options."""
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
    """Whether options may have one number for each agent."""
    return dataclasses.is_dataclass(definition(entry)) and hasattr(definition(entry), "replace")


def _named(kind: str, node: ast.expr) -> tuple[str, Any, dict[str, ast.expr]]:
    """The name and the entry in a piece of syntax, aliases resolved, and what it gives of the options."""
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
    return node if isinstance(node, ast.Call) else ast.Call(node, [], [])


def _bound(name: str, known: dict[str, dataclasses.Field], call: ast.Call) -> dict[str, ast.expr]:
    """The arguments of a call by option."""
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
    """The value of an option as it was written, a number in the type it has, or a `ValueError`."""
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
    """The value of an option that is any number of numbers."""
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
    """Also those of a list."""
    value = _constant(node)
    if isinstance(value, str | bool | None):
        raise TypeError
    return value


def _numbers_in(path: str, what: str) -> np.ndarray:
    """The numbers of a file, one row per agent; a file of one column gives [n]."""
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{what}: there is no file {path}")
    try:
        if file.suffix == ".npy":
            found = np.asarray(np.load(file, allow_pickle=False), float)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an empty file
                found = np.loadtxt(file, delimiter=",", ndmin=2, encoding="utf-8-sig")
            found = found[:, 0] if found.shape[1:] == (1,) else found
        if not found.size:
            raise ValueError("it is empty")
        return found
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{what}: {path} must hold numbers only, separated by commas: {error}") from None


def _same(a: Any, b: Any) -> bool:
    """Whether two values are the same to whoever writes them."""
    if name_of(_entry(a)) and name_of(_entry(b)):
        return text_of(a) == text_of(b)
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return a is b or ((numbers or type(a) is type(b)) and np.array_equal(a, b))


def _written(value: Any) -> str:
    """A value as `read` reads it."""
    if isinstance(value, Function) or name_of(type(value)):
        return text_of(value)
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        value = np.asarray(value).tolist()
    return repr(value)


def use(path: str) -> None:
    """Imports a file that registers more; once, as long as its text stays the same. `used` lists them.

    Names that an earlier text of the file registered are gone, and a file that cannot be imported leaves
    everything as it was.

    Raises:
      ValueError: it cannot be imported; one sentence with file and line.
      FileNotFoundError: there is no such file.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"--use={path}: there is no such file")
    if file.suffix != ".py":
        raise ValueError(f"--use={path}: the name of a Python file ends in .py")
    for other in [x for x in _USED if pathlib.Path(x).stem == file.stem]:
        if pathlib.Path(other).resolve() != file.resolve():
            raise ValueError(f"--use={path}: --use={other} has the same name, and names must differ")
        path = other  # one file, however it is written
    source = file.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    if _USED.get(path) == digest:
        return
    name = f"used_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module, before = importlib.util.module_from_spec(spec), sys.modules.get(name)
    known = [(x, dict(x)) for kind in KINDS.values() for x in (kind.entries, kind.aliases)]
    known.append((_USED, dict(_USED)))
    _forget(name)
    sys.modules[name] = module  # `Protocol.identity` looks for the text of modules there
    if problem := _problem(module, source, spec.origin):
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        for names, those_before in known:
            names.clear()
            names.update(those_before)
        raise ValueError(f"--use={path}{problem}")
    _USED[path] = digest


def _problem(module: ModuleType, source: bytes, file: str) -> str:
    """Runs the text of a module, and says what went wrong; "" if nothing did."""
    others = dict(_USED)
    try:
        # Not by its loader, which may take the bytecode of a text of the same length and second for this one.
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        said = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
        return f"{_line(error, file)}: {type(error).__name__}: {said}"
    entries = (entry for kind in KINDS.values() for entry in kind.entries.values())
    if others == _USED and all(_origin(entry)[0] != module.__name__ for entry in entries):
        return ' registers nothing: write @fg.register("name") above a class or a function'
    return ""


def _forget(module: str) -> None:
    """Takes away the names that a module has registered."""
    for kind in KINDS.values():
        gone = {name for name, entry in kind.entries.items() if _origin(entry)[0] == module}
        for alias in [x for x in kind.aliases if _stands_for(x, kind) in gone]:
            del kind.aliases[alias]
        for name in gone:
            del kind.entries[name]


_USED: dict[str, str] = {}


def used() -> dict[str, str]:
    """The files that were imported by `use`, and the SHA-256 of each."""
    return dict(_USED)


def file_of(entry: Any) -> str | None:
    """The file given to `use` that defines a class or a `Function`, or None."""
    modules = {f"used_{pathlib.Path(path).stem}": path for path in _USED}
    return modules.get(_origin(entry)[0])


def _line(error: BaseException, file: str) -> str:
    """Where in the file it went wrong, if that can be told."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f", line {error.lineno}"
    lines = [x.lineno for x in traceback.extract_tb(error.__traceback__) if x.filename == file]
    return f", line {lines[-1]}" if lines else ""
