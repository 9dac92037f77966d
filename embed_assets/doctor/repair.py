"""Mend what can be mended from what is there, and mark the rest to be made again.

Nothing is deleted: files that are taken away are moved to a folder beside the tables. Rows that
are sound stay readable; the next run finds their shard stale and makes what is missing, taking
every sound vector from where it is.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl

from embed_assets.checksums import is_sound, rows_digest
from embed_assets.digests import digest
from embed_assets.doctor import shard_rows, whole_tables
from embed_assets.doctor.child import Child, Crashed
from embed_assets.doctor.crashes import files_that_crash
from embed_assets.doctor.finding import Finding, Kind
from embed_assets.doctor.leftovers import leftovers, unnamed_files
from embed_assets.doctor.log_files import checkpoints, read_log
from embed_assets.doctor.salvage import salvage_vectors
from embed_assets.errors import InputError
from embed_assets.rows import SHARD, SHARD_TABLES
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.durable import (
    LAST_CHECKPOINT,
    LOG,
    commit_path,
    local_path,
    nobody_writing,
)
from embed_assets.tables.table import Superseded

#: Beside the tables: where repair puts what it takes away.
SET_ASIDE = ".set_aside"

# Marks a shard whose rows are sound but not all there: no stage ever gives this input version.
_MARK = "damaged"
_WAIT_SECONDS = 30.0
_OF_LOG = {Kind.COMMIT, Kind.LOG_CHECKPOINT, Kind.UNREADABLE_TABLE}
_OF_ROWS = {
    Kind.FILE,
    Kind.ROWS,
    Kind.LOG_ENTRY,
    Kind.MIXED,
    Kind.MIXED_FINGERPRINTS,
    Kind.NO_VECTOR,
    Kind.NO_CHUNK,
}


class Repair:
    """One repair of the tables under a root."""

    def __init__(self, root: str, child: Child) -> None:
        self._child = child
        self._tables = open_delta_tables(root)
        self._root = self._tables.root
        self._aside = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}"
        self.n_moved = 0

    def logs(self, findings: Sequence[Finding]) -> Iterator[str]:
        """Mend logs. Says what was done, a line at a time. Examine again before `rows`."""
        lying = {
            f.table for f in findings if f.kind is Kind.FOREIGN_TABLE and self._is_ours(f.table)
        }
        for name in sorted(lying | {f.table for f in findings if f.kind in _OF_LOG}):
            folder = local_path(f"{self._root}/{name}")
            if folder is None:
                yield f"{name}: its log is in an object store; mend it there"
                continue
            yield from self._alone(self._mend_log, name, folder)
            if name not in lying and self._can_be_opened(name):
                continue
            # Not while alone: what is saved is written like everything else.
            if name == "embeddings":
                yield f"embeddings: {self._salvage(folder)} sound vectors saved"
            yield from self._alone(self._give_up, name, folder)

    def _alone(
        self, work: Callable[[str, Path], Iterator[str]], name: str, folder: Path
    ) -> Iterator[str]:
        with nobody_writing(self._root, _WAIT_SECONDS) as alone:
            if alone:
                yield from work(name, folder)
            else:
                yield f"{name}: a run is writing; stop it and repair again"

    def _mend_log(self, name: str, folder: Path) -> Iterator[str]:
        reading = read_log(folder)
        newest_sound = max((v for v in reading.versions if v not in reading.damaged), default=-1)
        # A broken end of the log is a commit that never happened. In the middle it is history.
        for version in [v for v in reading.damaged if v > newest_sound]:
            path = commit_path(folder, version)
            if path.exists():
                yield self._moved(path, name, "the commit was never finished")
        if read_log(folder).live is not None:
            # Every commit is there: the log's own checkpoints only save time.
            for path in [*checkpoints(folder), folder / LOG / LAST_CHECKPOINT]:
                if path.exists():
                    yield self._moved(path, name, "the commits say the same")

    def _give_up(self, name: str, folder: Path) -> Iterator[str]:
        yield self._moved(folder, name, "its log cannot be mended; the next run makes it")

    def _is_ours(self, name: str) -> bool:
        try:
            return self._child.call(whole_tables.has_our_files, f"{self._root}/{name}", name)
        except (InputError, Crashed):
            return False

    def _can_be_opened(self, name: str) -> bool:
        try:
            self._child.call(whole_tables.inspect_table, f"{self._root}/{name}", name, None)
        except (InputError, Crashed):
            return False
        return True

    def _salvage(self, folder: Path) -> int:
        n_saved = 0
        for path in sorted(folder.glob(f"{SHARD}=*/*.parquet")):
            try:
                n_saved += self._child.call(salvage_vectors, self._root, str(path))
            except (InputError, Crashed):
                # Unreadable: the examination has named it.
                continue
        return n_saved

    def rows(self, findings: Sequence[Finding]) -> Iterator[str]:
        """Publish the sound rows of damaged shards, marked to be made again."""
        damaged = {(f.table, f.where) for f in findings if f.kind in _OF_ROWS}
        foreign = {f.table for f in findings if f.kind is Kind.FOREIGN_TABLE}
        for name, shard in sorted(damaged):
            if name in foreign:
                continue
            if name in SHARD_TABLES:
                kinds = {f.kind for f in findings if (f.table, f.where) == (name, shard)}
                yield self._shard(name, shard, kinds)
            elif name != "checkpoints":
                yield self._whole(name)
            else:
                folder = local_path(f"{self._root}/{name}")
                if folder is not None:
                    yield self._moved(folder, name, "it holds nothing but unfinished work")

    def _shard(self, name: str, shard: str, kinds: set[Kind]) -> str:
        uri, table = f"{self._root}/{name}", self._tables.by_shard[name]
        unreadable = files_that_crash(self._child, uri, name, shard)
        rows = self._child.call(shard_rows.read_shard, uri, name, shard, unreadable).rows
        rows = rows.filter(pl.col(SHARD) == shard)
        if kinds <= {Kind.LOG_ENTRY} and rows["input_version"].n_unique() == 1:
            mended, what = rows, "written again as it is"
        else:
            if Kind.MIXED_FINGERPRINTS in kinds:
                most = rows["fingerprint"].mode().sort()[0]
                rows = rows.filter(pl.col("fingerprint") == most)
            rows = rows.unique(maintain_order=True)
            mended = rows.with_columns(
                input_version=pl.lit(digest(_MARK, shard)),
                content_version=pl.lit(rows_digest(rows["checksum"].to_numpy())),
            )
            what = f"{rows.height} sound rows kept, marked to be made again"
        try:
            table.publish(shard, mended, table.states().get(shard), rewrite=True)
        except (InputError, Superseded) as error:
            return f"{name}/{shard}: not mended: {error}"
        return f"{name}/{shard}: {what}"

    def _whole(self, name: str) -> str:
        whole = {
            "shards": self._tables.manifest,
            "fingerprints": self._tables.fingerprints,
            "calibration": self._tables.calibration,
            "probes": self._tables.probes,
        }[name]
        try:
            snapshot = self._child.call(whole.read)
        except (InputError, Crashed):
            folder = local_path(whole.uri)
            if folder is None:
                return f"{name}: its rows cannot be read; delete the table, the next run makes it"
            return self._moved(folder, name, "its rows cannot be read; the next run makes it")
        sound = snapshot.frame.filter(is_sound(snapshot.frame))
        if name == "calibration":
            # Part of a sample is another sample: whole, it is taken again as it was.
            sound = sound.clear()
        whole.replace(sound, snapshot, snapshot.counter + 1)
        return f"{name}: {sound.height} of {snapshot.frame.height} rows kept"

    def history(self, findings: Sequence[Finding]) -> Iterator[str]:
        """Put a damaged commit in the middle of a log behind a checkpoint. After `rows`."""
        for finding in (f for f in findings if f.kind is Kind.COMMIT):
            folder = local_path(f"{self._root}/{finding.table}")
            if folder is not None:
                yield from self._alone(partial(self._past, finding.where), finding.table, folder)

    def _past(self, commit: str, name: str, folder: Path) -> Iterator[str]:
        self._child.call(whole_tables.make_history, f"{self._root}/{name}")
        if (folder / commit).exists():
            yield self._moved(folder / commit, name, "a checkpoint of the log stands for it")
        else:
            yield f"{name}: a checkpoint of the log stands for {commit}"

    def leftovers(self, findings: Sequence[Finding]) -> Iterator[str]:
        """Move away what killed runs left."""
        found = [finding for finding in findings if finding.kind is Kind.LEFTOVER]
        for name in sorted({finding.table for finding in found}):
            folder = local_path(f"{self._root}/{name}")
            if folder is not None:
                uri = f"{self._root}/{name}"
                unnamed = unnamed_files(uri, folder, read_log(folder), self._child)
                yield from self._alone(partial(self._swept, unnamed), name, folder)

    def _swept(self, unnamed: Sequence[Path], name: str, folder: Path) -> Iterator[str]:
        for path in leftovers(folder, unnamed, nobody_writes=True):
            yield self._moved(path, name, "no commit names it")

    def _moved(self, path: Path, name: str, why: str) -> str:
        root = local_path(self._root)
        if root is None:
            raise ValueError(f"{path} is not on a local disk")
        relative = path.relative_to(root)
        target = root / SET_ASIDE / self._aside / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        self.n_moved += 1
        return f"{name}: {relative} moved to {target.relative_to(root)}: {why}"
