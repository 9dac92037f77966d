"""Commits that outlive a power cut, and that nobody cleans up while they are being made.

delta-rs leaves new files to the operating system's cache: after a power cut the newest commit may
be empty or half there. On local disks every commit is therefore brought to the disk before it is
reported as done. Object stores are durable when they answer.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and only old leftovers are ever cleaned up.
    fcntl = None  # type: ignore[assignment]

#: In the folder of the tables. Held shared while files are written that no commit names yet.
LOCK_FILE = ".writing"

#: Folder of a table's log, and the file in it that names the log's newest checkpoint.
LOG = "_delta_log"
LAST_CHECKPOINT = "_last_checkpoint"

_POLL_SECONDS = 0.05


def local_path(uri: str) -> Path | None:
    """The folder of a local table; None for an object store."""
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def commit_path(table: Path, version: int) -> Path:
    """Where a commit of a local table is."""
    return table / LOG / f"{version:020}.json"


def sync_commit(table: DeltaTable, uri: str) -> None:
    """Bring a handle's newest commit to the disk, with the files it added and their folders.

    On the handle that wrote, the version is that of its own commit.
    """
    folder = local_path(uri)
    if folder is None:
        return
    log, version = folder / LOG, table.version()
    commit = commit_path(folder, version)
    added = [folder / unquote(path) for path in _added_paths(commit)]
    files = [*added, commit, *log.glob(f"{version:020}.checkpoint*"), log / LAST_CHECKPOINT]
    folders = {log, folder, folder.parent}
    for file in added:
        folders.update(parent for parent in file.parents if parent.is_relative_to(folder))
    for path in [*files, *sorted(folders, reverse=True)]:
        _sync(path)


def _added_paths(commit: Path) -> list[str]:
    lines = commit.read_text(encoding="utf-8").splitlines()
    actions = [json.loads(line) for line in lines if line.startswith('{"add"')]
    return [action["add"]["path"] for action in actions]


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        # No log checkpoint yet, or replaced by a later commit, which brings its own to the disk.
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing_files(uri: str) -> Iterator[None]:
    """While this is open, nobody takes a new file that no commit names for a leftover."""
    folder = local_path(uri)
    if folder is None or fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / LOCK_FILE).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def nobody_writing(root: str, timeout_seconds: float) -> Iterator[bool]:
    """Whether no run is writing under a root, nor begins to while this is open.

    False where one did for all of `timeout_seconds`, where nothing can be written at all, and for
    stores that cannot be locked.
    """
    folder = local_path(root)
    lock = None if folder is None or fcntl is None else _opened(folder / LOCK_FILE)
    if lock is None:
        yield False
        return
    with lock:
        yield _locked(lock.fileno(), time.monotonic() + timeout_seconds)


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("ab")
    except OSError:
        # Read-only: to look at tables one needs no right to write.
        return None


def _locked(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
