"""Flags from the fields of settings, and how every script starts."""

import dataclasses
import importlib.metadata
import itertools
import os
import pathlib
import sys
from typing import Any

import jax
from absl import flags, logging

from fedgame import registry
from fedgame.runs import settings as all_settings
from launch import CACHE

jax.config.update("jax_enable_x64", True)  # for equilibria and files of --use; networks stay in float32

USE = flags.DEFINE_multi_string(
    "use", [], "FILE.py: a file of yours that registers payoffs, costs, rules, protocols or studies"
)


def define(settings: type) -> None:
    """Defines a flag for every field, with its default and help; `runs.settings.check` checks ranges.

    Files given to --use are imported first, so that help shows what they add.
    """
    use_files()
    for field in dataclasses.fields(settings):
        name, default, about = field.name, field.default, field.metadata["help"]
        kind = field.metadata["kind"]
        if of := field.metadata["of"]:
            text = ", ".join(default) if isinstance(default, tuple) else default
            flags.DEFINE_string(name, text, f"{about}\n{registry.summary(of)}")
        elif "tuple" in str(field.type):
            text = None if default is None else [str(x) for x in default]
            what = "names" if kind is str else "numbers"
            flags.DEFINE_list(name, text, f"{about} ({what} separated by commas)")
        elif choices := registry.choices(field):
            flags.DEFINE_string(name, default, f"{about}: {', '.join(choices)}")
        elif kind is bool:
            flags.DEFINE_bool(name, default, about)
        elif "str" in str(field.type):
            flags.DEFINE_string(name, default, about)
        elif kind is int:
            flags.DEFINE_integer(name, default, about)
        else:
            flags.DEFINE_float(name, default, about)


def given(flag: str) -> list[str]:
    """The values of a flag on the command line and in flag files, before any flag is defined."""
    words = sys.argv[1:]
    try:
        words = flags.FLAGS.read_flags_from_files(words)
    except UnicodeDecodeError:
        sys.exit("error: --flagfile: a file is not text in UTF-8")
    except flags.Error:  # absl reports them when it reads the flags
        pass
    found = []
    for word, next_word in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.lstrip("-").partition("=")
        if name == flag and word.startswith("-"):
            found.append(value if equals else next_word)  # --NAME=VALUE or --NAME VALUE
    return found


def use_files() -> None:
    """Imports the files of --use, before other flags are defined."""
    for path in given("use"):
        try:
            registry.use(path)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")


def compile_quickly() -> None:
    """Has XLA compile in half the time, for programs that run a third slower; no effect on GPUs and TPUs.

    For commands that solve a few games. To be called before JAX computes anything. Other versions of jaxlib
    may not know the setting, and would end there.
    """
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        told = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"--xla_cpu_use_fusion_emitters=false {told}".strip()


def use_processors(number: int | None) -> None:
    """Makes processors devices of their own; no effect on GPUs.

    Args:
      number: how many; None: all of them, unless the environment says another number.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    told = told or "JAX_NUM_CPU_DEVICES" in os.environ
    if number or not told:
        try:
            jax.config.update("jax_num_cpu_devices", number or os.cpu_count() or 1)
        except RuntimeError:  # too late: JAX has computed something
            sys.exit(f"error: {' '.join(USE.value)} must not compute with JAX while it is imported")


def check_devices() -> None:
    """Has JAX look for its devices.

    Raises:
      ValueError: there are none of the kind that the environment asks for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.jax_platforms
        reason = str(error) or "there are none of this kind"
        raise ValueError(f"JAX finds no devices (JAX_PLATFORMS={asked}): {reason}") from None


def read(settings: type) -> Any:
    """The settings that the flags describe.

    Raises:
      ValueError: a list holds something that is not a number.
    """
    values = {}
    for field in dataclasses.fields(settings):
        values[field.name] = _converted(field, flags.FLAGS[field.name].value)
    return all_settings.expanded(settings(**values))


def parse(settings: type, name: str, text: str) -> Any:
    """The value that the field `name` would have with --NAME=TEXT.

    Raises:
      ValueError: the flag has no such value.
    """
    (field,) = (field for field in dataclasses.fields(settings) if field.name == name)
    value = _converted(field, flags.FLAGS[name].parser.parse(text))
    return os.path.expanduser(value) if field.metadata["kind"] is pathlib.Path else value


def _converted(field: dataclasses.Field, value: Any) -> Any:
    """The value of a setting from that of its flag.

    Raises:
      ValueError: a list holds something that is not a number.
    """
    if field.metadata["of"] and value is not None and "tuple" in str(field.type):
        parts = list(registry.split(value)) if value.strip() else []
        if field.metadata["kind"] is str:
            return tuple(parts)
        is_text = len(parts) == 1 and parts[0][:1].isidentifier()  # 'power(0.1)', not '0.1' or '0.1,0.2'
        return value if is_text else _numbers(field, parts)
    return _numbers(field, value) if isinstance(value, list) else value


def _numbers(field: dataclasses.Field, parts: list[str]) -> tuple[Any, ...]:
    """The numbers of a setting from their texts."""
    try:
        return tuple(field.metadata["kind"](x) for x in parts)
    except ValueError:
        kind = "whole numbers" if field.metadata["kind"] is int else "numbers"
        raise ValueError(
            f"--{field.name} must be {kind} separated by commas, got {','.join(parts)}"
        ) from None


def start(argv: list[str]) -> None:
    """What every launch script does first: makes libraries quiet and sets up the compilation cache.

    Raises:
      ValueError: a word on the command line belongs to no flag or is no text, or a file of --use cannot be
        imported.
      FileNotFoundError: there is no such file.
    """
    for word in sys.argv:
        if word.encode(errors="replace").decode() != word:  # results and messages could not be written
            raise ValueError(f"a flag must be text in UTF-8, not {word!a}")
    if len(argv) > 1:
        raise ValueError(f"not a flag: {argv[1]!r}; flags are written --name=value")
    for path in USE.value:
        registry.use(path)  # again, for scripts whose flags are their own
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)  # without what libraries tell of their work
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(CACHE / "jax"))
        # By default only programs that took a second to compile are kept, and most of ours take less.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
