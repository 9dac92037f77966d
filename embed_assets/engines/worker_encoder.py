"""An encoder in a process of its own, used from here: one per GPU, each with its own model.

A worker that dies fails what it was doing with WorkerDied, at once; the next use starts another.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.engines.channel import Channel
from embed_assets.engines.worker_process import EncoderFactory
from embed_assets.errors import InputError

# `-P` and the path as it is here: the worker imports what this process would.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r};"
    "from embed_assets.engines.worker_process import serve; serve({descriptor})"
)
_SECONDS_TO_END = 5.0


class WorkerDied(RuntimeError):
    """The worker's process ended in the middle of its work. Trying again starts a new one."""


class WorkerEncoder:
    """An Encoder whose model lives in another process. Serves one call at a time."""

    def __init__(self, factory: EncoderFactory, device: str, gpu: str | None = None) -> None:
        """Start the worker, which loads its model meanwhile; the first use waits for it.

        `factory` makes the encoder there. `device` is what to call the place: "cuda:1". `gpu` is
        the one GPU that the worker may see, as CUDA_VISIBLE_DEVICES has it.
        """
        self._factory = factory
        self._device = device
        self._gpu = gpu
        self._lock = threading.Lock()
        self._known_traits: dict[str, Any] | None = None
        self._worker: _Worker | None = _Worker(factory, device, gpu)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._traits()["dimension"])

    @property
    def device(self) -> str:
        """Where it runs, as seen from here: "cuda:1"."""
        return self._device

    @property
    def precision(self) -> str:
        """Number format of the forward pass."""
        return str(self._traits()["precision"])

    @property
    def max_tokens_per_batch(self) -> int:
        """The token budget this device likes best."""
        return int(self._traits()["max_tokens_per_batch"])

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        """Batches as the worker's encoder likes them."""
        return cast(list[Batch], self._call("plan", lengths, max_tokens_per_batch))

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]], None, None]:
        """Each batch with its vectors, as the worker sends them.

        Raises WorkerDied, and whatever the worker's encoder raises. Left half-way, it ends the
        worker, whose results nobody would take.
        """
        with self._used() as worker:
            self._known_traits = worker.traits
            worker.send("encode", tokens, batches)
            while True:
                kind, content = worker.receive(f"it embedded {len(tokens)} texts")
                if kind == "out of memory":
                    reason, number = content
                    raise DeviceOutOfMemory(reason, batches[number])
                if kind != "batch":
                    return
                number, vectors = content
                yield batches[number], vectors

    def token_ids(self, text: str) -> list[int]:
        """What the model's own preprocessing makes of a document."""
        return cast(list[int], self._call("token_ids", text))

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """The vector (dimension,) of a search query."""
        return cast(NDArray[np.float32], self._call("encode_query", text))

    def close(self) -> None:
        """End the worker. The next use would start another."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _traits(self) -> dict[str, Any]:
        """What never changes, asked for once: it must be at hand in the middle of `encode`."""
        if self._known_traits is None:
            with self._used() as worker:
                self._known_traits = worker.traits
        return self._known_traits

    def _call(self, method: str, *arguments: object) -> object:
        with self._used() as worker:
            worker.send(method, *arguments)
            return worker.receive(f"it ran {method}")[1]

    @contextmanager
    def _used(self) -> Iterator["_Worker"]:
        """The worker, ready, with nobody else using it."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"the process for {self._device} is busy with another call; finish that one first"
            )
        try:
            if self._worker is None or not self._worker.is_alive():
                self.close()
                self._worker = _Worker(self._factory, self._device, self._gpu)
            self._worker.wait_until_ready()
            yield self._worker
        except (DeviceOutOfMemory, InputError, _Raised):
            # The worker said all there is to say, and waits for the next call.
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._lock.release()


class _Raised(RuntimeError):
    """What the worker's encoder raised; its traceback is the message."""


class _Worker:
    """One process and the channel to it."""

    def __init__(self, factory: EncoderFactory, device: str, gpu: str | None) -> None:
        self._device = device
        self._traits: dict[str, Any] | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _PROGRAM.format(path=sys.path, descriptor=theirs.fileno()),
                ],
                # Nothing is ever written: its end tells the worker that this process is gone.
                stdin=subprocess.PIPE,
                # What a library prints must not stand among what this process prints.
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})},
                # Ctrl-C is for this process, which then ends the worker.
                start_new_session=True,
            )
        self._channel = Channel(ours)
        with suppress(EOFError):  # The first use says that it died.
            self._channel.send(factory)

    @property
    def traits(self) -> dict[str, Any]:
        """What does not change: dimension, precision, budget."""
        assert self._traits is not None
        return self._traits

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        if self._traits is None:
            self._traits = self.receive("it loaded the model")[1]

    def send(self, method: str, *arguments: object) -> None:
        try:
            self._channel.send((method, arguments))
        except EOFError as error:
            raise self._died("it was called") from error

    def receive(self, doing: str) -> tuple[str, Any]:
        """The next message: its kind and content. Raises what the worker's encoder raised."""
        try:
            kind, content = self._channel.receive()
        except EOFError as error:
            raise self._died(doing) from error
        if kind == "input error":
            raise InputError(content)
        if kind == "error":
            raise _Raised(f"the process for {self._device} failed while {doing}:\n{content}")
        return kind, content

    def end(self) -> None:
        """Hang up, and kill it if it does not end by itself soon."""
        self._channel.close()
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _died(self, doing: str) -> WorkerDied:
        try:
            code = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return WorkerDied(f"the process for {self._device} hung up while {doing}; run again")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
        return WorkerDied(
            f"the process for {self._device} died {how} while {doing}{hint}; run again"
        )
