"""Parquet: one document per row; big files are cut by rows.

Read in a process apart, since polars ends its own process on some broken files.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import whole
from embed_assets.sources.parquet_rows import unpacked
from embed_assets.sources.process_apart import call
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Rejection

# What Python and polars take before any text is read, several times over.
_MEMORY_BYTES = 1 << 30


class ParquetFormat:
    """One document per row. Its position is the row number; binary columns are left out."""

    def pieces(self, path: Path, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """Row ranges of about equal length; one piece for a file that cannot be read."""
        try:
            [n_rows] = call("n_rows", path, max_memory_bytes=_MEMORY_BYTES)
        except Refusal:
            return [whole(file)]
        n_pieces = max(1, min(n_rows, -(-file.n_bytes // shard_bytes)))
        row_edges = [n_rows * i // n_pieces for i in range(n_pieces + 1)]
        byte_edges = [file.n_bytes * i // n_pieces for i in range(n_pieces + 1)]
        return [
            Piece(file.source, start, end, last - first, file.version)
            for (start, end), (first, last) in zip(
                pairwise(row_edges), pairwise(byte_edges), strict=True
            )
        ]

    def read(
        self, path: Path, piece: Piece, settings: PipelineSettings
    ) -> Iterator[Document | Rejection]:
        """A document or a rejection per row. Raises Refusal for the file."""
        memory = _MEMORY_BYTES + 3 * settings.max_decompressed_bytes
        for items in call("items", path, piece, settings, max_memory_bytes=memory):
            for item in items:
                yield unpacked(item, piece.source)
