"""Whether what is asked for fits into memory: rough estimates, refused before anything is computed."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedgame.learning import layers, local, memory, models

_COPIES = 4  # of a model that an agent trains: its parameters, momentum, gradient and change
_ACTIVATIONS = 3  # times the largest array of a forward pass; measured: 18 GB for patches of 5.8 GB


class Records(NamedTuple):
    """What is trained on."""

    shape: tuple[int, ...]  # of one record
    owners: int  # who train
    most: int  # records of the owner who has most
    loaded: int  # of all owners, the server included, and those that are tested on


def check(what: str, parts: Mapping[str, float]) -> None:
    """Refuses what takes more memory than there is.

    Args:
      what: takes the memory, for the message.
      parts: bytes by the flags that they depend on.

    Raises:
      ValueError: names the flags of the largest part, the estimate and what is available.
    """
    needed, there = sum(parts.values()), memory.of_device()
    if needed <= there:
        return
    flags = max(parts, key=lambda name: parts[name])
    raise ValueError(
        f"{flags}: {what} would take about {memory.size(needed)} of memory, and there are "
        f"{memory.size(there)}: choose a smaller number"
    )


def check_training(
    settings: Any, model: nn.Module, options: local.LocalTraining, records: Records, workers: int = 1
) -> None:
    """Refuses models, batches or data that do not fit into memory.

    Args:
      settings: of the model, for the names of flags.
      model: the network.
      options: local training.
      records: what is trained on.
      workers: training runs at a time.

    Raises:
      ValueError: as `check`.
    """
    batch = max(1, min(options.batch_size, records.most))
    parameters, largest = _entries(model, records.shape, batch)
    at_once = workers * (1 if layers.one_by_one(options.lowering) else records.owners)
    dealt = workers * records.owners * records.most + records.loaded
    wide = [f"--{name}" for name in ("channels", "units") if getattr(settings, name) is not None]
    widths = ", ".join(wide) or f"--model={settings.model}"
    usual = batch <= local.LocalTraining().batch_size
    parts = {widths: parameters * (2 + _COPIES * at_once)}
    of_batch = widths if usual else f"--batch_size={options.batch_size}"
    parts[of_batch] = parts.get(of_batch, 0.0) + _ACTIVATIONS * largest * at_once
    parts["--agents, --capacity"] = dealt * math.prod(records.shape)
    check("training", {flags: 4.0 * number for flags, number in parts.items()})  # of float32


@functools.lru_cache(maxsize=8)  # a sweep asks again for each of its variants
def _entries(model: nn.Module, shape: tuple[int, ...], batch: int) -> tuple[float, float]:
    """The numbers of entries of a model's parameters, and of the largest array between input and output."""
    params = jax.eval_shape(lambda: models.initial_parameters(model, jax.random.key(0), shape))
    records = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    parameters = float(sum(math.prod(x.shape) for x in jax.tree.leaves(params)))
    return parameters, _largest(jax.make_jaxpr(model.apply)(params, records).jaxpr)


def _largest(jaxpr: Any) -> float:
    """The number of entries of the largest array that a program computes, also in programs inside."""
    sizes = [0.0]
    for equation in jaxpr.eqns:
        sizes += [float(math.prod(x.aval.shape)) for x in equation.outvars if hasattr(x.aval, "shape")]
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)  # of a closed one
            if hasattr(inner, "eqns"):
                sizes.append(_largest(inner))
    return max(sizes)
