"""Read the pieces of a shard, with one limit on what they unpack to together.

A limit for each file is not enough: a shard of many files has room for a hundred small bombs.
"""

from collections.abc import Iterable, Iterator, Mapping

from embed_assets.shards import Piece
from embed_assets.sources.source import Document, Rejection, Source


def read_pieces(
    source: Source, pieces: Iterable[Piece], max_decompressed_bytes: int
) -> Iterator[Document | Rejection]:
    """The documents of all pieces in order; one rejection for a piece that has no room any more.

    What a piece holds beyond its size on disk counts, so plain files never fill a shard. Those
    that come after a refused piece are read if they fit.
    """
    room = max_decompressed_bytes
    for piece in pieces:
        items = list(source.read(piece))
        n_unpacked = max(0, sum(_n_chars(item) for item in items) - piece.n_bytes)
        if n_unpacked > room:
            detail = f"with it the shard holds more than {max_decompressed_bytes} bytes beyond"
            yield Rejection(
                piece.source,
                piece.start,
                "shard unpacks to too much",
                f"{detail} its files' sizes; raise max_decompressed_bytes or unpack some",
            )
            continue
        room -= n_unpacked
        yield from items


def _n_chars(item: Document | Rejection) -> int:
    return len(item.text) + _size(item.attributes) if isinstance(item, Document) else 0


def _size(value: object) -> int:
    """Characters of a value: no more than bytes in a plain file, whose keys may stand only once."""
    match value:
        case str():
            return len(value)
        case Mapping():
            return sum(_size(part) for part in value.values())
        case list():
            return sum(_size(part) for part in value)
        case _:
            return 1
