"""Cut a file into byte ranges of about one shard each; formats find where records begin."""

import io
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.compressed import is_compressed, opened
from embed_assets.sources.refusal import Refusal

#: For each ideal cut the first record start at or after it, in ascending order.
RecordStarts = Callable[[io.BufferedIOBase, Iterable[int]], Iterable[int]]


def whole(file: SourceFile) -> Piece:
    """The file in one piece."""
    return Piece(file.source, 0, file.n_bytes, file.n_bytes, file.version)


def cut_at_records(
    path: Path, file: SourceFile, shard_bytes: int, record_starts: RecordStarts
) -> list[Piece]:
    """Byte ranges that begin at records; one piece for a compressed or unreadable file.

    None of them is empty but that of an empty file. A record longer than a shard makes several
    cuts fall together: they count once.
    """
    # Fixed multiples: appending to a file moves no earlier cut.
    ideal = range(shard_bytes, file.n_bytes, shard_bytes)
    if not ideal or is_compressed(path.name):
        return [whole(file)]
    try:
        with opened(path) as stream:
            starts = set(record_starts(stream, ideal))
    except Refusal:
        return [whole(file)]
    edges = [0, *sorted(start for start in starts if 0 < start < file.n_bytes), file.n_bytes]
    return [
        Piece(file.source, start, end, end - start, file.version) for start, end in pairwise(edges)
    ]
