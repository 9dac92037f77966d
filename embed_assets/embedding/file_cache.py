"""Files in the user's cache that take long to make, each proved by its digest before it is used.

A cache is never needed and never trusted blindly: what cannot be read, was changed, or could have
been written by another user is made again.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from embed_assets.digests import file_sha256

log = logging.getLogger(__name__)

_DIGESTS = "sha256.json"
# An entry that nobody has used for so long goes when a new one comes.
_KEPT_SECONDS = 60 * 24 * 3600


class FileCache:
    """Folders by key, each with the same files in it, under `embed_assets/<kind>`."""

    def __init__(self, kind: str, *files: str) -> None:
        self._kind = kind
        self._files = files

    def kept(self, key: str) -> Path | None:
        """The folder kept under a key; None where its files are not as they were written."""
        root = self._root()
        if root is None:
            return None
        entry = root / key
        reason: object = "its files are not those that were written"
        try:
            if self._is_whole(entry):
                os.utime(entry)
                return entry
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error
        log.warning("%s is made again: %s", entry, reason)
        return None

    def keep(self, key: str, save: Callable[[Path], object]) -> None:
        """Keep what `save` writes into the folder that it is given.

        The whole entry appears at once. Where the disk is full or read-only nothing is kept.
        """
        root = self._root()
        if root is None:
            return
        unfinished = root
        try:
            _remove_unused(root)
            unfinished = Path(tempfile.mkdtemp(dir=root, prefix="unfinished-"))
            save(unfinished)
            (unfinished / _DIGESTS).write_text(json.dumps(self._digests(unfinished)))
            self._put(unfinished, root / key)
        # OpenVINO raises RuntimeError where a file cannot be written.
        except (OSError, RuntimeError) as error:
            log.info("nothing could be kept in %s: %s", root, error)
        finally:
            if unfinished != root:
                shutil.rmtree(unfinished, ignore_errors=True)

    def _put(self, unfinished: Path, entry: Path) -> None:
        """Of two processes at once, one finds the other's there and leaves it."""
        with suppress(OSError):
            if self._is_whole(entry):
                return
        shutil.rmtree(entry, ignore_errors=True)
        unfinished.rename(entry)

    def _is_whole(self, entry: Path) -> bool:
        try:
            written = json.loads((entry / _DIGESTS).read_text())
        except ValueError:
            return False
        return bool(written == self._digests(entry))

    def _digests(self, entry: Path) -> dict[str, str]:
        return {name: file_sha256(entry / name) for name in self._files}

    def _root(self) -> Path | None:
        """The user's own folder, made where absent. None where there is none."""
        try:
            import platformdirs  # Here: a bare GPU machine does without.
        except ModuleNotFoundError:
            return None
        root = Path(platformdirs.user_cache_dir("embed_assets")) / self._kind
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = root.stat()
        except OSError as error:
            _tell_once(root, str(error))
            return None
        if state.st_uid != os.getuid() or state.st_mode & 0o022:
            _tell_once(root, "other users can write there")
            return None
        return root


@cache
def _tell_once(root: Path, reason: str) -> None:
    log.warning("each process makes again what could be kept in %s: %s", root, reason)


def _remove_unused(root: Path) -> None:
    for entry in root.iterdir():
        if entry.stat().st_mtime < time.time() - _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
