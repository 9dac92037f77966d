"""The vectors of a shard's texts: published, left behind by a killed run, or new."""

import time
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets import frames
from embed_assets.checksums import is_sound
from embed_assets.embedding.encoder import Encoder, EncodeStats, encode_all
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.tables.table import CheckpointKey

# Chunks per shard whose stored ids are compared with the loaded model's own preprocessing.
_PROVED_CHUNKS = 4

#: Gets the number of tokens that the device has done, batch by batch.
OnTokens = Callable[[int], None]


def vectors_at_hand(shard: str, pipeline: OpenedPipeline) -> pl.DataFrame:
    """Vectors (text_hash, embedding) under this fingerprint, each text once.

    A row that is not as it was written was damaged on disk, and is embedded again.
    """
    published = pipeline.tables.embeddings.read(shard).filter(
        pl.col("fingerprint") == pipeline.fingerprint
    )
    saved = pipeline.tables.checkpoints.read(CheckpointKey(shard, pipeline.fingerprint))
    sound = [
        rows.filter(is_sound(rows)).select("text_hash", "embedding")
        for rows in (published, saved)
        if rows.height
    ]
    return pl.concat([no_vectors(), *sound]).unique("text_hash", keep="first")


def no_vectors() -> pl.DataFrame:
    """The same, empty."""
    return pl.DataFrame(schema={"text_hash": pl.String, "embedding": pl.List(pl.Float32)})


def prove_token_ids(chunks: pl.DataFrame, pipeline: OpenedPipeline, encoder: Encoder) -> None:
    """Raise InputError if the stored ids are not what the loaded model makes of the texts."""
    sample = chunks.sample(min(_PROVED_CHUNKS, chunks.height), seed=0)
    for shard, chunk_id, text, ids in sample.select(
        "shard", "chunk_id", "text", "token_ids"
    ).iter_rows():
        if encoder.token_ids(text) != ids:
            raise InputError(
                f"chunk {chunk_id} of shard {shard} has other token ids than the model "
                f"{pipeline.settings.model} makes of its text: this model prepares texts in a way "
                "that chunking does not know; nothing was embedded"
            )


def embed_texts(
    shard: str,
    texts: pl.DataFrame,
    pipeline: OpenedPipeline,
    encoder: Encoder,
    on_tokens: OnTokens,
    *,
    save: bool,
) -> tuple[pl.DataFrame, EncodeStats]:
    """Vectors (text_hash, embedding) of texts, saved to the checkpoints as they come."""
    saver = CheckpointSaver(shard, pipeline, texts["text_hash"]) if save else None
    lengths = texts["n_tokens"].to_numpy()

    def on_batch(rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        on_tokens(int(lengths[rows].sum()))
        if saver is not None:
            saver.add(rows, vectors)

    vectors, stats = encode_all(
        encoder,
        TokenRows.from_series(texts["token_ids"]),
        pipeline.batch_budget(encoder),
        on_batch,
    )
    pipeline.remember_budget(encoder, stats)
    embedding = pl.Series("embedding", vectors).arr.to_list()
    return pl.DataFrame({"text_hash": texts["text_hash"], "embedding": embedding}), stats


def run_numbers(
    chunks: pl.DataFrame, embedded: pl.DataFrame, stats: EncodeStats
) -> dict[str, float]:
    """What a run says of the chunks of a shard and of those it embedded."""
    numbers = {
        "chunks": float(chunks.height),
        "tokens": float(chunks["n_tokens"].sum()),
        "embedded_chunks": float(embedded.height),
        "embedded_tokens": float(stats.n_tokens),
        "padded_tokens": float(stats.n_padded_tokens),
        "reused_share": 1 - embedded.height / chunks.height if chunks.height else 0.0,
        "seconds": stats.seconds,
        "halvings": float(stats.n_halvings),
    }
    if stats.n_tokens:
        numbers["tokens_per_second"] = stats.n_tokens / stats.seconds
        numbers["padding_waste"] = 1 - stats.n_tokens / stats.n_padded_tokens
    return numbers


class CheckpointSaver:
    """Commits the vectors of a shard in work every `checkpoint_seconds`."""

    def __init__(self, shard: str, pipeline: OpenedPipeline, text_hashes: pl.Series) -> None:
        self._shard = shard
        self._pipeline = pipeline
        self._text_hashes = text_hashes
        self._rows: list[NDArray[np.int64]] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._saved_at = time.monotonic()

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take the vectors (n, d) of some of the texts, and commit if it is time."""
        self._rows.append(rows)
        self._vectors.append(vectors)
        if time.monotonic() - self._saved_at >= self._pipeline.settings.checkpoint_seconds:
            self._commit()
            self._saved_at = time.monotonic()

    def _commit(self) -> None:
        rows, vectors = np.concatenate(self._rows), np.concatenate(self._vectors)
        self._rows, self._vectors = [], []
        # What is no vector is refused at the end, by name; here it must not outlive this run.
        usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        # Weights are mapped into memory: a changed file may change vectors under way.
        self._pipeline.model.verify_unchanged()
        frame = frames.checkpoint_frame(
            self._shard,
            self._pipeline.fingerprint,
            self._text_hashes[rows[usable]],
            vectors[usable],
        )
        if frame.height:
            self._pipeline.tables.checkpoints.add(frame)
