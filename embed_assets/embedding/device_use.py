"""How busy a GPU is, and how full, while something runs on it: asked of the driver once a second.

By NVML, through nvidia-ml-py. Numbers are of the whole GPU, whoever else uses it. Where there is
no GPU, or the driver does not tell, a number is absent: 0 would mean an idle GPU.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_SAMPLE_SECONDS = 1.0


@dataclass
class DeviceUse:
    """Samples of one GPU: shares of time busy (0 to 1), and bytes of memory in use."""

    busy_shares: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)

    def numbers(self) -> dict[str, float]:
        """`gpu_utilization`, the mean share of time in which a kernel ran, and the most memory in
        use as `gpu_memory_bytes`; without what was not told.
        """
        numbers = {}
        if self.busy_shares:
            numbers["gpu_utilization"] = sum(self.busy_shares) / len(self.busy_shares)
        if self.memory_bytes:
            numbers["gpu_memory_bytes"] = float(max(self.memory_bytes))
        return numbers


@contextmanager
def watched(device: str, sample_seconds: float = _SAMPLE_SECONDS) -> Iterator[DeviceUse]:
    """Sample a device, such as "cuda:0", until the block ends, and once more then.

    Nothing is sampled on another kind of device.
    """
    use = DeviceUse()
    gpu = _opened(device)
    if gpu is None:
        yield use
        return
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(sample_seconds):
            gpu.add_to(use)
        # Also for a block shorter than a second: the driver tells of the second that is past.
        gpu.add_to(use)
        gpu.close()

    sampler = threading.Thread(target=sample, name=f"watch {device}", daemon=True)
    sampler.start()
    try:
        yield use
    finally:
        ended.set()
        sampler.join()


class _Gpu:
    """A handle of NVML, which counts how often it was opened."""

    def __init__(self, nvml: Any, handle: Any) -> None:  # noqa: ANN401  a module without types
        self._nvml = nvml
        self._handle = handle

    def add_to(self, use: DeviceUse) -> None:
        """One sample. A slice of a GPU (MIG) tells its memory, but not how busy it is."""
        nvml = self._nvml
        try:
            use.memory_bytes.append(int(nvml.nvmlDeviceGetMemoryInfo(self._handle).used))
            rates = nvml.nvmlDeviceGetUtilizationRates(self._handle)
            use.busy_shares.append(float(rates.gpu) / 100.0)
        except nvml.NVMLError:
            return

    def close(self) -> None:
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return


def _opened(device: str) -> _Gpu | None:
    """The GPU that CUDA calls so here; None where NVML knows none, or cannot be sure which."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return None
    try:
        import pynvml as nvml
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    gpu = None
    try:
        handle = _handle(nvml, int(number or 0))
        gpu = None if handle is None else _Gpu(nvml, handle)
    except (nvml.NVMLError, IndexError):
        gpu = None
    if gpu is None:
        nvml.nvmlShutdown()
    return gpu


def _handle(nvml: Any, number: int) -> Any:  # noqa: ANN401
    """The handle of CUDA's GPU `number`; None if it is not certain.

    CUDA_VISIBLE_DEVICES names GPUs by number or UUID. Numbers are those of NVML, by PCI bus, where
    CUDA_DEVICE_ORDER says so and where all GPUs are of one kind; else CUDA puts the fastest first.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    name = visible.split(",")[number].strip() if visible else str(number)
    if not name.isdigit():
        return nvml.nvmlDeviceGetHandleByUUID(name)
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not by_bus and len({nvml.nvmlDeviceGetName(handle) for handle in handles}) > 1:
        return None
    return handles[int(name)]
