"""Chunks -> vectors, in three steps that overlap between shards: read, encode, publish.

`pipeline.embed_shard` takes one shard through them, `shard_stream` many at once.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets import frames, staleness
from embed_assets.checkpoint_saver import CheckpointSaver
from embed_assets.checksums import is_sound
from embed_assets.cost import cost_numbers
from embed_assets.embedding.device_use import watched
from embed_assets.embedding.encoder import Encoder, EncodeStats, encode_batches
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets.freed_memory import give_back_freed_memory
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.tables.table import CheckpointKey, ShardState, content_version, sound_rows
from embed_assets.vector_checks import check_new_vectors, check_standing_vectors

log = logging.getLogger(__name__)

# Chunks per shard whose stored ids are compared with the loaded model's own preprocessing.
_PROVED_CHUNKS = 4

#: Gets a shard and the number of its tokens that the device has done, batch by batch.
OnTokens = Callable[[str, int], None]


@dataclass
class ShardVectors:
    """A shard's chunks, and their vectors (n_chunks, dimension) float32 as they come.

    `first` (n_chunks,) is the row where each chunk's text first stands: equal texts are embedded
    once. `missing` are the rows to embed. `device_numbers` say for how many seconds the shard had
    a device, and what that device told of itself.
    """

    shard: str
    standing: ShardState | None
    chunks: pl.DataFrame
    first: NDArray[np.int64]
    missing: NDArray[np.int64]
    vectors: NDArray[np.float32]
    stats: EncodeStats = field(default_factory=EncodeStats)
    provenance: dict[str, object] = field(default_factory=dict)
    device_numbers: dict[str, float] = field(default_factory=dict)


def read_vectors(shard: str, pipeline: OpenedPipeline, *, force: bool) -> ShardVectors | Outcome:
    """The shard's chunks with the vectors at hand; the outcome where everything stands already."""
    tables = pipeline.tables
    standing = tables.embeddings.states().get(shard)
    state = staleness.content_of(tables.chunks.states().get(shard))
    version = staleness.embeddings_version(state, pipeline.fingerprint)
    if staleness.is_done(standing, version) and not force:
        chunks = tables.chunks.read(shard, ["chunk_id", "n_tokens"])
        rows = tables.embeddings.read(shard)
        findings = check_standing_vectors(shard, pipeline, chunks, rows)
        return Outcome(shard, "embeddings", False, rows.height, _sizes(chunks), findings)

    chunks = sound_rows(tables, tables.chunks, shard)
    first = _first_rows(chunks["text_hash"])
    vectors = np.empty((chunks.height, pipeline.dimension), dtype=np.float32)
    is_known = np.zeros(chunks.height, dtype=bool)
    if not force:
        is_known = _take_vectors_at_hand(shard, pipeline, chunks["text_hash"], vectors)
    is_first = first == np.arange(chunks.height)
    return ShardVectors(
        shard, standing, chunks, first, np.flatnonzero(is_first & ~is_known), vectors
    )


def encode_missing(
    work: ShardVectors,
    pipeline: OpenedPipeline,
    device: AbstractContextManager[Encoder],
    on_tokens: OnTokens,
    *,
    save: bool,
) -> None:
    """Embed what is missing, saved to the checkpoints as it comes where `save` says so.

    The device is held for nothing but that: what it needs is ready before it is entered, and what
    is still to be saved is waited for after it was left.
    """
    hashes, lengths = work.chunks["text_hash"], work.chunks["n_tokens"].to_numpy()
    tokens = TokenRows.from_series(work.chunks["token_ids"].gather(work.missing))
    some = work.chunks.sample(min(_PROVED_CHUNKS, work.chunks.height), seed=0)
    # Entered with the device, and left after it.
    saver = CheckpointSaver(work.shard, pipeline, hashes, work.vectors)

    def on_batch(rows: NDArray[np.int64], encoded: NDArray[np.float32]) -> None:
        chunk_rows = work.missing[rows]
        work.vectors[chunk_rows] = encoded
        on_tokens(work.shard, int(lengths[chunk_rows].sum()))
        if save:
            saver.add(chunk_rows)

    with ExitStack() as saving, device as encoder:
        saving.enter_context(saver)
        started = time.perf_counter()
        _prove_dimension(pipeline, encoder)
        _prove_token_ids(some, pipeline, encoder)
        with watched(encoder.device) as use:
            budget = pipeline.batch_budget(encoder)
            work.stats = encode_batches(encoder, tokens, budget, on_batch)
        pipeline.remember_budget(encoder, work.stats)
        work.provenance = {"device": encoder.device, "precision": encoder.precision}
        work.device_numbers = {"device_seconds": time.perf_counter() - started, **use.numbers()}


def publish_vectors(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
    """Check the vectors, and replace the shard by them in one commit."""
    repeated = np.flatnonzero(work.first != np.arange(len(work.first)))
    work.vectors[repeated] = work.vectors[work.first[repeated]]
    numbers = _run_numbers(work)
    rows = frames.embeddings_frame(
        work.shard,
        work.chunks,
        work.vectors,
        pipeline.fingerprint,
        work.provenance | numbers,
        staleness.embeddings_version(content_version(work.chunks), pipeline.fingerprint) or "",
    )
    findings = check_new_vectors(work.shard, pipeline, work.chunks, rows)
    pipeline.model.verify_unchanged()
    tables = pipeline.tables
    written = tables.embeddings.publish(
        work.shard, rows, work.standing, rewrite=force, fence=pipeline.fence(work.shard)
    )
    if not written and rows.height:
        log.warning("another run embedded %s at the same time; its vectors stand", work.shard)
    tables.checkpoints.clear(CheckpointKey(work.shard, pipeline.fingerprint))
    give_back_freed_memory()
    # The price is no part of the rows: it changes without them.
    shown = numbers | cost_numbers(
        numbers["device_seconds"], numbers["embedded_tokens"], pipeline.settings.price_per_hour
    )
    return Outcome(work.shard, "embeddings", written, rows.height, shown, findings)


def _first_rows(text_hashes: pl.Series) -> NDArray[np.int64]:
    """For each row (n,) the first row with the same text."""
    rows = text_hashes.to_frame("text_hash").with_row_index("row")
    return rows.select(pl.col("row").first().over("text_hash")).to_series().to_numpy().astype("i8")


def _take_vectors_at_hand(
    shard: str, pipeline: OpenedPipeline, text_hashes: pl.Series, vectors: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Fill in the vectors under this fingerprint, published or left behind by a killed run.

    Returns which rows (n,) were filled. A vector that is not as it was written was damaged on
    disk, and is embedded again.
    """
    published = pipeline.tables.embeddings.read(shard).filter(
        pl.col("fingerprint") == pipeline.fingerprint
    )
    saved = pipeline.tables.checkpoints.read(CheckpointKey(shard, pipeline.fingerprint))
    is_known = np.zeros(len(text_hashes), dtype=bool)
    wanted = text_hashes.to_frame("text_hash").with_row_index("row")
    for rows in (published, saved):
        known = (
            rows.filter(is_sound(rows) & (rows["embedding"].list.len() == vectors.shape[1]))
            .select("text_hash", "embedding")
            .unique("text_hash", keep="first")
        )
        found = wanted.join(known, on="text_hash")
        at = found["row"].to_numpy()
        flat = found["embedding"].explode(empty_as_null=False).to_numpy()
        vectors[at] = flat.reshape(-1, vectors.shape[1])
        is_known[at] = True
    return is_known


def _prove_dimension(pipeline: OpenedPipeline, encoder: Encoder) -> None:
    if encoder.dimension != pipeline.dimension:
        raise InputError(
            f"one_dimension: the loaded model {pipeline.settings.model} gives vectors of "
            f"{encoder.dimension} dimensions, expected {pipeline.dimension} as its files declare"
        )


def _prove_token_ids(chunks: pl.DataFrame, pipeline: OpenedPipeline, encoder: Encoder) -> None:
    """Raise InputError if the stored ids are not what the loaded model makes of the texts."""
    for shard, chunk_id, text, ids in chunks.select(
        "shard", "chunk_id", "text", "token_ids"
    ).iter_rows():
        if encoder.token_ids(text) != ids:
            raise InputError(
                f"chunk {chunk_id} of shard {shard} has other token ids than the model "
                f"{pipeline.settings.model} makes of its text: this model prepares texts in a way "
                "that chunking does not know; nothing was embedded"
            )


def _run_numbers(work: ShardVectors) -> dict[str, float]:
    """What a run says of the chunks of a shard and of those it embedded."""
    n_chunks, n_embedded, stats = work.chunks.height, len(work.missing), work.stats
    numbers = {
        **_sizes(work.chunks),
        "embedded_chunks": float(n_embedded),
        "embedded_tokens": float(stats.n_tokens),
        "padded_tokens": float(stats.n_padded_tokens),
        "reused_share": 1 - n_embedded / n_chunks if n_chunks else 0.0,
        "seconds": stats.seconds,
        "halvings": float(stats.n_halvings),
        "device_seconds": 0.0,
        **work.device_numbers,
    }
    if stats.n_tokens:
        numbers["tokens_per_second"] = stats.n_tokens / stats.seconds
        numbers["padding_waste"] = stats.padding_waste
    return numbers


def _sizes(chunks: pl.DataFrame) -> dict[str, float]:
    """What is true of a shard whether it was embedded just now or long ago."""
    return {"chunks": float(chunks.height), "tokens": float(chunks["n_tokens"].sum())}
