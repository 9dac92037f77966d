"""Checksums that every row carries, and what is made of them: proof against silent damage."""

import hashlib

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from embed_assets.errors import InputError
from embed_assets.flat_lists import list_series

# Rows hashed in one go: their lists stand in memory a second time meanwhile, as bytes.
_ROWS_AT_ONCE = 8_192

#: Columns that no row checksum covers: itself, and the two versions, one of which is made of it.
UNCHECKED = frozenset({"checksum", "input_version", "content_version"})


def row_checksums(frame: pl.DataFrame) -> NDArray[np.int64]:
    """One 64-bit checksum per row (n,) over all columns of a frame but those in UNCHECKED.

    Parquet and Delta notice no flipped bit in a data page, so every row carries its own proof: the
    sum, modulo 2^64, of XXH3-64 of each of its values. The seed is that of the column's name, so
    that a value never passes for another column's. A value counts as its UTF-8 text, a list as its
    little-endian numbers, and a null as 0, so a column that is added later changes no checksum.
    As a signed integer: Delta has no unsigned type.
    """
    parts = [_checksums(part) for part in frame.iter_slices(_ROWS_AT_ONCE)]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _checksums(frame: pl.DataFrame) -> NDArray[np.int64]:
    hashed = [column for column in frame if column.name not in UNCHECKED]
    values = pl.DataFrame([_hashable(column) for column in hashed])
    hashes = values.select(
        plh.col(name).nchash.xxh3_64(seed=_seed(name)).fill_null(0) for name in values.columns
    )
    sums: NDArray[np.uint64] = hashes.to_numpy().sum(axis=1, dtype=np.uint64)
    return sums.view(np.int64)


def _seed(column: str) -> int:
    return int.from_bytes(hashlib.blake2b(column.encode(), digest_size=8).digest(), "little")


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


def _hashable(column: pl.Series) -> pl.Series:
    """A column as text or bytes."""
    if isinstance(column.dtype, pl.List):
        return _list_bytes(column)
    if column.dtype == pl.Float64:
        # The bits, not the digits: how a number is printed may change with a library's version.
        column = column.reinterpret(dtype=pl.Int64)
    return column.to_physical().cast(pl.String)


def _list_bytes(column: pl.Series) -> pl.Series:
    """The little-endian numbers of each list; null for a null."""
    numbers = column.explode(empty_as_null=False, keep_nulls=False).fill_null(0).to_numpy()
    little = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<"))
    lengths = column.list.len().fill_null(0).to_numpy().astype(np.int64)
    offsets = np.append(0, np.cumsum(lengths * little.itemsize))
    data = list_series(little.view(np.uint8), offsets).cast(pl.Binary).alias(column.name)
    return data.set(column.is_null(), None) if column.has_nulls() else data
