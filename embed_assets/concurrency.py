"""How much goes on at once on this machine, by the size of a shard."""

import os

# Text that is in work at once; a shard may be larger. Chunking takes some twenty times that.
_BYTES_AT_ONCE = 64 << 20
# A third of chunking is Python, of which only one thread runs at a time: more threads only wait.
_CHUNKING_THREADS = 3


def shards_at_once(shard_bytes: int) -> int:
    """How many shards of about that size are in work together."""
    return max(1, min(usable_cores(), _BYTES_AT_ONCE // shard_bytes))


def shards_read_at_once(shard_bytes: int) -> int:
    """How many of them are read from files: one is, while another is written."""
    return min(2, shards_at_once(shard_bytes))


def chunking_threads(shard_bytes: int) -> int:
    """How many threads chunk each of them.

    Where every core has a shard, a second thread each made nothing faster and took a sixth more
    memory.
    """
    return max(1, min(_CHUNKING_THREADS, usable_cores() // shards_at_once(shard_bytes)))


def usable_cores() -> int:
    """Logical CPUs that this process may run on."""
    # macOS has no affinity.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
