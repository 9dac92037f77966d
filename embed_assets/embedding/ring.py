"""Keep a device busy: while it computes one batch, the next goes up and the last comes down.

A ring of slots, each with pinned memory on the host and buffers on the device. The host waits for
the oldest batch alone, when all slots are taken; nothing ever waits for the whole device.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.device_memory import out_of_memory_reason
from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.length_buckets import Batch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Batches under way at once on a GPU: one computes, one waits, one comes down, one is being written.
_CUDA_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Job:
    """A batch for the device: what goes up, what it does, how much comes down.

    `write` fills int32 inputs (n_inputs,). `compute` turns them, on the device, into vectors
    float32 (n_vectors or more, d) without waiting for them; what it gives may be overwritten by
    the next call.
    """

    batch: Batch
    n_inputs: int
    n_vectors: int
    write: Callable[[NDArray[np.int32]], None]
    compute: "Callable[[Tensor], Tensor]"


class Ring:
    """The slots of one device. Serves one `run` at a time. On a CPU all happens in place."""

    def __init__(self, device: "torch.device", depth: int | None = None) -> None:
        self._depth = depth or (_CUDA_DEPTH if device.type == "cuda" else 1)
        self._new_slot = _CudaSlots(device) if device.type == "cuda" else _HostSlot
        self._slots: list[_HostSlot | _CudaSlot] = []
        self._is_running = False

    def run(self, jobs: Iterable[Job]) -> Generator[tuple[Batch, NDArray[np.float32]], None, None]:
        """Each batch with its vectors float32 (n_vectors, d), in order, as they are done.

        Raises DeviceOutOfMemory with the first batch that did not fit, after those before it.
        """
        if self._is_running:
            raise RuntimeError("the ring still runs other batches; finish or close that run first")
        self._is_running = True
        self._slots = self._slots or [self._new_slot() for _ in range(self._depth)]
        free = deque(self._slots)
        under_way: deque[tuple[Batch, _HostSlot | _CudaSlot]] = deque()
        failure: DeviceOutOfMemory | None = None
        try:
            for job in jobs:
                if not free:
                    batch, slot = under_way[0]
                    vectors = slot.vectors()
                    free.append(under_way.popleft()[1])
                    yield batch, vectors
                failure = _started(free[0], job)
                if failure is not None:
                    break
                under_way.append((job.batch, free.popleft()))
            while under_way:
                batch, slot = under_way.popleft()
                yield batch, slot.vectors()
        finally:
            # The slots' memory is used again by the next run.
            for _, slot in under_way:
                slot.wait()
            self._is_running = False
        if failure is not None:
            raise failure

    def release(self) -> None:
        """Give the memory back; the next run takes it again."""
        if self._is_running:
            raise RuntimeError("the ring still runs; its memory is in use")
        self._slots = []


def _started(slot: "_HostSlot | _CudaSlot", job: Job) -> DeviceOutOfMemory | None:
    """Put a job under way; what to raise if the device has no room for it."""
    try:
        slot.start(job)
    except RuntimeError as error:
        reason = out_of_memory_reason(error)
        if reason is None:
            raise
        return DeviceOutOfMemory(reason, job.batch)
    return None


class _HostSlot:
    """A slot without a device: `start` has done all when it returns."""

    def __init__(self) -> None:
        self._vectors = np.empty((0, 0), dtype=np.float32)

    def start(self, job: Job) -> None:
        import torch

        inputs = np.empty(job.n_inputs, dtype=np.int32)
        job.write(inputs)
        with torch.inference_mode():
            computed = job.compute(torch.from_numpy(inputs))[: job.n_vectors]
            self._vectors = computed.float().numpy().copy()

    def vectors(self) -> NDArray[np.float32]:
        return self._vectors

    def wait(self) -> None:
        """Nothing is ever under way."""


class _CudaSlots:
    """Makes the slots of a device, which share a stream for each direction."""

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        self._streams: tuple[Any, Any] | None = None

    def __call__(self) -> "_CudaSlot":
        if self._streams is None:
            self._streams = (_stream(self._device), _stream(self._device))
        return _CudaSlot(self._device, *self._streams)


class _CudaSlot:
    """Pinned host memory and device buffers of one batch, and the events that order its steps."""

    def __init__(self, device: "torch.device", upload: Any, download: Any) -> None:  # noqa: ANN401
        import torch

        self._device = device
        self._upload, self._download = upload, download
        self._uploaded, self._computed = _event(), _event()
        # Blocking: the host sleeps while it waits, and leaves the core to whoever reads or writes.
        self._done = _event(blocking=True)
        self._host_in = _pinned(0, torch.int32)
        self._device_in = torch.empty(0, dtype=torch.int32, device=device)
        self._host_out = _pinned(0, torch.float32)
        self._device_out = torch.empty(0, dtype=torch.float32, device=device)
        self._out_shape = (0, 0)

    def start(self, job: Job) -> None:
        import torch

        with torch.inference_mode(), torch.cuda.device(self._device):
            stream = torch.cuda.current_stream()
            self._reserve_inputs(job.n_inputs, stream)
            job.write(self._host_in[: job.n_inputs].numpy())
            inputs = self._device_in[: job.n_inputs]
            with torch.cuda.stream(self._upload):
                inputs.copy_(self._host_in[: job.n_inputs], non_blocking=True)
                self._uploaded.record()
            stream.wait_event(self._uploaded)
            vectors = job.compute(inputs)[: job.n_vectors]
            self._bring_down(vectors, stream)

    def _bring_down(self, vectors: "Tensor", stream: Any) -> None:  # noqa: ANN401
        import torch

        self._out_shape = (vectors.shape[0], vectors.shape[1])
        n_values = vectors.numel()
        self._reserve_outputs(n_values)
        # A copy on the device, so that the next batch may overwrite what `compute` gave.
        self._device_out[:n_values].view_as(vectors).copy_(vectors)
        self._computed.record(stream)
        self._download.wait_event(self._computed)
        with torch.cuda.stream(self._download):
            self._host_out[:n_values].copy_(self._device_out[:n_values], non_blocking=True)
            self._done.record()

    def vectors(self) -> NDArray[np.float32]:
        self.wait()
        n_vectors, dimension = self._out_shape
        taken = self._host_out[: n_vectors * dimension].numpy()
        return taken.reshape(n_vectors, dimension).copy()

    def wait(self) -> None:
        self._done.synchronize()

    def _reserve_inputs(self, n_values: int, stream: Any) -> None:  # noqa: ANN401
        import torch

        if len(self._host_in) >= n_values:
            return
        self._host_in = _pinned(n_values, torch.int32)
        self._device_in = torch.empty(n_values, dtype=torch.int32, device=self._device)
        # The allocator may hand out memory that earlier work on the stream still reads.
        self._upload.wait_stream(stream)

    def _reserve_outputs(self, n_values: int) -> None:
        import torch

        if len(self._host_out) >= n_values:
            return
        # Twice: shorter texts come later, and then more vectors fit a batch. Pinning is slow.
        self._host_out = _pinned(2 * n_values, torch.float32)
        self._device_out = torch.empty(2 * n_values, dtype=torch.float32, device=self._device)


def _pinned(n_values: int, dtype: "torch.dtype") -> "Tensor":
    import torch

    return torch.empty(n_values, dtype=dtype, pin_memory=True)


def _stream(device: "torch.device") -> Any:  # noqa: ANN401
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event(*, blocking: bool = False) -> Any:  # noqa: ANN401
    import torch

    return torch.cuda.Event(blocking=blocking)  # type: ignore[no-untyped-call]
