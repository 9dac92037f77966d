"""Bring the manifest up to date: which part of which file belongs to which shard."""

from collections import Counter
from dataclasses import dataclass

from embed_assets.errors import InputError
from embed_assets.manifest import CorpusLook, look_at, read_manifest, refuse_another_corpus
from embed_assets.settings import PipelineSettings
from embed_assets.shards import ShardPlan, from_manifest, manifest_frame, plan_shards
from embed_assets.sources.source import Source
from embed_assets.tables.table import Tables


@dataclass(frozen=True)
class CorpusPlan:
    """A plan that is in the manifest now, and the files passed over by type."""

    shards: ShardPlan
    n_files: int
    n_bytes: int
    skipped: Counter[str]


def plan_files(
    settings: PipelineSettings, tables: Tables, source: Source, look: CorpusLook | None
) -> CorpusPlan:
    """Plan from a look at the corpus, taken now where none is given, and write the manifest.

    Raises InputError if the corpus is missing or another one, Superseded if another run has planned
    since the look.
    """
    look = look or look_at(tables, source)
    snapshot, listing = look.manifest, look.listing
    sources = {file.source for file in listing.files}
    refuse_another_corpus(snapshot.frame, sources, settings.corpus, tables.root)
    shard_bytes = int(settings.shard_bytes)
    plan = plan_shards(
        from_manifest(snapshot.frame),
        listing.files,
        lambda file: source.pieces(file, shard_bytes),
        shard_bytes,
        snapshot.counter,
    )
    if plan.has_changed:
        frame = manifest_frame(plan.manifest, settings.corpus)
        tables.manifest.replace(frame, snapshot, plan.next_number)
    n_bytes = sum(file.n_bytes for file in listing.files)
    return CorpusPlan(plan, len(listing.files), n_bytes, listing.skipped)


def plan_documents(settings: PipelineSettings, tables: Tables) -> CorpusPlan:
    """The manifest of the pipeline whose documents these settings embed, which is only read.

    Raises InputError if there is none.
    """
    snapshot = read_manifest(tables)
    if snapshot.version < 0:
        raise InputError(
            f"there are no documents of the pipeline {settings.documents_of!r} under "
            f"{tables.documents_root}, which {settings.name} is to embed; run "
            f"{settings.documents_of!r} first, or set documents_tables to its tables"
        )
    manifest = from_manifest(snapshot.frame)
    had = {shard for table in tables.own_by_shard.values() for shard in table.states()}
    removed = tuple(sorted(had - {row.shard for row in manifest}))
    plan = ShardPlan(manifest, added=(), changed=(), removed=removed, next_number=0)
    n_bytes = sum(row.piece.n_bytes for row in manifest)
    return CorpusPlan(plan, snapshot.frame["source"].n_unique(), n_bytes, Counter())
