"""Metrics against brute force and known answers, down to shards of no chunk at all."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from embed_assets.quality import text_metrics, vector_metrics
from embed_assets.quality.metrics import shard_metrics
from embed_assets.quality.vectors import (
    SAMPLED_VECTORS,
    embedding_matrix,
    row_norms,
    sample_cosines,
    sample_directions,
    sample_pairs,
    sample_rows,
)

Vectors = NDArray[np.float32]


def random_vectors(n: int, d: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(0.2, 1.0, (n, d)).astype(np.float32)


def column(rows: list[Any]) -> pl.Series:
    return pl.Series("embedding", rows, dtype=pl.List(pl.Float32))


def shard(vectors: Vectors, texts: list[str] | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    texts = texts or [f"text{i}" for i in range(len(vectors))]
    ids = [f"c{i:05}" for i in range(len(vectors))]
    chunks = pl.DataFrame(
        {
            "chunk_id": ids,
            "doc_id": [f"d{i // 2}" for i in range(len(ids))],
            "text_hash": texts,
            "n_tokens": range(1, len(ids) + 1),
        },
        schema={
            "chunk_id": pl.String,
            "doc_id": pl.String,
            "text_hash": pl.String,
            "n_tokens": pl.Int64,
        },
    )
    embeddings = pl.DataFrame(
        {"chunk_id": ids, "text_hash": texts, "embedding": column(vectors.tolist())},
        schema_overrides={"chunk_id": pl.String, "text_hash": pl.String},
    )
    return chunks, embeddings


def test_matrix_has_the_rows_of_the_column_and_nulls_as_nan() -> None:
    matrix = embedding_matrix(column([[1.0, 2.0], None, [3.0, None]]))
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[1, 2], [np.nan, np.nan], [3, np.nan]])
    assert embedding_matrix(column([])).shape == (0, 0)


def test_vectors_of_two_lengths_are_named_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]"):
        embedding_matrix(column([[1.0, 2.0], [3.0]]))


def test_norm_is_not_finite_exactly_where_the_vector_is_not() -> None:
    largest = float(np.finfo(np.float32).max)
    vectors = np.array([[3, 4], [largest, largest], [np.nan, 0], [-np.inf, 0]], np.float32)
    norms = row_norms(vectors)
    assert norms[0] == 5.0
    assert np.isfinite(norms).tolist() == [True, True, False, False]


@pytest.mark.parametrize("n", [0, 1, 2, 10, 11, 1000])
def test_samples_are_repeatable_distinct_and_bounded(n: int) -> None:
    rows = sample_rows(n, 10)
    assert len(np.unique(rows)) == len(rows) == min(n, 10)
    np.testing.assert_array_equal(rows, sample_rows(n, 10))
    left, right = sample_pairs(n, 20)
    assert len(left) == len(right) == min(20, n * (n - 1) // 2)
    assert not np.any(left == right)
    assert all(0 <= i < n for i in (*rows, *left, *right))


def test_sampled_pairs_reach_every_pair_equally_often() -> None:
    for side in sample_pairs(500, 20_000):
        counts = np.bincount(side, minlength=500)
        assert counts.min() > 10
        assert counts.max() < 90


def test_orthonormal_vectors_use_every_dimension() -> None:
    basis = np.eye(16, dtype=np.float32)
    assert vector_metrics.effective_rank(basis) == pytest.approx(16.0)
    assert vector_metrics.mean_pairwise_cosine(basis) == pytest.approx(0.0, abs=1e-9)
    assert vector_metrics.uniformity(basis) == pytest.approx(-4.0)


def test_collapsed_vectors_show_as_collapsed() -> None:
    same = np.repeat(random_vectors(1, 32), 200, axis=0)
    assert vector_metrics.effective_rank(same) == pytest.approx(1.0, abs=1e-4)
    assert vector_metrics.mean_pairwise_cosine(same) == pytest.approx(1.0, abs=1e-6)
    assert vector_metrics.uniformity(same) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("n", "d"), [(2, 5), (40, 7), (7, 40), (150, 16)])
def test_metrics_equal_brute_force(n: int, d: int) -> None:
    vectors = random_vectors(n, d)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.triu_indices(n, k=1)
    cosines = (unit @ unit.T)[pairs]
    singular = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    shares = singular / singular.sum()
    squared = ((unit[pairs[0]] - unit[pairs[1]]) ** 2).sum(axis=1)

    assert vector_metrics.mean_pairwise_cosine(vectors) == pytest.approx(cosines.mean(), abs=1e-6)
    assert vector_metrics.uniformity(vectors) == pytest.approx(
        np.log(np.exp(-2 * squared).mean()), abs=1e-5
    )
    assert vector_metrics.effective_rank(vectors) == pytest.approx(
        np.exp(-(shares * np.log(shares)).sum()), rel=1e-6
    )
    np.testing.assert_allclose(np.sort(sample_cosines(vectors)), np.sort(cosines), atol=1e-6)


def test_sampled_metrics_stay_close_to_exact_ones() -> None:
    vectors = random_vectors(6000, 24)
    exact = vector_metrics.mean_pairwise_cosine(vectors)
    assert exact is not None
    assert sample_cosines(vectors).mean() == pytest.approx(exact, abs=0.01)
    some, every = (
        vector_metrics.effective_rank(vectors),
        vector_metrics.effective_rank(vectors[:4000]),
    )
    assert some == pytest.approx(every, rel=0.02)
    assert len(sample_directions(vectors)) == SAMPLED_VECTORS


def test_bad_vectors_are_counted_and_change_nothing_else() -> None:
    good = random_vectors(30, 8)
    bad = np.array([[np.nan] * 8, [np.inf] + [0.0] * 7], np.float32)
    mixed = np.concatenate([good[:10], bad, good[10:]])
    assert vector_metrics.non_finite_share(mixed) == pytest.approx(2 / 32)
    assert vector_metrics.norm_metrics(mixed) == vector_metrics.norm_metrics(good)
    for metric in (
        vector_metrics.mean_pairwise_cosine,
        vector_metrics.uniformity,
        vector_metrics.effective_rank,
    ):
        assert metric(mixed) == pytest.approx(metric(good), rel=1e-9)


def test_near_duplicates_are_found_and_equal_texts_are_not_among_them() -> None:
    apart = np.eye(6, dtype=np.float32)
    close = apart[0] + np.float32(0.01) * apart[1]
    vectors = np.stack([*apart, close, apart[5]])
    hashes = pl.Series(["a", "b", "c", "d", "e", "f", "near a", "f"])
    assert vector_metrics.near_duplicate_share(vectors, hashes) == pytest.approx(2 / 7)
    assert vector_metrics.near_duplicate_share(vectors[:6], hashes[:6]) == 0.0


def test_token_lengths_and_repeats_are_summarised() -> None:
    lengths = text_metrics.token_length_metrics(pl.Series(range(1, 102)))
    assert lengths == {
        "tokens_p5": 6.0,
        "tokens_p50": 51.0,
        "tokens_p95": 96.0,
        "tokens_p99": 100.0,
        "tokens_max": 101.0,
        "tokens_mean": 51.0,
    }
    assert text_metrics.duplicate_text_share(pl.Series(["a", "b", "a", "a"])) == 0.5


@pytest.mark.parametrize(
    ("embedded", "expected"),
    [(["a", "b"], 1.0), (["a"], 0.5), (["a", "a", "b"], 0.5), (["c"], 0.0), ([], 0.0)],
)
def test_coverage_counts_chunks_with_exactly_one_vector(
    embedded: list[str], expected: float
) -> None:
    ids = pl.Series("chunk_id", embedded, dtype=pl.String)
    assert text_metrics.coverage(pl.Series("chunk_id", ["a", "b"]), ids) == expected


def test_shard_metrics_are_one_flat_dict_with_the_run_numbers() -> None:
    chunks, embeddings = shard(random_vectors(60, 8), ["same"] * 2 + [f"t{i}" for i in range(58)])
    run = {
        "tokens_per_second": 900.0,
        "rejected": 2.0,
        "documents": 31.0,
        "padding_waste": math.nan,
    }
    metrics = shard_metrics(chunks, embeddings, run)
    assert metrics["documents"] == 31.0, "the run knows of documents without chunks"
    assert (metrics["chunks"], metrics["tokens"], metrics["coverage"]) == (60.0, 1830.0, 1.0)
    assert metrics["duplicate_text_share"] == pytest.approx(1 / 60)
    assert metrics["effective_rank_share"] == pytest.approx(metrics["effective_rank"] / 8)
    assert metrics["tokens_per_second"] == 900.0
    assert "padding_waste" not in metrics, "what is undefined is left out"


def test_the_order_of_rows_in_the_table_changes_no_metric() -> None:
    chunks, embeddings = shard(random_vectors(5000, 8))
    shuffled = embeddings.sample(fraction=1.0, shuffle=True, seed=3)
    assert shard_metrics(chunks, shuffled, {}) == shard_metrics(chunks, embeddings, {})


ALWAYS = {
    "documents",
    "chunks",
    "tokens",
    "coverage",
    "non_finite_share",
    "duplicate_text_share",
    "near_duplicate_share",
}
LENGTHS = {f"tokens_{name}" for name in ("p5", "p50", "p95", "p99", "max", "mean")}
NORMS = {"norm_min", "norm_mean", "norm_max"}
RANK = {"effective_rank", "effective_rank_share"}
PAIRS = {"mean_pairwise_cosine", "uniformity"}


@pytest.mark.parametrize(
    ("vectors", "names"),
    [
        (np.zeros((0, 4), np.float32), ALWAYS),
        (random_vectors(1, 4), ALWAYS | LENGTHS | NORMS | RANK),
        (random_vectors(2, 4), ALWAYS | LENGTHS | NORMS | RANK | PAIRS),
        (np.zeros((3, 4), np.float32), ALWAYS | LENGTHS | NORMS),
        (np.full((3, 4), np.nan, np.float32), ALWAYS | LENGTHS),
        (np.zeros((2, 0), np.float32), ALWAYS | LENGTHS | NORMS),
    ],
    ids=["no chunk", "one chunk", "two chunks", "zero vectors", "all NaN", "no dimension"],
)
def test_odd_shards_have_every_metric_that_is_defined_and_no_nan(
    vectors: Vectors, names: set[str]
) -> None:
    metrics = shard_metrics(*shard(vectors), {})
    assert set(metrics) == names
    assert all(math.isfinite(value) for value in metrics.values())
