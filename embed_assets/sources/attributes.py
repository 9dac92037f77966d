"""Column values -> what JSON can hold: the `attributes` of a document."""

import math
from collections.abc import Mapping

from embed_assets.sources.decoding import without_surrogates
from embed_assets.sources.refusal import Refusal

# Python's JSON writer and our own recursion fail near 1000; nobody means more than a few dozen.
_MAX_DEPTH = 100


def attributes_of(record: Mapping[str, object]) -> dict[str, object]:
    """The record with every value as JSON knows it. Raises Refusal where it nests too deeply.

    Dates, times and decimals become text, NaN and infinity become None, bytes are dropped.
    """
    return _mapping(record, depth=0)


def _mapping(values: Mapping[str, object], depth: int) -> dict[str, object]:
    return {
        without_surrogates(str(key)): _plain(value, depth)
        for key, value in values.items()
        if not isinstance(value, bytes)
    }


def _plain(value: object, depth: int) -> object:
    if depth > _MAX_DEPTH:
        raise Refusal("nested too deeply", f"more than {_MAX_DEPTH} levels")
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return without_surrogates(value)
        case Mapping():
            return _mapping(value, depth + 1)
        case list():
            return [_plain(item, depth + 1) for item in value if not isinstance(item, bytes)]
        case _:
            return str(value)
