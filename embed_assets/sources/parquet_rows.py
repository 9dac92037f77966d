"""Rows of a Parquet file by polars, in small slices. Runs in the process apart.

Slices and not polars' batch stream: reading 3 GB of text out of a 1 MB file held 2.9 GB with
`collect_batches` and 0.45 GB with slices, at half the time (polars 2.1).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.datatypes import DataTypeClass
from polars.exceptions import PanicException, PolarsError
from polars.selectors import by_name

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece
from embed_assets.sources.document_builder import DocumentBuilder
from embed_assets.sources.refusal import Refusal, TooMuch
from embed_assets.sources.source import Document, Rejection

# Few rows first, since nothing tells how long they are; then as many as give this much.
_FIRST_SLICE_ROWS = 64
_MAX_SLICE_ROWS = 4096
_SLICE_BYTES = 32 << 20
# What goes through the pipe at once.
_BATCH_ITEMS = 1000
_BATCH_CHARS = 8 << 20

_N_BYTES = "embed_assets: bytes of the row"
_TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)


#: A document or a rejection without its source, as a tuple: pickled in a quarter of the time.
Packed = tuple[str, str, str, Mapping[str, object]] | tuple[int, str, str]


def packed(item: Document | Rejection) -> Packed:
    """An item for the way through the pipe."""
    if isinstance(item, Document):
        return item.doc_id, item.title, item.text, item.attributes
    return item.position, item.reason, item.detail


def unpacked(item: Packed, source: str) -> Document | Rejection:
    """The inverse of `packed`."""
    if len(item) == 4:
        doc_id, title, text, attributes = item
        return Document(doc_id, source, title, text, attributes)
    return Rejection(source, *item)


def n_rows(path: Path) -> Iterator[int]:
    """How many rows the footer tells. Raises Refusal."""
    with _readable(path):
        yield int(_scan(path).select(pl.len()).collect().item())


def items(path: Path, piece: Piece, settings: PipelineSettings) -> Iterator[list[Packed]]:
    """A document or a rejection per row of a piece, in batches. Raises Refusal for the file.

    A batch ends with its slice: where the next slice breaks, what came before is out already.
    """
    builder = DocumentBuilder(piece.source, settings)
    with _readable(path):
        schema = _scan(path).collect_schema()
    builder.check_columns(schema)
    text_type = schema[settings.text_column]
    if text_type not in _TEXT_TYPES:
        raise Refusal(
            "text is not a string", f"column {settings.text_column!r} has type {text_type}"
        )
    kept = {name: dtype for name, dtype in schema.items() if dtype != pl.Binary}
    n_bytes = pl.sum_horizontal(_n_bytes(_column(name), dtype) for name, dtype in kept.items())
    text = _column(settings.text_column).cast(pl.String)
    rows = _scan(path).select(by_name(*kept), n_bytes.alias(_N_BYTES)).with_columns(text)
    _check_n_rows(path, piece, settings)
    room = settings.max_decompressed_bytes
    for position, batch in _slices(path, rows, piece):
        room -= int(batch[_N_BYTES].sum())
        if room < 0:
            detail = f"more than max_decompressed_bytes, {settings.max_decompressed_bytes}"
            raise TooMuch("unpacks to too much", detail)
        yield from _batches(_documents(batch, position, builder, piece.source, settings))


def _check_n_rows(path: Path, piece: Piece, settings: PipelineSettings) -> None:
    """Raises TooMuch before a row is read: 50 million equal rows make a file of 25 KB."""
    [n_in_file] = n_rows(path)
    if min(n_in_file, piece.end) - piece.start > settings.max_records:
        raise TooMuch("too many records", f"more than max_records, {settings.max_records}")


def _batches(items: Iterator[Document | Rejection]) -> Iterator[list[Packed]]:
    batch: list[Packed] = []
    n_chars = 0
    for item in items:
        batch.append(packed(item))
        n_chars += len(item.text) if isinstance(item, Document) else 0
        if len(batch) >= _BATCH_ITEMS or n_chars >= _BATCH_CHARS:
            yield batch
            batch, n_chars = [], 0
    yield batch


def _documents(
    batch: pl.DataFrame,
    position: int,
    builder: DocumentBuilder,
    source: str,
    settings: PipelineSettings,
) -> Iterator[Document | Rejection]:
    n_bytes = batch[_N_BYTES].to_list()
    # A column of equal strings is small only in polars: few rows at a time become Python objects.
    n_buffered = _rows_within(_SLICE_BYTES, max(n_bytes))
    rows = batch.drop(_N_BYTES).iter_rows(named=True, buffer_size=n_buffered)
    for offset, (n_row_bytes, row) in enumerate(zip(n_bytes, rows, strict=True)):
        if n_row_bytes > settings.max_document_bytes:
            detail = f"{n_row_bytes} bytes, max_document_bytes is {settings.max_document_bytes}"
            yield Rejection(source, position + offset, "document too large", detail)
        else:
            yield builder.build(row, position + offset)


def _slices(path: Path, rows: pl.LazyFrame, piece: Piece) -> Iterator[tuple[int, pl.DataFrame]]:
    """(row number of the first row, rows) of consecutive slices of a piece."""
    position, n_wanted = piece.start, _FIRST_SLICE_ROWS
    while position < piece.end:
        with _readable(path):
            batch = rows.slice(position, min(n_wanted, piece.end - position)).collect()
        if batch.is_empty():
            return
        yield position, batch
        position += batch.height
        n_wanted = _rows_within(_SLICE_BYTES, int(batch[_N_BYTES].sum()) // batch.height)


def _column(name: str) -> pl.Expr:
    # `pl.col` would take a column called "^.*$" for a pattern.
    return by_name(name).as_expr()


def _n_bytes(value: pl.Expr, dtype: pl.DataType | DataTypeClass) -> pl.Expr:
    """Bytes of a value with all that is in it: what it takes outside polars, which shares equal
    strings.
    """
    match dtype:
        case pl.String():
            n_bytes = value.str.len_bytes()
        case pl.Categorical() | pl.Enum():
            n_bytes = value.cast(pl.String).str.len_bytes()
        case pl.List(inner=inner):
            n_bytes = value.list.eval(_n_bytes(pl.element(), inner)).list.sum()
        case pl.Array(inner=inner):
            n_bytes = _n_bytes(value.arr.to_list(), pl.List(inner))
        case pl.Struct(fields=fields):
            n_bytes = pl.sum_horizontal(
                _n_bytes(value.struct.field(field.name), field.dtype) for field in fields
            )
        case _:
            n_bytes = value.is_not_null().cast(pl.UInt64) * 8
    return n_bytes.fill_null(0).cast(pl.UInt64)


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
    except RecursionError as error:
        raise Refusal("nested too deeply", "columns within columns") from error
    except (PolarsError, PanicException) as error:
        # A PanicException is no Exception: an `except Exception` would let it through. The
        # message may quote bytes of the file, so only its kind goes on.
        raise Refusal("unreadable Parquet", type(error).__name__) from error
