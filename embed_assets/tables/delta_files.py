"""Open, create and scan Delta tables; what a disk or a store does wrong becomes an InputError."""

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from embed_assets.errors import InputError
from embed_assets.rows import SHARD

T = TypeVar("T")

# Characters of a local path that delta-rs 1.6 cannot take: it panics, or writes somewhere else.
_UNUSABLE = re.compile(r"[\[\]^|\\\x00-\x1f]|%[0-9A-Fa-f]{2}")

# Statistics in the log: what the state of a shard is read from, and never any corpus text.
_STATISTICS = ("input_version", "content_version", "fingerprint")


def scan_rows(
    table: DeltaTable, uri: str, schema: pl.Schema, shard: str | None = None
) -> pl.LazyFrame:
    """The rows of a handle's version, or one shard's, in the columns of the schema."""
    if not _is_local(uri):
        frame = pl.scan_delta(table)
        return frame if shard is None else frame.filter(pl.col(SHARD) == shard)
    # polars' own reader does without: it takes "my%20notes" for the folder's name (polars #20944),
    # any folder named "a=b" above the table for a partition, and a truncated file ends the process
    # with a panic that no `except Exception` sees.
    is_partitioned = bool(table.metadata().partition_columns)
    prune = [(SHARD, "=", shard)] if is_partitioned and shard is not None else None
    stored = {name: kind for name, kind in schema.items() if not (is_partitioned and name == SHARD)}
    frame = pl.scan_parquet(
        [unquote(file) for file in table.file_uris(file_pruning_predicate=prune)],
        schema=stored,
        glob=False,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths="_file",
    )
    if is_partitioned:
        key = pl.col("_file").str.extract(rf"[/\\]{SHARD}=([^/\\]+)[/\\][^/\\]+$")
        frame = frame.with_columns(key.alias(SHARD))
    return frame.select(schema.names())


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def open_table(uri: str) -> DeltaTable | None:
    """A handle on the current version; None where there is no table. Raises InputError."""
    unusable = None if "://" in uri else _UNUSABLE.search(uri)
    if unusable:
        raise InputError(
            f"the path {uri!r} has {unusable[0]!r} in it, which Delta tables cannot stand; choose "
            "a folder whose path has no [ ] ^ | \\ and no % before two digits"
        )
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise InputError(f"the table at {uri} cannot be opened: {_first_line(error)}") from error


def create_table(uri: str, schema: pl.Schema, partition_by: list[str] | None) -> DeltaTable:
    """A handle on a new table, or on the one that somebody else created meanwhile."""
    # Created before the first write: creation by a first append fails in a race.
    indexed = [name for name in schema.names() if name in _STATISTICS]
    configuration = {"delta.dataSkippingStatsColumns": ",".join(indexed or schema.names()[:1])}
    try:
        return writing(
            uri,
            lambda: DeltaTable.create(
                uri,
                schema,
                mode="ignore",
                partition_by=partition_by,
                configuration=configuration,
            ),
        )
    except CommitFailedError:
        # Somebody else created it just now.
        table = open_table(uri)
        if table is None:
            raise
        return table


def writing(uri: str, write: Callable[[], T]) -> T:
    """Run a write; what the disk or store refuses becomes an InputError that names the table."""
    try:
        return write()
    except CommitFailedError:
        raise
    except (DeltaError, OSError) as error:
        raise InputError(
            f"the table at {uri} cannot be written: {_first_line(error)}; nothing was published"
        ) from error


def reading(uri: str, read: Callable[[], T]) -> T:
    """Run a read; a missing or damaged file becomes an InputError that names the table."""
    try:
        return read()
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(f"the table at {uri} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
