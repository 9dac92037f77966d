"""Numbers as people read them."""


def counted(n: int, noun: str) -> str:
    """A number with its noun: "1 shard", "1,200 shards"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
