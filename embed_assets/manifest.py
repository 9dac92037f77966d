"""The manifest as it stands in its table: read, proved sound, grouped by shard."""

from collections.abc import Iterable, Set
from dataclasses import dataclass

import polars as pl

from embed_assets.checksums import sound_or_refused
from embed_assets.errors import InputError
from embed_assets.shards import Assignment, Piece, from_manifest
from embed_assets.sources.source import Listing, Source
from embed_assets.tables.table import Snapshot, Tables


@dataclass(frozen=True, slots=True)
class CorpusLook:
    """The manifest, and the files of the corpus as they were listed right after."""

    manifest: Snapshot
    listing: Listing


def look_at(tables: Tables, source: Source) -> CorpusLook:
    """A look at the corpus. Raises InputError if it or the manifest cannot be read."""
    # In this order: an older listing must never replace the manifest of a later one.
    manifest = read_manifest(tables)
    return CorpusLook(manifest, source.files())


def read_manifest(tables: Tables) -> Snapshot:
    """The manifest. Raises InputError if a row is not as it was written."""
    snapshot = tables.manifest.read()
    sound_or_refused(snapshot.frame, tables.manifest.uri, tables.root)
    return snapshot


def pieces_by_shard(frame: pl.DataFrame) -> dict[str, list[Piece]]:
    """Every shard's pieces, from the manifest's rows."""
    return grouped_by_shard(from_manifest(frame))


def grouped_by_shard(manifest: Iterable[Assignment]) -> dict[str, list[Piece]]:
    """Every shard's pieces."""
    pieces: dict[str, list[Piece]] = {}
    for row in manifest:
        pieces.setdefault(row.shard, []).append(row.piece)
    return pieces


def refuse_another_corpus(
    manifest: pl.DataFrame, sources: Set[str], corpus: str, root: str
) -> None:
    """Raise InputError if the tables hold another corpus, whose vectors a plan would remove.

    A corpus that only moved still has most of its files under their names.
    """
    others = manifest.filter(pl.col("corpus") != corpus)["source"].unique()
    kept = sum(source in sources for source in others)
    if len(others) and kept < len(others) / 2:
        raise InputError(
            f"the tables under {root} hold the corpus {manifest['corpus'][0]}, and only {kept} of "
            f"its {len(others)} files are in {corpus}; running would remove its vectors: choose "
            "another folder for tables, or delete this one"
        )
