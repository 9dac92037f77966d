"""Of the runs of one machine, one works on a shard, and the others wait for what it makes.

Tables stay right without that, since shards are replaced by compare-and-set; it saves computing the
same twice. A claim is a file lock, which ends with its process. Where nothing can be locked, as in
an object store, nobody waits.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path

from filelock import FileLock, Timeout

from embed_assets.digests import digest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.tables.durable import local_path

log = logging.getLogger(__name__)

#: In the folder of the tables.
CLAIMS_FOLDER = ".claims"

_POLL_SECONDS = 0.2
# A process that holds claims shows that it is alive so often, and is waited for so long without.
_PULSE_SECONDS = 10.0
_PATIENCE_SECONDS = 60.0


class GivenUp(Exception):
    """Nobody waits for the shard any more."""


class ShardClaims:
    """The claims of a run in one stage. Use it as a context: on leaving, all are let go.

    `on_wait` hears of a shard that another run works on, before this one waits for it.
    """

    def __init__(
        self,
        pipeline: OpenedPipeline,
        stage: str,
        on_wait: Callable[[str], None] = lambda shard: None,
    ) -> None:
        root = local_path(pipeline.tables.root)
        self._folder: Path | None = root / CLAIMS_FOLDER if root else None
        # A run with other settings makes something else, and supersedes those before.
        self._work = digest(stage, *astuple(pipeline.configuration))[:16]
        self._on_wait = on_wait
        self._guard = threading.Lock()
        self._held: dict[str, FileLock] = {}
        self._ended = threading.Event()
        self._pulse: threading.Thread | None = None

    def __enter__(self) -> "ShardClaims":
        self._ended.clear()
        return self

    def __exit__(self, *_: object) -> None:
        for shard in list(self._held):
            self.release(shard)
        self._ended.set()
        if self._pulse is not None:
            self._pulse.join()
            self._pulse = None

    def take(self, shard: str, given_up: threading.Event) -> None:
        """Claim a shard, once no other run has it. Raises GivenUp where the event comes first.

        A run that shows no sign of life, because it was paused, keeps nobody waiting.
        """
        if self._is_taken(shard):
            return
        self._on_wait(shard)
        while not self._is_taken(shard):
            if given_up.wait(_POLL_SECONDS):
                raise GivenUp
            if self._stands_still(shard):
                log.warning("another run has %s and stands still; going on without", shard)
                return

    def release(self, shard: str) -> None:
        """Let go of a shard; nothing happens where it was not claimed. Never raises."""
        with self._guard:
            lock = self._held.pop(shard, None)
        if lock is not None:
            # Where the disk has become read-only, the tables tell of it.
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            with suppress(OSError):
                lock.release()

    @contextmanager
    def held(self, shard: str, given_up: threading.Event) -> Iterator[None]:
        """Claim a shard as long as this is open."""
        self.take(shard, given_up)
        try:
            yield
        finally:
            self.release(shard)

    def _is_taken(self, shard: str) -> bool:
        """Whether the shard is ours now, or cannot be locked."""
        if self._folder is None:
            return True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Claimed in one thread, released in another. Where the system has no locks, a file that
            # merely exists would outlive a killed run.
            lock = FileLock(self._file(shard), thread_local=False, fallback_to_soft=False)
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            # A full or read-only disk: the tables themselves will tell of it.
            log.info("%s cannot be claimed: %s", shard, error)
            return True
        with self._guard:
            self._held[shard] = lock
            if self._pulse is None:
                self._pulse = threading.Thread(target=self._beat, name="claims", daemon=True)
                self._pulse.start()
        return True

    def _file(self, shard: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{shard}.{self._work}"

    def _beat(self) -> None:
        """Touch what is held, so that others see that this process goes on."""
        while not self._ended.wait(_PULSE_SECONDS):
            with self._guard:
                files = [lock.lock_file for lock in self._held.values()]
            for file in files:
                with suppress(OSError):
                    os.utime(file)

    def _stands_still(self, shard: str) -> bool:
        try:
            seconds = time.time() - self._file(shard).stat().st_mtime
        except OSError:
            # Let go of just now.
            return False
        return seconds > _PATIENCE_SECONDS
