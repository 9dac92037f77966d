"""Pool the tokens of packed texts into one vector per text, in fp32, as sentence-transformers does.

Nothing here waits for the device or has a size that depends on the texts, so that it can stand in
a captured CUDA graph. No atomics either: the same batch gives the same bits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Pooling modes of sentence-transformers that `pool` knows.
MODES = ("cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean")


def pool(
    hidden: "Tensor",
    boundaries: "Tensor",
    positions: "Tensor",
    modes: Sequence[str],
    n_skipped: int = 0,
) -> "Tensor":
    """Vectors float32 (texts, modes x d) of hidden states (tokens, d), the modes side by side.

    `boundaries` (texts + 1,) are where each text begins and the last ends, `positions` (tokens,)
    count from 0 in each text. The first `n_skipped` tokens of each text, its prompt, stay out.
    Rows of texts that are not there mean nothing.
    """
    import torch

    pooled = [_POOLS[mode](hidden, boundaries, positions, n_skipped) for mode in modes]
    return torch.cat(pooled, dim=-1)


def _cls(hidden: "Tensor", boundaries: "Tensor", _: "Tensor", n_skipped: int) -> "Tensor":
    starts, ends = boundaries[:-1], boundaries[1:]
    first = starts + n_skipped * (ends - starts > n_skipped)
    return hidden[first.clamp(max=len(hidden) - 1)].float()


def _lasttoken(hidden: "Tensor", boundaries: "Tensor", _: "Tensor", __: int) -> "Tensor":
    return hidden[(boundaries[1:] - 1).clamp(min=0)].float()


def _max(hidden: "Tensor", boundaries: "Tensor", positions: "Tensor", n_skipped: int) -> "Tensor":
    values = hidden.float()
    if n_skipped:
        values = values.masked_fill((positions < n_skipped)[:, None], float("-inf"))
    return _segments(values, boundaries, "max")


def _mean(hidden: "Tensor", boundaries: "Tensor", positions: "Tensor", n_skipped: int) -> "Tensor":
    return _sum(hidden, boundaries, positions, n_skipped) / _counts(boundaries, n_skipped)


def _mean_sqrt_len(
    hidden: "Tensor", boundaries: "Tensor", positions: "Tensor", n_skipped: int
) -> "Tensor":
    return _sum(hidden, boundaries, positions, n_skipped) / _counts(boundaries, n_skipped).sqrt()


def _weightedmean(
    hidden: "Tensor", boundaries: "Tensor", positions: "Tensor", n_skipped: int
) -> "Tensor":
    weights = (positions + 1).float()
    if n_skipped:
        weights = weights * (positions >= n_skipped)
    total = _segments(hidden.float() * weights[:, None], boundaries, "sum")
    return total / _segments(weights[:, None], boundaries, "sum").clamp(min=1e-9)


def _sum(hidden: "Tensor", boundaries: "Tensor", positions: "Tensor", n_skipped: int) -> "Tensor":
    values = hidden.float()
    if n_skipped:
        values = values.masked_fill((positions < n_skipped)[:, None], 0.0)
    return _segments(values, boundaries, "sum")


def _counts(boundaries: "Tensor", n_skipped: int) -> "Tensor":
    return (boundaries.diff() - n_skipped).float().clamp(min=1e-9)[:, None]


def _segments(values: "Tensor", boundaries: "Tensor", reduce: str) -> "Tensor":
    import torch

    # The checks that `unsafe` leaves out would wait for the device.
    return torch.segment_reduce(values, reduce, offsets=boundaries.long(), axis=0, unsafe=True)


_POOLS: "Mapping[str, Callable[[Tensor, Tensor, Tensor, int], Tensor]]" = {
    "cls": _cls,
    "lasttoken": _lasttoken,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weightedmean,
}
