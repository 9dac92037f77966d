"""Token ids from a table's column to padded batches."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.embedding.token_rows import TokenRows

IDS = [[101, 7, 102], [5], [101, 8, 9, 10, 102], [1, 2], [2**31 - 1]]


def column(ids: list[list[int]]) -> pl.Series:
    return pl.Series("token_ids", ids, dtype=pl.List(pl.Int32))


def listed(tokens: TokenRows) -> list[list[int]]:
    pairs = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return [tokens.flat[start:end].tolist() for start, end in pairs]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (column(IDS), IDS),
        (column([]), []),
        # A slice of a larger column keeps its buffers and begins at an offset.
        (column(IDS).slice(1, 3), IDS[1:4]),
        (column(IDS)[2:], IDS[2:]),
        (pl.concat([column(IDS[:2]), column(IDS[2:])], rechunk=False), IDS),
        (pl.concat([column(IDS), column(IDS)], rechunk=False).slice(3, 4), (IDS + IDS)[3:7]),
        (column(IDS).gather([4, 0]), [IDS[4], IDS[0]]),
        (column(IDS).cast(pl.List(pl.Int64)), IDS),
    ],
)
def test_a_column_becomes_rows_and_back(series: pl.Series, expected: list[list[int]]) -> None:
    tokens = TokenRows.from_series(series)
    assert listed(tokens) == expected
    assert len(tokens) == len(expected)
    assert tokens.lengths.tolist() == [len(ids) for ids in expected]
    assert tokens.flat.dtype == np.int32
    assert tokens.offsets.dtype == np.int64


def test_rows_are_gathered_in_any_order_and_as_often_as_asked() -> None:
    tokens = TokenRows.from_series(column(IDS))
    rows = [2, 0, 2, 4]
    assert listed(tokens.gather(np.array(rows))) == [IDS[row] for row in rows]
    assert listed(tokens.gather(np.array([], dtype=np.int64))) == []


@given(
    ids=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    left=st.booleans(),
    data=st.data(),
)
def test_padding_puts_every_token_in_its_place(
    ids: list[list[int]], left: bool, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=8))
    padded, mask = TokenRows.from_series(column(ids)).padded(np.array(rows), 0, left=left)

    width = max(len(ids[row]) for row in rows)
    for i, row in enumerate(rows):
        blank = [0] * (width - len(ids[row]))
        ones = [1] * len(ids[row])
        assert padded[i].tolist() == (blank + ids[row] if left else ids[row] + blank)
        assert mask[i].tolist() == (blank + ones if left else ones + blank)
    assert padded.dtype == mask.dtype == np.int64
