"""Each check passes on good rows, and on bad ones fails with the culprits' names."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from embed_assets.quality.checks import (
    BLOCKING_CHECKS,
    MAX_NAMED_CHUNKS,
    WARNING_CHECKS,
    Finding,
    blocking_findings,
    centroid_distances,
    effective_rank_high_enough,
    few_duplicates,
    shards_near_centroid,
    warning_findings,
)
from embed_assets.settings import load_settings

SETTINGS = load_settings({})


def rows(vectors: list[Any], ids: str, fingerprint: str = "fp") -> pl.DataFrame:
    return pl.DataFrame(
        {"chunk_id": list(ids), "embedding": vectors, "fingerprint": [fingerprint] * len(ids)},
        schema={
            "chunk_id": pl.String,
            "embedding": pl.List(pl.Float32),
            "fingerprint": pl.String,
        },
    )


def findings(
    embeddings: pl.DataFrame, chunk_ids: str = "abc", *, unit_length: bool = True
) -> dict[str, Finding]:
    chunks = pl.DataFrame({"chunk_id": list(chunk_ids)}, schema={"chunk_id": pl.String})
    found = blocking_findings(
        "s1", chunks, embeddings, dimension=2, fingerprint="fp", unit_length=unit_length
    )
    assert tuple(finding.check for finding in found) == tuple(BLOCKING_CHECKS)
    return {finding.check: finding for finding in found}


GOOD = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]


@pytest.mark.parametrize(("vectors", "ids"), [(GOOD, "abc"), (GOOD[:1], "a"), ([], "")])
def test_good_shard_passes_every_blocking_check(vectors: list[Any], ids: str) -> None:
    for finding in findings(rows(vectors, ids), ids).values():
        assert finding.passed, finding
        assert finding.chunk_ids == ()
        assert finding.shard == "s1"


@pytest.mark.parametrize(
    ("check", "embeddings", "culprits", "words"),
    [
        ("one_vector_per_chunk", rows(GOOD[:2], "ab"), "c", "1 chunks without a vector"),
        ("one_vector_per_chunk", rows([*GOOD, GOOD[0]], "abcx"), "x", "1 vectors without a chunk"),
        ("one_vector_per_chunk", rows([*GOOD, GOOD[0]], "abcc"), "c", "1 ids more than once"),
        ("one_vector_per_chunk", rows([], ""), "abc", "3 chunks without a vector"),
        ("vectors_finite", rows([*GOOD[:2], [math.nan, 1.0]], "abc"), "c", "1 of 3"),
        ("vectors_finite", rows([[math.inf, 0.0], *GOOD[:2]], "abc"), "a", "1 of 3"),
        ("vectors_finite", rows([None, *GOOD[:2]], "abc"), "a", "1 of 3"),
        ("vectors_finite", rows([[1.0, 0.0, 0.0], [math.nan], GOOD[0]], "abc"), "b", "1 of 3"),
        ("norms_right", rows([*GOOD[:2], [0.0, 1.01]], "abc"), "c", "1.01"),
        ("norms_right", rows([*GOOD[:2], [0.0, 0.0]], "abc"), "c", "from 0 to 1"),
        ("norms_right", rows([*GOOD[:2], [math.nan, 1.0]], "abc"), "c", "1 of 3"),
        ("one_dimension", rows([*GOOD[:2], [1.0]], "abc"), "c", "[1, 2], expected 2"),
        ("one_dimension", rows([*GOOD[:2], []], "abc"), "c", "[0, 2], expected 2"),
        ("one_dimension", rows([[1.0, 0.0, 0.0]] * 3, "abc"), "abc", "[3], expected 2"),
        ("one_fingerprint", rows(GOOD, "abc", "old"), "abc", "['old'], expected fp"),
    ],
)
def test_bad_rows_fail_their_check_by_name(
    check: str, embeddings: pl.DataFrame, culprits: str, words: str
) -> None:
    finding = findings(embeddings)[check]
    assert not finding.passed
    assert finding.chunk_ids == tuple(culprits)
    assert words in finding.detail


def test_rounding_of_half_precision_is_no_wrong_norm() -> None:
    halves = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float16).astype(np.float32)
    halves /= np.linalg.norm(halves, axis=1, keepdims=True)
    assert findings(rows(halves.tolist(), "abc"))["norms_right"].passed


@pytest.mark.parametrize(
    ("vector", "passed"), [([0.0, 17.0], True), ([0.0, 0.0], False), ([math.inf, 0.0], False)]
)
def test_models_that_do_not_normalise_may_have_any_length_but_zero(
    vector: list[float], passed: bool
) -> None:
    finding = findings(rows([*GOOD[:2], vector], "abc"), unit_length=False)["norms_right"]
    assert finding.passed is passed


def test_a_shard_full_of_bad_vectors_names_only_some() -> None:
    ids = "abcdefghijklmnopqrstuvwxyz"
    finding = findings(rows([[math.nan, 0.0]] * len(ids), ids), ids)["vectors_finite"]
    assert finding.chunk_ids == tuple(ids[:MAX_NAMED_CHUNKS])
    assert "26 of 26" in finding.detail


@pytest.mark.parametrize(
    ("check", "metrics", "passed"),
    [
        (few_duplicates, {"duplicate_text_share": 0.5}, True),
        (few_duplicates, {"duplicate_text_share": 0.51}, False),
        (few_duplicates, {}, True),
        (effective_rank_high_enough, {"chunks": 50.0, "effective_rank_share": 0.3}, True),
        (effective_rank_high_enough, {"chunks": 50.0, "effective_rank_share": 0.01}, False),
        (effective_rank_high_enough, {"chunks": 49.0, "effective_rank_share": 0.01}, True),
        (effective_rank_high_enough, {"chunks": 50.0}, True),
    ],
)
def test_warnings_follow_the_settings(
    check: Callable[..., Finding], metrics: dict[str, float], passed: bool
) -> None:
    assert check("s1", metrics, SETTINGS).passed is passed


def test_every_warning_has_its_description() -> None:
    names = {finding.check for finding in warning_findings("s1", {}, SETTINGS)}
    assert names | {"shards_near_centroid"} == set(WARNING_CHECKS)


def test_a_shard_from_another_world_is_named() -> None:
    means = {f"s{i}": np.array([1.0, 0.1 * i], np.float32) for i in range(5)}
    near = shards_near_centroid(means, SETTINGS)
    assert {finding.shard for finding in near if finding.passed} == set(means)
    first, *others = shards_near_centroid({**means, "odd": np.array([-1.0, 0.3])}, SETTINGS)
    assert (first.shard, first.passed) == ("odd", False)
    assert "limit 0.5" in first.detail
    assert all(finding.passed for finding in others)


def test_centroid_distance_needs_a_direction() -> None:
    zero, bad = np.zeros(2), np.array([np.nan, 1.0])
    assert centroid_distances({}) == {}
    assert centroid_distances({"zero": zero, "bad": bad}) == {}
    assert centroid_distances({"one": np.array([0.0, 2.0]), "zero": zero}) == {"one": 0.0}
    assert centroid_distances({"a": np.array([1.0, 0.0]), "b": np.array([-1.0, 0.0])}) == {}
