"""Batches of similar length: nothing lost, nothing over the budget, little padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.embedding.length_buckets import plan_batches

LENGTHS = st.lists(st.integers(1, 600), max_size=200)


@given(lengths=LENGTHS, budget=st.integers(1, 3000))
def test_every_text_is_in_one_batch_within_the_budget_longest_first(
    lengths: list[int], budget: int
) -> None:
    batches = plan_batches(lengths, budget)

    rows = [int(row) for batch in batches for row in batch.rows]
    assert sorted(rows) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch.rows)
        assert batch.n_padded_tokens == longest * len(batch.rows)
        assert batch.n_padded_tokens <= budget or len(batch.rows) == 1
    in_order = [lengths[row] for row in rows]
    assert in_order == sorted(in_order, reverse=True)


@given(lengths=LENGTHS, budget=st.integers(1, 3000))
def test_a_plan_is_the_same_every_time(lengths: list[int], budget: int) -> None:
    first = plan_batches(lengths, budget)
    again = plan_batches(np.array(lengths, dtype=np.int64), budget)
    assert [batch.rows.tolist() for batch in first] == [batch.rows.tolist() for batch in again]


def test_texts_of_equal_length_keep_their_order() -> None:
    batches = plan_batches([5] * 40, 50)
    assert [row for batch in batches for row in batch.rows] == list(range(40))
    assert [len(batch.rows) for batch in batches] == [10] * 4


def test_real_lengths_waste_less_than_a_twentieth() -> None:
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(4.5, 0.6, 5_000), 3, 256).astype(np.int64)
    batches = plan_batches(lengths, 2048)
    computed = sum(batch.n_padded_tokens for batch in batches)
    assert 0 <= 1 - lengths.sum() / computed < 0.05
    unsorted = sum(8 * int(lengths[i : i + 8].max()) for i in range(0, 5_000, 8))
    assert computed < unsorted


def test_no_texts_make_no_batches() -> None:
    assert plan_batches([], 100) == []


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_without_room_for_a_token_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match=f"max_tokens_per_batch is {budget}, expected at least 1"):
        plan_batches([1, 2], budget)


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        plan_batches([3, 0], 8)
