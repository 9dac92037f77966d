"""Delta tables, written by delta-rs: one atomic commit replaces one shard, and nothing else.

Every write checks and commits on one table handle. delta-rs refuses an overwrite when another
commit touched the same partition since the handle was loaded, so a check that held when it was
made still holds when the commit lands.
"""

from collections.abc import Sequence
from functools import partial

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from embed_assets.errors import InputError
from embed_assets.rows import SHARD, SHARD_TABLES
from embed_assets.shards import check_key
from embed_assets.tables.checkpoints import DeltaCheckpoints
from embed_assets.tables.delta_files import (
    DeltaFolder,
    add_actions,
    commit,
    equals,
    open_table,
    reading,
    scan_rows,
)
from embed_assets.tables.delta_whole import DeltaWholeTable
from embed_assets.tables.table import (
    DOCUMENT_TABLES,
    Fence,
    ShardState,
    Superseded,
    Tables,
    constant,
    is_published,
    no_fence,
    same_result,
)

_VERSIONS = ("input_version", "content_version")
# Rounds of check and write: each lost round means that another writer of this shard won.
_ROUNDS = 10


class DeltaShardTable(DeltaFolder):
    """A Delta table partitioned by shard. Creates itself on the first write."""

    def version(self) -> int:
        """The current version; -1 where there is no table yet."""
        table = open_table(self._uri)
        return -1 if table is None else table.version()

    def states(self) -> dict[str, ShardState]:
        """The state of every shard that has rows, from the log alone."""
        table = open_table(self._uri)
        return {} if table is None else reading(self._uri, lambda: _states(table))

    def read(self, shard: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A shard's rows at the table's current version."""
        check_key(shard)
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
        fence: Fence = no_fence,
    ) -> bool:
        """Replace the shard's rows in one commit, by compare-and-set on one handle."""
        check_key(shard)
        result = _versions(frame, shard)
        for _ in range(_ROUNDS):
            table = self.opened()
            # After the handle is there: whoever publishes from now on makes this commit fail.
            fence()
            standing = reading(self._uri, partial(_states, table)).get(shard)
            if is_published(standing, result) and not (rewrite and result):
                return False
            if not same_result(standing, expected):
                raise Superseded(
                    f"shard {shard} of {self._uri} was published by another run while this one "
                    "worked on it; what that run published stands"
                )
            try:
                typed = frame.select(self._schema.names()).cast(self._schema)
                commit(table, self._uri, typed, predicate=equals(SHARD, shard))
                return True
            except CommitFailedError:
                # Another commit touched this shard: look again at what stands now.
                continue
            except InputError:
                if not rewrite and self._landed(shard, result):
                    return True
                raise
        raise Superseded(f"shard {shard} of {self._uri} kept changing; {_ROUNDS} attempts lost")

    def _landed(self, shard: str, result: tuple[str, str] | None) -> bool:
        """Whether a commit whose answer was lost is there all the same."""
        standing = self.states().get(shard)
        return (standing.versions if standing else None) == result

    def scan(self) -> pl.LazyFrame:
        """All rows, lazily. Collect within `reading`, which tells of damaged files."""
        table = open_table(self._uri)
        if table is None:
            return self._schema.to_frame().lazy()
        return reading(self._uri, lambda: scan_rows(table, self._uri, self._schema))


def _versions(frame: pl.DataFrame, shard: str) -> tuple[str, str] | None:
    """(input_version, content_version) of a frame for a shard; None for no rows."""
    if frame.is_empty():
        return None
    if constant(frame, SHARD) != shard:
        raise ValueError(f"rows of shard {constant(frame, SHARD)} in a frame for {shard}")
    return constant(frame, "input_version"), constant(frame, "content_version")


def _states(table: DeltaTable) -> dict[str, ShardState]:
    actions = add_actions(table)
    if actions.is_empty():
        return {}
    # Statistics that a damaged log has lost match no version: the shard is made again.
    versions = [f"{end}.{name}" for name in _VERSIONS for end in ("min", "max")]
    lost = [pl.lit(None, pl.String).alias(name) for name in versions if name not in actions.columns]
    known = actions.with_columns(lost).with_columns(pl.col(versions).fill_null("lost"))
    grouped = known.group_by(f"partition.{SHARD}", maintain_order=True).agg(
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
            int(n_rows or 0),
            int(n_bytes),
        )
        for shard, low_input, high_input, low_content, high_content, n_rows, n_bytes in rows
    }


def open_delta_tables(root: str, documents_root: str | None = None) -> Tables:
    """The tables under a folder or URI. Nothing is created before the first write.

    With `documents_root`, the manifest, raw_corpus and rejected are those under that one.
    """
    base = root.rstrip("/")
    documents = (documents_root or base).rstrip("/")
    places = {name: documents if name in DOCUMENT_TABLES else base for name in SHARD_TABLES}
    return Tables(
        root=base,
        documents_root=documents,
        manifest=DeltaWholeTable(documents, "shards"),
        fingerprints=DeltaWholeTable(base, "fingerprints"),
        calibration=DeltaWholeTable(base, "calibration"),
        probes=DeltaWholeTable(base, "probes"),
        checkpoints=DeltaCheckpoints(base, "checkpoints"),
        **{name: DeltaShardTable(place, name) for name, place in places.items()},
    )
