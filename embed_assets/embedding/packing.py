"""Lay texts end to end in one flat sequence of a few fixed sizes, with no padding between them.

Pure; no torch. A batch's shape takes one of few values, because each shape costs the device one
captured graph.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows

# A batch that does not fill the budget takes the budget halved up to this often.
_MAX_HALVINGS = 4
_MIN_LENGTH = 16
# Tensor cores want sizes that this divides; for a text longer than the budget.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class PackedShape:
    """Sizes of a packed batch: tokens and texts it has room for, and the longest text allowed."""

    n_tokens: int
    n_texts: int
    max_length: int

    @classmethod
    def fitting(cls, n_tokens: int, longest: int) -> Self:
        """The shape of a batch of `n_tokens`, fill included, whose longest text has `longest`.

        Lengths go by powers of two: attention launches blocks for `n_texts` of `max_length`, and
        those without work are not free. In sorted order the texts of a batch have more than half
        the length, nearly always, so that twice the tokens over the length is room for all.
        """
        max_length = max(_MIN_LENGTH, 1 << (longest - 1).bit_length())
        return cls(n_tokens, max(1, 2 * n_tokens // max_length), max_length)

    @property
    def n_inputs(self) -> int:
        """Integers that the device gets: where each text begins and the last ends, then the ids."""
        return self.n_texts + 1 + self.n_tokens


def plan_packed(lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
    """Batches covering texts of these lengths (n,) once, longest first, each nearly full.

    `n_padded_tokens` is what the device computes: the budget, or for the last batches the budget
    halved a few times. A text longer than the budget gets a batch of its own.
    """
    if max_tokens_per_batch < 1:
        raise ValueError(f"max_tokens_per_batch is {max_tokens_per_batch}, expected at least 1")
    if len(lengths) and lengths.min() < 1:
        raise ValueError(f"text {int(lengths.argmin())} has no tokens, expected at least 1")
    # A stable sort keeps texts of equal length in their order, so a plan never depends on numpy.
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = lengths[order]
    ends = np.concatenate(([0], np.cumsum(sorted_lengths)))
    batches = []
    first = 0
    while first < len(order):
        longest = int(sorted_lengths[first])
        room = PackedShape.fitting(max_tokens_per_batch, longest).n_texts
        full = int(np.searchsorted(ends, ends[first] + max_tokens_per_batch, side="right")) - 1
        last = max(first + 1, min(full, first + room))
        n_tokens = int(ends[last] - ends[first])
        size = _batch_tokens(n_tokens, last - first, longest, max_tokens_per_batch)
        batches.append(Batch(order[first:last], size))
        first = last
    return batches


def _batch_tokens(n_tokens: int, n_texts: int, longest: int, budget: int) -> int:
    """The smallest of the fixed sizes that has room."""
    if n_tokens > budget:
        return -(-n_tokens // _ALIGNMENT) * _ALIGNMENT
    for halvings in range(_MAX_HALVINGS, 0, -1):
        size = -(-budget >> halvings)
        if size >= n_tokens and PackedShape.fitting(size, longest).n_texts >= n_texts:
            return size
    return budget


def shape_of(batch: Batch, lengths: NDArray[np.int64]) -> PackedShape:
    """The shape of a batch of `plan_packed` over texts of these lengths (n,)."""
    shape = PackedShape.fitting(batch.n_padded_tokens, int(lengths[batch.rows].max()))
    if len(batch.rows) > shape.n_texts:
        raise ValueError(
            f"{len(batch.rows)} texts do not fit a packed batch for {shape.n_texts}; batches must "
            "come from plan_packed"
        )
    return shape


def pack(tokens: TokenRows, batch: Batch, shape: PackedShape, out: NDArray[np.int32]) -> None:
    """Write a batch to `out` (shape.n_inputs,): its boundaries (n_texts + 1,), then its ids.

    Text i is the ids from boundary i to boundary i + 1; texts that are not there are empty. Ids
    after the last boundary are 0, and belong to no text.
    """
    boundaries, ids = out[: shape.n_texts + 1], out[shape.n_texts + 1 :]
    starts = tokens.offsets[batch.rows]
    lengths = tokens.offsets[batch.rows + 1] - starts
    ends = np.cumsum(lengths)
    n_tokens = int(ends[-1])
    boundaries[0] = 0
    boundaries[1 : len(ends) + 1] = ends
    boundaries[len(ends) + 1 :] = n_tokens
    source = np.arange(n_tokens)
    source += np.repeat(starts - (ends - lengths), lengths)
    # mode="clip" writes straight to `out`; the default copies first.
    np.take(tokens.flat, source, out=ids[:n_tokens], mode="clip")
    ids[n_tokens:] = 0
