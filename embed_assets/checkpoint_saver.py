"""Save the vectors of a shard in work every `checkpoint_seconds`, while the device goes on."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets import frames
from embed_assets.opened_pipeline import OpenedPipeline


class CheckpointSaver:
    """Commits in a thread of its own. Use as a context, entered when vectors begin to come: on
    leaving, what began is finished.

    `vectors` (n, d) is the array that the shard's vectors are written into and `text_hashes` has
    the text of each row, so that nothing is held twice but what one commit writes.
    """

    def __init__(
        self,
        shard: str,
        pipeline: OpenedPipeline,
        text_hashes: pl.Series,
        vectors: NDArray[np.float32],
    ) -> None:
        self._shard = shard
        self._pipeline = pipeline
        self._text_hashes = text_hashes
        self._vectors = vectors
        self._rows: list[NDArray[np.int64]] = []
        self._saved_at = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._commit: Future[None] | None = None

    def __enter__(self) -> "CheckpointSaver":
        self._saved_at = time.monotonic()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._writer.shutdown(wait=True)
        if self._commit is not None and error_type is None:
            self._commit.result()

    def add(self, rows: NDArray[np.int64]) -> None:
        """Rows whose vectors are there now. Commits if it is time; raises what a commit raised."""
        self._rows.append(rows)
        if time.monotonic() - self._saved_at < self._pipeline.settings.checkpoint_seconds:
            return
        if self._commit is not None:
            self._commit.result()
        self._commit = self._writer.submit(self._save, np.concatenate(self._rows))
        self._rows = []
        self._saved_at = time.monotonic()

    def _save(self, rows: NDArray[np.int64]) -> None:
        vectors = self._vectors[rows]
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
