"""Files in a table's folder that nobody needs any more: told by name, age and what the log says.

Only what delta-rs made is ever listed. What somebody else put there is none of our business,
whatever its age.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deltalake import DeltaTable

from embed_assets.errors import InputError
from embed_assets.tables.delta_files import open_table, reading
from embed_assets.tables.durable import LOG, local_path

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DATA_FILE = re.compile(rf"part-\d{{5}}-{_UUID}-c\d{{3}}(?:\.\w+)?\.parquet")
# Under these names a file is written before it is linked to its own; a killed writer leaves them.
_STAGED_DATA = re.compile(rf"{_DATA_FILE.pattern}#\d+")
_STAGED_LOG = re.compile(
    rf"(?:\d{{20}}\.(?:json|checkpoint\.parquet)|_last_checkpoint)#\d+|_commit_{_UUID}\.json\.tmp"
)


@dataclass(frozen=True)
class OldFiles:
    """Paths in a table's folder that are older than the retention, and in no younger version.

    `expired` were removed by a commit as long ago, and may be deleted already; `leftovers` are
    named by no commit.
    """

    expired: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()


def old_files(uri: str, retention_days: int) -> OldFiles:
    """What could be deleted now. On object stores unfinished uploads are the store's to remove."""
    table = open_table(uri)
    if table is None:
        return OldFiles()
    hours = 24 * retention_days
    removed = set(reading(uri, partial(_vacuumable, table, hours, full=False)))
    # What the log has removed, and whatever else is there, old, and not in the table.
    unused = set(reading(uri, partial(_vacuumable, table, hours, full=True)))
    ours = {path for path in unused if _DATA_FILE.fullmatch(path.rpartition("/")[2])}
    folder = local_path(uri)
    staged = _staged(folder, 3600.0 * hours) if folder else ()
    return OldFiles(tuple(sorted(ours & removed)), tuple(sorted([*(ours - removed), *staged])))


def unlink(paths: Iterable[Path]) -> tuple[int, int]:
    """Delete files. Returns how many were still there, and their bytes. Raises InputError."""
    n_files = n_bytes = 0
    for path in paths:
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            # Another maintenance was quicker.
            continue
        except OSError as error:
            raise InputError(f"{path} cannot be deleted: {error.strerror}") from error
        n_files, n_bytes = n_files + 1, n_bytes + size
    return n_files, n_bytes


def _vacuumable(table: DeltaTable, hours: int, *, full: bool) -> list[str]:
    return table.vacuum(retention_hours=hours, dry_run=True, full=full)


def _staged(folder: Path, min_age_seconds: float) -> Iterator[str]:
    latest = time.time() - min_age_seconds
    for path in folder.rglob("*"):
        in_log = path.parent == folder / LOG
        pattern = _STAGED_LOG if in_log else _STAGED_DATA
        if pattern.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < latest:
            yield path.relative_to(folder).as_posix()
