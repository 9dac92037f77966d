"""Drift: told between models whose axes have nothing in common, and between states of a corpus."""

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from embed_assets.quality.drift import (
    LEAST_TEXTS,
    corpus_drift,
    model_drift,
    neighbour_overlap,
    rank_correlation,
)

RANDOM = np.random.default_rng(7)
VECTORS = RANDOM.normal(size=(300, 24)).astype(np.float32)


def texts(vectors: NDArray[np.float32], first: int = 0) -> pl.DataFrame:
    hashes = [f"{first + row:032x}" for row in range(len(vectors))]
    return pl.DataFrame(
        {"text_hash": hashes, "embedding": vectors.tolist()},
        schema={"text_hash": pl.String, "embedding": pl.List(pl.Float32)},
    )


def test_another_basis_and_another_scale_are_no_drift() -> None:
    basis, _ = np.linalg.qr(RANDOM.normal(size=(24, 24)))
    drift = model_drift("before", texts(VECTORS), texts(5 * VECTORS @ basis.astype(np.float32)))
    assert drift is not None
    assert drift.n_texts == 300
    assert drift.neighbour_overlap > 0.999
    assert drift.similarity_correlation == pytest.approx(1.0, abs=1e-4)
    assert drift.numbers()["drift_effective_rank"] == pytest.approx(0.0, abs=0.1)


def test_an_unrelated_model_shares_neighbours_by_chance_alone() -> None:
    other = RANDOM.normal(size=(300, 8)).astype(np.float32)
    drift = model_drift("before", texts(VECTORS), texts(other))
    assert drift is not None
    # 10 of 299 others.
    assert drift.neighbour_overlap == pytest.approx(10 / 299, abs=0.02)
    assert abs(drift.similarity_correlation) < 0.1


def test_neighbours_are_counted_one_by_one() -> None:
    angles = np.linspace(0, 1, 12)
    line = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert neighbour_overlap(line, line) == 1.0
    # Of 11 others all but the farthest are neighbours: turned round, the farthest is another.
    assert neighbour_overlap(line, line[::-1]) == 1.0
    assert 0.9 <= neighbour_overlap(line, np.roll(line, 1, axis=0)) < 1.0


def test_only_texts_under_both_count_and_few_say_nothing() -> None:
    drift = model_drift("before", texts(VECTORS, first=100), texts(VECTORS))
    assert drift is not None
    assert drift.n_texts == 200
    few = texts(VECTORS[: LEAST_TEXTS - 1])
    assert model_drift("before", few, texts(VECTORS)) is None
    spoilt = VECTORS.copy()
    spoilt[LEAST_TEXTS - 1 :] = np.nan
    assert model_drift("before", texts(VECTORS), texts(spoilt)) is None


def test_constant_similarities_have_no_order() -> None:
    assert rank_correlation(np.ones(5), np.arange(5.0)) == 0.0


def test_a_corpus_that_gets_another_topic_moves_its_mean() -> None:
    before = np.tile(np.array([[1.0, 0.0]], np.float32), (100, 1))
    now = before.copy()
    now[50:] = [0.0, 1.0]
    numbers = corpus_drift(texts(before), texts(now), 1000)
    assert numbers["drift_centroid_distance"] == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)
    assert numbers["drift_new_text_share"] == 0.0
    assert corpus_drift(texts(before), texts(before), 1000)["drift_centroid_distance"] == 0.0
    assert corpus_drift(texts(before[:0]), texts(now), 1000) == {}


def test_the_share_of_new_texts_counts_where_both_samples_hold_all() -> None:
    every_other = texts(VECTORS[:200])[::2]
    # Full, the earlier sample ends at hash 198: what lies beyond says nothing.
    full = corpus_drift(every_other, texts(VECTORS), 100)
    assert full["drift_new_text_share"] == pytest.approx(99 / 199)
    # Not full, it is all there was.
    everything = corpus_drift(every_other, texts(VECTORS), 1000)
    assert everything["drift_new_text_share"] == pytest.approx(200 / 300)
