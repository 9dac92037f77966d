"""Files under the tables that no commit names: what killed runs leave behind."""

import re
import time
from collections.abc import Iterator, Set
from pathlib import Path

from embed_assets.doctor.log_files import read_log
from embed_assets.tables.durable import LOG

# Under such names a file is written before it gets its own; wider than what delta-rs makes, since
# nothing is deleted here.
_STAGED_DATA = re.compile(r".+\.parquet#\d+")
_STAGED_LOG = re.compile(r".+#\d+|.+\.tmp")
# A write takes far less: whatever is older and named by no commit belongs to nobody.
_SETTLED_SECONDS = 3600.0


def leftovers(table: Path, live: Set[str], *, nobody_writes: bool) -> Iterator[Path]:
    """Data files that no commit names, and files that were never finished.

    `live` are the files in force, which an old log may name in a checkpoint alone.

    While runs write, new files are left out: they are about to be committed. Files of any other
    name are somebody else's, and none of our business.
    """
    named = read_log(table).named | live
    for path in sorted(table.rglob("*")):
        if not path.is_file() or not _is_leftover(path, table, named):
            continue
        if nobody_writes or time.time() - path.stat().st_mtime > _SETTLED_SECONDS:
            yield path


def _is_leftover(path: Path, table: Path, named: Set[str]) -> bool:
    relative = path.relative_to(table)
    if relative.parts[0] == LOG:
        return _STAGED_LOG.fullmatch(path.name) is not None
    if _STAGED_DATA.fullmatch(path.name):
        return True
    return path.suffix == ".parquet" and relative.as_posix() not in named
