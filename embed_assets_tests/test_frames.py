"""Rows of every table: right types, ids from content, versions that tell a change."""

import json

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from embed_assets import frames
from embed_assets.checksums import is_complete, is_sound, row_checksums
from embed_assets.chunking.token_windows import Chunk
from embed_assets.column_digests import text_hashes
from embed_assets.rows import SHARD_TABLES
from embed_assets.sources.source import Document, Rejection
from embed_assets_tests.tables.example_frames import EXAMPLES, INSTANT

TEXT = "alpha beta gamma"


def chunk(start: int, end: int, *ids: int) -> Chunk:
    return Chunk(start, end, np.array(ids, dtype=np.int32))


def chunks(*parts: Chunk, source: str = "a.txt", shard: str = "s") -> pl.DataFrame:
    return frames.chunks_frame(shard, [("d", source, TEXT, parts)], "i")


def vectors_of(rows: pl.DataFrame, dimension: int = 3) -> NDArray[np.float32]:
    return np.arange(1, rows.height * dimension + 1, dtype=np.float32).reshape(-1, dimension)


@pytest.mark.parametrize("name", SHARD_TABLES)
def test_every_frame_has_the_types_of_its_table(name: str) -> None:
    frame = EXAMPLES[name]("shard-1")
    assert frame.schema == SHARD_TABLES[name]
    assert frame["shard"].unique().to_list() == ["shard-1"]
    assert frame["content_version"].n_unique() == 1
    assert frame["input_version"].unique().to_list() == ["i1"]
    assert frame.null_count().sum_horizontal().item() == 0


def test_no_items_give_no_rows_of_the_same_types() -> None:
    empty = {
        "raw_corpus": frames.raw_corpus_frame("s", [], "i"),
        "rejected": frames.rejected_frame("s", [], "i"),
        "chunks": frames.chunks_frame("s", [], "i"),
        "quality_metrics": frames.quality_metrics_frame("s", {}, "f", INSTANT, "i"),
    }
    empty["embeddings"] = frames.embeddings_frame(
        "s", empty["chunks"], vectors_of(empty["chunks"]), "f", {}, "i"
    )
    for name, frame in empty.items():
        assert frame.equals(SHARD_TABLES[name].to_frame())


def test_a_document_keeps_its_text_and_attributes() -> None:
    document = Document("d", "a.txt", "Title", "Grüße \U0001f600", {"n": 1, "tags": ["x", None]})
    (row,) = frames.raw_corpus_frame("s", [document], "i").to_dicts()
    assert (row["text"], row["n_chars"]) == (document.text, len(document.text))
    assert row["text_hash"] == text_hashes(pl.Series([document.text])).item()
    assert json.loads(row["attributes"]) == document.attributes


def test_chunk_text_is_the_slice_that_its_offsets_name() -> None:
    frame = chunks(chunk(0, 5, 1, 2), chunk(6, 16, 3))
    assert frame["text"].to_list() == ["alpha", "beta gamma"]
    assert frame["chunk_index"].to_list() == [0, 1]
    assert frame["n_tokens"].to_list() == [2, 1]
    assert frame["token_ids"].to_list() == [[1, 2], [3]]
    assert frame["text_hash"].to_list() == text_hashes(frame["text"]).to_list()
    for row in frame.iter_rows(named=True):
        assert TEXT[row["start"] : row["end"]] == row["text"]


def test_chunk_ids_come_from_content_and_source_alone() -> None:
    both = chunks(chunk(0, 5, 1), chunk(6, 10, 2))
    alone = chunks(chunk(6, 10, 2), shard="another")
    assert alone["chunk_id"][0] == both["chunk_id"][1]
    assert both["chunk_id"].n_unique() == 2
    assert chunks(chunk(6, 10, 2), source="b.txt")["chunk_id"][0] != alone["chunk_id"][0]


@pytest.mark.parametrize(
    "other",
    [
        Document("d2", "a.txt", "t", "text"),
        Document("d", "b.txt", "t", "text"),
        Document("d", "a.txt", "t", "other text"),
    ],
)
def test_raw_corpus_version_tells_what_chunks_depend_on(other: Document) -> None:
    def version(document: Document) -> str:
        return str(frames.raw_corpus_frame("s", [document], "i")["content_version"][0])

    document = Document("d", "a.txt", "t", "text")
    assert version(other) != version(document)


def test_rejected_version_tells_each_rejection() -> None:
    rejections = [Rejection("a", 0, "not UTF-8", "x"), Rejection("a", 1, "not UTF-8", "x")]
    versions = {
        frames.rejected_frame("s", kept, "i")["content_version"][0]
        for kept in (rejections, rejections[:1], rejections[1:])
    }
    assert len(versions) == 3


def test_every_chunk_gets_its_vector_in_order() -> None:
    rows = pl.concat([chunks(chunk(0, 5, 1), chunk(6, 10, 2)), chunks(chunk(0, 5, 1), source="b")])
    frame = frames.embeddings_frame("s", rows, vectors_of(rows), "f", {"device": "cpu"}, "i")
    assert frame["chunk_id"].equals(rows["chunk_id"])
    assert frame["embedding"].to_list() == vectors_of(rows).tolist()
    assert frame["checksum"].to_list() == row_checksums(frame).tolist()
    assert [json.loads(p) for p in frame["provenance"]] == [{"device": "cpu"}] * 3


def test_embeddings_version_tells_vectors_and_fingerprint() -> None:
    rows = chunks(chunk(0, 5, 1), chunk(6, 10, 2))
    vectors = vectors_of(rows)

    def version(vectors: NDArray[np.float32], fingerprint: str) -> str:
        frame = frames.embeddings_frame("s", rows, vectors, fingerprint, {}, "i")
        return str(frame["content_version"][0])

    versions = {version(vectors, "f"), version(vectors, "g"), version(vectors + 1e-3, "f")}
    assert len(versions) == 3


@pytest.mark.parametrize("name", SHARD_TABLES)
def test_rows_prove_that_they_are_as_written_and_all_there(name: str) -> None:
    frame = EXAMPLES[name]("shard-1")
    assert is_sound(frame).all()
    assert is_complete(frame)
    assert is_complete(frame.reverse())
    assert not is_complete(pl.concat([frame, frame]))
    assert frame.height == 1 or not is_complete(frame.head(1))
    for column in set(frame.columns) - {"input_version", "content_version"}:
        damaged = frame.with_columns(pl.lit(None, frame.schema[column]).alias(column))
        assert not is_sound(damaged).any()


def test_metrics_are_one_row_each() -> None:
    frame = frames.quality_metrics_frame("s", {"a": 1, "b": 0.5}, "f", INSTANT, "i")
    assert dict(frame.select("metric", "value").iter_rows()) == {"a": 1.0, "b": 0.5}
    assert frame["measured_at"].to_list() == [INSTANT, INSTANT]
    other = frames.quality_metrics_frame("s", {"a": 1, "b": 0.25}, "f", INSTANT, "i")
    assert other["content_version"][0] != frame["content_version"][0]
