"""A shard's rows in every table, read file by file and held against the log and each other.

Runs in a child process: whatever is wrong with a file must not end the doctor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from embed_assets.checksums import is_complete, is_sound
from embed_assets.doctor.finding import Finding, Kind
from embed_assets.errors import InputError
from embed_assets.rows import SHARD, SHARD_TABLES
from embed_assets.tables.delta_files import STATISTICS, add_actions, open_table, reading, scan_files
from embed_assets.tables.durable import local_path

Say = Callable[[Kind, str], None]

# Ids that a finding names: enough to look at.
_NAMED = 3
# What identifies a row to a person.
_ID = {"raw_corpus": "doc_id", "rejected": "source", "quality_metrics": "metric"}


@dataclass
class ShardRows:
    """The rows of one shard in one table that can be read and are sound, and what is wrong."""

    rows: pl.DataFrame
    findings: list[Finding] = field(default_factory=list)


def inspect_shard(uris: Mapping[str, str], shard: str, unreadable: Sequence[str]) -> list[Finding]:
    """What is wrong with a shard. `uris` are the tables that can be opened, `unreadable` the files
    not to open, because that ends the process.
    """
    found = {name: read_shard(uri, name, shard, unreadable) for name, uri in uris.items()}
    findings = [finding for shard_rows in found.values() for finding in shard_rows.findings]
    if "chunks" in found and "embeddings" in found:
        chunks, embeddings = found["chunks"].rows, found["embeddings"].rows
        findings += _pairs(shard, chunks, embeddings)
    return findings


def read_shard(uri: str, name: str, shard: str, unreadable: Sequence[str]) -> ShardRows:
    """The sound rows of a shard in one table, and what is wrong with the others."""
    table = opened(uri)
    schema, result = SHARD_TABLES[name], ShardRows(SHARD_TABLES[name].to_frame())
    say = partial(_say, result.findings, name, shard)
    frames = []
    for action in live_files(table, shard):
        frame = _read_file(uri, action, schema, unreadable, say)
        if frame is not None:
            frames.append(frame)
    rows = pl.concat([result.rows, *frames])
    sound = is_sound(rows)
    bad = rows.filter(~sound)
    if bad.height:
        named = ", ".join(map(str, bad[_ID.get(name, "chunk_id")].head(_NAMED)))
        say(
            Kind.ROWS,
            f"{bad.height} of {rows.height} rows changed since they were written: {named}",
        )
    result.rows = rows.filter(sound)
    kinds = {finding.kind for finding in result.findings}
    if rows["input_version"].n_unique() > 1 or rows["content_version"].n_unique() > 1:
        say(Kind.MIXED, f"rows of {rows['input_version'].n_unique()} results stand together")
    elif not kinds & {Kind.FILE, Kind.ROWS} and not is_complete(rows):
        say(
            Kind.ROWS,
            f"{rows.height} rows are not those that were published: some are missing, or twice",
        )
    if name == "embeddings" and rows["fingerprint"].n_unique() > 1:
        say(Kind.MIXED_FINGERPRINTS, ", ".join(rows["fingerprint"].unique().sort().to_list()))
    return result


def location(uri: str, path: str) -> str:
    """Where a file of a table is, as polars reads it."""
    folder = local_path(uri)
    return f"{uri}/{path}" if folder is None else str(folder / unquote(path))


def opened(uri: str) -> DeltaTable:
    """A handle on a table that is there. Raises InputError if it cannot be opened."""
    table = open_table(uri)
    if table is None:
        raise InputError(f"there is no table at {uri}")
    return table


def live_files(table: DeltaTable, shard: str | None = None) -> Iterable[dict[str, Any]]:
    """The add actions in force, flattened, of one shard or all."""
    actions = reading(table.table_uri, partial(add_actions, table))
    if shard is not None and actions.height:
        actions = actions.filter(pl.col(f"partition.{SHARD}") == shard)
    return actions.iter_rows(named=True)


def _read_file(
    uri: str,
    action: Mapping[str, Any],
    schema: pl.Schema,
    unreadable: Sequence[str],
    say: Say,
) -> pl.DataFrame | None:
    """A file's rows, after a look at whether the log tells the truth of it."""
    path = location(uri, action["path"])
    if path in unreadable:
        say(Kind.FILE, f"{action['path']} ends the process that reads it")
        return None
    try:
        n_bytes = Path(path).stat().st_size if "://" not in path else action["size_bytes"]
        if n_bytes != action["size_bytes"]:
            say(Kind.FILE, f"{action['path']} has {n_bytes} bytes, not {action['size_bytes']}")
        frame = reading(path, lambda: scan_files([path], schema, [SHARD]).collect())
    except (InputError, OSError) as error:
        say(Kind.FILE, f"{action['path']}: {error}")
        return None
    for name, told in _told(action, schema).items():
        true = _true(frame, name)
        if told != true:
            say(Kind.LOG_ENTRY, f"{name} of {action['path']} is {true}, the log says {told}")
    return frame


def _told(action: Mapping[str, Any], schema: pl.Schema) -> dict[str, Any]:
    """What the log says of a file that its rows can confirm."""
    indexed = [name for name in STATISTICS if name in schema]
    statistics = [f"{end}.{column}" for column in indexed for end in ("min", "max")]
    told = {name: action.get(name) for name in statistics}
    return {"rows": action.get("num_records"), SHARD: action[f"partition.{SHARD}"], **told}


def _true(frame: pl.DataFrame, name: str) -> object:
    if name == "rows":
        return frame.height
    if name == SHARD:
        return frame[SHARD].min()
    end, column = name.split(".")
    return frame[column].min() if end == "min" else frame[column].max()


def _pairs(shard: str, chunks: pl.DataFrame, embeddings: pl.DataFrame) -> list[Finding]:
    findings: list[Finding] = []
    without = chunks.join(embeddings, on="chunk_id", how="anti")["chunk_id"]
    if len(without):
        detail = f"{len(without)} chunks, such as {', '.join(without.head(_NAMED))}"
        _say(findings, "embeddings", shard, Kind.NO_VECTOR, detail)
    over = embeddings.join(chunks, on="chunk_id", how="anti")["chunk_id"]
    if len(over):
        detail = f"{len(over)} vectors, such as {', '.join(over.head(_NAMED))}"
        _say(findings, "embeddings", shard, Kind.NO_CHUNK, detail)
    return findings


def _say(findings: list[Finding], table: str, shard: str, kind: Kind, detail: str) -> None:
    findings.append(Finding(kind, table, shard, " ".join(detail.split())))
