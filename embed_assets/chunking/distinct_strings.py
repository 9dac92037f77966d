"""UTF-8 text cut into strings, the distinct ones among them, and what is gathered from these.

Arrow and numpy all the way: no Python object per string.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def begins_word(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes stand behind a blank or at the front; and the end, (n + 1,)."""
    # Only these four are blank to every BERT; the others stay within words.
    blank = (data == 0x20) | (data == 0x0A) | (data == 0x0D) | (data == 0x09)
    begins = np.zeros(len(data) + 1, dtype=bool)
    begins[1:-1] = blank[:-1] & ~blank[1:]
    begins[[0, -1]] = True
    return begins


def distinct_strings(
    data: NDArray[np.uint8], starts: NDArray[np.int64]
) -> tuple[pl.Series, NDArray[np.int64]]:
    """The distinct ones of the strings data[starts[i]:starts[i + 1]], and which of them each is."""
    from arro3.core import Array, list_array

    if len(starts) < 2:
        return pl.Series("word", [], dtype=pl.String), np.empty(0, dtype=np.int64)
    lists = list_array(Array.from_numpy(starts.astype(np.int32)), Array.from_numpy(data))
    words = pl.DataFrame({"word": pl.Series(lists).cast(pl.Binary)}).with_row_index("row")
    grouped = words.group_by("word").agg("row")
    rows = grouped["row"].explode().to_numpy()
    which = np.empty(len(rows), dtype=np.int64)
    which[rows] = np.repeat(np.arange(grouped.height), grouped["row"].list.len().to_numpy())
    return grouped["word"].cast(pl.String), which


def character_offsets(data: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """The characters before some bytes of UTF-8 text, each the first of its character."""
    continued = (data & 0xC0) == 0x80
    if not continued.any():
        return at
    return at - np.cumsum(continued, dtype=np.int32)[at]


def taken_ranges(
    first: NDArray[np.int64], which: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows first[i]:first[i + 1] of each i in `which`, one after the other, and how many each."""
    counts = np.diff(first)[which]
    ends = np.cumsum(counts)
    shift = first[which] - (ends - counts)
    return np.repeat(shift, counts) + np.arange(counts.sum()), counts
