"""Which tokens go into one window: greedily, each cut at the best boundary near its end. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import HEADING, INSIDE, TOKEN
from embed_assets.chunking.document_tokens import DocumentTokens


def window_spans(
    tokens: DocumentTokens, room: int, overlap: int, slack: int
) -> Iterator[tuple[int, int]]:
    """Token ranges [first, stop) of the windows of a document, of at most `room` tokens.

    `overlap` tokens at most are in two windows; `slack` are left free where no cut is forced.
    """
    n, first, stop = len(tokens.ids), 0, 0
    if n == 0:
        yield 0, 0
    # Searching bytes takes a fraction of what numpy takes for so short a range.
    levels = tokens.levels.tobytes()
    cuts = (tokens.levels >= TOKEN).tobytes() if overlap else b""
    while stop < n:
        forced = _next(tokens.forced, first, n)
        limit = first + room
        stop = forced if forced <= limit else _best_cut(levels, stop, limit - slack)
        yield first, stop
        first = stop if stop == forced else _overlapped(cuts, first, stop, overlap)


def _next(forced: NDArray[np.int64], first: int, n: int) -> int:
    """The first forced cut after `first`, else the end."""
    i = int(np.searchsorted(forced, first, side="right")) if len(forced) else 0
    return int(forced[i]) if i < len(forced) else n


def _best_cut(levels: bytes, covered: int, limit: int) -> int:
    """The last best boundary in the second half of (covered, limit]; any word in the first half;
    else `limit`, inside a word. `covered` is where the window before stopped. The second half
    only, so that windows stay well filled, and never far behind the one before.
    """
    for low in (covered + (limit - covered + 1) // 2, covered + 1):
        for level in range(HEADING, INSIDE, -1):
            found = levels.rfind(level, low, limit + 1)
            if found >= 0:
                return found
    return limit


def _overlapped(cuts: bytes, first: int, stop: int, overlap: int) -> int:
    """Where the next window begins: up to `overlap` tokens before `stop`, at a word."""
    word = cuts.find(1, max(first + 1, stop - overlap), stop)
    return word if word >= 0 else stop
