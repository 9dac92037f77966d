"""Of the runs of one machine, one works on a shard, and the others wait for what it makes.

Tables stay right without that, since shards are replaced by compare-and-set; it saves computing the
same twice. A claim is a file lock, which ends with its process. Where nothing can be locked, as in
an object store, nobody waits.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout

from embed_assets.digests import digest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.tables.durable import local_path
from embed_assets.tables.table import CheckpointKey

log = logging.getLogger(__name__)

#: In the folder of the tables.
CLAIMS_FOLDER = ".claims"

_POLL_SECONDS = 0.2
# Longer than any stage needs between two signs of life but embedding, which saves checkpoints.
_PATIENCE_SECONDS = 60.0


class GivenUp(Exception):
    """Nobody waits for the shard any more."""


class ShardClaims:
    """The claims of a run in one stage.

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
        self._pipeline = pipeline
        self._on_wait = on_wait
        self._patience = pipeline.settings.checkpoint_seconds + _PATIENCE_SECONDS
        self._held: dict[str, FileLock] = {}

    def take(self, shard: str, given_up: Event) -> None:
        """Claim a shard, once no other run has it. Raises GivenUp where the event comes first.

        A run that shows no sign of life for long, because it was paused, keeps nobody waiting.
        """
        if self._is_taken(shard):
            return
        self._on_wait(shard)
        deadline = time.monotonic() + self._patience
        while not self._is_taken(shard):
            if given_up.wait(_POLL_SECONDS):
                raise GivenUp
            now = time.monotonic()
            if now > deadline:
                deadline = now + self._patience - self._seconds_since_checkpoint(shard)
                if now > deadline:
                    log.warning("another run has %s and does not come on; going on without", shard)
                    return

    def release(self, shard: str) -> None:
        """Let go of a shard; nothing happens where it was not claimed."""
        lock = self._held.pop(shard, None)
        if lock is not None:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def held(self, shard: str, given_up: Event) -> Iterator[None]:
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
            lock = FileLock(
                self._folder / f"{shard}.{self._work}", thread_local=False, fallback_to_soft=False
            )
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            # A full or read-only disk: the tables themselves will tell of it.
            log.info("%s cannot be claimed: %s", shard, error)
            return True
        self._held[shard] = lock
        return True

    def _seconds_since_checkpoint(self, shard: str) -> float:
        key = CheckpointKey(shard, self._pipeline.fingerprint)
        age = self._pipeline.tables.checkpoints.keys().get(key)
        return age.total_seconds() if age is not None else float("inf")
