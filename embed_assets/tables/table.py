"""What the pipeline asks of a store: publish a shard whole, know its state, read it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole table at one version; -1 where there is no table yet.

    `counter` is a number that the table carries beside its rows: for the manifest the next shard
    number, so that the number of a deleted shard is never given out again.
    """

    frame: pl.DataFrame
    version: int
    counter: int


class Superseded(Exception):
    """Another run published this shard since this run read it; its result stands."""


class ShardTable(Protocol):
    """A table partitioned by shard. Implementations: `DeltaShardTable`, `InMemoryShardTable`."""

    @property
    def uri(self) -> str:
        """Where the table is."""
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
    ) -> None:
        """Replace the shard's rows by `frame` in one atomic commit; no rows remove the shard.

        `expected` is the state that the caller started from. Raises Superseded if something else
        stands by now. If just what would be written stands there already, nothing is written,
        unless `rewrite` asks for fresh files.
        """
        ...

    def scan(self) -> pl.LazyFrame:
        """All rows, lazily."""
        ...


class WholeTable(Protocol):
    """A small table that is read and replaced as a whole: the manifest, the fingerprints."""

    @property
    def uri(self) -> str:
        """Where the table is."""
        ...

    def read(self) -> Snapshot:
        """All rows at the current version."""
        ...

    def replace(self, frame: pl.DataFrame, snapshot: Snapshot, counter: int) -> None:
        """Replace rows and counter in one atomic commit. Superseded if the table moved on."""
        ...


@dataclass(frozen=True)
class Tables:
    """All tables of one pipeline, under one root."""

    root: str
    manifest: WholeTable
    fingerprints: WholeTable
    raw_corpus: ShardTable
    rejected: ShardTable
    chunks: ShardTable
    embeddings: ShardTable
    quality_metrics: ShardTable

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


def constant(frame: pl.DataFrame, column: str) -> str:
    """The one value that a column has in a shard's frame. ValueError if there are several."""
    values = frame[column].unique().to_list()
    if len(values) != 1:
        raise ValueError(
            f"column {column!r} must be constant within a shard, has {len(values)} values"
        )
    return str(values[0])
