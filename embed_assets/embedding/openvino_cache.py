"""Converted models kept on disk, each proved by its digest before it is used.

A cache is never needed and never trusted blindly: what cannot be read, was changed, or could have
been written by another user is converted again.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from embed_assets.digests import file_sha256

log = logging.getLogger(__name__)

_FILES = ("model.xml", "model.bin")
_DIGESTS = "sha256.json"
# A model that nobody has used for so long goes when a new one comes.
_KEPT_SECONDS = 60 * 24 * 3600


def cache_root() -> Path | None:
    """The user's own folder for converted models, made where absent. None where there is none."""
    try:
        import platformdirs
    except ModuleNotFoundError:
        return None
    root = Path(platformdirs.user_cache_dir("embed_assets")) / "openvino"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = root.stat()
    except OSError as error:
        log.info("converted models are not kept: %s", error)
        return None
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        log.warning("converted models are not kept in %s: other users can write there", root)
        return None
    return root


def kept(key: str) -> Path | None:
    """The model.xml kept under a key, with model.bin beside it; None where it is not as written."""
    root = cache_root()
    if root is None:
        return None
    entry = root / key
    try:
        expected = json.loads((entry / _DIGESTS).read_text())
        if expected != {name: file_sha256(entry / name) for name in _FILES}:
            raise ValueError("its files are not those that were written")
        os.utime(entry)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("the converted model in %s is made again: %s", entry, error)
        return None
    return entry / _FILES[0]


def keep(key: str, save: Callable[[Path], None]) -> None:
    """Keep a model under a key: `save` writes model.xml, and model.bin beside it.

    The whole entry appears at once. Where the disk is full or read-only nothing is kept.
    """
    root = cache_root()
    if root is None:
        return
    unfinished = root
    try:
        _remove_unused(root)
        unfinished = Path(tempfile.mkdtemp(dir=root, prefix="unfinished-"))
        save(unfinished / _FILES[0])
        digests = {name: file_sha256(unfinished / name) for name in _FILES}
        (unfinished / _DIGESTS).write_text(json.dumps(digests))
        shutil.rmtree(root / key, ignore_errors=True)
        # Of two processes at once, one finds the other's there and leaves it.
        unfinished.rename(root / key)
    # OpenVINO raises RuntimeError where a file cannot be written.
    except (OSError, RuntimeError) as error:
        log.info("the converted model could not be kept in %s: %s", root, error)
    finally:
        if unfinished != root:
            shutil.rmtree(unfinished, ignore_errors=True)


def _remove_unused(root: Path) -> None:
    for entry in root.iterdir():
        if entry.stat().st_mtime < time.time() - _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
