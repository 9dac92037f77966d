"""All numbers about one shard in one flat dict: what the `quality_metrics` table holds.

Metric names are public, like column names: the Dagster UI plots each over time. Add, never rename.
"""

import math
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.quality import text_metrics, vector_metrics
from embed_assets.quality.vectors import SAMPLED_VECTORS, embedding_matrix


def shard_metrics(
    chunks: pl.DataFrame, embeddings: pl.DataFrame, run_numbers: Mapping[str, float]
) -> dict[str, float]:
    """Every metric of a shard by name; all finite, and the undefined ones left out.

    `chunks` needs chunk_id, doc_id, text_hash and n_tokens; `embeddings` needs chunk_id, text_hash
    and embedding, all of one length. `run_numbers` is what only the run knows, such as
    tokens_per_second or rejected; it wins over a number of the same name found here (documents:
    those without any chunk are not in `chunks`).
    """
    # Sorted, so that a sample has the same rows however the table's files lie.
    embeddings = embeddings.select("chunk_id", "text_hash", "embedding").sort("chunk_id")
    measured: dict[str, float | None] = {
        "documents": float(chunks["doc_id"].n_unique()),
        "chunks": float(chunks.height),
        "tokens": float(chunks["n_tokens"].sum()),
        "coverage": text_metrics.coverage(chunks["chunk_id"], embeddings["chunk_id"]),
        "duplicate_text_share": text_metrics.duplicate_text_share(chunks["text_hash"]),
        **text_metrics.token_length_metrics(chunks["n_tokens"]),
        **_vector_metrics(embedding_matrix(embeddings["embedding"]), embeddings["text_hash"]),
        **run_numbers,
    }
    return {
        name: value
        for name, value in measured.items()
        if value is not None and math.isfinite(value)
    }


def spread_metrics(vectors: NDArray[np.float32]) -> dict[str, float | None]:
    """How far vectors (n, d) spread: the metrics that tell a collapsed model from a sound one."""
    rank = vector_metrics.effective_rank(vectors)
    # The rank of a sample cannot exceed its size, so neither may what it is compared with.
    most = min(*vectors.shape, SAMPLED_VECTORS)
    return {
        "mean_pairwise_cosine": vector_metrics.mean_pairwise_cosine(vectors),
        "uniformity": vector_metrics.uniformity(vectors),
        "effective_rank": rank,
        "effective_rank_share": None if rank is None else rank / most,
    }


def _vector_metrics(
    vectors: NDArray[np.float32], text_hashes: pl.Series
) -> dict[str, float | None]:
    return {
        "non_finite_share": vector_metrics.non_finite_share(vectors),
        **vector_metrics.norm_metrics(vectors),
        "near_duplicate_share": vector_metrics.near_duplicate_share(vectors, text_hashes),
        **spread_metrics(vectors),
    }
