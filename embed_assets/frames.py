"""Rows of the tables from the objects of the stages: columns in, typed polars frames out. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.checksums import rows_digest, with_checksums
from embed_assets.chunking.token_windows import Chunk
from embed_assets.column_digests import row_digests, text_hashes
from embed_assets.flat_lists import list_series
from embed_assets.rows import CHECKPOINTS, CHUNKS, SHARD_TABLES
from embed_assets.sources.source import Document, Rejection

# Chunks whose columns stand as Python objects at once: the rest are Arrow already.
_CHUNKS_AT_ONCE = 4_096

#: (doc_id, source, text, chunks) of a document.
ChunkedDocument = tuple[str, str, str, Sequence[Chunk]]


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
    texts = pl.Series("text", [d.text for d in documents], dtype=pl.String)
    columns = {
        "doc_id": [d.doc_id for d in documents],
        "source": [d.source for d in documents],
        "title": [d.title for d in documents],
        "text": texts,
        "text_hash": text_hashes(texts),
        "n_chars": texts.str.len_chars(),
        "attributes": [json.dumps(dict(d.attributes)) for d in documents],
    }
    return _frame("raw_corpus", shard, columns, input_version)


def chunks_frame(
    shard: str,
    documents: Iterable[ChunkedDocument],
    input_version: str,
) -> pl.DataFrame:
    """Rows of `chunks`."""
    parts = [_chunk_rows(part) for part in _parts(documents)]
    rows = pl.concat(parts) if parts else _chunk_rows([])
    return _frame("chunks", shard, {name: rows[name] for name in rows.columns}, input_version)


def _parts(documents: Iterable[ChunkedDocument]) -> Iterator[list[ChunkedDocument]]:
    """The documents in groups of about _CHUNKS_AT_ONCE chunks."""
    part: list[ChunkedDocument] = []
    n_chunks = 0
    for document in documents:
        part.append(document)
        n_chunks += len(document[3])
        if n_chunks >= _CHUNKS_AT_ONCE:
            yield part
            part, n_chunks = [], 0
    if part:
        yield part


def _chunk_rows(documents: Sequence[ChunkedDocument]) -> pl.DataFrame:
    """The columns that chunks bring."""
    counts = [len(chunks) for _, _, _, chunks in documents]
    of_document = np.repeat(np.arange(len(documents)), counts)
    known = pl.DataFrame(
        [row[:2] for row in documents],
        schema={"doc_id": pl.String, "source": pl.String},
        orient="row",
    )
    chunks = [chunk for _, _, _, chunks in documents for chunk in chunks]
    parts = [text[chunk.start : chunk.end] for _, _, text, chunks in documents for chunk in chunks]
    columns = {
        "chunk_index": [i for count in counts for i in range(count)],
        "start": [chunk.start for chunk in chunks],
        "end": [chunk.end for chunk in chunks],
        "text": parts,
    }
    frame = pl.DataFrame(columns, schema_overrides={k: CHUNKS[k] for k in columns})
    ids = _lists("token_ids", [chunk.token_ids for chunk in chunks])
    frame = frame.with_columns(
        *known[of_document].get_columns(),
        ids,
        text_hash=text_hashes(frame["text"]),
        n_tokens=ids.list.len().cast(pl.Int64),
    )
    # The source too: two files may give their documents the same id.
    ids_of = frame.select("source", "doc_id", "start", "text_hash")
    return frame.with_columns(chunk_id=row_digests(ids_of)).drop("source")


def _lists(name: str, rows: Sequence[NDArray[np.int32]]) -> pl.Series:
    """A List(Int32) column of arrays, through one flat array: no Python object per number."""
    flat = np.concatenate([np.empty(0, dtype=np.int32), *rows])
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return list_series(flat, offsets).alias(name)


def embeddings_frame(
    shard: str,
    chunks: pl.DataFrame,
    vectors: NDArray[np.float32],
    fingerprint: str,
    provenance: Mapping[str, object],
    input_version: str,
) -> pl.DataFrame:
    """Rows of `embeddings`: each chunk (chunk_id, doc_id, text, text_hash) with its vector, a row
    of `vectors` (n_chunks, dimension).
    """
    columns = {
        **{name: chunks[name] for name in ("chunk_id", "doc_id", "text", "text_hash")},
        "embedding": pl.Series("embedding", vectors).arr.to_list(),
    }
    constants = {"fingerprint": fingerprint, "provenance": json.dumps(dict(provenance))}
    return _frame("embeddings", shard, columns, input_version, constants)


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
    }
    constants = {"fingerprint": fingerprint, "measured_at": measured_at}
    return _frame("quality_metrics", shard, columns, input_version, constants)


def _frame(
    table: str,
    shard: str,
    columns: Mapping[str, Any],
    input_version: str,
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> pl.DataFrame:
    """The rows of a table from its columns, and from the one value of those that have one."""
    kinds = SHARD_TABLES[table]
    versions = {"shard": shard, "input_version": input_version, "content_version": ""}
    provided = pl.DataFrame(
        {k: pl.Series(k, column, dtype=kinds[k]) for k, column in columns.items()}
    ).with_columns(**{k: pl.lit(value) for k, value in {**versions, **constants}.items()})
    frame = with_checksums(provided, kinds)
    content_version = rows_digest(frame["checksum"].to_numpy())
    return frame.with_columns(content_version=pl.lit(content_version))
