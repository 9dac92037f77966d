"""Delta tables, written by delta-rs: one atomic commit replaces one shard, and nothing else.

Every write checks and commits on one table handle. delta-rs refuses an overwrite when another
commit touched the same partition since the handle was loaded, so a check that held when it was
made still holds when the commit lands.
"""

from collections.abc import Sequence
from functools import partial

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError

from embed_assets.rows import FINGERPRINTS, SHARD, SHARD_TABLES, SHARDS
from embed_assets.shards import check_key
from embed_assets.tables.delta_files import (
    create_table,
    open_table,
    reading,
    scan_rows,
    writing,
)
from embed_assets.tables.table import (
    ShardState,
    Snapshot,
    Superseded,
    Tables,
    constant,
    same_result,
)

# The default of 15 ran out under 8 writers on 8 shards of one table.
_COMMIT_RETRIES = 100
# Rounds of check and write: each lost round means that another writer of this shard won.
_ROUNDS = 10
# Name of the Delta application transaction that carries a whole table's counter.
_COUNTER = "embed_assets/counter"
# Lists of numbers: a dictionary and statistics cost 20% of the write and help no reader.
_PLAIN = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    column_properties={
        "embedding.list.element": _PLAIN,
        "token_ids.list.element": _PLAIN,
        "text": _PLAIN,
    },
)


class DeltaShardTable:
    """A Delta table partitioned by shard. Creates itself on the first write."""

    def __init__(self, uri: str, schema: pl.Schema) -> None:
        self._uri = uri
        self._schema = schema

    @property
    def uri(self) -> str:
        """Folder or URI of the Delta table."""
        return self._uri

    def states(self) -> dict[str, ShardState]:
        """The state of every shard that has rows, from the log alone."""
        table = open_table(self._uri)
        return {} if table is None else reading(self._uri, lambda: _states(table))

    def read(self, shard: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A shard's rows at the table's current version."""
        wanted = list(columns) if columns is not None else self._schema.names()
        table = open_table(self._uri)
        if table is None:
            return self._schema.to_frame().select(wanted)
        return reading(
            self._uri,
            lambda: scan_rows(table, self._uri, self._schema, shard).select(wanted).collect(),
        )

    def publish(
        self,
        shard: str,
        frame: pl.DataFrame,
        expected: ShardState | None,
        *,
        rewrite: bool = False,
    ) -> None:
        """Replace the shard's rows in one commit, by compare-and-set on one handle."""
        check_key(shard)
        versions = _versions(frame, shard)
        for _ in range(_ROUNDS):
            table = open_table(self._uri) or create_table(self._uri, self._schema, [SHARD])
            standing = reading(self._uri, partial(_states, table)).get(shard)
            if standing is None and frame.is_empty():
                return
            if standing is not None and standing.versions == versions and not rewrite:
                return
            if not same_result(standing, expected):
                raise Superseded(
                    f"shard {shard} of {self._uri} was published by another run while this one "
                    "worked on it; what that run published stands"
                )
            try:
                self._replace(table, shard, frame)
                return
            except CommitFailedError:
                # Another commit touched this shard: look again at what stands now.
                continue
        raise Superseded(f"shard {shard} of {self._uri} kept changing; {_ROUNDS} attempts lost")

    def _replace(self, table: DeltaTable, shard: str, frame: pl.DataFrame) -> None:
        quoted = shard.replace("'", "''")
        writing(
            self._uri,
            lambda: write_deltalake(
                table,
                frame.select(self._schema.names()).cast(self._schema),
                mode="overwrite",
                predicate=f"{SHARD} = '{quoted}'",
                writer_properties=_WRITER,
                commit_properties=CommitProperties(max_commit_retries=_COMMIT_RETRIES),
            ),
        )

    def scan(self) -> pl.LazyFrame:
        """All rows, lazily. Collect within `reading`, which tells of damaged files."""
        table = open_table(self._uri)
        if table is None:
            return self._schema.to_frame().lazy()
        return reading(self._uri, lambda: scan_rows(table, self._uri, self._schema))


class DeltaWholeTable:
    """A small Delta table that is replaced as a whole."""

    def __init__(self, uri: str, schema: pl.Schema) -> None:
        self._uri = uri
        self._schema = schema

    @property
    def uri(self) -> str:
        """Folder or URI of the Delta table."""
        return self._uri

    def read(self) -> Snapshot:
        """All rows at the current version."""
        table = open_table(self._uri)
        if table is None:
            return Snapshot(self._schema.to_frame(), version=-1, counter=0)
        frame = reading(self._uri, lambda: scan_rows(table, self._uri, self._schema).collect())
        return Snapshot(frame, _replaced_at(table), table.transaction_version(_COUNTER) or 0)

    def replace(self, frame: pl.DataFrame, snapshot: Snapshot, counter: int) -> None:
        """Replace all rows in one commit, by compare-and-set on one handle."""
        for _ in range(_ROUNDS):
            table = open_table(self._uri) or create_table(self._uri, self._schema, None)
            if _replaced_at(table) != snapshot.version:
                break
            try:
                self._replace(table, frame, counter)
                return
            except CommitFailedError:
                # Replaced meanwhile, or only created by two at once: look again.
                continue
        raise Superseded(f"{self._uri} was replaced by another run meanwhile; run again")

    def _replace(self, table: DeltaTable, frame: pl.DataFrame, counter: int) -> None:
        writing(
            self._uri,
            lambda: write_deltalake(
                table,
                frame.select(self._schema.names()).cast(self._schema),
                mode="overwrite",
                writer_properties=_WRITER,
                # An overwrite of an empty table conflicts with nothing; two commits of one
                # application do.
                commit_properties=CommitProperties(
                    max_commit_retries=_COMMIT_RETRIES,
                    app_transactions=[Transaction(_COUNTER, counter)],
                ),
            ),
        )


def _replaced_at(table: DeltaTable) -> int:
    """The version of a whole table; -1 while it has been created and nothing more.

    Two processes that create a table at once can leave two commits without any row.
    """
    return -1 if table.transaction_version(_COUNTER) is None else table.version()


def _versions(frame: pl.DataFrame, shard: str) -> tuple[str, str] | None:
    """(input_version, content_version) of a frame for a shard; None for no rows."""
    if frame.is_empty():
        return None
    if constant(frame, SHARD) != shard:
        raise ValueError(f"rows of shard {constant(frame, SHARD)} in a frame for {shard}")
    return constant(frame, "input_version"), constant(frame, "content_version")


def _states(table: DeltaTable) -> dict[str, ShardState]:
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    if actions.is_empty():
        return {}
    grouped = actions.group_by(f"partition.{SHARD}").agg(
        pl.col("min.input_version").min(),
        pl.col("max.input_version").max(),
        pl.col("min.content_version").min(),
        pl.col("max.content_version").max(),
        pl.col("num_records").sum(),
        pl.col("size_bytes").sum(),
    )
    rows = grouped.iter_rows()
    # Where low and high differ, the shard mixes two results and matches neither: made again.
    return {
        shard: ShardState(
            low_input if low_input == high_input else f"{low_input}..{high_input}",
            low_content if low_content == high_content else f"{low_content}..{high_content}",
            int(n_rows),
            int(n_bytes),
        )
        for shard, low_input, high_input, low_content, high_content, n_rows, n_bytes in rows
    }


def open_delta_tables(root: str) -> Tables:
    """The tables under a folder or URI. Nothing is created before the first write."""
    base = root.rstrip("/")
    shard_tables = {
        name: DeltaShardTable(f"{base}/{name}", schema) for name, schema in SHARD_TABLES.items()
    }
    return Tables(
        root=base,
        manifest=DeltaWholeTable(f"{base}/shards", SHARDS),
        fingerprints=DeltaWholeTable(f"{base}/fingerprints", FINGERPRINTS),
        **shard_tables,
    )
