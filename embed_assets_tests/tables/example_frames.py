"""Frames with a few rows of each table, to publish and read back."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from embed_assets import frames
from embed_assets.checksums import with_checksums
from embed_assets.chunking.token_windows import Chunk
from embed_assets.rows import SHARDS
from embed_assets.sources.source import Document, Rejection

INSTANT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECRET = "the-secret-corpus-words"


def metrics(shard: str, value: float = 1.0) -> pl.DataFrame:
    """Another value stands for another result, made from other input."""
    found = {"coverage": value, "tokens": 12.0}
    return frames.quality_metrics_frame(shard, found, "f1", INSTANT, f"i{value:g}")


def raw_corpus(shard: str) -> pl.DataFrame:
    documents = [
        Document("d1", "a.txt", "", f"{SECRET} ä \0 'quoted' \U0001f600", {"n": 1}),
        Document("d2", "b.txt", "Title", "two\nlines"),
    ]
    return frames.raw_corpus_frame(shard, documents, "i1")


def rejected(shard: str) -> pl.DataFrame:
    return frames.rejected_frame(shard, [Rejection("c.txt", 7, "not UTF-8", "byte 3")], "i1")


def chunks(shard: str) -> pl.DataFrame:
    parts = [Chunk(0, 3, np.array([1, 2, 3], np.int32)), Chunk(4, 9, np.array([9], np.int32))]
    return frames.chunks_frame(shard, [("d2", "b.txt", "two\nlines", parts)], "i1")


def embeddings(shard: str, seed: int = 0) -> pl.DataFrame:
    rows = chunks(shard)
    matrix = np.random.default_rng(seed).normal(size=(rows.height, 8)).astype(np.float32)
    # What a lossy detour would change: a subnormal, the largest float, a negative zero.
    matrix[0, :3] = 1e-45, 3.4028235e38, -0.0
    return frames.embeddings_frame(shard, rows, matrix, "f1", {"device": "cpu"}, "i1")


EXAMPLES = {
    "raw_corpus": raw_corpus,
    "rejected": rejected,
    "chunks": chunks,
    "embeddings": embeddings,
    "quality_metrics": metrics,
}


def manifest(source: str) -> pl.DataFrame:
    row = {"shard": ["shard-000000"], "source": [source], "start": [0], "end": [9]}
    more = {"n_bytes": [9], "version": ["9-1"], "corpus": ["corpus"]}
    return with_checksums(pl.DataFrame(row | more), SHARDS)


def checkpoint(seed: int, shard: str = "s", fingerprint: str = "f1") -> pl.DataFrame:
    """Three vectors of texts that only this seed has."""
    vectors = np.random.default_rng(seed).normal(size=(3, 8)).astype(np.float32)
    hashes = pl.Series([f"{seed}-{i}" for i in "abc"])
    return frames.checkpoint_frame(shard, fingerprint, hashes, vectors)
