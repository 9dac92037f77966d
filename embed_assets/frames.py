"""Rows of the tables from the objects of the stages: columns in, typed polars frames out. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from embed_assets.chunking.token_windows import Chunk
from embed_assets.digests import digest, digest_of, text_hash, vector_checksums
from embed_assets.rows import SHARD_TABLES
from embed_assets.sources.source import Document, Rejection


def rejected_frame(shard: str, rejections: Sequence[Rejection], input_version: str) -> pl.DataFrame:
    """Rows of `rejected`."""
    columns = {
        "source": [r.source for r in rejections],
        "position": [r.position for r in rejections],
        "reason": [r.reason for r in rejections],
        "detail": [r.detail for r in rejections],
    }
    parts = [f"{r.source}\0{r.position}\0{r.reason}\0{r.detail}" for r in rejections]
    return _frame("rejected", shard, columns, input_version, digest_of(parts))


def raw_corpus_frame(shard: str, documents: Sequence[Document], input_version: str) -> pl.DataFrame:
    """Rows of `raw_corpus`."""
    hashes = [text_hash(d.text) for d in documents]
    columns = {
        "doc_id": [d.doc_id for d in documents],
        "source": [d.source for d in documents],
        "title": [d.title for d in documents],
        "text": [d.text for d in documents],
        "text_hash": hashes,
        "n_chars": [len(d.text) for d in documents],
        "attributes": [json.dumps(dict(d.attributes)) for d in documents],
    }
    parts = [
        part
        for document, text in zip(documents, hashes, strict=True)
        for part in (document.doc_id, document.source, text)
    ]
    return _frame("raw_corpus", shard, columns, input_version, digest_of(parts))


def chunks_frame(
    shard: str,
    documents: Iterable[tuple[str, str, str, Sequence[Chunk]]],
    input_version: str,
    chunking_version: str,
) -> pl.DataFrame:
    """Rows of `chunks` from (doc_id, source, text, chunks) of each document."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("chunk_id", "doc_id", "chunk_index", "start", "end", "text", "text_hash")
    }
    token_ids = []
    for doc_id, source, text, chunks in documents:
        for index, chunk in enumerate(chunks):
            part = text[chunk.start : chunk.end]
            part_hash = text_hash(part)
            # The source too: two files may give their documents the same id.
            columns["chunk_id"].append(digest(source, doc_id, chunk.start, part_hash))
            columns["doc_id"].append(doc_id)
            columns["chunk_index"].append(index)
            columns["start"].append(chunk.start)
            columns["end"].append(chunk.end)
            columns["text"].append(part)
            columns["text_hash"].append(part_hash)
            token_ids.append(chunk.token_ids)
    # The cast: polars makes a fixed-size Array of numpy arrays that happen to be equally long.
    ids = pl.Series("token_ids", token_ids, dtype=pl.List(pl.Int32)).cast(pl.List(pl.Int32))
    content = digest_of([chunking_version, *columns["chunk_id"]])
    return _frame(
        "chunks",
        shard,
        columns | {"n_tokens": ids.list.len(), "token_ids": ids},
        input_version,
        content,
    )


def embeddings_frame(
    shard: str,
    chunks: pl.DataFrame,
    vectors: pl.DataFrame,
    fingerprint: str,
    provenance: Mapping[str, object],
    input_version: str,
) -> pl.DataFrame:
    """Rows of `embeddings`: each chunk (chunk_id, doc_id, text_hash) with the vector of its text.

    `vectors` has text_hash and embedding, each text once. A chunk without one keeps a null.
    """
    rows = chunks.select("chunk_id", "doc_id", "text_hash").join(
        vectors.select("text_hash", "embedding"),
        on="text_hash",
        how="left",
        maintain_order="left",
        validate="m:1",
    )
    checksums = row_checksums(rows)
    columns = {
        **{name: rows[name] for name in rows.columns},
        "fingerprint": [fingerprint] * rows.height,
        "checksum": checksums,
        "provenance": [json.dumps(dict(provenance))] * rows.height,
    }
    content = digest_of([fingerprint, *checksums.to_list()])
    return _frame("embeddings", shard, columns, input_version, content)


def row_checksums(rows: pl.DataFrame) -> pl.Series:
    """The checksum (Int64) of each row's chunk_id, text_hash and embedding; 0 for a null vector."""
    lengths = rows["embedding"].list.len()
    dimension = int(lengths.max() or 0)  # type: ignore[arg-type]
    if not rows.height or not dimension or (lengths != dimension).any() or lengths.has_nulls():
        return pl.Series("checksum", np.zeros(rows.height, dtype=np.int64))
    matrix = rows["embedding"].list.to_array(dimension).to_numpy()
    return pl.Series("checksum", vector_checksums(rows["chunk_id"], rows["text_hash"], matrix))


def quality_metrics_frame(
    shard: str,
    metrics: Mapping[str, float],
    fingerprint: str,
    measured_at: datetime,
    input_version: str,
) -> pl.DataFrame:
    """Rows of `quality_metrics`, one a metric."""
    columns = {
        "metric": list(metrics),
        "value": [float(value) for value in metrics.values()],
        "fingerprint": [fingerprint] * len(metrics),
        "measured_at": [measured_at] * len(metrics),
    }
    parts = [f"{name}\0{value!r}" for name, value in metrics.items()]
    return _frame("quality_metrics", shard, columns, input_version, digest_of(parts))


def _frame(
    table: str,
    shard: str,
    columns: Mapping[str, Any],
    input_version: str,
    content_version: str,
) -> pl.DataFrame:
    schema = SHARD_TABLES[table]
    n_rows = len(next(iter(columns.values())))
    provided = {
        "shard": [shard] * n_rows,
        "input_version": [input_version] * n_rows,
        "content_version": [content_version] * n_rows,
        **columns,
    }
    return pl.DataFrame(
        {name: pl.Series(name, provided[name], dtype=dtype) for name, dtype in schema.items()}
    )
