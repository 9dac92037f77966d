"""Find the token budget at which a device is fastest, and where its memory ends. No polars."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.encoder import Encoder, EncodeStats, encode_batches
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError

_LEAST_BUDGET = 256
# A budget this much slower than the best one has passed the peak: larger ones only lose more.
_FAR_BELOW_BEST = 0.7
# Budgets this close to the best differ by noise: the smaller one needs less memory.
_AS_GOOD_AS_BEST = 0.98
# Share of the memory that a chosen budget may take: other processes and longer texts need some.
_SAFE_MEMORY = 0.85
# Trials that the time is divided by: eight doublings, two rounds each, and the finer ones.
_EXPECTED_TRIALS = 20
_ROUNDS = 2
# A budget shows its speed only over some batches of its size.
_LEAST_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """One budget: tokens per second, share of padding, and the device's peak memory in bytes
    where it tells.
    """

    max_tokens_per_batch: int
    tokens_per_second: float
    padding_waste: float
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Peak memory as a straight line over the token budget."""

    base_bytes: float
    bytes_per_token: float
    capacity_bytes: int

    def tokens_within(self, share: float) -> int:
        """The largest budget that takes at most this share of the device's memory."""
        return int((share * self.capacity_bytes - self.base_bytes) / self.bytes_per_token)

    @property
    def out_of_memory_at(self) -> int:
        """The budget at which memory ends."""
        return self.tokens_within(1.0)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The trials by budget, the one to use, and the memory model where the device tells."""

    trials: tuple[Trial, ...]
    best: Trial
    memory: MemoryModel | None
    device: str
    precision: str


def tune(encoder: Encoder, tokens: TokenRows, seconds: float) -> Tuning:
    """Try budgets on texts of these lengths, doubling until it gets slower or memory ends.

    Each budget's figure is the best of two rounds in turn, because other work on the machine only
    ever slows a trial down. Takes about `seconds`. Raises InputError where there are no texts.
    """
    if not len(tokens):
        raise InputError("there are no chunks to tune with; embed-assets run makes some first")
    memory = _DeviceMemory(encoder.device)
    per_trial = seconds / _EXPECTED_TRIALS
    rows = _rows_for(encoder, tokens, per_trial)
    n_tokens = int(tokens.lengths[rows].sum())
    found: dict[int, Trial] = {}
    deadline = time.perf_counter() + seconds

    def attempt(budget: int) -> bool:
        """Whether the budget fitted."""
        memory.reset()
        stats = _run(encoder, tokens, rows, budget)
        if stats.n_halvings:
            return False
        trial = Trial(
            budget,
            stats.n_tokens / stats.seconds,
            stats.padding_waste,
            memory.peak(),
        )
        found[budget] = max(found.get(budget, trial), trial, key=lambda t: t.tokens_per_second)
        return True

    for budget in _doubling(int(tokens.lengths.max()), n_tokens // _LEAST_BATCHES):
        if not attempt(budget) or _is_past_peak(found) or time.perf_counter() > deadline:
            break
    if not found:
        raise InputError(
            f"not even {_LEAST_BUDGET} tokens fit on {encoder.device}; lower max_tokens"
        )
    fastest = max(found.values(), key=lambda t: t.tokens_per_second).max_tokens_per_batch
    for budget in (round(fastest / 2**0.5), round(fastest * 2**0.5)):
        if int(tokens.lengths.max()) <= budget <= n_tokens // _LEAST_BATCHES:
            attempt(budget)
    for budget in sorted(found) * (_ROUNDS - 1):
        if time.perf_counter() > deadline:
            break
        attempt(budget)
    trials = tuple(found[budget] for budget in sorted(found))
    model = fit_memory(trials, memory.capacity())
    return Tuning(trials, pick(trials, model), model, encoder.device, encoder.precision)


def pick(trials: tuple[Trial, ...], memory: MemoryModel | None) -> Trial:
    """The smallest budget that is as good as the fastest of those that are safe for memory."""
    limit = memory.tokens_within(_SAFE_MEMORY) if memory else None
    safe = [t for t in trials if limit is None or t.max_tokens_per_batch <= limit] or [trials[0]]
    fastest = max(trial.tokens_per_second for trial in safe)
    return next(t for t in safe if t.tokens_per_second >= _AS_GOOD_AS_BEST * fastest)


def fit_memory(trials: tuple[Trial, ...], capacity_bytes: int | None) -> MemoryModel | None:
    """Least squares line through peak memory over budget; None where it says nothing."""
    points = [(t.max_tokens_per_batch, t.peak_bytes) for t in trials if t.peak_bytes]
    if capacity_bytes is None or len(points) < 2:
        return None
    budgets, peaks = np.array(points, dtype=np.float64).T
    slope, base = np.polyfit(budgets, peaks, 1)
    return MemoryModel(float(base), float(slope), capacity_bytes) if slope > 0 else None


def _doubling(longest: int, most: int) -> Iterator[int]:
    budget = _LEAST_BUDGET
    while budget < longest:
        budget *= 2
    while True:
        yield budget
        budget *= 2
        if budget > most:
            return


def _is_past_peak(found: dict[int, Trial]) -> bool:
    speeds = [trial.tokens_per_second for trial in found.values()]
    return len(speeds) > 2 and max(speeds[-2:]) < _FAR_BELOW_BEST * max(speeds)


def _rows_for(encoder: Encoder, tokens: TokenRows, seconds: float) -> NDArray[np.int64]:
    """Rows that take about so many seconds; the corpus's own again and again where it is small."""
    few = np.arange(min(len(tokens), 64))
    # The first run warms up, the second one is the measure.
    for _ in range(2):
        stats = _run(encoder, tokens, few, encoder.max_tokens_per_batch)
    per_row = tokens.lengths.mean()
    n_rows = max(len(few), int(stats.n_tokens / stats.seconds * seconds / per_row))
    return np.resize(np.arange(len(tokens)), n_rows)


def _run(encoder: Encoder, tokens: TokenRows, rows: NDArray[np.int64], budget: int) -> EncodeStats:
    return encode_batches(encoder, tokens.gather(rows), budget, lambda rows, vectors: None)


class _DeviceMemory:
    """Peak memory of a CUDA device; nothing on a CPU, where the caches end long before memory."""

    def __init__(self, device: str) -> None:
        self._device = device if device.startswith("cuda") else None

    def reset(self) -> None:
        if self._device:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int | None:
        if not self._device:
            return None
        import torch

        return int(torch.cuda.max_memory_reserved(self._device))

    def capacity(self) -> int | None:
        """What this process could have: what it holds and what is free."""
        if not self._device:
            return None
        import torch

        free, _ = torch.cuda.mem_get_info(self._device)
        return int(free + torch.cuda.memory_reserved(self._device))
