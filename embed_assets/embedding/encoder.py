"""What turns token ids into vectors, and the loop that feeds it: out of memory halves the batch."""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError

log = logging.getLogger(__name__)


#: Gets the rows (n,) of a batch and their vectors (n, dimension), once they are computed.
OnBatch = Callable[[NDArray[np.int64], NDArray[np.float32]], None]


class DeviceOutOfMemory(Exception):
    """The device had no room for a batch; a smaller one may fit."""

    def __init__(self, reason: str, batch: Batch) -> None:
        super().__init__(reason)
        self.batch = batch


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
        """Number format of the forward pass: "fp32", "bf16", "fp16" or "int8"."""
        ...

    @property
    def max_tokens_per_batch(self) -> int:
        """The token budget this device likes best."""
        ...

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        """Batches covering texts of these lengths (n,) once, grouped as this backend likes them.

        The largest first: out of memory then shows in the first seconds, not after an hour.
        """
        ...

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]]]:
        """Each batch with its vectors (len(batch.rows), dimension), as they are done.

        Several may be in flight, so they may come in another order. The vectors are the caller's
        to keep. Closing it early waits for what is in flight. Raises DeviceOutOfMemory with the
        batch that did not fit; what has not come by then is to be asked for again.
        """
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
    n_halvings: int = 0
    seconds: float = 0.0
    max_tokens_per_batch: int = 0

    @property
    def padding_waste(self) -> float:
        """Share of the computed tokens that are padding; 0 where nothing was computed."""
        return 1 - self.n_tokens / self.n_padded_tokens if self.n_padded_tokens else 0.0


def encode_all(
    encoder: Encoder, tokens: TokenRows, max_tokens_per_batch: int
) -> tuple[NDArray[np.float32], EncodeStats]:
    """Vectors (n_rows, dimension) in row order, and what they cost; as `encode_batches`."""
    vectors = np.empty((len(tokens), encoder.dimension), dtype=np.float32)

    def keep(rows: NDArray[np.int64], encoded: NDArray[np.float32]) -> None:
        vectors[rows] = encoded

    return vectors, encode_batches(encoder, tokens, max_tokens_per_batch, keep)


def encode_batches(
    encoder: Encoder, tokens: TokenRows, max_tokens_per_batch: int, on_batch: OnBatch
) -> EncodeStats:
    """Hand every row's vector to `on_batch` once, and say what they cost.

    Out of memory halves the token budget for what is left. The budget that worked is in the
    stats, for the caller to start from next time. Raises InputError if a single text does not fit
    on the device.
    """
    stats = EncodeStats(max_tokens_per_batch=max_tokens_per_batch)
    lengths = tokens.lengths
    is_done = np.zeros(len(tokens), dtype=bool)
    started = time.perf_counter()
    while not is_done.all():
        waiting = np.flatnonzero(~is_done)
        batches = _planned(encoder, lengths, waiting, stats.max_tokens_per_batch)
        try:
            # Closed at once when the caller gives up: batches in flight use the device's buffers.
            with closing(encoder.encode(tokens, batches)) as finished:
                for batch, encoded in finished:
                    _refuse_wrong_shape(encoded, (len(batch.rows), encoder.dimension))
                    on_batch(batch.rows, encoded)
                    is_done[batch.rows] = True
                    stats.n_tokens += int(lengths[batch.rows].sum())
                    stats.n_padded_tokens += batch.n_padded_tokens
        except DeviceOutOfMemory as error:
            _halve_budget(stats, error, lengths, encoder)
    stats.seconds = time.perf_counter() - started
    return stats


def _planned(
    encoder: Encoder,
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
    max_tokens_per_batch: int,
) -> list[Batch]:
    """Batches of some of the rows."""
    batches = encoder.plan(lengths[rows], max_tokens_per_batch)
    return [Batch(rows[batch.rows], batch.n_padded_tokens) for batch in batches]


def _refuse_wrong_shape(encoded: NDArray[np.float32], expected: tuple[int, int]) -> None:
    # numpy would spread one row over all without a word.
    if encoded.shape != expected:
        raise ValueError(
            f"the encoder gave an array of shape {encoded.shape} for {expected[0]} texts, "
            f"expected {expected}"
        )


def _halve_budget(
    stats: EncodeStats, error: DeviceOutOfMemory, lengths: NDArray[np.int64], encoder: Encoder
) -> None:
    """Go on with half the tokens. InputError where a single text did not fit."""
    failed = error.batch
    longest = int(lengths[failed.rows].max())
    if len(failed.rows) == 1:
        raise InputError(
            f"a single text of {longest} tokens does not fit on {encoder.device} in "
            f"{encoder.precision}; lower max_tokens or choose a smaller precision"
        ) from error
    stats.max_tokens_per_batch = max(
        longest, min(stats.max_tokens_per_batch, failed.n_padded_tokens) // 2
    )
    stats.n_halvings += 1
    log.warning(
        "out of memory on %s with %d tokens in a batch; going on with %d",
        encoder.device,
        failed.n_padded_tokens,
        stats.max_tokens_per_batch,
    )
