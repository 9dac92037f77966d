"""What the GPU itself tells: its peak speed and memory, and how long it idled."""

import gc
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from embed_assets.embedding.encoder import Encoder, encode_all
from embed_assets.embedding.token_rows import TokenRows


def peak_tflops(size: int = 8_192) -> float:
    """What one large bf16 matrix product reaches on this chip."""
    import torch

    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    times = []
    for _ in range(20):
        start, end = (_timed_event() for _ in range(2))
        start.record()
        torch.mm(a, b)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return float(2 * size**3 / min(times) / 1e12)


def _timed_event() -> Any:  # noqa: ANN401
    import torch

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def idle_share(encoder: Encoder, tokens: TokenRows) -> float | None:
    """Share of the wall time of a run in which no kernel ran. None without a GPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not encoder.device.startswith("cuda"):
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        encode_all(encoder, tokens, encoder.max_tokens_per_batch)
        seconds = time.perf_counter() - started
        torch.cuda.synchronize()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not event.name.startswith(("Memcpy", "Memset"))
    ]
    return max(0.0, 1 - covered(spans) / (seconds * 1e6))


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans (start, end), which may overlap."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(total)


def peak_memory() -> int | None:
    """Most bytes that torch held since the last call. None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    peak = torch.cuda.max_memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    return peak


def empty_cache() -> None:
    """Give back what nobody uses any more, and begin a new peak."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
