"""A process apart for reading Parquet: what ends it costs one file, not the run.

polars aborts where a page says that it holds -1 values, or more than memory takes; no `except`
sees that (polars 2.1). The process starts with the first Parquet file, serves the next ones too,
may take only so much memory, and exits after a minute without work or when this process is gone.
"""

import atexit
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

from embed_assets.sources.refusal import Refusal, TooMuch

_IDLE_SECONDS = 60.0
# A few threads: one file is read at a time, and every thread takes memory that is counted.
_PROGRAM = (
    "import os, sys; os.environ['POLARS_MAX_THREADS'] = '4'; sys.path[:] = {path!r};"
    "from embed_assets.sources.process_apart import serve; serve()"
)
_KILLED_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM)

_idle: list["_Process"] = []


def call(function: str, *arguments: object, max_memory_bytes: int) -> Generator[Any, None, None]:
    """What a function of `parquet_rows` yields. Raises the Refusal that it raises, and Refusal
    where the process does not survive the file.
    """
    while True:
        process = _take()
        try:
            yield from process.call((function, arguments, max_memory_bytes))
        except _LeftIdle:
            process.end()
        except BaseException as error:
            # Also a reader that stops half-way: what is still to come would answer the next call.
            if isinstance(error, Refusal) and process.is_alive():
                _idle.append(process)
            else:
                process.end()
            raise
        else:
            _idle.append(process)
            return


def serve() -> None:
    """Answer calls from standard input: what the process apart runs."""
    from embed_assets.sources import parquet_rows

    functions: dict[str, Callable[..., Iterator[object]]] = {
        "n_rows": parquet_rows.n_rows,
        "items": parquet_rows.items,
    }
    # A library that prints must not do so among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while select.select([sys.stdin.buffer], [], [], _IDLE_SECONDS)[0]:
        try:
            function, arguments, max_memory_bytes = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _limit_memory(max_memory_bytes)
        for answer in _answers(functions[function], arguments):
            pickle.dump(answer, answers)
            answers.flush()


def _answers(
    function: Callable[..., Iterator[object]], arguments: tuple[object, ...]
) -> Iterator[tuple[str, object]]:
    try:
        for item in function(*arguments):
            yield "item", item
    except Refusal as refusal:
        yield "refused", (isinstance(refusal, TooMuch), refusal.reason, refusal.detail)
    except MemoryError:
        yield "refused", (False, "unreadable Parquet", "it needs too much memory")
    except Exception as error:
        # Not its message, which may quote the file.
        places = "".join(traceback.format_tb(error.__traceback__))
        yield "failed", f"{type(error).__name__} in the process apart:\n{places}"
    else:
        yield "done", None


def _limit_memory(n_bytes: int) -> None:
    # Data and not address space, which a mapped file of 100 GB takes too.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


class _LeftIdle(Exception):
    """The process exited for want of work just before it was called."""


class _Process:
    """One process apart and the two pipes to it. Serves one call at a time."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Panic messages quote what they found.
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for this process: the one apart must not seem to die of its file.
            start_new_session=True,
        )

    def is_alive(self) -> bool:
        """Whether it can be called from this process, which may be a fork of its owner."""
        return self._owner == os.getpid() and self._process.poll() is None

    def call(self, request: object) -> Iterator[Any]:
        """The items of one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            while True:
                kind, content = pickle.load(self._process.stdout)
                if kind != "item":
                    break
                yield content
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._raise_for_its_end()
        if kind == "refused":
            is_too_much, reason, detail = content
            raise (TooMuch if is_too_much else Refusal)(reason, detail)
        if kind == "failed":
            raise RuntimeError(content)

    def end(self) -> None:
        """Kill it, if it is ours, and close the pipes."""
        if self._owner == os.getpid():
            self._process.kill()
            with suppress(BrokenPipeError), self._process:
                pass

    def _raise_for_its_end(self) -> None:
        code = self._process.wait()
        if code == 0:
            raise _LeftIdle
        if code in _KILLED_BY_OTHERS:
            # No fault of the file, as far as anybody knows: the shard fails and is tried again.
            raise RuntimeError(
                f"the process that reads Parquet was killed by {signal.Signals(-code).name}; the "
                "machine may be out of memory"
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise Refusal(
            "unreadable Parquet",
            f"it ended the process that reads it, with {how}: corrupt, or too much for its memory",
        )


def _take() -> _Process:
    # Each is popped by one thread alone, and another thread may pop the last.
    with suppress(IndexError):
        while True:
            process = _idle.pop()
            if process.is_alive():
                return process
            process.end()
    return _Process()


@atexit.register
def end_all() -> None:
    """End the processes that wait for work."""
    while _idle:
        _idle.pop().end()
