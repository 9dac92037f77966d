"""The loop around an encoder: row order, out of memory, and what a run cost."""

import logging
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding.encoder import DeviceOutOfMemory, encode_all, encode_batches
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets_tests.modelless_encoder import ModellessEncoder


@dataclass
class SmallDevice(ModellessEncoder):
    """An encoder whose device holds `room` padded tokens; a vector is (first id, n tokens)."""

    room: int
    tried: list[int] = field(default_factory=list)

    def run(self, tokens: TokenRows, batch: Batch) -> NDArray[np.float32]:
        lengths = tokens.lengths[batch.rows]
        self.tried.append(len(batch.rows) * int(lengths.max()))
        if self.tried[-1] > self.room:
            raise DeviceOutOfMemory("no room", batch)
        first = tokens.flat[tokens.offsets[batch.rows]]
        return np.stack([first, lengths], axis=1).astype(np.float32)


def rows_of(lengths: list[int]) -> TokenRows:
    """Row i holds its own number, `lengths[i]` times."""
    flat = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return TokenRows(flat, np.cumsum([0, *lengths], dtype=np.int64))


LENGTHS = [3, 10, 1, 7, 7, 2, 10, 5, 1, 4, 9, 6] * 3
IN_ORDER = np.array([[i, n] for i, n in enumerate(LENGTHS)], dtype=np.float32)


@pytest.mark.parametrize("budget", [1, 10, 64, 10_000])
def test_vectors_come_in_row_order(budget: int) -> None:
    vectors, stats = encode_all(SmallDevice(room=10_000), rows_of(LENGTHS), budget)
    np.testing.assert_array_equal(vectors, IN_ORDER)
    assert stats.n_tokens == sum(LENGTHS) <= stats.n_padded_tokens
    assert (stats.n_halvings, stats.max_tokens_per_batch) == (0, budget)


@pytest.mark.parametrize("room", [10, 11, 15, 40])
def test_out_of_memory_halves_the_budget_until_it_fits(
    room: int, caplog: pytest.LogCaptureFixture
) -> None:
    device = SmallDevice(room)
    with caplog.at_level(logging.WARNING):
        vectors, stats = encode_all(device, rows_of(LENGTHS), 160)

    np.testing.assert_array_equal(vectors, IN_ORDER)
    failures = [n_tokens for n_tokens in device.tried if n_tokens > room]
    assert stats.n_halvings == len(failures) == len(caplog.records) > 0
    assert stats.n_padded_tokens == sum(n for n in device.tried if n <= room)
    # The next run starts from a budget that worked.
    assert stats.max_tokens_per_batch <= max(room, 160 // 2**stats.n_halvings)
    again = SmallDevice(room)
    assert encode_all(again, rows_of(LENGTHS), stats.max_tokens_per_batch)[1].n_halvings == 0


def test_memory_that_runs_out_later_costs_no_finished_work() -> None:
    class Shrinking(SmallDevice):
        def run(self, tokens: TokenRows, batch: Batch) -> NDArray[np.float32]:
            self.room = 60 if len(self.tried) < 2 else 20
            return super().run(tokens, batch)

    done: list[int] = []
    vectors = np.empty_like(IN_ORDER)

    def keep(rows: NDArray[np.int64], encoded: NDArray[np.float32]) -> None:
        done.extend(rows)
        vectors[rows] = encoded

    stats = encode_batches(Shrinking(60), rows_of(LENGTHS), 60, keep)
    np.testing.assert_array_equal(vectors, IN_ORDER)
    assert stats.n_halvings >= 1
    assert sorted(done) == list(range(len(LENGTHS)))


def test_a_text_that_fits_nowhere_says_how_long_it_is_and_what_to_do() -> None:
    with pytest.raises(InputError) as refusal:
        encode_all(SmallDevice(9, device="cuda:0", precision="bf16"), rows_of(LENGTHS), 64)
    message = str(refusal.value)
    for part in ("10 tokens", "cuda:0", "bf16", "lower max_tokens"):
        assert part in message
    assert "\n" not in message


def test_each_batch_is_seen_once_with_its_vectors() -> None:
    seen = np.full((len(LENGTHS), 2), np.nan, dtype=np.float32)

    def on_batch(rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        assert np.isnan(seen[rows]).all()
        seen[rows] = vectors

    stats = encode_batches(SmallDevice(room=20), rows_of(LENGTHS), 64, on_batch)
    np.testing.assert_array_equal(seen, IN_ORDER)
    assert stats.n_tokens == sum(LENGTHS)


def test_no_rows_cost_nothing() -> None:
    vectors, stats = encode_all(SmallDevice(room=20), rows_of([]), 64)
    assert vectors.shape == (0, 2)
    assert (stats.n_tokens, stats.n_halvings, stats.padding_waste) == (0, 0, 0.0)


@pytest.mark.parametrize("shape", [(1, 2), (2, 3)])
def test_an_encoder_that_gives_a_wrong_shape_is_found_out(shape: tuple[int, int]) -> None:
    class Sloppy(SmallDevice):
        def run(self, tokens: TokenRows, batch: Batch) -> NDArray[np.float32]:
            return np.ones(shape, dtype=np.float32)

    with pytest.raises(ValueError, match=rf"shape \({shape[0]}, {shape[1]}\) for 2 texts"):
        encode_all(Sloppy(room=100), rows_of([3, 3]), 64)
