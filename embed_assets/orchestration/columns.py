"""What the columns of each table are, and from which columns upstream they come."""

import dagster as dg

from embed_assets.rows import SHARD_TABLES, SHARDS
from embed_assets.settings import PipelineSettings

_SHARD = "Shard of the corpus: the partition of the table."
_VERSIONS = {
    "checksum": "64 bits made of the XXH3 of the other columns, as a signed integer: shows damage.",
    "input_version": "Digest of all that the shard's rows were made from.",
    "content_version": "Digest of the shard's rows.",
}

#: Table -> column -> what it holds. A test holds it against the schemas.
COLUMN_NOTES: dict[str, dict[str, str]] = {
    "shards": {
        "shard": "Shard that the piece belongs to. A file stays in its shard when others come.",
        "source": "Path of the file in the corpus.",
        "start": "Where the piece begins: byte, or row of a Parquet file.",
        "end": "Where it ends, exclusive.",
        "n_bytes": "Size of the piece.",
        "version": "Changes whenever the file does.",
        "corpus": "Where the files are: the setting `corpus`.",
        "checksum": _VERSIONS["checksum"],
    },
    "raw_corpus": {
        "shard": _SHARD,
        "doc_id": "Id of the document: of the setting `id_column`, or of its file and position.",
        "source": "Path of its file in the corpus.",
        "title": "Title, where the format or the setting `title_column` gives one.",
        "text": "The text.",
        "text_hash": "BLAKE3 of the text, 128 bits.",
        "n_chars": "Length of the text in characters.",
        "attributes": "What else the record held, as JSON.",
        **_VERSIONS,
    },
    "chunks": {
        "shard": _SHARD,
        "chunk_id": "Digest of source, doc_id, start and text: the same input gives the same id.",
        "doc_id": "The document it was cut from.",
        "chunk_index": "Number of the chunk in its document, from 0.",
        "start": "First character of the chunk in its document's text.",
        "end": "Character behind the chunk: `text[start:end]` of the document is the chunk.",
        "text": "Text of the chunk.",
        "text_hash": "BLAKE3 of the text, 128 bits: equal texts are embedded once.",
        "n_tokens": "Length in tokens, prompt and special tokens included.",
        "token_ids": "What the model reads: prompt and special tokens included.",
        **_VERSIONS,
    },
    "embeddings": {
        "shard": _SHARD,
        "chunk_id": "The chunk that the vector belongs to.",
        "doc_id": "The document that the chunk was cut from.",
        "text": "Text of the chunk.",
        "text_hash": "BLAKE3, 128 bits, of the text.",
        "embedding": "The vector, float32; all have one length.",
        "fingerprint": "Digest of model files and settings: all that changes a vector.",
        "provenance": "JSON: device, precision, tokens, seconds and padding of the run.",
        **_VERSIONS,
    },
    "quality_metrics": {
        "shard": _SHARD,
        "metric": "Name of the metric, such as effective_rank or tokens_per_second.",
        "value": "Its value.",
        "fingerprint": "Fingerprint of the vectors that were measured.",
        "measured_at": "When, in UTC.",
        **_VERSIONS,
    },
}

# Table -> column -> columns of the table right above it that its values are made from. What is
# made from files or settings alone has no line.
_MADE_FROM: dict[str, dict[str, tuple[str, ...]]] = {
    "raw_corpus": {
        "shard": ("shard",),
        "doc_id": ("source", "start"),
        "source": ("source",),
        "text": ("source", "start", "end"),
        "input_version": ("version",),
    },
    "chunks": {
        "shard": ("shard",),
        "chunk_id": ("source", "doc_id", "text"),
        "doc_id": ("doc_id",),
        "start": ("text",),
        "end": ("text",),
        "text": ("text",),
        "text_hash": ("text",),
        "n_tokens": ("text",),
        "token_ids": ("text",),
        "input_version": ("content_version",),
    },
    "embeddings": {
        "shard": ("shard",),
        "chunk_id": ("chunk_id",),
        "doc_id": ("doc_id",),
        "text": ("text",),
        "text_hash": ("text_hash",),
        "embedding": ("token_ids",),
        "input_version": ("content_version",),
    },
    "quality_metrics": {
        "shard": ("shard",),
        "value": ("chunk_id", "text_hash", "embedding", "provenance"),
        "fingerprint": ("fingerprint",),
        "input_version": ("input_version", "content_version"),
    },
}
UPSTREAM = {
    "raw_corpus": "shards",
    "chunks": "raw_corpus",
    "embeddings": "chunks",
    "quality_metrics": "embeddings",
}


def column_schema(table: str) -> dg.TableSchema:
    """Every column with its type and what it holds."""
    schema = SHARDS if table == "shards" else SHARD_TABLES[table]
    notes = COLUMN_NOTES[table]
    return dg.TableSchema([dg.TableColumn(c, str(kind), notes[c]) for c, kind in schema.items()])


def column_lineage(settings: PipelineSettings, table: str) -> dg.TableColumnLineage:
    """Which columns of the asset upstream each column is made from."""
    # The documents may be another pipeline's.
    owner = settings.shards_owner if table == "chunks" else settings.name
    upstream = dg.AssetKey([owner, UPSTREAM[table]])
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(upstream, name) for name in names]
            for column, names in _MADE_FROM[table].items()
        }
    )
