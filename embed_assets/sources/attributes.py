"""Column values -> what JSON can hold: the `attributes` of a document."""

import math
from collections.abc import Mapping

from embed_assets.sources.decoding import without_surrogates
from embed_assets.sources.refusal import Refusal, TooMuch

# Python's JSON writer and our own recursion fail near 1000; nobody means more than a few dozen.
_MAX_DEPTH = 100


# On average over as many records as are allowed.
_VALUES_PER_RECORD = 4


class AttributesReader:
    """Reads the attributes of one piece's records and counts their values: three bytes of a file,
    "{},", become 72 in memory.
    """

    def __init__(self, max_records: int) -> None:
        self._max_values = _VALUES_PER_RECORD * max_records
        self._n_values = 0

    def read(self, record: Mapping[str, object]) -> dict[str, object]:
        """The record with every value as JSON knows it. Raises Refusal where it nests too deeply,
        TooMuch where the records so far hold too many values.

        Dates, times and decimals become text, NaN and infinity become None, bytes are dropped.
        """
        return self._mapping(record, depth=0)

    def _mapping(self, values: Mapping[str, object], depth: int) -> dict[str, object]:
        return {
            without_surrogates(str(key)): self._plain(value, depth)
            for key, value in values.items()
            if not isinstance(value, bytes)
        }

    def _plain(self, value: object, depth: int) -> object:
        self._n_values += 1
        if self._n_values > self._max_values:
            times = f"{_VALUES_PER_RECORD} times max_records"
            raise TooMuch("too many values", f"more than {self._max_values}, {times}")
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
                return self._mapping(value, depth + 1)
            case list():
                return [self._plain(v, depth + 1) for v in value if not isinstance(v, bytes)]
            case _:
                return str(value)
