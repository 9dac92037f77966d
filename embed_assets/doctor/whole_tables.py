"""Tables looked at as a whole: can they be opened, are they ours, do log and checkpoint agree.

Runs in a child process, as `shard_rows` does.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import Schema as DeltaSchema

from embed_assets.checksums import is_sound
from embed_assets.doctor.finding import Finding, Kind
from embed_assets.doctor.shard_rows import live_files, location, opened
from embed_assets.rows import PARTITION_KEYS, TABLES
from embed_assets.tables.delta_files import reading, scan_files


def inspect_table(
    uri: str, name: str, live: Mapping[str, Mapping[str, Any]] | None
) -> list[Finding]:
    """What is wrong with a table before a row is read. `live` is what its log says, read strictly.

    Raises InputError if the table cannot be opened.
    """
    table = opened(uri)
    wanted, found = _columns(TABLES[name]), _columns(table.schema())
    others = [column for column, kind in wanted.items() if found.get(column) != kind]
    if others or table.metadata().partition_columns != PARTITION_KEYS[name]:
        detail = f"columns {', '.join(others)} differ" if others else "it is partitioned otherwise"
        return [Finding(Kind.FOREIGN_TABLE, name, "", detail)]
    if live is None:
        return []
    standing = {unquote(action["path"]): action for action in live_files(table)}
    findings = [
        Finding(Kind.LOG_CHECKPOINT, name, "", f"it disagrees with the commits over {path}")
        for path in sorted(standing.keys() ^ live.keys())
    ]
    for path in sorted(standing.keys() & live.keys()):
        if _described(live[path]) != _flattened(standing[path], PARTITION_KEYS[name]):
            detail = f"it disagrees with the commits over {path}"
            findings.append(Finding(Kind.LOG_CHECKPOINT, name, "", detail))
    return findings


def has_our_files(uri: str, name: str) -> bool:
    """Whether a table whose columns differ has files with the right ones: its log is damaged, then,
    and it is none of somebody else's.
    """
    wanted, paths = set(TABLES[name].names()), paths_of(uri, None)
    schemas = reading(uri, lambda: [pl.read_parquet_schema(path) for path in paths])
    return bool(schemas) and all(wanted == {*schema, *PARTITION_KEYS[name]} for schema in schemas)


def inspect_rows(uri: str, name: str) -> list[Finding]:
    """Damage in the rows of a table that is not published by shard."""
    rows = read_rows(uri, name)
    bad = rows.height - int(is_sound(rows).sum())
    detail = f"{bad} of {rows.height} rows changed since they were written"
    return [Finding(Kind.ROWS, name, "", detail)] if bad else []


def read_rows(uri: str, name: str) -> pl.DataFrame:
    """All rows of a table. Raises InputError."""
    paths = [location(uri, action["path"]) for action in live_files(opened(uri))]
    return reading(uri, lambda: scan_files(paths, TABLES[name], PARTITION_KEYS[name]).collect())


def probe(path: str, name: str) -> None:
    """Read a file, to see whether that ends the process."""
    reading(path, lambda: scan_files([path], TABLES[name], PARTITION_KEYS[name]).collect())


def read_checkpoint(path: str) -> None:
    """Read one of the log's own checkpoints. Raises InputError."""
    reading(path, lambda: pl.read_parquet(path))


def fingerprints_of(uri: str) -> set[str]:
    """The fingerprints that the log names for the vectors that stand."""
    ends = ("min.fingerprint", "max.fingerprint")
    return {action[end] for action in live_files(opened(uri)) for end in ends if action.get(end)}


def live_paths(uri: str) -> set[str]:
    """The files in force, relative to the table."""
    return {unquote(action["path"]) for action in live_files(opened(uri))}


def make_history(uri: str) -> None:
    """Let a checkpoint of the log stand for all commits so far."""
    opened(uri).create_checkpoint()


def paths_of(uri: str, shard: str | None) -> list[str]:
    """The files in force, as polars reads them."""
    return [location(uri, action["path"]) for action in live_files(opened(uri), shard)]


def _columns(schema: pl.Schema | DeltaSchema) -> dict[str, str]:
    delta = schema if isinstance(schema, DeltaSchema) else DeltaSchema.from_arrow(schema)
    fields = json.loads(delta.to_json())["fields"]
    return {field["name"]: json.dumps(field["type"], sort_keys=True) for field in fields}


def _described(action: Mapping[str, Any]) -> dict[str, object]:
    statistics = json.loads(action["stats"])
    return {
        "size": action["size"],
        "rows": statistics.get("numRecords"),
        "min": statistics.get("minValues", {}),
        "max": statistics.get("maxValues", {}),
        "keys": action["partitionValues"],
    }


def _flattened(action: Mapping[str, Any], keys: list[str]) -> dict[str, object]:
    def under(prefix: str) -> dict[str, Any]:
        values = {k: v for k, v in action.items() if k.startswith(prefix) and v is not None}
        return {k.removeprefix(prefix): v for k, v in values.items()}

    return {
        "size": action["size_bytes"],
        "rows": action["num_records"],
        "min": under("min."),
        "max": under("max."),
        "keys": {key: action[f"partition.{key}"] for key in keys},
    }
