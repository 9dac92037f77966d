"""Open, create and scan Delta tables; what a disk or a store does wrong becomes an InputError."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import unquote

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from embed_assets.errors import InputError, SettingsError
from embed_assets.rows import PARTITION_KEYS, SHARD, TABLES
from embed_assets.tables.durable import sync_commit, writing_files

T = TypeVar("T")

#: Statistics in the log: what the state of a shard is read from, and never any corpus text.
STATISTICS = ("input_version", "content_version", "fingerprint")

# Every stage of every shard reads the log from its newest checkpoint on. With the default of 100,
# a small shard cost from 0.25 s after a checkpoint to 0.8 s before the next; with 10, 0.3 s.
_COMMITS_PER_LOG_CHECKPOINT = "10"

#: The default of 15 ran out under 8 writers on 8 shards of one table.
COMMIT_RETRIES = 100
# Columns of few values: only to these does a dictionary bring anything.
_REPEATED = ("doc_id", "source", "provenance", "reason")
#: How every data file is written.
WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    # Dictionaries and statistics of all columns cost 40% of the write, and the former make larger
    # files: digests, numbers and texts hardly repeat. What statistics would say of texts has no
    # place in a log, either.
    default_column_properties=ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
    column_properties={
        **{
            name: ColumnProperties(dictionary_enabled=True, statistics_enabled="NONE")
            for name in _REPEATED
        },
        **{
            name: ColumnProperties(dictionary_enabled=True, statistics_enabled="CHUNK")
            for name in STATISTICS
        },
    },
)

_STORE_HINT = (
    "; credentials, region and endpoint of a store come from the environment, such as "
    "AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL"
)

# What delta-rs puts before the cause of an error.
_ARROW = "\x1b[31m↳\x1b[0m"

# Characters of a local path that delta-rs 1.6 cannot take: it panics, or writes somewhere else.
_UNUSABLE = re.compile(r"[\[\]^|\\\x00-\x1f]|%[0-9A-Fa-f]{2}")


class DeltaFolder:
    """A table of ours: where it is and what it looks like. Created on the first write."""

    def __init__(self, root: str, name: str) -> None:
        self._uri = f"{root}/{name}"
        self._schema = TABLES[name]
        self._keys = PARTITION_KEYS[name]

    @property
    def uri(self) -> str:
        """Folder or URI of the Delta table."""
        return self._uri

    def opened(self) -> DeltaTable:
        """A handle on the current version of the table, which exists from now on."""
        return open_table(self._uri) or create_table(self._uri, self._schema, self._keys)


def commit(
    table: DeltaTable,
    uri: str,
    frame: pl.DataFrame,
    *,
    predicate: str | None = None,
    append: bool = False,
    transactions: Sequence[Transaction] = (),
) -> None:
    """Replace the rows that meet a predicate, or all, or `append`, in one atomic commit.

    The commit is on the disk when this returns, and the handle at its version.
    Raises CommitFailedError if a commit since the handle was loaded stands against this one, and
    InputError for what the disk or store refuses.
    """
    with writing(uri):
        properties = CommitProperties(
            max_commit_retries=COMMIT_RETRIES, app_transactions=list(transactions)
        )
        if append:
            write_deltalake(
                table,
                frame,
                mode="append",
                writer_properties=WRITER,
                commit_properties=properties,
            )
        else:
            write_deltalake(
                table,
                frame,
                mode="overwrite",
                predicate=predicate,
                writer_properties=WRITER,
                commit_properties=properties,
            )
        sync_commit(table, uri)


def equals(column: str, value: str) -> str:
    """A Delta predicate; quotes in the value cannot end it."""
    quoted = value.replace("'", "''")
    return f"{column} = '{quoted}'"


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
    keys = table.metadata().partition_columns
    prune = [(SHARD, "=", shard)] if keys and shard is not None else None
    files = [unquote(file) for file in table.file_uris(file_pruning_predicate=prune)]
    return scan_files(files, schema, keys)


def scan_files(files: Sequence[str], schema: pl.Schema, keys: Sequence[str]) -> pl.LazyFrame:
    """Local Parquet files of one table, the partition columns `keys` taken from their paths."""
    frame = pl.scan_parquet(
        list(files),
        schema={name: kind for name, kind in schema.items() if name not in keys},
        glob=False,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths="_file",
    )
    for key in keys:
        value = pl.col("_file").str.extract(
            rf"[/\\]{key}=([^/\\]+)[/\\](?:[^/\\]+=[^/\\]+[/\\])?[^/\\]+$"
        )
        frame = frame.with_columns(value.alias(key))
    return frame.select(schema.names())


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def open_table(uri: str) -> DeltaTable | None:
    """A handle on the current version; None where there is no table.

    Raises InputError where it cannot be opened, SettingsError for a path or a scheme that no table
    can have.
    """
    unusable = None if "://" in uri else _UNUSABLE.search(uri)
    if unusable:
        raise SettingsError(
            f"the path {uri!r} has {unusable[0]!r} in it, which Delta tables cannot stand; choose "
            "a folder whose path has no [ ] ^ | \\ and no % before two digits"
        )
    try:
        return DeltaTable(uri)
    except TableNotFoundError as error:
        if "Unknown scheme" in str(error):
            raise SettingsError(
                f"no store is called {uri.partition('://')[0]}://: {uri}"
            ) from error
        return None
    except (DeltaError, OSError) as error:
        hint = "" if _is_local(uri) else _STORE_HINT
        raise InputError(f"the table at {uri} cannot be opened: {_reason(error)}{hint}") from error


def add_actions(table: DeltaTable) -> pl.DataFrame:
    """What the log says of the data files in force, a row each. Call it within `reading`."""
    return pl.DataFrame(table.get_add_actions(flatten=True))


def create_table(uri: str, schema: pl.Schema, partition_by: list[str]) -> DeltaTable:
    """A handle on a new table, or on the one that somebody else created meanwhile."""
    # Created before the first write: creation by a first append fails in a race.
    stored = [name for name in schema.names() if name not in partition_by]
    indexed = [name for name in stored if name in STATISTICS] or stored[:1]
    configuration = {
        "delta.dataSkippingStatsColumns": ",".join(indexed),
        "delta.checkpointInterval": _COMMITS_PER_LOG_CHECKPOINT,
    }
    try:
        with writing(uri):
            table = DeltaTable.create(
                uri,
                schema,
                mode="ignore",
                partition_by=partition_by or None,
                configuration=configuration,
            )
            sync_commit(table, uri)
            return table
    except CommitFailedError:
        # Somebody else created it just now.
        table_there = open_table(uri)
        if table_there is None:
            raise
        return table_there


@contextmanager
def writing(uri: str) -> Iterator[None]:
    """Within this, what the disk or store refuses becomes an InputError that names the table."""
    try:
        with writing_files(uri):
            yield
    except CommitFailedError:
        raise
    except (DeltaError, OSError) as error:
        raise InputError(
            f"the table at {uri} cannot be written: {_reason(error)}; nothing was published"
        ) from error


def reading(uri: str, read: Callable[[], T]) -> T:
    """Run a read; a missing or damaged file becomes an InputError that names the table."""
    try:
        return read()
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        root = uri.rpartition("/")[0]
        raise InputError(
            f"the table at {uri} cannot be read: {_reason(error)}; if the file is damaged, "
            f"embed-assets doctor --tables {root} says so, and --repair mends it"
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, on one line: a store tells of its causes on lines with coloured arrows."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    causes = [line.partition(_ARROW)[2].strip() for line in others if _ARROW in line]
    return ": ".join([first, *causes])
