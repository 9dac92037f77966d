"""Rows of the tables from the objects of the stages: columns in, typed polars frames out. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.checksums import rows_digest, with_checksums
from embed_assets.chunking.token_windows import Chunk
from embed_assets.digests import digest, text_hash
from embed_assets.rows import CHECKPOINTS, SHARD_TABLES
from embed_assets.sources.source import Document, Rejection


def rejected_frame(shard: str, rejections: Sequence[Rejection], input_version: str) -> pl.DataFrame:
    """Rows of `rejected`."""
    columns = {
        "source": [r.source for r in rejections],
        "position": [r.position for r in rejections],
        "reason": [r.reason for r in rejections],
        "detail": [r.detail for r in rejections],
    }
    return _frame("rejected", shard, columns, input_version)


def raw_corpus_frame(shard: str, documents: Sequence[Document], input_version: str) -> pl.DataFrame:
    """Rows of `raw_corpus`."""
    columns = {
        "doc_id": [d.doc_id for d in documents],
        "source": [d.source for d in documents],
        "title": [d.title for d in documents],
        "text": [d.text for d in documents],
        "text_hash": [text_hash(d.text) for d in documents],
        "n_chars": [len(d.text) for d in documents],
        "attributes": [json.dumps(dict(d.attributes)) for d in documents],
    }
    return _frame("raw_corpus", shard, columns, input_version)


def chunks_frame(
    shard: str,
    documents: Iterable[tuple[str, str, str, Sequence[Chunk]]],
    input_version: str,
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
    return _frame(
        "chunks", shard, columns | {"n_tokens": ids.list.len(), "token_ids": ids}, input_version
    )


def embeddings_frame(
    shard: str,
    chunks: pl.DataFrame,
    vectors: NDArray[np.float32],
    fingerprint: str,
    provenance: Mapping[str, object],
    input_version: str,
) -> pl.DataFrame:
    """Rows of `embeddings`: each chunk (chunk_id, doc_id, text_hash) with its vector, a row of
    `vectors` (n_chunks, dimension).
    """
    columns = {
        **{name: chunks[name] for name in ("chunk_id", "doc_id", "text_hash")},
        "embedding": pl.Series("embedding", vectors).arr.to_list(),
        "fingerprint": [fingerprint] * chunks.height,
        "provenance": [json.dumps(dict(provenance))] * chunks.height,
    }
    return _frame("embeddings", shard, columns, input_version)


def checkpoint_frame(
    shard: str, fingerprint: str, text_hashes: pl.Series, vectors: NDArray[np.float32]
) -> pl.DataFrame:
    """Rows of `checkpoints`: the vectors (n, d) of n texts."""
    embedding = pl.Series("embedding", vectors).arr.to_list()
    columns = {"text_hash": text_hashes, "embedding": embedding}
    frame = pl.DataFrame(columns).with_columns(shard=pl.lit(shard), fingerprint=pl.lit(fingerprint))
    return with_checksums(frame, CHECKPOINTS)


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
    return _frame("quality_metrics", shard, columns, input_version)


def _frame(table: str, shard: str, columns: Mapping[str, Any], input_version: str) -> pl.DataFrame:
    kinds = {k: v for k, v in SHARD_TABLES[table].items() if k != "checksum"}
    n_rows = len(next(iter(columns.values())))
    constants = {"shard": shard, "input_version": input_version, "content_version": ""}
    provided = {**{name: [value] * n_rows for name, value in constants.items()}, **columns}
    frame = with_checksums(
        pl.DataFrame({k: pl.Series(k, provided[k], dtype=kind) for k, kind in kinds.items()}),
        SHARD_TABLES[table],
    )
    content_version = rows_digest(frame["checksum"].to_numpy())
    return frame.with_columns(content_version=pl.lit(content_version))
