"""When memory that was freed goes back to the system: between shards, and not within one.

glibc keeps what numpy and delta-rs free, one arena for each of several threads: half a gigabyte
after a few shards, which stood beside what polars keeps in an allocator of its own. Within a shard
it gives large arrays back one by one, and whoever makes the next pays for each of its pages again:
a quarter of the time of chunking.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

# M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h, and bytes. The second is what glibc
# goes up to by itself, once a block of that size was freed; it then takes twice as much for the
# first, which is less than what one call of the chunker needs.
_KEPT = {-1: 128 << 20, -3: 32 << 20}


@cache
def keep_freed_memory() -> None:
    """Let this process use freed memory again until `give_back_freed_memory`."""
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        for option, n_bytes in _KEPT.items():
            set_option(option, n_bytes)


def give_back_freed_memory() -> None:
    """Return free pages to the system."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    """One of its functions; None where the C library is another."""
    if sys.platform != "linux":
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
