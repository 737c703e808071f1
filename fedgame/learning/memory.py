"""What fits into the memory of this machine."""

import math
import os

import jax


def of_machine() -> float:
    """Bytes of memory; infinite where the system cannot be asked, as on Windows: allocation itself fails."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, TypeError, OSError, ValueError):
        return math.inf


def of_device() -> float:
    """Bytes of memory of the device that computes; of a CPU, those of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return float(stats.get("bytes_limit", of_machine()))


def check(what: str, needed: int) -> None:
    """Refuses what cannot be held, before anything is allocated: a system may end a process without a word.

    Args:
      what: subject of the sentence, in the plural.
      needed: bytes.

    Raises:
      ValueError: they are more than this machine has.
    """
    if needed > of_machine():
        raise ValueError(
            f"{what} need {size(needed)} of memory, and this machine has {size(of_machine())}: use fewer, or "
            "smaller ones"
        )


def size(number: float) -> str:
    """A number of bytes in words."""
    return f"{number / 1e9:,.3g} GB" if number < 1e12 else f"{number / 1e9:,.0f} GB"
