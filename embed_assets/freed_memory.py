"""Memory that was freed goes back to the system.

glibc keeps what numpy and delta-rs free, one arena for each of several threads: half a gigabyte
after a few shards, which stood beside what polars keeps in an allocator of its own.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back_freed_memory() -> None:
    """Return free pages to the system. Does nothing where the C library is another."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
