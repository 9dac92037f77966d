"""Numbers and settings as people read them."""

import re

_COMMIT = re.compile(r"[0-9a-f]{40}")


def counted(n: int, noun: str) -> str:
    """A number with its noun: "1 shard", "1,200 shards"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def setting_value(value: object) -> str:
    """A setting's value; a text in quotes, a commit in short."""
    if value is None:
        return "default"
    text = str(value)
    if _COMMIT.fullmatch(text):
        return text[:8]
    return repr(text) if isinstance(value, str) and not text.isidentifier() else text
