"""Tables in this process's memory, for tests and for trying things without a disk."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from embed_assets.rows import CHECKPOINTS, SHARD, SHARD_TABLES, TABLES
from embed_assets.shards import check_key
from embed_assets.tables.table import (
    CheckpointKey,
    Fence,
    ShardState,
    Snapshot,
    Superseded,
    Tables,
    constant,
    is_published,
    no_fence,
    same_result,
)


class InMemoryShardTable:
    """A table as a dictionary of frames."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._schema = TABLES[name]
        self._shards: dict[str, pl.DataFrame] = {}
        self._version = -1

    @property
    def uri(self) -> str:
        """A name to show; nothing can be opened there."""
        return f"memory:{self._name}"

    def version(self) -> int:
        """The current version."""
        return self._version

    def states(self) -> dict[str, ShardState]:
        """The state of every shard that has rows."""
        return {shard: _state(frame) for shard, frame in self._shards.items()}

    def read(self, shard: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A shard's rows."""
        check_key(shard)
        frame = self._shards.get(shard, self._schema.to_frame())
        return frame.select(columns) if columns is not None else frame

    def publish(
        self,
        shard: str,
        frame: pl.DataFrame,
        expected: ShardState | None,
        *,
        rewrite: bool = False,
        fence: Fence = no_fence,
    ) -> bool:
        """Replace the shard's rows; no rows remove the shard."""
        check_key(shard)
        if not frame.is_empty() and constant(frame, SHARD) != shard:
            raise ValueError(f"rows of shard {constant(frame, SHARD)} in a frame for {shard}")
        fence()
        standing = self.states().get(shard)
        result = None if frame.is_empty() else _state(frame)
        if is_published(standing, result.versions if result else None) and not (rewrite and result):
            return False
        if not same_result(standing, expected):
            raise Superseded(f"shard {shard} of {self._name} was published by another run")
        self._version += 1
        if result is None:
            del self._shards[shard]
        else:
            self._shards[shard] = frame.select(self._schema.names()).cast(self._schema)
        return True

    def scan(self) -> pl.LazyFrame:
        """All rows, lazily."""
        frames = [self._schema.to_frame(), *self._shards.values()]
        return pl.concat(frames).lazy()


class InMemoryWholeTable:
    """One frame and its version."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._snapshot = Snapshot(TABLES[name].to_frame(), version=-1, counter=0)

    @property
    def uri(self) -> str:
        """A name to show; nothing can be opened there."""
        return f"memory:{self._name}"

    def version(self) -> int:
        """The current version."""
        return self._snapshot.version

    def read(self) -> Snapshot:
        """All rows at the current version."""
        return self._snapshot

    def replace(self, frame: pl.DataFrame, snapshot: Snapshot, counter: int) -> None:
        """Replace all rows and the counter."""
        if snapshot.version != self._snapshot.version:
            raise Superseded(f"{self._name} was replaced by another run meanwhile; run again")
        self._snapshot = Snapshot(frame, snapshot.version + 1, counter)


class InMemoryCheckpoints:
    """One growing frame."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows = CHECKPOINTS.to_frame()
        self._added: dict[CheckpointKey, datetime] = {}

    @property
    def uri(self) -> str:
        """A name to show; nothing can be opened there."""
        return f"memory:{self._name}"

    def read(self, key: CheckpointKey) -> pl.DataFrame:
        """All rows of a shard and fingerprint."""
        return self._rows.filter(_of(key))

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        self._rows = pl.concat([self._rows, frame.select(CHECKPOINTS.names())])
        for shard, fingerprint in frame.select("shard", "fingerprint").unique().iter_rows():
            self._added[CheckpointKey(shard, fingerprint)] = datetime.now(UTC)

    def clear(self, key: CheckpointKey) -> None:
        """Remove the rows of a shard and fingerprint."""
        check_key(key.shard)
        self._rows = self._rows.filter(~_of(key))
        self._added.pop(key, None)

    def keys(self) -> dict[CheckpointKey, timedelta]:
        """Every shard and fingerprint that has rows, and how long ago the newest were added."""
        now = datetime.now(UTC)
        return {key: now - added for key, added in self._added.items()}


def _of(key: CheckpointKey) -> pl.Expr:
    return (pl.col(SHARD) == key.shard) & (pl.col("fingerprint") == key.fingerprint)


def _state(frame: pl.DataFrame) -> ShardState:
    return ShardState(
        constant(frame, "input_version"),
        constant(frame, "content_version"),
        frame.height,
        int(frame.estimated_size()),
    )


def in_memory_tables() -> Tables:
    """Empty tables in memory."""
    return Tables(
        root="memory:",
        documents_root="memory:",
        manifest=InMemoryWholeTable("shards"),
        fingerprints=InMemoryWholeTable("fingerprints"),
        calibration=InMemoryWholeTable("calibration"),
        probes=InMemoryWholeTable("probes"),
        checkpoints=InMemoryCheckpoints("checkpoints"),
        **{name: InMemoryShardTable(name) for name in SHARD_TABLES},
    )
