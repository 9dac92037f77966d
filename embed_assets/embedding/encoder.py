"""What turns token ids into vectors, and the loop that feeds it: out of memory halves the batch."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.length_buckets import Batch, plan_batches
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError

log = logging.getLogger(__name__)


#: Gets the rows (n,) of a batch and their vectors (n, dimension), once they are computed.
OnBatch = Callable[[NDArray[np.int64], NDArray[np.float32]], None]


class DeviceOutOfMemory(Exception):
    """The device had no room for a batch; a smaller one may fit."""


class Encoder(Protocol):
    """A loaded model on a device."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:0"."""
        ...

    @property
    def precision(self) -> str:
        """Number format of the forward pass: "fp32", "bf16" or "fp16"."""
        ...

    @property
    def max_tokens_per_batch(self) -> int:
        """The token budget this device likes best."""
        ...

    def encode(self, tokens: TokenRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors (len(rows), dimension) of some rows, as one batch. Raises DeviceOutOfMemory."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """What the model's own preprocessing makes of a document, prompt and special tokens in."""
        ...

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """The vector (dimension,) of a search query, with the query prompt in front."""
        ...


@dataclass
class EncodeStats:
    """What a run of the encoder cost. Seconds are wall time of the loop alone."""

    n_tokens: int = 0
    n_padded_tokens: int = 0
    n_batches: int = 0
    n_halvings: int = 0
    seconds: float = 0.0
    max_tokens_per_batch: int = field(default=0)


def encode_all(
    encoder: Encoder,
    tokens: TokenRows,
    max_tokens_per_batch: int,
    on_batch: OnBatch = lambda rows, vectors: None,
) -> tuple[NDArray[np.float32], EncodeStats]:
    """Vectors (n_rows, dimension) in row order, and what they cost.

    Out of memory halves the token budget for what is left. The budget that worked is in the
    stats, for the caller to start from next time. `on_batch` sees each batch as it is done.
    Raises InputError if a single text does not fit on the device.
    """
    stats = EncodeStats(max_tokens_per_batch=max_tokens_per_batch)
    lengths = tokens.lengths
    vectors = np.empty((len(tokens), encoder.dimension), dtype=np.float32)
    started = time.perf_counter()
    waiting = plan_batches(lengths, max_tokens_per_batch)[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            encoded = encoder.encode(tokens, batch.rows)
        except DeviceOutOfMemory as error:
            waiting = _halved(waiting, batch, lengths, stats, encoder, error)
            continue
        if encoded.shape != (len(batch.rows), encoder.dimension):
            # numpy would spread one row over all without a word.
            raise ValueError(
                f"the encoder gave an array of shape {encoded.shape} for {len(batch.rows)} texts, "
                f"expected {(len(batch.rows), encoder.dimension)}"
            )
        vectors[batch.rows] = encoded
        stats.n_tokens += int(lengths[batch.rows].sum())
        stats.n_padded_tokens += batch.n_padded_tokens
        stats.n_batches += 1
        on_batch(batch.rows, encoded)
    stats.seconds = time.perf_counter() - started
    return vectors, stats


def _halved(
    waiting: list[Batch],
    failed: Batch,
    lengths: NDArray[np.int64],
    stats: EncodeStats,
    encoder: Encoder,
    error: DeviceOutOfMemory,
) -> list[Batch]:
    """The remaining work planned again with half the budget, last batch first."""
    if len(failed.rows) == 1:
        raise InputError(
            f"a single text of {failed.width} tokens does not fit on {encoder.device} in "
            f"{encoder.precision}; lower max_tokens or choose a smaller precision"
        ) from error
    budget = max(failed.width, min(stats.max_tokens_per_batch, failed.n_padded_tokens) // 2)
    log.warning(
        "out of memory on %s with %d tokens in a batch; going on with %d",
        encoder.device,
        failed.n_padded_tokens,
        budget,
    )
    stats.max_tokens_per_batch = budget
    stats.n_halvings += 1
    rows = np.concatenate([failed.rows, *(batch.rows for batch in reversed(waiting))])
    return [Batch(rows[batch.rows], batch.width) for batch in plan_batches(lengths[rows], budget)][
        ::-1
    ]
