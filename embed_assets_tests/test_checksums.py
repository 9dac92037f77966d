"""Row checksums: the same anywhere and for ever, and different wherever a value is."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from embed_assets.checksums import (
    is_sound,
    row_checksums,
    rows_digest,
    sound_or_refused,
    with_checksums,
)
from embed_assets.errors import InputError

ROW = {
    "id": ["a"],
    "n": [3],
    "value": [0.5],
    "at": [datetime(2026, 1, 2, tzinfo=UTC)],
    "ids": [[1, -2]],
    "vector": [[1.0, -2.5]],
}
SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "n": pl.Int64(),
        "value": pl.Float64(),
        "at": pl.Datetime("us", "UTC"),
        "ids": pl.List(pl.Int32()),
        "vector": pl.List(pl.Float32()),
    }
)


def frame(**values: object) -> pl.DataFrame:
    return pl.DataFrame(ROW | {name: [value] for name, value in values.items()}, schema=SCHEMA)


def test_checksums_do_not_change_between_releases() -> None:
    """A change here makes every row of every user look damaged."""
    assert row_checksums(frame()).tolist() == [1704578311455574751]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "b"),
        ("id", ""),
        ("id", None),
        ("n", 4),
        ("n", None),
        ("value", np.nextafter(0.5, 1)),
        ("at", datetime(2026, 1, 3, tzinfo=UTC)),
        ("ids", [1, -3]),
        ("ids", [1]),
        ("ids", []),
        ("ids", None),
        ("vector", [1.0, np.nextafter(np.float32(-2.5), np.float32(0))]),
        ("vector", [-2.5, 1.0]),
    ],
)
def test_every_change_of_a_value_shows(column: str, value: object) -> None:
    assert row_checksums(frame(**{column: value})) != row_checksums(frame())


def test_what_belongs_to_one_column_never_passes_for_another() -> None:
    one = pl.DataFrame({"a": ["x\nb=1:y"], "b": [None]}, schema_overrides={"b": pl.String})
    two = pl.DataFrame({"a": ["x"], "b": ["y"]})
    assert row_checksums(one) != row_checksums(two)
    three = pl.DataFrame({"a": [[1]], "b": [[2, 3]]})
    four = pl.DataFrame({"a": [[1, 2]], "b": [[3]]})
    assert row_checksums(three) != row_checksums(four)


def test_order_of_rows_and_columns_and_new_empty_columns_change_nothing() -> None:
    rows = pl.concat([frame(), frame(id="b"), frame(ids=None), frame(vector=[])])
    expected = row_checksums(rows)
    assert len(set(expected.tolist())) == 4
    assert (row_checksums(rows.reverse())[::-1] == expected).all()
    assert (row_checksums(rows.select(rows.columns[::-1])) == expected).all()
    assert (row_checksums(rows.with_columns(new=pl.lit(None, pl.String))) == expected).all()
    assert rows_digest(expected) == rows_digest(expected[::-1])
    assert rows_digest(expected) != rows_digest(expected[1:])
    assert row_checksums(rows.clear()).shape == (0,)


def test_a_damaged_row_is_told_from_sound_ones() -> None:
    schema = pl.Schema({**SCHEMA, "checksum": pl.Int64()})
    rows = with_checksums(pl.concat([frame(), frame(id="b")]), schema)
    assert rows.schema == schema
    assert sound_or_refused(rows, "t", "r").equals(rows)
    damaged = rows.with_columns(id=pl.Series(["a", "c"]))
    assert is_sound(damaged).to_list() == [True, False]
    with pytest.raises(InputError, match=r"1 of 2 rows of t .* doctor --tables r"):
        sound_or_refused(damaged, "t", "r")
