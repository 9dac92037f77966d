"""UTF-8 text cut into strings, of which each distinct one is tokenized once.

Natural text repeats itself. Arrow and numpy all the way: no Python object per string or per token.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.chunking.document_tokens import TokenPass
from embed_assets.flat_lists import list_series


def is_blank(characters: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Which bytes or characters are blank to every BERT; all others stay within words."""
    blank: NDArray[np.bool_] = characters == 0x20
    for other in (0x0A, 0x0D, 0x09):
        blank |= characters == other
    return blank


def begins_word(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes stand behind a blank or at the front; and the end, (n + 1,)."""
    blank = is_blank(data)
    begins = np.zeros(len(data) + 1, dtype=bool)
    begins[1:-1] = blank[:-1] & ~blank[1:]
    begins[[0, -1]] = True
    return begins


def pass_by_distinct(
    tokenize: Callable[[str], TokenPass], data: NDArray[np.uint8], begins: NDArray[np.bool_]
) -> TokenPass:
    """The bare tokens of a text, as UTF-8 bytes (n,), gathered from those of its distinct strings.

    `begins` (n + 1,) says where a string begins, and the end. No token may depend on what stands
    beyond the string that it is in.
    """
    starts = np.flatnonzero(begins)
    distinct, which = _distinct(data, starts)
    # A blank between each two.
    lengths = distinct.str.len_chars().to_numpy().astype(np.int64) + 1
    origins = np.cumsum(lengths) - lengths
    tokens = tokenize(" ".join(distinct.to_list()))
    first = np.searchsorted(np.maximum.accumulate(tokens.starts), np.append(origins, lengths.sum()))
    taken, n_tokens = _ranges(first, which)
    shift = _character_offsets(data, starts[:-1]) - origins[which]
    return TokenPass(
        tokens.ids[taken], tokens.starts[taken] + np.repeat(shift, n_tokens), tokens.words[taken]
    )


def _distinct(
    data: NDArray[np.uint8], starts: NDArray[np.int64]
) -> tuple[pl.Series, NDArray[np.int64]]:
    """The distinct ones of the strings data[starts[i]:starts[i + 1]], and which of them each is."""
    if len(starts) < 2:
        return pl.Series("word", [], dtype=pl.String), np.empty(0, dtype=np.int64)
    words = list_series(data, starts).cast(pl.Binary).to_frame("word").with_row_index("row")
    grouped = words.group_by("word").agg("row")
    rows = grouped["row"].explode().to_numpy()
    which = np.empty(len(rows), dtype=np.int64)
    which[rows] = np.repeat(np.arange(grouped.height), grouped["row"].list.len().to_numpy())
    return grouped["word"].cast(pl.String), which


def _character_offsets(data: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """The characters before some bytes of UTF-8 text, each the first of its character."""
    continued = (data & 0xC0) == 0x80
    if not continued.any():
        return at
    return at - np.cumsum(continued, dtype=np.int32)[at]


def _ranges(
    first: NDArray[np.int64], which: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows first[i]:first[i + 1] of each i in `which`, one after the other, and how many each."""
    counts = np.diff(first)[which]
    ends = np.cumsum(counts)
    shift = first[which] - (ends - counts)
    return np.repeat(shift, counts) + np.arange(counts.sum()), counts
