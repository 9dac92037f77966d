"""How busy a GPU is: told by a driver that is made up here; absent, never 0, where none tells."""

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from embed_assets.embedding.device_use import watched


class NvmlError(Exception):
    pass


class FakeNvml:
    """NVML with four GPUs; number n is n * 10 % busy and holds n GB."""

    NVMLError = NvmlError

    def __init__(self) -> None:
        self.n_open = 0
        self.asked: list[Any] = []
        self.names = ["H200"] * 4
        self.tells_utilization = True
        self.sampled = threading.Event()

    def nvmlInit(self) -> None:  # noqa: N802  NVML's own names
        self.n_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.n_open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.names[handle]

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        if not uuid.startswith("GPU-"):
            raise NvmlError("not found")
        return int(uuid[-1])

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        self.asked.append(handle)
        # Less and less: the peak is not the last sample.
        return SimpleNamespace(used=handle * 10**9 - len(self.asked))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        if not self.tells_utilization:
            raise NvmlError("not supported")
        self.sampled.set()
        return SimpleNamespace(gpu=handle * 10)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    made = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    yield made
    assert made.n_open == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("watch ")]


def numbers_of(device: str) -> dict[str, float]:
    with watched(device) as use:
        pass
    return use.numbers()


def test_a_busy_gpu_is_sampled_while_the_work_goes_on(nvml: FakeNvml) -> None:
    with watched("cuda:2", sample_seconds=0.001) as use:
        assert nvml.sampled.wait(30)
    numbers = use.numbers()
    assert numbers["gpu_utilization"] == pytest.approx(0.2)
    assert numbers["gpu_memory_bytes"] == 2 * 10**9 - 1
    assert len(nvml.asked) >= 2


def test_work_shorter_than_a_sample_is_sampled_once(nvml: FakeNvml) -> None:
    assert numbers_of("cuda:1") == {"gpu_utilization": 0.1, "gpu_memory_bytes": 10**9 - 1}
    assert nvml.asked == [1]


@pytest.mark.parametrize(
    ("visible", "device", "gpu"),
    [
        ("2,3", "cuda:1", 3),
        ("3, 1", "cuda:1", 1),
        ("GPU-x2", "cuda:0", 2),
        ("GPU-x1,GPU-x3", "cuda:1", 3),
    ],
)
def test_the_gpu_that_the_worker_sees_is_the_one_that_is_asked(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str, device: str, gpu: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert numbers_of(device)["gpu_utilization"] == pytest.approx(gpu / 10)


@pytest.mark.parametrize("visible", ["9", "MIG-x/1/2", "nonsense"])
def test_a_gpu_that_the_driver_does_not_know_has_no_numbers(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert numbers_of("cuda:0") == {}


def test_gpus_of_two_kinds_are_told_apart_or_not_at_all(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.names[0] = "an old one"
    assert numbers_of("cuda:1") == {}
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert numbers_of("cuda:1")["gpu_utilization"] == pytest.approx(0.1)


def test_a_slice_of_a_gpu_tells_its_memory_alone(nvml: FakeNvml) -> None:
    nvml.tells_utilization = False
    assert numbers_of("cuda:1") == {"gpu_memory_bytes": 10**9 - 1}


def test_without_a_gpu_or_a_driver_there_are_no_numbers(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert numbers_of("cpu") == {}
    assert nvml.asked == []

    def no_driver() -> None:
        raise NvmlError("library not found")

    monkeypatch.setattr(nvml, "nvmlInit", no_driver)
    assert numbers_of("cuda:0") == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert numbers_of("cuda:0") == {}


def test_work_that_fails_ends_the_sampling(nvml: FakeNvml) -> None:
    with pytest.raises(ValueError, match="mine"), watched("cuda:1"):
        raise ValueError("mine")
