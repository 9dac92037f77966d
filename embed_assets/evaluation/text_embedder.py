"""Texts -> vectors of length 1, by the tokenizer and the encoder that the pipeline uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.token_windows import TokenWindows
from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.encoder import Encoder, encode_all
from embed_assets.embedding.model import (
    document_prompt,
    open_model,
    query_prompt,
    resolved_max_tokens,
)
from embed_assets.embedding.model_folder import leaves_prompt_out
from embed_assets.embedding.precision import resolve_precision
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.tokenizer import cutting, load_tokenizer
from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The tokenizer's own objects take about 100 bytes per token, so few texts at a time.
_TEXTS_PER_CALL = 1024


@dataclass(frozen=True, slots=True)
class Passages:
    """Vectors of documents: float32 (n, d), each of length 1 or 0, and int64 (n,), the document
    of each. With chunks a document has several, or none where there is nothing to read.
    """

    vectors: NDArray[np.float32]
    documents: NDArray[np.int64]


class TextEmbedder:
    """A model in one precision, with its prompts and its token limit.

    `sample` are some of the texts to come: int8 is fitted to them, as documents.
    """

    def __init__(
        self, settings: PipelineSettings, precision: str, sample: Sequence[str] = ()
    ) -> None:
        model = open_model(settings)
        self.precision = precision
        self.max_tokens = resolved_max_tokens(settings, model)
        self._document_prompt = document_prompt(settings, model)
        self._query_prompt = query_prompt(settings, model)
        whole = load_tokenizer(model)
        self._windows = TokenWindows(
            whole, self.max_tokens, settings.overlap, self._document_prompt
        )
        self._tokenizer = cutting(whole, model.folder, self.max_tokens)
        fitted_to = None
        if precision == "int8":
            fitted_to = _filled(token_rows(self._tokenizer, self._document_prompt, sample))
        self._encoder = load_encoder(settings, precision, fitted_to)
        self._query_encoder = self._encoder
        if leaves_prompt_out(model.folder) and self._query_prompt != self._document_prompt:
            # An encoder knows one prompt's length, which is what it leaves out of the mean.
            of_queries = {"document_prompt": self._query_prompt}
            self._query_encoder = load_encoder(
                settings.model_copy(update=of_queries), precision, fitted_to
            )

    @property
    def device(self) -> str:
        """The torch device that is best for comparing vectors: where the model runs, if torch."""
        return "cuda" if self._encoder.device.startswith("cuda") else "cpu"

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of queries, each cut at the token limit."""
        rows = token_rows(self._tokenizer, self._query_prompt, texts)
        return self._encoded(self._query_encoder, rows)

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of whole documents, each cut at the token limit."""
        rows = token_rows(self._tokenizer, self._document_prompt, texts)
        return self._encoded(self._encoder, rows)

    def passages(self, texts: Sequence[str], *, one_vector_per_document: bool) -> Passages:
        """Vectors of documents, whole and cut off or in chunks; documents numbered from 0."""
        if one_vector_per_document:
            return Passages(self.documents(texts), np.arange(len(texts), dtype=np.int64))
        chunks = self._windows.chunk(texts)
        rows = _ragged([chunk.token_ids for own in chunks for chunk in own])
        documents = np.repeat(np.arange(len(texts)), [len(own) for own in chunks])
        return Passages(self._encoded(self._encoder, rows), documents.astype(np.int64))

    def _encoded(self, encoder: Encoder, rows: TokenRows) -> NDArray[np.float32]:
        # Some tokenizers make nothing of an empty text. Its vector stays zero: similar to nothing.
        vectors = np.zeros((len(rows), encoder.dimension), dtype=np.float32)
        found, _ = encode_all(encoder, _filled(rows), encoder.max_tokens_per_batch)
        vectors[rows.lengths > 0] = found
        return unit_vectors(vectors, self.precision)


def resolved_precision(settings: PipelineSettings, precision: str) -> str:
    """What a precision means for this model on this device: `auto` becomes a number format."""
    return resolve_precision(settings.model_copy(update={"precision": precision}))


def token_rows(tokenizer: "Tokenizer", prompt: str, texts: Sequence[str]) -> TokenRows:
    """What the model reads for each text: prompt in front, special tokens in, cut at its limit."""
    ids: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _TEXTS_PER_CALL):
        batch = [prompt + text for text in texts[start : start + _TEXTS_PER_CALL]]
        encodings = tokenizer.encode_batch_fast(batch)
        ids += [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
    return _ragged(ids)


def _filled(rows: TokenRows) -> TokenRows:
    """The rows that have tokens."""
    return TokenRows(rows.flat, np.concatenate(([0], rows.offsets[1:][rows.lengths > 0])))


def _ragged(rows: Sequence[NDArray[np.int32]]) -> TokenRows:
    flat = np.concatenate([np.empty(0, dtype=np.int32), *rows])
    return TokenRows(flat, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def unit_vectors(vectors: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Vectors (n, d) scaled to length 1, zero ones left. InputError where one is not finite."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    n_bad = int((~np.isfinite(norms)).sum())
    if n_bad:
        raise InputError(
            f"{n_bad} of {len(vectors)} vectors are not finite in {precision}, so nothing can be "
            "scored; try fp32"
        )
    scaled: NDArray[np.float32] = (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)
    return scaled
