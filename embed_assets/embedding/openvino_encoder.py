"""The CPU backend: the model as OpenVINO runs it, with several batches in flight."""

import logging
from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.device_memory import out_of_memory_reason
from embed_assets.embedding.encoder import DeviceOutOfMemory, encode_all
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.length_buckets import Batch, plan_batches
from embed_assets.embedding.model import cut_dimension
from embed_assets.embedding.model_folder import leaves_prompt_out
from embed_assets.embedding.openvino_model import pad_id
from embed_assets.embedding.openvino_runtime import compiled
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_reference import TorchReference

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

_TOKENS_PER_BATCH = 1_024
# Requests for each stream: the next one waits while the consumer is at the one before.
_REQUESTS_PER_STREAM = 2


class OpenVinoEncoder:
    """A converted sentence-transformers model. torch is loaded only where it was never converted,
    and for the queries of models that leave the prompt out of the mean.
    """

    def __init__(
        self,
        model: "openvino.Model",
        reference: TorchReference,
        settings: EncoderSettings,
        precision: str,
    ) -> None:
        """`reference` is the same model in torch, from which `model` was converted.

        Raises SettingsError where truncate_dim is more than the model has.
        """
        self._dimension = cut_dimension(settings, model.output(0).partial_shape[1].get_length())
        self._pad_id = pad_id(model)
        self._reference = reference
        self._precision = precision
        self._normalize = settings.normalize
        self._max_tokens_per_batch = settings.max_tokens_per_batch or _TOKENS_PER_BATCH
        self._compiled = compiled(model, precision)
        self._n_requests = _REQUESTS_PER_STREAM * int(self._compiled.get_property("NUM_STREAMS"))

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"

    @property
    def precision(self) -> str:
        """Number format of the forward pass: "fp32", "bf16" or "int8"."""
        return self._precision

    @property
    def max_tokens_per_batch(self) -> int:
        """The settings' token budget, or what fits the caches of a core."""
        return self._max_tokens_per_batch

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        """Texts of similar length together."""
        return plan_batches(lengths, max_tokens_per_batch)

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]]]:
        """Each batch with its vectors (len(batch.rows), dimension), in their order."""
        # Oldest first. The arrays stand beside their request, which reads them where they are.
        under_way: deque[tuple[Batch, Any, tuple[NDArray[np.int64], ...]]] = deque()
        n_requests = min(self._n_requests, len(batches))
        free = [self._compiled.create_infer_request() for _ in range(n_requests)]
        try:
            for batch in batches:
                arrays = tokens.padded(batch.rows, self._pad_id)
                if not free:
                    done, request, _ = under_way.popleft()
                    free.append(request)
                    yield done, self._result(done, request)
                request = free.pop()
                request.start_async(arrays, share_inputs=True)
                under_way.append((batch, request, arrays))
            while under_way:
                done, request, _ = under_way.popleft()
                yield done, self._result(done, request)
        finally:
            # A consumer that stops early, or one batch that failed, leaves others running.
            for _, request, _ in under_way:
                _wait_out(request)

    def token_ids(self, text: str) -> list[int]:
        """What the model's tokenizer makes of a document: proved at the conversion to be what its
        own preprocessing makes.
        """
        return self._reference.texts.document(text)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """The vector (dimension,) of a search query, with the query prompt in front."""
        ids = np.array(self._reference.texts.query(text), dtype=np.int32)
        # Another prompt's length was traced than that of queries; no tokens, nothing to run.
        if leaves_prompt_out(self._reference.model.folder) or not len(ids):
            return self._reference.loaded.encode_query(text)
        tokens = TokenRows(ids, np.array([0, len(ids)]))
        vectors, _ = encode_all(self, tokens, len(ids))
        query: NDArray[np.float32] = vectors[0]
        return query

    def _result(self, batch: Batch, request: Any) -> NDArray[np.float32]:  # noqa: ANN401
        try:
            request.wait()
        except RuntimeError as error:
            reason = out_of_memory_reason(error)
            if reason is None:
                raise
            raise DeviceOutOfMemory(reason, batch) from None
        # A copy: the request's next batch is written over it.
        vectors = request.get_output_tensor(0).data[:, : self.dimension].astype(np.float32)
        return _normalized(vectors) if self._normalize else vectors


def _wait_out(request: Any) -> None:  # noqa: ANN401  openvino.InferRequest
    try:
        request.wait()
    except RuntimeError as error:
        # Nobody asked for its vectors any more, and another error may be on its way.
        log.debug("a batch that nobody waited for failed: %s", error)


def _normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same as torch.nn.functional.normalize: a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(norms, np.float32(1e-12))
    return unit
