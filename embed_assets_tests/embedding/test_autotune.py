"""Tuning on an imaginary device, whose clock and memory are arithmetic."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding import autotune
from embed_assets.embedding import encoder as encoders
from embed_assets.embedding.autotune import (
    MemoryModel,
    Trial,
    Tuning,
    fit_memory,
    pick,
    tune,
)
from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets_tests.modelless_encoder import ModellessEncoder, Vectors


@dataclass
class Imaginary(ModellessEncoder):
    """A batch costs `overhead` tokens' time, and beyond `cache` tokens each token costs double."""

    cache: int
    overhead: int = 200
    room: int = 1 << 40
    now: float = 0.0
    tried: set[int] = field(default_factory=set)

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        self.tried.add(max_tokens_per_batch)
        return super().plan(lengths, max_tokens_per_batch)

    def run(self, tokens: TokenRows, batch: Batch) -> Vectors:
        if batch.n_padded_tokens > self.room:
            raise DeviceOutOfMemory("no room", batch)
        slow = max(0, batch.n_padded_tokens - self.cache)
        self.now += (self.overhead + batch.n_padded_tokens + slow) / 100_000
        return np.ones((len(batch.rows), 2), dtype=np.float32)


def tuned(monkeypatch: pytest.MonkeyPatch, device: Imaginary, lengths: list[int]) -> Tuning:
    clock = SimpleNamespace(perf_counter=lambda: device.now)
    monkeypatch.setattr(autotune, "time", clock)
    monkeypatch.setattr(encoders, "time", clock)
    tokens = TokenRows(np.ones(sum(lengths), dtype=np.int32), np.cumsum([0, *lengths]))
    return tune(device, tokens, seconds=60)


LENGTHS = np.random.default_rng(0).integers(5, 256, size=300).tolist()


@pytest.mark.parametrize("cache", [1_000, 4_000])
def test_the_budget_that_fills_the_cache_wins(monkeypatch: pytest.MonkeyPatch, cache: int) -> None:
    tuning = tuned(monkeypatch, Imaginary(cache), LENGTHS)
    assert cache / 2 <= tuning.best.max_tokens_per_batch <= 2 * cache
    budgets = [trial.max_tokens_per_batch for trial in tuning.trials]
    assert budgets == sorted(set(budgets))
    # The curve shows both sides of the peak.
    assert budgets[0] < tuning.best.max_tokens_per_batch < budgets[-1]
    assert tuning.memory is None


def test_memory_that_ends_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Imaginary(cache=1 << 30, room=5_000)
    tuning = tuned(monkeypatch, device, LENGTHS)
    assert tuning.best.max_tokens_per_batch <= 5_000
    assert max(trial.max_tokens_per_batch for trial in tuning.trials) <= 5_800
    assert max(device.tried) <= 8_192


def test_texts_longer_than_the_least_budget_are_tuned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = tuned(monkeypatch, Imaginary(cache=4_000), [3_000] * 50)
    assert all(trial.max_tokens_per_batch >= 3_000 for trial in tuning.trials)


def test_it_takes_about_the_time_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Imaginary(cache=4_000)
    tuned(monkeypatch, device, LENGTHS)
    assert 10 < device.now < 120


def test_no_chunks_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="embed-assets run makes some first"):
        tuned(monkeypatch, Imaginary(cache=4_000), [])


def test_a_text_that_does_not_fit_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="lower max_tokens"):
        tuned(monkeypatch, Imaginary(cache=4_000, room=100), [200] * 5)


def trial(budget: int, speed: float, peak: int | None = None) -> Trial:
    return Trial(budget, speed, 0.0, peak)


def test_memory_is_a_line_over_the_budget() -> None:
    trials = tuple(trial(n, 1.0, 500 + 3 * n) for n in (100, 200, 400))
    model = fit_memory(trials, 3_500)
    assert model is not None
    assert model.out_of_memory_at == pytest.approx(1_000, abs=1)
    assert model.tokens_within(0.5) == pytest.approx(416, abs=1)


@pytest.mark.parametrize(
    ("trials", "capacity"),
    [
        ((trial(100, 1.0), trial(200, 1.0)), 1_000),
        ((trial(100, 1.0, 50),), 1_000),
        ((trial(100, 1.0, 50), trial(200, 1.0, 60)), None),
        # Memory that does not grow says nothing of where it ends.
        ((trial(100, 1.0, 60), trial(200, 1.0, 50)), 1_000),
    ],
)
def test_too_little_is_known_for_a_memory_model(
    trials: tuple[Trial, ...], capacity: int | None
) -> None:
    assert fit_memory(trials, capacity) is None


def test_the_smallest_of_the_best_that_is_safe_is_taken() -> None:
    trials = (trial(100, 50.0), trial(200, 99.0), trial(400, 100.0), trial(800, 120.0))
    assert pick(trials, None).max_tokens_per_batch == 800
    # 800 tokens need 87% of the memory.
    assert pick(trials, MemoryModel(100, 1, 1_030)).max_tokens_per_batch == 200
    assert pick(trials, MemoryModel(1_000, 1, 1_030)).max_tokens_per_batch == 100
