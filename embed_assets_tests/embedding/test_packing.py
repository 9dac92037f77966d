"""Packed batches: every text once, nearly no fill, few shapes, and the ids where they belong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embed_assets.embedding.packing import PackedShape, pack, plan_packed, shape_of
from embed_assets.embedding.token_rows import TokenRows

Lengths = NDArray[np.int64]


def as_lengths(values: list[int]) -> Lengths:
    return np.array(values, dtype=np.int64)


def real_mix(n: int = 20_000) -> Lengths:
    """Chunks of a text corpus: many cut at the limit, the rest of all lengths."""
    random = np.random.default_rng(0)
    return np.clip(random.lognormal(5, 0.8, n), 3, 512).astype(np.int64)


def random_rows(lengths: Lengths) -> TokenRows:
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    flat = np.random.default_rng(1).integers(1, 30_000, offsets[-1], dtype=np.int32)
    return TokenRows(flat, offsets)


@given(
    st.lists(st.integers(min_value=1, max_value=700), max_size=200),
    st.integers(min_value=1, max_value=4_096),
)
def test_every_text_is_planned_once_within_the_budget(values: list[int], budget: int) -> None:
    lengths = as_lengths(values)
    batches = plan_packed(lengths, budget)
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == [*range(len(values))]
    longest = [int(lengths[batch.rows].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch in batches:
        n_tokens = int(lengths[batch.rows].sum())
        shape = shape_of(batch, lengths)
        assert n_tokens <= batch.n_padded_tokens
        assert batch.n_padded_tokens <= budget or len(batch.rows) == 1
        assert len(batch.rows) <= shape.n_texts
        assert lengths[batch.rows].max() <= shape.max_length


@pytest.mark.parametrize(
    "lengths", [real_mix(), np.full(20_000, 50), np.full(9_000, 512), np.full(40_000, 9)]
)
@pytest.mark.parametrize("budget", [16_384, 65_536])
def test_little_is_computed_for_nothing(lengths: Lengths, budget: int) -> None:
    batches = plan_packed(lengths.astype(np.int64), budget)
    computed = sum(batch.n_padded_tokens for batch in batches)
    assert 1 - lengths.sum() / computed < 0.02


def test_a_corpus_needs_few_shapes() -> None:
    lengths = real_mix()
    batches = plan_packed(lengths, 65_536)
    # One graph is captured for each. Nearly all batches are full; the last may be smaller.
    shapes = {shape_of(batch, lengths) for batch in batches}
    assert len(shapes) <= 7
    assert {shape.n_tokens for shape in shapes if shape.max_length > 64} == {65_536}


def test_a_small_shard_does_not_pay_for_a_whole_budget() -> None:
    batches = plan_packed(as_lengths([30] * 40), 65_536)
    assert [batch.n_padded_tokens for batch in batches] == [4_096]


def test_the_plan_is_the_same_every_time() -> None:
    lengths = real_mix(3_000)
    first, second = plan_packed(lengths, 8_192), plan_packed(lengths.copy(), 8_192)
    for a, b in zip(first, second, strict=True):
        assert a.rows.tolist() == b.rows.tolist()


def test_ids_and_boundaries_are_where_the_device_looks_for_them() -> None:
    lengths = as_lengths([3, 5, 1, 5])
    tokens = random_rows(lengths)
    [batch] = plan_packed(lengths, 64)
    shape = shape_of(batch, lengths)
    out = np.full(shape.n_inputs, -1, dtype=np.int32)
    pack(tokens, batch, shape, out)

    boundaries, ids = out[: shape.n_texts + 1], out[shape.n_texts + 1 :]
    assert batch.rows.tolist() == [1, 3, 0, 2]
    assert boundaries[:5].tolist() == [0, 5, 10, 13, 14]
    assert set(boundaries[5:].tolist()) <= {14}
    for i, row in enumerate(batch.rows):
        expected = tokens.flat[tokens.offsets[row] : tokens.offsets[row + 1]]
        assert ids[boundaries[i] : boundaries[i + 1]].tolist() == expected.tolist()
    assert not ids[14:].any()
    assert len(ids) == batch.n_padded_tokens


def test_batches_of_another_plan_are_refused() -> None:
    lengths = as_lengths([512] + [1] * 100)
    [batch] = plan_packed(as_lengths([1] * 101), 1_024)
    with pytest.raises(ValueError, match="must come from plan_packed"):
        shape_of(batch, lengths)


@pytest.mark.parametrize(("lengths", "budget"), [([4], 0), ([4, 0], 8)])
def test_nonsense_is_refused(lengths: list[int], budget: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        plan_packed(as_lengths(lengths), budget)


def test_shapes_have_room_for_a_longest_text() -> None:
    for longest in (1, 16, 17, 511, 512, 513):
        shape = PackedShape.fitting(65_536, longest)
        assert longest <= shape.max_length < 2 * max(longest, 16)
