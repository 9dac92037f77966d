"""Work that may bring its process down: a damaged file can make a reader abort, not just raise."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from embed_assets.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")

# Share of the machine's memory that a child may ask for: a flipped length can ask for any amount.
_MEMORY_SHARE = 0.75


class Crashed(Exception):
    """The child process died in the middle of its work."""


class Child:
    """A process that does one thing after the other, and is replaced when it dies."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a module-level function, or what it raises; Crashed if the child died."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare,
            )
        try:
            return self._pool.submit(partial(_guarded, work, *args, **kwargs)).result()
        except BrokenProcessPool as error:
            self._close()
            raise Crashed("reading it ended the reading process") from error

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _guarded(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return work(*args, **kwargs)
    except Exception:
        raise
    except BaseException as panic:
        # A panic of a Rust library is no Exception, and cannot be sent to another process.
        raise InputError(" ".join(str(panic).split()) or type(panic).__name__) from None


def _prepare() -> None:
    # Panics write pages of backtrace; what they say comes back as an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _limit_memory()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = int(n_bytes * _MEMORY_SHARE)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (min(limit, hard) if hard >= 0 else limit, hard))
