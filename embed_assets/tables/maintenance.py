"""Housekeeping: merge small files, delete what no reader needs any more. Safe while runs write.

Left to delta-rs: the log, in which it drops commits older than 30 days at every hundredth commit,
keeping one log checkpoint as a spare. `cleanup_metadata` would delete the spare too, and with it
what a damaged checkpoint can be mended from. Left alone: empty folders.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from embed_assets.errors import InputError, NothingYet, SettingsError
from embed_assets.rows import PARTITION_KEYS
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.delta_files import (
    COMMIT_RETRIES,
    WRITER,
    add_actions,
    open_table,
    reading,
    writing,
)
from embed_assets.tables.durable import local_path, nobody_writing, sync_commit
from embed_assets.tables.old_files import OldFiles, old_files, unlink
from embed_assets.tables.table import Checkpoints

#: Readers of an older version, and writers that were paused, get this long.
MIN_RETENTION_DAYS = 7

# How long to wait for a moment in which nobody writes: leftovers are deleted in such a one.
_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was done to one table. `skipped` waits for another time, `failures` needs a person.

    `n_compacted` small files were merged. Deleted were `n_expired` files of versions older than
    the retention and `n_leftovers` that were never committed; `n_bytes_freed` is None where a
    store does not tell. `n_checkpoint_rows` are vectors of shards that nobody went on with.
    """

    table: str
    n_compacted: int = 0
    n_expired: int = 0
    n_leftovers: int = 0
    n_bytes_freed: int | None = 0
    n_checkpoint_rows: int = 0
    skipped: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def maintain(root: str, retention_days: int) -> list[Maintained]:
    """Look after every table under a folder or URI that is there.

    Raises SettingsError for a retention below MIN_RETENTION_DAYS, and NothingYet if there is no
    table. What cannot be done in one shard or table stops no other.
    """
    if retention_days < MIN_RETENTION_DAYS:
        raise SettingsError(
            f"retention_days {retention_days} is less than {MIN_RETENTION_DAYS}: readers and "
            "paused runs may still need files that are younger"
        )
    tables = open_delta_tables(root)
    targets = [
        _Target(tables.root, name, keys, retention_days) for name, keys in PARTITION_KEYS.items()
    ]
    maintained = [_maintain_table(target, tables.checkpoints) for target in targets]
    found = [done for done in maintained if done is not None]
    if not found:
        raise NothingYet(f"there are no tables under {tables.root}")
    return found


@dataclass(frozen=True, slots=True)
class _Target:
    """A table, what it is partitioned by (nothing if it is replaced as a whole), the retention."""

    root: str
    name: str
    keys: list[str]
    retention_days: int

    @property
    def uri(self) -> str:
        return f"{self.root}/{self.name}"


def _maintain_table(target: _Target, checkpoints: Checkpoints) -> Maintained | None:
    """None where there is no such table."""
    done = Maintained(target.name)
    try:
        table = open_table(target.uri)
        if table is None:
            return None
        if table.metadata().partition_columns != target.keys:
            return replace(done, skipped=("it is not partitioned as ours are: left alone",))
        if target.name == "checkpoints":
            done = replace(done, n_checkpoint_rows=_clear_old(table, target, checkpoints))
        # Not the tables that are replaced as a whole: from their versions runs see whether another
        # run has replaced them.
        if target.keys:
            done = _compact(target, done)
        return _delete(target, done)
    except InputError as error:
        return replace(done, failures=(*done.failures, str(error)))


def _clear_old(table: DeltaTable, target: _Target, checkpoints: Checkpoints) -> int:
    """Remove checkpoints that nobody added to for all of the retention. Returns their rows."""
    files = reading(target.uri, partial(add_actions, table))
    n_rows = 0
    for key, age in checkpoints.keys().items():
        if age > timedelta(days=target.retention_days):
            of_key = files.filter(
                (pl.col("partition.shard") == key.shard)
                & (pl.col("partition.fingerprint") == key.fingerprint)
            )
            checkpoints.clear(key)
            n_rows += int(of_key["num_records"].sum())
    return n_rows


def _compact(target: _Target, done: Maintained) -> Maintained:
    """Merge the files of every shard that has several."""
    table = open_table(target.uri)
    files = None if table is None else reading(target.uri, partial(add_actions, table))
    if table is None or files is None or files.is_empty():
        return done
    columns = [f"partition.{key}" for key in target.keys]
    several = files.group_by(columns).len().filter(pl.col("len") > 1).sort(columns)
    n_merged, skipped, failures = 0, [], []
    for values in several.select(columns).iter_rows():
        partition = list(zip(target.keys, values, strict=True))
        try:
            n_merged += _compact_partition(table, target.uri, partition)
        except CommitFailedError:
            skipped.append(f"{values[0]} is not compacted: a run was publishing it")
        except InputError as error:
            failures.append(f"{values[0]} is not compacted: {error}")
    return replace(done, n_compacted=n_merged, skipped=tuple(skipped), failures=tuple(failures))


def _compact_partition(table: DeltaTable, uri: str, partition: list[tuple[str, str]]) -> int:
    with writing(uri):
        # The newer the handle, the fewer commits can stand against this one.
        table.update_incremental()
        metrics = table.optimize.compact(
            partition_filters=[(key, "=", value) for key, value in partition],
            writer_properties=WRITER,
            commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
        )
        if metrics["numFilesAdded"]:
            sync_commit(table, uri)
    return int(metrics["numFilesRemoved"])


def _delete(target: _Target, done: Maintained) -> Maintained:
    old = old_files(target.uri, target.retention_days)
    folder = local_path(target.uri)
    if folder is None:
        return _delete_in_store(target, old, done)
    # What vacuum does, without its two commits, which it also makes where all is gone already.
    n_expired, n_bytes = unlink(folder / path for path in old.expired)
    done = replace(done, n_expired=n_expired, n_bytes_freed=n_bytes)
    if not old.leftovers:
        return done
    with nobody_writing(target.root, _WAIT_SECONDS) as alone:
        if not alone:
            why = f"{len(old.leftovers)} leftovers stay: somebody was writing all the time"
            return replace(done, skipped=(*done.skipped, why))
        # Looked for again: a writer that was paused for days may have committed one just now.
        old = old_files(target.uri, target.retention_days)
        n_leftovers, n_more_bytes = unlink(folder / path for path in old.leftovers)
    return replace(done, n_leftovers=n_leftovers, n_bytes_freed=n_bytes + n_more_bytes)


def _delete_in_store(target: _Target, old: OldFiles, done: Maintained) -> Maintained:
    """The same by vacuum, which counts a file again until its log forgets it after a while."""
    skipped = list(done.skipped)
    if old.leftovers:
        # One of them may be about to be committed.
        skipped.append(f"{len(old.leftovers)} leftovers stay: an object store cannot be locked")
    if old.expired and not target.keys:
        skipped.append(f"{len(old.expired)} old files stay: vacuum would make a new version")
    done = replace(done, skipped=tuple(skipped))
    table = open_table(target.uri)
    if table is None or not old.expired or not target.keys:
        return done
    with writing(target.uri):
        table.vacuum(retention_hours=24 * target.retention_days, dry_run=False)
    return replace(done, n_expired=len(old.expired), n_bytes_freed=None)
