"""The reference backend: sentence-transformers' own modules under plain torch, on CPU or CUDA."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.device_memory import release_cached_memory
from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.length_buckets import Batch, plan_batches
from embed_assets.embedding.model import Model, cut_dimension, document_prompt, query_prompt
from embed_assets.embedding.ring import Job, Ring
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

# Tokens per batch. On a CPU about 2,000 fit the caches: on two AVX-512 cores 1,024 to 2,048 ran
# 1.3 to 1.6 times as fast as 8,192. A GPU wants far more work at once.
_CPU_TOKENS_PER_BATCH = 2_048
_CUDA_TOKENS_PER_BATCH = 65_536


class TorchEncoder:
    """A sentence-transformers model: transformer, pooling and whatever else modules.json names."""

    def __init__(
        self,
        transformer: "SentenceTransformer",
        model: Model,
        settings: EncoderSettings,
        precision: str,
    ) -> None:
        #: The model, and the files that it was loaded from.
        self.transformer = transformer
        self.model = model
        tokenizer = transformer.tokenizer
        #: What stands where a shorter text has no token, and on which side.
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self.pads_left = bool(tokenizer.padding_side == "left")
        self._document_prompt = document_prompt(settings, model)
        self._query_prompt = query_prompt(settings, model)
        self._normalize = settings.normalize
        self._truncate_dim = settings.truncate_dim
        self._precision = precision
        full = int(cast(int, transformer.get_embedding_dimension()))
        self._dimension = cut_dimension(settings, full)
        default = (
            _CUDA_TOKENS_PER_BATCH if self.device.startswith("cuda") else _CPU_TOKENS_PER_BATCH
        )
        self._max_tokens_per_batch = int(settings.max_tokens_per_batch or default)
        #: Instructor-like models leave the prompt's tokens out of the mean; None for others.
        self.prompt_length = self._n_prompt_tokens() if self._excludes_prompt() else None

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self.transformer.device)

    @property
    def precision(self) -> str:
        """Number format of the weights and the forward pass."""
        return self._precision

    @property
    def max_tokens_per_batch(self) -> int:
        """The settings' token budget, or this device's default."""
        return self._max_tokens_per_batch

    @property
    def n_prompt_tokens_not_pooled(self) -> int:
        """How many tokens at the start of each document pooling leaves out."""
        return self.prompt_length or 0

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        """Texts of similar length together."""
        return plan_batches(lengths, max_tokens_per_batch)

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]]]:
        """Each batch with its vectors (len(batch.rows), dimension).

        On a GPU the next batch goes up while one computes.
        """
        # A ring for each call, so that calls do not get in each other's way: torch keeps pinned
        # memory for the next one.
        ring = Ring(self.transformer.device)
        try:
            yield from ring.run(self._job(tokens, batch) for batch in batches)
        except DeviceOutOfMemory:
            ring.release()
            release_cached_memory()
            raise

    def token_ids(self, text: str) -> list[int]:
        """What the model's own preprocessing makes of a document."""
        return self._preprocessed(text, self._document_prompt)

    def query_token_ids(self, text: str) -> list[int]:
        """What it makes of a search query."""
        return self._preprocessed(text, self._query_prompt)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """The vector (dimension,) of a search query, with the query prompt in front."""
        vector = self.transformer.encode(
            [text],
            # Never None: sentence-transformers would take the model's default prompt.
            prompt=self._query_prompt,
            normalize_embeddings=self._normalize,
            truncate_dim=self._truncate_dim,
            show_progress_bar=False,
        )
        return np.asarray(vector[0], dtype=np.float32)

    def features(self, input_ids: "Tensor", attention_mask: "Tensor") -> dict[str, Any]:
        """What the model takes for a batch: two tensors (n, width), int64."""
        features: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.prompt_length is not None:
            features["prompt_length"] = self.prompt_length
        return features

    def _job(self, tokens: TokenRows, batch: Batch) -> Job:
        from torch.nn.functional import normalize

        ids, mask = tokens.padded(batch.rows, self.pad_id, left=self.pads_left)

        def write(inputs: NDArray[np.int32]) -> None:
            inputs[:] = np.concatenate((ids, mask), axis=None)

        def compute(inputs: "Tensor") -> "Tensor":
            features = self.features(*inputs.view(2, *ids.shape).long())
            vectors = self.transformer(features)["sentence_embedding"].float()
            vectors = vectors[:, : self._dimension]
            return normalize(vectors, p=2, dim=1) if self._normalize else vectors

        return Job(batch, ids.size + mask.size, len(batch.rows), write, compute)

    def _preprocessed(self, text: str, prompt: str) -> list[int]:
        features = self.transformer.preprocess([text], prompt=prompt or None)
        ids: list[int] = features["input_ids"][0].tolist()
        return ids

    def _excludes_prompt(self) -> bool:
        return bool(self._document_prompt) and any(
            getattr(module, "include_prompt", True) is False for module in self.transformer
        )

    def _n_prompt_tokens(self) -> int:
        features = self.transformer.preprocess(["a"], prompt=self._document_prompt)
        return int(features["prompt_length"])


def load_transformer(model: Model, device: str, precision: str) -> "SentenceTransformer":
    """The model as sentence-transformers loads it, from local files, without foreign code."""
    import torch
    from sentence_transformers import SentenceTransformer

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise InputError(
            f"precision {precision!r} has no backend in this version; choose from {[*dtypes]}"
        )
    try:
        with _no_progress_bars():
            transformer = SentenceTransformer(
                str(model.folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": dtypes[precision]},
            )
    # A damaged folder can raise anything: safetensors and tokenizers derive from Exception alone.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"the model in {model.folder} could not be loaded: {reason}") from error
    _pool_in_fp32(transformer)
    transformer.eval()
    return transformer


def _pool_in_fp32(transformer: "SentenceTransformer") -> None:
    """Run everything after the transformer itself in fp32, whatever the weights' precision.

    Pooling and normalising cost nothing, and in bf16 a "unit" vector is off by up to 0.4%.
    """
    first, *rest = transformer

    def widen(_module: object, _inputs: object, features: dict[str, Any]) -> dict[str, Any]:
        return features | {"token_embeddings": features["token_embeddings"].float()}

    first.register_forward_hook(widen)
    for module in rest:
        module.float()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers' bar for loading weights, which says nothing here, off the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def new_torch_encoder(settings: EncoderSettings, precision: str, model: Model) -> TorchEncoder:
    """A freshly loaded encoder, which nothing else holds."""
    device = resolve_device(settings.device)
    return TorchEncoder(load_transformer(model, device, precision), model, settings, precision)
