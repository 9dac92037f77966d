"""Files under the tables that no commit names: what killed runs leave behind."""

import re
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from embed_assets.doctor import whole_tables
from embed_assets.doctor.child import Child
from embed_assets.doctor.log_files import LogReading, read_log
from embed_assets.tables.durable import LOG

# Under such names a file is written before it gets its own; wider than what delta-rs makes, since
# nothing is deleted here.
_STAGED_DATA = re.compile(r".+\.parquet#\d+")
_STAGED_LOG = re.compile(r".+#\d+|.+\.tmp")
# A write takes far less: whatever is older and named by no commit belongs to nobody.
_SETTLED_SECONDS = 3600.0


def unnamed_files(uri: str, table: Path, log: LogReading, child: Child) -> list[Path]:
    """Data files that a local table's log does not name, and files that were never finished.

    Some of them may be about to be committed. Files of any other name are somebody else's, and
    none of our business.
    """
    found = [path for path in sorted(table.rglob("*")) if _is_unnamed(path, table, log.named)]
    if not found:
        return []
    # An old log may name a file that is in force in a checkpoint alone.
    live = child.call(whole_tables.live_paths, uri)
    return [path for path in found if path.relative_to(table).as_posix() not in live]


def leftovers(table: Path, unnamed: Sequence[Path], *, nobody_writes: bool) -> Iterator[Path]:
    """Those of the unnamed files that are still there and that no commit has named since.

    While runs write, new files are left out: they are about to be committed.
    """
    if not unnamed:
        return
    # What came into force since is in the newest commits, which no checkpoint stands for alone.
    named = read_log(table).named
    for path in unnamed:
        if not _is_unnamed(path, table, named):
            continue
        if nobody_writes or time.time() - path.stat().st_mtime > _SETTLED_SECONDS:
            yield path


def _is_unnamed(path: Path, table: Path, named: Set[str]) -> bool:
    if not path.is_file():
        return False
    relative = path.relative_to(table)
    if relative.parts[0] == LOG:
        return _STAGED_LOG.fullmatch(path.name) is not None
    if _STAGED_DATA.fullmatch(path.name):
        return True
    return path.suffix == ".parquet" and relative.as_posix() not in named
