"""What must hold, or should, for vectors that readers may trust: each check gives a Finding.

A blocking check looks at rows, and its failure keeps downstream assets from running; a warning
looks at metrics and limits from the settings. Every function that gives a Finding bears the name
of its check in BLOCKING_CHECKS or WARNING_CHECKS, from which the orchestration takes its specs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.quality.vectors import embedding_matrix, row_norms
from embed_assets.settings import PipelineSettings

#: Check name -> what holds if it passes, in the order in which they run.
BLOCKING_CHECKS: Final[Mapping[str, str]] = {
    "one_vector_per_chunk": "Every chunk has exactly one vector and every vector one chunk.",
    "vectors_finite": "No vector holds a NaN, an infinity or a null.",
    "norms_right": "Vectors have length 1 where the model normalises, and none is zero.",
    "one_dimension": "All vectors have the model's dimension.",
    "one_fingerprint": "All vectors were made by the model and settings of this pipeline.",
    "rows_as_written": "Every row is as it was written: nothing damaged it on disk.",
}
WARNING_CHECKS: Final[Mapping[str, str]] = {
    "few_duplicates": "The share of repeated chunk texts is within max_duplicate_share.",
    "effective_rank_high_enough": "Vectors spread over enough dimensions: not collapsed.",
    "shards_near_centroid": "No shard's mean vector is beyond max_centroid_distance.",
}

#: A finding names at most so many chunks: enough to look at, and metadata stays small.
MAX_NAMED_CHUNKS = 10
#: Vectors computed in fp16 are normalised in float32: what remains is far below this.
UNIT_NORM_TOLERANCE = 1e-3
#: A vector shorter than this has no direction that float32 could tell.
LEAST_NORM = 1e-6
#: Below this many chunks a shard may well be one document on one topic, whose rank is rightly low.
MIN_CHUNKS_FOR_RANK = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found in one shard. `chunk_ids` are at most MAX_NAMED_CHUNKS culprits."""

    check: str
    passed: bool
    shard: str
    detail: str
    chunk_ids: tuple[str, ...] = ()


def blocking_findings(
    shard: str,
    chunks: pl.DataFrame,
    embeddings: pl.DataFrame,
    *,
    dimension: int,
    fingerprint: str,
    unit_length: bool,
    damaged: pl.Series | None = None,
) -> tuple[Finding, ...]:
    """One finding for each of BLOCKING_CHECKS, in that order.

    `chunks` needs chunk_id; `embeddings` needs chunk_id, embedding and fingerprint. The rest is
    what the encoder promises: vector length, fingerprint, and whether vectors have length 1.
    `damaged` are the chunk ids of rows whose checksum does not match; none for rows just made.
    """
    return (
        one_vector_per_chunk(shard, chunks, embeddings),
        vectors_finite(shard, embeddings),
        norms_right(shard, embeddings, unit_length=unit_length),
        one_dimension(shard, embeddings, dimension),
        one_fingerprint(shard, embeddings, fingerprint),
        rows_as_written(shard, embeddings, damaged),
    )


def one_vector_per_chunk(shard: str, chunks: pl.DataFrame, embeddings: pl.DataFrame) -> Finding:
    """Each chunk_id stands once in `chunks` and once in `embeddings`."""
    n_chunks = chunks["chunk_id"].value_counts(name="n_chunks")
    n_vectors = embeddings["chunk_id"].value_counts(name="n_vectors")
    counts = n_chunks.join(n_vectors, on="chunk_id", how="full", coalesce=True).fill_null(0)
    bad = counts.filter((pl.col("n_chunks") != 1) | (pl.col("n_vectors") != 1))
    detail = (
        f"{bad.filter(pl.col('n_vectors') == 0).height} chunks without a vector, "
        f"{bad.filter(pl.col('n_chunks') == 0).height} vectors without a chunk, "
        f"{bad.filter(pl.max_horizontal('n_chunks', 'n_vectors') > 1).height} ids more than once"
    )
    good = f"{chunks.height} chunks, {embeddings.height} vectors"
    return _finding("one_vector_per_chunk", shard, bad["chunk_id"], detail, good)


def vectors_finite(shard: str, embeddings: pl.DataFrame) -> Finding:
    """No NaN, infinity or null in any vector, whatever its length."""
    bad = embeddings["chunk_id"].filter(_mask(~np.isfinite(_norms(embeddings))))
    detail = f"{len(bad)} of {embeddings.height} vectors are not finite"
    return _finding("vectors_finite", shard, bad, detail, f"{embeddings.height} finite vectors")


def norms_right(shard: str, embeddings: pl.DataFrame, *, unit_length: bool) -> Finding:
    """Norms within UNIT_NORM_TOLERANCE of 1, or, if not `unit_length`, finite and > LEAST_NORM."""
    norms = _norms(embeddings)
    if unit_length:
        right, expected = np.abs(norms - 1.0) <= UNIT_NORM_TOLERANCE, f"1 +- {UNIT_NORM_TOLERANCE}"
    else:
        right, expected = np.isfinite(norms) & (norms > LEAST_NORM), f"above {LEAST_NORM}"
    bad = embeddings["chunk_id"].filter(_mask(~right))
    finite = norms[np.isfinite(norms)]
    span = f"norms from {finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no norms"
    detail = f"{len(bad)} of {embeddings.height} norms are wrong: {span}, expected {expected}"
    return _finding("norms_right", shard, bad, detail, f"{span}, expected {expected}")


def one_dimension(shard: str, embeddings: pl.DataFrame, dimension: int) -> Finding:
    """Every vector has `dimension` numbers; a null vector has none."""
    lengths = embeddings["embedding"].list.len().fill_null(0)
    bad = embeddings["chunk_id"].filter(lengths != dimension)
    found = lengths.unique().sort().head(MAX_NAMED_CHUNKS).to_list()
    detail = f"{len(bad)} vectors have another length: lengths {found}, expected {dimension}"
    return _finding("one_dimension", shard, bad, detail, f"all vectors have {dimension} numbers")


def one_fingerprint(shard: str, embeddings: pl.DataFrame, fingerprint: str) -> Finding:
    """Every row bears the `fingerprint` expected; a mix would make distances meaningless."""
    bad = embeddings.filter(pl.col("fingerprint").ne_missing(fingerprint))
    others = bad["fingerprint"].unique().sort().head(3).to_list()
    detail = f"{bad.height} vectors have fingerprints such as {others}, expected {fingerprint}"
    good = f"all vectors have fingerprint {fingerprint}"
    return _finding("one_fingerprint", shard, bad["chunk_id"], detail, good)


def rows_as_written(shard: str, embeddings: pl.DataFrame, damaged: pl.Series | None) -> Finding:
    """No row's checksum differs from what its values give."""
    bad = damaged if damaged is not None else pl.Series(dtype=pl.String)
    detail = f"{len(bad)} of {embeddings.height} rows were changed since they were written"
    return _finding("rows_as_written", shard, bad, detail, f"{embeddings.height} rows as written")


def warning_findings(
    shard: str, metrics: Mapping[str, float], settings: PipelineSettings
) -> tuple[Finding, ...]:
    """Findings of one shard's warnings; `shards_near_centroid` needs the whole corpus."""
    return (
        few_duplicates(shard, metrics, settings),
        effective_rank_high_enough(shard, metrics, settings),
    )


def metric_findings(metrics: pl.DataFrame, settings: PipelineSettings) -> list[Finding]:
    """`warning_findings` of every shard; `metrics` has shard, metric and value."""
    by_shard: dict[str, dict[str, float]] = {}
    for shard, metric, value in metrics.select("shard", "metric", "value").iter_rows():
        by_shard.setdefault(shard, {})[metric] = value
    return [
        finding
        for shard in sorted(by_shard)
        for finding in warning_findings(shard, by_shard[shard], settings)
    ]


def few_duplicates(shard: str, metrics: Mapping[str, float], settings: PipelineSettings) -> Finding:
    """`duplicate_text_share` is at most settings.max_duplicate_share."""
    share, limit = metrics.get("duplicate_text_share", 0.0), settings.max_duplicate_share
    detail = f"{share:.1%} of chunks repeat another's text, limit {limit:.1%}"
    return Finding("few_duplicates", share <= limit, shard, detail)


def effective_rank_high_enough(
    shard: str, metrics: Mapping[str, float], settings: PipelineSettings
) -> Finding:
    """`effective_rank_share` is at least settings.min_effective_rank_share.

    Passes unseen with fewer than MIN_CHUNKS_FOR_RANK chunks, or where no rank is defined.
    """
    check = "effective_rank_high_enough"
    n_chunks, share = metrics.get("chunks", 0.0), metrics.get("effective_rank_share")
    if n_chunks < MIN_CHUNKS_FOR_RANK:
        detail = f"skipped: {n_chunks:.0f} chunks, too few (< {MIN_CHUNKS_FOR_RANK}) to judge"
        return Finding(check, True, shard, detail)
    if share is None:
        return Finding(check, True, shard, "skipped: no effective rank, all vectors zero or bad")
    limit = settings.min_effective_rank_share
    detail = f"effective rank is {share:.2%} of the most possible, least wanted {limit:.2%}"
    return Finding(check, share >= limit, shard, detail)


def centroid_distances(shard_means: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Cosine distance (0 to 2) of each shard's mean vector (d,) to the mean of those means.

    Each shard counts the same. A mean that is zero or not finite has no direction and is left out.
    """
    means = {shard: np.asarray(mean, dtype=np.float64) for shard, mean in shard_means.items()}
    means = {shard: mean for shard, mean in means.items() if np.isfinite(mean).all() and mean.any()}
    if not means:
        return {}
    centroid = np.mean(list(means.values()), axis=0)
    length = float(np.linalg.norm(centroid))
    if length == 0.0:
        return {}
    return {
        shard: max(0.0, 1.0 - float(mean @ centroid) / (float(np.linalg.norm(mean)) * length))
        for shard, mean in means.items()
    }


def shards_near_centroid(
    shard_means: Mapping[str, NDArray[Any]], settings: PipelineSettings
) -> tuple[Finding, ...]:
    """One finding per shard with a mean, failed beyond max_centroid_distance; farthest first."""
    limit = settings.max_centroid_distance
    distances = sorted(centroid_distances(shard_means).items(), key=lambda item: -item[1])
    return tuple(
        Finding(
            "shards_near_centroid",
            distance <= limit,
            shard,
            f"mean vector is at cosine distance {distance:.3f} of the corpus's, limit {limit}",
        )
        for shard, distance in distances
    )


def _finding(check: str, shard: str, bad: pl.Series, detail: str, good: str) -> Finding:
    culprits = tuple(str(chunk_id) for chunk_id in bad.unique().sort().head(MAX_NAMED_CHUNKS))
    return Finding(check, len(bad) == 0, shard, detail if len(bad) else good, culprits)


def _mask(rows: NDArray[np.bool_]) -> pl.Series:
    return pl.Series(rows, dtype=pl.Boolean)


def _norms(embeddings: pl.DataFrame) -> NDArray[np.float64]:
    """Norms (n,) of vectors whose lengths may differ, since that is another check's to find."""
    column = embeddings["embedding"]
    lengths = column.list.len()
    known = lengths.drop_nulls().unique()
    if len(known) <= 1:
        return row_norms(embedding_matrix(column))
    norms = np.full(len(column), np.nan)
    for length in known:
        rows = (lengths == length).fill_null(False)
        norms[rows.to_numpy()] = row_norms(embedding_matrix(column.filter(rows)))
    return norms
