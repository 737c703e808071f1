"""What fits into the memory of this machine."""

import math
import os

# Systems without sysconf (Windows) are not asked: there, the allocation itself fails.
_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf


def check(what: str, needed: int) -> None:
    """Refuses what cannot be held, before anything is allocated: a system may end a process without a word.

    Args:
      what: subject of the sentence, in the plural.
      needed: bytes.

    Raises:
      ValueError: they are more than this machine has.
    """
    if needed > _BYTES:
        raise ValueError(
            f"{what} need {needed / 2**30:.3g} GiB of memory, and this machine has {_BYTES / 2**30:.3g}: "
            "use fewer, or smaller ones"
        )
