"""What tables must hold, read by polars alone, and held against a run that nothing disturbed."""

from pathlib import Path

import numpy as np
import polars as pl

from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings
from embed_assets.tables.in_memory import in_memory_tables
from embed_assets_tests.small_pipelines import run_pipeline

#: What identifies a row, and what must be the same in any run over the same corpus.
CONTENT = {
    "raw_corpus": ["source", "doc_id", "text"],
    "rejected": ["source", "position", "reason"],
    "chunks": ["chunk_id", "doc_id", "text", "n_tokens", "token_ids"],
    "embeddings": ["chunk_id", "doc_id", "text_hash", "fingerprint"],
}
_TOLERANCE = 1e-6


def assert_readable(tables: str) -> None:
    """Whatever a run was killed at: a reader sees whole shards, each row once."""
    for name, columns in CONTENT.items():
        if not _exists(tables, name):
            continue
        rows = pl.read_delta(f"{tables}/{name}")
        assert (
            rows.group_by("shard")
            .agg(pl.col("content_version").n_unique())
            .filter(pl.col("content_version") > 1)
            .is_empty()
        ), f"{name} mixes two results in a shard"
        assert rows.select(columns[:3]).is_duplicated().sum() == 0, f"{name} has rows twice"
    if _exists(tables, "embeddings"):
        mixed = (
            pl.read_delta(f"{tables}/embeddings")
            .group_by("shard")
            .agg(pl.col("fingerprint").n_unique())
        )
        assert (mixed["fingerprint"] == 1).all(), "two fingerprints stand in a shard"


def assert_as_undisturbed(settings: PipelineSettings) -> None:
    """The tables hold what one run in peace gives: same ids, vectors within 1e-6."""
    expected = in_memory_tables()
    run_pipeline(OpenedPipeline(settings, expected))
    for name, columns in CONTENT.items():
        rows = pl.read_delta(f"{settings.tables}/{name}").select(columns).sort(columns[:3])
        should = expected.by_shard[name].scan().select(columns).collect().sort(columns[:3])
        assert rows.equals(should), f"{name}: {rows.height} rows, expected {should.height}"
    rows = pl.read_delta(f"{settings.tables}/embeddings").sort("chunk_id")
    should = expected.embeddings.scan().collect().sort("chunk_id")
    difference = np.abs(_matrix(rows) - _matrix(should)).max(initial=0)
    assert difference < _TOLERANCE, f"vectors differ by {difference}"


def _exists(tables: str, name: str) -> bool:
    return any((Path(tables) / name / "_delta_log").glob("*.json"))


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    return np.array(rows["embedding"].to_list(), dtype=np.float64)
