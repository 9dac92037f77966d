"""What the pipeline asks of a store: publish a shard whole, know its state, read it back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import polars as pl

from embed_assets.checksums import sound_or_refused


@dataclass(frozen=True, slots=True)
class ShardState:
    """What stands in a table for one shard: what it was made from, what it is, how much."""

    input_version: str
    content_version: str
    n_rows: int
    n_bytes: int

    @property
    def versions(self) -> tuple[str, str]:
        """What identifies the result: (input_version, content_version)."""
        return self.input_version, self.content_version


def same_result(a: ShardState | None, b: ShardState | None) -> bool:
    """Whether two states are the same result, sizes on disk aside."""
    return a is b if a is None or b is None else a.versions == b.versions


def is_published(standing: ShardState | None, result: tuple[str, str] | None) -> bool:
    """Whether what stands was made from the same as a result (input_version, content_version).

    Two runs may differ in a vector's last bits, or in the seconds they took: it is the same result.
    """
    return (standing.input_version if standing else None) == (result[0] if result else None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole table at one version; -1 where there is no table yet.

    `counter` is a number that the table carries beside its rows: for the manifest the next shard
    number, so that the number of a deleted shard is never given out again.
    """

    frame: pl.DataFrame
    version: int
    counter: int


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """What checkpoints belong to."""

    shard: str
    fingerprint: str


class Superseded(Exception):
    """Another run published this shard since this run read it; its result stands."""


#: Raises Superseded if the caller's run has been overtaken by one of a newer configuration.
Fence = Callable[[], None]


def no_fence() -> None:
    """For those who cannot be overtaken."""


class ShardTable(Protocol):
    """A table partitioned by shard. Implementations: `DeltaShardTable`, `InMemoryShardTable`."""

    @property
    def uri(self) -> str:
        """Where the table is."""
        ...

    def version(self) -> int:
        """The current version, -1 where there is none: the cheap way to see that nothing moved."""
        ...

    def states(self) -> dict[str, ShardState]:
        """The state of every shard that has rows. Opens no data file."""
        ...

    def read(self, shard: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A shard's rows, as they were at one moment; empty, with the schema, where it has none."""
        ...

    def publish(
        self,
        shard: str,
        frame: pl.DataFrame,
        expected: ShardState | None,
        *,
        rewrite: bool = False,
        fence: Fence = no_fence,
    ) -> bool:
        """Replace the shard's rows by `frame` in one atomic commit; no rows remove the shard.

        `expected` is the state that the caller started from. Raises Superseded if something else
        stands by now, or if `fence` does; `fence` runs between the look at what stands and the
        commit, and whatever is committed to the shard after it makes the commit fail. If a result
        made from the same input stands there already, nothing is written, unless `rewrite` asks
        for it. A commit whose answer was lost counts once. Returns whether it was written.
        """
        ...

    def scan(self) -> pl.LazyFrame:
        """All rows, lazily."""
        ...


class WholeTable(Protocol):
    """A small table that is read and replaced as a whole: the manifest, for one."""

    @property
    def uri(self) -> str:
        """Where the table is."""
        ...

    def version(self) -> int:
        """The current version, -1 where there is none: the cheap way to see that nothing moved."""
        ...

    def read(self) -> Snapshot:
        """All rows at the current version."""
        ...

    def replace(self, frame: pl.DataFrame, snapshot: Snapshot, counter: int) -> None:
        """Replace rows and counter in one atomic commit. Superseded if the table moved on."""
        ...


class Checkpoints(Protocol):
    """Vectors of shards in work. Implementations: `DeltaCheckpoints`, `InMemoryCheckpoints`."""

    @property
    def uri(self) -> str:
        """Where the table is."""
        ...

    def read(self, key: CheckpointKey) -> pl.DataFrame:
        """All rows of a shard and fingerprint; a text may stand there twice."""
        ...

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows in one atomic commit."""
        ...

    def clear(self, key: CheckpointKey) -> None:
        """Remove the rows of a shard and fingerprint; nothing is written if there are none."""
        ...

    def keys(self) -> dict[CheckpointKey, timedelta]:
        """Every shard and fingerprint that has rows, and how long ago the newest were added."""
        ...


#: Of the shard-partitioned tables, those that hold what was read from the corpus.
DOCUMENT_TABLES = ("raw_corpus", "rejected")


@dataclass(frozen=True)
class Tables:
    """All tables of one pipeline, under one root; or the manifest, raw_corpus and rejected are
    those of another pipeline, under `documents_root`, and only read.
    """

    root: str
    documents_root: str
    manifest: WholeTable
    fingerprints: WholeTable
    calibration: WholeTable
    probes: WholeTable
    raw_corpus: ShardTable
    rejected: ShardTable
    chunks: ShardTable
    embeddings: ShardTable
    quality_metrics: ShardTable
    checkpoints: Checkpoints

    @property
    def by_shard(self) -> dict[str, ShardTable]:
        """The shard-partitioned tables by name, in the order of the flow."""
        return {
            "raw_corpus": self.raw_corpus,
            "rejected": self.rejected,
            "chunks": self.chunks,
            "embeddings": self.embeddings,
            "quality_metrics": self.quality_metrics,
        }

    @property
    def shares_documents(self) -> bool:
        """Whether the documents are another pipeline's."""
        return self.documents_root != self.root

    @property
    def own_by_shard(self) -> dict[str, ShardTable]:
        """Those of `by_shard` that this pipeline writes."""
        if not self.shares_documents:
            return self.by_shard
        return {k: table for k, table in self.by_shard.items() if k not in DOCUMENT_TABLES}


def constant(frame: pl.DataFrame, column: str) -> str:
    """The one value that a column has in a shard's frame. ValueError if there are several."""
    values = frame[column].unique().to_list()
    if len(values) != 1:
        raise ValueError(
            f"column {column!r} must be constant within a shard, has {len(values)} values"
        )
    return str(values[0])


def content_version(rows: pl.DataFrame) -> str | None:
    """What the rows that were read are, whatever stands in the table by now; None for no rows."""
    return None if rows.is_empty() else constant(rows, "content_version")


def sound_rows(tables: Tables, table: ShardTable, shard: str) -> pl.DataFrame:
    """A shard's rows, proved to be as they were written: damage must not spread downstream."""
    return sound_or_refused(table.read(shard), f"shard {shard} in {table.uri}", tables.root)
