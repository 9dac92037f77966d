"""Group texts of similar length so that a batch wastes little padding. Pure; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to run together: their row numbers (n,), and the tokens that the device computes for
    them, padding included.
    """

    rows: NDArray[np.int64]
    n_padded_tokens: int


def plan_batches(
    lengths: NDArray[np.int64] | Sequence[int], max_tokens_per_batch: int
) -> list[Batch]:
    """Batches covering every text once, each at most `max_tokens_per_batch` padded tokens.

    Longest first: out-of-memory then shows in the first seconds, not after an hour. A text longer
    than the budget gets a batch of its own. `lengths` are tokens per text, at least 1.
    """
    if max_tokens_per_batch < 1:
        raise ValueError(f"max_tokens_per_batch is {max_tokens_per_batch}, expected at least 1")
    counts = np.asarray(lengths, dtype=np.int64)
    if len(counts) and counts.min() < 1:
        raise ValueError(f"text {int(counts.argmin())} has no tokens, expected at least 1")
    # A stable sort keeps texts of equal length in their order, so a plan never depends on numpy.
    order = np.argsort(-counts, kind="stable")
    batches = []
    position = 0
    while position < len(order):
        width = int(counts[order[position]])
        rows = order[position : position + max(1, max_tokens_per_batch // width)]
        batches.append(Batch(rows, len(rows) * width))
        position += len(rows)
    return batches
