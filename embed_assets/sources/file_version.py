"""What tells whether a file is still the one that was listed."""

import os
from pathlib import Path

from embed_assets.shards import SourceFile


def listed(source: str, status: os.stat_result) -> SourceFile:
    """A file of a corpus, as its status says."""
    return SourceFile(source, status.st_size, file_version(status), status.st_mtime)


def file_version(status: os.stat_result) -> str:
    """Changes whenever a file is written: its size and modification time in nanoseconds."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def version_at(path: Path) -> str:
    """The version of the file that stands there now; an empty string for none."""
    try:
        return file_version(path.stat())
    except OSError:
        return ""
