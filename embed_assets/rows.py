"""The vocabulary of the tables: every column's name and type. This is the public interface.

Readers may rely on these names. Columns may be added, never renamed or retyped.

Every row carries `checksum`, from which damage on disk is told (`checksums.row_checksums`).

Two columns stand on every row of every shard-partitioned table and make a rerun cheap:
`input_version` digests all that the shard's rows were made from, `content_version` digests the
rows themselves (`checksums.rows_digest`). A stage is stale exactly when the `input_version` it
would write differs from the one that stands. Both are constant within a shard, so Delta's file
statistics carry them and the state of 10,000 shards is read from the log without opening a data
file.
"""

import polars as pl

#: The column by which tables are partitioned, but for those that are replaced as a whole.
SHARD = "shard"

_CHECKSUM = {"checksum": pl.Int64()}
_VERSIONS = {**_CHECKSUM, "input_version": pl.String(), "content_version": pl.String()}

#: The manifest: which part of which file belongs to which shard. `start` and `end` are bytes, or
#: rows for Parquet; `version` changes whenever the file does; `corpus` is where the files are.
SHARDS = pl.Schema(
    {
        SHARD: pl.String(),
        "source": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "n_bytes": pl.Int64(),
        "version": pl.String(),
        "corpus": pl.String(),
        **_CHECKSUM,
    }
)

RAW_CORPUS = pl.Schema(
    {
        SHARD: pl.String(),
        "doc_id": pl.String(),
        "source": pl.String(),
        "title": pl.String(),
        "text": pl.String(),
        "text_hash": pl.String(),
        "n_chars": pl.Int64(),
        "attributes": pl.String(),
        **_VERSIONS,
    }
)

REJECTED = pl.Schema(
    {
        SHARD: pl.String(),
        "source": pl.String(),
        "position": pl.Int64(),
        "reason": pl.String(),
        "detail": pl.String(),
        **_VERSIONS,
    }
)

#: `start` and `end` are character offsets into the document: `text[start:end]` is the chunk.
#: `token_ids` is what the model reads: prompt and special tokens included.
CHUNKS = pl.Schema(
    {
        SHARD: pl.String(),
        "chunk_id": pl.String(),
        "doc_id": pl.String(),
        "chunk_index": pl.Int64(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "text": pl.String(),
        "text_hash": pl.String(),
        "n_tokens": pl.Int64(),
        "token_ids": pl.List(pl.Int32()),
        **_VERSIONS,
    }
)

#: `text` is that of the chunk: old vectors have theirs still when `chunks` holds new ones already.
#: `provenance` is JSON, the same on every row of a shard: device, precision, tokens, seconds and
#: padding of the run that made its vectors.
EMBEDDINGS = pl.Schema(
    {
        SHARD: pl.String(),
        "chunk_id": pl.String(),
        "doc_id": pl.String(),
        "text": pl.String(),
        "text_hash": pl.String(),
        "embedding": pl.List(pl.Float32()),
        "fingerprint": pl.String(),
        "provenance": pl.String(),
        **_VERSIONS,
    }
)

QUALITY_METRICS = pl.Schema(
    {
        SHARD: pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "fingerprint": pl.String(),
        "measured_at": pl.Datetime("us", "UTC"),
        **_VERSIONS,
    }
)

#: New vectors of shards that are not done: what a killed run leaves for the next one. Partitioned
#: by fingerprint too. A vector is a pure function of fingerprint and text, so a row is never wrong.
CHECKPOINTS = pl.Schema(
    {
        SHARD: pl.String(),
        "fingerprint": pl.String(),
        "text_hash": pl.String(),
        "embedding": pl.List(pl.Float32()),
        **_CHECKSUM,
    }
)

#: What each fingerprint in `embeddings` means: the settings that made those vectors, as JSON. The
#: row with the latest `created_at` is the configuration in force: `reading_version` and
#: `chunking_version` are its other parts, and runs that `started_at` an earlier time are fenced.
FINGERPRINTS = pl.Schema(
    {
        "fingerprint": pl.String(),
        "dimension": pl.Int64(),
        "settings": pl.String(),
        "format_version": pl.Int64(),
        "created_at": pl.Datetime("us", "UTC"),
        "reading_version": pl.String(),
        "chunking_version": pl.String(),
        "started_at": pl.Datetime("us", "UTC"),
        **_CHECKSUM,
    }
)

#: The chunks that int8 is fitted to, for each way of chunking: made once, part of the fingerprint.
CALIBRATION = pl.Schema(
    {
        "chunking_version": pl.String(),
        "position": pl.Int64(),
        "token_ids": pl.List(pl.Int32()),
        **_CHECKSUM,
        "content_version": pl.String(),
    }
)

#: Some vectors of each of the latest states of the corpus: what the next model's are compared with.
PROBES = pl.Schema(
    {
        "fingerprint": pl.String(),
        "corpus_version": pl.String(),
        "text_hash": pl.String(),
        "embedding": pl.List(pl.Float32()),
        "taken_at": pl.Datetime("us", "UTC"),
        **_CHECKSUM,
    }
)

#: Raised when a release changes the tables so that an older one would misread them.
FORMAT_VERSION = 4

SHARD_TABLES = {
    "raw_corpus": RAW_CORPUS,
    "rejected": REJECTED,
    "chunks": CHUNKS,
    "embeddings": EMBEDDINGS,
    "quality_metrics": QUALITY_METRICS,
}

#: The columns of every table by its name, which is also that of its folder.
TABLES = {
    **SHARD_TABLES,
    "shards": SHARDS,
    "fingerprints": FINGERPRINTS,
    "calibration": CALIBRATION,
    "probes": PROBES,
    "checkpoints": CHECKPOINTS,
}

#: What a table is partitioned by; nothing for those that are replaced as a whole.
PARTITION_KEYS: dict[str, list[str]] = {
    **{name: [SHARD] for name in SHARD_TABLES},
    "shards": [],
    "fingerprints": [],
    "calibration": [],
    "probes": [],
    "checkpoints": [SHARD, "fingerprint"],
}
