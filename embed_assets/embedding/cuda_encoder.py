"""The backend for GPUs: packed batches, captured graphs, and copies that overlap the computing.

What cannot run packed runs in length buckets by `TorchEncoder`, and a line in the log says why.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.captured_graphs import CapturedGraphs
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.device_memory import release_cached_memory
from embed_assets.embedding.encoder import DeviceOutOfMemory, Encoder, encode_all
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.model import Model
from embed_assets.embedding.packed_model import PackedModel, why_not_packed
from embed_assets.embedding.packing import PackedShape, pack, plan_packed, shape_of
from embed_assets.embedding.ring import Job, Ring
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_encoder import (
    TorchEncoder,
    load_transformer,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

log = logging.getLogger(__name__)

# Lowest cosine between a packed and a padded vector of one text. Both round, in other places; a
# wrong position or a token of another text costs far more, and fp32 tests hold every family.
_MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "bf16": 0.999}
_PROBE_LENGTHS = (3, 9, 17, 40, 100, 255, 512)


class PackedEncoder:
    """A sentence-transformers model that runs packed. Queries run as in `TorchEncoder`."""

    def __init__(
        self,
        padded: TorchEncoder,
        transformer: "SentenceTransformer",
        *,
        normalize: bool,
        compiled: bool = False,
    ) -> None:
        """`padded` holds the same `transformer`; `compiled` as in `new_cuda_encoder`."""
        self._padded = padded
        model: Callable[[Tensor, PackedShape], Tensor] = PackedModel.prepared(
            transformer, padded.dimension, normalize, padded.n_prompt_tokens_not_pooled
        )
        if compiled:
            import torch

            model = torch.compile(model, dynamic=False)
        self._graphs = CapturedGraphs(model)
        self._ring = Ring(transformer.device)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._padded.dimension

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self._padded.device

    @property
    def precision(self) -> str:
        """Number format of the weights and the forward pass."""
        return self._padded.precision

    @property
    def max_tokens_per_batch(self) -> int:
        """The settings' token budget, or this device's default."""
        return self._padded.max_tokens_per_batch

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        """Texts end to end, as many as the budget holds."""
        return plan_packed(lengths, max_tokens_per_batch)

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]], None, None]:
        """Each batch with its vectors (len(batch.rows), dimension), several under way at once."""
        lengths = tokens.lengths
        try:
            yield from self._ring.run(self._job(tokens, lengths, batch) for batch in batches)
        except DeviceOutOfMemory:
            self._release()
            raise

    def token_ids(self, text: str) -> list[int]:
        """What the model's own preprocessing makes of a document."""
        return self._padded.token_ids(text)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """The vector (dimension,) of a search query, with the query prompt in front."""
        return self._padded.encode_query(text)

    def _job(self, tokens: TokenRows, lengths: NDArray[np.int64], batch: Batch) -> Job:
        shape = shape_of(batch, lengths)
        return Job(
            batch=batch,
            n_inputs=shape.n_inputs,
            n_vectors=len(batch.rows),
            write=partial(pack, tokens, batch, shape),
            compute=partial(self._graphs, shape=shape),
        )

    def _release(self) -> None:
        """Make room: all graphs, buffers and cached blocks."""
        self._graphs.clear()
        self._ring.release()
        release_cached_memory()


def new_cuda_encoder(
    settings: EncoderSettings, precision: str, model: Model, *, compiled: bool = False
) -> Encoder:
    """A freshly loaded encoder, which nothing else holds: packed where the model allows it.

    `compiled` hands the packed model to torch.compile, which takes minutes and a C compiler.
    """
    transformer = load_transformer(model, resolve_device(settings.device), precision)
    padded = TorchEncoder(transformer, model, settings, precision)
    reason = why_not_packed(transformer)
    if reason is None and transformer.device.type == "cuda" and precision == "fp32":
        reason = "flash attention takes bf16 and fp16 only"
    if reason is None:
        packed = PackedEncoder(padded, transformer, normalize=settings.normalize, compiled=compiled)
        reason = _difference(padded, packed)
        if reason is None:
            return packed
        packed._release()
    log.warning("%s runs in padded batches, not packed: %s", model.folder.name, reason)
    return padded


def _difference(padded: TorchEncoder, packed: PackedEncoder) -> str | None:
    """What is wrong with packed vectors; None where they are those of padded batches."""
    rows = _probe_rows(padded)
    budget = int(rows.lengths.sum())
    expected, _ = encode_all(padded, rows, budget)
    try:
        vectors, _ = encode_all(packed, rows, budget)
    except Exception as error:  # Whatever a model's code raises: padded batches still run.
        return f"it failed on probe texts with {type(error).__name__}: {error}".partition("\n")[0]
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(vectors, axis=1)
    cosine = float((np.einsum("ij,ij->i", expected, vectors) / norms).min())
    # Written so that NaN fails, too.
    if not cosine >= _MIN_COSINE[packed.precision]:
        return f"vectors of probe texts differ from padded ones, cosine {cosine:.6f}"
    return None


def _probe_rows(encoder: TorchEncoder) -> TokenRows:
    """Beginnings of one long text, of many lengths, as far as the model's limit allows."""
    from pydoc_data.topics import topics

    ids = np.asarray(encoder.token_ids("\n".join(topics.values())[:20_000]), dtype=np.int32)
    # A text of nothing but its prompt has no direction to compare.
    lengths = [encoder.n_prompt_tokens_not_pooled + length for length in _PROBE_LENGTHS]
    rows = [ids[:length] for length in lengths if length < len(ids)] or [ids]
    return TokenRows(np.concatenate(rows), np.cumsum([0, *map(len, rows)], dtype=np.int64))
