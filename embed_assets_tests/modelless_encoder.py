"""An Encoder without a model, for tests of what stands around one."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.length_buckets import Batch, plan_batches
from embed_assets.embedding.token_rows import TokenRows

Vectors = NDArray[np.float32]


@dataclass(kw_only=True)
class ModellessEncoder:
    """Those that are derived from it say what a batch gives, takes or raises."""

    dimension: int = 2
    device: str = "cpu"
    precision: str = "fp32"
    max_tokens_per_batch: int = 1_024

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        return plan_batches(lengths, max_tokens_per_batch)

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, Vectors]]:
        for batch in batches:
            yield batch, self.run(tokens, batch)

    def run(self, tokens: TokenRows, batch: Batch) -> Vectors:
        """The vectors (len(batch.rows), dimension) of one batch."""
        raise NotImplementedError

    def token_ids(self, text: str) -> list[int]:
        raise NotImplementedError

    def encode_query(self, text: str) -> Vectors:
        raise NotImplementedError
