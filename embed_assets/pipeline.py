"""The flow, top to bottom: ingest_shard, chunk_shard, embed_shard, measure_shard.

Each takes one shard from one table to the next and replaces it there whole. A stage whose input
did not change writes nothing, so running again is always safe and cheap. No Dagster in here.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime

from embed_assets import frames, staleness
from embed_assets.concurrency import chunking_threads
from embed_assets.document_chunks import chunked_documents
from embed_assets.embedding.encoder import Encoder
from embed_assets.freed_memory import give_back_freed_memory
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.quality.checks import warning_findings
from embed_assets.quality.metrics import shard_metrics
from embed_assets.shard_vectors import OnTokens, encode_missing, publish_vectors, read_vectors
from embed_assets.sources.source import Document, Rejection
from embed_assets.tables.table import ShardState, content_version, sound_rows

# Of several shards at once, one is read while others are written: reading files is Python for the
# most part, and two threads of it took a third longer than one.
_READING = threading.Lock()

# What only the run that made the vectors knows, and quality_metrics keeps.
_RUN_NUMBERS = (
    "tokens_per_second",
    "padding_waste",
    "seconds",
    "embedded_tokens",
    "reused_share",
    "device_seconds",
    "gpu_utilization",
    "gpu_memory_bytes",
)


def ingest_shard(shard: str, pipeline: OpenedPipeline, *, force: bool = False) -> Outcome:
    """Files -> documents. Writes `rejected`, then `raw_corpus`."""
    tables = pipeline.tables
    raw, rejected = tables.raw_corpus.states().get(shard), tables.rejected.states().get(shard)
    version = pipeline.ingest_version(shard)
    if staleness.is_ingested(version, raw, rejected) and not force:
        numbers = _ingest_numbers(raw.n_rows if raw else 0, rejected.n_rows if rejected else 0)
        return Outcome(shard, "raw_corpus", False, raw.n_rows if raw else 0, numbers)

    with _READING:
        started = time.perf_counter()
        documents, refused = _read(shard, pipeline)
    marked = version if documents else staleness.no_documents_version(version)
    fence = pipeline.fence(shard)
    written = tables.rejected.publish(
        shard, frames.rejected_frame(shard, refused, marked), rejected, rewrite=force, fence=fence
    )
    written |= tables.raw_corpus.publish(
        shard, frames.raw_corpus_frame(shard, documents, version), raw, rewrite=force, fence=fence
    )
    numbers = _ingest_numbers(len(documents), len(refused))
    reasons = Counter(rejection.reason for rejection in refused)
    numbers |= {f"rejected: {reason}": n for reason, n in sorted(reasons.items())}
    # Without the time for which another shard was read.
    numbers["seconds"] = time.perf_counter() - started
    return Outcome(shard, "raw_corpus", written, len(documents), numbers)


def _read(shard: str, pipeline: OpenedPipeline) -> tuple[list[Document], list[Rejection]]:
    """The documents of a shard and what was refused of it. Of two with one id, the first stays."""
    documents: dict[str, Document] = {}
    refused: list[Rejection] = []
    for item in pipeline.read_shard(shard):
        if isinstance(item, Rejection):
            refused.append(item)
        elif item.doc_id in documents:
            refused.append(
                Rejection(item.source, 0, "duplicate id", "another file of this shard has it too")
            )
        else:
            documents[item.doc_id] = item
    return [*documents.values()], refused


def chunk_shard(shard: str, pipeline: OpenedPipeline, *, force: bool = False) -> Outcome:
    """Documents -> chunks with token ids."""
    tables = pipeline.tables
    standing = tables.chunks.states().get(shard)
    raw = tables.raw_corpus.states().get(shard)
    wanted = staleness.chunks_version(staleness.content_of(raw), pipeline.chunking_version)
    if staleness.is_done(standing, wanted) and not force:
        n_tokens = tables.chunks.read(shard, ["n_tokens"])["n_tokens"]
        numbers: dict[str, float] = {
            "documents": raw.n_rows if raw else 0,
            "chunks": len(n_tokens),
            "tokens": int(n_tokens.sum()),
        }
        return Outcome(shard, "chunks", False, len(n_tokens), numbers)

    documents = sound_rows(tables, tables.raw_corpus, shard)
    version = staleness.chunks_version(content_version(documents), pipeline.chunking_version)
    n_threads = chunking_threads(pipeline.settings.shard_bytes)
    chunked = chunked_documents(documents, pipeline.chunker(), n_threads)
    frame = frames.chunks_frame(shard, chunked, version or "")
    fence = pipeline.fence(shard)
    written = tables.chunks.publish(shard, frame, standing, rewrite=force, fence=fence)
    give_back_freed_memory()
    return Outcome(
        shard,
        "chunks",
        written,
        frame.height,
        {
            "documents": documents.height,
            "chunks": frame.height,
            "tokens": int(frame["n_tokens"].sum()),
        },
    )


def embed_shard(
    shard: str,
    pipeline: OpenedPipeline,
    load_encoder: Callable[[], Encoder],
    *,
    force: bool = False,
    on_tokens: OnTokens = lambda shard, n_tokens: None,
) -> Outcome:
    """Chunks -> vectors, checked before they are published.

    What already stands under the same fingerprint and text_hash is reused, and equal texts are
    embedded once. The model is loaded only if there is something to embed.
    """
    work = read_vectors(shard, pipeline, force=force)
    if isinstance(work, Outcome):
        return work
    if len(work.missing):
        encode_missing(work, pipeline, nullcontext(load_encoder()), on_tokens, save=not force)
    return publish_vectors(work, pipeline, force=force)


def measure_shard(shard: str, pipeline: OpenedPipeline, *, force: bool = False) -> Outcome:
    """Vectors -> quality metrics."""
    tables = pipeline.tables
    standing = tables.quality_metrics.states().get(shard)
    embeddings_state = tables.embeddings.states().get(shard)
    version = staleness.metrics_version(embeddings_state)
    if staleness.is_done(standing, version) and not force:
        rows = tables.quality_metrics.read(shard, ["metric", "value"])
        metrics = dict(rows.iter_rows())
        findings = warning_findings(shard, metrics, pipeline.settings) if metrics else ()
        return Outcome(shard, "quality_metrics", False, rows.height, metrics, findings)

    metrics, fingerprint = _measured(shard, pipeline, embeddings_state)
    frame = frames.quality_metrics_frame(
        shard, metrics, fingerprint, datetime.now(UTC), version or ""
    )
    fence = pipeline.fence(shard)
    written = tables.quality_metrics.publish(shard, frame, standing, rewrite=force, fence=fence)
    findings = warning_findings(shard, metrics, pipeline.settings) if metrics else ()
    return Outcome(shard, "quality_metrics", written, frame.height, metrics, findings)


def _ingest_numbers(n_documents: int, n_rejected: int) -> dict[str, float]:
    return {"documents": n_documents, "rejected": n_rejected}


def _measured(
    shard: str, pipeline: OpenedPipeline, state: ShardState | None
) -> tuple[dict[str, float], str]:
    """The metrics of the vectors that stand, and their fingerprint; none for no vectors."""
    if state is None:
        return {}, ""
    tables = pipeline.tables
    raw, rejected = tables.raw_corpus.states().get(shard), tables.rejected.states().get(shard)
    chunks = tables.chunks.read(shard, ["chunk_id", "doc_id", "text_hash", "n_tokens"])
    rows = sound_rows(tables, tables.embeddings, shard)
    made = json.loads(rows["provenance"][0])
    run_numbers = {name: made[name] for name in _RUN_NUMBERS if name in made}
    counts = _ingest_numbers(raw.n_rows if raw else 0, rejected.n_rows if rejected else 0)
    counts["embedding_bytes"] = state.n_bytes
    return shard_metrics(chunks, rows, run_numbers | counts), str(rows["fingerprint"][0])
