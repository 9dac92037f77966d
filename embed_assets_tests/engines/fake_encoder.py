"""An encoder without a model, for worker processes: it does to a batch what its token ids say."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets_tests.modelless_encoder import ModellessEncoder, Vectors

#: Token ids with a meaning; any other is a text whose vector is its first id, four times.
DIE, RAISE, REFUSE, WAIT, FILL = 901, 902, 903, 904, 905


@dataclass
class FakeEncoder(ModellessEncoder):
    """`go` is a file that WAIT waits for."""

    go: Path = Path("/nonexistent")
    dimension: int = 4
    device: str = "cuda:0"
    precision: str = "bf16"
    max_tokens_per_batch: int = 8

    def run(self, tokens: TokenRows, batch: Batch) -> Vectors:
        ids = tokens.flat[tokens.offsets[batch.rows]]
        self._obey(set(ids.tolist()), batch)
        return np.repeat(ids.astype(np.float32)[:, None], self.dimension, axis=1)

    def token_ids(self, text: str) -> list[int]:
        if not text:
            raise InputError("the text is empty")
        return [len(text), os.getpid()]

    def encode_query(self, text: str) -> Vectors:
        return np.full(self.dimension, len(text), dtype=np.float32)

    def _obey(self, ids: set[int], batch: Batch) -> None:
        if DIE in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISE in ids:
            raise ValueError("a tensor has the wrong shape")
        if REFUSE in ids:
            raise InputError("the text cannot be embedded")
        if FILL in ids and len(batch.rows) > 1:
            raise DeviceOutOfMemory("out of memory", batch)
        while WAIT in ids and not self.go.exists():
            time.sleep(0.01)


def refused() -> FakeEncoder:
    """A factory whose model cannot be loaded."""
    raise InputError("the model has no weights")


def broken() -> FakeEncoder:
    """A factory that brings its process down."""
    os._exit(7)
