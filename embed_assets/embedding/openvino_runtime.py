"""OpenVINO itself: imported without its telemetry, and what of this CPU it may use."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_assets.concurrency import usable_cores

if TYPE_CHECKING:
    from openvino import CompiledModel

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def is_installed() -> bool:
    """Whether OpenVINO can be imported. A bare GPU machine does without, an old system cannot."""
    try:
        import_openvino()
    except ImportError:
        return False
    return True


def import_openvino() -> Any:  # noqa: ANN401  a module without types
    """The package openvino, without its telemetry.

    Its import and every conversion report to Google Analytics unless the telemetry package is
    missing, so for this process it is. Where somebody has imported it before, it is left alone.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 itself: AVX512-bf16 or AMX. Emulated, bf16 is slower.

    Read from the system, so that no library loads where the answer is no. False where the system
    does not say, as on macOS.
    """
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return bool(_BF16_FLAGS & set(flags.split()))


def n_streams() -> int:
    """Batches to compute at once, one thread each: the physical cores this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return usable_cores()
    cpus = sorted(os.sched_getaffinity(0))
    cores = {_siblings(cpu) for cpu in cpus}
    return max(1, min(len(cores), _quota() or len(cores)))


def _siblings(cpu: int) -> str:
    """The logical CPUs of a core, as Linux lists them; the CPU alone where it does not."""
    file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return file.read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> int | None:
    """Whole CPUs of a container's limit (cgroup v2), rounded up; None where there is none."""
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


def _in_bf16(precision: str) -> bool:
    """Whether nodes compute in bf16. In an int8 model, which is much coarser, those that are not
    quantised do where the CPU can: 1.06 times as fast.
    """
    return precision == "bf16" or (precision == "int8" and has_bf16())


def compiled(model: Any, precision: str) -> "CompiledModel":  # noqa: ANN401  openvino.Model
    """A model ready to run on this CPU, `n_streams` batches at once.

    Two streams of one thread each ran 1.04 to 1.13 times as fast as one of two on two cores.
    """
    streams = n_streams()
    return (
        import_openvino()
        .Core()
        .compile_model(
            model,
            "CPU",
            {
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
                "INFERENCE_PRECISION_HINT": "bf16" if _in_bf16(precision) else "f32",
                # Pinned, two processes would share one core and leave another idle.
                "ENABLE_CPU_PINNING": False,
            },
        )
    )
