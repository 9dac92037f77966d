"""Checksums that every row carries, and what is made of them: proof against silent damage."""

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.errors import InputError

# So few rows that what is hashed is still in the cache, and a shard never stands in memory twice.
_ROWS_AT_ONCE = 2_048

#: Columns that no row checksum covers: itself, and the two versions, one of which is made of it.
UNCHECKED = frozenset({"checksum", "input_version", "content_version"})


def row_checksums(frame: pl.DataFrame) -> NDArray[np.int64]:
    """One 64-bit checksum per row (n,) over all columns of a frame but those in UNCHECKED.

    Parquet and Delta notice no flipped bit in a data page, so every row carries its own proof. A
    row counts as one line per column, sorted by name, "name=length:value" with the length in
    bytes, then the little-endian numbers of its lists. A null counts as nothing, so a column that
    is added later changes no checksum. BLAKE2b-64 as a signed integer: Delta has no unsigned type.
    """
    parts = [_digests(part) for part in frame.iter_slices(_ROWS_AT_ONCE)]
    return np.frombuffer(b"".join(parts), dtype="<i8").astype(np.int64, copy=False)


def _digests(frame: pl.DataFrame) -> bytes:
    """The checksums of a frame's rows, 8 bytes each."""
    names = sorted(set(frame.columns) - UNCHECKED)
    lines = frame.select(
        pl.concat_str([_line(name, frame.schema[name]) for name in names], ignore_nulls=True)
    ).to_series()
    lists = [_list_bytes(frame[name]) for name in names if isinstance(frame.schema[name], pl.List)]
    digests = []
    for line, *numbers in zip(lines.cast(pl.Binary).to_list(), *lists, strict=True):
        state = hashlib.blake2b(line, digest_size=8)
        for values in numbers:
            state.update(values)
        digests.append(state.digest())
    return b"".join(digests)


def rows_digest(checksums: NDArray[np.int64]) -> str:
    """Hex digest (32 characters) of a set of rows, from their checksums (n,) in any order."""
    ordered = np.sort(checksums.astype("<i8"))
    return hashlib.blake2b(ordered.tobytes(), digest_size=16).hexdigest()


def is_sound(rows: pl.DataFrame) -> pl.Series:
    """Whether each row is as it was written. Needs all columns of the table."""
    return (pl.Series(row_checksums(rows)) == rows["checksum"]).fill_null(False)


def with_checksums(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The columns of a schema in its order and types, `checksum` computed."""
    columns = [pl.col(name).cast(kind) for name, kind in schema.items() if name != "checksum"]
    typed = frame.select(columns)
    return typed.with_columns(checksum=pl.Series(row_checksums(typed))).select(schema.names())


def sound_or_refused(rows: pl.DataFrame, uri: str, root: str) -> pl.DataFrame:
    """The rows themselves, of a shard or a whole table.

    Raises InputError if one is not as it was written, or if some are missing or too many.
    """
    n_damaged = rows.height - int(is_sound(rows).sum())
    if n_damaged or not is_complete(rows):
        found = f"{n_damaged} of {rows.height} rows" if n_damaged else f"the {rows.height} rows"
        raise InputError(
            f"{found} of {uri} are not as they were written: the disk or something else changed "
            f"them; embed-assets doctor --tables {root} names them, and --repair mends them"
        )
    return rows


def is_complete(rows: pl.DataFrame) -> bool:
    """Whether a shard's rows are those of its content_version: none missing, none twice.

    True for tables that are not partitioned by shard, whose rows have no such column.
    """
    if "content_version" not in rows.columns or rows.is_empty():
        return True
    expected = rows["content_version"].unique().to_list()
    return expected == [rows_digest(rows["checksum"].fill_null(0).to_numpy())]


def _line(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column's part of the text that is hashed; null for a null."""
    column = pl.col(name)
    if isinstance(dtype, pl.List):
        return pl.format(f"{name}=[{{}}]\n", column.list.len())
    if dtype == pl.Float64:
        # The bits, not the digits: how a number is printed may change with a library's version.
        column = column.reinterpret(dtype=pl.Int64)
    text = column.to_physical().cast(pl.String)
    return pl.format(f"{name}={{}}:{{}}\n", text.str.len_bytes(), text)


def _list_bytes(column: pl.Series) -> list[memoryview]:
    """The little-endian numbers of each list; none for a null."""
    lengths = column.list.len().fill_null(0).to_numpy().astype(np.int64)
    numbers = column.explode(empty_as_null=False, keep_nulls=False).fill_null(0).to_numpy()
    little = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<"))
    data = little.data.cast("B")
    ends = (np.cumsum(lengths) * numbers.itemsize).tolist()
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
