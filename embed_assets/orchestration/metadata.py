"""What the Dagster UI shows beside an asset: schemas, table places, numbers. Never corpus text."""

from collections.abc import Mapping, Sequence

import dagster as dg
import polars as pl

from embed_assets.outcome import Outcome

_COLUMN_NOTES = {
    "shard": "partition of the table",
    "start": "first character of the chunk in its document's text",
    "end": "character behind the chunk: text[start:end] is the chunk",
    "text_hash": "BLAKE2b-128 of the text",
    "token_ids": "what the model reads: prompt and special tokens included",
    "embedding": "the vector, float32",
    "fingerprint": "digest of everything that changes a vector",
    "checksum": "BLAKE2b-64 over chunk_id, text_hash and vector",
    "provenance": "JSON: device, precision, tokens, seconds of the run",
    "input_version": "digest of what the shard's rows were made from",
    "content_version": "digest of the shard's rows",
}


def definition_metadata(name: str, uri: str, schema: pl.Schema) -> dict[str, dg.MetadataValue]:
    """Metadata that an asset has whether it was materialised or not."""
    columns = [
        dg.TableColumn(column, str(dtype), _COLUMN_NOTES.get(column))
        for column, dtype in schema.items()
    ]
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/uri": dg.MetadataValue.text(uri),
        "dagster/table_name": dg.MetadataValue.text(name),
        "dagster/storage_kind": dg.MetadataValue.text("deltalake"),
    }


def shard_metadata(outcome: Outcome) -> dict[str, dg.MetadataValue]:
    """Numbers of one shard, under stable keys that Dagster plots over time."""
    return {
        "dagster/row_count": dg.MetadataValue.int(outcome.n_rows),
        "written": dg.MetadataValue.bool(outcome.written),
        **{name: dg.MetadataValue.float(float(value)) for name, value in outcome.numbers.items()},
    }


def run_metadata(outcomes: Sequence[Outcome]) -> dict[str, dg.MetadataValue]:
    """Numbers of all shards of a run together."""
    numbers: Mapping[str, float] = {
        "shards": len(outcomes),
        "shards_written": sum(outcome.written for outcome in outcomes),
        "shards_unchanged": sum(not outcome.written for outcome in outcomes),
    }
    return {name: dg.MetadataValue.int(int(value)) for name, value in numbers.items()}
