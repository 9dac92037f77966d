"""What tells whether a file is still the one that was listed."""

import os
from pathlib import Path


def file_version(status: os.stat_result) -> str:
    """Changes whenever a file is written: its size and modification time in nanoseconds."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def version_at(path: Path) -> str:
    """The version of the file that stands there now; an empty string for none."""
    try:
        return file_version(path.stat())
    except OSError:
        return ""
