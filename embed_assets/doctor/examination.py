"""Look at everything under a root of tables and say what is wrong. Changes nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from embed_assets import staleness
from embed_assets.doctor import shard_rows, whole_tables
from embed_assets.doctor.child import Child, Crashed
from embed_assets.doctor.crashes import files_that_crash
from embed_assets.doctor.finding import Finding, Kind
from embed_assets.doctor.leftovers import leftovers, unnamed_files
from embed_assets.doctor.log_files import LogReading, checkpoints, read_log
from embed_assets.errors import InputError
from embed_assets.fingerprints import recorded_configurations
from embed_assets.manifest import pieces_by_shard, read_manifest
from embed_assets.rows import SHARD_TABLES, TABLES
from embed_assets.shards import shard_version
from embed_assets.standing_tables import open_standing_tables
from embed_assets.tables.durable import LOG, local_path, nobody_writing
from embed_assets.tables.table import ShardState, Tables

# How long to wait for a moment in which no run writes.
_WAIT_SECONDS = 5.0
_UNOPENABLE = {Kind.UNREADABLE_TABLE, Kind.FOREIGN_TABLE}


def examine(root: str, child: Child) -> list[Finding]:
    """Everything that is wrong with the tables under a folder or URI.

    Logs and leftovers are looked at on local disks alone. Data files are read by `child`. Raises
    InputError if there are no tables.
    """
    return list(_Examination(open_standing_tables(root), child).findings())


class _Examination:
    def __init__(self, tables: Tables, child: Child) -> None:
        self._tables = tables
        self._child = child
        uris = {name: f"{tables.root}/{name}" for name in TABLES}
        self._uris = {name: uri for name, uri in uris.items() if _exists(uri)}
        self._logs: dict[str, LogReading] = {}
        if not self._uris:
            raise InputError(f"there are no tables under {tables.root}")

    def findings(self) -> Iterator[Finding]:
        """Table by table, then shard by shard, then what lies about."""
        for name in list(self._uris):
            found = list(self._of_table(name))
            yield from found
            if any(finding.kind in _UNOPENABLE for finding in found):
                del self._uris[name]
        for shard in sorted(self._shards()):
            yield from self._of_shard(shard)
        yield from self._of_the_whole()
        yield from self._leftovers()

    def _of_table(self, name: str) -> Iterator[Finding]:
        uri = self._uris[name]
        folder = local_path(uri)
        log = self._logs[name] = read_log(folder) if folder else LogReading(live=None)
        for version, why in log.damaged.items():
            yield Finding(Kind.COMMIT, name, f"{LOG}/{version:020}.json", why)
        if folder is not None:
            yield from self._of_log_checkpoints(name, folder)
        try:
            yield from self._child.call(whole_tables.inspect_table, uri, name, log.live)
        except (InputError, Crashed) as error:
            yield Finding(Kind.UNREADABLE_TABLE, name, "", _one_line(error))
            return
        if name not in SHARD_TABLES:
            try:
                yield from self._child.call(whole_tables.inspect_rows, uri, name)
            except (InputError, Crashed) as error:
                yield Finding(Kind.FILE, name, "", _one_line(error))

    def _of_log_checkpoints(self, name: str, folder: Path) -> Iterator[Finding]:
        for path in checkpoints(folder):
            try:
                self._child.call(whole_tables.read_checkpoint, str(path))
            except (InputError, Crashed) as error:
                where = f"{LOG}/{path.name}"
                yield Finding(Kind.LOG_CHECKPOINT, name, where, _one_line(error))

    def _shards(self) -> set[str]:
        opened = self._tables.by_shard
        return {s for name in self._uris if name in opened for s in opened[name].states()}

    def _of_shard(self, shard: str) -> list[Finding]:
        uris = {name: uri for name, uri in self._uris.items() if name in SHARD_TABLES}
        try:
            return self._child.call(shard_rows.inspect_shard, uris, shard, [])
        except Crashed:
            unreadable = [
                path
                for name, uri in uris.items()
                for path in files_that_crash(self._child, uri, name, shard)
            ]
            return self._child.call(shard_rows.inspect_shard, uris, shard, unreadable)

    def _of_the_whole(self) -> Iterator[Finding]:
        """What tables say of each other: the manifest, the configuration, what is stale."""
        try:
            manifest = pieces_by_shard(read_manifest(self._tables).frame)
            recorded = recorded_configurations(self._tables)
        except (InputError, ValueError):
            # Said already: the manifest or the fingerprints are damaged.
            return
        own = self._tables.own_by_shard
        states = {
            name: table.states() if name in self._uris or name not in own else {}
            for name, table in self._tables.by_shard.items()
        }
        for name in own:
            for shard in sorted(states[name].keys() - manifest.keys()):
                yield Finding(Kind.UNKNOWN_SHARD, name, shard, "the next run removes its rows")
        if not recorded:
            yield Finding(Kind.UNKNOWN_FINGERPRINT, "fingerprints", "", "no configuration is noted")
            return
        latest = recorded[0].configuration
        for shard, pieces in sorted(manifest.items()):
            # Another pipeline's documents are looked at where they are.
            version = None if self._tables.shares_documents else shard_version(pieces)
            standing: Mapping[str, ShardState | None] = {n: s.get(shard) for n, s in states.items()}
            stale = staleness.first_stale_stage(version, latest, standing)
            if stale is not None:
                yield Finding(Kind.STALE, stale.stage, shard, stale.reason)
        yield from self._unknown_fingerprints({r.configuration.fingerprint for r in recorded})

    def _unknown_fingerprints(self, known: set[str]) -> Iterator[Finding]:
        if "embeddings" not in self._uris:
            return
        standing = self._child.call(whole_tables.fingerprints_of, self._uris["embeddings"])
        for fingerprint in sorted(standing - known):
            detail = "its settings are not noted in fingerprints"
            yield Finding(Kind.UNKNOWN_FINGERPRINT, "embeddings", fingerprint, detail)

    def _leftovers(self) -> Iterator[Finding]:
        unnamed = {
            (name, folder): unnamed_files(uri, folder, self._logs[name], self._child)
            for name, uri in self._uris.items()
            if (folder := local_path(uri)) is not None
        }
        if not any(unnamed.values()):
            return
        # What takes long is done: nobody can write while this looks.
        with nobody_writing(self._tables.root, _WAIT_SECONDS) as nobody_writes:
            for (name, folder), paths in unnamed.items():
                for path in leftovers(folder, paths, nobody_writes=nobody_writes):
                    where = path.relative_to(folder).as_posix()
                    yield Finding(Kind.LEFTOVER, name, where, f"{path.stat().st_size} bytes")


def _one_line(error: Exception) -> str:
    """An error as a finding tells it."""
    return " ".join(str(error).split()) or type(error).__name__


def _exists(uri: str) -> bool:
    folder = local_path(uri)
    if folder is not None:
        # Without a log but with data, it was a table. With neither, one was about to be made.
        return any(folder.rglob("*.parquet")) or any(folder.glob(f"{LOG}/*.json"))
    from deltalake import DeltaTable

    return DeltaTable.is_deltatable(uri)
