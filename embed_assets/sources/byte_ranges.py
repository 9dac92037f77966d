"""Cut a file into byte ranges of about one shard each. Arithmetic only; formats find the cuts."""

from collections.abc import Iterable
from itertools import pairwise

from embed_assets.shards import Piece, SourceFile


def whole(file: SourceFile) -> Piece:
    """The file in one piece."""
    return Piece(file.source, 0, file.n_bytes, file.n_bytes, file.version)


def targets(n_bytes: int, shard_bytes: int) -> range:
    """Where cuts would ideally fall. Fixed multiples: appending to a file moves no earlier cut."""
    return range(shard_bytes, n_bytes, shard_bytes)


def cut(file: SourceFile, starts: Iterable[int]) -> list[Piece]:
    """The file cut before each of `starts`; at least one piece, none of them empty but that of
    an empty file. A record longer than a shard makes several cuts fall together: they count once.
    """
    inner = {start for start in starts if 0 < start < file.n_bytes}
    edges = [0, *sorted(inner), file.n_bytes]
    return [
        Piece(file.source, start, end, end - start, file.version) for start, end in pairwise(edges)
    ]
