"""Vectors that need not be computed: those published, and those a killed run left behind."""

import time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets import frames
from embed_assets.checksums import is_sound
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.tables.table import CheckpointKey


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
