"""New vectors of shards that are not done yet, so that a killed run costs one interval.

A vector is a pure function of fingerprint and text: rows are added in any order by anybody, twice
does no harm, and none is ever wrong. That is why nothing here needs a compare-and-set.
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from embed_assets.errors import InputError
from embed_assets.rows import SHARD
from embed_assets.shards import check_key
from embed_assets.tables.delta_files import (
    DeltaFolder,
    add_actions,
    commit,
    equals,
    open_table,
    reading,
    scan_rows,
)
from embed_assets.tables.table import CheckpointKey

_FINGERPRINT = "fingerprint"
# An append is refused when any partition was cleared since its handle was loaded.
_ROUNDS = 50


class DeltaCheckpoints(DeltaFolder):
    """A Delta table partitioned by shard and fingerprint."""

    def read(self, key: CheckpointKey) -> pl.DataFrame:
        """All rows of a shard and fingerprint; a text may stand there twice."""
        table = open_table(self._uri)
        if table is None:
            return self._schema.to_frame()
        rows = pl.col(_FINGERPRINT) == key.fingerprint
        return reading(
            self._uri,
            lambda: scan_rows(table, self._uri, self._schema, key.shard).filter(rows).collect(),
        )

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows in one commit."""
        for shard in frame[SHARD].unique():
            check_key(shard)
        for attempt in range(1, _ROUNDS + 1):
            try:
                commit(self.opened(), self._uri, frame.select(self._schema.names()), append=True)
                return
            except CommitFailedError as error:
                if attempt == _ROUNDS:
                    raise InputError(
                        f"{self._uri} kept changing; {_ROUNDS} attempts lost"
                    ) from error

    def clear(self, key: CheckpointKey) -> None:
        """Remove the rows of a shard and fingerprint; nothing is written if there are none."""
        check_key(key.shard)
        for _ in range(_ROUNDS):
            table = open_table(self._uri)
            if table is None or key not in reading(self._uri, partial(_keys, table)):
                return
            try:
                commit(
                    table,
                    self._uri,
                    self._schema.to_frame(),
                    predicate=f"{equals(SHARD, key.shard)} AND "
                    f"{equals(_FINGERPRINT, key.fingerprint)}",
                )
                return
            except CommitFailedError:
                # Another run of this shard added vectors just now: they go with the rest.
                continue

    def keys(self) -> dict[CheckpointKey, timedelta]:
        """Every shard and fingerprint that has rows, and how long ago the newest were added."""
        table = open_table(self._uri)
        return {} if table is None else reading(self._uri, partial(_keys, table))


def _keys(table: DeltaTable) -> dict[CheckpointKey, timedelta]:
    actions = add_actions(table)
    if actions.is_empty():
        return {}
    newest = actions.group_by(f"partition.{SHARD}", f"partition.{_FINGERPRINT}").agg(
        pl.col("modification_time").cast(pl.Datetime("ms", "UTC")).max()
    )
    now = datetime.now(UTC)
    return {CheckpointKey(s, f): now - written for s, f, written in newest.iter_rows()}
