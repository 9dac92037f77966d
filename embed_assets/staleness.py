"""Which shards have work to do, from which stage on, and why. Pure: states in, reasons out."""

from collections.abc import Mapping
from dataclasses import dataclass

from embed_assets.digests import digest
from embed_assets.fingerprints import Configuration
from embed_assets.settings import PipelineSettings
from embed_assets.tables.table import ShardState

#: The stages of the flow, each a partitioned table and a Dagster asset.
STAGES = ("raw_corpus", "chunks", "embeddings", "quality_metrics")
#: Those of a pipeline that takes its documents from another one.
STAGES_AFTER_DOCUMENTS = STAGES[1:]

_METRICS_VERSION = "metrics-1"
#: The reason of a shard that was never read.
NEW = "new"


@dataclass(frozen=True, slots=True)
class Stale:
    """The first stage of a shard that has to run, and why.

    `by_settings`: with the settings of an earlier run it would be up to date.
    """

    stage: str
    reason: str
    by_settings: bool = False

    @property
    def n_standing(self) -> int:
        """How many stages before it are done."""
        return STAGES.index(self.stage)

    @property
    def has_other_files(self) -> bool:
        """Whether the shard was read once and has to be read again."""
        return self.stage == STAGES[0] and self.reason != NEW


def ingest_version(shard_version: str, reading_version: str) -> str:
    """What raw_corpus is made from: the shard's pieces, and how files are read."""
    return digest("ingest", shard_version, reading_version)


def documents_version(raw: ShardState | None) -> str:
    """What another pipeline's documents of a shard are; stands for the files in `ingest_version`
    where the files are none of ours.
    """
    return digest("documents", content_of(raw) or "")


def no_documents_version(ingest: str) -> str:
    """Marks, in `rejected`, a shard of which no document is left, so that it counts as done."""
    return digest("no documents", ingest)


def content_of(state: ShardState | None) -> str | None:
    """The content_version of what stands; None where nothing does."""
    return None if state is None else state.content_version


def chunks_version(raw_content: str | None, chunking_version: str) -> str | None:
    """What chunks is made from; None where there is nothing to chunk."""
    return None if raw_content is None else digest("chunks", raw_content, chunking_version)


def embeddings_version(chunks_content: str | None, fingerprint: str) -> str | None:
    """What embeddings is made from; None where there is nothing to embed."""
    return None if chunks_content is None else digest("embeddings", chunks_content, fingerprint)


def metrics_version(embeddings: ShardState | None) -> str | None:
    """What quality_metrics is made from; None where there is nothing to measure."""
    return None if embeddings is None else digest(_METRICS_VERSION, *embeddings.versions)


def is_ingested(ingest: str, raw: ShardState | None, rejected: ShardState | None) -> bool:
    """Whether raw_corpus holds what a shard's files give. `rejected` is always written first."""
    if raw is not None:
        return raw.input_version == ingest
    return rejected is not None and rejected.input_version == no_documents_version(ingest)


def is_done(standing: ShardState | None, version: str | None) -> bool:
    """Whether what stands was made from this version of the input; None stands for no rows."""
    return (standing.input_version if standing else None) == version


def own_stages(settings: PipelineSettings) -> tuple[str, ...]:
    """The stages that a pipeline runs itself."""
    return STAGES if settings.documents_of is None else STAGES_AFTER_DOCUMENTS


def first_stale_stage(
    shard_version: str | None,
    configuration: Configuration,
    states: Mapping[str, ShardState | None],
) -> Stale | None:
    """Where a shard's work has to begin; None where everything stands. `states` is by table.

    `shard_version` is of its pieces; None where the documents are another pipeline's, who keeps
    them up to date.
    """
    raw, rejected, chunks = states["raw_corpus"], states["rejected"], states["chunks"]
    embeddings, metrics = states["embeddings"], states["quality_metrics"]
    if shard_version is not None:
        ingest = ingest_version(shard_version, configuration.reading_version)
        if not is_ingested(ingest, raw, rejected):
            is_new = raw is None and rejected is None
            return Stale("raw_corpus", NEW if is_new else "changed files or reading")
    of_raw, of_chunks = content_of(raw), content_of(chunks)
    expected = {
        "chunks": (chunks, chunks_version(of_raw, configuration.chunking_version)),
        "embeddings": (embeddings, embeddings_version(of_chunks, configuration.fingerprint)),
        "quality_metrics": (metrics, metrics_version(embeddings)),
    }
    reasons = {
        "chunks": "changed text or chunking",
        "embeddings": "changed chunks or model",
        "quality_metrics": "changed vectors",
    }
    for stage, (standing, version) in expected.items():
        if not is_done(standing, version):
            return Stale(stage, "not done yet" if standing is None else reasons[stage])
    return None
