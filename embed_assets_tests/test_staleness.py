"""Where work begins: a table of what stands, and what has to be made again because of it."""

from dataclasses import replace
from typing import Final

import pytest

from embed_assets import staleness
from embed_assets.fingerprints import Configuration
from embed_assets.staleness import STAGES, Stale, first_stale_stage
from embed_assets.tables.table import ShardState

SHARD, READING, CHUNKING, FINGERPRINT = "shard-1", "reading-1", "chunking-1", "fingerprint-1"
CONFIGURATION: Final = Configuration(READING, CHUNKING, FINGERPRINT)
INGEST: Final = staleness.ingest_version(SHARD, READING)


def state(input_version: str | None, content_version: str) -> ShardState:
    assert input_version is not None
    return ShardState(input_version, content_version, n_rows=3, n_bytes=10)


RAW: Final = state(INGEST, "raw-content")
CHUNKS: Final = state(staleness.chunks_version(RAW.content_version, CHUNKING), "chunks-content")
EMBEDDINGS: Final = state(
    staleness.embeddings_version(CHUNKS.content_version, FINGERPRINT), "vectors"
)
METRICS: Final = state(staleness.metrics_version(EMBEDDINGS), "metrics")
DONE: Final[dict[str, ShardState | None]] = {
    "raw_corpus": RAW,
    "rejected": None,
    "chunks": CHUNKS,
    "embeddings": EMBEDDINGS,
    "quality_metrics": METRICS,
}
NOTHING: Final[dict[str, ShardState | None]] = dict.fromkeys(DONE)
ALL_REJECTED: Final = NOTHING | {
    "rejected": state(staleness.no_documents_version(INGEST), "rejections")
}


def changed(table: str) -> dict[str, ShardState | None]:
    """As if another run had put other rows there from the same input."""
    standing = DONE[table]
    assert standing is not None
    return DONE | {table: replace(standing, content_version="other")}


def from_older_input(table: str) -> dict[str, ShardState | None]:
    standing = DONE[table]
    assert standing is not None
    return DONE | {table: replace(standing, input_version="older")}


CASES: dict[str, tuple[dict[str, ShardState | None], tuple[str, str] | None]] = {
    "all stands": (DONE, None),
    "all stands, with some files rejected": (
        DONE | {"rejected": state(INGEST, "rejections")},
        None,
    ),
    "nothing yet": (NOTHING, ("raw_corpus", "new")),
    "only rejections, and they stand": (ALL_REJECTED, None),
    "killed between rejected and raw_corpus": (
        NOTHING | {"rejected": state(INGEST, "rejections")},
        ("raw_corpus", "changed files or reading"),
    ),
    "files changed": (
        from_older_input("raw_corpus"),
        ("raw_corpus", "changed files or reading"),
    ),
    "files changed, then nothing but rejections": (
        DONE
        | {"raw_corpus": None, "rejected": state(staleness.no_documents_version("older"), "r")},
        ("raw_corpus", "changed files or reading"),
    ),
    "no documents left, chunks still there": (
        DONE | ALL_REJECTED | {"chunks": CHUNKS},
        ("chunks", "changed text or chunking"),
    ),
    "no documents left, vectors still there": (
        ALL_REJECTED | {"embeddings": EMBEDDINGS},
        ("embeddings", "changed chunks or model"),
    ),
    "no documents left, metrics still there": (
        ALL_REJECTED | {"quality_metrics": METRICS},
        ("quality_metrics", "changed vectors"),
    ),
    "not chunked": (DONE | {"chunks": None}, ("chunks", "not done yet")),
    "text changed": (changed("raw_corpus"), ("chunks", "changed text or chunking")),
    "not embedded": (DONE | {"embeddings": None}, ("embeddings", "not done yet")),
    "chunks changed": (changed("chunks"), ("embeddings", "changed chunks or model")),
    "not measured": (DONE | {"quality_metrics": None}, ("quality_metrics", "not done yet")),
    "vectors changed": (changed("embeddings"), ("quality_metrics", "changed vectors")),
    "metrics of older vectors": (
        from_older_input("quality_metrics"),
        ("quality_metrics", "changed vectors"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_work_begins_at_the_first_stage_whose_input_changed(case: str) -> None:
    states, expected = CASES[case]
    found = first_stale_stage(SHARD, CONFIGURATION, states)
    assert found == (None if expected is None else Stale(*expected))


@pytest.mark.parametrize(
    ("configuration", "stage"),
    [
        (Configuration("reading-2", CHUNKING, FINGERPRINT), "raw_corpus"),
        (Configuration(READING, "chunking-2", FINGERPRINT), "chunks"),
        (Configuration(READING, CHUNKING, "fingerprint-2"), "embeddings"),
        (Configuration("reading-2", "chunking-2", "fingerprint-2"), "raw_corpus"),
    ],
)
def test_new_settings_begin_where_they_first_matter(
    configuration: Configuration, stage: str
) -> None:
    found = first_stale_stage(SHARD, configuration, DONE)
    assert found is not None
    assert found.stage == stage


def test_a_shard_of_nothing_but_rejections_is_new_when_its_files_change() -> None:
    found = first_stale_stage("shard-2", CONFIGURATION, ALL_REJECTED)
    assert found == Stale("raw_corpus", "changed files or reading")


def test_documents_of_another_pipeline_are_never_read_again() -> None:
    assert first_stale_stage(None, CONFIGURATION, from_older_input("raw_corpus")) is None


def test_no_two_stages_share_a_version() -> None:
    versions = {
        staleness.ingest_version("x", "y"),
        staleness.no_documents_version(staleness.ingest_version("x", "y")),
        CHUNKS.input_version,
        EMBEDDINGS.input_version,
        METRICS.input_version,
    }
    assert len(versions) == 5
    assert staleness.chunks_version(None, CHUNKING) is None
    assert staleness.embeddings_version(None, FINGERPRINT) is None
    assert staleness.metrics_version(None) is None
    assert set(STAGES) | {"rejected"} == DONE.keys()
