"""Parquet: one document per row; big files are cut by rows and read in small slices.

Slices and not polars' batch stream: reading 3 GB of text out of a 1 MB file held 2.9 GB with
`collect_batches` and 0.45 GB with slices, at half the time (polars 2.1).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import whole
from embed_assets.sources.document_builder import DocumentBuilder
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Rejection

# Few rows first, since nothing tells how long they are; then as many as give this much text.
_FIRST_SLICE_ROWS = 64
_MAX_SLICE_ROWS = 4096
_SLICE_TEXT_BYTES = 32 << 20

_TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)


class ParquetFormat:
    """One document per row. Its position is the row number; binary columns are left out."""

    def pieces(self, path: Path, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """Row ranges of about equal length; one piece for a file that cannot be read."""
        try:
            with _readable(path):
                n_rows = int(_scan(path).select(pl.len()).collect().item())
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
        builder = DocumentBuilder(piece.source, settings)
        with _readable(path):
            schema = _scan(path).collect_schema()
        builder.check_columns(schema)
        text_type = schema[settings.text_column]
        if text_type not in _TEXT_TYPES:
            raise Refusal(
                "text is not a string", f"column {settings.text_column!r} has type {text_type}"
            )
        columns = [pl.col(name) for name, dtype in schema.items() if dtype != pl.Binary]
        rows = _scan(path).select(columns)
        for position, batch in _slices(path, rows, piece, settings.text_column):
            yield from _documents(batch, position, builder, piece.source, settings)


def _documents(
    batch: pl.DataFrame,
    position: int,
    builder: DocumentBuilder,
    source: str,
    settings: PipelineSettings,
) -> Iterator[Document | Rejection]:
    n_bytes = [n or 0 for n in batch[settings.text_column].str.len_bytes()]
    # A column of equal strings is small only in polars: few rows at a time become Python objects.
    n_buffered = _rows_within(_SLICE_TEXT_BYTES, max(n_bytes))
    rows = batch.iter_rows(named=True, buffer_size=n_buffered)
    for offset, (n_text_bytes, row) in enumerate(zip(n_bytes, rows, strict=True)):
        if n_text_bytes > settings.max_document_bytes:
            detail = f"{n_text_bytes} bytes, max_document_bytes is {settings.max_document_bytes}"
            yield Rejection(source, position + offset, "document too large", detail)
        else:
            yield builder.build(row, position + offset)


def _slices(
    path: Path, rows: pl.LazyFrame, piece: Piece, text_column: str
) -> Iterator[tuple[int, pl.DataFrame]]:
    """(row number of the first row, rows) of consecutive slices of a piece."""
    position, n_rows = piece.start, _FIRST_SLICE_ROWS
    while position < piece.end:
        with _readable(path):
            text = pl.col(text_column).cast(pl.String)
            batch = (
                rows.slice(position, min(n_rows, piece.end - position)).with_columns(text).collect()
            )
        if batch.is_empty():
            return
        yield position, batch
        position += batch.height
        n_bytes_per_row = int(batch[text_column].str.len_bytes().sum()) // batch.height
        n_rows = _rows_within(_SLICE_TEXT_BYTES, n_bytes_per_row)


def _rows_within(n_bytes: int, n_bytes_per_row: int) -> int:
    return max(1, min(_MAX_SLICE_ROWS, n_bytes // max(1, n_bytes_per_row)))


def _scan(path: Path) -> pl.LazyFrame:
    # The name is a name: no wildcards, no columns from a folder called "a=1".
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what polars raises on a broken file into a Refusal."""
    try:
        with path.open("rb"):
            pass
        yield
    except OSError as error:
        raise Refusal("unreadable file", error.strerror or type(error).__name__) from error
    except (PolarsError, PanicException) as error:
        # A PanicException is no Exception: an `except Exception` would let it through. The
        # message may quote bytes of the file, so only its kind goes on.
        raise Refusal("unreadable Parquet", type(error).__name__) from error
